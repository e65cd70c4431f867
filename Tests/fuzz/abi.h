/* What the fuzz targets of the C interface share: bytes become numbers, sizes and arrays.
 *
 * Every array is as long as it has to be and not a byte longer, under AddressSanitizer or before a page that cannot be
 * touched; inputs must be unchanged after a call. Arrays of absurd sizes lie in memory that cannot be touched at all,
 * and the engine may not map more than a gigabyte: it has to refuse them by their sizes.
 */
#ifndef SWIFTNETS_FUZZ_ABI_H
#define SWIFTNETS_FUZZ_ABI_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "swiftnets.h"

static void must(int holds, const char *claim)
{
  if (holds) return;
  fprintf(stderr, "not so: %s (last error: %s)\n", claim, swn_last_error());
  abort();
}

/* ---- Bytes; zeros when there are no more ------------------------------------------------------------------------- */

static const uint8_t *at, *end;

static unsigned byte(void) { return at < end ? *at++ : 0; }

static unsigned pick(unsigned count) { return byte() % count; }

/* True once in so many. Zeros are the ordinary case. */
static int seldom(unsigned once_in) { return byte() % once_in == once_in - 1; }

static uint64_t word(void)
{
  uint64_t found = 0;
  for (int i = 0; i < 8; i++) found = found << 8 | byte();
  return found;
}

static double special(unsigned which)
{
  static const double numbers[] = {0,      -0.0,    1,        -1,       0.5,      2,      1e-3,    -1e3,  1e8,
                                   1e-8,   1e15,    1e-160,   1e154,    -1e160,   1e300,  -1e308,  1e308, DBL_MAX,
                                   DBL_MIN, 5e-324, -5e-324,  1e-310,   FLT_MAX,  -3e38,  1e-45,   1e30,  4097,
                                   127,    -0.25,   INFINITY, -INFINITY, NAN};
  return numbers[which % (sizeof numbers / sizeof *numbers)];
}

/* A parameter: ordinary, remarkable or any bits. */
static double number(void)
{
  switch (pick(4)) {
    case 0: return (int)byte() / 64.0;
    case 1: return special(byte());
    case 2: return ((int)byte() - 128) * ldexp(1, (int)byte() - 128);
    default: {
      uint64_t bits = word();
      double found;
      memcpy(&found, &bits, sizeof found);
      return found;
    }
  }
}

/* ---- Arrays ------------------------------------------------------------------------------------------------------ */

enum { SCALAR64, SCALAR32, INTEGER64 };

static size_t width_of(int scalar) { return scalar == SCALAR32 ? 4 : 8; }

static struct array {
  uint8_t *base;
  void *map; /* NULL where the memory is malloc's */
  size_t bytes, mapped;
  uint64_t sum;
  int is_input;
} arrays[64];
static int array_count;
static int guarded; /* whether arrays end before a page that cannot be touched */

/* More than fits: each call with sizes that ask for such arrays has to be refused before it looks at them. */
static int absurd;
/* Likewise where the arrays fit, and what the engine has to keep does not. */
static int unfit;

static void *nowhere(void)
{
  static uint8_t *reserved;
  if (!reserved) {
    reserved = mmap(NULL, (size_t)1 << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must(reserved != MAP_FAILED, "addresses without memory");
  }
  return reserved + ((size_t)1 << 39);
}

static uint64_t sum_of(const uint8_t *base, size_t bytes)
{
  uint64_t sum = 0xcbf29ce484222325u, piece;
  for (; bytes >= 8; base += 8, bytes -= 8) {
    memcpy(&piece, base, 8);
    sum = (sum ^ piece) * 0x100000001b3u;
  }
  for (; bytes; bytes--) sum = (sum ^ *base++) * 0x100000001b3u;
  return sum;
}

static void *array_of(size_t count, int scalar)
{
  if (absurd) return nowhere();
  must(array_count < (int)(sizeof arrays / sizeof *arrays) && count < 1 << 24, "a target that knows its limits");
  struct array *a = &arrays[array_count++];
  a->bytes = count * width_of(scalar);
  a->is_input = 0;
  if (guarded) {
    size_t page = 4096, whole = (a->bytes + page - 1) / page * page;
    a->mapped = whole + page;
    a->map = mmap(NULL, a->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(a->map != MAP_FAILED && mprotect((uint8_t *)a->map + whole, page, PROT_NONE) == 0, "a guarded array");
    a->base = (uint8_t *)a->map + whole - a->bytes;
  } else {
    a->map = NULL;
    a->base = malloc(a->bytes ? a->bytes : 1);
    must(a->base != NULL, "an array");
  }
  return a->base;
}

/* NULL, now and then: of any argument. */
static void *or_null(void *given) { return seldom(97) ? NULL : given; }

static void *output(size_t count, int scalar) { return or_null(array_of(count, scalar)); }

static void put(void *base, int scalar, size_t i, double value)
{
  if (scalar == SCALAR64) {
    ((double *)base)[i] = value;
  } else {
    ((float *)base)[i] = value > FLT_MAX && isfinite(value) ? FLT_MAX : (float)fmax(value, -FLT_MAX);
    if (isnan(value) || isinf(value)) ((float *)base)[i] = (float)value;
  }
}

/* An array of numbers, most of them ordinary: a few bytes fill it. */
static void *input_or_absurd(size_t count, int scalar)
{
  void *base = array_of(count, scalar);
  if (absurd) return base;
  unsigned kind = pick(10);
  uint32_t state = byte() + 1;
  double size = 1;
  if (kind == 3) size = ldexp(1, ((int)byte() - 128) * 8);
  for (size_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    double plain = (int32_t)state / 2147483648.0;
    switch (kind) {
      default: put(base, scalar, i, plain); break;
      case 3: put(base, scalar, i, plain * size); break;
      case 4: put(base, scalar, i, (int)(state >> 29) - 4); break;
      case 5: put(base, scalar, i, (state >> 24) / 256.0 - 0.5); break; /* pixels */
      case 6: put(base, scalar, i, (state >> 8) % 16 ? plain : special(state >> 24)); break;
      case 7: put(base, scalar, i, special(state >> 24)); break;
      case 8: put(base, scalar, i, i < 64 ? number() : plain); break;
      case 9: put(base, scalar, i, 0); break;
    }
  }
  struct array *a = &arrays[array_count - 1];
  a->sum = sum_of(a->base, a->bytes);
  a->is_input = 1;
  return base;
}

static void *input(size_t count, int scalar) { return or_null(input_or_absurd(count, scalar)); }

static inline int64_t *labels(size_t count, size_t classes)
{
  int64_t *base = array_of(count, INTEGER64);
  if (absurd) return base;
  uint32_t state = byte() + 1;
  int has_wrong = seldom(16);
  for (size_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    base[i] = (state >> 8) % classes;
  }
  if (has_wrong && count) base[pick(255) % count] = seldom(2) ? (int64_t)word() : (int64_t)classes;
  struct array *a = &arrays[array_count - 1];
  a->sum = sum_of(a->base, a->bytes);
  a->is_input = 1;
  return base;
}

static void free_arrays(void)
{
  for (int i = 0; i < array_count; i++) {
    if (arrays[i].map) munmap(arrays[i].map, arrays[i].mapped);
    else free(arrays[i].base);
  }
  array_count = 0;
}

/* ---- Sizes ------------------------------------------------------------------------------------------------------- */

/* A size that no array can have. */
static size_t impossible(void)
{
  static const size_t sizes[] = {SIZE_MAX,          SIZE_MAX - 1,       SIZE_MAX / 2,      SIZE_MAX / 2 + 1, SIZE_MAX / 8,
                                 (size_t)1 << 62,   (size_t)1 << 60,    (size_t)1 << 48,   (size_t)1 << 32,  (size_t)1 << 31,
                                 SIZE_MAX / 8 + 1,  ((size_t)1 << 32) + 1, 0};
  return sizes[pick(sizeof sizes / sizeof *sizes)];
}

/* A size that an array may have, though not with all others. */
static size_t large(void)
{
  static const size_t sizes[] = {((size_t)1 << 31) - 1, (size_t)1 << 30, ((size_t)1 << 30) - 1, (size_t)1 << 29,
                                 46341,                 65536,           (size_t)1 << 24,       3037000500u / 2};
  return sizes[pick(sizeof sizes / sizeof *sizes)];
}

/* From 1 to `most`, mostly small. */
static size_t small(size_t most)
{
  size_t found = seldom(8) ? (size_t)byte() * 8 + byte() % 8 : byte() % 8;
  return 1 + found % most;
}

/* ---- Calls ------------------------------------------------------------------------------------------------------- */

static int polls, stop_at, has_stopped;

static int32_t poll(void *context)
{
  must(context == &polls, "a poll gets its context");
  has_stopped = stop_at && ++polls >= stop_at;
  return has_stopped;
}

static swn_control with_poll = {poll, &polls}, without = {NULL, NULL};

static const swn_control *control(void)
{
  polls = has_stopped = 0;
  unsigned kind = byte();
  stop_at = kind % 4 == 3 ? 1 + kind / 4 : 0;
  return kind % 8 == 0 ? NULL : kind % 16 == 1 ? &without : &with_poll;
}

/* After every call: the status is one that this call may have. */
static swn_status checked(swn_status status)
{
  must(status >= SWN_OK && status <= SWN_NUMERICAL, "a status");
  must(status == SWN_OK || *swn_last_error(), "a message");
  must((status == SWN_CANCELLED) <= has_stopped, "only polls cancel");
  must(!(absurd || unfit) || status == SWN_INVALID_ARGUMENT || status == SWN_OUT_OF_MEMORY, "absurd sizes are refused");
  for (int i = 0; i < array_count; i++)
    must(!arrays[i].is_input || arrays[i].sum == sum_of(arrays[i].base, arrays[i].bytes), "inputs are untouched");
  return status;
}

static void begin(const uint8_t *data, size_t size)
{
  at = data;
  end = data + size;
  absurd = unfit = 0;
  guarded = seldom(4);
  has_stopped = 0;
  must(swn_set_threads(0) == SWN_INVALID_ARGUMENT && swn_set_threads(65) == SWN_INVALID_ARGUMENT, "no such threads");
  int32_t threads = seldom(8) ? 3 : 1;
  must(swn_set_threads(threads) == SWN_OK && swn_get_threads() == threads && *swn_version(), "threads and a version");
}

/* The engine's large memory: more than a gigabyte is refused, as a small machine would. */
void *__real_mmap(void *, size_t, int, int, int, off_t);
void *__wrap_mmap(void *where, size_t bytes, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *where, size_t bytes, int protection, int flags, int file, off_t offset)
{
  if (bytes > (size_t)1 << 30 && protection & PROT_WRITE && file == -1) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return __real_mmap(where, bytes, protection, flags, file, offset);
}

/* Where an argument of the linker's is missing, large allocations of the allocator itself end a run by its limit. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
  return "allocator_may_return_null=1:max_allocation_size_mb=1024:detect_leaks=1:handle_abort=1:use_sigaltstack=0";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
