// The kernels of templates.h, compiled for three levels of x86-64 and chosen at run time.
#include "CKernels.h"

#include <string.h>

#include "levels.h"

#if defined(__x86_64__)
#include <immintrin.h>

// Tiles of products fill 32 registers of 64 bytes on AVX-512, 16 of 32 on AVX2, and 16 halves of such on SSE2.
#define LEVEL v4
#define WIDE_BYTES 64
#define TILE_ROWS 8
#define TILE_VECTORS 3
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
#include "templates.h"
#pragma clang attribute pop
#undef LEVEL
#undef WIDE_BYTES
#undef TILE_ROWS
#undef TILE_VECTORS

#define LEVEL v3
#define WIDE_BYTES VECTOR_BYTES
#define TILE_ROWS 4
#define TILE_VECTORS 3
#if VECTOR_BYTES == 32
#define HAS_AVX_MASKS
#endif
#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"))), apply_to = function)
#include "templates.h"
#pragma clang attribute pop
#undef LEVEL
#undef WIDE_BYTES
#undef TILE_ROWS
#undef TILE_VECTORS
#undef HAS_AVX_MASKS

#endif

// Vectors are passed between functions that are always inlined: no calling convention is involved.
#pragma clang diagnostic ignored "-Wpsabi"
#define LEVEL baseline
#define WIDE_BYTES VECTOR_BYTES
#define TILE_ROWS 4
#define TILE_VECTORS 1
#include "templates.h"
#undef LEVEL
#undef WIDE_BYTES
#undef TILE_ROWS
#undef TILE_VECTORS

#define PUBLIC(T, suffix)                                                                                       \
  void swk_gemm_##suffix(size_t m, size_t n, size_t k, const T *a, size_t a_row, size_t a_column, const T *b,   \
                         size_t ldb, const T *scale, size_t lds, enum swk_update update, int exact, T *c,       \
                         size_t ldc) {                                                                          \
    DISPATCH(gemm_##suffix, m, n, k, a, a_row, a_column, b, ldb, scale, lds, update, exact, c, ldc)             \
  }                                                                                                             \
  void swk_gemm_pieces_##suffix(size_t m, size_t n, size_t k, size_t pieces, size_t a_piece, const T *a,          \
                                size_t a_row, size_t a_column, const T *b, size_t ldb, T *c, size_t ldc) {      \
    DISPATCH(gemm_pieces_##suffix, m, n, k, pieces, a_piece, a, a_row, a_column, b, ldb, c, ldc)                \
  }                                                                                                             \
  void swk_transpose_##suffix(size_t m, size_t n, const T *a, size_t lda, T *b, size_t ldb) {                   \
    DISPATCH(transpose_##suffix, m, n, a, lda, b, ldb)                                                          \
  }                                                                                                             \
  void swk_multiply_##suffix(size_t n, const T *x, const T *y, T *z) { DISPATCH(multiply_##suffix, n, x, y, z) } \
  void swk_multiply_add_##suffix(size_t n, const T *x, const T *y, T *z) {                                      \
    DISPATCH(multiply_add_##suffix, n, x, y, z)                                                                 \
  }                                                                                                             \
  void swk_mixed_tangent_##suffix(size_t n, T factor, const T *slope, const T *second, const T *u, const T *v,  \
                                  const T *uv, T *out) {                                                        \
    DISPATCH(mixed_tangent_##suffix, n, factor, slope, second, u, v, uv, out)                                   \
  }                                                                                                             \
  void swk_mixed_delta_##suffix(size_t n, T factor, const T *const states[4], const T *const images[3],         \
                                const T *const cotangents[3], T *out) {                                         \
    DISPATCH(mixed_delta_##suffix, n, factor, states, images, cotangents, out)                                  \
  }                                                                                                             \
  void swk_scale_rows_##suffix(size_t m, size_t n, const T *x, size_t x_step, const T *a, size_t lda,           \
                               const T *y, size_t y_step, const T *b, size_t ldb, T *c, size_t ldc) {           \
    DISPATCH(scale_rows_##suffix, m, n, x, x_step, a, lda, y, y_step, b, ldb, c, ldc)                           \
  }                                                                                                             \
  void swk_scale_columns_##suffix(size_t m, size_t n, const T *a, const T *v, int adds, T *c) {                 \
    DISPATCH(scale_columns_##suffix, m, n, a, v, adds, c)                                                       \
  }                                                                                                             \
  void swk_affine_columns_##suffix(size_t m, size_t n, const T *a, const T *v, const T *b, T *c) {              \
    DISPATCH(affine_columns_##suffix, m, n, a, v, b, c)                                                         \
  }                                                                                                             \
  void swk_column_dots_##suffix(size_t m, size_t n, const T *a, const T *b, T *sums) {                          \
    DISPATCH(column_dots_##suffix, m, n, a, b, sums)                                                            \
  }                                                                                                             \
  T swk_dot_##suffix(size_t n, const T *x, const T *y) { DISPATCH(dot_##suffix, n, x, y) }                      \
  void swk_axpy_##suffix(size_t n, T a, const T *x, T *y) { DISPATCH(axpy_##suffix, n, a, x, y) }               \
  void swk_xpby_##suffix(size_t n, const T *x, T b, T *y) { DISPATCH(xpby_##suffix, n, x, b, y) }               \
  void swk_descend_##suffix(size_t n, T rate, const T *w, const T *gradient, T *new_w, double *squares) {       \
    DISPATCH(descend_##suffix, n, rate, w, gradient, new_w, squares)                                            \
  }                                                                                                             \
  void swk_momentum_##suffix(size_t n, T rate, T beta, int is_nesterov, const T *w, const T *gradient,          \
                             const T *velocity, T *new_w, T *new_velocity, double *squares) {                   \
    DISPATCH(momentum_##suffix, n, rate, beta, is_nesterov, w, gradient, velocity, new_w, new_velocity, squares)\
  }                                                                                                             \
  void swk_adam_##suffix(size_t n, const struct swk_adam *factors, const T *w, const T *gradient,               \
                         const T *mean, const T *square, T *new_w, T *new_mean, T *new_square,                  \
                         double *squares) {                                                                     \
    DISPATCH(adam_##suffix, n, factors, w, gradient, mean, square, new_w, new_mean, new_square, squares)        \
  }                                                                                                             \
  double swk_square_sum_##suffix(size_t n, const T *x) { DISPATCH(square_sum_##suffix, n, x) }

PUBLIC(float, f32)
PUBLIC(double, f64)

const char *swk_level(void) { return level() == 3 ? "v4" : level() == 2 ? "v3" : "baseline"; }

void swk_batched_cholesky_factor(size_t n, double *matrix, double *inverse_diagonal) {
  DISPATCH(cholesky_factor, n, matrix, inverse_diagonal)
}

void swk_batched_cholesky_solve(size_t n, const double *matrix, const double *inverse_diagonal, double *x) {
  DISPATCH(cholesky_solve, n, matrix, inverse_diagonal, x)
}

void swk_batched_scaled_kernel(size_t n, size_t used, const double *kernel, size_t ldk, const double *d,
                               double damping, double *matrix) {
  DISPATCH(scaled_kernel, n, used, kernel, ldk, d, damping, matrix)
}

void swk_batched_gram(size_t n, size_t used, size_t samples, const double *h, size_t ldh, const double *d,
                      double damping, double *matrix) {
  DISPATCH(batched_gram, n, used, samples, h, ldh, d, damping, matrix)
}
