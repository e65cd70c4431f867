/* The Swift runtime's locks hold their owner's thread ID, which the runtime keeps of each thread. In the child of a fork
 * the thread has another: the engine's fork handler makes the runtime ask again. Without that two threads of a child may
 * wait for each other for ever, when both are the first to use something. */
#define _DEFAULT_SOURCE
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

/* The runtime's own variable (lib/Threading, Linux/ulock.h), by its name there. */
extern _Thread_local uint32_t kept_id __asm__("_ZZN5swift14threading_impl5linux13ulock_get_tidEvE3tid");

static uint32_t own_id(void) { return (uint32_t)syscall(SYS_gettid); }

/* Something of the engine's, which takes locks of the runtime's. */
static void work(void)
{
  const swn_slow_shape shape = {1, 1, 1};
  const double x = 1, y = 1, w1 = 2, w2 = -3;
  double loss = 0;
  expect(swn_slow_loss(shape, 1, &x, &y, &w1, &w2, &loss, NULL) == SWN_OK && near(loss, 8), "the loss is 4²/2");
}

int main(void)
{
  work();
  expect(kept_id == own_id(), "the runtime keeps this thread's ID, under the name that the fork handler knows");
  pid_t child = fork();
  if (child == 0) {
    int is_right = kept_id == 0 || kept_id == own_id();
    work();
    _exit(failures || !is_right || (kept_id != 0 && kept_id != own_id()));
  }
  int status = 1;
  expect(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child's thread has an ID of its own");
  expect(kept_id == own_id(), "the parent's is as it was");
  return failures != 0;
}
