/* swiftnets: the C interface of the engine.
 *
 * Conventions, for every function below:
 *  - Arrays are dense and row-major, float64 unless the text says so; samples are rows. A weight matrix is [in, out].
 *  - Sizes are element counts. No array may be NULL unless its size is 0 or the text says so; outputs must not overlap
 *    inputs. The caller allocates outputs.
 *  - A function returns SWN_OK or a status; swn_last_error() then says more, on the same thread. Outputs are
 *    unspecified after any other status, inputs are untouched.
 *  - Inputs may be read by several threads at once. A handle serves one call at a time, except where the text says so.
 */
#ifndef SWIFTNETS_H
#define SWIFTNETS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t swn_status;

enum {
  SWN_OK = 0,
  SWN_INVALID_ARGUMENT = 1, /* a size, pointer or parameter is out of its range */
  SWN_OUT_OF_MEMORY = 2,    /* an allocation failed; the message says how many bytes were wanted */
  SWN_NOT_FINITE = 3,       /* the numbers overflowed or a NaN came in */
  SWN_NOT_CONVERGED = 4,    /* an iterative solve stopped short of its tolerance */
  SWN_CANCELLED = 5,        /* the caller's poll function asked to stop */
  SWN_NUMERICAL = 6,        /* a factorisation broke down */
  SWN_BUSY = 7 /* a handle is in use by the call that this one interrupts, or the process was forked in this call */
};

/* What went wrong in the last call on this thread that did not return SWN_OK. Valid until the next call on this
 * thread; never NULL. */
const char *swn_last_error(void);

/* The engine's version, "major.minor.patch". */
const char *swn_version(void);

/* The level of x86-64 whose instructions are used: "v4" (AVX-512), "v3" (AVX2) or "baseline". The highest one of the
 * processor, or of those up to what the environment variable SWIFTNETS_LEVEL said before the first call. Each level's
 * sums may round differently. */
const char *swn_level(void);

/* Threads that one call may use: at least 1. The same count gives the same bits, whatever other threads do.
 * The count holds for the whole process. */
swn_status swn_set_threads(int32_t count);
int32_t swn_get_threads(void);

/* Called by long computations every few milliseconds of work, a tenth of a second at most, on the calling thread. A
 * result other than 0 makes the call return SWN_CANCELLED. Pass NULL for a call that nobody interrupts. */
typedef struct swn_control {
  int32_t (*poll)(void *context);
  void *context;
} swn_control;

/* ---- slow_net: two dense layers, leaky slope 1/2 on both, half the sum of squared errors -------------------------
 *
 * xs [n, insize], ys [n, outsize], w1 [insize, hidsize], w2 [hidsize, outsize].
 */

typedef struct swn_slow_shape {
  size_t insize, hidsize, outsize;
} swn_slow_shape;

/* ½ Σ (h2 - ys)². */
swn_status swn_slow_loss(swn_slow_shape shape, size_t n, const double *xs, const double *ys, const double *w1,
                         const double *w2, double *loss, const swn_control *control);

/* The output activations h2 [n, outsize]. */
swn_status swn_slow_predict(swn_slow_shape shape, size_t n, const double *xs, const double *w1, const double *w2,
                            double *h2, const swn_control *control);

/* Gradients dw1, dw2 of the loss, shaped like w1 and w2; *loss too. */
swn_status swn_slow_gradient(swn_slow_shape shape, size_t n, const double *xs, const double *ys, const double *w1,
                             const double *w2, double *dw1, double *dw2, double *loss,
                             const swn_control *control);

/* The dense Hessian block of one layer: `layer` 1 gives [insize·hidsize]², 2 gives [hidsize·outsize]², one Pearlmutter
 * R-pass a column. */
swn_status swn_slow_hessian_block(swn_slow_shape shape, size_t n, const double *xs, const double *w1, const double *w2,
                                  int32_t layer, double *block, const swn_control *control);

/* Working memory of swn_slow_step, kept between calls. It holds no state: a step is a function of its inputs alone.
 * Several threads may use one; they take turns. */
typedef struct swn_slow_workspace swn_slow_workspace;
swn_status swn_slow_workspace_create(swn_slow_workspace **workspace);
void swn_slow_workspace_destroy(swn_slow_workspace *workspace); /* NULL is allowed */

enum {
  SWN_SLOW_STRUCTURED = 0, /* conjugate gradients on the first layer, one small Cholesky an output on the second */
  SWN_SLOW_DENSE = 1       /* both blocks formed, diagonalised (dsyevd) and inverted as |1/(λ + damping)| */
};

typedef struct swn_slow_report {
  double loss;         /* before the step */
  double residual1;    /* ‖(H11 + damping) s1 - dw1‖ / ‖dw1‖, recomputed from s1 in float64 */
  double residual2;    /* the same for the second layer */
  int32_t iterations;  /* products with H11; 0 for the dense method */
  int32_t refinements; /* float64 residual corrections of the float32 solve; 0 for the dense method */
} swn_slow_report;

/* One saddle-free Newton iteration: w1_out = w1 - alpha (H11 + damping)⁻¹ dw1 and likewise for layer 2, both gradients
 * taken at (w1, w2). damping > 0. The structured method stops at a relative residual of 1e-13, or at the rounding of
 * its own terms, or returns SWN_NOT_CONVERGED with the report filled in. */
swn_status swn_slow_step(swn_slow_workspace *workspace, swn_slow_shape shape, size_t n, const double *xs,
                         const double *ys, const double *w1, const double *w2, double alpha, double damping,
                         int32_t method, double *w1_out, double *w2_out, swn_slow_report *report,
                         const swn_control *control);

/* ---- fast_net: one dense layer, leaky slope 1/2, half the sum of squared errors ----------------------------------
 *
 * xs [n, insize], ys [n, outsize], w [insize, outsize].
 */

typedef struct swn_fast_shape {
  size_t insize, outsize;
} swn_fast_shape;

swn_status swn_fast_loss(swn_fast_shape shape, size_t n, const double *xs, const double *ys, const double *w,
                         double *loss, const swn_control *control);
swn_status swn_fast_predict(swn_fast_shape shape, size_t n, const double *xs, const double *w, double *h,
                            const swn_control *control);

/* A factorisation of one batch's inputs xs [n, insize] that applies the pseudo-inverse of xs to many right-hand sides.
 * The same xs must be passed to every call that uses it: of pixels it keeps a copy in bytes, of other data none.
 * Several threads may use one at once. */
typedef struct swn_fast_factorization swn_fast_factorization;

enum {
  SWN_FAST_CHOLESKY = 0,   /* xs xsᵀ = L Lᵀ, exact in integers for pixels, with one refinement in xs itself */
  SWN_FAST_ORTHOGONAL = 1 /* complete orthogonal decomposition by pivoted QR: not of full row rank, or nearly so */
};

typedef struct swn_fast_factorization_info {
  int32_t route;
  int32_t pixels;    /* 1 where every entry was k/256 - 1/2 and the Gram matrix was formed in exact integers */
  size_t rank;       /* numerical rank at `tolerance` */
  double tolerance;  /* singular values below tolerance × the largest count as 0 */
  double condition;  /* estimate of the largest over the smallest singular value kept */
  size_t bytes;      /* memory the factorisation holds */
} swn_fast_factorization_info;

/* tolerance < 0 means max(n, insize) × 2⁻⁵². */
swn_status swn_fast_factorize(size_t n, size_t insize, const double *xs, double tolerance,
                              const swn_control *control, swn_fast_factorization **factorization,
                              swn_fast_factorization_info *info);
void swn_fast_factorization_destroy(swn_fast_factorization *factorization); /* NULL is allowed */

/* w [insize, k] = pinv(xs) b for b [n, k], the minimum-norm least-squares solution. *residual is
 * ‖xs w - P b‖ / ‖b‖ (Frobenius), recomputed from w. xs that are not those factorised, bit by bit, are refused. */
swn_status swn_fast_minimum_norm(const swn_fast_factorization *factorization, const double *xs, size_t k,
                                 const double *b, double *w, double *residual, const swn_control *control);

typedef struct swn_fast_report {
  double loss;     /* before the step */
  double residual; /* what proves the solve: ‖xs s - P b‖ / ‖b‖ recomputed from s, P the projector on the range of xs */
  int32_t stale;   /* 1 where w_out means nothing: the factorisation is not one of these xs, bit by bit (loss and residual
                      are then NaN), or the residual is above what it promises */
} swn_fast_report;

/* One iteration: w_out = w - alpha s. r = 0 takes the exact limit s = H⁻¹g, r > 0 the original's finite difference
 * (w₊ - w₋)/r through the functional inverse of the gradient. */
swn_status swn_fast_step(const swn_fast_factorization *factorization, swn_fast_shape shape, size_t n, const double *xs,
                         const double *ys, const double *w, double alpha, double r, double *w_out,
                         swn_fast_report *report, const swn_control *control);

/* ---- mlp: dense layers with any activations, and every exact derivative of a loss to fourth order ---------------
 *
 * Arrays of a net are all float64 or all float32, as its `dtype` says; `void *` below points to such scalars. The
 * parameters are one flat vector of P = swn_mlp_parameter_count() scalars: layer by layer, weights [in, out] row-major,
 * then the bias [out] if there is one. A net is never changed: several threads may use one at once.
 */

enum { SWN_FLOAT64 = 0, SWN_FLOAT32 = 1 };

/* Activations. At a kink the derivatives from the left hold; the second and higher ones of the piecewise linear are 0. */
enum {
  SWN_IDENTITY = 0,
  SWN_LEAKY_RELU = 1, /* parameter: the slope left of 0; 0 makes it ReLU */
  SWN_TANH = 2,
  SWN_SIGMOID = 3,
  SWN_SOFTPLUS = 4,
  SWN_SILU = 5,
  SWN_GELU = 6,      /* a Φ(a) */
  SWN_GELU_TANH = 7, /* ½ a (1 + tanh(√(2/π) (a + 0.044715 a³))) */
  SWN_SINE = 8,
  SWN_ELU = 9 /* a right of 0, else parameter (exp(a) - 1) */
};

/* Losses of one sample with outputs z and target y, summed over outputs. */
enum {
  SWN_SQUARED_ERROR = 0,         /* ½ (z - y)² */
  SWN_BINARY_CROSS_ENTROPY = 1,  /* softplus(z) - y z, z being logits */
  SWN_HUBER = 2,                 /* ½ r² for |r| < delta, else delta (|r| - ½ delta), with r = z - y */
  SWN_SOFTMAX_CROSS_ENTROPY = 3  /* -Σ y log softmax(z) */
};

/* Curvature matrices. */
enum {
  SWN_HESSIAN = 0,
  SWN_GAUSS_NEWTON = 1,     /* Σ Jᵀ C J, C the loss's Hessian in the outputs; for likelihoods the Fisher matrix */
  SWN_EMPIRICAL_FISHER = 2  /* Σ g gᵀ over the samples' gradients g */
};

typedef struct swn_activation {
  int32_t kind;
  double parameter;
} swn_activation;

/* An activation of the caller's own: writes derivatives 0 to `order`, which is 4 at most, of n of the net's scalars a,
 * each to its d[k] unless that is NULL; d[0] may be a. Some of the numbers fill rows up and mean nothing. It is called on
 * the thread that calls the engine and on no other: what evaluates such a net does so without its team. Where it fails it
 * writes NaN, and `poll` stops the work. It must not change or destroy the net. */
typedef struct swn_function {
  void (*evaluate)(void *context, int32_t order, size_t n, const void *a, void *const *d);
  void *context;
} swn_function;

typedef struct swn_mlp_shape {
  int32_t dtype;
  size_t depth;                      /* layers */
  const size_t *sizes;               /* [depth + 1]: inputs, then each layer's outputs */
  const swn_activation *activations; /* [depth], the outputs' last */
  int32_t bias;                      /* 1 where every layer has one */
  int32_t loss;
  double loss_parameter;             /* delta of SWN_HUBER */
  const swn_function *functions;     /* [depth], in place of the activations where `evaluate` is not NULL; or NULL */
} swn_mlp_shape;

/* What one sample of a net of any layers is. Images come as [channels, height, width], sequences as [length, channels],
 * tokens as int64 from 0, below the vocabulary of the embedding that reads them. */
enum { SWN_INPUT_VECTOR = 0, SWN_INPUT_IMAGE = 1, SWN_INPUT_SEQUENCE = 2, SWN_INPUT_TOKENS = 3 };

/* Layers: the integers of each, in their order in a code; then its number, and its parameters one after the other. All
 * sizes of windows are heights, then widths. Images are [channels, height, width] where they come in and where they are
 * flattened. */
enum {
  SWN_LAYER_DENSE = 0,       /* outputs, has bias. W [in, outputs], b; of a sequence, at each position */
  SWN_LAYER_CONVOLUTION = 1, /* outputs, kernel (2), stride (2), padding (2), groups, has bias.
                                W [kernel, kernel, in / groups, outputs], b */
  SWN_LAYER_ACTIVATION = 2,  /* kind; its parameter */
  SWN_LAYER_AVERAGE_POOL = 3, /* kernel (2), stride (2), padding (2), whether padding counts */
  SWN_LAYER_MAX_POOL = 4,     /* kernel (2), stride (2), padding (2); of equal numbers the first is taken */
  SWN_LAYER_GLOBAL_AVERAGE_POOL = 5,
  SWN_LAYER_FLATTEN = 6,
  SWN_LAYER_LAYER_NORM = 7,        /* is affine; eps. gamma, beta: of the channels at each position */
  SWN_LAYER_GROUP_NORM = 8,        /* groups, is affine; eps. gamma, beta */
  SWN_LAYER_FROZEN_BATCH_NORM = 9, /* is affine, channels; eps. gamma, beta */
  SWN_LAYER_EMBEDDING = 10,        /* vocabulary, width. The table [vocabulary, width] */
  SWN_LAYER_POSITION_EMBEDDING = 11, /* The table [length, width] */
  SWN_LAYER_ATTENTION = 12,          /* heads, has bias. W [d, 3 d] of queries, keys, values, b [3 d], W [d, d], b [d] */
  SWN_LAYER_MEAN = 13,               /* over positions */
  SWN_LAYER_ADD = 14                 /* of two values */
};

enum { SWN_CODE_LENGTH = 13 };

/* A net of any layers. Value 0 is its input, value i + 1 what layer i makes; the last one, a vector, is its output.
 * A code is kind, the value that is read, the second one (of SWN_LAYER_ADD), where the layer's parameters begin in the
 * vector, and nine integers, 0 where there is nothing to say. */
typedef struct swn_network_shape {
  int32_t dtype;
  int32_t input_kind;
  size_t input[3]; /* vector: width; image: channels, height, width; sequence: length, channels; tokens: length */
  size_t layers;
  const int64_t *codes;      /* [layers, SWN_CODE_LENGTH] */
  const double *numbers;     /* [layers] */
  size_t statistics_count;   /* 2 channels of every frozen batch norm */
  const double *statistics;  /* their means, then their variances, norm by norm; may be NULL if there are none */
  int32_t loss;
  double loss_parameter; /* delta of SWN_HUBER */
  const swn_function *functions; /* [layers], of activations in place of their kinds as above; or NULL */
} swn_network_shape;

/* A batch. The loss is scale · Σ weights[i] · loss of sample i. */
typedef struct swn_samples {
  size_t n;
  const void *x;         /* [n, inputs]; int64 for a net that takes tokens */
  const void *targets;   /* [n, outputs]; NULL where labels are given or the function needs neither */
  const int64_t *labels; /* [n], from 0, for SWN_SOFTMAX_CROSS_ENTROPY; NULL otherwise */
  const void *weights;   /* [n], at least 0; NULL for ones */
  double scale;
} swn_samples;

typedef struct swn_mlp swn_mlp;
swn_status swn_mlp_create(const swn_mlp_shape *shape, swn_mlp **net);
/* All functions that take a net take this one as well, but for swn_layered_plan, swn_layered_create and
 * swn_linearization_states, which need dense layers. Blocks of matrices are between layers that have parameters,
 * counted in the order of the vector. */
swn_status swn_network_create(const swn_network_shape *shape, swn_mlp **net);
void swn_mlp_destroy(swn_mlp *net); /* NULL is allowed */
size_t swn_mlp_parameter_count(const swn_mlp *net);
/* Scalars, or tokens, of one sample's x; and its outputs. */
size_t swn_mlp_input_count(const swn_mlp *net);
size_t swn_mlp_output_count(const swn_mlp *net);

/* Bytes, about, for n samples: what swn_linearize keeps, and what a call works in on the threads in force. */
swn_status swn_mlp_memory(const swn_mlp *net, size_t n, size_t *point_bytes, size_t *working_bytes);

swn_status swn_mlp_loss(const swn_mlp *net, const void *w, const swn_samples *samples, double *loss,
                        const swn_control *control);
/* out [n, outputs], the last activation applied. */
swn_status swn_mlp_predict(const swn_mlp *net, const void *w, const swn_samples *samples, void *out,
                           const swn_control *control);
/* gradient [P], and the loss. */
swn_status swn_mlp_gradient(const swn_mlp *net, const void *w, const swn_samples *samples, void *gradient,
                            double *loss, const swn_control *control);
/* out [n, P]: the gradient of each sample's weighted loss. */
swn_status swn_mlp_sample_gradients(const swn_mlp *net, const void *w, const swn_samples *samples, void *out,
                                    const swn_control *control);

/* out [k, P]: a curvature matrix times each row of v [k, P]. */
swn_status swn_mlp_product(const swn_mlp *net, int32_t kind, const void *w, const swn_samples *samples, size_t k,
                           const void *v, void *out, const swn_control *control);
/* A curvature matrix [P, P] into out, or for upper >= 0 its block between layers upper >= lower, counted from 0. The
 * whole matrix, and blocks of one layer, are symmetric to the last bit. */
swn_status swn_mlp_dense(const swn_mlp *net, int32_t kind, const void *w, const swn_samples *samples, int32_t upper,
                         int32_t lower, void *out, const swn_control *control);
/* The sides of such a block: both layers' numbers of parameters. */
swn_status swn_mlp_block_shape(const swn_mlp *net, int32_t upper, int32_t lower, size_t *rows, size_t *columns);
/* out [P]: a curvature matrix's diagonal. */
swn_status swn_mlp_diagonal(const swn_mlp *net, int32_t kind, const void *w, const swn_samples *samples, void *out,
                            const swn_control *control);

/* out [k, n, outputs]: the outputs' Jacobian times each row of v [k, P]. */
swn_status swn_mlp_jvp(const swn_mlp *net, const void *w, const swn_samples *samples, size_t k, const void *v,
                       void *out, const swn_control *control);
/* out [k, P]: the transposed Jacobian times each u [k, n, outputs]. */
swn_status swn_mlp_vjp(const swn_mlp *net, const void *w, const swn_samples *samples, size_t k, const void *u,
                       void *out, const swn_control *control);
/* out [n, outputs, P]. */
swn_status swn_mlp_jacobian(const swn_mlp *net, const void *w, const swn_samples *samples, void *out,
                            const swn_control *control);

/* out [order + 1, P]: the coefficients of t -> gradient at w + t v, order from 0 to 3, in one pass; and the loss. */
swn_status swn_mlp_taylor(const swn_mlp *net, const void *w, const swn_samples *samples, int32_t order, const void *v,
                          void *out, double *loss, const swn_control *control);
/* out [k, P]: the third derivative applied to u and each row of v [k, P]; or with s the fourth, to u, s and v. */
swn_status swn_mlp_multilinear(const swn_mlp *net, const void *w, const swn_samples *samples, const void *u,
                               const void *s, size_t k, const void *v, void *out, const swn_control *control);

/* The passes at one point kept, for many products there. The samples need not outlive the call. Several threads may use
 * one; they take turns. */
typedef struct swn_linearization swn_linearization;
swn_status swn_linearize(const swn_mlp *net, const void *w, const swn_samples *samples, void *gradient, double *loss,
                         swn_linearization **linearization, const swn_control *control);
void swn_linearization_destroy(swn_linearization *linearization); /* NULL is allowed */
/* out [k, P] for v [k, P]. */
swn_status swn_linearization_product(const swn_linearization *linearization, int32_t kind, size_t k, const void *v,
                                     void *out, const swn_control *control);
/* out [k, P]: the third derivative applied to u and each row of v [k, P]. Chains of dense layers alone keep what it needs;
 * others have swn_mlp_multilinear. */
swn_status swn_linearization_third(const swn_linearization *linearization, const void *u, size_t k, const void *v,
                                   void *out, const swn_control *control);
/* out [k (k + 1) / 2, P]: the same along all pairs i <= j of the rows of u [k, P], row by row of that triangle. */
swn_status swn_linearization_thirds(const swn_linearization *linearization, size_t k, const void *u, void *out,
                                    const swn_control *control);
/* Kronecker factors of the layers' Gauss-Newton blocks, of chains of dense layers. `factors` is, for each layer, the mean
 * of z zᵀ over samples, by their weights, with the layer's inputs z and a last one of 1 if there is a bias, and then the
 * sum of δ δᵀ, with δ what cotangents R ε of the outputs become in the layer's pre-activations: R Rᵀ is the loss's
 * Hessian in a sample's outputs, weights and scale included, and ε its row of `mix` [n, outputs]. The counts are of
 * numbers, both 0 for other nets. */
swn_status swn_linearization_factor_counts(const swn_linearization *linearization, size_t *mix, size_t *factors);
swn_status swn_linearization_factors(const swn_linearization *linearization, const void *mix, void *factors,
                                     const swn_control *control);
/* diagonal and off_diagonal [k, steps] of the tridiagonal matrices of k Lanczos runs on the matrix plus shift, from the
 * starts [k, P]; 0 from where a run's space is invariant. */
swn_status swn_linearization_lanczos(const swn_linearization *linearization, int32_t kind, double shift, size_t k,
                                     size_t steps, const void *starts, void *diagonal, void *off_diagonal,
                                     const swn_control *control);

/* ---- factorisations of H + shift ---------------------------------------------------------------------------------
 *
 * All in float64, for float64 nets. Several threads may use one factorisation: solves go on side by side, an update has
 * it for itself. After an update that failed there are no factors until the next one; solves then return SWN_NUMERICAL.
 *
 * Inertia and determinant are proved by exact products with the matrix A: with factors F and R = 1 - A F⁻¹, ‖R‖ < 1.
 * Where an estimate of ‖R‖ is above 0.1 the matrix is refused as singular to working precision, SWN_NUMERICAL.
 */

/* What the factors of a matrix say about it. */
typedef struct swn_factor_info {
  int32_t known;             /* 0 where the shift is complex: there is neither inertia nor determinant */
  int32_t positive_definite; /* 1 where a dense one was factored with Cholesky */
  size_t positive, negative, zero; /* eigenvalues by sign; where some are 0 to working precision there are no solves */
  double log_determinant;          /* log|det|; -inf where eigenvalues are 0 */
  double log_determinant_error;    /* an estimate of what it may be off by */
  double certificate;              /* the estimate of ‖R‖, 0.1 at most; -1 where eigenvalues are 0 */
  size_t bytes;                    /* memory that the factorisation holds */
} swn_factor_info;

/* What second derivatives at the point of a linearisation are made of, copied from the passes that it keeps: for each
 * layer its inputs [n, rows] (a column of ones last if there is a bias), the activation's slopes [n, out], curvatures
 * s''(a) G and deltas s'(a) G, with G the loss's derivative in the layer's outputs; then the loss's Hessian in the
 * net's outputs, [n, outputs] (diagonal), or [n, outputs, outputs] for softmax. Weights and scale are in. The count is
 * of all these numbers, 0 for NULL. */
size_t swn_linearization_states_count(const swn_linearization *linearization);
swn_status swn_linearization_states(const swn_linearization *linearization, double *out, const swn_control *control);

/* Which unknowns stand for a layer's weights: themselves, their parts in the span of the inputs, or whichever are
 * fewer. */
enum { SWN_FORM_AUTOMATIC = 0, SWN_FORM_PRIMAL = 1, SWN_FORM_DUAL = 2 };

typedef struct swn_layered_sizes {
  size_t bytes;            /* memory that it holds, where no pivots are so small that they are left to other layers */
  double operations;       /* real multiplications and additions of a factorisation */
  double solve_operations; /* those of a solve, for each right-hand side */
} swn_layered_sizes;

/* What a layered factorisation for n samples would take; nothing is allocated. */
swn_status swn_layered_plan(const swn_mlp *net, size_t n, int32_t is_complex, int32_t form, swn_layered_sizes *plan);

/* The Hessian at the point of a linearisation plus real + i imaginary, eliminated layer by layer. The passes that it
 * keeps are not made again, and it need not outlive the call. Solutions are not refined: that takes
 * swn_linearization_product. A complex matrix with singular values that are 0 is refused, a real one's inertia counts
 * them. */
typedef struct swn_layered swn_layered;
swn_status swn_layered_create(const swn_linearization *linearization, int32_t form, int32_t is_complex, double real,
                              double imaginary, swn_layered **factorization, swn_factor_info *info,
                              const swn_control *control);
void swn_layered_destroy(swn_layered *factorization); /* NULL is allowed */
/* Another shift, in the same memory; complex if and only if the first one was. */
swn_status swn_layered_update(swn_layered *factorization, int32_t is_complex, double real, double imaginary,
                              swn_factor_info *info, const swn_control *control);
/* x [k, P] = (H + shift)⁻¹ b, row by row. For a complex shift x_imaginary takes the imaginary parts, and b_imaginary
 * may be NULL for none; for a real one both are NULL. */
swn_status swn_layered_solve(const swn_layered *factorization, size_t k, const double *b, const double *b_imaginary,
                             double *x, double *x_imaginary, const swn_control *control);

/* tr (H + real)⁻¹ and log|det (H + real)| by complex step, from factors of H + real + i imaginary with an imaginary part
 * that is not 0 and at most 2⁻⁶⁰ of the matrix's norm: SWN_INVALID_ARGUMENT for others. */
swn_status swn_layered_trace_of_inverse(const swn_layered *factorization, double *trace, double *log_determinant,
                                        const swn_control *control);

/* A symmetric matrix [n, n], of which the upper triangle is read and copied, plus shift: by Cholesky where it is
 * positive definite, else by Bunch and Kaufman. SWN_NUMERICAL where it is singular to working precision. */
typedef struct swn_dense swn_dense;
swn_status swn_dense_create(size_t n, const double *matrix, double shift, swn_dense **factorization,
                            swn_factor_info *info, const swn_control *control);
void swn_dense_destroy(swn_dense *factorization); /* NULL is allowed */
swn_status swn_dense_update(swn_dense *factorization, double shift, swn_factor_info *info, const swn_control *control);
/* x [k, n] = (matrix + shift)⁻¹ b, row by row. */
swn_status swn_dense_solve(const swn_dense *factorization, size_t k, const double *b, double *x,
                           const swn_control *control);

/* tr (matrix + shift)⁻¹ and log|det (matrix + shift)| by complex step, from one factorisation of matrix + shift + i step
 * in 16 n² bytes. The upper triangle is read; step is not 0 and at most 2⁻⁶⁰ of the largest entry. Whether the matrix is
 * regular is what swn_dense_create finds: here only a pivot that is 0 is refused. */
swn_status swn_dense_trace_of_inverse(size_t n, const double *matrix, double shift, double step, double *trace,
                                      double *log_determinant, const swn_control *control);

/* The eigenvalues [n] of a symmetric matrix [n, n], ascending, and its eigenvectors as rows in its place. The upper
 * triangle is read. Orders above 65,535 are more than LAPACK's integers count. */
swn_status swn_symmetric_eigen(size_t n, double *matrix, double *values, const swn_control *control);

/* ---- vectors: steps of optimisers, number by number ---------------------------------------------------------------
 *
 * Arrays hold n scalars of `dtype`, SWN_FLOAT64 or SWN_FLOAT32, to which the factors are rounded; n may be 0. Every
 * operation is rounded on its own, in the order of the text, so that the same bits come at every level and for every
 * thread count. What is not finite goes through. Like all outputs, new arrays must not overlap what is read. `squares`
 * takes the sums of gradient² and of new_w², as swn_square_sum has them.
 */

/* new_w = w - gradient rate. */
swn_status swn_descend(int32_t dtype, size_t n, double rate, const void *w, const void *gradient, void *new_w,
                       double squares[2], const swn_control *control);
/* new_velocity = velocity beta + gradient; new_w = w - new_velocity rate, or, where `nesterov` is not 0,
 * w - (gradient + new_velocity beta) rate. */
swn_status swn_momentum(int32_t dtype, size_t n, double rate, double beta, int32_t nesterov, const void *w,
                        const void *gradient, const void *velocity, void *new_w, void *new_velocity,
                        double squares[2], const swn_control *control);
/* new_mean = mean beta1 + gradient rest1; new_square = square beta2 + gradient² rest2;
 * new_w = w decay - new_mean / (sqrt(new_square) correction + epsilon) rate. */
typedef struct swn_adam_factors {
  double beta1, rest1, beta2, rest2, correction, epsilon, rate, decay;
} swn_adam_factors;
swn_status swn_adam(int32_t dtype, size_t n, const swn_adam_factors *factors, const void *w, const void *gradient,
                    const void *mean, const void *square, void *new_w, void *new_mean, void *new_square,
                    double squares[2], const swn_control *control);
/* The sum of v², in float64: inf where that overflows, 0 where it underflows. */
swn_status swn_square_sum(int32_t dtype, size_t n, const void *v, double *sum, const swn_control *control);

#ifdef __cplusplus
}
#endif
#endif
