/* Every function on arrays without a byte to spare, of shapes and kinds drawn from a seed, each call also stopped at each
 * of its polls. Run it under AddressSanitizer: what reads or writes past the caller's arrays, or loses memory on the way
 * out, is found. By itself it claims that outputs are written in full, that the same call has the same bits, also after
 * calls that were stopped, and that a stopped call asks no more.
 *
 *   test_buffers [draws [seed]]
 */
#include "support.h"

/* ---- outputs, and calls run again and again ---------------------------------------------------------------------- */

enum { MOST_OUTPUTS = 16, MOST_STOPS = 12 };
static void *outputs[MOST_OUTPUTS];
static size_t lengths[MOST_OUTPUTS];
static int output_count;
static unsigned char fill;

/* An output of the call that is running, not set to anything in particular. */
static void *output(size_t bytes)
{
  if (output_count == MOST_OUTPUTS) abort();
  void *memory = exactly(bytes);
  memset(memory, fill, bytes);
  outputs[output_count] = memory;
  lengths[output_count++] = bytes;
  return memory;
}

static uint64_t take_outputs(void)
{
  uint64_t hash = 0xcbf29ce484222325u;
  for (int i = 0; i < output_count; i++) {
    const unsigned char *bytes = outputs[i];
    for (size_t j = 0; j < lengths[i]; j++) hash = (hash ^ bytes[j]) * 0x100000001b3u;
    free(outputs[i]);
  }
  output_count = 0;
  return hash;
}

static const char *what = "";
static long calls = 0, stops = 0;

static void claim(int holds, const char *text)
{
  if (!holds) {
    fprintf(stderr, "%s: not so: %s (last error: %s)\n", what, text, swn_last_error());
    failures++;
  }
}

typedef swn_status Operation(const void *problem, const swn_control *control);

/* Runs an operation as it is, asked, stopped at each of its polls, and once more. */
static void check(const char *name, Operation *operation, const void *problem)
{
  what = name;
  fill = 0xa5;
  swn_status status = operation(problem, NULL);
  uint64_t hash = take_outputs();
  claim(status == SWN_OK || status == SWN_NUMERICAL || status == SWN_NOT_CONVERGED, "it works, or says why not");
  Countdown countdown = {0, 0};
  const swn_control control = {count_down, &countdown};
  fill = 0x5a;
  claim(operation(problem, &control) == status, "the same call has the same status");
  claim(take_outputs() == hash || status != SWN_OK, "outputs are written in full, the same bits each time");
  int polls = countdown.asked, step = polls > MOST_STOPS ? polls / MOST_STOPS : 1;
  for (int stop = 1; stop <= polls; stop += step) {
    countdown = (Countdown){0, stop};
    swn_status stopped = operation(problem, &control);
    take_outputs();
    // A busy machine may have been asked more often the first time, while it waited for the team.
    claim(stopped == SWN_CANCELLED || (stopped == status && countdown.asked < stop), "a poll that says yes stops it");
    claim(countdown.asked <= stop, "it is not asked again");
    stops++;
  }
  claim(operation(problem, NULL) == status, "it works after it was stopped");
  claim(take_outputs() == hash || status != SWN_OK, "it has the same bits after it was stopped");
  calls++;
}

/* ---- nets --------------------------------------------------------------------------------------------------------- */

typedef struct {
  swn_mlp *net;
  size_t blocks, unit, n, inputs, outputs, count, k, vocabulary;
  int is_chain; /* of dense layers */
  swn_samples samples;
  void *w, *u, *s, *v, *tangents;
  int32_t kind, upper, lower, order, form;
  double shift, imaginary;
} Problem;

/* The numbers as scalars of the net. */
static void *scalars(Random *random, const Problem *p, size_t count, double low)
{
  if (p->unit == sizeof(float)) {
    float *all = exactly(count * sizeof *all);
    for (size_t i = 0; i < count; i++) all[i] = (float)fmax(uniform(random), low);
    return all;
  }
  double *all = numbers(random, count);
  for (size_t i = 0; i < count; i++) all[i] = fmax(all[i], low);
  return all;
}

/* A net of dense layers. */
static int32_t dense_net(Random *random, int wide, Problem *p)
{
  swn_activation activations[4];
  size_t sizes[5];
  p->blocks = 1 + below(random, 4);
  for (size_t i = 0; i <= p->blocks; i++) sizes[i] = 1 + below(random, i == 0 && wide ? 250 : 9);
  for (size_t i = 0; i < p->blocks; i++) activations[i] = (swn_activation){(int32_t)below(random, 10), uniform(random)};
  swn_mlp_shape shape = {(int32_t)below(random, 2), p->blocks, sizes, activations, (int32_t)below(random, 2),
                         (int32_t)below(random, 4), 0.5, NULL};
  p->unit = shape.dtype == SWN_FLOAT32 ? sizeof(float) : sizeof(double);
  expect(swn_mlp_create(&shape, &p->net) == SWN_OK, "a net");
  p->is_chain = 1;
  return shape.loss;
}

/* Images: convolutions with borders, strides and groups, a residual, norms, both pools. */
static const int64_t image_codes[][SWN_CODE_LENGTH] = {
    {SWN_LAYER_CONVOLUTION, 0, 0, 0, 4, 3, 2, 1, 1, 1, 1, 1, 1}, /* [2, 7, 6] to [4, 7, 7] */
    {SWN_LAYER_FROZEN_BATCH_NORM, 1, 0, 52, 1, 4},
    {SWN_LAYER_ACTIVATION, 2, 0, 0, SWN_GELU},
    {SWN_LAYER_CONVOLUTION, 3, 0, 60, 4, 3, 3, 1, 1, 1, 1, 2, 0},
    {SWN_LAYER_ADD, 4, 3, 0},
    {SWN_LAYER_GROUP_NORM, 5, 0, 132, 2, 1},
    {SWN_LAYER_MAX_POOL, 6, 0, 0, 3, 3, 2, 2, 1, 1}, /* [4, 4, 4] */
    {SWN_LAYER_CONVOLUTION, 7, 0, 140, 3, 1, 1, 2, 2, 0, 0, 1, 1}, /* [3, 2, 2] */
    {SWN_LAYER_AVERAGE_POOL, 8, 0, 0, 2, 2, 1, 1, 1, 1, 0}, /* [3, 3, 3] */
    {SWN_LAYER_FLATTEN, 9, 0, 0},
    {SWN_LAYER_DENSE, 10, 0, 155, 3, 1},
};
/* Tokens: a small transformer. */
static const int64_t token_codes[][SWN_CODE_LENGTH] = {
    {SWN_LAYER_EMBEDDING, 0, 0, 0, 5, 4},
    {SWN_LAYER_POSITION_EMBEDDING, 1, 0, 20},
    {SWN_LAYER_LAYER_NORM, 2, 0, 44, 1},
    {SWN_LAYER_ATTENTION, 3, 0, 52, 2, 1},
    {SWN_LAYER_ADD, 2, 4, 0},
    {SWN_LAYER_LAYER_NORM, 5, 0, 132, 1},
    {SWN_LAYER_DENSE, 6, 0, 140, 5, 1},
    {SWN_LAYER_ACTIVATION, 7, 0, 0, SWN_SILU},
    {SWN_LAYER_DENSE, 8, 0, 165, 4, 0},
    {SWN_LAYER_ADD, 5, 9, 0},
    {SWN_LAYER_MEAN, 10, 0, 0},
    {SWN_LAYER_DENSE, 11, 0, 185, 3, 1},
};
/* A sequence that is flattened, then normed in groups. */
static const int64_t sequence_codes[][SWN_CODE_LENGTH] = {
    {SWN_LAYER_ATTENTION, 0, 0, 0, 1, 0},
    {SWN_LAYER_DENSE, 1, 0, 36, 2, 0},
    {SWN_LAYER_FLATTEN, 2, 0, 0},
    {SWN_LAYER_GROUP_NORM, 3, 0, 42, 5, 1},
    {SWN_LAYER_DENSE, 4, 0, 82, 2, 1},
};

static int32_t network(Random *random, int which, Problem *p)
{
  static const double statistics[] = {0.1, -0.2, 0, 0.3, 1, 0.5, 2, 0.25};
  swn_network_shape shape = {.dtype = (int32_t)below(random, 2), .loss = (int32_t)below(random, 4)};
  shape.loss_parameter = 0.5;
  switch (which) {
    case 0:
      shape.input_kind = SWN_INPUT_IMAGE;
      memcpy(shape.input, (size_t[]){2, 7, 6}, sizeof shape.input);
      shape.codes = image_codes[0];
      shape.layers = sizeof image_codes / sizeof *image_codes;
      shape.statistics = statistics;
      shape.statistics_count = 8;
      p->blocks = 6;
      break;
    case 1:
      shape.input_kind = SWN_INPUT_TOKENS;
      shape.input[0] = 6;
      shape.codes = token_codes[0];
      shape.layers = sizeof token_codes / sizeof *token_codes;
      p->blocks = 8;
      p->vocabulary = 5;
      break;
    default:
      shape.input_kind = SWN_INPUT_SEQUENCE;
      shape.input[0] = 10;
      shape.input[1] = 3;
      shape.codes = sequence_codes[0];
      shape.layers = sizeof sequence_codes / sizeof *sequence_codes;
      p->blocks = 4;
  }
  /* Without a byte to spare, and gone after the call. */
  size_t bytes = shape.layers * sizeof *image_codes;
  int64_t *codes = exactly(bytes);
  double *eps = exactly(shape.layers * sizeof *eps), *kept = exactly(shape.statistics_count * sizeof *kept);
  memcpy(codes, shape.codes, bytes);
  for (size_t i = 0; i < shape.layers; i++) eps[i] = 1e-3;
  if (shape.statistics_count) memcpy(kept, statistics, sizeof statistics);
  shape.codes = codes;
  shape.numbers = eps;
  shape.statistics = kept;
  p->unit = shape.dtype == SWN_FLOAT32 ? sizeof(float) : sizeof(double);
  expect(swn_network_create(&shape, &p->net) == SWN_OK, "a net of any layers");
  free(codes);
  free(eps);
  free(kept);
  return shape.loss;
}

static int64_t *integers(Random *random, size_t count, size_t below_what)
{
  int64_t *all = exactly(count * sizeof *all);
  for (size_t i = 0; i < count; i++) all[i] = (int64_t)below(random, below_what);
  return all;
}

/* A net of dense layers, or one of the others. */
static Problem draw(Random *random, int wide, int which)
{
  Problem p = {0};
  int32_t loss = which < 0 ? dense_net(random, wide, &p) : network(random, which, &p);
  if (!p.net) exit(1);
  p.inputs = swn_mlp_input_count(p.net);
  p.outputs = swn_mlp_output_count(p.net);
  p.count = swn_mlp_parameter_count(p.net);
  p.n = 1 + below(random, wide ? which < 0 ? 1100 : 150 : which < 0 ? 14 : 5);
  p.k = 1 + below(random, 5);
  void *x = p.vocabulary ? (void *)integers(random, p.n * p.inputs, p.vocabulary)
                         : scalars(random, &p, p.n * p.inputs, -1);
  p.samples = (swn_samples){p.n, x, NULL, NULL, NULL, 1.0 / (double)p.n};
  if (loss == SWN_SOFTMAX_CROSS_ENTROPY && below(random, 2)) p.samples.labels = integers(random, p.n, p.outputs);
  else p.samples.targets = scalars(random, &p, p.n * p.outputs, 0);
  if (below(random, 2)) p.samples.weights = scalars(random, &p, p.n, 0);
  p.w = scalars(random, &p, p.count, -1);
  p.u = scalars(random, &p, p.count, -1);
  p.s = scalars(random, &p, p.count, -1);
  p.v = scalars(random, &p, p.k * p.count, -1);
  p.tangents = scalars(random, &p, p.k * p.n * p.outputs, -1);
  return p;
}

static void drop(const Problem *p)
{
  swn_mlp_destroy(p->net);
  free((void *)p->samples.x);
  free((void *)p->samples.targets);
  free((void *)p->samples.labels);
  free((void *)p->samples.weights);
  free(p->w);
  free(p->u);
  free(p->s);
  free(p->v);
  free(p->tangents);
}

#define ON(problem) const Problem *p = problem

static swn_status loss(const void *problem, const swn_control *control)
{
  ON(problem);
  return swn_mlp_loss(p->net, p->w, &p->samples, output(sizeof(double)), control);
}

static swn_status predict(const void *problem, const swn_control *control)
{
  ON(problem);
  swn_samples bare = {p->n, p->samples.x, NULL, NULL, NULL, 1};
  return swn_mlp_predict(p->net, p->w, &bare, output(p->n * p->outputs * p->unit), control);
}

static swn_status gradient(const void *problem, const swn_control *control)
{
  ON(problem);
  return swn_mlp_gradient(p->net, p->w, &p->samples, output(p->count * p->unit), output(sizeof(double)), control);
}

static swn_status sample_gradients(const void *problem, const swn_control *control)
{
  ON(problem);
  return swn_mlp_sample_gradients(p->net, p->w, &p->samples, output(p->n * p->count * p->unit), control);
}

static swn_status product(const void *problem, const swn_control *control)
{
  ON(problem);
  return swn_mlp_product(p->net, p->kind, p->w, &p->samples, p->k, p->v, output(p->k * p->count * p->unit), control);
}

static swn_status diagonal(const void *problem, const swn_control *control)
{
  ON(problem);
  return swn_mlp_diagonal(p->net, p->kind, p->w, &p->samples, output(p->count * p->unit), control);
}

static swn_status dense(const void *problem, const swn_control *control)
{
  ON(problem);
  size_t rows = p->count, columns = p->count;
  if (p->upper >= 0) claim(swn_mlp_block_shape(p->net, p->upper, p->lower, &rows, &columns) == SWN_OK, "a block");
  return swn_mlp_dense(p->net, p->kind, p->w, &p->samples, p->upper, p->lower, output(rows * columns * p->unit),
                       control);
}

static swn_status jvp(const void *problem, const swn_control *control)
{
  ON(problem);
  return swn_mlp_jvp(p->net, p->w, &p->samples, p->k, p->v, output(p->k * p->n * p->outputs * p->unit), control);
}

static swn_status vjp(const void *problem, const swn_control *control)
{
  ON(problem);
  return swn_mlp_vjp(p->net, p->w, &p->samples, p->k, p->tangents, output(p->k * p->count * p->unit), control);
}

static swn_status jacobian(const void *problem, const swn_control *control)
{
  ON(problem);
  return swn_mlp_jacobian(p->net, p->w, &p->samples, output(p->n * p->outputs * p->count * p->unit), control);
}

static swn_status taylor(const void *problem, const swn_control *control)
{
  ON(problem);
  return swn_mlp_taylor(p->net, p->w, &p->samples, p->order, p->v,
                        output((size_t)(p->order + 1) * p->count * p->unit), output(sizeof(double)), control);
}

static swn_status third(const void *problem, const swn_control *control)
{
  ON(problem);
  return swn_mlp_multilinear(p->net, p->w, &p->samples, p->u, NULL, p->k, p->v, output(p->k * p->count * p->unit),
                             control);
}

static swn_status fourth(const void *problem, const swn_control *control)
{
  ON(problem);
  return swn_mlp_multilinear(p->net, p->w, &p->samples, p->u, p->s, p->k, p->v, output(p->k * p->count * p->unit),
                             control);
}

static swn_status linearization(const void *problem, const swn_control *control)
{
  ON(problem);
  swn_linearization *point = NULL;
  swn_status status = swn_linearize(p->net, p->w, &p->samples, output(p->count * p->unit), output(sizeof(double)),
                                    &point, control);
  claim((status == SWN_OK) == (point != NULL), "a handle comes with success alone");
  if (status == SWN_OK)
    status = swn_linearization_product(point, p->kind, p->k, p->v, output(p->k * p->count * p->unit), control);
  if (status == SWN_OK && p->is_chain)
    status = swn_linearization_third(point, p->u, p->k, p->v, output(p->k * p->count * p->unit), control);
  if (status == SWN_OK && p->is_chain)
    status = swn_linearization_thirds(point, p->k, p->v, output(p->k * (p->k + 1) / 2 * p->count * p->unit), control);
  if (status == SWN_OK)
    status = swn_linearization_lanczos(point, p->kind, 0.5, p->k, 3, p->v, output(p->k * 3 * p->unit),
                                       output(p->k * 3 * p->unit), control);
  swn_linearization_destroy(point);
  return status;
}

/* What no poll stops: the calls on it are what is looked at. */
static swn_linearization *linearized(const Problem *p)
{
  swn_linearization *point = NULL;
  void *gradient = exactly(p->count * p->unit);
  double loss;
  claim(swn_linearize(p->net, p->w, &p->samples, gradient, &loss, &point, NULL) == SWN_OK, "a linearisation");
  free(gradient);
  return point;
}

static swn_status states(const void *problem, const swn_control *control)
{
  ON(problem);
  swn_linearization *point = linearized(p);
  swn_status status =
      swn_linearization_states(point, output(swn_linearization_states_count(point) * sizeof(double)), control);
  swn_linearization_destroy(point);
  return status;
}

static swn_status layered(const void *problem, const swn_control *control)
{
  ON(problem);
  const int complex = p->imaginary != 0;
  const size_t bytes = p->k * p->count * sizeof(double);
  claim(swn_layered_plan(p->net, p->n, complex, p->form, output(sizeof(swn_layered_sizes))) == SWN_OK, "a plan");
  swn_layered *factors = NULL;
  swn_linearization *point = linearized(p);
  swn_status status = swn_layered_create(point, p->form, complex, p->shift, p->imaginary, &factors,
                                         output(sizeof(swn_factor_info)), control);
  swn_linearization_destroy(point);
  claim((status == SWN_OK) == (factors != NULL), "a handle comes with success alone");
  if (status == SWN_OK)
    status = swn_layered_solve(factors, p->k, p->v, complex ? p->v : NULL, output(bytes),
                               complex ? output(bytes) : NULL, control);
  if (status == SWN_OK)
    status = swn_layered_update(factors, complex, 2 * p->shift, p->imaginary, output(sizeof(swn_factor_info)), control);
  if (status == SWN_OK)
    status = swn_layered_solve(factors, 1, p->v, NULL, output(bytes / p->k), complex ? output(bytes / p->k) : NULL,
                               control);
  swn_layered_destroy(factors);
  return status;
}

static swn_status dense_factors(const void *problem, const swn_control *control)
{
  ON(problem);
  double *matrix = exactly(p->count * p->count * sizeof *matrix);
  swn_status status = swn_mlp_dense(p->net, p->kind, p->w, &p->samples, -1, -1, matrix, NULL);
  claim(status == SWN_OK, "a matrix");
  swn_dense *factors = NULL;
  status = swn_dense_create(p->count, matrix, p->shift, &factors, output(sizeof(swn_factor_info)), control);
  claim((status == SWN_OK) == (factors != NULL), "a handle comes with success alone");
  free(matrix);
  if (status == SWN_OK)
    status = swn_dense_solve(factors, p->k, p->v, output(p->k * p->count * sizeof(double)), control);
  if (status == SWN_OK)
    status = swn_dense_update(factors, 2 * p->shift, output(sizeof(swn_factor_info)), control);
  if (status == SWN_OK) status = swn_dense_solve(factors, 1, p->u, output(p->count * sizeof(double)), control);
  swn_dense_destroy(factors);
  return status;
}

static void net(Random *random, int wide, int which)
{
  Problem p = draw(random, wide, which);
  check("loss", loss, &p);
  check("predict", predict, &p);
  check("gradient", gradient, &p);
  for (p.kind = 0; p.kind < 3; p.kind++) {
    check("product", product, &p);
    check("linearization", linearization, &p);
    if (!p.is_chain && wide) continue; /* without a structure of their own the rest are products */
    check("diagonal", diagonal, &p);
    p.upper = (int32_t)below(random, p.blocks);
    p.lower = (int32_t)below(random, (size_t)p.upper + 1);
    check("block", dense, &p);
    p.upper = p.lower = -1;
    if (p.count < 300 && (p.is_chain || p.n < 3)) check("dense", dense, &p);
  }
  for (p.order = 0; p.order <= 3; p.order++) check("taylor", taylor, &p);
  check("third", third, &p);
  check("fourth", fourth, &p);
  check("jvp", jvp, &p);
  check("vjp", vjp, &p);
  if (p.n * p.count * p.outputs < (p.is_chain ? 1 << 20 : 1 << 14)) {
    check("sample gradients", sample_gradients, &p);
    check("jacobian", jacobian, &p);
  }
  if (p.unit == sizeof(double) && p.is_chain) {
    p.kind = SWN_HESSIAN;
    p.shift = below(random, 2) ? 1 : 0.1;
    check("states", states, &p);
    if (p.count < 300) {
      check("dense factors", dense_factors, &p);
      for (p.form = 0; p.form < 3 && p.n < 60; p.form++)
        for (int complex = 0; complex < 2; complex++) {
          p.imaginary = complex * 0.5;
          check(complex ? "complex layered factors" : "layered factors", layered, &p);
        }
    }
  }
  drop(&p);
}

/* ---- slow_net and fast_net --------------------------------------------------------------------------------------- */

typedef struct {
  swn_slow_shape shape;
  size_t n;
  double *xs, *ys, *w1, *w2;
  int32_t layer, method;
} Slow;

static swn_status slow_values(const void *problem, const swn_control *control)
{
  const Slow *p = problem;
  size_t first = p->shape.insize * p->shape.hidsize, second = p->shape.hidsize * p->shape.outsize;
  swn_status status = swn_slow_loss(p->shape, p->n, p->xs, p->ys, p->w1, p->w2, output(sizeof(double)), control);
  if (status == SWN_OK)
    status = swn_slow_predict(p->shape, p->n, p->xs, p->w1, p->w2,
                              output(p->n * p->shape.outsize * sizeof(double)), control);
  if (status == SWN_OK)
    status = swn_slow_gradient(p->shape, p->n, p->xs, p->ys, p->w1, p->w2, output(first * sizeof(double)),
                               output(second * sizeof(double)), output(sizeof(double)), control);
  return status;
}

static swn_status slow_block(const void *problem, const swn_control *control)
{
  const Slow *p = problem;
  size_t side = p->shape.hidsize * (p->layer == 1 ? p->shape.insize : p->shape.outsize);
  return swn_slow_hessian_block(p->shape, p->n, p->xs, p->w1, p->w2, p->layer, output(side * side * sizeof(double)),
                                control);
}

static swn_slow_workspace *workspace;

static swn_status slow_step(const void *problem, const swn_control *control)
{
  const Slow *p = problem;
  size_t first = p->shape.insize * p->shape.hidsize, second = p->shape.hidsize * p->shape.outsize;
  return swn_slow_step(workspace, p->shape, p->n, p->xs, p->ys, p->w1, p->w2, 0.1, 0.3, p->method,
                       output(first * sizeof(double)), output(second * sizeof(double)),
                       output(sizeof(swn_slow_report)), control);
}

static void slow(Random *random, int wide)
{
  size_t most = wide ? 40 : 9;
  Slow p;
  p.shape.insize = 1 + below(random, most);
  p.shape.hidsize = 1 + below(random, 9);
  p.shape.outsize = 1 + below(random, most);
  p.n = 1 + below(random, 3 * most);
  p.xs = numbers(random, p.n * p.shape.insize);
  p.ys = numbers(random, p.n * p.shape.outsize);
  p.w1 = numbers(random, p.shape.insize * p.shape.hidsize);
  p.w2 = numbers(random, p.shape.hidsize * p.shape.outsize);
  check("slow values", slow_values, &p);
  for (p.layer = 1; p.layer <= 2; p.layer++) check("slow block", slow_block, &p);
  for (p.method = 0; p.method <= 1; p.method++) check("slow step", slow_step, &p);
  free(p.xs);
  free(p.ys);
  free(p.w1);
  free(p.w2);
}

typedef struct {
  swn_fast_shape shape;
  size_t n;
  double *xs, *ys, *w, r;
} Fast;

static swn_status fast_values(const void *problem, const swn_control *control)
{
  const Fast *p = problem;
  swn_status status = swn_fast_loss(p->shape, p->n, p->xs, p->ys, p->w, output(sizeof(double)), control);
  if (status == SWN_OK)
    status = swn_fast_predict(p->shape, p->n, p->xs, p->w, output(p->n * p->shape.outsize * sizeof(double)), control);
  return status;
}

static swn_status fast_factors(const void *problem, const swn_control *control)
{
  const Fast *p = problem;
  size_t bytes = p->shape.insize * p->shape.outsize * sizeof(double);
  swn_fast_factorization *factors = NULL;
  swn_status status = swn_fast_factorize(p->n, p->shape.insize, p->xs, -1, control, &factors,
                                         output(sizeof(swn_fast_factorization_info)));
  claim((status == SWN_OK) == (factors != NULL), "a handle comes with success alone");
  if (status == SWN_OK)
    status = swn_fast_minimum_norm(factors, p->xs, p->shape.outsize, p->ys, output(bytes), output(sizeof(double)),
                                   control);
  swn_fast_report report = {0};
  if (status == SWN_OK)
    status = swn_fast_step(factors, p->shape, p->n, p->xs, p->ys, p->w, 0.1, p->r, output(bytes), &report, control);
  if (status == SWN_OK) *(double *)output(sizeof(double)) = report.stale ? -1 : report.residual;
  swn_fast_factorization_destroy(factors);
  return status;
}

static void fast(Random *random, int wide)
{
  size_t most = wide ? 150 : 20;
  Fast p;
  p.shape.insize = 1 + below(random, most);
  p.shape.outsize = 1 + below(random, 9);
  p.n = 1 + below(random, most);
  p.xs = numbers(random, p.n * p.shape.insize);
  if (below(random, 2)) /* pixels */
    for (size_t i = 0; i < p.n * p.shape.insize; i++) p.xs[i] = (double)below(random, 256) / 256 - 0.5;
  if (p.n > 2 && below(random, 3) == 0) memcpy(p.xs, p.xs + p.shape.insize, p.shape.insize * sizeof(double));
  p.ys = numbers(random, p.n * p.shape.outsize);
  p.w = numbers(random, p.shape.insize * p.shape.outsize);
  check("fast values", fast_values, &p);
  for (int limit = 0; limit < 2; limit++) {
    p.r = limit ? 0 : 1e-3;
    check("fast factors", fast_factors, &p);
  }
  free(p.xs);
  free(p.ys);
  free(p.w);
}

/* ---- steps of optimisers ----------------------------------------------------------------------------------------- */

typedef struct {
  int32_t dtype;
  size_t n;
  void *arrays[4];
} Steps;

static swn_status steps(const void *problem, const swn_control *control)
{
  const Steps *p = problem;
  size_t bytes = p->n * (p->dtype == SWN_FLOAT32 ? sizeof(float) : sizeof(double)), two = 2 * sizeof(double);
  void *const *a = p->arrays;
  const swn_adam_factors factors = {0.9, 0.1, 0.99, 0.01, 1.5, 1e-8, 0.1, 0.999};
  swn_status status = swn_descend(p->dtype, p->n, 0.1, a[0], a[1], output(bytes), output(two), control);
  for (int nesterov = 0; nesterov < 2 && status == SWN_OK; nesterov++)
    status = swn_momentum(p->dtype, p->n, 0.1, 0.9, nesterov, a[0], a[1], a[2], output(bytes), output(bytes),
                          output(two), control);
  if (status == SWN_OK)
    status = swn_adam(p->dtype, p->n, &factors, a[0], a[1], a[2], a[3], output(bytes), output(bytes), output(bytes),
                      output(two), control);
  if (status == SWN_OK) status = swn_square_sum(p->dtype, p->n, a[0], output(sizeof(double)), control);
  return status;
}

static void vectors(Random *random, int wide)
{
  Steps p = {.n = 1 + below(random, wide ? 60000 : 70)};
  for (p.dtype = SWN_FLOAT64; p.dtype <= SWN_FLOAT32; p.dtype++) {
    for (int i = 0; i < 4; i++) {
      double *values = numbers(random, p.n);
      p.arrays[i] = values;
      if (p.dtype == SWN_FLOAT64) continue;
      float *narrow = exactly(p.n * sizeof(float));
      for (size_t j = 0; j < p.n; j++) narrow[j] = (float)values[j];
      free(values);
      p.arrays[i] = narrow;
    }
    check("steps", steps, &p);
    for (int i = 0; i < 4; i++) free(p.arrays[i]);
  }
}

int main(int count, char **words)
{
  int draws = count > 1 ? atoi(words[1]) : 20;
  Random random = {count > 2 ? strtoull(words[2], NULL, 10) : 1};
  expect(swn_slow_workspace_create(&workspace) == SWN_OK, "a workspace");
  for (int i = 0; i < draws && !failures; i++) {
    expect(swn_set_threads((int32_t)(1 + below(&random, 3))) == SWN_OK, "threads");
    int wide = i % 5 == 4;
    net(&random, wide, -1);
    net(&random, wide, i % 3);
    slow(&random, wide);
    fast(&random, wide);
    vectors(&random, wide);
  }
  swn_slow_workspace_destroy(workspace);
  printf("%ld calls, stopped %ld times, %d failures\n", calls, stops, failures);
  return failures != 0;
}
