// What the Swift runtime keeps of a thread and a fork makes wrong.

#include <stdint.h>

#include "CKernels.h"

// The runtime's locks on Linux, `swift_once` among them, are futexes that hold their owner's thread ID, and a thread asks
// for its ID but once. In the child of a fork the one thread that is left has another, and two threads that meet at such a
// lock, as at the first use of a generic type, then wait in turns for ever. This is the runtime's own variable
// (lib/Threading, Linux/ulock.h); where a runtime has none, it is one that nobody reads.
__attribute__((weak, visibility("hidden"))) extern __thread uint32_t kept_id
    __asm__("_ZZN5swift14threading_impl5linux13ulock_get_tidEvE3tid");
__attribute__((weak, visibility("hidden"))) __thread uint32_t kept_id;

void swk_forget_thread_id(void) { kept_id = 0; }
