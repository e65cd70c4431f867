/* swiftnets._core: the engine as a Python module. Private: the package checks more and says more. */
#include "core.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cblas.h>

static PyObject *version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
  return PyUnicode_FromString(swn_version());
}

static PyObject *engine_level(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
  return PyUnicode_FromString(swn_level());
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

/* Calls of NumPy that an interruption left running: it cannot be stopped. */
static atomic_long left_running;

/* NumPy's BLAS would wait for such calls in its destructor, for minutes or for ever: there is nothing left to destroy
 * that the system does not free. */
static void exit_at_once(int status, void *Py_UNUSED(unused))
{
  if (left_running <= 0) return;
  fflush(NULL);
  _exit(status);
}

static PyObject *leave_running(PyObject *Py_UNUSED(module), PyObject *argument)
{
  static atomic_flag is_registered = ATOMIC_FLAG_INIT;
  long change = PyLong_AsLong(argument);
  if (change == -1 && PyErr_Occurred()) return NULL;
  left_running += change;
  if (!atomic_flag_test_and_set(&is_registered)) on_exit(exit_at_once, NULL);
  return Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"version", version, METH_NOARGS, "version() -> str"},
    {"level", engine_level, METH_NOARGS, "level() -> str"},
    {"set_threads", set_threads, METH_O, "set_threads(threads)"},
    {"get_threads", get_threads, METH_NOARGS, "get_threads() -> int"},
    {"leave_running", leave_running, METH_O, "leave_running(change)"},
    {NULL, NULL, 0, NULL},
};

/* The count of the environment variable, if it is set to anything. */
static int take_threads(void)
{
  const char *text = getenv("SWIFTNETS_NUM_THREADS");
  if (!text || !*text) return 0;
  char *end;
  errno = 0;
  long count = strtol(text, &end, 10);
  if (!errno && !*end && count >= 1 && count <= 64 && swn_set_threads((int32_t)count) == SWN_OK) return 0;
  PyErr_Format(PyExc_ValueError, "SWIFTNETS_NUM_THREADS is \"%.40s\"; expected an integer from 1 to 64", text);
  return -1;
}

/* Whether the environment limits the level to one that there is. */
static int check_level(void)
{
  const char *text = getenv("SWIFTNETS_LEVEL");
  if (!text || !*text || !strcmp(text, "v4") || !strcmp(text, "v3") || !strcmp(text, "baseline")) return 0;
  PyErr_Format(PyExc_ValueError, "SWIFTNETS_LEVEL is \"%.40s\"; expected v4, v3 or baseline", text);
  return -1;
}

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
  if (find_main_thread() < 0 || take_threads() < 0 || check_level() < 0) return -1;
  ModuleState *state = PyModule_GetState(module);
  state->convergence_error = PyErr_NewExceptionWithDoc(
      "swiftnets._core.ConvergenceError", "An iterative solve stopped short of its tolerance.",
      PyExc_ArithmeticError, NULL);
  if (!state->convergence_error) return -1;
  if (PyModule_AddObjectRef(module, "ConvergenceError", state->convergence_error) < 0) return -1;
  if (PyModule_AddFunctions(module, slow_methods) < 0) return -1;
  if (PyModule_AddFunctions(module, fast_methods) < 0) return -1;
  if (PyModule_AddFunctions(module, mlp_methods) < 0) return -1;
  if (PyModule_AddFunctions(module, network_methods) < 0) return -1;
  if (PyModule_AddFunctions(module, factorization_methods) < 0) return -1;
  return PyModule_AddFunctions(module, vector_methods);
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
