// Elementwise activations and losses with derivatives to fourth order, at the processor's vector width.
//
// Values and first derivatives are within a few units in the last place; higher ones within a few rounding errors of the
// terms of their formulas, as long as they are normal numbers themselves. NaN gives NaN, except for derivatives that are
// constants; infinities give the limits, except for the sine.
#ifndef SWIFTNETS_ACTIVATIONS_H
#define SWIFTNETS_ACTIVATIONS_H

#include <stddef.h>

// In the order of SWN_IDENTITY and the rest of swiftnets.h. The parameter is the slope left of 0 of the leaky ReLU, and
// the ELU's alpha; at 0 their derivatives from the left hold. The leaky ReLU's second and higher ones are 0, as are the
// identity's.
enum {
  swk_identity,
  swk_leaky_relu,
  swk_tanh,
  swk_sigmoid,
  swk_softplus,
  swk_silu,
  swk_gelu,
  swk_gelu_tanh,
  swk_sine,
  swk_elu
};

// d0 = s(a), d1 = s′(a), … to d[order], over n contiguous scalars; order from 0 to 4. Those above `order` are not
// touched. None may overlap a, except that d0 may be a itself. Any may be NULL.
void swk_activation_f32(int kind, float parameter, int order, size_t n, const float *a, float *d0, float *d1,
                        float *d2, float *d3, float *d4);
void swk_activation_f64(int kind, double parameter, int order, size_t n, const double *a, double *d0, double *d1,
                        double *d2, double *d3, double *d4);

// Losses in the output z with target y: ½ (z - y)²; softplus(z) - y z; and ½ r² for |r| < parameter, else
// parameter (|r| - ½ parameter), with r = z - y.
enum { swk_squared_error, swk_binary_cross_entropy, swk_huber };

// The loss and its derivatives in z, like the above.
void swk_loss_f32(int kind, float parameter, int order, size_t n, const float *z, const float *y, float *d0, float *d1,
                  float *d2, float *d3, float *d4);
void swk_loss_f64(int kind, double parameter, int order, size_t n, const double *z, const double *y, double *d0,
                  double *d1, double *d2, double *d3, double *d4);

// Every row of p [m, n] is exp(s) / Σ exp(s) of that of s, NaN where one of it is; p may be s.
void swk_softmax_rows_f32(size_t m, size_t n, const float *s, float *p);
void swk_softmax_rows_f64(size_t m, size_t n, const double *s, double *p);

#endif
