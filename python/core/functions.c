/* functions: activations of one's own, Python's callables that the engine calls. */
#include "core.h"

#include <math.h>
#include <string.h>

/* Calls `function(order, a as bytes)`, which returns order + 1 buffers like a: bytes, as the engine's memory is gone when
 * a function has kept what it was given. */
static bool evaluated(PyObject *function, char format, int32_t order, size_t n, const void *a, void *const *d)
{
  const Py_ssize_t bytes = (Py_ssize_t)(n * (format == 'f' ? sizeof(float) : sizeof(double)));
  PyObject *result = PyObject_CallFunction(function, "iy#", (int)order, a, bytes);
  bool good = result;
  for (int32_t k = 0; good && k <= order; k++) {
    Py_buffer view;
    PyObject *values = PyTuple_GetItem(result, k);
    if (!values || PyObject_GetBuffer(values, &view, PyBUF_SIMPLE) < 0) {
      good = false;
      break;
    }
    if (view.len != bytes) {
      PyErr_Format(PyExc_ValueError, "derivative %d is of %zd bytes; it must be of %zd", (int)k, view.len, bytes);
      good = false;
    } else if (d[k]) {
      memcpy(d[k], view.buf, (size_t)bytes);
    }
    PyBuffer_Release(&view);
  }
  Py_XDECREF(result);
  return good;
}

/* On the thread of the call, as the engine promises. What a function raises stays pending, as with a signal handler. */
static void evaluate(void *context, int32_t order, size_t n, const void *a, void *const *d)
{
  Call *call = current_call();
  if (!call->interrupted) {
    PyEval_RestoreThread(call->thread);
    call->interrupted = !evaluated(context, call->format, order, n, a, d);
    call->thread = PyEval_SaveThread();
  }
  if (!call->interrupted) return;
  for (int32_t k = 0; k <= order; k++) {
    if (!d[k]) continue;
    for (size_t index = 0; index < n; index++) {
      if (call->format == 'f') ((float *)d[k])[index] = NAN;
      else ((double *)d[k])[index] = NAN;
    }
  }
}

bool take_functions(PyObject *object, Py_ssize_t count, PyObject **tuple, swn_function **functions)
{
  *tuple = NULL;
  *functions = NULL;
  if (Py_IsNone(object)) return true;
  if (!(*tuple = PySequence_Tuple(object))) return false;
  if (PyTuple_Size(*tuple) != count) {
    PyErr_Format(PyExc_ValueError, "%zd functions for %zd layers", PyTuple_Size(*tuple), count);
  } else if (!(*functions = PyMem_Calloc((size_t)count + 1, sizeof **functions))) {
    PyErr_NoMemory();
  } else {
    for (Py_ssize_t index = 0; index < count; index++) {
      PyObject *function = PyTuple_GetItem(*tuple, index);
      if (!Py_IsNone(function)) (*functions)[index] = (swn_function){evaluate, function};
    }
    return true;
  }
  Py_CLEAR(*tuple);
  return false;
}
