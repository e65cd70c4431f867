// Exact arithmetic on pixels. The processor's byte instructions are chosen at run time.
#include "Pixels.h"

#include <math.h>
#include <string.h>

#include "levels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE int from_doubles(size_t count, const double *x, uint8_t *bytes) {
  for (size_t start = 0; start < count; start += 4096) {
    size_t end = count - start < 4096 ? count : start + 4096;
    int64_t differs = 0;
    for (size_t i = start; i < end; i++) {
      double scaled = x[i] * 256;
      // Out of range, or NaN, becomes a value that the comparison refuses.
      double clamped = scaled >= -128 ? scaled : -128;
      clamped = clamped <= 127 ? clamped : 127;
      int32_t k = (int32_t)clamped;
      bytes[i] = (uint8_t)(k + 128);
      differs |= (double)k != scaled;
    }
    if (differs) return 0;
  }
  return 1;
}

INLINE void to_floats(size_t count, const uint8_t *bytes, float *y) {
  for (size_t i = 0; i < count; i++) y[i] = (float)((int32_t)bytes[i] - 128);
}
INLINE void to_doubles(size_t count, const uint8_t *bytes, double *y) {
  for (size_t i = 0; i < count; i++) y[i] = (double)((int32_t)bytes[i] - 128);
}

#if defined(__x86_64__)

#include <immintrin.h>

__attribute__((target("arch=x86-64-v4"))) static int from_doubles_v4(size_t count, const double *x, uint8_t *bytes) {
  return from_doubles(count, x, bytes);
}
__attribute__((target("arch=x86-64-v3"))) static int from_doubles_v3(size_t count, const double *x, uint8_t *bytes) {
  return from_doubles(count, x, bytes);
}

int swk_pixels_from_doubles(size_t count, const double *x, uint8_t *bytes) {
  if (level() == 3) return from_doubles_v4(count, x, bytes);
  if (level() == 2) return from_doubles_v3(count, x, bytes);
  return from_doubles(count, x, bytes);
}

__attribute__((target("arch=x86-64-v3"))) static void to_floats_v3(size_t count, const uint8_t *bytes, float *y) {
  to_floats(count, bytes, y);
}
__attribute__((target("arch=x86-64-v3"))) static void to_doubles_v3(size_t count, const uint8_t *bytes, double *y) {
  to_doubles(count, bytes, y);
}

void swk_pixels_to_floats(size_t count, const uint8_t *bytes, float *y) {
  level() >= 2 ? to_floats_v3(count, bytes, y) : to_floats(count, bytes, y);
}
void swk_pixels_to_doubles(size_t count, const uint8_t *bytes, double *y) {
  level() >= 2 ? to_doubles_v3(count, bytes, y) : to_doubles(count, bytes, y);
}

int swk_pixels_supported(void) {
  return level() == 3 && __builtin_cpu_supports("avx512vnni");
}

#define VNNI __attribute__((target("arch=x86-64-v4,avx512vnni")))

// vpdpbusd multiplies unsigned bytes by signed ones. The unsigned operand is k, not k - 128, so each sum is 128 times the
// sum of the signed bytes too large; accumulators start at minus that.

#define GRAM_ROWS 12

// 16 sums of bytes as 16 entries of the Gram matrix; only the first `count` are stored.
VNNI static inline void store_gram(__m512i sum, double *row, ptrdiff_t count) {
  const __m512d scale = _mm512_set1_pd(1.0 / 65536);
  __m512d low = _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(sum)), scale);
  __m512d high = _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(sum, 1)), scale);
  unsigned mask = count >= 16 ? 0xffff : count > 0 ? (1u << count) - 1 : 0;
  _mm512_mask_storeu_pd(row, (__mmask8)mask, low);
  _mm512_mask_storeu_pd(row + 8, (__mmask8)(mask >> 8), high);
}

VNNI static void gram_panel_vnni(size_t n, size_t stride, const uint8_t *bytes, size_t first, uint8_t *scratch,
                                 double *gram, size_t ldg) {
  size_t width = n - first < swk_pixels_panel ? n - first : swk_pixels_panel;
  size_t groups = stride / 4;
  int32_t excess[swk_pixels_panel];
  for (size_t c = 0; c < swk_pixels_panel; c++) {
    const uint8_t *row = bytes + (first + (c < width ? c : 0)) * stride;
    int32_t sum = 0;
    for (size_t p = 0; p < stride; p++) sum += (int32_t)row[p] - 128;
    excess[c] = -128 * sum;
    for (size_t g = 0; g < groups; g++) {
      uint32_t four;
      memcpy(&four, row + 4 * g, 4);
      four ^= 0x80808080u;
      memcpy(scratch + (g * swk_pixels_panel + c) * 4, &four, 4);
    }
  }
  for (size_t i = first; i < n; i += GRAM_ROWS) {
    const uint8_t *rows[GRAM_ROWS];
    for (size_t r = 0; r < GRAM_ROWS; r++) rows[r] = bytes + (i + r < n ? i + r : n - 1) * stride;
    __m512i sum[GRAM_ROWS][2];
#pragma clang loop unroll(full)
    for (int r = 0; r < GRAM_ROWS; r++) {
      sum[r][0] = _mm512_loadu_si512(excess);
      sum[r][1] = _mm512_loadu_si512(excess + 16);
    }
    for (size_t g = 0; g < groups; g++) {
      __m512i left = _mm512_loadu_si512(scratch + g * 128);
      __m512i right = _mm512_loadu_si512(scratch + g * 128 + 64);
#pragma clang loop unroll(full)
      for (int r = 0; r < GRAM_ROWS; r++) {
        int32_t four;
        memcpy(&four, rows[r] + 4 * g, 4);
        __m512i both = _mm512_set1_epi32(four);
        sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], both, left);
        sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], both, right);
      }
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < GRAM_ROWS; r++) {
      if (i + r >= n) break;
      double *row = gram + (i + r) * ldg + first;
      store_gram(sum[r][0], row, (ptrdiff_t)width);
      store_gram(sum[r][1], row + 16, (ptrdiff_t)width - 16);
    }
  }
}

#define AVX2 __attribute__((target("arch=x86-64-v3")))
#define PAIR_ROWS 6

// The same in pairs of 16-bit integers, vpmaddwd: two vectors of sums for each of six rows fill the 16 registers.
AVX2 static void gram_panel_v3(size_t n, size_t stride, const uint8_t *bytes, size_t first, uint8_t *scratch,
                               double *gram, size_t ldg) {
  enum { HALF = swk_pixels_panel / 2 };
  size_t width = n - first < swk_pixels_panel ? n - first : swk_pixels_panel;
  size_t pairs = stride / 2;
  int16_t *panel = (int16_t *)scratch, *left = panel + swk_pixels_panel * stride;
  for (size_t c = 0; c < swk_pixels_panel; c++) {
    const uint8_t *row = bytes + (first + (c < width ? c : 0)) * stride;
    int16_t *target = panel + c / HALF * pairs * 2 * HALF + c % HALF * 2;
    for (size_t p = 0; p < pairs; p++) {
      target[p * 2 * HALF] = (int16_t)(row[2 * p] - 128);
      target[p * 2 * HALF + 1] = (int16_t)(row[2 * p + 1] - 128);
    }
  }
  for (size_t i = first; i < n; i += PAIR_ROWS) {
    for (size_t r = 0; r < PAIR_ROWS; r++) {
      const uint8_t *row = bytes + (i + r < n ? i + r : n - 1) * stride;
      for (size_t p = 0; p < stride; p++) left[r * stride + p] = (int16_t)(row[p] - 128);
    }
    for (size_t half = 0; half * HALF < width; half++) {
      const int16_t *right = panel + half * pairs * 2 * HALF;
      __m256i sum[PAIR_ROWS][2];
#pragma clang loop unroll(full)
      for (int r = 0; r < PAIR_ROWS; r++) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
      for (size_t p = 0; p < pairs; p++) {
        __m256i low = _mm256_loadu_si256((const __m256i *)(right + p * 2 * HALF));
        __m256i high = _mm256_loadu_si256((const __m256i *)(right + p * 2 * HALF + HALF));
#pragma clang loop unroll(full)
        for (int r = 0; r < PAIR_ROWS; r++) {
          int32_t two;
          memcpy(&two, left + (size_t)r * stride + 2 * p, 4);
          __m256i both = _mm256_set1_epi32(two);
          sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(both, low));
          sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(both, high));
        }
      }
      size_t count = width - half * HALF < HALF ? width - half * HALF : HALF;
      int32_t sums[PAIR_ROWS][HALF];
      memcpy(sums, sum, sizeof sums);
      for (size_t r = 0; r < PAIR_ROWS && i + r < n; r++) {
        double *row = gram + (i + r) * ldg + first + half * HALF;
        for (size_t c = 0; c < count; c++) row[c] = (double)sums[r][c] * (1.0 / 65536);
      }
    }
  }
}

int swk_pixels_gram_supported(void) { return level() >= 2; }

void swk_pixels_gram_panel(size_t n, size_t stride, const uint8_t *bytes, size_t first, uint8_t *scratch, double *gram,
                           size_t ldg) {
  if (swk_pixels_supported()) {
    gram_panel_vnni(n, stride, bytes, first, scratch, gram, ldg);
  } else {
    gram_panel_v3(n, stride, bytes, first, scratch, gram, ldg);
  }
}

// Digits of the first pass, the least significant ones.
#define FIRST_PASS(count) ((count) == 4 ? 4 : 3)

VNNI void swk_pixels_split(size_t depth, size_t width, size_t stride, const double *b, size_t ldb, int count,
                           int8_t *digits, double *scales, int32_t *sums) {
  enum { W = swk_pixels_columns };
  double largest[W] = {0}, unit[W];
  for (size_t p = 0; p < depth; p++)
    for (size_t j = 0; j < width; j++) {
      double size = fabs(b[p * ldb + j]);
      largest[j] = size <= largest[j] || largest[j] != largest[j] ? largest[j] : size;  // a NaN comes in and stays
    }
  // Entries become integers below 2^(8 count - 2): the leading digit then cannot leave its byte.
  int bits = 8 * count - 3;
  int low = FIRST_PASS(count);
  for (size_t j = 0; j < W; j++) {
    int exponent = 0;
    int finite = largest[j] - largest[j] == 0;
    if (finite && largest[j] > 0) exponent = ilogb(largest[j]);
    // 2^-exponent must be finite, and so must its inverse.
    exponent = exponent < -960 ? -960 : exponent;
    unit[j] = finite && largest[j] > 0 ? ldexp(1, bits - exponent) : 0;
    scales[j] = finite ? ldexp(1, exponent - bits - 8) : NAN;
  }
  int32_t totals[swk_pixels_digits][W] = {{0}};
  for (size_t g = 0; g < stride / 4; g++) {
    int64_t t[4][W];
    for (size_t q = 0; q < 4; q++) {
      size_t p = 4 * g + q;
      const double *row = b + p * ldb;
      for (size_t j = 0; j < W; j++) {
        double value = p < depth && j < width ? row[j] * unit[j] : 0;
        value = value == value ? value : 0;
        t[q][j] = (int64_t)rint(value);
      }
    }
    for (int s = 0; s < count; s++) {
      uint32_t word[W];
      for (size_t j = 0; j < W; j++) {
        uint32_t all = 0;
        int32_t total = 0;
#pragma clang loop unroll(full)
        for (int q = 0; q < 4; q++) {
          int64_t digit = (int64_t)((uint64_t)t[q][j] << 56) >> 56;
          t[q][j] = (t[q][j] - digit) >> 8;
          all |= (uint32_t)(digit & 255) << (8 * q);
          total += (int32_t)digit;
        }
        word[j] = all;
        totals[s][j] += total;
      }
      // The digits of one pass lie together.
      size_t first = s < low ? 0 : (size_t)low, together = (size_t)(s < low ? low : count - low);
      memcpy(digits + (first * (stride / 4) + g * together + (size_t)s - first) * 4 * W, word, sizeof word);
    }
  }
  for (int s = 0; s < count; s++)
    for (size_t j = 0; j < W; j++) sums[s * W + (int)j] = -128 * totals[s][j];
}

// One pass: `count` digits, least significant first, for tiles of `tile` rows. Constants after inlining.
VNNI static inline __attribute__((always_inline)) void pass(const int tile, const int count, size_t rows, size_t width,
                                                             size_t stride, const uint8_t *bytes, const int8_t *digits,
                                                             const double *scales, const int32_t *sums, double alpha,
                                                             int accumulate, double *c, size_t ldc) {
  enum { W = swk_pixels_columns };
  size_t groups = stride / 4;
  unsigned mask = (1u << width) - 1;
  __mmask8 masks[2] = {(__mmask8)mask, (__mmask8)(mask >> 8)};
  for (size_t i = 0; i < rows; i += (size_t)tile) {
    const uint8_t *row[8];
    for (size_t r = 0; r < (size_t)tile; r++) row[r] = bytes + (i + r < rows ? i + r : rows - 1) * stride;
    __m512i sum[8][4];
#pragma clang loop unroll(full)
    for (int r = 0; r < tile; r++)
#pragma clang loop unroll(full)
      for (int s = 0; s < count; s++) sum[r][s] = _mm512_loadu_si512(sums + s * W);
    for (size_t g = 0; g < groups; g++) {
      __m512i digit[4];
#pragma clang loop unroll(full)
      for (int s = 0; s < count; s++) digit[s] = _mm512_loadu_si512(digits + (g * (size_t)count + (size_t)s) * 4 * W);
#pragma clang loop unroll(full)
      for (int r = 0; r < tile; r++) {
        int32_t four;
        memcpy(&four, row[r] + 4 * g, 4);
        __m512i all = _mm512_set1_epi32(four);
#pragma clang loop unroll(full)
        for (int s = 0; s < count; s++) sum[r][s] = _mm512_dpbusd_epi32(sum[r][s], all, digit[s]);
      }
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < tile; r++) {
      if (i + (size_t)r >= rows) break;
#pragma clang loop unroll(full)
      for (int half = 0; half < 2; half++) {
        __m512d value = _mm512_setzero_pd();
#pragma clang loop unroll(full)
        for (int s = count - 1; s >= 0; s--) {
          __m256i part = half ? _mm512_extracti64x4_epi64(sum[r][s], 1) : _mm512_castsi512_si256(sum[r][s]);
          value = _mm512_fmadd_pd(value, _mm512_set1_pd(256), _mm512_cvtepi32_pd(part));
        }
        double *target = c + (i + (size_t)r) * ldc + 8 * half;
        value = _mm512_mul_pd(value, _mm512_mul_pd(_mm512_set1_pd(alpha), _mm512_loadu_pd(scales + 8 * half)));
        if (accumulate) value = _mm512_add_pd(value, _mm512_maskz_loadu_pd(masks[half], target));
        _mm512_mask_storeu_pd(target, masks[half], value);
      }
    }
  }
}

VNNI void swk_pixels_product(size_t rows, size_t width, size_t stride, const uint8_t *bytes, int count,
                             const int8_t *digits, const double *scales, const int32_t *sums, double alpha,
                             double beta, double *c, size_t ldc) {
  // Tiles fill the 32 registers: 8 × 3 or 6 × 4 sums, the digits and one entry of X.
  if (count == 4) {
    pass(6, 4, rows, width, stride, bytes, digits, scales, sums, alpha, beta != 0, c, ldc);
    return;
  }
  pass(8, 3, rows, width, stride, bytes, digits, scales, sums, alpha, beta != 0, c, ldc);
  digits += FIRST_PASS(count) * stride * swk_pixels_columns;
  sums += FIRST_PASS(count) * swk_pixels_columns;
  alpha *= 0x1p24;
  if (count == 6) pass(8, 3, rows, width, stride, bytes, digits, scales, sums, alpha, 1, c, ldc);
  if (count == 7) pass(6, 4, rows, width, stride, bytes, digits, scales, sums, alpha, 1, c, ldc);
}

#else

int swk_pixels_from_doubles(size_t count, const double *x, uint8_t *bytes) { return from_doubles(count, x, bytes); }
void swk_pixels_to_floats(size_t count, const uint8_t *bytes, float *y) { to_floats(count, bytes, y); }
void swk_pixels_to_doubles(size_t count, const uint8_t *bytes, double *y) { to_doubles(count, bytes, y); }
int swk_pixels_supported(void) { return 0; }
int swk_pixels_gram_supported(void) { return 0; }
void swk_pixels_gram_panel(size_t n, size_t stride, const uint8_t *bytes, size_t first, uint8_t *scratch, double *gram,
                           size_t ldg) {}
void swk_pixels_split(size_t depth, size_t width, size_t stride, const double *b, size_t ldb, int count,
                      int8_t *digits, double *scales, int32_t *sums) {}
void swk_pixels_product(size_t rows, size_t width, size_t stride, const uint8_t *bytes, int count,
                        const int8_t *digits, const double *scales, const int32_t *sums, double alpha, double beta,
                        double *c, size_t ldc) {}

#endif
