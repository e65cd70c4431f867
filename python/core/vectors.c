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

/* A step: its factors come first, then arrays of n numbers, those written last. */
typedef struct {
  const char *name;
  int factors, arrays;
  const char *const factor_names[8];
  ArraySpec specs[7];
  swn_status (*run)(const Call *call, const double *factors, double *squares);
} Step;

static PyObject *take_step(PyObject *module, PyObject *const *args, Py_ssize_t given, const Step *step)
{
  double factors[8], squares[2];
  if (!take_count(step->name, given, step->factors + step->arrays)) return NULL;
  for (int index = 0; index < step->factors; index++) {
    if (!take_double(args[index], step->factor_names[index], &factors[index])) return NULL;
  }
  Call call;
  begin(&call, module);
  take_format(&call, args[step->factors]);
  PyObject *result = NULL;
  if (take_arrays(&call, args + step->factors, step->specs, step->arrays)) {
    release(&call);
    if (finish(&call, step->run(&call, factors, squares))) result = Py_BuildValue("(dd)", squares[0], squares[1]);
  }
  end(&call);
  return result;
}

static swn_status run_descend(const Call *call, const double *f, double *squares)
{
  return swn_descend(dtype(call), size(call, 'n'), f[0], data(call, 0), data(call, 1), data(call, 2), squares,
                     &call->control);
}

static PyObject *descend(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const Step step = {"descend", 1, 3, {"rate"},
                            {{"w", "n", false, 0}, {"gradient", "n", false, 0}, {"w_out", "n", true, 0}}, run_descend};
  return take_step(module, args, given, &step);
}

static swn_status run_momentum(const Call *call, const double *f, double *squares)
{
  return swn_momentum(dtype(call), size(call, 'n'), f[0], f[1], f[2] != 0, data(call, 0), data(call, 1),
                      data(call, 2), data(call, 3), data(call, 4), squares, &call->control);
}

static PyObject *momentum(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const Step step = {"momentum", 3, 5, {"rate", "beta", "nesterov"},
                            {{"w", "n", false, 0},
                             {"gradient", "n", false, 0},
                             {"velocity", "n", false, 0},
                             {"w_out", "n", true, 0},
                             {"velocity_out", "n", true, 0}},
                            run_momentum};
  return take_step(module, args, given, &step);
}

static swn_status run_adam(const Call *call, const double *f, double *squares)
{
  const swn_adam_factors factors = {f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]};
  return swn_adam(dtype(call), size(call, 'n'), &factors, data(call, 0), data(call, 1), data(call, 2), data(call, 3),
                  data(call, 4), data(call, 5), data(call, 6), squares, &call->control);
}

static PyObject *adam(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const Step step = {
      "adam", 8, 7, {"beta1", "rest1", "beta2", "rest2", "correction", "epsilon", "rate", "decay"},
      {{"w", "n", false, 0}, {"gradient", "n", false, 0}, {"mean", "n", false, 0}, {"square", "n", false, 0},
       {"w_out", "n", true, 0}, {"mean_out", "n", true, 0}, {"square_out", "n", true, 0}},
      run_adam};
  return take_step(module, args, given, &step);
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
