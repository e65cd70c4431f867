/* factorizations: the Hessian of a net, or any symmetric matrix, plus a shift, factored and solved with. */
#include "core.h"

typedef struct {
  swn_layered *engine;
  size_t parameters;
} Layered;

typedef struct {
  swn_dense *engine;
  size_t order;
} Dense;

static const char layered_name[] = "swiftnets.layered";
static const char dense_name[] = "swiftnets.dense";

static void free_layered(PyObject *capsule)
{
  Layered *layered = PyCapsule_GetPointer(capsule, layered_name);
  swn_layered_destroy(layered->engine);
  PyMem_Free(layered);
}

static void free_dense(PyObject *capsule)
{
  Dense *dense = PyCapsule_GetPointer(capsule, dense_name);
  swn_dense_destroy(dense->engine);
  PyMem_Free(dense);
}

static void *take_handle(PyObject *object, const char *capsule_name, const char *maker)
{
  if (PyCapsule_IsValid(object, capsule_name)) return PyCapsule_GetPointer(object, capsule_name);
  PyErr_Format(PyExc_TypeError, "factorization must be what %s() returns", maker);
  return NULL;
}

/* A shift whose imaginary part is None is real. */
static bool take_shift(PyObject *const *args, double *real, double *imaginary, int32_t *is_complex)
{
  *imaginary = 0;
  *is_complex = !Py_IsNone(args[1]);
  return take_double(args[0], "real", real) && (!*is_complex || take_double(args[1], "imaginary", imaginary));
}

/* ((positive, negative, zero, log|det|, its error) or None, certificate or None, bytes). */
static PyObject *summary(const swn_factor_info *info)
{
  PyObject *real = info->known ? Py_BuildValue("(nnndd)", (Py_ssize_t)info->positive, (Py_ssize_t)info->negative,
                                               (Py_ssize_t)info->zero, info->log_determinant,
                                               info->log_determinant_error)
                               : Py_NewRef(Py_None);
  PyObject *certificate = info->certificate >= 0 ? PyFloat_FromDouble(info->certificate) : Py_NewRef(Py_None);
  return Py_BuildValue("(NNn)", real, certificate, (Py_ssize_t)info->bytes);
}

static PyObject *linearization_states(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec output[] = {{"out", "c", true, 'd'}};
  if (!take_count("linearization_states", given, 2)) return NULL;
  Linearization *linearization = take_linearization(args[0]);
  if (!linearization) return NULL;
  Call call;
  begin(&call, module);
  const size_t count = swn_linearization_states_count(linearization->engine);
  call.sizes['c'] = count > PY_SSIZE_T_MAX ? PY_SSIZE_T_MAX : (Py_ssize_t)count;
  PyObject *result = NULL;
  if (take_arrays(&call, args + 1, output, 1)) {
    release(&call);
    swn_status status = swn_linearization_states(linearization->engine, data(&call, 0), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

static PyObject *layered_plan(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  if (!take_count("layered_plan", given, 4)) return NULL;
  int32_t samples, is_complex, form;
  Net *net = take_net(args[0]);
  if (!net || !take_int(args[1], "samples", &samples) || !take_int(args[2], "is_complex", &is_complex) ||
      !take_int(args[3], "form", &form)) {
    return NULL;
  }
  swn_layered_sizes plan;
  const size_t n = samples > 0 ? (size_t)samples : 0;
  if (!succeeded(module, swn_layered_plan(net->engine, n, is_complex, form, &plan))) return NULL;
  return Py_BuildValue("(ndd)", (Py_ssize_t)plan.bytes, plan.operations, plan.solve_operations);
}

static PyObject *layered(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  if (!take_count("layered", given, 4)) return NULL;
  int32_t form, is_complex;
  double real, imaginary;
  Linearization *linearization = take_linearization(args[0]);
  if (!linearization || !take_int(args[1], "form", &form) || !take_shift(args + 2, &real, &imaginary, &is_complex)) {
    return NULL;
  }
  Layered *made = PyMem_Calloc(1, sizeof *made);
  if (!made) return PyErr_NoMemory();
  made->parameters = linearization->parameters;
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  swn_factor_info info;
  release(&call);
  swn_status status = swn_layered_create(linearization->engine, form, is_complex, real, imaginary, &made->engine, &info,
                                         &call.control);
  if (finish(&call, status)) {
    PyObject *capsule = PyCapsule_New(made, layered_name, free_layered);
    if (capsule) {
      made = NULL; /* the capsule's now */
      result = Py_BuildValue("(NN)", capsule, summary(&info));
    }
  }
  if (made) {
    swn_layered_destroy(made->engine);
    PyMem_Free(made);
  }
  return result;
}

static PyObject *layered_update(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  if (!take_count("layered_update", given, 3)) return NULL;
  int32_t is_complex;
  double real, imaginary;
  Layered *layered = take_handle(args[0], layered_name, "layered");
  if (!layered || !take_shift(args + 1, &real, &imaginary, &is_complex)) return NULL;
  Call call;
  begin(&call, module);
  swn_factor_info info;
  release(&call);
  swn_status status = swn_layered_update(layered->engine, is_complex, real, imaginary, &info, &call.control);
  return finish(&call, status) ? summary(&info) : NULL;
}

static PyObject *layered_solve(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec b = {"b", "kp", false, 0}, b_imaginary = {"b_imaginary", "kp", false, 0};
  static const ArraySpec x = {"x_out", "kp", true, 0}, x_imaginary = {"x_imaginary_out", "kp", true, 0};
  static const ArraySpec *const specs[] = {&b, &b_imaginary, &x, &x_imaginary};
  if (!take_count("layered_solve", given, 5)) return NULL;
  Layered *layered = take_handle(args[0], layered_name, "layered");
  if (!layered) return NULL;
  Call call;
  begin(&call, module);
  call.sizes['p'] = (Py_ssize_t)layered->parameters;
  void *arrays[4] = {NULL, NULL, NULL, NULL};
  PyObject *result = NULL;
  bool taken = true;
  for (int index = 0; taken && index < 4; index++) {
    if (index % 2 && Py_IsNone(args[1 + index])) continue; /* no imaginary parts */
    taken = take_arrays(&call, args + 1 + index, specs[index], 1);
    if (taken) arrays[index] = data(&call, call.count - 1);
  }
  if (taken) {
    release(&call);
    swn_status status = swn_layered_solve(layered->engine, size(&call, 'k'), arrays[0], arrays[1], arrays[2], arrays[3],
                                          &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

static PyObject *layered_trace_of_inverse(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  if (!take_count("layered_trace_of_inverse", given, 1)) return NULL;
  Layered *layered = take_handle(args[0], layered_name, "layered");
  if (!layered) return NULL;
  double trace = 0, log_determinant = 0;
  Call call;
  begin(&call, module);
  release(&call);
  swn_status status = swn_layered_trace_of_inverse(layered->engine, &trace, &log_determinant, &call.control);
  return finish(&call, status) ? Py_BuildValue("(dd)", trace, log_determinant) : NULL;
}

static PyObject *dense(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec matrix[] = {{"matrix", "pp", false, 0}};
  double shift;
  if (!take_count("dense", given, 2) || !take_double(args[1], "shift", &shift)) return NULL;
  Dense *made = PyMem_Calloc(1, sizeof *made);
  if (!made) return PyErr_NoMemory();
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  if (take_arrays(&call, args, matrix, 1)) {
    swn_factor_info info;
    made->order = size(&call, 'p');
    release(&call);
    swn_status status =
        swn_dense_create(made->order, data(&call, 0), shift, &made->engine, &info, &call.control);
    if (finish(&call, status)) {
      PyObject *capsule = PyCapsule_New(made, dense_name, free_dense);
      if (capsule) {
        made = NULL; /* the capsule's now */
        result = Py_BuildValue("(NNN)", capsule, PyBool_FromLong(info.positive_definite), summary(&info));
      }
    }
  }
  end(&call);
  if (made) {
    swn_dense_destroy(made->engine);
    PyMem_Free(made);
  }
  return result;
}

static PyObject *dense_update(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  double shift;
  if (!take_count("dense_update", given, 2) || !take_double(args[1], "shift", &shift)) return NULL;
  Dense *dense = take_handle(args[0], dense_name, "dense");
  if (!dense) return NULL;
  Call call;
  begin(&call, module);
  swn_factor_info info;
  release(&call);
  swn_status status = swn_dense_update(dense->engine, shift, &info, &call.control);
  if (!finish(&call, status)) return NULL;
  return Py_BuildValue("(NN)", PyBool_FromLong(info.positive_definite), summary(&info));
}

static PyObject *dense_solve(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"b", "kp", false, 0}, {"x_out", "kp", true, 0}};
  if (!take_count("dense_solve", given, 3)) return NULL;
  Dense *dense = take_handle(args[0], dense_name, "dense");
  if (!dense) return NULL;
  Call call;
  begin(&call, module);
  call.sizes['p'] = (Py_ssize_t)dense->order;
  PyObject *result = NULL;
  if (take_arrays(&call, args + 1, arrays, 2)) {
    release(&call);
    swn_status status =
        swn_dense_solve(dense->engine, size(&call, 'k'), data(&call, 0), data(&call, 1), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

static PyObject *dense_trace_of_inverse(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec matrix[] = {{"matrix", "pp", false, 0}};
  double shift, step;
  if (!take_count("dense_trace_of_inverse", given, 3) || !take_double(args[1], "shift", &shift) ||
      !take_double(args[2], "step", &step)) {
    return NULL;
  }
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  if (take_arrays(&call, args, matrix, 1)) {
    double trace = 0, log_determinant = 0;
    release(&call);
    swn_status status = swn_dense_trace_of_inverse(size(&call, 'p'), data(&call, 0), shift, step, &trace,
                                                   &log_determinant, &call.control);
    if (finish(&call, status)) result = Py_BuildValue("(dd)", trace, log_determinant);
  }
  end(&call);
  return result;
}

static PyObject *symmetric_eigen(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"matrix_out", "nn", true, 0}, {"values_out", "n", true, 0}};
  if (!take_count("symmetric_eigen", given, 2)) return NULL;
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  if (take_arrays(&call, args, arrays, 2)) {
    release(&call);
    swn_status status = swn_symmetric_eigen(size(&call, 'n'), data(&call, 0), data(&call, 1), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

PyMethodDef factorization_methods[] = {
    {"linearization_states", FASTCALL(linearization_states), METH_FASTCALL, "linearization_states(linearization, out)"},
    {"layered_plan", FASTCALL(layered_plan), METH_FASTCALL,
     "layered_plan(net, samples, is_complex, form) -> (bytes, operations, solve_operations)"},
    {"layered", FASTCALL(layered), METH_FASTCALL,
     "layered(linearization, form, real, imaginary) -> (capsule, summary)"},
    {"layered_update", FASTCALL(layered_update), METH_FASTCALL,
     "layered_update(factorization, real, imaginary) -> summary"},
    {"layered_solve", FASTCALL(layered_solve), METH_FASTCALL,
     "layered_solve(factorization, b, b_imaginary, x_out, x_imaginary_out)"},
    {"layered_trace_of_inverse", FASTCALL(layered_trace_of_inverse), METH_FASTCALL,
     "layered_trace_of_inverse(factorization) -> (trace, log_determinant), for a tiny imaginary shift"},
    {"dense", FASTCALL(dense), METH_FASTCALL,
     "dense(matrix, shift) -> (capsule, is_positive_definite, summary)"},
    {"dense_update", FASTCALL(dense_update), METH_FASTCALL,
     "dense_update(factorization, shift) -> (is_positive_definite, summary)"},
    {"dense_solve", FASTCALL(dense_solve), METH_FASTCALL, "dense_solve(factorization, b, x_out)"},
    {"dense_trace_of_inverse", FASTCALL(dense_trace_of_inverse), METH_FASTCALL,
     "dense_trace_of_inverse(matrix, shift, step) -> (trace, log_determinant)"},
    {"symmetric_eigen", FASTCALL(symmetric_eigen), METH_FASTCALL,
     "symmetric_eigen(matrix_out, values_out): the matrix is replaced by its eigenvectors, as rows"},
    {NULL, NULL, 0, NULL},
};
