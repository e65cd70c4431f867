// The panels of LAPACK's Bunch-Kaufman factorisations, which neither lapack.h nor LAPACKE declares. OpenBLAS defines
// them.
//
// Driving the panels ourselves, as dsytrf and zsytrf do, is what lets a long factorisation be interrupted, and lets a
// short one choose its panel. Complex numbers are pairs of doubles; the complex matrices are symmetric, not Hermitian.
#ifndef SWIFTNETS_SYMMETRIC_PANEL_H
#define SWIFTNETS_SYMMETRIC_PANEL_H

#include <stddef.h>
#include <stdint.h>

// Arguments as in LAPACK's documentation of DLASYF and DSYTF2. Fortran's length of `uplo` comes last.
void scipy_dlasyf_(const char *uplo, const int32_t *n, const int32_t *nb, int32_t *kb, double *a, const int32_t *lda,
                   int32_t *ipiv, double *w, const int32_t *ldw, int32_t *info, size_t uplo_length);
void scipy_zlasyf_(const char *uplo, const int32_t *n, const int32_t *nb, int32_t *kb, void *a, const int32_t *lda,
                   int32_t *ipiv, void *w, const int32_t *ldw, int32_t *info, size_t uplo_length);
void scipy_dsytf2_(const char *uplo, const int32_t *n, double *a, const int32_t *lda, int32_t *ipiv, int32_t *info,
                   size_t uplo_length);
void scipy_zsytf2_(const char *uplo, const int32_t *n, void *a, const int32_t *lda, int32_t *ipiv, int32_t *info,
                   size_t uplo_length);

#endif
