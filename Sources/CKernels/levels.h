// The levels of x86-64 that kernels are compiled for, chosen at run time.
#ifndef SWIFTNETS_LEVELS_H
#define SWIFTNETS_LEVELS_H

#include <stdlib.h>
#include <string.h>

// ThreadSanitizer looks at accesses of up to 16 bytes; with wider vectors it would see nothing of the kernels.
#if __has_feature(thread_sanitizer)
#define VECTOR_BYTES 16
#else
#define VECTOR_BYTES 32
#endif

#if defined(__x86_64__) && VECTOR_BYTES == 32
// The highest one of the processor, or of those up to SWIFTNETS_LEVEL: v4, v3 or baseline.
static int level(void) {
  static int known;  // racing threads write the same value
  int value = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (value == 0) {
    const char *limit = getenv("SWIFTNETS_LEVEL");
    __builtin_cpu_init();
    value = __builtin_cpu_supports("x86-64-v4") ? 3 : __builtin_cpu_supports("x86-64-v3") ? 2 : 1;
    if (limit && value > 2 && !strcmp(limit, "v3")) value = 2;
    if (limit && !strcmp(limit, "baseline")) value = 1;
    __atomic_store_n(&known, value, __ATOMIC_RELAXED);
  }
  return value;
}
#define DISPATCH(name, ...)                            \
  switch (level()) {                                   \
    case 3: return name##_v4(__VA_ARGS__);             \
    case 2: return name##_v3(__VA_ARGS__);             \
    default: return name##_baseline(__VA_ARGS__);      \
  }
#else
static inline int level(void) { return 1; }
#define DISPATCH(name, ...) return name##_baseline(__VA_ARGS__);
#endif

#endif
