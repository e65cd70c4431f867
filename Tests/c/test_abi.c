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
  failures_have_a_status_and_a_message();
  if (!failures) puts(swn_version());
  return failures != 0;
}
