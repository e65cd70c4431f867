/* Nets of dense layers: every function that takes one, on shapes, samples and directions from bytes. */
#include "calls.h"

static size_t sizes[6], depth;

static void make_net(void)
{
  swn_activation activations[5];
  int strange = seldom(24);
  depth = 1 + pick(4);
  int wide = seldom(6);
  size_t wide_at = pick(6);
  for (size_t i = 0; i <= depth; i++) sizes[i] = wide && i == wide_at ? 1 + (size_t)byte() + byte() : 1 + byte() % 6;
  for (size_t i = 0; i < depth; i++) {
    activations[i].kind = (int32_t)pick(10);
    activations[i].parameter = seldom(3) ? number() : (int)pick(8) / 8.0;
  }
  swn_mlp_shape shape = {
      .dtype = (int32_t)pick(2),
      .depth = depth,
      .sizes = sizes,
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
      case 7: sizes[pick((unsigned)depth + 1)] = impossible(); break;
      default: sizes[1 + pick((unsigned)depth)] = large(); break;
    }
  }
  /* Exactly as long as they must be. */
  if (shape.sizes) shape.sizes = memcpy(malloc(sizeof(size_t) * (depth + 1)), sizes, sizeof(size_t) * (depth + 1));
  if (shape.activations)
    shape.activations = memcpy(malloc(sizeof *activations * depth), activations, sizeof *activations * depth);
  m.net = NULL;
  swn_status status = checked(swn_mlp_create(seldom(97) ? NULL : &shape, seldom(97) ? NULL : &m.net));
  must((status == SWN_OK) == (m.net != NULL), "a net, or a reason");
  free((void *)shape.sizes);
  free((void *)shape.activations);
  if (!m.net) return;
  m.scalar = shape.dtype == SWN_FLOAT32 ? SCALAR32 : SCALAR64;
  m.softmax = shape.loss == SWN_SOFTMAX_CROSS_ENTROPY;
  m.inputs = sizes[0];
  m.outputs = sizes[depth];
  m.blocks = depth;
  m.count = m.work = swn_mlp_parameter_count(m.net);
  const size_t bias = shape.bias != 0;
  size_t wanted = 0;
  m.states = m.softmax ? m.outputs * m.outputs : m.outputs;
  for (size_t i = 0; i < depth; i++) {
    wanted += (sizes[i] + bias) * sizes[i + 1];
    m.states += sizes[i] + bias + 3 * sizes[i + 1];
    m.is_large |= sizes[i + 1] > 40000;
  }
  must(m.count == wanted, "the count of parameters");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return use(data, size, make_net); }
