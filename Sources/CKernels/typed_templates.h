// Included by templates.h for float and for double. Deliberately without an include guard.

typedef T TYPED(vector) __attribute__((vector_size(32), aligned(sizeof(T))));
#define V TYPED(vector)

// One tile of C: `rows` × `vectors`·LANES, all of it in registers. Constants after inlining.
INLINE void TYPED(tile)(const int rows, const int vectors, size_t k, const T *a, size_t a_row, size_t a_column,
                        const T *b, size_t ldb, const T *scale, size_t lds, int subtract, T *c, size_t ldc) {
  V sum[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (int j = 0; j < vectors; j++) sum[i][j] = (V){};
  for (size_t p = 0; p < k; p++) {
    V row[TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int j = 0; j < vectors; j++) row[j] = *(const V *)(b + p * ldb + j * LANES);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
      T factor = a[i * a_row + p * a_column];
#pragma clang loop unroll(full)
      for (int j = 0; j < vectors; j++) sum[i][j] += factor * row[j];
    }
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (int j = 0; j < vectors; j++) {
      V value = sum[i][j];
      if (scale) value *= *(const V *)(scale + i * lds + j * LANES);
      V *target = (V *)(c + i * ldc + j * LANES);
      *target = subtract ? *target - value : value;
    }
}

// All rows of one panel of `vectors` vectors.
INLINE void TYPED(panel)(const int vectors, size_t m, size_t k, const T *a, size_t a_row, size_t a_column, const T *b,
                         size_t ldb, const T *scale, size_t lds, int subtract, T *c, size_t ldc) {
  size_t i = 0;
  for (; i + TILE_ROWS <= m; i += TILE_ROWS)
    TYPED(tile)(TILE_ROWS, vectors, k, a + i * a_row, a_row, a_column, b, ldb, scale ? scale + i * lds : 0, lds,
                subtract, c + i * ldc, ldc);
  for (; i < m; i++)
    TYPED(tile)(1, vectors, k, a + i * a_row, a_row, a_column, b, ldb, scale ? scale + i * lds : 0, lds, subtract,
                c + i * ldc, ldc);
}

static void TYPED(gemm)(size_t m, size_t n, size_t k, const T *a, size_t a_row, size_t a_column, const T *b,
                        size_t ldb, const T *scale, size_t lds, int subtract, T *c, size_t ldc) {
  size_t left = (n + LANES - 1) / LANES;
  // Panels of nearly equal width keep every tile wide enough to hide the latency of its sums.
  for (size_t panels = (left + TILE_VECTORS - 1) / TILE_VECTORS; panels > 0; panels--) {
    size_t vectors = (left + panels - 1) / panels;
#define PANEL(width)                                                                                    \
  case width:                                                                                           \
    if (width <= TILE_VECTORS)                                                                          \
      TYPED(panel)(width <= TILE_VECTORS ? width : 1, m, k, a, a_row, a_column, b, ldb, scale, lds, subtract, \
                   c, ldc);                                                                              \
    break;
    switch (vectors) {
      PANEL(1)
      PANEL(2)
      PANEL(3)
      PANEL(4)
      PANEL(5)
      PANEL(6)
      PANEL(7)
    }
#undef PANEL
    b += vectors * LANES;
    c += vectors * LANES;
    if (scale) scale += vectors * LANES;
    left -= vectors;
  }
}

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

#undef V
