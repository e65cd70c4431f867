/* Calls into the engine: the GIL is released around them, Ctrl-C stops the long ones, statuses become exceptions. */
#include "core.h"

#include <time.h>
#include <unistd.h>

static int64_t monotonic_nanoseconds(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Often enough that Ctrl-C feels immediate, seldom enough that other threads keep the GIL. */
static const int64_t poll_interval = 50 * 1000000;

/* Python's name for the thread that runs signal handlers. */
static unsigned long main_thread;

void remember_main_thread(unsigned long name)
{
  if (!main_thread) main_thread = name;
}

/* Other threads never take the GIL inside a call: where the interpreter has ended, that ends a daemon thread, which
 * would not give back the engine's locks. The process's first thread is Python's, too, in a child of any thread. */
static bool handles_signals(void) { return PyThread_get_thread_ident() == main_thread || gettid() == getpid(); }

/* The engine calls it on the calling thread, every few milliseconds. Signal handlers run here. An activation of one's
 * own that has raised is an interruption, too. */
static int32_t poll(void *context)
{
  Call *call = context;
  if (call->handles_signals && !call->interrupted && monotonic_nanoseconds() >= call->next_poll) {
    PyEval_RestoreThread(call->thread);
    call->interrupted = PyErr_CheckSignals() < 0;
    call->thread = PyEval_SaveThread();
    call->next_poll = monotonic_nanoseconds() + poll_interval;
  }
  return call->interrupted;
}

/* The last call on this thread that has released the GIL. */
static _Thread_local Call *current;

Call *current_call(void) { return current; }

void begin(Call *call, PyObject *module)
{
  call->module = module;
  call->format = 'd';
  call->count = 0;
  for (size_t letter = 0; letter < sizeof call->sizes / sizeof *call->sizes; letter++) call->sizes[letter] = -1;
  call->thread = NULL;
  call->handles_signals = handles_signals();
  call->interrupted = false;
  call->next_poll = 0;
  call->control = (swn_control){poll, call};
}

void end(Call *call)
{
  while (call->count > 0) PyBuffer_Release(&call->views[--call->count]);
}

void release(Call *call)
{
  call->next_poll = monotonic_nanoseconds() + poll_interval;
  call->outer = current;
  current = call;
  call->thread = PyEval_SaveThread();
}

bool finish(Call *call, swn_status status)
{
  PyEval_RestoreThread(call->thread);
  current = call->outer;
  if (call->interrupted) return false; /* the handler's exception stands, whatever the engine made of it */
  return succeeded(call->module, status);
}

bool succeeded(PyObject *module, swn_status status)
{
  PyObject *type;
  switch (status) {
  case SWN_OK: return true;
  case SWN_INVALID_ARGUMENT: type = PyExc_ValueError; break;
  case SWN_OUT_OF_MEMORY: type = PyExc_MemoryError; break;
  case SWN_NOT_FINITE: type = PyExc_FloatingPointError; break;
  case SWN_NOT_CONVERGED: type = ((ModuleState *)PyModule_GetState(module))->convergence_error; break;
  case SWN_NUMERICAL: type = PyExc_ArithmeticError; break;
  default: type = PyExc_RuntimeError; break;
  }
  PyErr_SetString(type, swn_last_error());
  return false;
}
