/* What the programs here share: claims, numbers from a seed, arrays without a byte to spare, polls that stop a call. */
#ifndef SWIFTNETS_SUPPORT_H
#define SWIFTNETS_SUPPORT_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "swiftnets.h"

static int failures = 0;

static inline void expect(int holds, const char *claim)
{
  if (!holds) {
    fprintf(stderr, "not so: %s (last error: %s)\n", claim, swn_last_error());
    failures++;
  }
}

/* The call is refused, and the message has the word in it. */
static inline void expect_refused(swn_status status, swn_status wanted, const char *word, const char *call)
{
  if (status != wanted || !strstr(swn_last_error(), word)) {
    fprintf(stderr, "%s: status %d for %d, and no \"%s\" in: %s\n", call, status, wanted, word, swn_last_error());
    failures++;
  }
}
#define REFUSED(word, call) expect_refused(call, SWN_INVALID_ARGUMENT, word, #call)
#define FAILS(wanted, word, call) expect_refused(call, wanted, word, #call)

static inline int near(double a, double b) { return fabs(a - b) <= 1e-12 * fabs(b); }

/* xorshift64*: the same numbers everywhere. */
typedef struct {
  uint64_t state;
} Random;

static inline uint64_t next(Random *random)
{
  uint64_t x = random->state ? random->state : 0x9e3779b97f4a7c15u;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  random->state = x;
  return x * 0x2545f4914f6cdd1du;
}

static inline size_t below(Random *random, size_t end) { return (size_t)((next(random) >> 33) % end); }
static inline double uniform(Random *random) { return (double)(next(random) >> 11) * 0x1p-52 - 1; }

/* Memory of exactly that size: one byte further is not ours, which AddressSanitizer sees. */
static inline void *exactly(size_t bytes)
{
  void *memory = malloc(bytes ? bytes : 1);
  if (!memory) abort();
  return memory;
}

static inline double *numbers(Random *random, size_t count)
{
  double *all = exactly(count * sizeof *all);
  for (size_t i = 0; i < count; i++) all[i] = uniform(random);
  return all;
}

/* A poll that says yes when it is asked for the `stop`-th time, or never for 0. */
typedef struct {
  int asked, stop;
} Countdown;

static inline int32_t count_down(void *context)
{
  Countdown *countdown = context;
  return ++countdown->asked == countdown->stop;
}

#endif
