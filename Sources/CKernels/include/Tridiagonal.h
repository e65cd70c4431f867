// LAPACK's steps of the tridiagonal reduction and of divide and conquer, which LAPACKE does not declare. See their
// sources for the arguments.
#ifndef SWIFTNETS_TRIDIAGONAL_H
#define SWIFTNETS_TRIDIAGONAL_H

#include <stddef.h>
#include <stdint.h>

void scipy_dlatrd_(const char *uplo, const int32_t *n, const int32_t *nb, double *a, const int32_t *lda, double *e,
                   double *tau, double *w, const int32_t *ldw, size_t length);

void scipy_dlaed2_(int32_t *k, const int32_t *n, const int32_t *n1, double *d, double *q, const int32_t *ldq,
                   int32_t *indxq, double *rho, double *z, double *dlambda, double *w, double *q2, int32_t *indx,
                   int32_t *indxc, int32_t *indxp, int32_t *coltyp, int32_t *info);

void scipy_dlaed4_(const int32_t *n, const int32_t *i, const double *d, const double *z, double *delta,
                   const double *rho, double *dlam, int32_t *info);

void scipy_dlamrg_(const int32_t *n1, const int32_t *n2, const double *a, const int32_t *stride1,
                   const int32_t *stride2, int32_t *index);

#endif
