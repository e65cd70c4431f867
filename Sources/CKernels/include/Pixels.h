// Exact products of images whose entries are k/256 - 1/2 with an integer k from 0 to 255, held as the bytes k.
//
// "Padded" byte matrices have rows of `stride` bytes, a multiple of 4 and at most 2^16: then no sum leaves 32 bits.
// What the padding holds does not matter unless the text says so.
#ifndef SWIFTNETS_PIXELS_H
#define SWIFTNETS_PIXELS_H

#include <stddef.h>
#include <stdint.h>

// bytes[i] = 256 x[i] + 128 for i < count. Returns 1 where every x[i] is exactly such an entry; else 0, with the bytes
// unspecified.
int swk_pixels_from_doubles(size_t count, const double *x, uint8_t *bytes);
// y[i] = bytes[i] - 128.
void swk_pixels_to_floats(size_t count, const uint8_t *bytes, float *y);
void swk_pixels_to_doubles(size_t count, const uint8_t *bytes, double *y);

// Whether the processor multiplies bytes (AVX-512 VNNI). The split and the product must not be called where it does not.
int swk_pixels_supported(void);
// Whether it has what the Gram matrix needs, VNNI or AVX2.
int swk_pixels_gram_supported(void);

enum { swk_pixels_panel = 32, swk_pixels_columns = 16, swk_pixels_digits = 7 };

// gram[i, j] = Σ_p x[i, p] x[j, p], exact, for j from `first` to first + swk_pixels_panel - 1 and i from j to n - 1;
// a few entries above the diagonal are written as well.
//
// `bytes` is a padded [n, stride] with 128 in the padding. `scratch` has room for 3 · swk_pixels_panel · stride bytes,
// aligned to 2.
void swk_pixels_gram_panel(size_t n, size_t stride, const uint8_t *bytes, size_t first, uint8_t *scratch, double *gram,
                           size_t ldg);

// Splits up to swk_pixels_columns columns of b [depth, width] into `count` digits of base 256 for swk_pixels_product:
// an entry is rounded to 8 count - 2 bits of the largest in its column. depth ≤ stride; count is 4, 6 or 7.
//
// `digits` has room for count · swk_pixels_columns · stride bytes, `scales` for swk_pixels_columns, `sums` for
// count · swk_pixels_columns. A column that is not finite gives NaN in `scales`.
void swk_pixels_split(size_t depth, size_t width, size_t stride, const double *b, size_t ldb, int count,
                      int8_t *digits, double *scales, int32_t *sums);

// c = beta c + alpha X b for rows [0, rows) of the padded `bytes` and the split columns of b: exact but for the rounding
// of b to its digits and at most four roundings of the result. beta is 0 or 1.
void swk_pixels_product(size_t rows, size_t width, size_t stride, const uint8_t *bytes, int count,
                        const int8_t *digits, const double *scales, const int32_t *sums, double alpha, double beta,
                        double *c, size_t ldc);

#endif
