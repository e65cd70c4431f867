/* Factorisations of H + shift: layered ones in all their forms, and dense ones of any symmetric matrix. */
#include "abi.h"

static void layered(void)
{
  size_t sizes[6];
  swn_activation activations[5];
  swn_mlp_shape shape = {
      .dtype = seldom(32) ? SWN_FLOAT32 : SWN_FLOAT64,
      .depth = 1 + pick(4),
      .sizes = sizes,
      .activations = activations,
      .bias = (int32_t)pick(2),
      .loss = (int32_t)pick(4),
      .loss_parameter = 1,
  };
  size_t most = seldom(8) ? 40 : 7, count = 0;
  for (size_t i = 0; i <= shape.depth; i++) sizes[i] = 1 + byte() % (most + 1);
  for (size_t i = 0; i < shape.depth; i++) {
    activations[i] = (swn_activation){(int32_t)pick(10), seldom(3) ? number() : (int)pick(8) / 8.0};
    count += (sizes[i] + (shape.bias != 0)) * sizes[i + 1];
  }
  size_t inputs = sizes[0], outputs = sizes[shape.depth], n = small(most > 7 ? 12 : 40);
  swn_mlp *net = NULL;
  checked(swn_mlp_create(&shape, &net));
  if (!net || count > 1000) { /* choosing pivots takes the cube of a layer, beyond what the plan says */
    swn_mlp_destroy(net);
    return;
  }
  must(swn_mlp_parameter_count(net) == count, "the count of parameters");
  int scalar = shape.dtype == SWN_FLOAT32 ? SCALAR32 : SCALAR64;
  const void *w = input(count, scalar);
  swn_samples samples = {.n = n, .x = input(n * inputs, scalar), .scale = seldom(4) ? number() : 1};
  if (shape.loss == SWN_SOFTMAX_CROSS_ENTROPY && seldom(2)) samples.labels = labels(n, outputs);
  else samples.targets = input(n * outputs, scalar);
  if (seldom(3)) samples.weights = input(n, scalar);
  int32_t is_complex = (int32_t)pick(2), form = seldom(32) ? (int32_t)word() : (int32_t)pick(3);
  double real = number(), imaginary = number();
  swn_layered_sizes plan;
  swn_status planned = checked(swn_layered_plan(net, n, is_complex, form, &plan));
  swn_layered *made = NULL;
  swn_factor_info info;
  swn_status status = SWN_OUT_OF_MEMORY;
  swn_linearization *point = NULL;
  double loss;
  checked(swn_linearize(net, w, or_null(&samples), output(count, scalar), &loss, &point, control()));
  if (planned != SWN_OK || plan.operations < 1e7) /* a fraction of a second */
    status = checked(swn_layered_create(
        point, form, is_complex, real, imaginary, seldom(97) ? NULL : &made, or_null(&info), control()));
  must((status == SWN_OK) == (made != NULL), "a factorisation, or a reason");
  swn_linearization_destroy(point); /* The factorisation has what it needs. */
  swn_mlp_destroy(net);
  if (!made) return;
  must(info.known == !is_complex && (is_complex || info.positive + info.negative + info.zero == count), "an inertia");
  for (unsigned calls = 1 + pick(4); calls; calls--) {
    if (seldom(3)) {
      int32_t other = seldom(16) ? !is_complex : is_complex;
      checked(swn_layered_update(made, other, number(), number(), or_null(&info), control()));
      double trace, logarithm;
      checked(swn_layered_trace_of_inverse(made, seldom(16) ? NULL : &trace, or_null(&logarithm), control()));
      continue;
    }
    size_t k = seldom(16) ? impossible() : small(9);
    absurd = k == 0 || k > INT32_MAX;
    int twisted = seldom(16);
    const double *b = input(k * count, SCALAR64);
    const double *second = is_complex == twisted || seldom(8) ? NULL : input(k * count, SCALAR64);
    double *x = output(k * count, SCALAR64), *imaginary_x = is_complex == twisted ? NULL : output(k * count, SCALAR64);
    checked(swn_layered_solve(made, k, b, second, x, imaginary_x, control()));
    absurd = 0;
  }
  swn_layered_destroy(made);
}

static void dense(void)
{
  size_t n = small(48);
  if (seldom(16)) {
    n = seldom(2) ? impossible() : 46341 + large();
    absurd = 1;
  }
  double *matrix = array_of(n * n, SCALAR64);
  if (!absurd) {
    /* Sums of squares, differences, ranks below n, or anything: by what a vector of each row is. */
    free_arrays();
    matrix = input_or_absurd(n * n, SCALAR64);
    unsigned kind = pick(4);
    double scale = seldom(4) ? fabs(number()) : 1;
    for (size_t i = 0; i < n && kind; i++)
      for (size_t j = 0; j < n; j++) {
        double sign = kind == 2 && i % 2 ? -1 : 1;
        if (kind == 3) matrix[i * n + j] = ((i ^ j) & 3) == 0 ? scale : 0;
        else if (i == j) matrix[i * n + j] = sign * scale * (double)n;
      }
    arrays[array_count - 1].sum = sum_of((uint8_t *)matrix, n * n * sizeof *matrix);
  }
  double trace, logarithm;
  if (seldom(4))
    checked(swn_dense_trace_of_inverse(n, or_null(matrix), number(), seldom(4) ? number() : 0x1p-200, &trace,
                                       or_null(&logarithm), control()));
  swn_dense *made = NULL;
  swn_factor_info info;
  double shift = seldom(2) ? number() : 0;
  swn_status status =
      checked(swn_dense_create(n, or_null(matrix), shift, seldom(97) ? NULL : &made, or_null(&info), control()));
  must((status == SWN_OK) == (made != NULL), "a factorisation, or a reason");
  if (!made) return;
  must(info.known && info.positive + info.negative + info.zero == n, "an inertia");
  for (unsigned calls = 1 + pick(4); calls; calls--) {
    if (seldom(3)) {
      checked(swn_dense_update(made, number(), or_null(&info), control()));
      continue;
    }
    size_t k = seldom(16) ? impossible() : small(9);
    absurd = k == 0 || k > INT32_MAX;
    checked(swn_dense_solve(made, k, input(k * n, SCALAR64), output(k * n, SCALAR64), control()));
    absurd = 0;
  }
  swn_dense_destroy(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  begin(data, size);
  for (unsigned calls = 1 + pick(2); calls; calls--) {
    absurd = 0;
    if (pick(2)) dense();
    else layered();
    free_arrays();
  }
  swn_layered_destroy(NULL);
  swn_dense_destroy(NULL);
  return 0;
}
