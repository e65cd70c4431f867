/* The C interface used by itself: no Python, no Swift sources. Exits with 0 when every expectation holds.
 *
 * Compile with any C compiler, and let swiftc link, since it knows what the Swift runtime needs:
 *   cc -std=c11 -I Sources/CSwiftNets/include -c Tests/c/test_abi.c
 *   swiftc -emit-executable -static-stdlib test_abi.o libSwiftNetsABI.a -L <OpenBLAS> -lscipy_openblas -o test_abi
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "swiftnets.h"

static int failures = 0;

static void expect(int holds, const char *claim)
{
  if (!holds) {
    fprintf(stderr, "not so: %s (last error: %s)\n", claim, swn_last_error());
    failures++;
  }
}

static int near(double a, double b) { return fabs(a - b) <= 1e-12 * fabs(b); }

/* One sample, one weight a layer: every number by hand. h1 = 1·2 = 2, n2 = 2·(-3) = -6, h2 = -3, error -3 - 1 = -4. */
static const swn_slow_shape one = {1, 1, 1};
static const double x = 1, y = 1, w1 = 2, w2 = -3;

static void slow_by_hand(void)
{
  double loss = 0, h2 = 0, dw1 = 0, dw2 = 0, block = 0;
  expect(swn_slow_loss(one, 1, &x, &y, &w1, &w2, &loss) == SWN_OK && near(loss, 8), "the loss is 4²/2");
  expect(swn_slow_predict(one, 1, &x, &w1, &w2, &h2) == SWN_OK && near(h2, -3), "the output is half of -6");
  expect(swn_slow_gradient(one, 1, &x, &y, &w1, &w2, &dw1, &dw2, &loss) == SWN_OK, "a gradient");
  expect(near(dw1, 6) && near(dw2, -4), "dw1 is -4 · 1/2 · -3 · 1, dw2 is -4 · 1/2 · 2");
  expect(swn_slow_hessian_block(one, 1, &x, &w1, &w2, 1, &block, NULL) == SWN_OK && near(block, 2.25),
         "the first block is (1/2 · -3 · 1)²");
  expect(swn_slow_hessian_block(one, 1, &x, &w1, &w2, 2, &block, NULL) == SWN_OK && near(block, 1),
         "the second block is (1/2 · 2)²");

  swn_slow_workspace *workspace = NULL;
  expect(swn_slow_workspace_create(&workspace) == SWN_OK, "a workspace");
  for (int32_t method = SWN_SLOW_STRUCTURED; method <= SWN_SLOW_DENSE; method++) {
    double new1 = 0, new2 = 0;
    swn_slow_report report;
    swn_status status =
        swn_slow_step(workspace, one, 1, &x, &y, &w1, &w2, 0.1, 0.25, method, &new1, &new2, &report, NULL);
    expect(status == SWN_OK && near(report.loss, 8), "a step reports the loss before it");
    expect(near(new1, 2 - 0.1 * 6 / 2.5) && near(new2, -3 + 0.1 * 4 / 1.25), "w - alpha g/(h + damping)");
  }
  swn_slow_workspace_destroy(workspace);
  swn_slow_workspace_destroy(NULL);
}

/* xs = (3 4): the pseudo-inverse is xsᵀ/25. */
static void fast_by_hand(void)
{
  const swn_fast_shape shape = {2, 1};
  const double xs[] = {3, 4}, ys[] = {5}, w[] = {1, -2}, b[] = {50};
  double loss = 0, h = 0, solution[2], residual = 1, out[2];
  expect(swn_fast_predict(shape, 1, xs, w, &h) == SWN_OK && near(h, -2.5), "act(3 - 8) is -5/2");
  expect(swn_fast_loss(shape, 1, xs, ys, w, &loss) == SWN_OK && near(loss, 7.5 * 7.5 / 2), "the loss is 7.5²/2");

  swn_factorization *factorization = NULL;
  swn_factorization_info info;
  expect(swn_factorize(1, 2, xs, -1, NULL, &factorization, &info) == SWN_OK && info.rank == 1, "a factorisation");
  expect(swn_minimum_norm(factorization, xs, 1, b, solution, &residual, NULL) == SWN_OK && residual < 1e-12,
         "a solution with nothing left over");
  expect(near(solution[0], 6) && near(solution[1], 8), "the shortest solution of 3u + 4v = 50");

  /* The limit is pinv(xs) · 2 · (h - y) = -15 (3 4)/25. */
  swn_fast_report report;
  expect(swn_fast_step(factorization, shape, 1, xs, ys, w, 0.1, 0, out, &report, NULL) == SWN_OK && !report.stale,
         "a step");
  expect(near(out[0], 1 + 0.18) && near(out[1], -2 + 0.24), "w - alpha · pinv(xs) · inv_act'(h) · (h - y)");
  swn_factorization_destroy(factorization);
  swn_factorization_destroy(NULL);
}

/* One linear layer: z = 3·1 + 4·2 = 11, the target 10, so that the loss is ½ and the gradient (3 4). */
static void mlp_by_hand(void)
{
  const size_t sizes[] = {2, 1};
  const swn_activation identity = {SWN_IDENTITY, 0};
  swn_mlp_shape shape = {SWN_FLOAT64, 1, sizes, &identity, 0, SWN_SQUARED_ERROR, 0};
  const double xs[] = {3, 4}, w[] = {1, 2}, target = 10, v[] = {1, 0};
  const swn_samples samples = {1, xs, &target, NULL, NULL, 1};
  double loss = 0, out[4] = {0};
  swn_mlp *net = NULL;
  expect(swn_mlp_create(&shape, &net) == SWN_OK && swn_mlp_parameter_count(net) == 2, "a net of two weights");
  expect(swn_mlp_predict(net, w, &samples, out, NULL) == SWN_OK && near(out[0], 11), "the output is 3 + 8");
  expect(swn_mlp_gradient(net, w, &samples, out, &loss, NULL) == SWN_OK && near(loss, 0.5), "the loss is 1²/2");
  expect(near(out[0], 3) && near(out[1], 4), "the gradient is the inputs");
  expect(swn_mlp_product(net, SWN_HESSIAN, w, &samples, 1, v, out, NULL) == SWN_OK, "a Hessian product");
  expect(near(out[0], 9) && near(out[1], 12), "the Hessian is the inputs' outer product");
  expect(swn_mlp_dense(net, SWN_GAUSS_NEWTON, w, &samples, -1, -1, out, NULL) == SWN_OK, "a dense matrix");
  expect(near(out[0], 9) && near(out[1], 12) && near(out[2], 12) && near(out[3], 16), "and so is Gauss-Newton's");

  swn_linearization *point = NULL;
  double gradient[2], diagonal[2], off_diagonal[2];
  expect(swn_linearize(net, w, &samples, gradient, &loss, &point) == SWN_OK && near(loss, 0.5), "a linearisation");
  expect(swn_linearization_product(point, SWN_HESSIAN, 1, v, out, NULL) == SWN_OK && near(out[1], 12), "its product");
  expect(swn_linearization_lanczos(point, SWN_HESSIAN, 1, 1, 1, v, diagonal, off_diagonal, NULL) == SWN_OK &&
             near(diagonal[0], 10) && near(off_diagonal[0], 12),
         "a Lanczos run on the matrix plus 1");
  expect(swn_linearization_product(NULL, SWN_HESSIAN, 1, v, out, NULL) == SWN_INVALID_ARGUMENT, "NULL is refused");
  expect(swn_linearization_product(point, 9, 1, v, out, NULL) == SWN_INVALID_ARGUMENT, "an unknown matrix is refused");
  swn_linearization_destroy(point);
  swn_linearization_destroy(NULL);

  swn_layered *layered = NULL;
  swn_factor_info info;
  double x[2];
  expect(swn_layered_create(net, w, &samples, SWN_FORM_PRIMAL, 0, 1, 0, &layered, &info, NULL) == SWN_OK &&
             info.positive == 2 && info.zero == 0 && near(info.log_determinant, log(26)),
         "the Hessian plus 1 has eigenvalues 26 and 1");
  expect(info.certificate >= 0 && info.certificate < 1e-9 && info.log_determinant_error < 1e-8 && info.bytes > 0,
         "its factors are proved");
  expect(swn_layered_solve(layered, 1, xs, NULL, x, NULL, NULL) == SWN_OK && near(26 * x[0], 3), "a layered solve");
  expect(swn_layered_update(layered, 0, 0, 0, &info, NULL) == SWN_OK && info.positive == 1 && info.zero == 1 &&
             info.certificate < 0 && isinf(info.log_determinant),
         "the Hessian itself has an eigenvalue 0");
  expect(swn_layered_solve(layered, 1, xs, NULL, x, NULL, NULL) == SWN_NUMERICAL, "and no inverse");
  swn_layered_destroy(layered);
  const double matrix[] = {1, 1, 1, 1};
  swn_dense *dense = NULL;
  expect(swn_dense_create(2, matrix, 0, &dense, &info, NULL) == SWN_NUMERICAL &&
             strstr(swn_last_error(), "singular to working precision"),
         "a singular matrix is refused");
  expect(swn_dense_create(2, matrix, -1, &dense, &info, NULL) == SWN_OK && info.positive == 1 && info.negative == 1,
         "and one with eigenvalues 1 and -1 is not");
  swn_dense_destroy(dense);

  expect(swn_mlp_loss(net, NULL, &samples, &loss, NULL) == SWN_INVALID_ARGUMENT && strstr(swn_last_error(), "w"),
         "the message names the argument");
  expect(swn_mlp_dense(net, SWN_HESSIAN, w, &samples, 1, 0, out, NULL) == SWN_INVALID_ARGUMENT,
         "a block of a layer that is not there is refused");
  swn_mlp_destroy(net);
  swn_mlp_destroy(NULL);
  shape.depth = 0;
  expect(swn_mlp_create(&shape, &net) == SWN_INVALID_ARGUMENT, "a net without layers is refused");
}

static int32_t stop(void *context)
{
  (*(int *)context)++;
  return 1;
}

static void failures_have_a_status_and_a_message(void)
{
  double loss;
  expect(swn_slow_loss(one, 1, NULL, &y, &w1, &w2, &loss) == SWN_INVALID_ARGUMENT, "NULL is refused");
  expect(strstr(swn_last_error(), "xs") != NULL, "the message names the argument");
  expect(swn_slow_loss(one, 0, &x, &y, &w1, &w2, &loss) == SWN_INVALID_ARGUMENT, "no samples are refused");
  expect(swn_slow_loss((swn_slow_shape){SIZE_MAX, 1, 1}, 1, &x, &y, &w1, &w2, &loss) == SWN_INVALID_ARGUMENT,
         "an absurd size is refused");
  const size_t large = (size_t)1 << 30;
  expect(swn_fast_predict((swn_fast_shape){large, 1}, large, &x, &w1, &loss) == SWN_INVALID_ARGUMENT &&
             strstr(swn_last_error(), "xs would have 1073741824×1073741824 numbers"),
         "arrays that cannot exist are refused by their sizes");
  expect(swn_set_threads(0) == SWN_INVALID_ARGUMENT, "no threads are refused");
  expect(swn_set_threads(2) == SWN_OK && swn_get_threads() == 2, "two threads");

  /* 1024 columns of 512 samples, a few milliseconds at the least. */
  enum { samples = 512, units = 32 };
  static double xs[samples * units], weights[units * units], block[units * units * units * units];
  for (int i = 0; i < samples * units; i++) xs[i] = sin(i);
  for (int i = 0; i < units * units; i++) weights[i] = cos(i);
  int calls = 0;
  const swn_control control = {stop, &calls};
  expect(swn_slow_hessian_block((swn_slow_shape){units, units, units}, samples, xs, weights, weights, 1, block,
                                &control) == SWN_CANCELLED,
         "a poll function cancels");
  expect(calls == 1, "it is not asked again");
}

int main(void)
{
  expect(strlen(swn_version()) >= strlen("0.0.0"), "a version");
  slow_by_hand();
  fast_by_hand();
  mlp_by_hand();
  failures_have_a_status_and_a_message();
  if (!failures) puts(swn_version());
  return failures != 0;
}
