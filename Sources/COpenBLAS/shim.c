// SwiftPM wants a source file in every C target; the functions themselves are in the vendored library.
#include "COpenBLAS.h"
