/* The intrinsics of AVX-512, and of AVX2, that Sources/CKernels uses, in plain C: what its code does, on any processor.
 *
 * Loads and stores under a mask touch the numbers of the mask alone, as the instructions do. */
#ifndef EMULATED_AVX512_H
#define EMULATED_AVX512_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t __mmask8;
typedef uint16_t __mmask16;
typedef struct {
  int32_t lane[16];
} __m512i;
typedef struct {
  int32_t lane[8];
} __m256i;
typedef struct {
  double lane[8];
} __m512d;
typedef struct {
  float lane[16];
} __m512;

#define INTRINSIC static inline __attribute__((unused))

INTRINSIC __m512i _mm512_loadu_si512(const void *from)
{
  __m512i result;
  memcpy(&result, from, sizeof result);
  return result;
}

INTRINSIC __m512i _mm512_set1_epi32(int32_t value)
{
  __m512i result;
  for (int i = 0; i < 16; i++) result.lane[i] = value;
  return result;
}

/* Each sum takes four products of an unsigned byte with a signed one. */
INTRINSIC __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i unsigned_bytes, __m512i signed_bytes)
{
  uint8_t a[64];
  int8_t b[64];
  memcpy(a, &unsigned_bytes, sizeof a);
  memcpy(b, &signed_bytes, sizeof b);
  for (int i = 0; i < 64; i++) sum.lane[i / 4] += (int32_t)a[i] * b[i];
  return sum;
}

INTRINSIC __m256i half_of(__m512i value, int half)
{
  __m256i result;
  memcpy(&result, value.lane + 8 * half, sizeof result);
  return result;
}
#define _mm512_castsi512_si256(value) half_of(value, 0)
#define _mm512_extracti64x4_epi64(value, half) half_of(value, half)

INTRINSIC __m256i _mm256_loadu_si256(const __m256i *from)
{
  __m256i result;
  memcpy(&result, from, sizeof result);
  return result;
}

/* Masked loads of AVX look at the sign of each lane of the mask. */
typedef struct {
  float lane[8];
} __m256;
typedef struct {
  double lane[4];
} __m256d;

INTRINSIC int _mm256_movemask_ps(__m256i mask)
{
  int bits = 0;
  for (int i = 0; i < 8; i++) bits |= (mask.lane[i] < 0) << i;
  return bits;
}

INTRINSIC int _mm256_movemask_pd(__m256i mask)
{
  int bits = 0;
  for (int i = 0; i < 4; i++) bits |= (mask.lane[2 * i + 1] < 0) << i;
  return bits;
}
#define _mm256_castsi256_ps(mask) (mask)
#define _mm256_castsi256_pd(mask) (mask)

INTRINSIC __m256 _mm256_maskload_ps(const float *from, __m256i mask)
{
  __m256 result = {{0}};
  for (int i = 0; i < 8; i++)
    if (_mm256_movemask_ps(mask) >> i & 1) result.lane[i] = from[i];
  return result;
}

INTRINSIC __m256d _mm256_maskload_pd(const double *from, __m256i mask)
{
  __m256d result = {{0}};
  for (int i = 0; i < 4; i++)
    if (_mm256_movemask_pd(mask) >> i & 1) result.lane[i] = from[i];
  return result;
}

INTRINSIC __m256i _mm256_set1_epi32(int32_t value)
{
  __m256i result;
  for (int i = 0; i < 8; i++) result.lane[i] = value;
  return result;
}

INTRINSIC __m256i _mm256_setzero_si256(void) { return _mm256_set1_epi32(0); }

INTRINSIC __m256i _mm256_add_epi32(__m256i a, __m256i b)
{
  for (int i = 0; i < 8; i++) a.lane[i] += b.lane[i];
  return a;
}

/* Sums of two products of 16-bit integers. */
INTRINSIC __m256i _mm256_madd_epi16(__m256i a, __m256i b)
{
  int16_t x[16], y[16];
  memcpy(x, &a, sizeof x);
  memcpy(y, &b, sizeof y);
  for (int i = 0; i < 8; i++) a.lane[i] = (int32_t)x[2 * i] * y[2 * i] + (int32_t)x[2 * i + 1] * y[2 * i + 1];
  return a;
}

INTRINSIC __m512d _mm512_set1_pd(double value)
{
  __m512d result;
  for (int i = 0; i < 8; i++) result.lane[i] = value;
  return result;
}

INTRINSIC __m512d _mm512_setzero_pd(void) { return _mm512_set1_pd(0); }

INTRINSIC __m512d _mm512_cvtepi32_pd(__m256i value)
{
  __m512d result;
  for (int i = 0; i < 8; i++) result.lane[i] = value.lane[i];
  return result;
}

INTRINSIC __m512d _mm512_fmadd_pd(__m512d a, __m512d b, __m512d c)
{
  for (int i = 0; i < 8; i++) c.lane[i] = fma(a.lane[i], b.lane[i], c.lane[i]);
  return c;
}

INTRINSIC __m512d _mm512_mul_pd(__m512d a, __m512d b)
{
  for (int i = 0; i < 8; i++) a.lane[i] *= b.lane[i];
  return a;
}

INTRINSIC __m512d _mm512_add_pd(__m512d a, __m512d b)
{
  for (int i = 0; i < 8; i++) a.lane[i] += b.lane[i];
  return a;
}

INTRINSIC __m512d _mm512_loadu_pd(const void *from)
{
  __m512d result;
  memcpy(&result, from, sizeof result);
  return result;
}

INTRINSIC __m512d _mm512_maskz_loadu_pd(__mmask8 mask, const double *from)
{
  __m512d result;
  for (int i = 0; i < 8; i++) result.lane[i] = mask >> i & 1 ? from[i] : 0;
  return result;
}

INTRINSIC void _mm512_mask_storeu_pd(double *to, __mmask8 mask, __m512d value)
{
  for (int i = 0; i < 8; i++)
    if (mask >> i & 1) to[i] = value.lane[i];
}

INTRINSIC __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const float *from)
{
  __m512 result;
  for (int i = 0; i < 16; i++) result.lane[i] = mask >> i & 1 ? from[i] : 0;
  return result;
}

INTRINSIC void _mm512_mask_storeu_ps(float *to, __mmask16 mask, __m512 value)
{
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) to[i] = value.lane[i];
}

#endif
