#ifndef SWIFTNETS_ACTIVATIONS_H
#define SWIFTNETS_ACTIVATIONS_H
#include <stddef.h>
enum { swk_identity, swk_leaky_relu, swk_tanh, swk_sigmoid, swk_softplus, swk_silu, swk_gelu, swk_gelu_tanh, swk_sine };
enum { swk_squared_error, swk_binary_cross_entropy, swk_huber };
#define D(T,s) void swk_activation_##s(int kind, T parameter, int order, size_t n, const T *a, T *d0, T *d1, T *d2, T *d3, T *d4); \
 void swk_loss_##s(int kind, T parameter, int order, size_t n, const T *z, const T *y, T *value, T *d1, T *d2, T *d3, T *d4);
D(float,f32) D(double,f64)
#undef D
#endif
