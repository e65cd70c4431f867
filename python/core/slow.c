/* slow_net: two dense layers. */
#include "core.h"

#include <stdatomic.h>
#include <unistd.h>

static swn_slow_shape shape_of(const Call *call)
{
  return (swn_slow_shape){size(call, 'i'), size(call, 'h'), size(call, 'o')};
}

static PyObject *slow_loss(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"xs", "ni", false, 0}, {"ys", "no", false, 0}, {"w1", "ih", false, 0}, {"w2", "ho", false, 0}};
  if (!take_count("slow_loss", given, 4)) return NULL;
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  if (take_arrays(&call, args, arrays, 4)) {
    double loss = 0;
    release(&call);
    swn_status status = swn_slow_loss(shape_of(&call), size(&call, 'n'), data(&call, 0), data(&call, 1),
                                      data(&call, 2), data(&call, 3), &loss, &call.control);
    if (finish(&call, status)) result = PyFloat_FromDouble(loss);
  }
  end(&call);
  return result;
}

static PyObject *slow_predict(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"xs", "ni", false, 0}, {"w1", "ih", false, 0}, {"w2", "ho", false, 0}, {"out", "no", true, 0}};
  if (!take_count("slow_predict", given, 4)) return NULL;
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  if (take_arrays(&call, args, arrays, 4)) {
    release(&call);
    swn_status status = swn_slow_predict(shape_of(&call), size(&call, 'n'), data(&call, 0), data(&call, 1),
                                         data(&call, 2), data(&call, 3), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

static PyObject *slow_gradient(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"xs", "ni", false, 0}, {"ys", "no", false, 0},     {"w1", "ih", false, 0},
                                     {"w2", "ho", false, 0}, {"dw1_out", "ih", true, 0}, {"dw2_out", "ho", true, 0}};
  if (!take_count("slow_gradient", given, 6)) return NULL;
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  if (take_arrays(&call, args, arrays, 6)) {
    double loss = 0;
    release(&call);
    swn_status status =
        swn_slow_gradient(shape_of(&call), size(&call, 'n'), data(&call, 0), data(&call, 1), data(&call, 2),
                          data(&call, 3), data(&call, 4), data(&call, 5), &loss, &call.control);
    if (finish(&call, status)) result = PyFloat_FromDouble(loss);
  }
  end(&call);
  return result;
}

static PyObject *slow_hessian_block(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec inputs[] = {{"xs", "ni", false, 0}, {"w1", "ih", false, 0}, {"w2", "ho", false, 0}};
  static const ArraySpec outputs[] = {{"out", "bb", true, 0}};
  if (!take_count("slow_hessian_block", given, 5)) return NULL;
  int32_t layer;
  if (!take_int(args[3], "layer", &layer)) return NULL;
  if (layer != 1 && layer != 2) return PyErr_Format(PyExc_ValueError, "layer is %d; it must be 1 or 2", (int)layer);
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  if (take_arrays(&call, args, inputs, 3)) {
    /* The weights of one layer: no overflow, as an array of that many exists. */
    call.sizes['b'] = call.sizes['h'] * (layer == 1 ? call.sizes['i'] : call.sizes['o']);
    if (take_arrays(&call, args + 4, outputs, 1)) {
      release(&call);
      swn_status status =
          swn_slow_hessian_block(shape_of(&call), size(&call, 'n'), data(&call, 0), data(&call, 1), data(&call, 2),
                                 layer, data(&call, 3), &call.control);
      if (finish(&call, status)) result = Py_NewRef(Py_None);
    }
  }
  end(&call);
  return result;
}

/* The engine's working memory serves one call at a time; the GIL does not see to that, as steps run without it. */
typedef struct {
  swn_slow_workspace *engine;
  atomic_long user; /* the process that has it, or 0: what a parent's thread had is free in the child of a fork */
} Workspace;

static bool take(Workspace *workspace)
{
  long user = atomic_load_explicit(&workspace->user, memory_order_relaxed), self = getpid();
  return user != self && atomic_compare_exchange_strong_explicit(&workspace->user, &user, self, memory_order_acquire,
                                                                 memory_order_relaxed);
}

static const char workspace_name[] = "swiftnets.slow_workspace";

static void free_workspace(PyObject *capsule)
{
  Workspace *workspace = PyCapsule_GetPointer(capsule, workspace_name);
  swn_slow_workspace_destroy(workspace->engine);
  PyMem_Free(workspace);
}

static PyObject *slow_workspace(PyObject *module, PyObject *Py_UNUSED(ignored))
{
  Workspace *workspace = PyMem_Calloc(1, sizeof *workspace);
  if (!workspace) return PyErr_NoMemory();
  PyObject *capsule = NULL;
  if (succeeded(module, swn_slow_workspace_create(&workspace->engine))) {
    capsule = PyCapsule_New(workspace, workspace_name, free_workspace);
  }
  if (!capsule) {
    swn_slow_workspace_destroy(workspace->engine);
    PyMem_Free(workspace);
  }
  return capsule;
}

static PyObject *slow_step(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec inputs[] = {{"xs", "ni", false, 0}, {"ys", "no", false, 0}, {"w1", "ih", false, 0}, {"w2", "ho", false, 0}};
  static const ArraySpec outputs[] = {{"w1_out", "ih", true, 0}, {"w2_out", "ho", true, 0}};
  if (!take_count("slow_step", given, 10)) return NULL;
  if (!PyCapsule_IsValid(args[0], workspace_name)) {
    PyErr_SetString(PyExc_TypeError, "workspace must be what slow_workspace() returns");
    return NULL;
  }
  Workspace *workspace = PyCapsule_GetPointer(args[0], workspace_name);
  double alpha, damping;
  int32_t method;
  if (!take_double(args[5], "alpha", &alpha) || !take_double(args[6], "damping", &damping) ||
      !take_int(args[7], "method", &method)) {
    return NULL;
  }
  Call call;
  begin(&call, module);
  PyObject *result = NULL;
  if (take_arrays(&call, args + 1, inputs, 4) && take_arrays(&call, args + 8, outputs, 2)) {
    if (!take(workspace)) {
      PyErr_SetString(PyExc_RuntimeError, "workspace is in use by another call; each thread needs its own");
    } else {
      swn_slow_report report = {0};
      release(&call);
      swn_status status =
          swn_slow_step(workspace->engine, shape_of(&call), size(&call, 'n'), data(&call, 0), data(&call, 1),
                        data(&call, 2), data(&call, 3), alpha, damping, method, data(&call, 4), data(&call, 5),
                        &report, &call.control);
      atomic_store_explicit(&workspace->user, 0, memory_order_release);
      if (finish(&call, status)) {
        result = Py_BuildValue("(dddii)", report.loss, report.residual1, report.residual2, (int)report.iterations,
                               (int)report.refinements);
      }
    }
  }
  end(&call);
  return result;
}

PyMethodDef slow_methods[] = {
    {"slow_loss", FASTCALL(slow_loss), METH_FASTCALL, "slow_loss(xs, ys, w1, w2)"},
    {"slow_predict", FASTCALL(slow_predict), METH_FASTCALL, "slow_predict(xs, w1, w2, out)"},
    {"slow_gradient", FASTCALL(slow_gradient), METH_FASTCALL, "slow_gradient(xs, ys, w1, w2, dw1_out, dw2_out) -> loss"},
    {"slow_hessian_block", FASTCALL(slow_hessian_block), METH_FASTCALL, "slow_hessian_block(xs, w1, w2, layer, out)"},
    {"slow_workspace", slow_workspace, METH_NOARGS, "slow_workspace() -> capsule"},
    {"slow_step", FASTCALL(slow_step), METH_FASTCALL,
     "slow_step(workspace, xs, ys, w1, w2, alpha, damping, method, w1_out, w2_out)\n"
     "-> (loss, residual1, residual2, iterations, refinements)"},
    {NULL, NULL, 0, NULL},
};
