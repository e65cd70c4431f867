/* fast_net: one dense layer, and factorisations of its inputs. */
#include "core.h"

static PyObject *fast_loss(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"xs", "ni", false, 0}, {"ys", "no", false, 0}, {"w", "io", false, 0}};
  if (!take_count("fast_loss", given, 3)) return NULL;
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  if (take_arrays(&call, args, arrays, 3)) {
    double loss = 0;
    swn_fast_shape shape = {size(&call, 'i'), size(&call, 'o')};
    release(&call);
    swn_status status = swn_fast_loss(shape, size(&call, 'n'), data(&call, 0), data(&call, 1), data(&call, 2), &loss,
                                      &call.control);
    if (finish(&call, status)) result = PyFloat_FromDouble(loss);
  }
  end(&call);
  return result;
}

static PyObject *fast_predict(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"xs", "ni", false, 0}, {"w", "io", false, 0}, {"out", "no", true, 0}};
  if (!take_count("fast_predict", given, 3)) return NULL;
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  if (take_arrays(&call, args, arrays, 3)) {
    swn_fast_shape shape = {size(&call, 'i'), size(&call, 'o')};
    release(&call);
    swn_status status =
        swn_fast_predict(shape, size(&call, 'n'), data(&call, 0), data(&call, 1), data(&call, 2), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

/* The engine's handle does not say whose inputs it was made of; their shape is kept here, since a wrong one would read
 * past their end. */
typedef struct {
  swn_fast_factorization *engine;
  Py_ssize_t n, insize;
} Factorization;

static const char factorization_name[] = "swiftnets.fast_factorization";

static void free_factorization(PyObject *capsule)
{
  Factorization *factorization = PyCapsule_GetPointer(capsule, factorization_name);
  swn_fast_factorization_destroy(factorization->engine);
  PyMem_Free(factorization);
}

static PyObject *fast_factorize(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"xs", "ni", false, 0}};
  double tolerance;
  if (!take_count("fast_factorize", given, 2) || !take_double(args[1], "tolerance", &tolerance)) return NULL;
  Factorization *factorization = PyMem_Calloc(1, sizeof *factorization);
  if (!factorization) return PyErr_NoMemory();
  Call call;
  begin(&call, module);
  PyObject *result = NULL, *capsule = NULL;
  swn_fast_factorization_info info = {0};
  if (take_arrays(&call, args, arrays, 1)) {
    factorization->n = call.sizes['n'];
    factorization->insize = call.sizes['i'];
    release(&call);
    swn_status status = swn_fast_factorize(size(&call, 'n'), size(&call, 'i'), data(&call, 0), tolerance, &call.control,
                                           &factorization->engine, &info);
    if (finish(&call, status)) capsule = PyCapsule_New(factorization, factorization_name, free_factorization);
  }
  end(&call);
  if (capsule) {
    result = Py_BuildValue("(N(iinddn))", capsule, (int)info.route, (int)info.pixels, (Py_ssize_t)info.rank,
                           info.tolerance, info.condition, (Py_ssize_t)info.bytes);
  } else {
    swn_fast_factorization_destroy(factorization->engine);
    PyMem_Free(factorization);
  }
  return result;
}

/* The factorisation, after making its shape the one that `xs` of this call must have; NULL with an exception. */
static Factorization *take_factorization(Call *call, PyObject *object)
{
  if (!PyCapsule_IsValid(object, factorization_name)) {
    PyErr_SetString(PyExc_TypeError, "factorization must be what fast_factorize() returns");
    return NULL;
  }
  Factorization *factorization = PyCapsule_GetPointer(object, factorization_name);
  call->sizes['n'] = factorization->n;
  call->sizes['i'] = factorization->insize;
  return factorization;
}

static PyObject *fast_minimum_norm(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"xs", "ni", false, 0}, {"b", "nk", false, 0}, {"out", "ik", true, 0}};
  if (!take_count("fast_minimum_norm", given, 4)) return NULL;
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  Factorization *factorization = take_factorization(&call, args[0]);
  if (factorization && take_arrays(&call, args + 1, arrays, 3)) {
    double residual = 0;
    release(&call);
    swn_status status = swn_fast_minimum_norm(factorization->engine, data(&call, 0), size(&call, 'k'), data(&call, 1),
                                              data(&call, 2), &residual, &call.control);
    if (finish(&call, status)) result = PyFloat_FromDouble(residual);
  }
  end(&call);
  return result;
}

static PyObject *fast_step(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec inputs[] = {{"xs", "ni", false, 0}, {"ys", "no", false, 0}, {"w", "io", false, 0}};
  static const ArraySpec outputs[] = {{"w_out", "io", true, 0}};
  double alpha, r;
  if (!take_count("fast_step", given, 7)) return NULL;
  if (!take_double(args[4], "alpha", &alpha) || !take_double(args[5], "r", &r)) return NULL;
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  Factorization *factorization = take_factorization(&call, args[0]);
  if (factorization && take_arrays(&call, args + 1, inputs, 3) && take_arrays(&call, args + 6, outputs, 1)) {
    swn_fast_report report = {0};
    swn_fast_shape shape = {size(&call, 'i'), size(&call, 'o')};
    release(&call);
    swn_status status =
        swn_fast_step(factorization->engine, shape, size(&call, 'n'), data(&call, 0), data(&call, 1), data(&call, 2),
                      alpha, r, data(&call, 3), &report, &call.control);
    if (finish(&call, status)) {
      result = Py_BuildValue("(ddO)", report.loss, report.residual, report.stale ? Py_True : Py_False);
    }
  }
  end(&call);
  return result;
}

PyMethodDef fast_methods[] = {
    {"fast_loss", FASTCALL(fast_loss), METH_FASTCALL, "fast_loss(xs, ys, w)"},
    {"fast_predict", FASTCALL(fast_predict), METH_FASTCALL, "fast_predict(xs, w, out)"},
    {"fast_factorize", FASTCALL(fast_factorize), METH_FASTCALL,
     "fast_factorize(xs, tolerance) -> (capsule, (route, pixels, rank, tolerance, condition, bytes))"},
    {"fast_minimum_norm", FASTCALL(fast_minimum_norm), METH_FASTCALL,
     "fast_minimum_norm(factorization, xs, b, out) -> residual"},
    {"fast_step", FASTCALL(fast_step), METH_FASTCALL,
     "fast_step(factorization, xs, ys, w, alpha, r, w_out) -> (loss, residual, stale)"},
    {NULL, NULL, 0, NULL},
};
