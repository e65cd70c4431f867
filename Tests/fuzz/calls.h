/* Every function that takes a net, whichever layers it has: the targets abi_mlp and abi_network make one. */
#ifndef SWIFTNETS_FUZZ_CALLS_H
#define SWIFTNETS_FUZZ_CALLS_H

#include "abi.h"

/* The net, and what its maker knows of it. */
static struct {
  swn_mlp *net;
  size_t inputs, outputs, count /* parameters */, blocks;
  size_t work;       /* multiplications of a pass over one sample, about */
  size_t states;     /* numbers of a linearisation's states, for each sample: 0 where the layers are not all dense */
  size_t vocabulary; /* of a net that takes tokens, else 0 */
  int scalar, softmax;
  int is_large; /* its arrays do not fit */
  int is_unfit; /* what it keeps of one sample does not fit, though its arrays do */
  int takes_any; /* has passes over any number of samples in bounded memory */
} m;

static swn_samples samples_of(size_t n, int with_targets)
{
  const void *x = m.vocabulary ? or_null(labels(n * m.inputs, m.vocabulary)) : input(n * m.inputs, m.scalar);
  swn_samples s = {.n = n, .x = x, .scale = seldom(4) ? number() : 1};
  unsigned kind = with_targets ? byte() : byte() % 4;
  if (m.softmax && kind % 2 == 0) {
    s.labels = labels(n, m.outputs);
  } else if (with_targets || kind == 3) {
    s.targets = kind < 250 ? input(n * m.outputs, m.scalar) : NULL;
  }
  if (kind == 249) s.labels = labels(n, m.outputs);
  if (seldom(3)) s.weights = input(n, m.scalar);
  return s;
}

static swn_linearization *linearized(const void *w, const swn_samples *s)
{
  swn_linearization *made = NULL;
  double loss;
  swn_status status =
      checked(swn_linearize(m.net, w, s, output(m.count, m.scalar), or_null(&loss), seldom(97) ? NULL : &made, control()));
  must((status == SWN_OK) == (made != NULL), "a linearisation, or a reason");
  return made;
}

/* A call with samples. Sizes are such that it takes a fraction of a second. */
static void call(unsigned which)
{
  const size_t most = absurd ? SIZE_MAX : 300000;
  int takes_k = which == 5 || which == 6 || which == 7 || which == 12;
  size_t n = seldom(12) ? 200 + 4 * byte() : small(40), k = 1 + pick(5);
  if (absurd) {
    size_t *one = takes_k && seldom(2) ? &k : &n, each = one == &k ? m.count : m.inputs > m.outputs ? m.inputs : m.outputs;
    *one = seldom(2) && each >= (size_t)1 << 20 && !m.takes_any ? INT32_MAX : impossible();
  }
  int plain = which <= 1 || (which >= 6 && which <= 8) || which == 14;
  if (!absurd && (n * m.work > 600000 || n * m.inputs > most || n * m.outputs * m.work * k > 4000000)) n = 1 + n % 3;
  if (!absurd && n * m.outputs * m.work * k > 4000000) {
    /* Passes over one large sample, and refusals of one that is too large. */
    if (!m.takes_any || which == 1 || which == 9 || which == 14 || m.count > 1 << 20) return;
    if (!m.is_unfit && (m.work * m.outputs > 10000000 || (which != 0 && which != 2 && which != 3 && which != 11))) return;
    n = k = 1;
  }
  /* Without structure of their own these are as many products as there are parameters. */
  if (m.takes_any && !absurd && !m.is_unfit && (which == 9 || which == 10)) {
    if (n * m.work * m.count > 20000000) n = 1;
    if (m.work * m.count > 200000000) return;
  }
  int32_t kind = seldom(32) ? (int32_t)word() : (int32_t)pick(3);
  int32_t order = seldom(16) ? (int32_t)word() : (int32_t)pick(4);
  const void *w = input(m.count, m.scalar);
  swn_samples s = samples_of(n, !plain);
  const swn_samples *given = or_null(&s);
  const swn_control *c = control();
  double loss;
  swn_linearization *point;
  switch (which) {
    case 0: checked(swn_mlp_predict(m.net, w, given, output(n * m.outputs, m.scalar), c)); break;
    case 1:
      if (!absurd && m.count > 3000) break;
      checked(swn_mlp_jacobian(m.net, w, given, output(n * m.outputs * m.count, m.scalar), c));
      break;
    case 2: checked(swn_mlp_loss(m.net, w, given, or_null(&loss), c)); break;
    case 3: checked(swn_mlp_gradient(m.net, w, given, output(m.count, m.scalar), or_null(&loss), c)); break;
    case 4: checked(swn_mlp_sample_gradients(m.net, w, given, output(n * m.count, m.scalar), c)); break;
    case 5:
      checked(swn_mlp_product(m.net, kind, w, given, k, input(k * m.count, m.scalar), output(k * m.count, m.scalar), c));
      break;
    case 6:
      checked(swn_mlp_jvp(
          m.net, w, given, k, input(k * m.count, m.scalar), output(k * n * m.outputs, m.scalar), c));
      break;
    case 7:
      checked(swn_mlp_vjp(
          m.net, w, given, k, input(k * n * m.outputs, m.scalar), output(k * m.count, m.scalar), c));
      break;
    case 8: {
      if (!s.targets && !s.labels) s.targets = input(n * m.outputs, m.scalar);
      if (!(point = linearized(w, given))) break;
      size_t count = swn_linearization_states_count(point);
      must(count == n * m.states, "the count of states");
      swn_status found = checked(swn_linearization_states(seldom(97) ? NULL : point, output(count, SCALAR64), control()));
      if (m.states == 0) {
        swn_layered *factors = NULL;
        swn_factor_info info;
        must(found == SWN_INVALID_ARGUMENT, "states are of dense layers");
        found = checked(swn_layered_create(point, 0, (int32_t)pick(2), 1, 0, &factors, &info, control()));
        must(found == SWN_INVALID_ARGUMENT && !factors, "elimination is of dense layers");
      }
      size_t mix, factors;
      must(swn_linearization_factor_counts(point, &mix, &factors) == SWN_OK, "the counts of factors");
      found = checked(swn_linearization_factors(
          seldom(97) ? NULL : point, input(mix, m.scalar), output(factors, m.scalar), control()));
      must(m.states > 0 || found == SWN_INVALID_ARGUMENT || found == SWN_CANCELLED, "factors are of dense layers");
      swn_linearization_destroy(point);
      break;
    }
    case 9: {
      if (!absurd && m.count > 500) break;
      int32_t upper = -1, lower = 0;
      size_t rows = m.count, columns = m.count;
      if (seldom(2)) {
        upper = seldom(8) ? (int32_t)word() : (int32_t)pick((unsigned)m.blocks);
        lower = seldom(8) ? (int32_t)word() : (int32_t)pick((unsigned)upper % 6 + 1);
        if (swn_mlp_block_shape(m.net, upper, lower, &rows, &columns) != SWN_OK && upper >= 0) rows = columns = 1;
      }
      checked(swn_mlp_dense(m.net, kind, w, given, upper, lower, output(rows * columns, m.scalar), c));
      break;
    }
    case 10: checked(swn_mlp_diagonal(m.net, kind, w, given, output(m.count, m.scalar), c)); break;
    case 11:
      checked(swn_mlp_taylor(
          m.net, w, given, order, input(m.count, m.scalar),
          output(((uint32_t)order <= 3 ? (size_t)order + 1 : 1) * m.count, m.scalar), or_null(&loss), c));
      break;
    case 12: {
      const void *u = input(m.count, m.scalar), *second = seldom(2) ? input(m.count, m.scalar) : NULL;
      checked(swn_mlp_multilinear(
          m.net, w, given, u, second, k, input(k * m.count, m.scalar), output(k * m.count, m.scalar), c));
      break;
    }
    case 13:
      if (!(point = linearized(w, given))) break;
      for (unsigned calls = 1 + pick(3); calls; calls--) {
        size_t steps = absurd || seldom(16) ? impossible() : small(30);
        if (seldom(4)) {
          swn_status found = checked(swn_linearization_third(
              point, input(m.count, m.scalar), k, input(k * m.count, m.scalar), output(k * m.count, m.scalar),
              control()));
          if (found == SWN_OK) {
            found = checked(swn_linearization_thirds(
                point, k, input(k * m.count, m.scalar), output(k * (k + 1) / 2 * m.count, m.scalar), control()));
          }
          must(m.states || absurd || found == SWN_INVALID_ARGUMENT || found == SWN_CANCELLED,
               "kept third derivatives are of dense layers");
        } else if (!seldom(3)) {
          checked(swn_linearization_product(
              seldom(97) ? NULL : point, (int32_t)pick(3), k, input(k * m.count, m.scalar),
              output(k * m.count, m.scalar), control()));
        } else {
          int refused = absurd;
          absurd = absurd || steps == 0 || steps > INT32_MAX;
          size_t places = absurd ? 1 : k * steps;
          checked(swn_linearization_lanczos(
              point, (int32_t)pick(3), number(), k, steps, input(k * m.count, m.scalar), output(places, m.scalar),
              output(places, m.scalar), control()));
          absurd = refused;
        }
      }
      swn_linearization_destroy(point);
      break;
    default: {
      swn_layered_sizes plan;
      size_t rows, columns;
      n = seldom(2) ? impossible() : seldom(2) ? large() : small(5000);
      int was = absurd;
      absurd = 0;
      int32_t is_complex = (int32_t)pick(2), form = seldom(8) ? (int32_t)word() : (int32_t)pick(3);
      swn_status found = checked(swn_layered_plan(seldom(97) ? NULL : m.net, n, is_complex, form, or_null(&plan)));
      must(m.states || found == SWN_INVALID_ARGUMENT, "elimination is of dense layers");
      checked(swn_mlp_block_shape(
          m.net, seldom(4) ? (int32_t)word() : (int32_t)pick(4), seldom(4) ? (int32_t)word() : (int32_t)pick(4), &rows,
          &columns));
      absurd = was;
    }
  }
  free_arrays();
}

/* Some calls on the net that `make` makes of the first bytes. */
static int use(const uint8_t *data, size_t size, void (*make)(void))
{
  begin(data, size);
  memset(&m, 0, sizeof m);
  make();
  if (m.net) {
    must(swn_mlp_input_count(m.net) == m.inputs && swn_mlp_output_count(m.net) == m.outputs, "inputs and outputs");
    must(swn_mlp_parameter_count(m.net) == m.count, "the count of parameters");
    for (unsigned calls = 1 + pick(4); calls; calls--) {
      unsigned which = pick(15);
      absurd = m.is_large || seldom(24);
      unfit = m.is_unfit && !absurd && which != 14;
      call(which);
      absurd = unfit = 0;
    }
    swn_mlp_destroy(m.net);
  }
  if (seldom(32)) swn_mlp_destroy(NULL);
  free_arrays();
  return 0;
}

#endif
