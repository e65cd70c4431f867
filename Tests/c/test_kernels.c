/* Every kernel of Sources/CKernels at every level of the processor, on buffers of exactly the size that its header
 * promises to be there, against pages that nobody may touch; results against sums in long double.
 *
 * Compiled by clang, as the kernels are, with their folder before this one:
 *   clang -O3 -std=gnu11 -I Sources/CKernels -I Sources/CKernels/include Tests/c/test_kernels.c -lm
 * With -DEMULATED, and copies of the sources whose v4 is v3 and whose immintrin.h is emulated_avx512.h, the code of
 * AVX-512 runs without it.
 * Prints the levels that were tested, and exits with 0 when every expectation held. */
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* In place of levels.h: the level is the test's to choose. */
#define SWIFTNETS_LEVELS_H
#define VECTOR_BYTES 32
static int chosen_level;
static int level(void) { return chosen_level; }
#define DISPATCH(name, ...)                       \
  switch (chosen_level) {                         \
    case 3: return name##_v4(__VA_ARGS__);        \
    case 2: return name##_v3(__VA_ARGS__);        \
    default: return name##_baseline(__VA_ARGS__); \
  }

#include "kernels.c"
#undef PUBLIC
#include "activations.c"
#undef PUBLIC
#include "pixels.c"

typedef long double real;

/* ---- What is under way, for the message of a failure or a fault ---------------------------------------------------- */

static const char *const level_names[] = {"", "baseline", "v3", "v4"};
static char context[200];
static int failures;

#define UNDER_WAY(...) snprintf(context, sizeof context, __VA_ARGS__)

static void fail(const char *what)
{
  if (failures++ < 20) fprintf(stderr, "%s: %s: %s\n", level_names[chosen_level], context, what);
}

static void on_fault(int signal)
{
  (void)!write(2, "a fault in ", 11);
  (void)!write(2, level_names[chosen_level], strlen(level_names[chosen_level]));
  (void)!write(2, ": ", 2);
  (void)!write(2, context, strlen(context));
  (void)!write(2, "\n", 1);
  _exit(128 + signal);
}

/* ---- Buffers ------------------------------------------------------------------------------------------------------- */

/* Ends where a page begins that nobody may touch, or begins where one ends. What is left of its pages holds a mark. */
typedef struct {
  char *pages, *start;
  size_t bytes, room;
} Buffer;

enum { MARK = 0xa5, MOST_BUFFERS = 16 };
static int at_end;  /* which of the two */
static Buffer buffers[MOST_BUFFERS];
static int buffer_count;

static void *buffer(size_t bytes)
{
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t room = (bytes + page - 1) / page * page;
  char *all = mmap(NULL, room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED || buffer_count == MOST_BUFFERS) abort();
  char *pages = all + page;
  if (room && mprotect(pages, room, PROT_READ | PROT_WRITE)) abort();
  memset(pages, MARK, room);
  char *start = at_end ? pages + room - bytes : pages;
  buffers[buffer_count++] = (Buffer){pages, start, bytes, room};
  return start;
}

/* Looks at what lies around the buffers of one case, and frees them. */
static void free_buffers(void)
{
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  while (buffer_count > 0) {
    Buffer *b = &buffers[--buffer_count];
    for (char *p = b->pages; p < b->pages + b->room; p++)
      if ((p < b->start || p >= b->start + b->bytes) && *p != (char)MARK) {
        fail("wrote beside a buffer");
        break;
      }
    munmap(b->pages - page, b->room + 2 * page);
  }
}

static uint64_t state = 1;

/* From -1 to 1. */
static double noise(void)
{
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (double)(int64_t)state * 0x1p-63;
}

static void near(real found, real expected, real bound, const char *what)
{
  if (!(fabsl(found - expected) <= bound)) {
    char text[200];
    snprintf(text, sizeof text, "%s is %.17Lg and not %.17Lg, to %.2Lg", what, found, expected, bound);
    fail(text);
  }
}

static size_t rounded(size_t n, size_t lanes) { return (n + lanes - 1) / lanes * lanes; }

/* The numbers that rows `stride` apart take, the last one with `columns`. */
static size_t extent(size_t rows, size_t stride, size_t columns) { return rows ? (rows - 1) * stride + columns : 0; }

static const size_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 56, 57, 64, 97, 129};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* ---- Activations and losses in long double, with the sizes of the terms that they are sums of -------------------- */

static void activation_in_full(int kind, real parameter, real a, real d[5], real size[5])
{
  const real root_half = 0.70710678118654752440L, density = 0.39894228040143267794L;
  real h[5], hs[5], t, s, q1, q2, q3, s4[5];
  int is_times_a = 0;
  memset(d, 0, 5 * sizeof *d);
  switch (kind) {
    case swk_identity:
    case swk_leaky_relu:
      d[1] = kind == swk_identity || a > 0 ? 1 : parameter;
      d[0] = d[1] * a;
      break;
    case swk_elu:
      d[0] = a > 0 ? a : parameter * expm1l(a), d[1] = a > 0 ? 1 : parameter * expl(a);
      d[2] = d[3] = d[4] = a > 0 ? 0 : d[1];
      break;
    case swk_sine:
      d[0] = sinl(a), d[1] = cosl(a), d[2] = -d[0], d[3] = -d[1], d[4] = d[0];
      for (int k = 0; k < 5; k++) size[k] = 1; /* the C library's, to an ulp of 1 near its zeros */
      return;
    case swk_tanh:
      t = tanhl(a), s = 1 / (coshl(a) * coshl(a));
      d[0] = t, d[1] = s, d[2] = -2 * t * s, d[3] = s * (4 - 6 * s), d[4] = t * s * (24 * s - 8);
      size[0] = fabsl(t), size[1] = s, size[2] = fabsl(d[2]), size[3] = s * (4 + 6 * s);
      size[4] = fabsl(t) * s * (24 * s + 8);
      return;
    case swk_sigmoid:
    case swk_softplus:
    case swk_silu:
    case swk_gelu_tanh:
      q1 = 1, q2 = q3 = 0, t = a;
      if (kind == swk_gelu_tanh) {
        const real c = 0.79788456080286535588L, cubic = 0.044715L;
        t = 2 * c * a * (1 + cubic * a * a);
        q1 = 2 * c * (1 + 3 * cubic * a * a), q2 = 12 * c * cubic * a, q3 = 12 * c * cubic;
      }
      s = 1 / (1 + expl(-t));
      s4[0] = s, s4[1] = s / (1 + expl(t)), s4[2] = -s4[1] * tanhl(t / 2);
      s4[3] = s4[1] * (1 - 6 * s4[1]), s4[4] = s4[2] * (1 - 12 * s4[1]);
      for (int sign = 0; sign < 2; sign++) { /* the values, then the sizes */
        real *out = sign ? hs : h, v[5] = {s4[0], s4[1], s4[2], s4[3], s4[4]}, e2 = q2;
        if (sign) {
          v[2] = fabsl(s4[2]), v[3] = s4[1] * (1 + 6 * s4[1]), v[4] = v[2] * (1 + 12 * s4[1]), e2 = fabsl(q2);
          for (int k = 0; k < 5; k++) v[k] *= 1 + fabsl(t); /* the rounding of t in the exponential */
        }
        out[0] = v[0], out[1] = v[1] * q1, out[2] = v[2] * q1 * q1 + v[1] * e2;
        out[3] = v[3] * q1 * q1 * q1 + 3 * v[2] * q1 * e2 + v[1] * q3;
        out[4] = v[4] * q1 * q1 * q1 * q1 + 6 * v[3] * q1 * q1 * e2 + v[2] * (3 * e2 * e2 + 4 * q1 * q3);
      }
      is_times_a = kind == swk_silu || kind == swk_gelu_tanh;
      if (kind == swk_softplus) {
        d[0] = size[0] = (a > 0 ? a : 0) + log1pl(expl(-fabsl(a)));
        for (int k = 1; k < 5; k++) d[k] = h[k - 1], size[k] = hs[k - 1];
        return;
      }
      if (kind == swk_sigmoid) {
        for (int k = 0; k < 5; k++) d[k] = h[k], size[k] = hs[k];
        return;
      }
      break;
    case swk_gelu:
      s = density * expl(-a * a / 2);
      h[0] = erfcl(-a * root_half) / 2, h[1] = s, h[2] = -a * s, h[3] = (a * a - 1) * s, h[4] = (3 * a - a * a * a) * s;
      hs[0] = h[0], hs[1] = s, hs[2] = fabsl(a) * s, hs[3] = (a * a + 1) * s, hs[4] = (3 + a * a) * fabsl(a) * s;
      for (int k = 0; k < 5; k++) hs[k] *= 1 + a * a; /* the rounding of a² in the exponential */
      is_times_a = 1;
      break;
  }
  for (int k = 0; k < 5; k++) {
    if (is_times_a) {
      d[k] = a * h[k] + (k ? k * h[k - 1] : 0);
      size[k] = fabsl(a) * hs[k] + (k ? k * hs[k - 1] : 0);
    } else {
      size[k] = fabsl(d[k]);
    }
  }
}

static void loss_in_full(int kind, real delta, real z, real y, real d[5], real size[5])
{
  real r = z - y, v[5], vs[5];
  memset(d, 0, 5 * sizeof *d);
  switch (kind) {
    case swk_squared_error:
      d[0] = r * r / 2, d[1] = r, d[2] = 1;
      break;
    case swk_huber:
      d[0] = fabsl(r) < delta ? r * r / 2 : delta * (fabsl(r) - delta / 2);
      d[1] = fabsl(r) < delta ? r : copysignl(delta, r);
      d[2] = fabsl(r) < delta;
      break;
    case swk_binary_cross_entropy:
      activation_in_full(swk_sigmoid, 0, z, v, vs);
      d[0] = (z > 0 ? z * (1 - y) : -y * z) + log1pl(expl(-fabsl(z)));
      d[1] = (1 - y) * v[0] - y / (1 + expl(z));
      for (int k = 2; k < 5; k++) d[k] = v[k - 1], size[k] = vs[k - 1];
      size[0] = fabsl(z) * (1 + fabsl(y)) + 1, size[1] = (1 + fabsl(y)) * (1 + fabsl(z));
      return;
  }
  real rounding = fabsl(z) + fabsl(y); /* of r */
  size[0] = (fabsl(r) + delta) * rounding + fabsl(d[0]), size[1] = rounding, size[2] = 1;
  size[3] = size[4] = 0;
}

/* ---- The typed kernels --------------------------------------------------------------------------------------------- */

#define T float
#define LANES 8
#define NAME(a) a##_f32
#define JOINED NAME
#define UNIT_ROUNDOFF 0x1p-24L
#define SMALLEST_NORMAL 0x1p-126L
#include "test_typed_kernels.h"
#undef T
#undef LANES
#undef NAME
#undef JOINED
#undef UNIT_ROUNDOFF
#undef SMALLEST_NORMAL

#define T double
#define LANES 4
#define NAME(a) a##_f64
#define JOINED NAME
#define UNIT_ROUNDOFF 0x1p-53L
#define SMALLEST_NORMAL 0x1p-1022L
#include "test_typed_kernels.h"
#undef T
#undef LANES
#undef NAME
#undef JOINED
#undef UNIT_ROUNDOFF
#undef SMALLEST_NORMAL

/* ---- Four systems at once ------------------------------------------------------------------------------------------ */

static const real u64 = 0x1p-53L;

static void cholesky(size_t used, size_t more, int is_gram)
{
  enum { B = swk_batch };
  size_t n = rounded(used, 4), samples = used + more, ld = used + more;
  UNDER_WAY("batched_%s, used %zu of %zu, %zu samples", is_gram ? "gram" : "scaled_kernel", used, n, samples);
  double damping = 0.25;
  double *matrix = buffer(n * n * B * 8), *inverse = buffer(n * B * 8), *x = buffer(n * B * 8);
  size_t rows = is_gram ? samples : used;
  double *h = buffer(extent(rows, ld, used) * 8), *d = buffer(rows * B * 8);
  for (size_t i = 0; i < extent(rows, ld, used); i++) h[i] = noise() / sqrt((double)rows);
  if (!is_gram) /* a kernel that is diagonally dominant */
    for (size_t i = 0; i < used; i++) h[i * ld + i] = 2 + (double)used;
  for (size_t i = 0; i < rows * B; i++) d[i] = 0.5 + fabs(noise());
  for (size_t i = 0; i < n * B; i++) x[i] = i < used * B ? noise() : 0;
  if (is_gram) {
    swk_batched_gram(n, used, samples, h, ld, d, damping, matrix);
  } else {
    swk_batched_scaled_kernel(n, used, h, ld, d, damping, matrix);
  }
  double *a = malloc(n * n * B * 8), *b = malloc(n * B * 8);
  memcpy(a, matrix, n * n * B * 8);
  memcpy(b, x, n * B * 8);
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j <= i; j++)
      for (size_t lane = 0; lane < B; lane++) {
        real sum = i == j ? i < used ? damping : 1 : 0, size = sum;
        for (size_t s = 0; i < used && s < (is_gram ? samples : 1); s++) {
          real term = is_gram ? (real)h[s * ld + i] * h[s * ld + j] * d[s * B + lane] * d[s * B + lane]
                              : (real)h[i * ld + j] * d[i * B + lane] * d[j * B + lane];
          sum += term;
          size += fabsl(term);
        }
        near(a[(i * n + j) * B + lane], sum, ((real)samples + 4) * u64 * size, "an entry");
      }
  swk_batched_cholesky_factor(n, matrix, inverse);
  swk_batched_cholesky_solve(n, matrix, inverse, x);
  /* Higham's theorem 10.4: the residual is that of |L||L|ᵀ|x|; two roundings more, as pivots are inverted. */
  for (size_t lane = 0; lane < B; lane++)
    for (size_t i = 0; i < n; i++) {
      real sum = 0, size = 0;
      for (size_t j = 0; j < n; j++) {
        size_t at = i >= j ? i * n + j : j * n + i;
        sum += (real)a[at * B + lane] * x[j * B + lane];
        real product = 0;
        for (size_t k = 0; k <= (i < j ? i : j); k++)
          product += fabsl((real)matrix[(i * n + k) * B + lane] * matrix[(j * n + k) * B + lane]);
        size += product * fabsl((real)x[j * B + lane]);
      }
      near(sum, b[i * B + lane], (3 * (real)n + 8) * u64 * size, "a row of A x");
    }
  free(a);
  free(b);
  free_buffers();
}

static void systems(void)
{
  const size_t orders[] = {1, 3, 4, 5, 8, 13, 24};
  for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
    for (size_t more = 0; more < 3; more++)
      for (int is_gram = 0; is_gram < 2; is_gram++) cholesky(orders[i], more, is_gram);
}

/* ---- Pixels -------------------------------------------------------------------------------------------------------- */

static void bytes_of_doubles(size_t n)
{
  UNDER_WAY("pixels_from_doubles, %zu", n);
  double *x = buffer(n * 8);
  uint8_t *bytes = buffer(n);
  for (size_t i = 0; i < n; i++) x[i] = (double)(i * 37 % 256) / 256 - 0.5;
  static int (*const functions[])(size_t, const double *, uint8_t *) = {NULL, from_doubles, from_doubles_v3,
                                                                        from_doubles_v4};
  int (*convert)(size_t, const double *, uint8_t *) = functions[chosen_level];
  if (convert(n, x, bytes) != 1) fail("pixels were not seen");
  for (size_t i = 0; i < n; i++)
    if (bytes[i] != i * 37 % 256) fail("a byte");
  float *y = buffer(n * 4);
  UNDER_WAY("pixels_to_floats, %zu", n);
  swk_pixels_to_floats(n, bytes, y);
  for (size_t i = 0; i < n; i++)
    if (y[i] != (float)bytes[i] - 128) fail("a float");
  double *z = buffer(n * 8);
  UNDER_WAY("pixels_to_doubles, %zu", n);
  swk_pixels_to_doubles(n, bytes, z);
  for (size_t i = 0; i < n; i++)
    if (z[i] != (double)bytes[i] - 128) fail("a double");
  const double others[] = {NAN, INFINITY, -INFINITY, 0.5, -0.5000001, 0x1p-9, 1e300, -0x1p31, 0x1p40};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    size_t place = i * 7 % n;
    double before = x[place];
    x[place] = others[i];
    if (convert(n, x, bytes)) fail("a number that is no pixel was taken for one");
    x[place] = before;
  }
  free_buffers();
}

static void fill(uint8_t *bytes, size_t rows, size_t columns, size_t stride)
{
  for (size_t i = 0; i < rows * stride; i++) bytes[i] = i % stride < columns ? (uint8_t)(noise() * 128 + 128) : 128;
}

static void gram_of_pixels(size_t n, size_t columns)
{
  size_t stride = rounded(columns, 4);
  UNDER_WAY("pixels_gram_panel, %zu by %zu", n, columns);
  uint8_t *bytes = buffer(n * stride), *scratch = buffer(3 * swk_pixels_panel * stride);
  size_t ld = n + n % 3;
  double *gram = buffer(extent(n, ld, n) * 8);
  fill(bytes, n, columns, stride);
  if (n > 2) memset(bytes + stride, 0, columns), memset(bytes + 2 * stride, 255, columns); /* the largest sums */
  for (size_t first = 0; first < n; first += swk_pixels_panel)
    (chosen_level == 3 ? gram_panel_vnni : gram_panel_v3)(n, stride, bytes, first, scratch, gram, ld);
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j <= i; j++) {
      int64_t sum = 0;
      for (size_t p = 0; p < columns; p++) sum += ((int)bytes[i * stride + p] - 128) * ((int)bytes[j * stride + p] - 128);
      if (gram[i * ld + j] != (double)sum / 65536) fail("an entry is not exact");
    }
  free_buffers();
}

static void product_of_pixels(size_t rows, size_t depth, size_t width, int count, double beta)
{
  enum { W = swk_pixels_columns };
  size_t stride = rounded(depth, 4), ldb = width + depth % 2, ldc = width + rows % 2;
  UNDER_WAY("pixels_product, %zu by %zu by %zu, %d digits, beta %g", rows, depth, width, count, beta);
  uint8_t *bytes = buffer(rows * stride);
  double *b = buffer(extent(depth, ldb, width) * 8), *c = buffer(extent(rows, ldc, width) * 8);
  int8_t *digits = buffer((size_t)count * W * stride);
  double *scales = buffer(W * 8);
  int32_t *sums = buffer((size_t)count * W * 4);
  double *before = malloc(extent(rows, ldc, width) * 8 + 1), alpha = -1.5;
  fill(bytes, rows, depth, stride);
  for (size_t i = 0; i < extent(depth, ldb, width); i++) b[i] = noise();
  for (size_t i = 0; i < extent(rows, ldc, width); i++) before[i] = c[i] = noise();
  if (depth > 1) b[ldb] = -1; /* the largest of the first column, to the last of its digits */
  swk_pixels_split(depth, width, stride, b, ldb, count, digits, scales, sums);
  swk_pixels_product(rows, width, stride, bytes, count, digits, scales, sums, alpha, beta, c, ldc);
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < width; j++) {
      real sum = 0, size = 0, largest = 0;
      for (size_t p = 0; p < depth; p++) {
        real x = ((real)bytes[i * stride + p] - 128) / 256;
        sum += x * b[p * ldb + j];
        size += fabsl(x);
        if (fabsl((real)b[p * ldb + j]) > largest) largest = fabsl((real)b[p * ldb + j]);
      }
      /* Of b's digits, and four roundings of sums whose digits may be larger than the sum. */
      real of_digits = fabsl((real)alpha) * size * largest * ldexpl(1, 2 - 8 * count);
      real whole = fabsl(beta * before[i * ldc + j]) + 2 * fabsl((real)alpha) * size * largest;
      near(c[i * ldc + j], beta * before[i * ldc + j] + alpha * sum, of_digits + 4 * u64 * whole, "an entry");
    }
  free(before);
  free_buffers();
}

static void pixels(void)
{
  for (size_t i = 0; i < SIZES; i++) bytes_of_doubles(sizes[i]);
  bytes_of_doubles(4096);
  bytes_of_doubles(5000);
  if (chosen_level == 1) return;
#ifndef EMULATED
  if (chosen_level == 3 && !swk_pixels_supported()) return;
#endif
  const size_t some[] = {1, 2, 3, 5, 11, 12, 13, 31, 32, 33, 47, 64, 65};
  enum { SOME = sizeof some / sizeof *some };
  for (size_t i = 0; i < SOME; i++)
    for (size_t j = 0; j < SOME; j++) gram_of_pixels(some[i], some[j]);
  if (chosen_level != 3) return;
  const int counts[] = {4, 6, 7};
  for (size_t i = 0; i < SOME; i++)
    for (size_t j = 0; j < SOME; j++)
      for (int k = 0; k < 3; k++) product_of_pixels(some[i], some[j], 1 + (i + 3 * j) % 16, counts[k], (double)(i % 2));
}

/* -------------------------------------------------------------------------------------------------------------------- */

static int has_level(int level)
{
  __builtin_cpu_init();
  if (level == 2) return __builtin_cpu_supports("x86-64-v3");
#ifdef EMULATED
  if (level == 3) return __builtin_cpu_supports("x86-64-v3");
#else
  if (level == 3) return __builtin_cpu_supports("x86-64-v4");
#endif
  return 1;
}

int main(void)
{
  const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], on_fault);
  for (int level = 1; level <= 3; level++) {
    if (!has_level(level)) continue;
    chosen_level = level;
    for (at_end = 0; at_end < 2; at_end++) {
      typed_f32();
      typed_f64();
      systems();
      pixels();
    }
    printf("%s\n", level_names[level]);
  }
  if (failures) fprintf(stderr, "%d failures\n", failures);
  return failures != 0;
}
