// Included by templates.h for float and for double. Deliberately without an include guard.
//
// C ± A B, by tiles of C in registers. A row of C has the same bits whatever rows are computed with it, by however many
// threads: how sums are cut depends on k alone.

typedef T TYPED(wide) __attribute__((vector_size(WIDE_BYTES), aligned(sizeof(T))));
#define W TYPED(wide)
#define WIDE (WIDE_BYTES / sizeof(T))
#define SLAB 64       // rows of B at a time: a panel of them stays in the first-level cache
#define BLOCK_ROWS 64  // of A at a time, where they are packed

// The first lanes of a vector: a mask of AVX-512 or AVX, elsewhere their number.
#if WIDE_BYTES == 64
#define PART MASK
#define FIRST(lanes) ((PART)((1u << (lanes)) - 1))
INLINE W TYPED(load_part)(PART part, const T *p) {
  REGISTER value = MASKED_LOAD(part, p);
  W result;
  memcpy(&result, &value, sizeof result);
  return result;
}
INLINE void TYPED(store_part)(PART part, T *p, W value) {
  REGISTER whole;
  memcpy(&whole, &value, sizeof whole);
  MASKED_STORE(p, part, whole);
}
#elif defined(HAS_AVX_MASKS)
#define PART __m256i
static const INTEGER TYPED(masks)[2 * WIDE] = {ALL_LANES};
#define FIRST(lanes) _mm256_loadu_si256((const __m256i *)(TYPED(masks) + WIDE - (lanes)))
INLINE W TYPED(load_part)(PART part, const T *p) {
  REGISTER_256 value = MASKED_LOAD_256(p, part);
  W result;
  memcpy(&result, &value, sizeof result);
  return result;
}
// In pieces: some processors take long for a masked store.
INLINE void TYPED(store_part)(PART part, T *p, W value) {
  const T *from = (const T *)&value;
  const int bytes = (int)sizeof(T) * MASK_COUNT(part);
  if (bytes & 16) {
    memcpy(p, from, 16);
    p += 16 / sizeof(T);
    from += 16 / sizeof(T);
  }
  if (bytes & 8) {
    memcpy(p, from, 8);
    p += 8 / sizeof(T);
    from += 8 / sizeof(T);
  }
  if (bytes & 4) memcpy(p, from, 4);
}
#else
#define PART size_t
#define FIRST(lanes) (lanes)
INLINE W TYPED(load_part)(PART part, const T *p) {
  W value = {};
  for (size_t lane = 0; lane < part; lane++) value[lane] = p[lane];
  return value;
}
INLINE void TYPED(store_part)(PART part, T *p, W value) {
  for (size_t lane = 0; lane < part; lane++) p[lane] = value[lane];
}
#endif

#define WHOLE(p) (*(const W *)(p))
// Vector j of a row of a panel: where that is `partial`, of its last vector the first lanes alone.
#define VECTOR(p, j) \
  (partial && (j) == vectors - 1 ? TYPED(load_part)(part, (p) + (j) * WIDE) : WHOLE((p) + (j) * WIDE))
// That of a padded row, which narrow vectors may read whole.
#define PADDED(p, j) (WIDE_BYTES < 64 ? WHOLE((p) + (j) * WIDE) : VECTOR(p, j))
#define UNROLLED _Pragma("clang loop unroll(full)")

// One tile of C: `rows` × `vectors`·WIDE; these and `partial` are constants after inlining. A step of 0 from column to
// column of A is that of packed tiles: their rows. A comes in `pieces` of k columns, `a_piece` from each other.
INLINE void TYPED(tile)(const int rows, const int vectors, const int partial, PART part, size_t k, size_t pieces,
                        size_t a_piece, const T *a, size_t a_row, size_t a_column, const T *b, size_t ldb,
                        const T *scale, size_t lds, enum swk_update update, T *c, size_t ldc) {
// Fused within a line alone: whether scaling and adding were fused could differ between tiles of one row and of more.
#pragma clang fp contract(on)
  W sum[TILE_ROWS][TILE_VECTORS];
  if (a_column == 0) a_column = (size_t)rows;
  UNROLLED for (int i = 0; i < rows; i++)
    UNROLLED for (int j = 0; j < vectors; j++) sum[i][j] = (W){};
  for (size_t piece = 0; piece < pieces; piece++, a += a_piece, b += k * ldb)
    for (size_t p = 0; p < k; p++) {
      W row[TILE_VECTORS];
      UNROLLED for (int j = 0; j < vectors; j++) row[j] = PADDED(b + p * ldb, j);
      UNROLLED for (int i = 0; i < rows; i++) {
        T factor = a[i * a_row + p * a_column];
        UNROLLED for (int j = 0; j < vectors; j++) sum[i][j] += factor * row[j];
      }
    }
  // All rows are read before any is written: where rows follow each other closely, the masked end of one would look as
  // if it wrote the beginning of the next, which would wait for it.
  UNROLLED for (int i = 0; i < rows; i++) {
    const T *target = c + i * ldc;
    UNROLLED for (int j = 0; j < vectors; j++) {
      if (scale) sum[i][j] *= PADDED(scale + i * lds, j);
      if (update == swk_add) sum[i][j] = VECTOR(target, j) + sum[i][j];
      if (update == swk_subtract) sum[i][j] = VECTOR(target, j) - sum[i][j];
    }
  }
  UNROLLED for (int i = 0; i < rows; i++) {
    T *target = c + i * ldc;
    UNROLLED for (int j = 0; j < vectors; j++) {
      if (partial && j == vectors - 1)
        TYPED(store_part)(part, target + j * WIDE, sum[i][j]);
      else
        *(W *)(target + j * WIDE) = sum[i][j];
    }
  }
}

// Runs `body` with `rows` a constant, on tiles of as many rows as fit, from row i to row m.
#define TILES(body)                                              \
  for (; i + TILE_ROWS <= m; i += TILE_ROWS) body(TILE_ROWS)      \
  if (TILE_ROWS > 4)                                             \
    for (; i + 4 <= m; i += 4) body(4)                          \
  for (; i + 2 <= m; i += 2) body(2)                             \
  for (; i < m; i++) body(1)

// All rows of one panel of `vectors` vectors. A's rows are a_step apart: a_row, or the columns of packed tiles.
INLINE void TYPED(panel)(const int vectors, const int partial, PART part, size_t m, size_t k, size_t pieces,
                         size_t a_piece, const T *a, size_t a_step, size_t a_row, size_t a_column, const T *b, size_t ldb, const T *scale, size_t lds,
                         enum swk_update update, T *c, size_t ldc) {
  size_t i = 0;
#define TILE(rows)                                                                                        \
  TYPED(tile)(rows, vectors, partial, part, k, pieces, a_piece, a + i * a_step, a_row, a_column, b, ldb,  \
              scale ? scale + i * lds : 0, lds, update, c + i * ldc, ldc);
  TILES(TILE)
#undef TILE
}

// All rows of a panel whose width is known at run time.
#define PANEL(width, is_partial, pieces, a_piece, source, step)                                                    \
  case 2 * width + is_partial:                                                                                     \
    if (width <= TILE_VECTORS)                                                                                     \
      TYPED(panel)(width <= TILE_VECTORS ? width : 1, is_partial, part, m, k, pieces, a_piece, a, a_step, a_row,   \
                   a_column, source, step, scale, lds, update, c, ldc);                                            \
    break;
#define PANELS(pieces, a_piece, source, step)      \
  switch (2 * vectors + partial) {                 \
    PANEL(1, 0, pieces, a_piece, source, step)     \
    PANEL(1, 1, pieces, a_piece, source, step)     \
    PANEL(2, 0, pieces, a_piece, source, step)     \
    PANEL(2, 1, pieces, a_piece, source, step)     \
    PANEL(3, 0, pieces, a_piece, source, step)     \
    PANEL(3, 1, pieces, a_piece, source, step)     \
  }

// C ± A B for a B of at most 3/2 SLAB rows. With `pack`, panels of B are copied together; `lanes` of the last vector of
// C may be written.
static void TYPED(slab)(size_t m, size_t n, size_t k, const T *a, size_t a_step, size_t a_row, size_t a_column,
                        const T *b, size_t ldb, int pack, const T *scale, size_t lds, enum swk_update update,
                        size_t lanes, T *c, size_t ldc) {
  T packed[SLAB * TILE_VECTORS * WIDE] __attribute__((aligned(64)));
  const PART part = FIRST(lanes);
  size_t left = (n + WIDE - 1) / WIDE;
  // Panels of nearly equal width keep every tile wide enough to hide the latency of its sums.
  for (size_t panels = (left + TILE_VECTORS - 1) / TILE_VECTORS; panels > 0; panels--) {
    const int vectors = (int)((left + panels - 1) / panels), partial = panels == 1 && lanes < WIDE;
    const T *source = b;
    size_t step = ldb;
    if (pack) {
      step = vectors * WIDE;
      source = packed;
      for (size_t p = 0; p < k; p++)
        for (int j = 0; j < vectors; j++) *(W *)(packed + p * step + j * WIDE) = PADDED(b + p * ldb, j);
    }
    PANELS(1, 0, source, step)
    b += vectors * WIDE;
    c += vectors * WIDE;
    if (scale) scale += vectors * WIDE;
    left -= vectors;
  }
}

// Tiles of A one after the other, each column by column, for an A whose columns are contiguous.
static void TYPED(pack_tiles)(size_t m, size_t k, const T *a, size_t a_column, T *packed) {
  size_t i = 0;
#define TILE(rows)                                                                                   \
  for (size_t p = 0; p < k; p++)                                                                     \
    UNROLLED for (int r = 0; r < rows; r++) packed[i * k + p * rows + r] = a[p * a_column + i + r];
  TILES(TILE)
#undef TILE
}

// A tall B goes in slabs, and slabs keep float's sums of many products short. Wide rows of B, and columns of A far from
// each other, would compete for the same few lines of the first-level cache: they are packed.
static void TYPED(gemm)(size_t m, size_t n, size_t k, const T *a, size_t a_row, size_t a_column, const T *b,
                        size_t ldb, const T *scale, size_t lds, enum swk_update update, int exact, T *c, size_t ldc) {
  T packed[BLOCK_ROWS * 3 / 2 * SLAB] __attribute__((aligned(64)));
  size_t slabs = k <= SLAB * 3 / 2 ? 1 : (k + SLAB - 1) / SLAB;
  int fits = k <= SLAB * slabs;
  int packs_b = m >= 16 && ldb * sizeof(T) >= 1024 && fits;
  int packs_a = n > TILE_VECTORS * WIDE && m >= 16 && a_row == 1 && a_column * sizeof(T) >= 1024 && fits;
  size_t blocks = m <= BLOCK_ROWS * 3 / 2 ? 1 : (m + BLOCK_ROWS - 1) / BLOCK_ROWS;
  // Up to its last 32 bytes a padded row of C may be written.
  size_t tail = n % WIDE, lanes = tail == 0 ? WIDE : exact ? tail : (tail + LANES - 1) / LANES * LANES;
  for (size_t slab = 0; slab < slabs; slab++) {
    size_t first = k * slab / slabs, count = k * (slab + 1) / slabs - first;
    for (size_t block = 0; block < blocks; block++) {
      // In multiples of 16 rows, so that only the last block has tiles of fewer.
      size_t row = m * block / blocks / 16 * 16, end = block + 1 == blocks ? m : m * (block + 1) / blocks / 16 * 16;
      const T *own = a + first * a_column + row * a_row;
      if (packs_a) TYPED(pack_tiles)(end - row, count, own, a_column, packed);
      TYPED(slab)(end - row, n, count, packs_a ? packed : own, packs_a ? count : a_row, a_row, packs_a ? 0 : a_column,
                  b + first * ldb, ldb, packs_b, scale ? scale + row * lds : 0, lds, update, lanes, c + row * ldc, ldc);
    }
    if (update == swk_set) update = swk_add;
  }
}

// C + A B for an A in pieces. Nothing is packed: B and the rows of A are for the first-level cache.
static void TYPED(gemm_pieces)(size_t m, size_t n, size_t k, size_t pieces, size_t a_piece, const T *a, size_t a_row,
                               size_t a_column, const T *b, size_t ldb, T *c, size_t ldc) {
  const size_t tail = n % WIDE, lanes = tail == 0 ? WIDE : tail, a_step = a_row, lds = 0;
  const enum swk_update update = swk_add;
  const T *scale = 0;
  const PART part = FIRST(lanes);
  size_t left = (n + WIDE - 1) / WIDE;
  for (size_t panels = (left + TILE_VECTORS - 1) / TILE_VECTORS; panels > 0; panels--) {
    const int vectors = (int)((left + panels - 1) / panels), partial = panels == 1 && lanes < WIDE;
    PANELS(pieces, a_piece, b, ldb)
    b += vectors * WIDE;
    c += vectors * WIDE;
    left -= vectors;
  }
}

#undef PANEL
#undef PANELS
#undef W
#undef WIDE
#undef SLAB
#undef BLOCK_ROWS
#undef PART
#undef FIRST
#undef WHOLE
#undef VECTOR
#undef PADDED
#undef UNROLLED
#undef TILES
