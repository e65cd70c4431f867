/* Nets of dense layers: every function that takes one, on shapes, samples and directions from bytes. */
#include "abi.h"

static struct {
  swn_mlp *net;
  size_t sizes[6];
  size_t depth, inputs, outputs, count; /* parameters */
  int scalar, softmax, bias;
} m;

static void make_net(void)
{
  swn_activation activations[5];
  int strange = seldom(24);
  m.depth = 1 + pick(4);
  int wide = seldom(6);
  size_t wide_at = pick(6);
  for (size_t i = 0; i <= m.depth; i++) m.sizes[i] = wide && i == wide_at ? 1 + (size_t)byte() + byte() : 1 + byte() % 6;
  for (size_t i = 0; i < m.depth; i++) {
    activations[i].kind = (int32_t)pick(9);
    activations[i].parameter = seldom(3) ? number() : (int)pick(8) / 8.0;
  }
  swn_mlp_shape shape = {
      .dtype = (int32_t)pick(2),
      .depth = m.depth,
      .sizes = m.sizes,
      .activations = activations,
      .bias = (int32_t)pick(2),
      .loss = (int32_t)pick(4),
      .loss_parameter = seldom(3) ? number() : 1,
  };
  if (strange) {
    switch (pick(9)) {
      case 0: shape.dtype = (int32_t)word(); break;
      case 1: shape.depth = impossible(); break;
      case 2: shape.sizes = NULL; break;
      case 3: shape.activations = NULL; break;
      case 4: shape.loss = (int32_t)word(); break;
      case 5: activations[0].kind = (int32_t)word(); break;
      case 6: shape.bias = (int32_t)word(); break;
      case 7: m.sizes[pick((unsigned)m.depth + 1)] = impossible(); break;
      default: m.sizes[1 + pick((unsigned)m.depth)] = large(); break;
    }
  }
  /* Exactly as long as they must be. */
  if (shape.sizes) shape.sizes = memcpy(malloc(sizeof(size_t) * (m.depth + 1)), m.sizes, sizeof(size_t) * (m.depth + 1));
  if (shape.activations)
    shape.activations = memcpy(malloc(sizeof *activations * m.depth), activations, sizeof *activations * m.depth);
  m.net = NULL;
  swn_status status = checked(swn_mlp_create(seldom(97) ? NULL : &shape, seldom(97) ? NULL : &m.net));
  must((status == SWN_OK) == (m.net != NULL), "a net, or a reason");
  free((void *)shape.sizes);
  free((void *)shape.activations);
  if (!m.net) return;
  m.scalar = shape.dtype == SWN_FLOAT32 ? SCALAR32 : SCALAR64;
  m.softmax = shape.loss == SWN_SOFTMAX_CROSS_ENTROPY;
  m.bias = shape.bias != 0;
  m.inputs = m.sizes[0];
  m.outputs = m.sizes[m.depth];
  m.count = swn_mlp_parameter_count(m.net);
  size_t wanted = 0;
  for (size_t i = 0; i < m.depth; i++) wanted += (m.sizes[i] + m.bias) * m.sizes[i + 1];
  must(m.count == wanted, "the count of parameters");
}

static swn_samples samples_of(size_t n, int with_targets)
{
  swn_samples s = {.n = n, .x = input(n * m.inputs, m.scalar), .scale = seldom(4) ? number() : 1};
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
    *one = seldom(2) && each >= (size_t)1 << 20 ? INT32_MAX : impossible();
  }
  int plain = which <= 1 || (which >= 6 && which <= 8) || which == 14;
  if (!absurd && (n * m.count > 600000 || n * m.inputs > most || n * m.outputs * m.count * k > 4000000)) n = 1 + n % 3;
  if (!absurd && n * m.outputs * m.count * k > 4000000) return;
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
      size_t side = m.softmax ? m.outputs * m.outputs : m.outputs, wanted = 0;
      for (size_t i = 0; i < m.depth; i++) wanted += n * (m.sizes[i] + m.bias + 3 * m.sizes[i + 1]);
      size_t count = swn_linearization_states_count(point);
      must(count == wanted + n * side, "the count of states");
      checked(swn_linearization_states(seldom(97) ? NULL : point, output(count, SCALAR64), control()));
      swn_linearization_destroy(point);
      break;
    }
    case 9: {
      if (!absurd && m.count > 500) break;
      int32_t upper = -1, lower = 0;
      size_t rows = m.count, columns = m.count;
      if (seldom(2)) {
        upper = seldom(8) ? (int32_t)word() : (int32_t)pick((unsigned)m.depth);
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
        if (!seldom(3)) {
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
      checked(swn_layered_plan(
          seldom(97) ? NULL : m.net, n, (int32_t)pick(2), seldom(8) ? (int32_t)word() : (int32_t)pick(3), or_null(&plan)));
      checked(swn_mlp_block_shape(
          m.net, seldom(4) ? (int32_t)word() : (int32_t)pick(4), seldom(4) ? (int32_t)word() : (int32_t)pick(4), &rows,
          &columns));
      absurd = was;
    }
  }
  free_arrays();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  begin(data, size);
  make_net();
  if (m.net) {
    int is_large = 0;
    for (size_t i = 1; i <= m.depth; i++) is_large |= m.sizes[i] > 40000;
    for (unsigned calls = 1 + pick(4); calls; calls--) {
      unsigned which = pick(15);
      absurd = is_large || seldom(24);
      call(which);
      absurd = 0;
    }
    swn_mlp_destroy(m.net);
  }
  if (seldom(32)) swn_mlp_destroy(NULL);
  free_arrays();
  return 0;
}
