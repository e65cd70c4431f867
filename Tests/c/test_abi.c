/* The C interface used by itself: no Python, no Swift sources. Exits with 0 when every expectation holds.
 *
 * Compile with any C compiler, and let swiftc link, since it knows what the Swift runtime needs:
 *   cc -std=c11 -I Sources/CSwiftNets/include -c Tests/c/test_abi.c
 *   swiftc -emit-executable -static-stdlib test_abi.o libSwiftNetsABI.a -L <OpenBLAS> -lscipy_openblas -o test_abi
 */
#include "support.h"

/* One sample, one weight a layer: every number by hand. h1 = 1·2 = 2, n2 = 2·(-3) = -6, h2 = -3, error -3 - 1 = -4. */
static const swn_slow_shape one = {1, 1, 1};
static const double x = 1, y = 1, w1 = 2, w2 = -3;

static void slow_by_hand(void)
{
  double loss = 0, h2 = 0, dw1 = 0, dw2 = 0, block = 0;
  expect(swn_slow_loss(one, 1, &x, &y, &w1, &w2, &loss, NULL) == SWN_OK && near(loss, 8), "the loss is 4²/2");
  expect(swn_slow_predict(one, 1, &x, &w1, &w2, &h2, NULL) == SWN_OK && near(h2, -3), "the output is half of -6");
  expect(swn_slow_gradient(one, 1, &x, &y, &w1, &w2, &dw1, &dw2, &loss, NULL) == SWN_OK, "a gradient");
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
  expect(swn_fast_predict(shape, 1, xs, w, &h, NULL) == SWN_OK && near(h, -2.5), "act(3 - 8) is -5/2");
  expect(swn_fast_loss(shape, 1, xs, ys, w, &loss, NULL) == SWN_OK && near(loss, 7.5 * 7.5 / 2), "the loss is 7.5²/2");

  swn_fast_factorization *factorization = NULL;
  swn_fast_factorization_info info;
  expect(swn_fast_factorize(1, 2, xs, -1, NULL, &factorization, &info) == SWN_OK && info.rank == 1, "a factorisation");
  expect(swn_fast_minimum_norm(factorization, xs, 1, b, solution, &residual, NULL) == SWN_OK && residual < 1e-12,
         "a solution with nothing left over");
  expect(near(solution[0], 6) && near(solution[1], 8), "the shortest solution of 3u + 4v = 50");

  /* The limit is pinv(xs) · 2 · (h - y) = -15 (3 4)/25. */
  swn_fast_report report;
  expect(swn_fast_step(factorization, shape, 1, xs, ys, w, 0.1, 0, out, &report, NULL) == SWN_OK && !report.stale,
         "a step");
  expect(near(out[0], 1 + 0.18) && near(out[1], -2 + 0.24), "w - alpha · pinv(xs) · inv_act'(h) · (h - y)");
  swn_fast_factorization_destroy(factorization);
  swn_fast_factorization_destroy(NULL);
}

/* One linear layer: z = 3·1 + 4·2 = 11, the target 10, so that the loss is ½ and the gradient (3 4). */
static void mlp_by_hand(void)
{
  const size_t sizes[] = {2, 1};
  const swn_activation identity = {SWN_IDENTITY, 0};
  swn_mlp_shape shape = {SWN_FLOAT64, 1, sizes, &identity, 0, SWN_SQUARED_ERROR, 0, NULL};
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
  expect(swn_linearize(net, w, &samples, gradient, &loss, &point, NULL) == SWN_OK && near(loss, 0.5), "a linearisation");
  expect(swn_linearization_product(point, SWN_HESSIAN, 1, v, out, NULL) == SWN_OK && near(out[1], 12), "its product");
  expect(swn_linearization_lanczos(point, SWN_HESSIAN, 1, 1, 1, v, diagonal, off_diagonal, NULL) == SWN_OK &&
             near(diagonal[0], 10) && near(off_diagonal[0], 12),
         "a Lanczos run on the matrix plus 1");
  expect(swn_linearization_product(NULL, SWN_HESSIAN, 1, v, out, NULL) == SWN_INVALID_ARGUMENT, "NULL is refused");
  expect(swn_linearization_product(point, 9, 1, v, out, NULL) == SWN_INVALID_ARGUMENT, "an unknown matrix is refused");
  double states[6];
  expect(swn_linearization_states_count(point) == 6 && swn_linearization_states(point, states, NULL) == SWN_OK,
         "two inputs, a slope, a curvature, a delta, the loss's second derivative");
  expect(near(states[0], 3) && near(states[1], 4) && near(states[2], 1) && near(states[3], 0) && near(states[4], 1) &&
             near(states[5], 1),
         "what the Hessian is made of");
  size_t mix_count, factor_count;
  expect(swn_linearization_factor_counts(point, &mix_count, &factor_count) == SWN_OK && mix_count == 1 &&
             factor_count == 5,
         "one sample's output; two inputs' products, and an output's");
  const double mix[1] = {-1};
  double factors[5];
  expect(swn_linearization_factors(point, mix, factors, NULL) == SWN_OK && near(factors[0], 9) &&
             near(factors[1], 12) && near(factors[2], 12) && near(factors[3], 16) && near(factors[4], 1),
         "Kronecker factors");

  swn_layered *layered = NULL;
  swn_factor_info info;
  double x[2];
  expect(swn_layered_create(point, SWN_FORM_PRIMAL, 0, 1, 0, &layered, &info, NULL) == SWN_OK &&
             info.positive == 2 && info.zero == 0 && near(info.log_determinant, log(26)),
         "the Hessian plus 1 has eigenvalues 26 and 1");
  expect(swn_linearization_product(point, SWN_HESSIAN, 1, v, out, NULL) == SWN_OK && near(out[1], 12),
         "the linearisation is as it was");
  swn_linearization_destroy(point); /* The factorisation has what it needs. */
  swn_linearization_destroy(NULL);
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

  double trace, logarithm;
  expect(swn_dense_trace_of_inverse(2, matrix, 1, 0x1p-100, &trace, &logarithm, NULL) == SWN_OK &&
             near(trace, 4.0 / 3) && near(logarithm, log(3)),
         "eigenvalues 3 and 1 have inverses whose sum is 4/3");

  double rows[] = {1, 1, 1, 1}, values[2];
  expect(swn_symmetric_eigen(2, rows, values, NULL) == SWN_OK && near(values[1], 2) && near(rows[2], rows[3]),
         "of two ones the larger eigenvalue is 2, and its vector's numbers are the same");
  expect(swn_symmetric_eigen(70000, rows, values, NULL) == SWN_INVALID_ARGUMENT && strstr(swn_last_error(), "70000"),
         "an order that LAPACK cannot count is refused before anything is read");

  expect(swn_mlp_loss(net, NULL, &samples, &loss, NULL) == SWN_INVALID_ARGUMENT && strstr(swn_last_error(), "w"),
         "the message names the argument");
  expect(swn_mlp_dense(net, SWN_HESSIAN, w, &samples, 1, 0, out, NULL) == SWN_INVALID_ARGUMENT,
         "a block of a layer that is not there is refused");
  swn_mlp_destroy(net);
  swn_mlp_destroy(NULL);
  shape.depth = 0;
  expect(swn_mlp_create(&shape, &net) == SWN_INVALID_ARGUMENT, "a net without layers is refused");
}

static void vectors_take_steps(void)
{
  const double w[] = {1, 2}, gradient[] = {3, -4}, velocity[] = {2, 2};
  double new_w[2], new_velocity[2], new_square[2], squares[2], sum;
  expect(swn_descend(SWN_FLOAT64, 2, 0.5, w, gradient, new_w, squares, NULL) == SWN_OK && near(new_w[0], -0.5) &&
             near(new_w[1], 4) && near(squares[0], 25) && near(squares[1], 16.25),
         "a step against the gradient, and both squares");
  expect(swn_momentum(SWN_FLOAT64, 2, 0.5, 0.5, 1, w, gradient, velocity, new_w, new_velocity, squares, NULL) ==
                 SWN_OK &&
             near(new_velocity[0], 4) && near(new_velocity[1], -3) && near(new_w[0], -1.5) && near(new_w[1], 4.75),
         "one with momentum");
  const swn_adam_factors factors = {0.5, 0.5, 0.75, 0.25, 2, 0.5, 0.25, 0.5};
  const double none[] = {0, 0};
  expect(swn_adam(SWN_FLOAT64, 2, &factors, w, gradient, none, none, new_w, new_velocity, new_square, squares, NULL) ==
                 SWN_OK &&
             near(new_velocity[0], 1.5) && near(new_square[1], 4) && near(new_w[1], 1 + 2 / 4.5 * 0.25),
         "one of Adam");
  const float single[] = {3, 4};
  expect(swn_square_sum(SWN_FLOAT32, 2, single, &sum, NULL) == SWN_OK && near(sum, 25), "a sum of squares");
  expect(swn_square_sum(SWN_FLOAT64, 0, NULL, &sum, NULL) == SWN_OK && sum == 0, "and one of none");
  expect(swn_descend(SWN_FLOAT64, 0, 0.5, NULL, NULL, NULL, squares, NULL) == SWN_OK && squares[0] == 0,
         "a step of no numbers");
  REFUSED("dtype is 2", swn_descend(2, 2, 0.5, w, gradient, new_w, squares, NULL));
  REFUSED("gradient", swn_descend(SWN_FLOAT64, 2, 0.5, w, NULL, new_w, squares, NULL));
  REFUSED("squares", swn_descend(SWN_FLOAT64, 2, 0.5, w, gradient, new_w, NULL, NULL));
  REFUSED("velocity", swn_momentum(SWN_FLOAT64, 2, 1, 0, 0, w, gradient, NULL, new_w, new_velocity, squares, NULL));
  REFUSED("factors", swn_adam(SWN_FLOAT64, 2, NULL, w, w, w, w, new_w, new_velocity, new_square, squares, NULL));
  REFUSED("n is", swn_square_sum(SWN_FLOAT64, SIZE_MAX, w, &sum, NULL));
  REFUSED("sum", swn_square_sum(SWN_FLOAT64, 2, w, NULL, NULL));
}

static void failures_have_a_status_and_a_message(void)
{
  double loss;
  expect(swn_slow_loss(one, 1, NULL, &y, &w1, &w2, &loss, NULL) == SWN_INVALID_ARGUMENT, "NULL is refused");
  expect(strstr(swn_last_error(), "xs") != NULL, "the message names the argument");
  expect(swn_slow_loss(one, 0, &x, &y, &w1, &w2, &loss, NULL) == SWN_INVALID_ARGUMENT, "no samples are refused");
  expect(swn_slow_loss((swn_slow_shape){SIZE_MAX, 1, 1}, 1, &x, &y, &w1, &w2, &loss, NULL) == SWN_INVALID_ARGUMENT,
         "an absurd size is refused");
  const size_t large = (size_t)1 << 30;
  expect(swn_fast_predict((swn_fast_shape){large, 1}, large, &x, &w1, &loss, NULL) == SWN_INVALID_ARGUMENT &&
             strstr(swn_last_error(), "xs would have 1073741824×1073741824 numbers"),
         "arrays that cannot exist are refused by their sizes");
  for (int32_t threads = -1; threads <= 65; threads += 1 + 64 * (threads == 0))
    REFUSED("threads", swn_set_threads(threads));
  expect(swn_set_threads(2) == SWN_OK && swn_get_threads() == 2, "two threads");

  /* 1024 columns of 512 samples, a few milliseconds at the least. */
  enum { samples = 512, units = 32 };
  static double xs[samples * units], weights[units * units], block[units * units * units * units];
  for (int i = 0; i < samples * units; i++) xs[i] = sin(i);
  for (int i = 0; i < units * units; i++) weights[i] = cos(i);
  Countdown countdown = {0, 1};
  const swn_control control = {count_down, &countdown};
  expect(swn_slow_hessian_block((swn_slow_shape){units, units, units}, samples, xs, weights, weights, 1, block,
                                &control) == SWN_CANCELLED,
         "a poll function cancels");
  expect(countdown.asked == 1, "it is not asked again");
}

/* ---- what is refused, with the argument's name; nothing is computed, and no handle comes out ---------------------- */

static const double nan_number = NAN;

static void slow_refusals(void)
{
  const swn_slow_shape shape = {2, 3, 2};
  const double xs[8] = {1, 2, 3, 4}, ys[8] = {0}, u[6] = {1, 2, 3}, v[6] = {1};
  const double bad[8] = {1, INFINITY};
  double out[36], more[36], loss;
  swn_slow_report report;
  swn_slow_workspace *workspace = NULL;
  REFUSED("workspace", swn_slow_workspace_create(NULL));
  expect(swn_slow_workspace_create(&workspace) == SWN_OK, "a workspace");
  REFUSED("ys", swn_slow_loss(shape, 2, xs, NULL, u, v, &loss, NULL));
  REFUSED("w1", swn_slow_loss(shape, 2, xs, ys, NULL, v, &loss, NULL));
  REFUSED("w2", swn_slow_loss(shape, 2, xs, ys, u, NULL, &loss, NULL));
  REFUSED("loss", swn_slow_loss(shape, 2, xs, ys, u, v, NULL, NULL));
  REFUSED("n is", swn_slow_loss(shape, (size_t)1 << 31, xs, ys, u, v, &loss, NULL));
  REFUSED("hidsize", swn_slow_loss((swn_slow_shape){2, 0, 2}, 2, xs, ys, u, v, &loss, NULL));
  REFUSED("outsize", swn_slow_loss((swn_slow_shape){2, 3, SIZE_MAX}, 2, xs, ys, u, v, &loss, NULL));
  REFUSED("xs", swn_slow_predict(shape, 2, NULL, u, v, out, NULL));
  REFUSED("h2", swn_slow_predict(shape, 2, xs, u, v, NULL, NULL));
  REFUSED("dw1", swn_slow_gradient(shape, 2, xs, ys, u, v, NULL, out, &loss, NULL));
  REFUSED("dw2", swn_slow_gradient(shape, 2, xs, ys, u, v, out, NULL, &loss, NULL));
  REFUSED("loss", swn_slow_gradient(shape, 2, xs, ys, u, v, out, more, NULL, NULL));
  for (int32_t layer = 0; layer <= 3; layer += 3)
    REFUSED("layer", swn_slow_hessian_block(shape, 2, xs, u, v, layer, out, NULL));
  REFUSED("block", swn_slow_hessian_block(shape, 2, xs, u, v, 1, NULL, NULL));
  REFUSED("w1 would have", swn_slow_hessian_block((swn_slow_shape){1 << 30, 1 << 30, 1}, 1, xs, u, v, 1, out, NULL));
  REFUSED("workspace", swn_slow_step(NULL, shape, 2, xs, ys, u, v, 1, 1, 0, out, more, &report, NULL));
  REFUSED("report", swn_slow_step(workspace, shape, 2, xs, ys, u, v, 1, 1, 0, out, more, NULL, NULL));
  REFUSED("w1_out", swn_slow_step(workspace, shape, 2, xs, ys, u, v, 1, 1, 0, NULL, more, &report, NULL));
  REFUSED("w2_out", swn_slow_step(workspace, shape, 2, xs, ys, u, v, 1, 1, 0, out, NULL, &report, NULL));
  REFUSED("method", swn_slow_step(workspace, shape, 2, xs, ys, u, v, 1, 1, 2, out, more, &report, NULL));
  REFUSED("damping", swn_slow_step(workspace, shape, 2, xs, ys, u, v, 1, 0, 0, out, more, &report, NULL));
  REFUSED("damping", swn_slow_step(workspace, shape, 2, xs, ys, u, v, 1, INFINITY, 1, out, more, &report, NULL));
  REFUSED("alpha", swn_slow_step(workspace, shape, 2, xs, ys, u, v, nan_number, 1, 0, out, more, &report, NULL));
  for (int32_t method = 0; method <= 1; method++) {
    FAILS(SWN_NOT_FINITE, "loss", swn_slow_step(workspace, shape, 2, bad, ys, u, v, 1, 1, method, out, more, &report, NULL));
    expect(swn_slow_step(workspace, shape, 2, xs, ys, u, v, 1, 1, method, out, more, &report, NULL) == SWN_OK,
           "the workspace serves the next step");
  }
  const swn_slow_shape absurd = {1, 1 << 30, 1};
  expect(swn_slow_step(workspace, absurd, 1 << 30, xs, ys, u, v, 1, 1, 0, out, more, &report, NULL) == SWN_OUT_OF_MEMORY,
         "a step that no memory is large enough for is refused");
  expect(swn_slow_step(workspace, shape, 2, xs, ys, u, v, 1, 1, 0, out, more, &report, NULL) == SWN_OK,
         "and the workspace serves the next one");
  swn_slow_workspace_destroy(workspace);
}

static void fast_refusals(void)
{
  const swn_fast_shape shape = {2, 1};
  const double xs[] = {3, 4}, others[] = {3, 5}, ys[] = {5}, w[] = {1, -2}, bad[] = {3, NAN};
  double out[2], loss, residual;
  swn_fast_factorization *factorization = NULL;
  swn_fast_factorization_info info;
  swn_fast_report report;
  REFUSED("xs", swn_fast_loss(shape, 1, NULL, ys, w, &loss, NULL));
  REFUSED("ys", swn_fast_loss(shape, 1, xs, NULL, w, &loss, NULL));
  REFUSED("w is", swn_fast_loss(shape, 1, xs, ys, NULL, &loss, NULL));
  REFUSED("loss", swn_fast_loss(shape, 1, xs, ys, w, NULL, NULL));
  REFUSED("insize", swn_fast_loss((swn_fast_shape){0, 1}, 1, xs, ys, w, &loss, NULL));
  REFUSED("outsize", swn_fast_predict((swn_fast_shape){2, SIZE_MAX}, 1, xs, w, out, NULL));
  REFUSED("n is", swn_fast_predict(shape, 0, xs, w, out, NULL));
  REFUSED("h is", swn_fast_predict(shape, 1, xs, w, NULL, NULL));
  REFUSED("factorization", swn_fast_factorize(1, 2, xs, -1, NULL, NULL, &info));
  REFUSED("info", swn_fast_factorize(1, 2, xs, -1, NULL, &factorization, NULL));
  REFUSED("xs", swn_fast_factorize(1, 2, NULL, -1, NULL, &factorization, &info));
  REFUSED("n is", swn_fast_factorize(0, 2, xs, -1, NULL, &factorization, &info));
  REFUSED("tolerance", swn_fast_factorize(1, 2, xs, 1, NULL, &factorization, &info));
  REFUSED("tolerance", swn_fast_factorize(1, 2, xs, NAN, NULL, &factorization, &info));
  FAILS(SWN_NOT_FINITE, "xs", swn_fast_factorize(1, 2, bad, -1, NULL, &factorization, &info));
  FAILS(SWN_NOT_FINITE, "xs", swn_fast_factorize(2, 1, bad, -1, NULL, &factorization, &info));
  expect(factorization == NULL, "a factorisation that failed leaves no handle");
  REFUSED("factorization", swn_fast_minimum_norm(NULL, xs, 1, ys, out, &residual, NULL));
  REFUSED("factorization", swn_fast_step(NULL, shape, 1, xs, ys, w, 1, 0, out, &report, NULL));
  for (size_t n = 1; n <= 2; n++) { /* by Cholesky, then by the orthogonal decomposition */
    expect(swn_fast_factorize(n, 3 - n, xs, -1, NULL, &factorization, &info) == SWN_OK, "a factorisation");
    REFUSED("xs", swn_fast_minimum_norm(factorization, NULL, 1, xs, out, &residual, NULL));
    REFUSED("b is", swn_fast_minimum_norm(factorization, xs, 1, NULL, out, &residual, NULL));
    REFUSED("w is", swn_fast_minimum_norm(factorization, xs, 1, xs, NULL, &residual, NULL));
    REFUSED("k is", swn_fast_minimum_norm(factorization, xs, 0, xs, out, &residual, NULL));
    REFUSED("residual", swn_fast_minimum_norm(factorization, xs, 1, xs, out, NULL, NULL));
    REFUSED("changed", swn_fast_minimum_norm(factorization, others, 1, xs, out, &residual, NULL));
    FAILS(SWN_NOT_FINITE, "solution",
          swn_fast_minimum_norm(factorization, xs, 1, (double[]){NAN, 1}, out, &residual, NULL));
    REFUSED("xs is", swn_fast_step(factorization, (swn_fast_shape){4, 1}, n, xs, ys, w, 1, 0, out, &report, NULL));
    swn_fast_factorization_destroy(factorization);
  }
  expect(swn_fast_factorize(1, 2, xs, -1, NULL, &factorization, &info) == SWN_OK, "a factorisation");
  REFUSED("report", swn_fast_step(factorization, shape, 1, xs, ys, w, 1, 0, out, NULL, NULL));
  REFUSED("w_out", swn_fast_step(factorization, shape, 1, xs, ys, w, 1, 0, NULL, &report, NULL));
  REFUSED("alpha", swn_fast_step(factorization, shape, 1, xs, ys, w, NAN, 0, out, &report, NULL));
  REFUSED("r is", swn_fast_step(factorization, shape, 1, xs, ys, w, 1, -1, out, &report, NULL));
  REFUSED("r is", swn_fast_step(factorization, shape, 1, xs, ys, w, 1, INFINITY, out, &report, NULL));
  expect(swn_fast_step(factorization, shape, 1, others, ys, w, 1, 0, out, &report, NULL) == SWN_OK && report.stale &&
             isnan(report.loss),
         "other samples make the factorisation stale");
  swn_fast_factorization_destroy(factorization);
}

/* The identity with its derivatives, and how often it was asked for. */
static void line(void *context, int32_t order, size_t n, const void *a, void *const *d)
{
  ++*(int *)context;
  for (int32_t k = 0; k <= order; k++)
    for (size_t i = 0; d[k] && i < n; i++) ((double *)d[k])[i] = k == 0 ? ((const double *)a)[i] : k == 1;
}

static int32_t stop(void *context) { return *(int *)context > 0; }

static void functions(void)
{
  const size_t sizes[] = {1, 1, 1};
  const swn_activation activations[] = {{SWN_TANH, 0}, {SWN_IDENTITY, 0}};
  int asked = 0;
  const swn_function own[] = {{line, &asked}, {NULL, NULL}};
  const swn_mlp_shape shape = {SWN_FLOAT64, 2, sizes, activations, 0, SWN_SQUARED_ERROR, 0, own};
  const int64_t codes[3][SWN_CODE_LENGTH] = {
      {SWN_LAYER_DENSE, 0, 0, 0, 1}, {SWN_LAYER_ACTIVATION, 1, 0, 0, SWN_TANH}, {SWN_LAYER_DENSE, 2, 0, 1, 1}};
  const double numbers[3] = {0};
  const swn_function others[] = {{NULL, NULL}, {line, &asked}, {NULL, NULL}};
  const swn_network_shape graph = {
      SWN_FLOAT64, SWN_INPUT_VECTOR, {1, 0, 0}, 3, codes[0], numbers, 0, NULL, SWN_SQUARED_ERROR, 0, others};
  const double w[] = {2, 3}, x[] = {4}, y[] = {23};
  const swn_samples samples = {1, x, y, NULL, NULL, 1};
  for (int is_graph = 0; is_graph < 2; is_graph++) {
    swn_mlp *net = NULL;
    double gradient[2], loss = 0;
    expect((is_graph ? swn_network_create(&graph, &net) : swn_mlp_create(&shape, &net)) == SWN_OK, "a net");
    asked = 0;
    expect(swn_mlp_gradient(net, w, &samples, gradient, &loss, NULL) == SWN_OK && asked > 0, "a gradient");
    expect(loss == 0.5 && gradient[0] == 12 && gradient[1] == 8, "is that of w1 w2 x");
    asked = 0;
    const swn_control control = {stop, &asked};
    expect(swn_mlp_gradient(net, w, &samples, gradient, &loss, &control) == SWN_CANCELLED, "the poll hears of it");
    swn_mlp_destroy(net);
  }
}

static void mlp_refusals(void)
{
  const size_t sizes[] = {2, 3, 2};
  const swn_activation activations[] = {{SWN_TANH, 0}, {SWN_IDENTITY, 0}};
  const swn_mlp_shape good = {SWN_FLOAT64, 2, sizes, activations, 1, SWN_SOFTMAX_CROSS_ENTROPY, 0, NULL};
  swn_mlp *net = NULL;
  swn_mlp_shape shape = good;
  REFUSED("net", swn_mlp_create(&shape, NULL));
  REFUSED("shape", swn_mlp_create(NULL, &net));
  shape.dtype = 2;
  REFUSED("dtype", swn_mlp_create(&shape, &net));
  shape = good, shape.loss = -1;
  REFUSED("loss", swn_mlp_create(&shape, &net));
  shape = good, shape.loss = SWN_HUBER;
  REFUSED("delta", swn_mlp_create(&shape, &net));
  shape = good, shape.depth = SIZE_MAX;
  REFUSED("depth", swn_mlp_create(&shape, &net));
  shape = good, shape.sizes = NULL;
  REFUSED("sizes", swn_mlp_create(&shape, &net));
  shape.sizes = (const size_t[]){2, 0, 2};
  REFUSED("sizes[1]", swn_mlp_create(&shape, &net));
  shape.sizes = (const size_t[]){2, INT32_MAX, INT32_MAX};
  REFUSED("parameters", swn_mlp_create(&shape, &net));
  shape = good, shape.activations = NULL;
  REFUSED("activations", swn_mlp_create(&shape, &net));
  shape.activations = (const swn_activation[]){{SWN_TANH, 0}, {10, 0}};
  REFUSED("activations[1]", swn_mlp_create(&shape, &net));
  shape.activations = (const swn_activation[]){{SWN_LEAKY_RELU, NAN}, {SWN_TANH, 0}};
  REFUSED("parameter", swn_mlp_create(&shape, &net));
  expect(net == NULL, "a net that is refused leaves no handle");
  expect(swn_mlp_parameter_count(NULL) == 0 && swn_linearization_states_count(NULL) == 0, "no net, no numbers");

  enum { P = 17 };
  expect(swn_mlp_create(&good, &net) == SWN_OK && swn_mlp_parameter_count(net) == P, "a net");
  const double w[P] = {1, 2, 3}, x[4] = {1, 2, 3, 4}, y[4] = {1, 0, 0, 1};
  const int64_t labels[] = {0, 1}, beyond[] = {0, 2}, negative[] = {INT64_MIN, 0};
  double out[P * P], more[P], loss;
  const swn_samples samples = {2, x, NULL, labels, NULL, 1};
  swn_samples wrong = samples;
  const struct {
    swn_samples samples;
    const char *word;
  } bad[] = {{{0, x, NULL, labels, NULL, 1}, "n is"},          {{SIZE_MAX, x, NULL, labels, NULL, 1}, "n is"},
             {{2, NULL, NULL, labels, NULL, 1}, "x is"},       {{2, x, NULL, NULL, NULL, 1}, "targets and labels"},
             {{2, x, NULL, beyond, NULL, 1}, "labels[1] is 2"}, {{2, x, NULL, negative, NULL, 1}, "labels[0]"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const swn_samples *now = &bad[i].samples;
    const char *word = bad[i].word;
    swn_linearization *point = NULL;
    REFUSED(word, swn_mlp_loss(net, w, now, &loss, NULL));
    REFUSED(word, swn_mlp_gradient(net, w, now, out, &loss, NULL));
    REFUSED(word, swn_mlp_sample_gradients(net, w, now, out, NULL));
    REFUSED(word, swn_mlp_product(net, SWN_HESSIAN, w, now, 1, w, out, NULL));
    REFUSED(word, swn_mlp_dense(net, SWN_HESSIAN, w, now, -1, -1, out, NULL));
    REFUSED(word, swn_mlp_diagonal(net, SWN_HESSIAN, w, now, out, NULL));
    REFUSED(word, swn_mlp_taylor(net, w, now, 1, w, out, &loss, NULL));
    REFUSED(word, swn_mlp_multilinear(net, w, now, w, NULL, 1, w, out, NULL));
    REFUSED(word, swn_linearize(net, w, now, out, &loss, &point, NULL));
    expect(!point, "what is refused leaves no handle");
    if (i > 2) continue; /* the rest needs no targets */
    REFUSED(word, swn_mlp_predict(net, w, now, out, NULL));
    REFUSED(word, swn_mlp_jvp(net, w, now, 1, w, out, NULL));
    REFUSED(word, swn_mlp_vjp(net, w, now, 1, w, out, NULL));
    REFUSED(word, swn_mlp_jacobian(net, w, now, out, NULL));
  }
  REFUSED("samples", swn_mlp_loss(net, w, NULL, &loss, NULL));
  REFUSED("net", swn_mlp_loss(NULL, w, &samples, &loss, NULL));
  REFUSED("loss", swn_mlp_loss(net, w, &samples, NULL, NULL));
  REFUSED("w is", swn_mlp_predict(net, NULL, &samples, out, NULL));
  REFUSED("out", swn_mlp_predict(net, w, &samples, NULL, NULL));
  REFUSED("gradient", swn_mlp_gradient(net, w, &samples, NULL, &loss, NULL));
  REFUSED("loss", swn_mlp_gradient(net, w, &samples, out, NULL, NULL));
  REFUSED("out", swn_mlp_sample_gradients(net, w, &samples, NULL, NULL));
  REFUSED("kind", swn_mlp_product(net, 3, w, &samples, 1, w, out, NULL));
  REFUSED("k is", swn_mlp_product(net, 0, w, &samples, 0, w, out, NULL));
  REFUSED("k is", swn_mlp_product(net, 0, w, &samples, SIZE_MAX, w, out, NULL));
  REFUSED("v is", swn_mlp_product(net, 0, w, &samples, 1, NULL, out, NULL));
  REFUSED("kind", swn_mlp_dense(net, -1, w, &samples, -1, -1, out, NULL));
  REFUSED("block", swn_mlp_dense(net, 0, w, &samples, 2, 0, out, NULL));
  REFUSED("block", swn_mlp_dense(net, 0, w, &samples, 0, 1, out, NULL));
  REFUSED("block", swn_mlp_dense(net, 0, w, &samples, 1, -1, out, NULL));
  REFUSED("out", swn_mlp_dense(net, 0, w, &samples, -1, -1, NULL, NULL));
  size_t rows, columns;
  REFUSED("block", swn_mlp_block_shape(net, 2, 0, &rows, &columns));
  REFUSED("block", swn_mlp_block_shape(net, -1, 0, &rows, &columns));
  REFUSED("rows", swn_mlp_block_shape(net, 1, 0, NULL, &columns));
  REFUSED("columns", swn_mlp_block_shape(net, 1, 0, &rows, NULL));
  REFUSED("kind", swn_mlp_diagonal(net, 3, w, &samples, out, NULL));
  REFUSED("v is", swn_mlp_jvp(net, w, &samples, 1, NULL, out, NULL));
  REFUSED("u is", swn_mlp_vjp(net, w, &samples, 1, NULL, out, NULL));
  REFUSED("out", swn_mlp_jacobian(net, w, &samples, NULL, NULL));
  REFUSED("order", swn_mlp_taylor(net, w, &samples, 4, w, out, &loss, NULL));
  REFUSED("order", swn_mlp_taylor(net, w, &samples, -1, w, out, &loss, NULL));
  REFUSED("loss", swn_mlp_taylor(net, w, &samples, 1, w, out, NULL, NULL));
  REFUSED("u is", swn_mlp_multilinear(net, w, &samples, NULL, NULL, 1, w, out, NULL));
  REFUSED("linearization", swn_linearize(net, w, &samples, out, &loss, NULL, NULL));

  swn_linearization *point = NULL;
  expect(swn_linearize(net, w, &samples, out, &loss, &point, NULL) == SWN_OK, "a linearisation");
  REFUSED("u is", swn_linearization_third(point, NULL, 1, w, out, NULL));
  REFUSED("v is", swn_linearization_third(point, w, 1, NULL, out, NULL));
  REFUSED("k is", swn_linearization_third(point, w, 0, w, out, NULL));
  REFUSED("k is", swn_linearization_third(point, w, SIZE_MAX, w, out, NULL));
  REFUSED("out", swn_linearization_third(point, w, 1, w, NULL, NULL));
  REFUSED("linearization", swn_linearization_third(NULL, w, 1, w, out, NULL));
  REFUSED("u is", swn_linearization_thirds(point, 1, NULL, out, NULL));
  REFUSED("k is", swn_linearization_thirds(point, 0, w, out, NULL));
  REFUSED("k is", swn_linearization_thirds(point, SIZE_MAX, w, out, NULL));
  REFUSED("out", swn_linearization_thirds(point, 1, w, NULL, NULL));
  REFUSED("linearization", swn_linearization_thirds(NULL, 1, w, out, NULL));
  REFUSED("kind", swn_linearization_lanczos(point, 3, 0, 1, 1, w, out, more, NULL));
  REFUSED("steps", swn_linearization_lanczos(point, 0, 0, 1, 0, w, out, more, NULL));
  REFUSED("steps", swn_linearization_lanczos(point, 0, 0, 1, SIZE_MAX, w, out, more, NULL));
  REFUSED("starts", swn_linearization_lanczos(point, 0, 0, 1, 1, NULL, out, more, NULL));
  REFUSED("off_diagonal", swn_linearization_lanczos(point, 0, 0, 1, 1, w, out, NULL, NULL));
  size_t mix_count, factor_count;
  REFUSED("mix", swn_linearization_factor_counts(point, NULL, &factor_count));
  REFUSED("factors", swn_linearization_factor_counts(point, &mix_count, NULL));
  REFUSED("linearization", swn_linearization_factor_counts(NULL, &mix_count, &factor_count));
  REFUSED("mix", swn_linearization_factors(point, NULL, out, NULL));
  REFUSED("out", swn_linearization_factors(point, w, NULL, NULL));
  REFUSED("linearization", swn_linearization_factors(NULL, w, out, NULL));
  expect(swn_linearization_states_count(point) == 2 * 26, "the numbers of two samples");
  REFUSED("out", swn_linearization_states(point, NULL, NULL));
  REFUSED("linearization", swn_linearization_states(NULL, out, NULL));
  const double zeros[P] = {0}, nans[P] = {NAN};
  REFUSED("start", swn_linearization_lanczos(point, 0, 0, 1, 1, zeros, out, more, NULL));
  FAILS(SWN_NOT_FINITE, "start", swn_linearization_lanczos(point, 0, 0, 1, 1, nans, out, more, NULL));
  expect(swn_linearization_lanczos(point, 0, 0, 1, 1, w, out, more, NULL) == SWN_OK, "a run after runs that failed");
  swn_linearization_destroy(point);
  swn_mlp_destroy(net);

  /* Labels where the loss takes none, and float32 where only float64 will do. */
  shape = good, shape.loss = SWN_SQUARED_ERROR, shape.dtype = SWN_FLOAT32;
  expect(swn_mlp_create(&shape, &net) == SWN_OK, "a float32 net");
  swn_layered *layered = NULL;
  swn_factor_info info;
  REFUSED("labels", swn_mlp_loss(net, w, &samples, &loss, NULL));
  wrong.labels = NULL, wrong.targets = y;
  expect(swn_linearize(net, w, &wrong, out, &loss, &point, NULL) == SWN_OK, "its linearisation");
  REFUSED("float32", swn_linearization_states(point, out, NULL));
  REFUSED("float32", swn_layered_create(point, 0, 0, 1, 0, &layered, &info, NULL));
  expect(!layered, "what is refused leaves no handle");
  swn_linearization_destroy(point);
  swn_mlp_destroy(net);
}

static void network_by_hand(void)
{
  /* A convolution of a 1 by 2 image with a 1 by 1 kernel, then the mean: w (3 + 4) / 2 + b. */
  const int64_t codes[2][SWN_CODE_LENGTH] = {
      {SWN_LAYER_CONVOLUTION, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1}, {SWN_LAYER_GLOBAL_AVERAGE_POOL, 1}};
  const double numbers[2] = {0}, xs[] = {3, 4}, w[] = {2, 1}, target = 10, v[] = {1, 0};
  const swn_network_shape good = {
      .dtype = SWN_FLOAT64, .input_kind = SWN_INPUT_IMAGE, .input = {1, 1, 2}, .layers = 2, .codes = codes[0],
      .numbers = numbers, .loss = SWN_SQUARED_ERROR};
  const swn_samples samples = {1, xs, &target, NULL, NULL, 1};
  double loss = 0, out[4] = {0};
  size_t rows = 0, columns = 0;
  swn_mlp *net = NULL;
  expect(swn_network_create(&good, &net) == SWN_OK && swn_mlp_parameter_count(net) == 2, "a net of two parameters");
  expect(swn_mlp_input_count(net) == 2 && swn_mlp_output_count(net) == 1, "two numbers in, one out");
  expect(swn_mlp_predict(net, w, &samples, out, NULL) == SWN_OK && near(out[0], 8), "the output is 2 * 3.5 + 1");
  expect(swn_mlp_gradient(net, w, &samples, out, &loss, NULL) == SWN_OK && near(loss, 2), "the loss is 2²/2");
  expect(near(out[0], -7) && near(out[1], -2), "the gradient is the residual times inputs");
  expect(swn_mlp_product(net, SWN_HESSIAN, w, &samples, 1, v, out, NULL) == SWN_OK, "a Hessian product");
  expect(near(out[0], 12.25) && near(out[1], 3.5), "the Hessian is the inputs' outer product");
  expect(swn_mlp_block_shape(net, 0, 0, &rows, &columns) == SWN_OK && rows == 2 && columns == 2, "one block");
  swn_layered_sizes plan;
  expect(swn_layered_plan(net, 1, 0, SWN_FORM_AUTOMATIC, &plan) == SWN_INVALID_ARGUMENT, "layers are no dense ones");
  swn_mlp_destroy(net);

  swn_network_shape shape = good;
  REFUSED("net", swn_network_create(&shape, NULL));
  REFUSED("shape", swn_network_create(NULL, &net));
  shape.dtype = 2;
  REFUSED("dtype", swn_network_create(&shape, &net));
  shape = good, shape.loss = 4;
  REFUSED("loss", swn_network_create(&shape, &net));
  shape = good, shape.loss = SWN_HUBER;
  REFUSED("delta", swn_network_create(&shape, &net));
  shape = good, shape.input_kind = 4;
  REFUSED("input_kind", swn_network_create(&shape, &net));
  shape = good, shape.input[2] = 0;
  REFUSED("input[2]", swn_network_create(&shape, &net));
  shape = good, shape.layers = SIZE_MAX;
  REFUSED("layers", swn_network_create(&shape, &net));
  shape = good, shape.codes = NULL;
  REFUSED("codes", swn_network_create(&shape, &net));
  shape = good, shape.numbers = NULL;
  REFUSED("numbers", swn_network_create(&shape, &net));
  shape = good, shape.statistics_count = 3;
  REFUSED("statistics", swn_network_create(&shape, &net));
  shape.statistics_count = SIZE_MAX;
  REFUSED("statistics_count", swn_network_create(&shape, &net));
  const int64_t norm[1][SWN_CODE_LENGTH] = {{SWN_LAYER_FROZEN_BATCH_NORM, 0, 0, 0, 1, 2}};
  shape = good, shape.layers = 1, shape.codes = norm[0];
  REFUSED("too few", swn_network_create(&shape, &net));
  shape.statistics_count = 4;
  REFUSED("statistics is NULL", swn_network_create(&shape, &net));
  const int64_t unknown[1][SWN_CODE_LENGTH] = {{15}};
  shape = good, shape.layers = 1, shape.codes = unknown[0];
  REFUSED("kind of layer 0", swn_network_create(&shape, &net));
}

static void factorization_refusals(void)
{
  const size_t sizes[] = {1, 1, 1};
  const swn_activation activations[] = {{SWN_SINE, 0}, {SWN_IDENTITY, 0}};
  const swn_mlp_shape shape = {SWN_FLOAT64, 2, sizes, activations, 0, SWN_SQUARED_ERROR, 0, NULL};
  swn_mlp *net = NULL;
  expect(swn_mlp_create(&shape, &net) == SWN_OK, "a net");
  const double xs[] = {1}, ys[] = {2}, ws[] = {0.5, 0.5}, bad[] = {NAN, 1};
  const swn_samples samples = {1, xs, ys, NULL, NULL, 1};
  double out[4], more[4];
  swn_layered *layered = NULL;
  swn_layered_sizes plan;
  swn_factor_info info;
  REFUSED("net", swn_layered_plan(NULL, 1, 0, 0, &plan));
  REFUSED("n is", swn_layered_plan(net, 0, 0, 0, &plan));
  REFUSED("form", swn_layered_plan(net, 1, 0, 3, &plan));
  REFUSED("plan", swn_layered_plan(net, 1, 0, 0, NULL));
  for (int32_t form = 0; form < 3; form++) {
    swn_status status = swn_layered_plan(net, INT32_MAX, 1, form, &plan);
    expect(status == SWN_OK || status == SWN_OUT_OF_MEMORY || status == SWN_INVALID_ARGUMENT,
           "a plan for very many samples is made or refused");
  }
  swn_linearization *point = NULL, *nowhere = NULL;
  double loss;
  expect(swn_linearize(net, ws, &samples, out, &loss, &point, NULL) == SWN_OK, "a linearisation");
  expect(swn_linearize(net, bad, &samples, out, &loss, &nowhere, NULL) == SWN_OK, "one that is not finite");
  REFUSED("linearization", swn_layered_create(NULL, 0, 0, 1, 0, &layered, &info, NULL));
  REFUSED("factorization", swn_layered_create(point, 0, 0, 1, 0, NULL, &info, NULL));
  REFUSED("info", swn_layered_create(point, 0, 0, 1, 0, &layered, NULL, NULL));
  REFUSED("form", swn_layered_create(point, -1, 0, 1, 0, &layered, &info, NULL));
  REFUSED("shift", swn_layered_create(point, 0, 0, NAN, 0, &layered, &info, NULL));
  REFUSED("shift", swn_layered_create(point, 0, 1, 1, INFINITY, &layered, &info, NULL));
  FAILS(SWN_NOT_FINITE, "finite", swn_layered_create(nowhere, 0, 0, 1, 0, &layered, &info, NULL));
  expect(layered == NULL, "a factorisation that failed leaves no handle");
  REFUSED("factorization", swn_layered_update(NULL, 0, 1, 0, &info, NULL));
  REFUSED("factorization", swn_layered_solve(NULL, 1, ws, NULL, out, NULL, NULL));
  expect(swn_layered_create(point, 0, 0, 4, 0, &layered, &info, NULL) == SWN_OK, "a real factorisation");
  REFUSED("info", swn_layered_update(layered, 0, 1, 0, NULL, NULL));
  REFUSED("k is", swn_layered_solve(layered, 0, ws, NULL, out, NULL, NULL));
  REFUSED("b is", swn_layered_solve(layered, 1, NULL, NULL, out, NULL, NULL));
  REFUSED("x is", swn_layered_solve(layered, 1, ws, NULL, NULL, NULL, NULL));
  REFUSED("real", swn_layered_solve(layered, 1, ws, NULL, out, more, NULL));
  REFUSED("", swn_layered_update(layered, 1, 1, 1, &info, NULL));
  REFUSED("shift", swn_layered_update(layered, 0, NAN, 0, &info, NULL));
  expect(swn_layered_update(layered, 0, 5, 0, &info, NULL) == SWN_OK &&
             swn_layered_solve(layered, 1, ws, NULL, out, NULL, NULL) == SWN_OK,
         "the next update has factors again");
  swn_layered_destroy(layered);
  expect(swn_layered_create(point, 0, 1, 4, 1, &layered, &info, NULL) == SWN_OK && !info.known,
         "a complex factorisation");
  swn_linearization_destroy(point);
  swn_linearization_destroy(nowhere);
  REFUSED("imaginary", swn_layered_solve(layered, 1, ws, NULL, out, NULL, NULL));
  expect(swn_layered_solve(layered, 1, ws, NULL, out, more, NULL) == SWN_OK, "a complex solution");
  double trace, logarithm;
  REFUSED("tiny", swn_layered_trace_of_inverse(layered, &trace, &logarithm, NULL));
  expect(swn_layered_update(layered, 1, 4, 0x1p-100, &info, NULL) == SWN_OK, "a complex step");
  expect(swn_layered_trace_of_inverse(layered, &trace, &logarithm, NULL) == SWN_OK && trace > 0 && isfinite(logarithm),
         "the trace of an inverse");
  REFUSED("trace", swn_layered_trace_of_inverse(layered, NULL, &logarithm, NULL));
  REFUSED("log_determinant", swn_layered_trace_of_inverse(layered, &trace, NULL, NULL));
  REFUSED("factorization", swn_layered_trace_of_inverse(NULL, &trace, &logarithm, NULL));
  swn_layered_destroy(layered);
  swn_mlp_destroy(net);

  swn_dense *dense = NULL;
  const double matrix[] = {4, 1, 1, 3};
  REFUSED("n is", swn_dense_create(0, matrix, 0, &dense, &info, NULL));
  REFUSED("matrix would have", swn_dense_create(INT32_MAX, matrix, 0, &dense, &info, NULL));
  REFUSED("matrix", swn_dense_create(2, NULL, 0, &dense, &info, NULL));
  REFUSED("shift", swn_dense_create(2, matrix, INFINITY, &dense, &info, NULL));
  REFUSED("factorization", swn_dense_create(2, matrix, 0, NULL, &info, NULL));
  REFUSED("n is", swn_dense_trace_of_inverse(0, matrix, 0, 1e-30, &trace, &logarithm, NULL));
  REFUSED("matrix would have", swn_dense_trace_of_inverse(INT32_MAX, matrix, 0, 1e-30, &trace, &logarithm, NULL));
  REFUSED("matrix", swn_dense_trace_of_inverse(2, NULL, 0, 1e-30, &trace, &logarithm, NULL));
  REFUSED("step", swn_dense_trace_of_inverse(2, matrix, 0, 0, &trace, &logarithm, NULL));
  REFUSED("step", swn_dense_trace_of_inverse(2, matrix, 0, 1, &trace, &logarithm, NULL));
  REFUSED("shift", swn_dense_trace_of_inverse(2, matrix, NAN, 1e-30, &trace, &logarithm, NULL));
  REFUSED("trace", swn_dense_trace_of_inverse(2, matrix, 0, 1e-30, NULL, &logarithm, NULL));
  FAILS(SWN_NOT_FINITE, "matrix", swn_dense_trace_of_inverse(2, (double[]){1, INFINITY, 0, 1}, 0, 1e-30, &trace,
                                                             &logarithm, NULL));
  FAILS(SWN_NUMERICAL, "range", swn_dense_trace_of_inverse(2, (double[]){1, 1, 1, 1}, 0, 0x1p-100, &trace, &logarithm,
                                                           NULL));
  REFUSED("info", swn_dense_create(2, matrix, 0, &dense, NULL, NULL));
  FAILS(SWN_NOT_FINITE, "matrix", swn_dense_create(2, (double[]){1, INFINITY, 0, 1}, 0, &dense, &info, NULL));
  expect(dense == NULL, "a factorisation that failed leaves no handle");
  REFUSED("factorization", swn_dense_update(NULL, 1, &info, NULL));
  REFUSED("factorization", swn_dense_solve(NULL, 1, ws, out, NULL));
  expect(swn_dense_create(2, matrix, 0, &dense, &info, NULL) == SWN_OK && info.positive_definite, "a positive one");
  REFUSED("b is", swn_dense_solve(dense, 1, NULL, out, NULL));
  REFUSED("x is", swn_dense_solve(dense, 1, ws, NULL, NULL));
  REFUSED("k is", swn_dense_solve(dense, 0, ws, out, NULL));
  FAILS(SWN_NUMERICAL, "solve", swn_dense_solve(dense, 1, bad, out, NULL));
  REFUSED("info", swn_dense_update(dense, 1, NULL, NULL));
  const double root = (7 - sqrt(5)) / 2; /* an eigenvalue */
  FAILS(SWN_NUMERICAL, "singular", swn_dense_update(dense, -root, &info, NULL));
  FAILS(SWN_NUMERICAL, "no factorisation", swn_dense_solve(dense, 1, ws, out, NULL));
  expect(swn_dense_update(dense, 1, &info, NULL) == SWN_OK && swn_dense_solve(dense, 1, ws, out, NULL) == SWN_OK,
         "the next update has factors again");
  swn_dense_destroy(dense);
  swn_dense_destroy(NULL);
}

/* ---- a poll that calls for the object that the call under it is working on ---------------------------------------- */

typedef struct {
  swn_linearization *point;
  swn_dense *dense;
  swn_layered *layered;
  swn_slow_workspace *workspace;
  double b[256], out[256];
  int asked, is_solving;
} Interrupted;

static int32_t interrupt(void *context)
{
  Interrupted *now = context;
  swn_factor_info info;
  if (now->asked++) return 0;
  if (now->point) {
    swn_layered *made = NULL;
    FAILS(SWN_BUSY, "in use", swn_linearization_product(now->point, 0, 1, now->b, now->out, NULL));
    FAILS(SWN_BUSY, "in use", swn_linearization_states(now->point, now->out, NULL));
    FAILS(SWN_BUSY, "in use", swn_layered_create(now->point, 0, 0, 1, 0, &made, &info, NULL));
    expect(!made, "what is refused leaves no handle");
  }
  if (now->dense) {
    FAILS(SWN_BUSY, "in use", swn_dense_update(now->dense, 1, &info, NULL));
    swn_status nested = swn_dense_solve(now->dense, 1, now->b, now->out, NULL);
    expect(nested == (now->is_solving ? SWN_OK : SWN_BUSY), "a solve within a solve, and none within an update");
  }
  if (now->layered) {
    FAILS(SWN_BUSY, "in use", swn_layered_update(now->layered, 0, 1, 0, &info, NULL));
    swn_status nested = swn_layered_solve(now->layered, 1, now->b, NULL, now->out, NULL, NULL);
    expect(nested == (now->is_solving ? SWN_OK : SWN_BUSY), "a solve within a solve, and none within an update");
  }
  if (now->workspace) {
    const swn_slow_shape shape = {1, 1, 1};
    swn_slow_report report;
    FAILS(SWN_BUSY, "in use", swn_slow_step(now->workspace, shape, 1, now->b, now->b, now->b, now->b, 1, 1, 0, now->out,
                                           now->out + 1, &report, NULL));
  }
  return 0;
}

static void objects_in_use_are_busy(void)
{
  enum { P = 4 * 8 + 8 + 8 * 2 + 2, N = 6 };
  const size_t sizes[] = {4, 8, 2};
  const swn_activation activations[] = {{SWN_TANH, 0}, {SWN_IDENTITY, 0}};
  const swn_mlp_shape shape = {SWN_FLOAT64, 2, sizes, activations, 1, SWN_SQUARED_ERROR, 0, NULL};
  Random random = {1};
  double *w = numbers(&random, P), *x = numbers(&random, N * 4), *y = numbers(&random, N * 2), loss;
  double *matrix = numbers(&random, P * P), *out = numbers(&random, P), *exact = numbers(&random, N * 46);
  const swn_samples samples = {N, x, y, NULL, NULL, 1};
  swn_mlp *net = NULL;
  swn_factor_info info;
  Interrupted now = {NULL, NULL, NULL, NULL, {0}, {0}, 0, 0};
  const swn_control control = {interrupt, &now};
  for (int i = 0; i < 256; i++) now.b[i] = uniform(&random);
  expect(swn_mlp_create(&shape, &net) == SWN_OK, "a net");
  expect(swn_linearize(net, w, &samples, out, &loss, &now.point, NULL) == SWN_OK, "a linearisation");
  expect(swn_linearization_product(now.point, SWN_HESSIAN, 1, w, out, &control) == SWN_OK && now.asked, "a product");
  swn_linearization *point = now.point;
  now.asked = 0;
  expect(swn_linearization_states(point, exact, &control) == SWN_OK && now.asked, "the layers' states");
  now.point = NULL;
  expect(swn_mlp_dense(net, SWN_HESSIAN, w, &samples, -1, -1, matrix, NULL) == SWN_OK, "a Hessian");
  expect(swn_dense_create(P, matrix, 1, &now.dense, &info, NULL) == SWN_OK, "a dense factorisation");
  expect(swn_layered_create(point, 0, 0, 1, 0, &now.layered, &info, NULL) == SWN_OK, "a layered one");
  swn_linearization_destroy(point);
  swn_layered *layered = now.layered;
  now.layered = NULL, now.asked = 0;
  expect(swn_dense_update(now.dense, 2, &info, &control) == SWN_OK && now.asked, "an update");
  now.asked = 0, now.is_solving = 1;
  expect(swn_dense_solve(now.dense, 1, w, out, &control) == SWN_OK && now.asked, "a solve");
  swn_dense_destroy(now.dense);
  now.dense = NULL, now.layered = layered, now.asked = 0, now.is_solving = 0;
  expect(swn_layered_update(layered, 0, 2, 0, &info, &control) == SWN_OK && now.asked, "an update");
  now.asked = 0, now.is_solving = 1;
  expect(swn_layered_solve(layered, 1, w, NULL, out, NULL, &control) == SWN_OK && now.asked, "a solve");
  swn_layered_destroy(layered);
  now.layered = NULL, now.asked = 0;
  expect(swn_slow_workspace_create(&now.workspace) == SWN_OK, "a workspace");
  swn_slow_report report;
  expect(swn_slow_step(now.workspace, (swn_slow_shape){4, 3, 2}, N, x, y, w, w, 1, 1, SWN_SLOW_DENSE, out, out + 12, &report,
                       &control) == SWN_OK && now.asked,
         "a step");
  swn_slow_workspace_destroy(now.workspace);
  swn_mlp_destroy(net);
  free(w);
  free(x);
  free(y);
  free(matrix);
  free(out);
  free(exact);
}

int main(void)
{
  expect(strlen(swn_version()) >= strlen("0.0.0"), "a version");
  slow_by_hand();
  fast_by_hand();
  mlp_by_hand();
  vectors_take_steps();
  failures_have_a_status_and_a_message();
  slow_refusals();
  fast_refusals();
  functions();
  mlp_refusals();
  network_by_hand();
  factorization_refusals();
  objects_in_use_are_busy();
  if (!failures) puts(swn_version());
  return failures != 0;
}
