/* What the files of swiftnets._core share: checked arrays, and calls into the engine without the GIL. */
#ifndef SWIFTNETS_CORE_H
#define SWIFTNETS_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "swiftnets.h"

typedef struct {
  PyObject *convergence_error;
} ModuleState;

/* One array argument. `shape` has one letter a dimension, from `dimension_name`; the same letter means the same size
 * everywhere in one call. Outputs must be writable and must not overlap any other array of the call. */
typedef struct {
  const char *name;
  const char *shape;
  bool output;
  char format; /* of the items, as in Python's struct: 'q' for int64; 0 for the call's own */
} ArraySpec;

enum { MAX_ARRAYS = 10 };

/* One call from Python: its arrays, the sizes they agree on, and what a poll needs. */
typedef struct {
  PyObject *module;
  char format; /* of the items of arrays: 'd', or 'f' for a float32 net */
  int count;
  const ArraySpec *specs[MAX_ARRAYS];
  Py_buffer views[MAX_ARRAYS];
  Py_ssize_t sizes[128]; /* by letter; -1 where no array has said it yet */
  PyThreadState *thread; /* while the GIL is released */
  bool handles_signals;  /* on this thread */
  bool interrupted;      /* a signal handler raised: the exception is pending on `thread` */
  int64_t next_poll;     /* monotonic nanoseconds */
  void *outer;           /* the call of this thread that this one is made in */
  swn_control control;
} Call;

/* arguments.c */
bool take_count(const char *function, Py_ssize_t given, Py_ssize_t expected);
bool take_double(PyObject *object, const char *name, double *value);
bool take_int(PyObject *object, const char *name, int32_t *value);
bool take_arrays(Call *call, PyObject *const *objects, const ArraySpec *specs, int count);

/* call.c. `current_call` is the one that this thread has released the GIL for, if any. `end` releases the arrays, with or
 * without an exception pending. `finish` takes the GIL back and is false,
 * with an exception set, unless the engine did its work. Between `release` and `finish` nothing may touch Python. */
void remember_main_thread(unsigned long name);
void begin(Call *call, PyObject *module);
void end(Call *call);
void release(Call *call);
bool finish(Call *call, swn_status status);
bool succeeded(PyObject *module, swn_status status);
Call *current_call(void);

static inline double *data(const Call *call, int index) { return call->views[index].buf; }
static inline size_t size(const Call *call, char letter) { return (size_t)call->sizes[(unsigned char)letter]; }

/* A net, with what its arrays must be like. */
typedef struct {
  swn_mlp *engine;
  PyObject *functions; /* a tuple with a callable or None for each activation, or NULL */
  char format;
  bool takes_tokens; /* x is int64 */
  size_t inputs, outputs, parameters;
} Net;

/* The arguments w, x, targets, labels, weights, scale, which every function on samples starts with after the net. */
enum { SAMPLES = 6 };

/* The passes kept at a point of a net. */
typedef struct {
  swn_linearization *engine;
  PyObject *functions; /* the net's */
  char format;
  size_t parameters;
} Linearization;

/* mlp.c. `begin_on` begins a call on a net: its sizes are known before any array. `capsule_of` takes a net over, and
 * frees it where it makes no capsule. */
Net *take_net(PyObject *object);
Linearization *take_linearization(PyObject *object);
void begin_on(Call *call, PyObject *module, const Net *net);
bool take_samples(Call *call, const Net *net, PyObject *const *args, swn_samples *samples);
PyObject *capsule_of(Net *net);

/* functions.c. A tuple of callables, and the engine's array of them, both NULL for None. */
bool take_functions(PyObject *object, Py_ssize_t count, PyObject **tuple, swn_function **functions);

extern PyMethodDef slow_methods[];
extern PyMethodDef fast_methods[];
extern PyMethodDef mlp_methods[];
extern PyMethodDef network_methods[];
extern PyMethodDef factorization_methods[];
extern PyMethodDef vector_methods[];

#define FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

#endif
