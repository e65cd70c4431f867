// OpenBLAS and LAPACK as the PyPI package scipy-openblas32 ships them. Its symbols carry the prefix `scipy_`.
#ifndef SWIFTNETS_COPENBLAS_H
#define SWIFTNETS_COPENBLAS_H

#include <sched.h>
#include <cblas.h>
#include <lapacke.h>

#endif
