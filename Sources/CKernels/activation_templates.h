// Included by activations.c once for each level of the processor: everything here is named NAME_LEVEL.
// Deliberately without an include guard.

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define INLINE static inline __attribute__((always_inline))
#pragma clang fp contract(fast)
#define LIFT 96
#define UNIT ((T)0x1p-96)

#define T float
#define INTEGER int32_t
#define LANES (WIDE_BYTES / 4)
#define TYPED(a) JOIN(JOIN(a, f32), LEVEL)
#define MANTISSA 23
#define BIAS 127
#define UNDERFLOW (-87.0f)  // of exp, before the subnormal numbers
#define VANISHING (-149.0f)  // of exp times any polynomial that is used
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#define EXP_TERMS 7
#define LOG_TERMS 8
#define FAR 150  // where sigmoids are 0 or 1
#define MILLS_TERMS 5
#define ERFC erfcf
#define EXP expf
#define SIN sinf
#define COS cosf
#include "typed_activations.h"
#undef T
#undef INTEGER
#undef LANES
#undef TYPED
#undef MANTISSA
#undef BIAS
#undef UNDERFLOW
#undef VANISHING
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_TERMS
#undef LOG_TERMS
#undef FAR
#undef MILLS_TERMS
#undef ERFC
#undef EXP
#undef SIN
#undef COS

#define T double
#define INTEGER int64_t
#define LANES (WIDE_BYTES / 8)
#define TYPED(a) JOIN(JOIN(a, f64), LEVEL)
#define MANTISSA 52
#define BIAS 1023
#define UNDERFLOW (-708.0)
#define VANISHING (-770.0)
#define LN2_HIGH 0x1.62e42fefa3800p-1
#define LN2_LOW 0x1.ef35793c76730p-45
#define EXP_TERMS 13
#define LOG_TERMS 17
#define FAR 800
#define MILLS_TERMS 8
#define ERFC erfc
#define EXP exp
#define SIN sin
#define COS cos
#include "typed_activations.h"
#undef T
#undef INTEGER
#undef LANES
#undef TYPED
#undef MANTISSA
#undef BIAS
#undef UNDERFLOW
#undef VANISHING
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_TERMS
#undef LOG_TERMS
#undef FAR
#undef MILLS_TERMS
#undef ERFC
#undef EXP
#undef SIN
#undef COS

#undef JOIN2
#undef JOIN
#undef INLINE
#undef LIFT
#undef UNIT
