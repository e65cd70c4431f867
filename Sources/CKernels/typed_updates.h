// Included by templates.h for float and for double. Deliberately without an include guard.
//
// Every operation is rounded on its own: the bits are those of the formula, the same at every level.

#define V TYPED(vector)
#define SUMS 16  // side by side, whatever the width

// Sums of squares of numbers i, i + 16, i + 32, …, and of the last few.
typedef double TYPED(doubles) __attribute__((vector_size(LANES * 8)));
typedef struct {
  TYPED(doubles) side[SUMS / LANES];
  double rest;
} TYPED(sums);

INLINE void TYPED(add_square)(TYPED(sums) *sums, int vector, V x) {
#pragma clang fp contract(off)
  TYPED(doubles) value = __builtin_convertvector(x, TYPED(doubles));
  sums->side[vector] += value * value;
}

INLINE void TYPED(add_last_square)(TYPED(sums) *sums, T x) {
#pragma clang fp contract(off)
  sums->rest += (double)x * (double)x;
}

INLINE double TYPED(total)(const TYPED(sums) *sums) {
  double total = sums->rest;
  for (int j = 0; j < SUMS; j++) total += sums->side[j / LANES][j % LANES];
  return total;
}

// Runs STEP, which says what becomes of the numbers at i, and calls SQUARE for the gradient and the new w, on all.
#define ON_ALL                                                                        \
  TYPED(sums) gradients = {}, ws = {};                                                \
  size_t i = 0;                                                                       \
  for (size_t first = 0; first + SUMS <= n; first += SUMS)                            \
    _Pragma("clang loop unroll(full)") for (int j = 0; j < SUMS / LANES; j++, i += LANES) \
      STEP(V, TYPED(add_square)(&gradients, j, g), TYPED(add_square)(&ws, j, changed));   \
  for (; i < n; i++)                                                                  \
    STEP(T, TYPED(add_last_square)(&gradients, g), TYPED(add_last_square)(&ws, changed)); \
  squares[0] = TYPED(total)(&gradients);                                              \
  squares[1] = TYPED(total)(&ws);

static void TYPED(descend)(size_t n, T rate, const T *w, const T *gradient, T *new_w, double *squares) {
#pragma clang fp contract(off)
#define STEP(K, ADD_GRADIENT, ADD_W)                                     \
  do {                                                                   \
    K g = *(const K *)(gradient + i);                                    \
    K changed = *(const K *)(w + i) - g * rate;                          \
    *(K *)(new_w + i) = changed;                                         \
    ADD_GRADIENT;                                                        \
    ADD_W;                                                               \
  } while (0)
  ON_ALL
#undef STEP
}

static void TYPED(momentum)(size_t n, T rate, T beta, int is_nesterov, const T *w, const T *gradient,
                            const T *velocity, T *new_w, T *new_velocity, double *squares) {
#pragma clang fp contract(off)
#define STEP(K, ADD_GRADIENT, ADD_W)                                     \
  do {                                                                   \
    K g = *(const K *)(gradient + i);                                    \
    K v = *(const K *)(velocity + i) * beta + g;                         \
    K changed = *(const K *)(w + i) - (is_nesterov ? g + v * beta : v) * rate; \
    *(K *)(new_velocity + i) = v;                                        \
    *(K *)(new_w + i) = changed;                                         \
    ADD_GRADIENT;                                                        \
    ADD_W;                                                               \
  } while (0)
  ON_ALL
#undef STEP
}

static void TYPED(adam)(size_t n, const struct swk_adam *factors, const T *w, const T *gradient, const T *mean,
                        const T *square, T *new_w, T *new_mean, T *new_square, double *squares) {
#pragma clang fp contract(off)
  T beta1 = (T)factors->beta1, rest1 = (T)factors->rest1, beta2 = (T)factors->beta2, rest2 = (T)factors->rest2;
  T correction = (T)factors->correction, epsilon = (T)factors->epsilon, rate = (T)factors->rate;
  T decay = (T)factors->decay;
#define STEP(K, ADD_GRADIENT, ADD_W)                                     \
  do {                                                                   \
    K g = *(const K *)(gradient + i);                                    \
    K m = *(const K *)(mean + i) * beta1 + g * rest1;                    \
    K s = *(const K *)(square + i) * beta2 + g * g * rest2;              \
    K root = __builtin_elementwise_sqrt(s) * correction + epsilon;       \
    K changed = *(const K *)(w + i) * decay - m / root * rate;           \
    *(K *)(new_mean + i) = m;                                            \
    *(K *)(new_square + i) = s;                                          \
    *(K *)(new_w + i) = changed;                                         \
    ADD_GRADIENT;                                                        \
    ADD_W;                                                               \
  } while (0)
  ON_ALL
#undef STEP
}

static double TYPED(square_sum)(size_t n, const T *x) {
  TYPED(sums) sums = {};
  size_t i = 0;
  for (; i + SUMS <= n; i += SUMS)
    for (int j = 0; j < SUMS / LANES; j++) TYPED(add_square)(&sums, j, *(const V *)(x + i + j * LANES));
  for (; i < n; i++) TYPED(add_last_square)(&sums, x[i]);
  return TYPED(total)(&sums);
}

#undef ON_ALL
#undef SUMS
#undef V
