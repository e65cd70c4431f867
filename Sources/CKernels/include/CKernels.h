// Small dense kernels that must choose AVX2 or AVX-512 at run time, which Swift cannot say.
//
// Rows are contiguous. "Padded" rows have a stride that is a multiple of the lanes (8 floats, 4 doubles) and may be
// read and written up to it.
#ifndef SWIFTNETS_CKERNELS_H
#define SWIFTNETS_CKERNELS_H

#include <stddef.h>
#include <stdint.h>

// Tells the processor that this is a spin loop.
static inline void swk_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// In the child of a fork: the thread that is left has another ID than the Swift runtime keeps for it.
void swk_forget_thread_id(void);

// The level of x86-64 of which the kernels are: "v4" (AVX-512), "v3" (AVX2) or "baseline". The highest one of the
// processor, or of those up to what the environment variable SWIFTNETS_LEVEL said at the first call.
const char *swk_level(void);

// What a product does with what is in C before: replaces it, adds to it, or subtracts from it.
enum swk_update { swk_set, swk_add, swk_subtract };

// C = (A B) ∘ scale, or C ± (A B) ∘ scale, for A [m, k] with element (i, p) at a[i·a_row + p·a_column], padded B [k, n]
// and C [m, n]. `scale` is padded, or NULL for none. C must not overlap A or B. When `exact`, C need not be padded, and
// nothing past its n columns is touched.
void swk_gemm_f32(size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_column, const float *b,
                  size_t ldb, const float *scale, size_t lds, enum swk_update update, int exact, float *c, size_t ldc);
void swk_gemm_f64(size_t m, size_t n, size_t k, const double *a, size_t a_row, size_t a_column, const double *b,
                  size_t ldb, const double *scale, size_t lds, enum swk_update update, int exact, double *c,
                  size_t ldc);

// C += A B for an A [m, pieces · k] whose columns come in pieces of k, `a_piece` from each other, and B [pieces · k, n].
// Reads B in whole vectors as gemm does, writes C exactly.
void swk_gemm_pieces_f32(size_t m, size_t n, size_t k, size_t pieces, size_t a_piece, const float *a, size_t a_row,
                          size_t a_column, const float *b, size_t ldb, float *c, size_t ldc);
void swk_gemm_pieces_f64(size_t m, size_t n, size_t k, size_t pieces, size_t a_piece, const double *a, size_t a_row,
                          size_t a_column, const double *b, size_t ldb, double *c, size_t ldc);

// b = aᵀ for a [m, n].
void swk_transpose_f32(size_t m, size_t n, const float *a, size_t lda, float *b, size_t ldb);
void swk_transpose_f64(size_t m, size_t n, const double *a, size_t lda, double *b, size_t ldb);

// z = x ∘ y, and z += x ∘ y
void swk_multiply_f32(size_t n, const float *x, const float *y, float *z);
void swk_multiply_f64(size_t n, const double *x, const double *y, double *z);
void swk_multiply_add_f32(size_t n, const float *x, const float *y, float *z);
void swk_multiply_add_f64(size_t n, const double *x, const double *y, double *z);

// Mixed second derivatives along u and v at an activation with slopes s, second derivatives b, curvatures k = b ∘ g and
// j, third derivatives times g, where g is the loss's derivative in the outputs. Of the outputs, from tangents of the
// images: out = s ∘ uv + factor b ∘ u ∘ v. Of the deltas, states being s, b, k, j, with those of g besides:
// out = s ∘ guv + k ∘ uv + factor (j ∘ u ∘ v + b ∘ (u ∘ gv + v ∘ gu)). `out` may be uv, or guv.
void swk_mixed_tangent_f32(size_t n, float factor, const float *slope, const float *second, const float *u,
                           const float *v, const float *uv, float *out);
void swk_mixed_tangent_f64(size_t n, double factor, const double *slope, const double *second, const double *u,
                           const double *v, const double *uv, double *out);
void swk_mixed_delta_f32(size_t n, float factor, const float *const states[4], const float *const images[3],
                         const float *const cotangents[3], float *out);
void swk_mixed_delta_f64(size_t n, double factor, const double *const states[4], const double *const images[3],
                         const double *const cotangents[3], double *out);

// Row i of C [m, n] is x[i·x_step] times row i of A, plus y[i·y_step] times row i of B where B is not NULL; all padded.
void swk_scale_rows_f32(size_t m, size_t n, const float *x, size_t x_step, const float *a, size_t lda, const float *y,
                        size_t y_step, const float *b, size_t ldb, float *c, size_t ldc);
void swk_scale_rows_f64(size_t m, size_t n, const double *x, size_t x_step, const double *a, size_t lda,
                        const double *y, size_t y_step, const double *b, size_t ldb, double *c, size_t ldc);

/* Rows of m · n numbers without padding between them, not even behind the last.
 * scale_columns: c = a diag(v), or that added to c; affine_columns: that plus b to every row, or where v is
 * NULL a plus b. c may be a.
 * column_dots: adds to sums [n] the sums over rows of a ∘ b, or of a where b is NULL. */
void swk_scale_columns_f32(size_t m, size_t n, const float *a, const float *v, int adds, float *c);
void swk_affine_columns_f32(size_t m, size_t n, const float *a, const float *v, const float *b, float *c);
void swk_column_dots_f32(size_t m, size_t n, const float *a, const float *b, float *sums);
void swk_scale_columns_f64(size_t m, size_t n, const double *a, const double *v, int adds, double *c);
void swk_affine_columns_f64(size_t m, size_t n, const double *a, const double *v, const double *b, double *c);
void swk_column_dots_f64(size_t m, size_t n, const double *a, const double *b, double *sums);

// Σ x y over n.
float swk_dot_f32(size_t n, const float *x, const float *y);
double swk_dot_f64(size_t n, const double *x, const double *y);
// y += a x
void swk_axpy_f32(size_t n, float a, const float *x, float *y);
void swk_axpy_f64(size_t n, double a, const double *x, double *y);
// y = x + b y
void swk_xpby_f32(size_t n, const float *x, float b, float *y);
void swk_xpby_f64(size_t n, const double *x, double b, double *y);

// Steps of optimisers, number by number, each operation rounded on its own. What is written must not overlap what is
// read. `squares` takes Σ gradient² and Σ new_w², as swk_square_sum would sum them.
//
// new_w = w - rate gradient
void swk_descend_f32(size_t n, float rate, const float *w, const float *gradient, float *new_w, double *squares);
void swk_descend_f64(size_t n, double rate, const double *w, const double *gradient, double *new_w, double *squares);
// new_velocity = beta velocity + gradient, and new_w = w - rate new_velocity, or w - rate (gradient + beta new_velocity)
void swk_momentum_f32(size_t n, float rate, float beta, int is_nesterov, const float *w, const float *gradient,
                      const float *velocity, float *new_w, float *new_velocity, double *squares);
void swk_momentum_f64(size_t n, double rate, double beta, int is_nesterov, const double *w, const double *gradient,
                      const double *velocity, double *new_w, double *new_velocity, double *squares);
// new_mean = beta1 mean + rest1 gradient, new_square = beta2 square + rest2 gradient²,
// new_w = decay w - rate new_mean / (correction √new_square + epsilon). Factors are rounded to the arrays' type.
struct swk_adam {
  double beta1, rest1, beta2, rest2, correction, epsilon, rate, decay;
};
void swk_adam_f32(size_t n, const struct swk_adam *factors, const float *w, const float *gradient, const float *mean,
                  const float *square, float *new_w, float *new_mean, float *new_square, double *squares);
void swk_adam_f64(size_t n, const struct swk_adam *factors, const double *w, const double *gradient,
                  const double *mean, const double *square, double *new_w, double *new_mean, double *new_square,
                  double *squares);

// Σ x², summed in double, with the same bits at every level.
double swk_square_sum_f32(size_t n, const float *x);
double swk_square_sum_f64(size_t n, const double *x);

// Solves swk_batch symmetric positive definite systems of order n at once, lane by lane.
//
// `matrix` holds the lower triangles, element (i, j) of all lanes at matrix + (i·n + j)·swk_batch; it is overwritten by
// the Cholesky factors. `inverse_diagonal` [n, swk_batch] is working memory. A lane that is not positive definite gives
// NaN in `x` [n, swk_batch], which holds the right-hand sides on entry and the solutions on return.
// n must be a multiple of 4: pad with rows of the identity.
enum { swk_batch = 4 };
void swk_batched_cholesky_factor(size_t n, double *matrix, double *inverse_diagonal);
void swk_batched_cholesky_solve(size_t n, const double *matrix, const double *inverse_diagonal, double *x);

// The matrices for the above: matrix(i, j) = kernel[i, j] d(i) d(j) + (i == j) damping, for kernel [n, ldk] and
// d [n, swk_batch]; rows and columns from `used` to n become those of the identity.
void swk_batched_scaled_kernel(size_t n, size_t used, const double *kernel, size_t ldk, const double *d,
                               double damping, double *matrix);
// matrix(i, j) = Σ_s h[s, i] h[s, j] d(s)² + (i == j) damping, for h [samples, ldh] and d [samples, swk_batch].
void swk_batched_gram(size_t n, size_t used, size_t samples, const double *h, size_t ldh, const double *d,
                      double damping, double *matrix);

#endif
