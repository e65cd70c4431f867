// The functions of activation_templates.h, compiled for three levels of x86-64 and chosen at run time.
#include "Activations.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "levels.h"

#if defined(__x86_64__)

#define LEVEL v4
#define WIDE_BYTES 64
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
#include "activation_templates.h"
#pragma clang attribute pop
#undef LEVEL
#undef WIDE_BYTES

#define LEVEL v3
#define WIDE_BYTES VECTOR_BYTES
#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"))), apply_to = function)
#include "activation_templates.h"
#pragma clang attribute pop
#undef LEVEL
#undef WIDE_BYTES

#endif

// Vectors are passed between functions that are always inlined: no calling convention is involved.
#pragma clang diagnostic ignored "-Wpsabi"
#define LEVEL baseline
#define WIDE_BYTES VECTOR_BYTES
#include "activation_templates.h"
#undef LEVEL
#undef WIDE_BYTES

#define PUBLIC(T, suffix)                                                                                     \
  void swk_activation_##suffix(int kind, T parameter, int order, size_t n, const T *a, T *d0, T *d1, T *d2,   \
                               T *d3, T *d4) {                                                                \
    T *d[] = {d0, d1, d2, d3, d4};                                                                            \
    DISPATCH(activation_##suffix, kind, parameter, order, n, a, d)                                            \
  }                                                                                                           \
  void swk_loss_##suffix(int kind, T parameter, int order, size_t n, const T *z, const T *y, T *d0, T *d1,    \
                         T *d2, T *d3, T *d4) {                                                               \
    T *d[] = {d0, d1, d2, d3, d4};                                                                            \
    DISPATCH(loss_##suffix, kind, parameter, order, n, z, y, d)                                               \
  }                                                                                                           \
  void swk_softmax_rows_##suffix(size_t m, size_t n, const T *s, T *p) { DISPATCH(softmax_rows_##suffix, m, n, s, p) }

PUBLIC(float, f32)
PUBLIC(double, f64)
