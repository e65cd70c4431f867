/* More threads than processors on shared handles: one net, one linearization, factorisations that other threads update
 * meanwhile, with polls that cancel at random. Run it under ThreadSanitizer: races are found. By itself it claims that
 * results have the bits that the call gives alone, or that the factors were lost to a call that was stopped.
 *
 *   test_threads [seconds [threads [seed]]]
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "support.h"

enum { INPUTS = 12, HIDDEN = 16, OUTPUTS = 5, SAMPLES = 300, DIRECTIONS = 6, FEW = 8, PIXELS = 60, ROWS = 24, CLASSES = 4 };
enum { WIDE = 90, SMALL_PARAMETERS = 3 * 4 + 4 + 4 * 2 + 2 };
enum { PARAMETERS = INPUTS * HIDDEN + HIDDEN + HIDDEN * OUTPUTS + OUTPUTS };
/* Nets of any layers: of images [2, 6, 6], and of LENGTH tokens. */
enum { IMAGES = 24, IMAGE = 2 * 6 * 6, IMAGE_PARAMETERS = 76 + 8 + 36 + 8 + 85 };
enum { LENGTH = 5, VOCABULARY = 9, WIDTH = 4, TOKEN_PARAMETERS = 36 + 20 + 8 + 80 + 12 };
enum { MOST = DIRECTIONS * PARAMETERS > IMAGES * IMAGE_PARAMETERS ? DIRECTIONS * PARAMETERS : IMAGES * IMAGE_PARAMETERS };

/* What all threads use. Made before them, and only read, but for what the handles hold. */
static swn_mlp *net, *small, *image_net, *token_net;
static swn_linearization *point, *small_point, *image_point, *token_point;
static swn_layered *layered;
static swn_dense *dense;
static swn_fast_factorization *pixels, *general;
static double *w, *x, *v, *small_w, *small_x, *small_y, *b, *matrix, *images, *targets, *weights, *plain, *pictures;
static int64_t *labels, *tokens, *token_labels;
static swn_samples many, few, some_images, some_tokens;

/* A thread's own memory. */
typedef struct {
  Random random;
  swn_slow_workspace *workspace;
  double out[WIDE * WIDE > MOST ? WIDE * WIDE : MOST], more[1024];
} Own;

typedef swn_status Work(Own *own, const swn_control *control);

static swn_status gradient(Own *own, const swn_control *control)
{
  return swn_mlp_gradient(net, w, &many, own->out, own->more, control);
}

static swn_status product(Own *own, const swn_control *control)
{
  return swn_mlp_product(net, SWN_HESSIAN, w, &many, DIRECTIONS, v, own->out, control);
}

static swn_status diagonal(Own *own, const swn_control *control)
{
  return swn_mlp_diagonal(net, SWN_GAUSS_NEWTON, w, &many, own->out, control);
}

static swn_status fisher(Own *own, const swn_control *control)
{
  return swn_mlp_dense(net, SWN_EMPIRICAL_FISHER, w, &many, 1, 1, own->out, control);
}

static swn_status taylor(Own *own, const swn_control *control)
{
  return swn_mlp_taylor(net, w, &many, 3, v, own->out, own->more, control);
}

static swn_status third(Own *own, const swn_control *control)
{
  return swn_mlp_multilinear(net, w, &many, v, NULL, DIRECTIONS, v, own->out, control);
}

static swn_status kept_product(Own *own, const swn_control *control)
{
  return swn_linearization_product(point, SWN_HESSIAN, DIRECTIONS, v, own->out, control);
}

static swn_status kept_third(Own *own, const swn_control *control)
{
  return swn_linearization_third(point, v, DIRECTIONS, v, own->out, control);
}

static swn_status lanczos(Own *own, const swn_control *control)
{
  return swn_linearization_lanczos(point, SWN_HESSIAN, 0, 2, 8, v, own->out, own->more, control);
}

static swn_status own_point(Own *own, const swn_control *control)
{
  swn_linearization *mine = NULL;
  swn_status status = swn_linearize(net, w, &many, own->out, own->more, &mine, NULL);
  if (status == SWN_OK) status = swn_linearization_product(mine, SWN_GAUSS_NEWTON, 2, v, own->out, control);
  swn_linearization_destroy(mine);
  return status;
}

static swn_status layered_solve(Own *own, const swn_control *control)
{
  return swn_layered_solve(layered, 4, b, NULL, own->out, NULL, control);
}

static swn_status dense_solve(Own *own, const swn_control *control)
{
  return swn_dense_solve(dense, 4, b, own->out, control);
}

static swn_status layered_update(Own *own, const swn_control *control)
{
  swn_factor_info info;
  swn_status status = swn_layered_update(layered, 0, below(&own->random, 2) ? 0.5 : 0.75, 0, &info, control);
  own->out[0] = info.certificate < 0.1;
  return status;
}

static swn_status dense_update(Own *own, const swn_control *control)
{
  swn_factor_info info;
  swn_status status = swn_dense_update(dense, below(&own->random, 2) ? 0.5 : 0.75, &info, control);
  own->out[0] = info.positive_definite;
  return status;
}

static swn_status own_factors(Own *own, const swn_control *control)
{
  swn_layered *mine = NULL;
  swn_factor_info info;
  swn_status status = swn_layered_create(small_point, SWN_FORM_AUTOMATIC, 1, 0.5, 0.25, &mine, &info, control);
  if (status == SWN_OK) status = swn_layered_solve(mine, 2, b, NULL, own->out, own->more, control);
  swn_layered_destroy(mine);
  return status;
}

static swn_status kept_states(Own *own, const swn_control *control)
{
  return swn_linearization_states(small_point, own->out, control);
}

static swn_status minimum_norm(Own *own, const swn_control *control)
{
  return swn_fast_minimum_norm(pixels, images, CLASSES, targets, own->out, own->more, control);
}

static swn_status orthogonal(Own *own, const swn_control *control)
{
  return swn_fast_minimum_norm(general, plain, CLASSES, plain, own->out, own->more, control);
}

static swn_status fast_step(Own *own, const swn_control *control)
{
  swn_fast_report report;
  swn_status status = swn_fast_step(pixels, (swn_fast_shape){PIXELS, CLASSES}, ROWS, images, targets, weights, 0.1, 0,
                                    own->out, &report, control);
  own->more[0] = report.loss;
  return status;
}

static swn_status slow_step(Own *own, const swn_control *control)
{
  swn_slow_report report;
  return swn_slow_step(own->workspace, (swn_slow_shape){INPUTS, HIDDEN, OUTPUTS}, 50, x, v, w, w, 0.1, 0.3,
                       (int32_t)below(&own->random, 4) ? SWN_SLOW_STRUCTURED : SWN_SLOW_DENSE, own->out,
                       own->out + INPUTS * HIDDEN, &report, control);
}

/* The matrix of another factorisation, large enough for the team. */
static swn_status own_dense(Own *own, const swn_control *control)
{
  swn_dense *mine = NULL;
  swn_factor_info info;
  swn_status status = swn_dense_create(WIDE, matrix, -0.1, &mine, &info, control);
  if (status == SWN_OK) status = swn_dense_solve(mine, WIDE, matrix, own->out, control);
  swn_dense_destroy(mine);
  return status;
}

static swn_status image_gradient(Own *own, const swn_control *control)
{
  return swn_mlp_gradient(image_net, w, &some_images, own->out, own->more, control);
}

static swn_status image_samples(Own *own, const swn_control *control)
{
  return swn_mlp_sample_gradients(image_net, w, &some_images, own->out, control);
}

static swn_status image_product(Own *own, const swn_control *control)
{
  return swn_mlp_product(image_net, SWN_HESSIAN, w, &some_images, 3, v, own->out, control);
}

static swn_status image_diagonal(Own *own, const swn_control *control)
{
  return swn_mlp_diagonal(image_net, SWN_GAUSS_NEWTON, w, &some_images, own->out, control);
}

static swn_status image_kept(Own *own, const swn_control *control)
{
  return swn_linearization_product(image_point, SWN_HESSIAN, 3, v, own->out, control);
}

static swn_status image_lanczos(Own *own, const swn_control *control)
{
  return swn_linearization_lanczos(image_point, SWN_EMPIRICAL_FISHER, 0, 2, 8, v, own->out, own->more, control);
}

static swn_status image_own_point(Own *own, const swn_control *control)
{
  swn_linearization *mine = NULL;
  swn_status status = swn_linearize(image_net, w, &some_images, own->out, own->more, &mine, control);
  if (status == SWN_OK) status = swn_linearization_product(mine, SWN_GAUSS_NEWTON, 2, v, own->out, control);
  swn_linearization_destroy(mine);
  return status;
}

static swn_status token_kept(Own *own, const swn_control *control)
{
  return swn_linearization_product(token_point, SWN_HESSIAN, 3, v, own->out, control);
}

static swn_status token_jacobian(Own *own, const swn_control *control)
{
  return swn_mlp_jacobian(token_net, w, &some_tokens, own->out, control);
}

static swn_status token_vjp(Own *own, const swn_control *control)
{
  return swn_mlp_vjp(token_net, w, &some_tokens, 3, x, own->out, control);
}

static swn_status token_taylor(Own *own, const swn_control *control)
{
  return swn_mlp_taylor(token_net, w, &some_tokens, 3, v, own->out, own->more, control);
}

static swn_status token_fourth(Own *own, const swn_control *control)
{
  return swn_mlp_multilinear(token_net, w, &some_tokens, v, w, 3, v, own->out, control);
}

/* `choices` is how many results there are: as many as shifts for a factorisation, 0 where no result is compared. */
static const struct {
  const char *name;
  Work *work;
  size_t numbers;
  int choices;
} works[] = {{"gradient", gradient, PARAMETERS, 1},
             {"product", product, DIRECTIONS * PARAMETERS, 1},
             {"diagonal", diagonal, PARAMETERS, 1},
             {"fisher", fisher, OUTPUTS, 1},
             {"taylor", taylor, 4 * PARAMETERS, 1},
             {"third", third, DIRECTIONS * PARAMETERS, 1},
             {"kept product", kept_product, DIRECTIONS * PARAMETERS, 1},
             {"kept third", kept_third, DIRECTIONS * PARAMETERS, 1},
             {"lanczos", lanczos, 16, 1},
             {"a point of its own", own_point, 2 * PARAMETERS, 1},
             {"layered solve", layered_solve, 4 * SMALL_PARAMETERS, 2},
             {"dense solve", dense_solve, 4 * SMALL_PARAMETERS, 2},
             {"layered update", layered_update, 1, 1},
             {"dense update", dense_update, 1, 1},
             {"factors of its own", own_factors, 2 * SMALL_PARAMETERS, 1},
             {"kept states", kept_states, FEW * (4 + 5 + 3 * (4 + 2) + 2), 1},
             {"minimum norm", minimum_norm, PIXELS * CLASSES, 1},
             {"orthogonal", orthogonal, CLASSES * CLASSES, 1},
             {"fast step", fast_step, PIXELS * CLASSES, 1},
             {"slow step", slow_step, 1, 0},
             {"a matrix of its own", own_dense, WIDE * WIDE, 1},
             {"gradient of images", image_gradient, IMAGE_PARAMETERS, 1},
             {"samples of images", image_samples, IMAGES * IMAGE_PARAMETERS, 1},
             {"product of images", image_product, 3 * IMAGE_PARAMETERS, 1},
             {"diagonal of images", image_diagonal, IMAGE_PARAMETERS, 1},
             {"kept product of images", image_kept, 3 * IMAGE_PARAMETERS, 1},
             {"lanczos of images", image_lanczos, 16, 1},
             {"a point of images of its own", image_own_point, 2 * IMAGE_PARAMETERS, 1},
             {"kept product of tokens", token_kept, 3 * TOKEN_PARAMETERS, 1},
             {"jacobian of tokens", token_jacobian, FEW * 3 * TOKEN_PARAMETERS, 1},
             {"vjp of tokens", token_vjp, 3 * TOKEN_PARAMETERS, 1},
             {"taylor of tokens", token_taylor, 4 * TOKEN_PARAMETERS, 1},
             {"fourth of tokens", token_fourth, 3 * TOKEN_PARAMETERS, 1}};
enum { WORKS = sizeof works / sizeof *works };
static double *expected[WORKS][2];

static atomic_int ended;
static atomic_long done, cancelled, lost, different;

static double *outputs(const Own *own, int index)
{
  double *copy = exactly(works[index].numbers * sizeof *copy);
  memcpy(copy, own->out, works[index].numbers * sizeof *copy);
  return copy;
}

static int32_t sometimes(void *context) { return below(context, 20) == 0; }

static void *use(void *context)
{
  Own *own = context;
  const swn_control control = {sometimes, &own->random};
  while (!atomic_load(&ended)) {
    int index = (int)below(&own->random, WORKS), stoppable = below(&own->random, 3) == 0;
    swn_status status = works[index].work(own, stoppable ? &control : NULL);
    if (status == SWN_OK) {
      int same = works[index].choices == 0;
      for (int k = 0; k < works[index].choices; k++)
        same |= !memcmp(own->out, expected[index][k], works[index].numbers * sizeof(double));
      if (!same) {
        fprintf(stderr, "%s: not the bits of the call alone\n", works[index].name);
        atomic_fetch_add(&different, 1);
      }
    } else if (status == SWN_CANCELLED && stoppable) {
      atomic_fetch_add(&cancelled, 1);
    } else if (status == SWN_NUMERICAL && works[index].choices == 2) {
      atomic_fetch_add(&lost, 1);
    } else {
      fprintf(stderr, "%s: status %d, %s\n", works[index].name, status, swn_last_error());
      atomic_fetch_add(&different, 1);
    }
    /* Messages are a thread's own. */
    if (swn_mlp_loss(net, NULL, &many, own->more, NULL) != SWN_INVALID_ARGUMENT || !strstr(swn_last_error(), "w"))
      atomic_fetch_add(&different, 1);
    atomic_fetch_add(&done, 1);
  }
  return NULL;
}

/* [2, 6, 6] to [4, 6, 6], pooled to [4, 3, 3], a convolution of it added, both pools. */
static const int64_t image_codes[][SWN_CODE_LENGTH] = {
    {SWN_LAYER_CONVOLUTION, 0, 0, 0, 4, 3, 3, 1, 1, 1, 1, 1, 1},
    {SWN_LAYER_GROUP_NORM, 1, 0, 76, 2, 1},
    {SWN_LAYER_ACTIVATION, 2, 0, 0, SWN_TANH},
    {SWN_LAYER_MAX_POOL, 3, 0, 0, 2, 2, 2, 2, 0, 0},
    {SWN_LAYER_CONVOLUTION, 4, 0, 84, 4, 3, 3, 1, 1, 1, 1, 4, 0},
    {SWN_LAYER_ADD, 5, 4, 0},
    {SWN_LAYER_FROZEN_BATCH_NORM, 6, 0, 120, 1, 4},
    {SWN_LAYER_AVERAGE_POOL, 7, 0, 0, 2, 2, 1, 1, 0, 0, 1},
    {SWN_LAYER_FLATTEN, 8, 0, 0},
    {SWN_LAYER_DENSE, 9, 0, 128, 5, 1}};
static const double image_numbers[] = {0, 1e-5, 0, 0, 0, 0, 1e-5, 0, 0, 0};
static const double image_statistics[] = {0.1, -0.2, 0.3, 0, 1, 0.5, 2, 1.5};

/* Tokens through attention on normalised rows, added, to three outputs of their mean. */
static const int64_t token_codes[][SWN_CODE_LENGTH] = {
    {SWN_LAYER_EMBEDDING, 0, 0, 0, VOCABULARY, WIDTH},
    {SWN_LAYER_POSITION_EMBEDDING, 1, 0, 36},
    {SWN_LAYER_LAYER_NORM, 2, 0, 56, 1},
    {SWN_LAYER_ATTENTION, 3, 0, 64, 2, 1},
    {SWN_LAYER_ADD, 4, 2, 0},
    {SWN_LAYER_MEAN, 5, 0, 0},
    {SWN_LAYER_DENSE, 6, 0, 144, 3, 0}};
static const double token_numbers[] = {0, 0, 1e-5, 0, 0, 0, 0};

/* Nets of any layers, after the others: they share w, x and v. */
static void make_networks(Random *random)
{
  swn_network_shape shape = {SWN_FLOAT64, SWN_INPUT_IMAGE, {2, 6, 6}, sizeof image_numbers / sizeof *image_numbers,
                             &image_codes[0][0], image_numbers, 8, image_statistics, SWN_SOFTMAX_CROSS_ENTROPY, 0,
                             NULL};
  expect(swn_network_create(&shape, &image_net) == SWN_OK, "a net of images");
  expect(swn_mlp_parameter_count(image_net) == IMAGE_PARAMETERS, "its parameters");
  swn_network_shape other = {SWN_FLOAT64, SWN_INPUT_TOKENS, {LENGTH}, sizeof token_numbers / sizeof *token_numbers,
                             &token_codes[0][0], token_numbers, 0, NULL, SWN_SOFTMAX_CROSS_ENTROPY, 0, NULL};
  expect(swn_network_create(&other, &token_net) == SWN_OK, "a net of tokens");
  expect(swn_mlp_parameter_count(token_net) == TOKEN_PARAMETERS, "its parameters");
  pictures = numbers(random, IMAGES * IMAGE);
  tokens = exactly(FEW * LENGTH * sizeof *tokens);
  for (size_t i = 0; i < FEW * LENGTH; i++) tokens[i] = (int64_t)below(random, VOCABULARY);
  token_labels = exactly(FEW * sizeof *token_labels);
  for (size_t i = 0; i < FEW; i++) token_labels[i] = (int64_t)below(random, 3);
  some_images = (swn_samples){IMAGES, pictures, NULL, labels, NULL, 1};
  some_tokens = (swn_samples){FEW, tokens, NULL, token_labels, NULL, 0.5};
  double gradient_out[IMAGE_PARAMETERS], loss;
  expect(swn_linearize(image_net, w, &some_images, gradient_out, &loss, &image_point, NULL) == SWN_OK, "a point");
  expect(swn_linearize(token_net, w, &some_tokens, gradient_out, &loss, &token_point, NULL) == SWN_OK, "a point");
}

static void make(Random *random)
{
  const size_t sizes[] = {INPUTS, HIDDEN, OUTPUTS}, little[] = {3, 4, 2};
  const swn_activation curved[] = {{SWN_TANH, 0}, {SWN_SILU, 0}};
  swn_mlp_shape shape = {SWN_FLOAT64, 2, sizes, curved, 1, SWN_SOFTMAX_CROSS_ENTROPY, 0, NULL};
  expect(swn_mlp_create(&shape, &net) == SWN_OK, "a net");
  shape.sizes = little;
  shape.loss = SWN_SQUARED_ERROR;
  expect(swn_mlp_create(&shape, &small) == SWN_OK, "a small net");
  const size_t count = PARAMETERS, small_count = SMALL_PARAMETERS;
  expect(swn_mlp_parameter_count(net) == count && swn_mlp_parameter_count(small) == small_count, "their parameters");
  w = numbers(random, count);
  x = numbers(random, SAMPLES * INPUTS);
  v = numbers(random, DIRECTIONS * count);
  small_w = numbers(random, small_count);
  small_x = numbers(random, FEW * 3);
  small_y = numbers(random, FEW * 2);
  b = numbers(random, 4 * small_count);
  matrix = numbers(random, WIDE * WIDE);
  targets = numbers(random, ROWS * CLASSES);
  weights = numbers(random, PIXELS * CLASSES);
  plain = numbers(random, PIXELS * CLASSES);
  images = numbers(random, ROWS * PIXELS);
  for (size_t i = 0; i < ROWS * PIXELS; i++) images[i] = (double)below(random, 256) / 256 - 0.5;
  labels = exactly(SAMPLES * sizeof *labels);
  for (size_t i = 0; i < SAMPLES; i++) labels[i] = (int64_t)below(random, OUTPUTS);
  many = (swn_samples){SAMPLES, x, NULL, labels, NULL, 1.0 / SAMPLES};
  few = (swn_samples){FEW, small_x, small_y, NULL, NULL, 1};
  double *gradient_out = numbers(random, count), loss;
  expect(swn_linearize(net, w, &many, gradient_out, &loss, &point, NULL) == SWN_OK, "a linearisation");
  free(gradient_out);
  swn_factor_info info;
  double *small_gradient = numbers(random, small_count);
  expect(swn_linearize(small, small_w, &few, small_gradient, &loss, &small_point, NULL) == SWN_OK, "a small one");
  free(small_gradient);
  expect(swn_layered_create(small_point, SWN_FORM_AUTOMATIC, 0, 0.5, 0, &layered, &info, NULL) == SWN_OK,
         "a layered factorisation");
  double *hessian = numbers(random, small_count * small_count);
  expect(swn_mlp_dense(small, SWN_HESSIAN, small_w, &few, -1, -1, hessian, NULL) == SWN_OK, "a Hessian");
  expect(swn_dense_create(small_count, hessian, 0.5, &dense, &info, NULL) == SWN_OK, "a dense factorisation");
  free(hessian);
  swn_fast_factorization_info told;
  expect(swn_fast_factorize(ROWS, PIXELS, images, -1, NULL, &pixels, &told) == SWN_OK && told.rank == ROWS, "factors");
  expect(swn_fast_factorize(PIXELS, CLASSES, plain, -1, NULL, &general, &told) == SWN_OK &&
             told.route == SWN_FAST_ORTHOGONAL,
         "an orthogonal decomposition");
  make_networks(random);
}

/* What each call gives alone: that of solves for both shifts. */
static void expectations(Own *own)
{
  swn_factor_info info;
  for (int k = 1; k >= 0; k--) {
    expect(swn_layered_update(layered, 0, k ? 0.75 : 0.5, 0, &info, NULL) == SWN_OK, "an update");
    expect(swn_dense_update(dense, k ? 0.75 : 0.5, &info, NULL) == SWN_OK, "an update");
    for (int index = 0; index < WORKS; index++) {
      if (k >= works[index].choices) continue;
      memset(own->out, 0, sizeof own->out);
      expect(works[index].work(own, NULL) == SWN_OK, works[index].name);
      expected[index][k] = outputs(own, index);
    }
  }
}

int main(int given, char **words)
{
  double seconds = given > 1 ? atof(words[1]) : 5;
  int threads = given > 2 ? atoi(words[2]) : 6;
  Random random = {given > 3 ? strtoull(words[3], NULL, 10) : 1};
  if (threads < 1 || threads > 64) return 2;
  expect(swn_set_threads(2) == SWN_OK, "two threads");
  make(&random);
  Own *owns = exactly((size_t)threads * sizeof *owns);
  for (int i = 0; i < threads; i++) {
    owns[i].random.state = next(&random);
    expect(swn_slow_workspace_create(&owns[i].workspace) == SWN_OK, "a workspace");
  }
  if (!failures) expectations(owns);
  if (failures) return 1;
  alarm((unsigned)seconds + 120); /* nobody waits for ever */
  pthread_t workers[64];
  for (int i = 0; i < threads; i++)
    if (pthread_create(&workers[i], NULL, use, &owns[i])) abort();
  const struct timespec pause = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
  nanosleep(&pause, NULL);
  atomic_store(&ended, 1);
  for (int i = 0; i < threads; i++) pthread_join(workers[i], NULL);
  for (int i = 0; i < threads; i++) swn_slow_workspace_destroy(owns[i].workspace);
  free(owns);
  for (int index = 0; index < WORKS; index++)
    for (int k = 0; k < works[index].choices; k++) free(expected[index][k]);
  swn_linearization_destroy(point);
  swn_linearization_destroy(small_point);
  swn_layered_destroy(layered);
  swn_dense_destroy(dense);
  swn_fast_factorization_destroy(pixels);
  swn_fast_factorization_destroy(general);
  swn_mlp_destroy(net);
  swn_mlp_destroy(small);
  swn_linearization_destroy(image_point);
  swn_linearization_destroy(token_point);
  swn_mlp_destroy(image_net);
  swn_mlp_destroy(token_net);
  free(tokens);
  free(token_labels);
  double *all[] = {pictures, w, x, v, small_w, small_x, small_y, b, matrix, targets, weights, plain, images};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
  free(labels);
  printf("%ld calls, %ld cancelled, %ld without factors, %ld wrong\n", atomic_load(&done), atomic_load(&cancelled),
         atomic_load(&lost), atomic_load(&different));
  return atomic_load(&different) != 0;
}
