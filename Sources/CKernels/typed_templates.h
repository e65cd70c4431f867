// Included by templates.h for float and for double. Deliberately without an include guard.

typedef T TYPED(vector) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T))));
#define V TYPED(vector)

static T TYPED(dot)(size_t n, const T *x, const T *y) {
  V sum[4] = {};
  size_t i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES)
    for (int j = 0; j < 4; j++) sum[j] += *(const V *)(x + i + j * LANES) * *(const V *)(y + i + j * LANES);
  V all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  T total = 0;
  for (int j = 0; j < LANES; j++) total += all[j];
  for (; i < n; i++) total += x[i] * y[i];
  return total;
}

static void TYPED(axpy)(size_t n, T a, const T *x, T *y) {
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) *(V *)(y + i) += a * *(const V *)(x + i);
  for (; i < n; i++) y[i] += a * x[i];
}

static void TYPED(xpby)(size_t n, const T *x, T b, T *y) {
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) *(V *)(y + i) = *(const V *)(x + i) + b * *(V *)(y + i);
  for (; i < n; i++) y[i] = x[i] + b * y[i];
}

// Four rows at a time become four columns: 4 × 4 blocks, transposed in registers by the compiler's shuffles.
static void TYPED(transpose)(size_t m, size_t n, const T *a, size_t lda, T *b, size_t ldb) {
  size_t i = 0;
  for (; i + 4 <= m; i += 4) {
    const T *row = a + i * lda;
    T *target = b + i;
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
      T block[4][4];
#pragma clang loop unroll(full)
      for (int r = 0; r < 4; r++)
#pragma clang loop unroll(full)
        for (int c = 0; c < 4; c++) block[c][r] = row[r * lda + j + c];
#pragma clang loop unroll(full)
      for (int c = 0; c < 4; c++)
#pragma clang loop unroll(full)
        for (int r = 0; r < 4; r++) target[(j + c) * ldb + r] = block[c][r];
    }
    for (; j < n; j++)
      for (int r = 0; r < 4; r++) target[j * ldb + r] = row[r * lda + j];
  }
  for (; i < m; i++)
    for (size_t j = 0; j < n; j++) b[j * ldb + i] = a[i * lda + j];
}

static void TYPED(multiply)(size_t n, const T *x, const T *y, T *z) {
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) *(V *)(z + i) = *(const V *)(x + i) * *(const V *)(y + i);
  for (; i < n; i++) z[i] = x[i] * y[i];
}

static void TYPED(multiply_add)(size_t n, const T *x, const T *y, T *z) {
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) *(V *)(z + i) += *(const V *)(x + i) * *(const V *)(y + i);
  for (; i < n; i++) z[i] += x[i] * y[i];
}

static void TYPED(mixed_tangent)(size_t n, T factor, const T *slope, const T *second, const T *u, const T *v,
                                 const T *uv, T *out) {
  size_t i = 0;
#define AT(x) (*(const V *)((x) + i))
  for (; i + LANES <= n; i += LANES)
    *(V *)(out + i) = AT(slope) * AT(uv) + factor * AT(second) * (AT(u) * AT(v));
#undef AT
  for (; i < n; i++) out[i] = slope[i] * uv[i] + factor * second[i] * (u[i] * v[i]);
}

static void TYPED(mixed_delta)(size_t n, T factor, const T *const states[4], const T *const images[3],
                               const T *const cotangents[3], T *out) {
  const T *slope = states[0], *second = states[1], *curvature = states[2], *third = states[3];
  const T *u = images[0], *v = images[1], *uv = images[2];
  const T *gu = cotangents[0], *gv = cotangents[1], *guv = cotangents[2];
  size_t i = 0;
#define AT(x) (*(const V *)((x) + i))
  for (; i + LANES <= n; i += LANES)
    *(V *)(out + i) = AT(slope) * AT(guv) + AT(curvature) * AT(uv) +
                      factor * (AT(third) * (AT(u) * AT(v)) + AT(second) * (AT(u) * AT(gv) + AT(v) * AT(gu)));
#undef AT
  for (; i < n; i++)
    out[i] = slope[i] * guv[i] + curvature[i] * uv[i] +
             factor * (third[i] * (u[i] * v[i]) + second[i] * (u[i] * gv[i] + v[i] * gu[i]));
}

static void TYPED(scale_rows)(size_t m, size_t n, const T *x, size_t x_step, const T *a, size_t lda, const T *y,
                              size_t y_step, const T *b, size_t ldb, T *c, size_t ldc) {
  for (size_t i = 0; i < m; i++) {
    T first = x[i * x_step], second = b ? y[i * y_step] : 0;
    const T *a_row = a + i * lda, *b_row = b ? b + i * ldb : a_row;
    T *c_row = c + i * ldc;
    for (size_t j = 0; j < n; j += LANES) {
      V value = first * *(const V *)(a_row + j);
      if (b) value += second * *(const V *)(b_row + j);
      *(V *)(c_row + j) = value;
    }
  }
}

// A row repeated until it fills whole vectors, up to PERIOD numbers: narrow rows are then read and written as one.
#define PERIOD 512
static size_t TYPED(repeats)(size_t n, size_t least) {
  size_t count = n % LANES == 0 ? 1 : LANES;
  while (count * n < least) count *= 2;
  return count * n <= PERIOD ? count : 0;
}

static void TYPED(fill_period)(size_t n, size_t rows, const T *v, T *repeated) {
  for (size_t r = 0; r < rows; r++) memcpy(repeated + r * n, v, n * sizeof(T));
}

// Both vectors and the rows' numbers, by whole vectors of a period.
#define COLUMNS(...)                                                      \
  for (size_t i = 0; i < count; i += period) {                            \
    const size_t width = count - i < period ? count - i : period;         \
    size_t j = 0;                                                         \
    for (; j + LANES <= width; j += LANES) {                              \
      const V x = *(const V *)(a + i + j), s = *(const V *)(scales + j);  \
      const V t = *(const V *)(terms + j), z = *(const V *)(c + i + j);   \
      *(V *)(c + i + j) = (__VA_ARGS__);                                  \
    }                                                                     \
    for (; j < width; j++) {                                              \
      const T x = a[i + j], s = scales[j], t = terms[j], z = c[i + j];    \
      c[i + j] = (__VA_ARGS__);                                           \
    }                                                                     \
  }

static void TYPED(scale_columns)(size_t m, size_t n, const T *a, const T *v, int adds, T *c) {
  T repeated[PERIOD] __attribute__((aligned(64)));
  const size_t rows = TYPED(repeats)(n, LANES);
  const size_t period = rows ? rows * n : n, count = m * n;
  if (rows > 1) TYPED(fill_period)(n, rows, v, repeated);
  const T *scales = rows > 1 ? repeated : v, *terms = scales;
  if (adds)
    COLUMNS((void)t, z + x * s)
  else
    COLUMNS((void)t, (void)z, x *s)
}

static void TYPED(affine_columns)(size_t m, size_t n, const T *a, const T *v, const T *b, T *c) {
  T repeated[2][PERIOD] __attribute__((aligned(64)));
  const size_t rows = TYPED(repeats)(n, LANES);
  const size_t period = rows ? rows * n : n, count = m * n;
  if (rows > 1) {
    TYPED(fill_period)(n, rows, b, repeated[0]);
    if (v) TYPED(fill_period)(n, rows, v, repeated[1]);
  }
  const T *terms = rows > 1 ? repeated[0] : b, *scales = !v ? terms : rows > 1 ? repeated[1] : v;
  if (v)
    COLUMNS((void)z, x * s + t)
  else
    COLUMNS((void)z, (void)s, x + t)
}
#undef COLUMNS

// Sums of a period first: as many sums at once hide the latency of each.
static void TYPED(column_dots)(size_t m, size_t n, const T *a, const T *b, T *sums) {
  T sum[PERIOD] __attribute__((aligned(64)));
  const size_t rows = TYPED(repeats)(n, 8 * LANES);
  for (size_t first = 0; first < n; first += PERIOD) {
    const size_t width = rows ? rows * n : n - first < PERIOD ? n - first : PERIOD;
    const size_t step = rows ? width : n, count = m * n;
    memset(sum, 0, sizeof(T) * width);
    for (size_t i = first; i < count; i += step) {
      const size_t here = count - i < width ? count - i : width;
      size_t j = 0;
      if (b) {
        for (; j + LANES <= here; j += LANES)
          *(V *)(sum + j) += *(const V *)(a + i + j) * *(const V *)(b + i + j);
        for (; j < here; j++) sum[j] += a[i + j] * b[i + j];
      } else {
        for (; j + LANES <= here; j += LANES) *(V *)(sum + j) += *(const V *)(a + i + j);
        for (; j < here; j++) sum[j] += a[i + j];
      }
    }
    for (size_t j = 0; j < width; j++) sums[rows ? j % n : first + j] += sum[j];
    if (rows) break;
  }
}

#undef PERIOD
#undef V
