// Included by activation_templates.h for float and for double. Deliberately without an include guard.

typedef T TYPED(wide) __attribute__((vector_size(WIDE_BYTES), aligned(sizeof(T))));
typedef INTEGER TYPED(mask) __attribute__((vector_size(WIDE_BYTES), aligned(sizeof(T))));
#define V TYPED(wide)
#define M TYPED(mask)
#define SELECT(mask, a, b) ((V)(((M)(a) & (mask)) | ((M)(b) & ~(mask))))
#define ALL(value) ((V){} + (T)(value))
#define ANY(mask) (__builtin_reduce_or(mask) != 0)

// exp(x) and exp(x) - 1 for x <= 0, to full relative accuracy, and exp(x) 2^LIFT: where exp(x) is no normal number,
// products with that keep their digits if 2^-LIFT comes last.
INLINE V TYPED(exponential)(V x, V *minus_one, V *lifted) {
  const T shift = (T)3 * ((INTEGER)1 << (MANTISSA - 1));  // adding it rounds to integers
  x = SELECT(x < VANISHING, ALL(VANISHING), x);
  V shifted = x * (T)0x1.71547652b82fep0 + shift;
  V k = shifted - shift;
  V r = x - k * LN2_HIGH - k * LN2_LOW;
  static const T inverse_factorials[] = {
      (T)(1 / 2.0),      (T)(1 / 6.0),       (T)(1 / 24.0),       (T)(1 / 120.0),
      (T)(1 / 720.0),    (T)(1 / 5040.0),    (T)(1 / 40320.0),    (T)(1 / 362880.0),
      (T)(1 / 3628800.0), (T)(1 / 39916800.0), (T)(1 / 479001600.0), (T)(1 / 6227020800.0)};
  V sum = ALL(inverse_factorials[EXP_TERMS - 2]);
#pragma clang loop unroll(full)
  for (int i = EXP_TERMS - 3; i >= 0; i--) sum = sum * r + inverse_factorials[i];
  V small = r + r * r * sum;  // exp(r) - 1
  V high = (V)(((M)shifted + BIAS + LIFT) << MANTISSA), scale = high * UNIT;
  *minus_one = scale * small + (scale - 1);
  *lifted = high + high * small;
  return scale + scale * small;
}

// log(1 + e) for e from 0 to 1: 2 artanh(e / (2 + e)).
INLINE V TYPED(log1p)(V e) {
  V s = e / (e + 2), square = s * s;
  V sum = ALL((T)1 / (2 * LOG_TERMS - 1));
#pragma clang loop unroll(full)
  for (int i = LOG_TERMS - 2; i >= 1; i--) sum = sum * square + (T)1 / (T)(2 * i + 1);
  return 2 * s + 2 * s * square * sum;
}

#define SIGN_BIT (INTEGER)((uint64_t)1 << (8 * sizeof(T) - 1))
INLINE V TYPED(absolute)(V x) { return (V)((M)x & ~((M){} + SIGN_BIT)); }
INLINE V TYPED(with_sign)(V x, V of) { return (V)((M)x | ((M)of & ((M){} + SIGN_BIT))); }

// Within ±limit: where factors vanish, so that an infinity times 0 is 0.
INLINE V TYPED(within)(V x, T limit) {
  x = SELECT(x > limit, ALL(limit), x);
  return SELECT(x < -limit, ALL(-limit), x);
}

// The logistic function's derivatives 0 to 4, and 1 - it, for e = exp(-|a|) and less = e - 1.
INLINE V TYPED(logistic)(V a, V e, V less, V d[5]) {
  V p = 1 / (1 + e), ep = e * p;
  M right = a >= 0;
  V middle = less * p;  // -tanh(|a| / 2)
  d[0] = SELECT(right, p, ep);
  d[1] = ep * p;
  V odd = SELECT(right, middle, -middle);  // 1 - 2 s
  d[2] = d[1] * odd;
  d[3] = d[1] * (1 - 6 * d[1]);
  d[4] = d[2] * (1 - 12 * d[1]);
  return SELECT(right, ep, p);
}

// The last product with `unit` for the derivatives of a·h, h and h′ given: h itself, where it goes to 1, has no unit.
INLINE void TYPED(lower)(V a, V near, V h, V slope, V unit, V d[5]) {
  if (__builtin_expect(!ANY(unit < 1), 1)) return;
  M right = a >= 0;
  d[0] = SELECT(right, d[0], d[0] * unit);
  d[1] = SELECT(right, h + near * (slope * unit), d[1] * unit);
  for (int k = 2; k <= 4; k++) d[k] *= unit;
}

// d[k] of a·h from those of h.
INLINE void TYPED(times_a)(V a, V near, const V h[5], V unit, V d[5]) {
  d[0] = SELECT(a > 0, a, near) * h[0];
  for (int k = 1; k <= 4; k++) d[k] = (T)k * h[k - 1] + near * h[k];
  TYPED(lower)(a, near, h[0], h[1], unit, d);
}

// Takes the lifted e in place of exp(-x) where that is no normal number, and tells what to multiply by in the end.
INLINE V TYPED(lift)(V x, V lifted, V *e) {
  M tiny = x > -(UNDERFLOW);
  if (__builtin_expect(!ANY(tiny), 1)) return ALL(1);
  *e = SELECT(tiny, lifted, *e);
  return SELECT(tiny, ALL(UNIT), ALL(1));
}

INLINE void TYPED(tanh)(V a, T p, V d[5]) {
  (void)p;
  V t, lifted, e = TYPED(exponential)(-2 * TYPED(absolute)(a), &t, &lifted);
  V inverse = 1 / (2 + t);
  V y = TYPED(with_sign)(-t * inverse, a);
  d[0] = y;
  d[1] = 4 * e * inverse * inverse;
  d[2] = -2 * y * d[1];
  d[3] = d[1] * (4 - 6 * d[1]);
  d[4] = y * d[1] * (24 * d[1] - 8);
}

INLINE void TYPED(sigmoid)(V a, T p, V d[5]) {
  (void)p;
  V less, lifted, e = TYPED(exponential)(-TYPED(absolute)(a), &less, &lifted);
  TYPED(logistic)(a, e, less, d);
}

INLINE void TYPED(softplus)(V a, T p, V d[5]) {
  (void)p;
  V s[5], less, lifted, e = TYPED(exponential)(-TYPED(absolute)(a), &less, &lifted);
  TYPED(logistic)(a, e, less, s);
  d[0] = SELECT(a > 0, a, ALL(0)) + TYPED(log1p)(e);
  for (int k = 1; k <= 4; k++) d[k] = s[k - 1];
}

INLINE void TYPED(silu)(V a, T p, V d[5]) {
  (void)p;
  V size = TYPED(absolute)(a), s[5], less, lifted, e = TYPED(exponential)(-size, &less, &lifted);
  V unit = TYPED(lift)(size, lifted, &e);
  TYPED(logistic)(a, e, less, s);
  TYPED(times_a)(a, TYPED(within)(a, FAR), s, unit, d);
}

INLINE void TYPED(gelu_tanh)(V a, T p, V d[5]) {
  (void)p;
  // ½ (1 + tanh(u)) is the logistic function of q = 2 u; its derivatives in a by Faà di Bruno's formula.
  const T c = (T)0.79788456080286535588, cubic = (T)0.044715;
  V near = TYPED(within)(a, 50), square = near * near;
  V q1 = 2 * c * (1 + 3 * cubic * square), q2 = 12 * c * cubic * near;
  const T q3 = 12 * c * cubic;
  V q = 2 * c * near * (1 + cubic * square);
  V size = TYPED(absolute)(q), s[5], h[5], less, lifted, e = TYPED(exponential)(-size, &less, &lifted);
  V unit = TYPED(lift)(size, lifted, &e);
  TYPED(logistic)(q, e, less, s);
  V q1q1 = q1 * q1;
  h[0] = s[0];
  h[1] = s[1] * q1;
  h[2] = s[2] * q1q1 + s[1] * q2;
  h[3] = s[3] * q1q1 * q1 + 3 * s[2] * q1 * q2 + s[1] * q3;
  h[4] = s[4] * q1q1 * q1q1 + 6 * s[3] * q1q1 * q2 + s[2] * (3 * q2 * q2 + 4 * q1 * q3);
  TYPED(times_a)(a, near, h, unit, d);
}

// ½ erfc(x / √2) over the normal density at x > 0, where x is large: Mills' ratio by its asymptotic series.
INLINE T TYPED(mills)(T x) {
  T t = 1 / (x * x), sum = 1;
  for (int k = 2 * MILLS_TERMS - 1; k > 0; k -= 2) sum = 1 - (T)k * t * sum;
  return sum / x;
}

INLINE void TYPED(gelu)(V a, T p, V d[5]) {
  (void)p;
  V near = TYPED(within)(a, 60), square = near * near, normal, tail;
  for (int lane = 0; lane < LANES; lane++) {
    tail[lane] = (T)0.5 * ERFC(-near[lane] * (T)0.70710678118654752440);
    normal[lane] = (T)0.39894228040143267794 * EXP((T)-0.5 * square[lane]);
  }
  // Where the density is no normal number it is e^64 times as large until the last product.
  M tiny = square > -2 * UNDERFLOW;
  V unit = ALL(1);
  if (__builtin_expect(ANY(tiny), 0)) {
    unit = SELECT(tiny, ALL(1.6038108905486378530e-28), unit);
    for (int lane = 0; lane < LANES; lane++) {
      if (!tiny[lane]) continue;
      normal[lane] = (T)0.39894228040143267794 * EXP(64 - (T)0.5 * square[lane]);
      if (near[lane] < 0) tail[lane] = normal[lane] * TYPED(mills)(-near[lane]);
    }
  }
  d[0] = SELECT(a > 0, a, near) * tail;
  d[1] = tail + near * normal;
  d[2] = normal * (2 - square);
  d[3] = normal * near * (square - 4);
  d[4] = normal * (square * (7 - square) - 4);
  TYPED(lower)(a, near, tail, normal, unit, d);
}

INLINE void TYPED(sine)(V a, T p, V d[5]) {
  (void)p;
  for (int lane = 0; lane < LANES; lane++) {
    d[0][lane] = SIN(a[lane]);
    d[1][lane] = COS(a[lane]);
  }
  d[2] = -d[0];
  d[3] = -d[1];
  d[4] = d[0];
}

INLINE void TYPED(elu)(V a, T alpha, V d[5]) {
  V size = TYPED(absolute)(a), less, lifted, e = TYPED(exponential)(-size, &less, &lifted);
  V unit = TYPED(lift)(size, lifted, &e);
  M right = a > 0;
  V slope = alpha * e * unit;
  d[0] = SELECT(right, a, alpha * TYPED(with_sign)(less, a));  // -0 stays
  d[1] = SELECT(right, ALL(1), slope);
  d[2] = d[3] = d[4] = SELECT(right, ALL(0), slope);
}

INLINE void TYPED(leaky_relu)(V a, T slope, V d[5]) {
  d[1] = SELECT(a > 0, ALL(1), SELECT(a <= 0, ALL(slope), a));  // NaN stays
  // A product, so that NaN stays; an infinity times a slope of 0 is 0.
  d[0] = SELECT(a > 0, a, slope == 0 ? SELECT(a <= 0, ALL(0), a) : slope * a);
  d[2] = d[3] = d[4] = (V){};
}

INLINE void TYPED(identity)(V a, T p, V d[5]) {
  (void)p;
  d[0] = a;
  d[1] = ALL(1);
  d[2] = d[3] = d[4] = (V){};
}

INLINE void TYPED(squared_error)(V z, V y, T p, V d[5]) {
  (void)p;
  V r = z - y;
  d[0] = r / 2 * r;  // in range where r² is not
  d[1] = r;
  d[2] = ALL(1);
  d[3] = d[4] = (V){};
}

INLINE void TYPED(binary_cross_entropy)(V z, V y, T p, V d[5]) {
  (void)p;
  V s[5], less, lifted, e = TYPED(exponential)(-TYPED(absolute)(z), &less, &lifted);
  V rest = TYPED(logistic)(z, e, less, s);
  d[0] = SELECT(z > 0, z * (1 - y), -y * z) + TYPED(log1p)(e);
  // s - y, without loss of digits where y is 0 or 1.
  d[1] = (1 - y) * s[0] - y * rest;
  d[2] = s[1];
  d[3] = s[2];
  d[4] = s[3];
}

INLINE void TYPED(huber)(V z, V y, T delta, V d[5]) {
  V r = z - y, size = TYPED(absolute)(r);
  M inside = size < delta, outside = size >= delta;
  d[0] = SELECT(outside, delta * (size - delta / 2), r / 2 * r);
  d[1] = SELECT(outside, TYPED(with_sign)(ALL(delta), r), r);
  d[2] = SELECT(inside, ALL(1), SELECT(outside, ALL(0), r));  // NaN stays
  d[3] = d[4] = (V){};
}

INLINE void TYPED(store)(T *const *d, int order, size_t i, size_t count, const V value[5]) {
  for (int k = 0; k <= order; k++) {
    if (!d[k]) continue;
    if (count == LANES)
      *(V *)(d[k] + i) = value[k];
    else
      memcpy(d[k] + i, &value[k], count * sizeof(T));
  }
}

INLINE V TYPED(load)(const T *x, size_t count) {
  V value = {};
  if (count == LANES) return *(const V *)x;
  memcpy(&value, x, count * sizeof(T));
  return value;
}

// One loop an order that is used, so that nothing is computed in vain.
#define EACH(expression)                                          \
  for (size_t i = 0; i < n; i += LANES) {                         \
    size_t count = n - i < LANES ? n - i : LANES;                 \
    V value[5];                                                   \
    expression;                                                   \
    TYPED(store)(d, top, i, count, value);                        \
  }
#define ORDERS(expression)                          \
  if (order == 0) { enum { top = 0 }; EACH(expression) } \
  else if (order == 1) { enum { top = 1 }; EACH(expression) } \
  else if (order == 2) { enum { top = 2 }; EACH(expression) } \
  else if (order == 3) { enum { top = 3 }; EACH(expression) } \
  else { enum { top = 4 }; EACH(expression) }

static void TYPED(activation)(int kind, T parameter, int order, size_t n, const T *a, T *const *d) {
#define CASE(name) \
  case swk_##name: ORDERS(TYPED(name)(TYPED(load)(a + i, count), parameter, value)) break;
  switch (kind) {
    CASE(identity)
    CASE(leaky_relu)
    CASE(tanh)
    CASE(sigmoid)
    CASE(softplus)
    CASE(silu)
    CASE(gelu)
    CASE(gelu_tanh)
    CASE(sine)
    CASE(elu)
  }
#undef CASE
}

static void TYPED(loss)(int kind, T parameter, int order, size_t n, const T *z, const T *y, T *const *d) {
#define CASE(name)                                                                                             \
  case swk_##name:                                                                                             \
    ORDERS(TYPED(name)(TYPED(load)(z + i, count), TYPED(load)(y + i, count), parameter, value)) break;
  switch (kind) {
    CASE(squared_error)
    CASE(binary_cross_entropy)
    CASE(huber)
  }
#undef CASE
}

// Every row of p is exp(s) / Σ exp(s). NaN in a row makes it NaN.
static void TYPED(softmax_rows)(size_t m, size_t n, const T *s, T *p) {
  for (size_t row = 0; row < m; row++, s += n, p += n) {
    T largest = s[0];
    for (size_t i = 1; i < n; i++)
      if (s[i] > largest || s[i] != s[i]) largest = s[i];
    V sum = {};
    for (size_t i = 0; i < n; i += LANES) {
      const size_t count = n - i < LANES ? n - i : LANES;
      V less, lifted, e = TYPED(exponential)(TYPED(load)(s + i, count) - largest, &less, &lifted);
      if (count == LANES) {
        *(V *)(p + i) = e;
        sum += e;
      } else {
        memcpy(p + i, &e, count * sizeof(T));
        for (size_t j = 0; j < count; j++) sum[j] += e[j];
      }
    }
    T total = 0;
    for (size_t j = 0; j < LANES; j++) total += sum[j];
    const T factor = 1 / total;
    for (size_t i = 0; i < n; i++) p[i] *= factor;
  }
}

#undef EACH
#undef ORDERS
#undef V
#undef M
#undef SELECT
#undef ALL
#undef ANY
