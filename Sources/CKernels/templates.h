// Included by kernels.c once for each level of the processor: everything here is named NAME_LEVEL.
// Deliberately without an include guard.

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define NAME(a) JOIN(a, LEVEL)
#define INLINE static inline __attribute__((always_inline))
#pragma clang fp contract(fast)

#define T float
#define LANES (VECTOR_BYTES / 4)
#define TYPED(a) JOIN(JOIN(a, f32), LEVEL)
#define MASK __mmask16
#define REGISTER __m512
#define MASKED_LOAD _mm512_maskz_loadu_ps
#define MASKED_STORE _mm512_mask_storeu_ps
#define INTEGER int32_t
#define ALL_LANES -1, -1, -1, -1, -1, -1, -1, -1
#define REGISTER_256 __m256
#define MASKED_LOAD_256 _mm256_maskload_ps
#define MASK_COUNT(mask) __builtin_popcount((unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(mask)))
#include "typed_templates.h"
#include "typed_gemm.h"
#include "typed_updates.h"
#undef T
#undef LANES
#undef TYPED
#undef MASK
#undef REGISTER
#undef MASKED_LOAD
#undef MASKED_STORE
#undef INTEGER
#undef ALL_LANES
#undef REGISTER_256
#undef MASKED_LOAD_256
#undef MASK_COUNT

#define T double
#define LANES (VECTOR_BYTES / 8)
#define TYPED(a) JOIN(JOIN(a, f64), LEVEL)
#define MASK __mmask8
#define REGISTER __m512d
#define MASKED_LOAD _mm512_maskz_loadu_pd
#define MASKED_STORE _mm512_mask_storeu_pd
#define INTEGER int64_t
#define ALL_LANES -1, -1, -1, -1
#define REGISTER_256 __m256d
#define MASKED_LOAD_256 _mm256_maskload_pd
#define MASK_COUNT(mask) __builtin_popcount((unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(mask)))
#include "typed_templates.h"
#include "typed_gemm.h"
#include "typed_updates.h"
#undef T
#undef LANES
#undef TYPED
#undef MASK
#undef REGISTER
#undef MASKED_LOAD
#undef MASKED_STORE
#undef INTEGER
#undef ALL_LANES
#undef REGISTER_256
#undef MASKED_LOAD_256
#undef MASK_COUNT

// ---- Batched Cholesky: one lane a system, 4×4 blocks of vectors in registers --------------------------------------

typedef double NAME(lanes) __attribute__((vector_size(8 * swk_batch), aligned(8)));
#define L NAME(lanes)
#define AT(i, j) (*(L *)(matrix + ((i) * n + (j)) * swk_batch))
#define CONST_AT(i, j) (*(const L *)(matrix + ((i) * n + (j)) * swk_batch))

static void NAME(cholesky_factor)(size_t n, double *matrix, double *inverse_diagonal) {
  L *inverse = (L *)inverse_diagonal;
  for (size_t i = 0; i < n; i += 4) {
    for (size_t j = 0; j <= i; j += 4) {
      L sum[4][4];
      for (int r = 0; r < 4; r++)
        for (int c = 0; c < 4; c++) sum[r][c] = AT(i + r, j + c);
      for (size_t k = 0; k < j; k++) {
        L left[4], right[4];
        for (int r = 0; r < 4; r++) left[r] = AT(i + r, k);
        for (int c = 0; c < 4; c++) right[c] = AT(j + c, k);
        for (int r = 0; r < 4; r++)
          for (int c = 0; c < 4; c++) sum[r][c] -= left[r] * right[c];
      }
      if (j < i) {
        for (int c = 0; c < 4; c++) {
          for (int p = 0; p < c; p++)
            for (int r = 0; r < 4; r++) sum[r][c] -= sum[r][p] * AT(j + c, j + p);
          for (int r = 0; r < 4; r++) sum[r][c] *= inverse[j + c];
        }
      } else {
        for (int c = 0; c < 4; c++) {
          for (int p = 0; p < c; p++)
            for (int r = c; r < 4; r++) sum[r][c] -= sum[r][p] * sum[c][p];
          L root = __builtin_elementwise_sqrt(sum[c][c]);
          inverse[i + c] = 1.0 / root;
          sum[c][c] = root;
          for (int r = c + 1; r < 4; r++) sum[r][c] *= inverse[i + c];
        }
      }
      for (int r = 0; r < 4; r++)
        for (int c = 0; c < 4; c++)
          if (j < i || c <= r) AT(i + r, j + c) = sum[r][c];
    }
  }
}

static void NAME(cholesky_solve)(size_t n, const double *matrix, const double *inverse_diagonal, double *x) {
  const L *inverse = (const L *)inverse_diagonal;
  L *y = (L *)x;
  for (size_t i = 0; i < n; i += 4) {
    L sum[4];
    for (int r = 0; r < 4; r++) sum[r] = y[i + r];
    for (size_t k = 0; k < i; k++)
      for (int r = 0; r < 4; r++) sum[r] -= CONST_AT(i + r, k) * y[k];
    for (int r = 0; r < 4; r++) {
      for (int p = 0; p < r; p++) sum[r] -= CONST_AT(i + r, i + p) * sum[p];
      sum[r] *= inverse[i + r];
      y[i + r] = sum[r];
    }
  }
  for (size_t block = n; block > 0; block -= 4) {
    size_t i = block - 4;
    L sum[4];
    for (int r = 0; r < 4; r++) sum[r] = y[i + r];
    for (size_t k = block; k < n; k++)
      for (int r = 0; r < 4; r++) sum[r] -= CONST_AT(k, i + r) * y[k];
    for (int r = 3; r >= 0; r--) {
      for (int p = r + 1; p < 4; p++) sum[r] -= CONST_AT(i + p, i + r) * sum[p];
      sum[r] *= inverse[i + r];
      y[i + r] = sum[r];
    }
  }
}

INLINE void NAME(identity_rows)(size_t n, size_t used, double *matrix) {
  for (size_t i = used; i < n; i++)
    for (size_t j = 0; j <= i; j++) AT(i, j) = (L){} + (i == j ? 1.0 : 0.0);
}

static void NAME(scaled_kernel)(size_t n, size_t used, const double *kernel, size_t ldk, const double *d,
                                double damping, double *matrix) {
  const L *scale = (const L *)d;
  for (size_t i = 0; i < used; i++) {
    L own = scale[i];
    for (size_t j = 0; j <= i; j++) AT(i, j) = (own * scale[j]) * kernel[i * ldk + j];
    AT(i, i) += damping;
  }
  NAME(identity_rows)(n, used, matrix);
}

static void NAME(batched_gram)(size_t n, size_t used, size_t samples, const double *h, size_t ldh, const double *d,
                               double damping, double *matrix) {
  const L *scale = (const L *)d;
  for (size_t i = 0; i < used; i += 4) {
    for (size_t j = 0; j <= i; j += 4) {
      L sum[4][4];
      int rows = used - i < 4 ? (int)(used - i) : 4, columns = used - j < 4 ? (int)(used - j) : 4;
      for (int r = 0; r < 4; r++)
        for (int c = 0; c < 4; c++) sum[r][c] = (L){};
      if (rows == 4 && columns == 4) {
        for (size_t s = 0; s < samples; s++) {
          L square = scale[s] * scale[s];
          const double *row = h + s * ldh;
          for (int r = 0; r < 4; r++) {
            L weighted = square * row[i + r];
            for (int c = 0; c < 4; c++) sum[r][c] += weighted * row[j + c];
          }
        }
      } else {
        for (size_t s = 0; s < samples; s++) {
          L square = scale[s] * scale[s];
          const double *row = h + s * ldh;
          for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) sum[r][c] += (square * row[i + r]) * row[j + c];
        }
      }
      for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
          if (j + c <= i + r) AT(i + r, j + c) = sum[r][c];
    }
  }
  for (size_t i = 0; i < used; i++) AT(i, i) += damping;
  NAME(identity_rows)(n, used, matrix);
}

#undef AT
#undef CONST_AT
#undef L
#undef INLINE
#undef NAME
#undef JOIN
#undef JOIN2
