/* swiftnets._core: the engine as a Python module. Private: the package checks more and says more. */
#include "core.h"

#include <sched.h>
#include <cblas.h>

static PyObject *version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
  return PyUnicode_FromString(swn_version());
}

static PyObject *set_threads(PyObject *module, PyObject *argument)
{
  int32_t count;
  if (!take_int(argument, "threads", &count)) return NULL;
  Call call;
  begin(&call, module);
  release(&call);
  return finish(&call, swn_set_threads(count)) ? Py_NewRef(Py_None) : NULL;
}

static PyObject *get_threads(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
  return PyLong_FromLong(swn_get_threads());
}

static PyMethodDef methods[] = {
    {"version", version, METH_NOARGS, "version() -> str"},
    {"set_threads", set_threads, METH_O, "set_threads(threads)"},
    {"get_threads", get_threads, METH_NOARGS, "get_threads() -> int"},
    {NULL, NULL, 0, NULL},
};

/* OpenBLAS reports a bad argument by printing; LAPACK's info codes say the same to the engine. */
static void quiet(const char *name, const blasint *info, size_t name_length)
{
  (void)name, (void)info, (void)name_length;
}

/* As `threading` tells it, of the first interpreter that imports the module. */
static int find_main_thread(void)
{
  PyObject *threading = PyImport_ImportModule("threading");
  PyObject *thread = threading ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
  PyObject *name = thread ? PyObject_GetAttrString(thread, "ident") : NULL;
  if (name) remember_main_thread(PyLong_AsUnsignedLong(name));
  Py_XDECREF(threading);
  Py_XDECREF(thread);
  Py_XDECREF(name);
  return PyErr_Occurred() ? -1 : 0;
}

static int execute(PyObject *module)
{
  scipy_openblas_set_xerbla(quiet);
  swn_get_threads(); /* the engine makes ready: a fork may come before the first call */
  if (find_main_thread() < 0) return -1;
  ModuleState *state = PyModule_GetState(module);
  state->convergence_error = PyErr_NewExceptionWithDoc(
      "swiftnets._core.ConvergenceError", "An iterative solve stopped short of its tolerance.",
      PyExc_ArithmeticError, NULL);
  if (!state->convergence_error) return -1;
  if (PyModule_AddObjectRef(module, "ConvergenceError", state->convergence_error) < 0) return -1;
  if (PyModule_AddFunctions(module, slow_methods) < 0) return -1;
  if (PyModule_AddFunctions(module, fast_methods) < 0) return -1;
  if (PyModule_AddFunctions(module, mlp_methods) < 0) return -1;
  return PyModule_AddFunctions(module, factorization_methods);
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
  ModuleState *state = PyModule_GetState(module);
  if (state) Py_VISIT(state->convergence_error);
  return 0;
}

static int clear(PyObject *module)
{
  ModuleState *state = PyModule_GetState(module);
  if (state) Py_CLEAR(state->convergence_error);
  return 0;
}

/* A module that no collection cleared: at its end Python calls this alone. */
static void free_module(void *module) { (void)clear(module); }

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "swiftnets._core",
    .m_doc = "The engine: C-contiguous buffers in and out.",
    .m_size = sizeof(ModuleState),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = free_module,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
