/* Included by test_kernels.c for float and for double. Deliberately without an include guard. */

static void NAME(random)(T *x, size_t count)
{
  for (size_t i = 0; i < count; i++) x[i] = (T)noise();
}

static T *NAME(filled)(size_t count)
{
  T *x = buffer(count * sizeof(T));
  NAME(random)(x, count);
  return x;
}

static void NAME(product)(size_t m, size_t n, size_t k, int variant)
{
  /* Everything that a call may say, mixed by the bits of `variant`. */
  int is_transposed = variant & 1, is_scaled = variant >> 1 & 1, exact = variant >> 2 & 1;
  enum swk_update update = (enum swk_update)(variant >> 3);
  size_t wide = rounded(n, LANES), ldb = wide + LANES * (k % 3 == 1), lds = wide, ldc = exact ? n + m % 3 : wide;
  size_t a_row = is_transposed ? 1 : k + 1, a_column = is_transposed ? m + 2 : 1;
  UNDER_WAY("gemm %d bytes, %zu by %zu by %zu, variant %d", (int)sizeof(T), m, n, k, variant);
  const T *a = NAME(filled)((m - 1) * a_row + (k - 1) * a_column + 1);
  const T *b = NAME(filled)(extent(k, ldb, wide)), *scale = is_scaled ? NAME(filled)(extent(m, lds, wide)) : NULL;
  size_t count = extent(m, ldc, exact ? n : wide);
  T *c = NAME(filled)(count), *before = malloc(count * sizeof(T));
  memcpy(before, c, count * sizeof(T));
  JOINED(swk_gemm)(m, n, k, a, a_row, a_column, b, ldb, scale, lds, update, exact, c, ldc);
  for (size_t i = 0; i < m; i++)
    for (size_t j = 0; j < (i + 1 < m ? ldc : exact ? n : wide); j++) {
      T found = c[i * ldc + j], old = before[i * ldc + j];
      if (j >= n) { /* untouched where it says so; else nobody's */
        if (exact && memcmp(&found, &old, sizeof old)) fail("wrote between two rows");
        continue;
      }
      real sum = 0, size = 0, factor = scale ? scale[i * lds + j] : 1;
      for (size_t p = 0; p < k; p++) {
        real term = (real)a[i * a_row + p * a_column] * b[p * ldb + j] * factor;
        sum += term;
        size += fabsl(term);
      }
      real start = update == swk_set ? 0 : old;
      /* Higham's gamma: k products and sums, the scaling, and a sum for each slab. */
      near(found, update == swk_subtract ? start - sum : start + sum,
           ((real)k + 4) * UNIT_ROUNDOFF * 1.01L * (size + fabsl(start)), "an entry");
    }
  free(before);
  free_buffers();
}

/* A's columns in pieces, as the rows of an image's patches are; its rows may overlap. */
static void NAME(pieces)(size_t m, size_t n, size_t k, size_t count, int is_transposed)
{
  size_t wide = rounded(n, LANES), a_row = is_transposed ? 1 : 2, a_column = is_transposed ? 3 : 1, far = 2 * m + 3 * k;
  UNDER_WAY("gemm_pieces %d bytes, %zu by %zu by %zu times %zu", (int)sizeof(T), m, n, k, count);
  const T *a = NAME(filled)((count - 1) * far + (m - 1) * a_row + (k - 1) * a_column + 1);
  const T *b = NAME(filled)(extent(count * k, n, wide));
  T *c = NAME(filled)(m * n), *before = malloc(m * n * sizeof(T));
  memcpy(before, c, m * n * sizeof(T));
  JOINED(swk_gemm_pieces)(m, n, k, count, far, a, a_row, a_column, b, n, c, n);
  for (size_t i = 0; i < m; i++)
    for (size_t j = 0; j < n; j++) {
      real sum = before[i * n + j], size = fabsl(sum);
      for (size_t p = 0; p < count * k; p++) {
        real term = (real)a[p / k * far + i * a_row + p % k * a_column] * b[p * n + j];
        sum += term;
        size += fabsl(term);
      }
      near(c[i * n + j], sum, ((real)(count * k) + 2) * UNIT_ROUNDOFF * 1.01L * size, "an entry");
    }
  free(before);
  free_buffers();
}

static void NAME(columns)(size_t m, size_t n)
{
  UNDER_WAY("columns %d bytes, %zu by %zu", (int)sizeof(T), m, n);
  const T *a = NAME(filled)(m * n), *b = NAME(filled)(m * n), *v = NAME(filled)(n), *t = NAME(filled)(n);
  T *c = NAME(filled)(m * n), *sums = NAME(filled)(n), *before = malloc((m + 1) * n * sizeof(T));
#define EVERY(what, call, start, term)                                                              \
  memcpy(before, c, m * n * sizeof(T));                                                             \
  call;                                                                                             \
  for (size_t i = 0; i < m * n; i++) {                                                              \
    real one = start, two = term;                                                                   \
    near(c[i], one + two, 2 * UNIT_ROUNDOFF * 1.01L * (fabsl(one) + fabsl(two)), what);             \
  }
  EVERY("scale_columns", JOINED(swk_scale_columns)(m, n, a, v, 0, c), 0, (real)a[i] * v[i % n])
  EVERY("scale_columns added", JOINED(swk_scale_columns)(m, n, a, v, 1, c), before[i], (real)a[i] * v[i % n])
  EVERY("affine_columns", JOINED(swk_affine_columns)(m, n, a, v, t, c), t[i % n], (real)a[i] * v[i % n])
  EVERY("affine_columns without scales", JOINED(swk_affine_columns)(m, n, a, NULL, t, c), t[i % n], a[i])
  EVERY("affine_columns in place", JOINED(swk_affine_columns)(m, n, c, v, t, c), t[i % n], (real)before[i] * v[i % n])
#undef EVERY
  for (int is_product = 0; is_product < 2; is_product++) {
    memcpy(before, sums, n * sizeof(T));
    JOINED(swk_column_dots)(m, n, a, is_product ? b : NULL, sums);
    for (size_t j = 0; j < n; j++) {
      real sum = before[j], size = fabsl(sum);
      for (size_t i = 0; i < m; i++) {
        real term = (real)a[i * n + j] * (is_product ? b[i * n + j] : 1);
        sum += term;
        size += fabsl(term);
      }
      near(sums[j], sum, ((real)m + 2) * UNIT_ROUNDOFF * 1.01L * size, "column_dots");
    }
  }
  free(before);
  free_buffers();
}

static void NAME(softmax)(size_t m, size_t n)
{
  UNDER_WAY("softmax_rows %d bytes, %zu by %zu", (int)sizeof(T), m, n);
  T *s = NAME(filled)(m * n), *p = NAME(filled)(m * n);
  for (size_t i = 0; i < m * n; i++) s[i] *= i % 3 == 0 ? 100 : 5;
  if (m > 1) s[n] = (T)NAN;
  JOINED(swk_softmax_rows)(m, n, s, p);
  for (size_t i = 0; i < m; i++) {
    real total = 0, largest = s[i * n];
    for (size_t j = 0; j < n; j++) largest = s[i * n + j] > largest ? s[i * n + j] : largest;
    for (size_t j = 0; j < n; j++) total += expl(s[i * n + j] - largest);
    for (size_t j = 0; j < n; j++) {
      real found = p[i * n + j], exact = expl(s[i * n + j] - largest) / total;
      if (i == 1) {
        if (!isnan(found)) fail("a row with NaN");
        continue;
      }
      /* The difference is rounded before the exponential, which is right to a few units; the sum to n. */
      real units = fabsl(s[i * n + j]) + fabsl(largest) + (real)n + 16;
      near(found, exact, units * UNIT_ROUNDOFF * exact + SMALLEST_NORMAL, "a probability");
    }
  }
  free_buffers();
}

static void NAME(transposition)(size_t m, size_t n)
{
  size_t lda = n + m % 3, ldb = m + n % 3;
  UNDER_WAY("transpose %d bytes, %zu by %zu", (int)sizeof(T), m, n);
  const T *a = NAME(filled)(extent(m, lda, n));
  T *b = NAME(filled)(extent(n, ldb, m));
  JOINED(swk_transpose)(m, n, a, lda, b, ldb);
  for (size_t i = 0; i < m; i++)
    for (size_t j = 0; j < n; j++)
      if (b[j * ldb + i] != a[i * lda + j]) fail("an entry");
  free_buffers();
}

static void NAME(rows)(size_t m, size_t n, int variant)
{
  int has_second = variant & 1;
  size_t wide = rounded(n, LANES), step = 1 + (size_t)(variant >> 1);
  UNDER_WAY("scale_rows %d bytes, %zu by %zu, variant %d", (int)sizeof(T), m, n, variant);
  const T *x = NAME(filled)(extent(m, step, 1)), *a = NAME(filled)(extent(m, wide, wide));
  const T *y = has_second ? NAME(filled)(extent(m, 1, 1)) : NULL;
  const T *b = has_second ? NAME(filled)(extent(m, wide, wide)) : NULL;
  T *c = NAME(filled)(extent(m, wide, wide));
  JOINED(swk_scale_rows)(m, n, x, step, a, wide, y, 1, b, wide, c, wide);
  for (size_t i = 0; i < m; i++)
    for (size_t j = 0; j < n; j++) {
      real first = (real)x[i * step] * a[i * wide + j], second = b ? (real)y[i] * b[i * wide + j] : 0;
      near(c[i * wide + j], first + second, 2 * UNIT_ROUNDOFF * 1.01L * (fabsl(first) + fabsl(second)), "an entry");
    }
  free_buffers();
}

static void NAME(vectors)(size_t n)
{
  UNDER_WAY("vectors %d bytes, %zu", (int)sizeof(T), n);
  const T *x = NAME(filled)(n), *y = NAME(filled)(n), factor = (T)noise();
  T *z = NAME(filled)(n), *before = malloc(n * sizeof(T));
  real sum = 0, size = 0;
  for (size_t i = 0; i < n; i++) {
    sum += (real)x[i] * y[i];
    size += fabsl((real)x[i] * y[i]);
  }
  near(JOINED(swk_dot)(n, x, y), sum, (real)n * UNIT_ROUNDOFF * 1.01L * size, "dot");
  JOINED(swk_multiply)(n, x, y, z);
  for (size_t i = 0; i < n; i++) near(z[i], (real)x[i] * y[i], UNIT_ROUNDOFF * fabsl((real)x[i] * y[i]), "multiply");
#define UPDATE(call, name, one, two)                                                             \
  memcpy(before, z, n * sizeof(T));                                                              \
  call;                                                                                          \
  for (size_t i = 0; i < n; i++)                                                                 \
    near(z[i], (one) + (two), 2 * UNIT_ROUNDOFF * 1.01L * (fabsl(one) + fabsl(two)), name);
  UPDATE(JOINED(swk_multiply_add)(n, x, y, z), "multiply_add", (real)before[i], (real)x[i] * y[i])
  UPDATE(JOINED(swk_axpy)(n, factor, x, z), "axpy", (real)before[i], (real)factor * x[i])
  UPDATE(JOINED(swk_xpby)(n, x, factor, z), "xpby", (real)x[i], (real)factor * before[i])
#undef UPDATE
  free(before);
  free_buffers();
}

/* Sums of three, and of five products of up to four factors, each rounded at most five and eight times. */
static void NAME(mixed)(size_t n)
{
  UNDER_WAY("mixed derivatives %d bytes, %zu", (int)sizeof(T), n);
  const T *s[4], *a[3], *g[3], factor = (T)noise();
  for (int i = 0; i < 4; i++) s[i] = NAME(filled)(n);
  for (int i = 0; i < 3; i++) a[i] = NAME(filled)(n), g[i] = NAME(filled)(n);
  T *out = NAME(filled)(n);
  JOINED(swk_mixed_tangent)(n, factor, s[0], s[1], a[0], a[1], a[2], out);
  for (size_t i = 0; i < n; i++) {
    real linear = (real)s[0][i] * a[2][i], square = (real)factor * s[1][i] * a[0][i] * a[1][i];
    near(out[i], linear + square, 5 * UNIT_ROUNDOFF * 1.01L * (fabsl(linear) + fabsl(square)), "mixed_tangent");
  }
  JOINED(swk_mixed_delta)(n, factor, s, a, g, out);
  for (size_t i = 0; i < n; i++) {
    real terms[] = {(real)s[0][i] * g[2][i], (real)s[2][i] * a[2][i], (real)factor * s[3][i] * a[0][i] * a[1][i],
                    (real)factor * s[1][i] * a[0][i] * g[1][i], (real)factor * s[1][i] * a[1][i] * g[0][i]};
    real sum = 0, size = 0;
    for (int t = 0; t < 5; t++) sum += terms[t], size += fabsl(terms[t]);
    near(out[i], sum, 8 * UNIT_ROUNDOFF * 1.01L * size, "mixed_delta");
  }
  free_buffers();
}

/* Steps of optimisers to the bit, as each operation is rounded on its own: x is the next one's rounded value. */
#define ROUNDED(name, expression) \
  volatile T name##_now = (T)(expression); \
  const T name = name##_now

static void NAME(squares)(size_t n, const T *x, double found, const char *what)
{
  real sum = 0;
  for (size_t i = 0; i < n; i++) sum += (real)x[i] * x[i];
  near(found, sum, (real)(n + 1) * 0x1p-53L * 1.01L * sum, what);
}

static void NAME(same)(T found, T expected, const char *what)
{
  if (memcmp(&found, &expected, sizeof(T))) near(found, expected, 0, what);
}

static void NAME(steps)(size_t n, int is_nesterov)
{
  UNDER_WAY("steps %d bytes, %zu, nesterov %d", (int)sizeof(T), n, is_nesterov);
  const T *w = NAME(filled)(n), *gradient = NAME(filled)(n), *mean = NAME(filled)(n);
  T *square = NAME(filled)(n), *new_w = NAME(filled)(n), *new_mean = NAME(filled)(n), *new_square = NAME(filled)(n);
  double squares[2];
  for (size_t i = 0; i < n; i++) square[i] = square[i] < 0 ? -square[i] : square[i];
  const T rate = (T)0.1, beta = (T)0.9;
  JOINED(swk_descend)(n, rate, w, gradient, new_w, squares);
  for (size_t i = 0; i < n; i++) {
    ROUNDED(change, gradient[i] * rate);
    ROUNDED(expected, w[i] - change);
    NAME(same)(new_w[i], expected, "descend");
  }
  NAME(squares)(n, gradient, squares[0], "the gradient's square");
  NAME(squares)(n, new_w, squares[1], "the square of w");
  JOINED(swk_momentum)(n, rate, beta, is_nesterov, w, gradient, mean, new_w, new_mean, squares);
  for (size_t i = 0; i < n; i++) {
    ROUNDED(kept, mean[i] * beta);
    ROUNDED(velocity, kept + gradient[i]);
    ROUNDED(more, velocity * beta);
    ROUNDED(ahead, gradient[i] + more);
    ROUNDED(change, (is_nesterov ? ahead : velocity) * rate);
    ROUNDED(expected, w[i] - change);
    NAME(same)(new_mean[i], velocity, "velocity");
    NAME(same)(new_w[i], expected, "momentum");
  }
  NAME(squares)(n, new_w, squares[1], "the square of w");
  const struct swk_adam f = {0.9, 0.1, 0.999, 0.001, 1.5, 1e-8, 0.01, 0.99};
  JOINED(swk_adam)(n, &f, w, gradient, mean, square, new_w, new_mean, new_square, squares);
  for (size_t i = 0; i < n; i++) {
    ROUNDED(kept, mean[i] * (T)f.beta1);
    ROUNDED(taken, gradient[i] * (T)f.rest1);
    ROUNDED(m, kept + taken);
    ROUNDED(kept_square, square[i] * (T)f.beta2);
    ROUNDED(full_square, gradient[i] * gradient[i]);
    ROUNDED(taken_square, full_square * (T)f.rest2);
    ROUNDED(s, kept_square + taken_square);
    ROUNDED(root, sqrtl(s)); /* the same as rounded at once, as a root has no places between */
    ROUNDED(corrected, root * (T)f.correction);
    ROUNDED(divisor, corrected + (T)f.epsilon);
    ROUNDED(quotient, m / divisor);
    ROUNDED(change, quotient * (T)f.rate);
    ROUNDED(decayed, w[i] * (T)f.decay);
    ROUNDED(expected, decayed - change);
    NAME(same)(new_mean[i], m, "mean");
    NAME(same)(new_square[i], s, "mean of squares");
    NAME(same)(new_w[i], expected, "adam");
  }
  NAME(squares)(n, gradient, squares[0], "the gradient's square");
  NAME(squares)(n, new_w, squares[1], "the square of w");
  if (n && JOINED(swk_square_sum)(n, new_w) != squares[1]) fail("square_sum");
  free_buffers();
}
#undef ROUNDED

/* Of activations and losses, in the order of Activations.h: (kind, order, in place). */
static void NAME(elementwise)(size_t n, int kind, int order, int in_place, int is_loss)
{
  UNDER_WAY("%s %d, %d bytes, %zu, order %d", is_loss ? "loss" : "activation", kind, (int)sizeof(T), n, order);
  T *a = NAME(filled)(n), *d[5] = {NULL};
  const T *y = is_loss ? NAME(filled)(n) : NULL, parameter = (T)0.375;
  const T special[] = {0, (T)-30, (T)30, (T)NAN, (T)INFINITY, (T)-INFINITY};
  for (size_t i = 0; i < n; i++) a[i] = n > 30 && i < 6 ? special[i] : 6 * a[i];
  T *points = malloc(n * sizeof(T));
  memcpy(points, a, n * sizeof(T));
  for (int k = in_place; k <= order; k++) d[k] = NAME(filled)(n);
  if (in_place) d[0] = a;
  if (is_loss)
    JOINED(swk_loss)(kind, parameter, order, n, a, y, d[0], d[1], d[2], d[3], d[4]);
  else
    JOINED(swk_activation)(kind, parameter, order, n, a, d[0], d[1], d[2], d[3], d[4]);
  for (size_t i = 0; i < n; i++) {
    if (!isfinite(points[i])) continue;
    real value[5], size[5];
    if (is_loss)
      loss_in_full(kind, parameter, points[i], y[i], value, size);
    else
      activation_in_full(kind, parameter, points[i], value, size);
    for (int k = 0; k <= order; k++) {
      char what[20];
      snprintf(what, sizeof what, "derivative %d at %g", k, (double)points[i]);
      near(d[k][i], value[k], 64 * UNIT_ROUNDOFF * size[k] + SMALLEST_NORMAL, what);
    }
  }
  free(points);
  free_buffers();
}

static void NAME(typed)(void)
{
  const size_t rows[] = {1, 3, 4, 5, 8, 14, 23}, depths[] = {1, 2, 17, 96, 97, 200};
  int variant = 0;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (size_t j = 0; j < SIZES; j++)
      for (size_t l = 0; l < sizeof depths / sizeof *depths; l++)
        for (int times = 0; times < 5; times++) NAME(product)(rows[i], sizes[j], depths[l], variant = (variant + 7) % 24);
  NAME(product)(17, 260, 130, 0); /* wide rows of B are packed */
  for (variant = 0; variant < 24; variant++) {
    NAME(product)(97, 57, 65, variant); /* rows in blocks */
    NAME(product)(145 + 128 * (sizeof(T) == 4), 67, variant % 3 ? 33 : 130, variant); /* A's far columns are packed */
  }
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (size_t j = 0; j < SIZES; j++)
      for (size_t count = 1; count < 4; count++) NAME(pieces)(rows[i], sizes[j], depths[(i + j) % 3], count, (i + j) % 2);
  for (size_t m = 1; m < 40; m += 1 + m / 4)
    for (size_t j = 0; j < SIZES; j++) {
      NAME(columns)(m, sizes[j]);
      NAME(softmax)(m, sizes[j]);
    }
  NAME(columns)(3, 700); /* rows wider than a period */
  NAME(columns)(70, 513);
  NAME(steps)(0, 0);
  for (size_t i = 0; i < SIZES; i++) {
    NAME(vectors)(sizes[i]);
    NAME(mixed)(sizes[i]);
    for (int is_nesterov = 0; is_nesterov < 2; is_nesterov++) NAME(steps)(sizes[i], is_nesterov);
    for (size_t j = 0; j < SIZES; j++) NAME(transposition)(sizes[i], sizes[j]);
    for (int v = 0; v < 4; v++) NAME(rows)(1 + i % 5, sizes[i], v);
    for (int order = 0; order <= 4; order++) {
      for (int kind = swk_identity; kind <= swk_elu; kind++) NAME(elementwise)(sizes[i], kind, order, i % 2, 0);
      for (int kind = swk_squared_error; kind <= swk_huber; kind++) NAME(elementwise)(sizes[i], kind, order, 0, 1);
    }
  }
}
