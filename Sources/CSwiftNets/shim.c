// SwiftPM wants a source file in every C target. Compiling the header here also proves that it is plain C.
#include "swiftnets.h"
