// The panel of LAPACK's column-pivoted QR, which neither lapack.h nor LAPACKE declares. OpenBLAS defines it.
//
// Driving the panels ourselves, as dgeqp3 does, is what lets a long factorisation be interrupted and stopped at its rank.
#ifndef SWIFTNETS_PIVOTED_PANEL_H
#define SWIFTNETS_PIVOTED_PANEL_H

#include <stdint.h>

// Arguments as in LAPACK's documentation of DLAQPS.
void scipy_dlaqps_(const int32_t *m, const int32_t *n, const int32_t *offset, const int32_t *nb, int32_t *kb, double *a,
                   const int32_t *lda, int32_t *jpvt, double *tau, double *vn1, double *vn2, double *auxv, double *f,
                   const int32_t *ldf);

#endif
