// Included by templates.h for float and for double. Deliberately without an include guard.

typedef T TYPED(vector) __attribute__((vector_size(32), aligned(sizeof(T))));
#define V TYPED(vector)
#define SLAB 64

// One tile of C: `rows` × `vectors`·LANES, all of it in registers; both are constants after inlining. Of its last vector
// only `tail` lanes are stored, unless that is 0.
INLINE void TYPED(tile)(const int rows, const int vectors, size_t k, const T *a, size_t a_row, size_t a_column,
                        const T *b, size_t ldb, const T *scale, size_t lds, enum swk_update update, size_t tail, T *c,
                        size_t ldc) {
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
      T *target = c + i * ldc + j * LANES;
      if (tail && j == vectors - 1) {
        for (size_t lane = 0; lane < tail; lane++) {
          T before = update == swk_set ? 0 : target[lane];
          target[lane] = update == swk_subtract ? before - value[lane] : before + value[lane];
        }
        continue;
      }
      if (update == swk_add) value = *(const V *)target + value;
      if (update == swk_subtract) value = *(const V *)target - value;
      *(V *)target = value;
    }
}

// All rows of one panel of `vectors` vectors.
INLINE void TYPED(panel)(const int vectors, size_t m, size_t k, const T *a, size_t a_row, size_t a_column, const T *b,
                         size_t ldb, const T *scale, size_t lds, enum swk_update update, size_t tail, T *c, size_t ldc) {
  size_t i = 0;
  for (; i + TILE_ROWS <= m; i += TILE_ROWS)
    TYPED(tile)(TILE_ROWS, vectors, k, a + i * a_row, a_row, a_column, b, ldb, scale ? scale + i * lds : 0, lds,
                update, tail, c + i * ldc, ldc);
  for (; i < m; i++)
    TYPED(tile)(1, vectors, k, a + i * a_row, a_row, a_column, b, ldb, scale ? scale + i * lds : 0, lds, update,
                tail, c + i * ldc, ldc);
}

// C ± A B for a B of at most SLAB rows, or any number where A has few. With `pack`, panels of B are copied together.
static void TYPED(slab)(size_t m, size_t n, size_t k, const T *a, size_t a_row, size_t a_column, const T *b, size_t ldb,
                        int pack, const T *scale, size_t lds, enum swk_update update, int exact, T *c, size_t ldc) {
  T packed[SLAB * TILE_VECTORS * LANES];
  size_t left = (n + LANES - 1) / LANES;
  // Panels of nearly equal width keep every tile wide enough to hide the latency of its sums.
  for (size_t panels = (left + TILE_VECTORS - 1) / TILE_VECTORS; panels > 0; panels--) {
    size_t vectors = (left + panels - 1) / panels;
    size_t tail = exact && panels == 1 ? n % LANES : 0;
    const T *source = b;
    size_t step = ldb;
    if (pack) {
      step = vectors * LANES;
      source = packed;
      for (size_t p = 0; p < k; p++)
        for (size_t j = 0; j < step; j += LANES) *(V *)(packed + p * step + j) = *(const V *)(b + p * ldb + j);
    }
#define PANEL(width)                                                                                       \
  case width:                                                                                              \
    if (width <= TILE_VECTORS)                                                                             \
      TYPED(panel)(width <= TILE_VECTORS ? width : 1, m, k, a, a_row, a_column, source, step, scale, lds, \
                   update, tail, c, ldc);                                                                  \
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

// A tall B goes in slabs, of which a panel stays in the first-level cache for all rows of A. Wide rows of B, which would
// compete for the same few lines of it, are packed first. Slabs also keep float's sums of many products short.
static void TYPED(gemm)(size_t m, size_t n, size_t k, const T *a, size_t a_row, size_t a_column, const T *b,
                        size_t ldb, const T *scale, size_t lds, enum swk_update update, int exact, T *c, size_t ldc) {
  size_t slabs = (m < 8 && sizeof(T) > 4) || k <= SLAB * 3 / 2 ? 1 : (k + SLAB - 1) / SLAB;
  int pack = m >= 16 && ldb * sizeof(T) >= 1024 && k <= SLAB * slabs;
  for (size_t slab = 0; slab < slabs; slab++) {
    size_t first = k * slab / slabs, count = k * (slab + 1) / slabs - first;
    TYPED(slab)(m, n, count, a + first * a_column, a_row, a_column, b + first * ldb, ldb, pack, scale, lds, update,
                exact, c, ldc);
    if (update == swk_set) update = swk_add;
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
#undef SLAB
