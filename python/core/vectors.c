/* vectors: steps of optimisers, number by number, and sums of squares. */
#include "core.h"

#include <string.h>

/* Arrays of a call are all of the first one's type. */
static void take_format(Call *call, PyObject *first)
{
  Py_buffer view;
  if (PyObject_GetBuffer(first, &view, PyBUF_FULL_RO) < 0) return PyErr_Clear(); /* `take_arrays` says so */
  size_t length = view.format ? strlen(view.format) : 0;
  if (length && view.format[length - 1] == 'f') call->format = 'f';
  PyBuffer_Release(&view);
}

static int32_t dtype(const Call *call) { return call->format == 'f' ? SWN_FLOAT32 : SWN_FLOAT64; }

static PyObject *descend(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"w", "n", false, 0}, {"gradient", "n", false, 0}, {"w_out", "n", true, 0}};
  double rate;
  if (!take_count("descend", given, 4) || !take_double(args[0], "rate", &rate)) return NULL;
  Call call;
  begin(&call, module);
  take_format(&call, args[1]);
  PyObject *result = NULL;
  if (take_arrays(&call, args + 1, arrays, 3)) {
    double squares[2];
    release(&call);
    swn_status status = swn_descend(dtype(&call), size(&call, 'n'), rate, data(&call, 0), data(&call, 1),
                                    data(&call, 2), squares, &call.control);
    if (finish(&call, status)) result = Py_BuildValue("(dd)", squares[0], squares[1]);
  }
  end(&call);
  return result;
}

static PyObject *momentum(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"w", "n", false, 0},
                                     {"gradient", "n", false, 0},
                                     {"velocity", "n", false, 0},
                                     {"w_out", "n", true, 0},
                                     {"velocity_out", "n", true, 0}};
  double rate, beta;
  int32_t nesterov;
  if (!take_count("momentum", given, 8) || !take_double(args[0], "rate", &rate) ||
      !take_double(args[1], "beta", &beta) || !take_int(args[2], "nesterov", &nesterov)) {
    return NULL;
  }
  Call call;
  begin(&call, module);
  take_format(&call, args[3]);
  PyObject *result = NULL;
  if (take_arrays(&call, args + 3, arrays, 5)) {
    double squares[2];
    release(&call);
    swn_status status =
        swn_momentum(dtype(&call), size(&call, 'n'), rate, beta, nesterov, data(&call, 0), data(&call, 1),
                     data(&call, 2), data(&call, 3), data(&call, 4), squares, &call.control);
    if (finish(&call, status)) result = Py_BuildValue("(dd)", squares[0], squares[1]);
  }
  end(&call);
  return result;
}

static PyObject *adam(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  enum { FACTORS = 8, ARRAYS = 7 };
  static const char *const names[FACTORS] = {"beta1", "rest1", "beta2", "rest2", "correction", "epsilon", "rate",
                                             "decay"};
  static const ArraySpec arrays[ARRAYS] = {{"w", "n", false, 0},        {"gradient", "n", false, 0},
                                           {"mean", "n", false, 0},     {"square", "n", false, 0},
                                           {"w_out", "n", true, 0},     {"mean_out", "n", true, 0},
                                           {"square_out", "n", true, 0}};
  if (!take_count("adam", given, FACTORS + ARRAYS)) return NULL;
  double f[FACTORS];
  for (int index = 0; index < FACTORS; index++) {
    if (!take_double(args[index], names[index], &f[index])) return NULL;
  }
  const swn_adam_factors factors = {f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]};
  Call call;
  begin(&call, module);
  take_format(&call, args[FACTORS]);
  PyObject *result = NULL;
  if (take_arrays(&call, args + FACTORS, arrays, ARRAYS)) {
    double squares[2];
    release(&call);
    swn_status status = swn_adam(dtype(&call), size(&call, 'n'), &factors, data(&call, 0), data(&call, 1),
                                 data(&call, 2), data(&call, 3), data(&call, 4), data(&call, 5), data(&call, 6),
                                 squares, &call.control);
    if (finish(&call, status)) result = Py_BuildValue("(dd)", squares[0], squares[1]);
  }
  end(&call);
  return result;
}

static PyObject *square_sum(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"v", "n", false, 0}};
  if (!take_count("square_sum", given, 1)) return NULL;
  Call call;
  begin(&call, module);
  take_format(&call, args[0]);
  PyObject *result = NULL;
  if (take_arrays(&call, args, arrays, 1)) {
    double sum = 0;
    release(&call);
    swn_status status = swn_square_sum(dtype(&call), size(&call, 'n'), data(&call, 0), &sum, &call.control);
    if (finish(&call, status)) result = PyFloat_FromDouble(sum);
  }
  end(&call);
  return result;
}

PyMethodDef vector_methods[] = {
    {"descend", FASTCALL(descend), METH_FASTCALL, "descend(rate, w, gradient, w_out) -> squares"},
    {"momentum", FASTCALL(momentum), METH_FASTCALL,
     "momentum(rate, beta, nesterov, w, gradient, velocity, w_out, velocity_out) -> squares"},
    {"adam", FASTCALL(adam), METH_FASTCALL,
     "adam(beta1, rest1, beta2, rest2, correction, epsilon, rate, decay, w, gradient, mean, square, w_out, mean_out, "
     "square_out) -> squares"},
    {"square_sum", FASTCALL(square_sum), METH_FASTCALL, "square_sum(v) -> float"},
    {NULL, NULL, 0, NULL},
};
