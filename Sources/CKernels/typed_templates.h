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

#undef V
