/* The two nets of the paper: losses, gradients, Hessian blocks and steps of both. And steps of optimisers. */
#include "abi.h"

/* Sizes of a slow_net; absurd where one of its arrays cannot exist. */
static int is_impossible(size_t a, size_t b) { return a > 0 && b > ((size_t)1 << 47) / a; }

static void slow(void)
{
  swn_slow_shape s = {small(24), small(12), small(10)};
  size_t n = small(120);
  if (seldom(8)) {
    size_t *sizes[] = {&s.insize, &s.hidsize, &s.outsize, &n};
    *sizes[pick(4)] = large();
    *sizes[pick(4)] = large();
    if (seldom(2)) *sizes[pick(4)] = impossible();
    absurd = 1;
    int refused = 0;
    for (int i = 0; i < 4; i++) refused |= *sizes[i] == 0 || *sizes[i] > INT32_MAX;
    refused |= is_impossible(s.insize, s.hidsize) || is_impossible(s.hidsize, s.outsize) ||
               is_impossible(n, s.insize) || is_impossible(n, s.outsize);
    if (!refused) return;
  }
  size_t first = s.insize * s.hidsize, second = s.hidsize * s.outsize;
  const double *xs = input(n * s.insize, SCALAR64), *ys = input(n * s.outsize, SCALAR64);
  const double *w1 = input(first, SCALAR64), *w2 = input(second, SCALAR64);
  double loss;
  swn_slow_report report;
  swn_slow_workspace *workspace = NULL;
  switch (pick(6)) {
    case 0: checked(swn_slow_loss(s, n, xs, ys, w1, w2, or_null(&loss), control())); break;
    case 1: checked(swn_slow_predict(s, n, xs, w1, w2, output(n * s.outsize, SCALAR64), control())); break;
    case 2:
      checked(swn_slow_gradient(
          s, n, xs, ys, w1, w2, output(first, SCALAR64), output(second, SCALAR64), or_null(&loss), control()));
      break;
    case 3: {
      int32_t layer = seldom(16) ? (int32_t)word() : 1 + (int32_t)pick(2);
      size_t side = layer == 1 ? first : second;
      checked(swn_slow_hessian_block(s, n, xs, w1, w2, layer, output(side * side, SCALAR64), control()));
      break;
    }
    default:
      must((swn_slow_workspace_create(seldom(97) ? NULL : &workspace) == SWN_OK) == (workspace != NULL), "a workspace");
      for (unsigned steps = 1 + pick(2); steps; steps--) {
        double alpha = number(), damping = seldom(4) ? number() : 0.125 * (1 + pick(64));
        int32_t method = seldom(16) ? (int32_t)word() : (int32_t)pick(2);
        if (!absurd && first > 80) method = SWN_SLOW_STRUCTURED;
        checked(swn_slow_step(
            seldom(97) ? NULL : workspace, s, n, xs, ys, w1, w2, alpha, damping, method, output(first, SCALAR64),
            output(second, SCALAR64), or_null(&report), control()));
      }
      swn_slow_workspace_destroy(workspace);
  }
}

static void fast(void)
{
  size_t n = small(60), k = small(12);
  swn_fast_shape s = {small(60), k};
  if (seldom(8)) {
    size_t *sizes[] = {&s.insize, &s.outsize, &n};
    *sizes[pick(3)] = large();
    *sizes[pick(3)] = seldom(2) ? impossible() : large();
    absurd = 1;
    int refused = is_impossible(n, s.insize) || is_impossible(n, s.outsize) || is_impossible(s.insize, s.outsize);
    for (int i = 0; i < 3; i++) refused |= *sizes[i] == 0 || *sizes[i] > INT32_MAX;
    if (!refused) return;
  }
  const double *xs = input(n * s.insize, SCALAR64), *ys = input(n * s.outsize, SCALAR64);
  const double *w = input(s.insize * s.outsize, SCALAR64);
  double value;
  switch (pick(5)) {
    case 0: checked(swn_fast_loss(s, n, xs, ys, w, or_null(&value), control())); return;
    case 1: checked(swn_fast_predict(s, n, xs, w, output(n * s.outsize, SCALAR64), control())); return;
    default: break;
  }
  swn_fast_factorization *made = NULL;
  swn_fast_factorization_info info;
  int was = absurd;
  absurd = n == 0 || n > INT32_MAX || s.insize == 0 || s.insize > INT32_MAX || is_impossible(n, s.insize);
  if (was && !absurd) return;
  swn_status status = checked(swn_fast_factorize(
      n, s.insize, xs, seldom(3) ? number() : -1, control(), seldom(97) ? NULL : &made, or_null(&info)));
  must((status == SWN_OK) == (made != NULL), "a factorisation, or a reason");
  if (!made) return;
  for (unsigned calls = 1 + pick(3); calls; calls--) {
    /* Now and then other inputs than those factorised: they are refused, or told as stale. */
    const double *given = seldom(8) ? input(n * s.insize, SCALAR64) : xs;
    if (seldom(2)) {
      size_t columns = seldom(16) ? impossible() : k;
      absurd = columns == 0 || columns > INT32_MAX;
      checked(swn_fast_minimum_norm(
          made, given, columns, input(n * columns, SCALAR64), output(s.insize * columns, SCALAR64), or_null(&value),
          control()));
      absurd = 0;
    } else {
      swn_fast_report report;
      swn_fast_shape shape = s;
      size_t samples = n;
      /* Another shape than was factorised is refused. */
      if (seldom(32)) {
        if (seldom(2)) shape.insize = impossible();
        else samples = impossible();
        absurd = 1;
      }
      checked(swn_fast_step(
          made, shape, samples, given, ys, w, number(), seldom(2) ? number() : 0, output(s.insize * s.outsize, SCALAR64),
          or_null(&report), control()));
      absurd = 0;
    }
  }
  swn_fast_factorization_destroy(made);
}

static void steps(void)
{
  int32_t dtype = seldom(32) ? (int32_t)word() : (int32_t)pick(2);
  int scalar = dtype == SWN_FLOAT32 ? SCALAR32 : SCALAR64;
  size_t n = seldom(8) ? 5000 + small(9000) : small(80);
  if (seldom(16)) {
    n = impossible();
    absurd = 1;
    if (n <= (size_t)1 << 59) return;
  }
  const void *a[4];
  for (int i = 0; i < 4; i++) a[i] = input(n, scalar);
  double squares[2];
  swn_adam_factors f = {number(), number(), number(), number(), number(), number(), number(), number()};
  switch (pick(4)) {
    case 0: checked(swn_descend(dtype, n, number(), a[0], a[1], output(n, scalar), or_null(squares), control())); break;
    case 1:
      checked(swn_momentum(
          dtype, n, number(), number(), (int32_t)pick(2), a[0], a[1], a[2], output(n, scalar), output(n, scalar),
          or_null(squares), control()));
      break;
    case 2:
      checked(swn_adam(
          dtype, n, or_null(&f), a[0], a[1], a[2], a[3], output(n, scalar), output(n, scalar), output(n, scalar),
          or_null(squares), control()));
      break;
    default: checked(swn_square_sum(dtype, n, a[0], or_null(squares), control()));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  begin(data, size);
  for (unsigned calls = 1 + pick(3); calls; calls--) {
    absurd = 0;
    switch (pick(3)) {
      case 0: slow(); break;
      case 1: fast(); break;
      default: steps();
    }
    free_arrays();
  }
  swn_slow_workspace_destroy(NULL);
  swn_fast_factorization_destroy(NULL);
  return 0;
}
