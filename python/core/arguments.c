/* Arguments from Python, checked as far as memory safety needs: buffers, shapes that agree, writable outputs. */
#include "core.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

bool take_count(const char *function, Py_ssize_t given, Py_ssize_t expected)
{
  if (given == expected) return true;
  PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", function, expected, given);
  return false;
}

bool take_double(PyObject *object, const char *name, double *value)
{
  *value = PyFloat_AsDouble(object);
  if (*value != -1.0 || !PyErr_Occurred()) return true;
  if (PyErr_ExceptionMatches(PyExc_TypeError)) {
    PyErr_Format(PyExc_TypeError, "%s is %R; it must be a real number", name, object);
  }
  return false;
}

bool take_int(PyObject *object, const char *name, int32_t *value)
{
  int overflow = 0;
  long wide = PyLong_AsLongAndOverflow(object, &overflow);
  if (wide == -1 && !overflow && PyErr_Occurred()) {
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
      PyErr_Format(PyExc_TypeError, "%s is %R; it must be an integer", name, object);
    }
    return false;
  }
  if (overflow || wide < INT32_MIN || wide > INT32_MAX) {
    PyErr_Format(PyExc_ValueError, "%s is %R; it must fit in 32 bits", name, object);
    return false;
  }
  *value = (int32_t)wide;
  return true;
}

static const char *dimension_name(char letter)
{
  switch (letter) {
  case 'n': return "n";
  case 'i': return "insize";
  case 'h': return "hidsize";
  case 'o': return "outsize";
  case 'k': return "k";
  case 'p': return "parameters";
  case 'l': return "layers";
  case 'm': return "statistics";
  default: return "weights";
  }
}

enum { SHAPE_TEXT = 128 };

static void append(char *text, const char *piece)
{
  strncat(text, piece, SHAPE_TEXT - 1 - strlen(text));
}

/* The shape that `spec` expects, sizes that are known as numbers: "(5, insize)". */
static void expected_shape(char *text, const Call *call, const ArraySpec *spec)
{
  text[0] = '\0';
  append(text, "(");
  for (const char *letter = spec->shape; *letter; letter++) {
    char number[32];
    Py_ssize_t known = call->sizes[(unsigned char)*letter];
    if (known >= 0) snprintf(number, sizeof number, "%zd", known);
    append(text, known >= 0 ? number : dimension_name(*letter));
    if (letter[1]) append(text, ", ");
  }
  append(text, ")");
}

static void actual_shape(char *text, const Py_buffer *view)
{
  text[0] = '\0';
  append(text, "(");
  for (int axis = 0; axis < view->ndim; axis++) {
    char number[32];
    snprintf(number, sizeof number, axis ? ", %zd" : "%zd", view->shape[axis]);
    append(text, number);
  }
  append(text, view->ndim == 1 ? ",)" : ")");
}

static const char *type_name(char format)
{
  return format == 'f' ? "float32" : format == 'q' ? "int64" : "float64";
}

static size_t item_size(char format)
{
  return format == 'f' ? sizeof(float) : 8;
}

/* Whether the items are native ones of `wanted`. An int64 goes by two letters, as long is one on most systems. */
static bool is_native(const Py_buffer *view, char wanted)
{
  const char *format = view->format;
  if (!format || view->itemsize != (Py_ssize_t)item_size(wanted)) return false;
  const uint16_t one = 1;
  const char little = *(const char *)&one ? '<' : '>';
  if (*format == '@' || *format == '=' || *format == little) format++;
  return (*format == wanted || (wanted == 'q' && *format == 'l')) && !format[1];
}

/* False, with an exception that names the argument, unless `view` is as `spec` says. Records the sizes. */
static bool check_view(Call *call, const ArraySpec *spec, const Py_buffer *view)
{
  const char format = spec->format ? spec->format : call->format;
  if (!is_native(view, format)) {
    PyErr_Format(PyExc_TypeError, "%s holds items of format '%s'; it must be a %s array", spec->name,
                 view->format ? view->format : "B", type_name(format));
    return false;
  }
  bool agrees = view->ndim == (int)strlen(spec->shape);
  Py_ssize_t before[sizeof call->sizes / sizeof *call->sizes];
  memcpy(before, call->sizes, sizeof before);
  for (int axis = 0; agrees && axis < view->ndim; axis++) {
    Py_ssize_t *known = &call->sizes[(unsigned char)spec->shape[axis]];
    if (*known < 0) *known = view->shape[axis];
    agrees = *known == view->shape[axis];
  }
  if (!agrees) {
    memcpy(call->sizes, before, sizeof before);
    char got[SHAPE_TEXT], expected[SHAPE_TEXT];
    actual_shape(got, view);
    expected_shape(expected, call, spec);
    PyErr_Format(PyExc_ValueError, "%s has shape %s; expected %s", spec->name, got, expected);
    return false;
  }
  if (!PyBuffer_IsContiguous(view, 'C')) {
    PyErr_Format(PyExc_ValueError, "%s is not C-contiguous; numpy.ascontiguousarray makes it so", spec->name);
    return false;
  }
  if ((uintptr_t)view->buf % item_size(format)) {
    PyErr_Format(PyExc_ValueError, "%s is not aligned to %zu bytes", spec->name, item_size(format));
    return false;
  }
  if (spec->output && view->readonly) {
    PyErr_Format(PyExc_ValueError, "%s is read-only; it must be writable", spec->name);
    return false;
  }
  return true;
}

/* Contiguous arrays overlap exactly when their ranges of addresses do. */
static bool overlap(const Py_buffer *a, const Py_buffer *b)
{
  uintptr_t first = (uintptr_t)a->buf, second = (uintptr_t)b->buf;
  return first < second + (size_t)b->len && second < first + (size_t)a->len;
}

/* What a call may need of a thread's stack, in KiB. */
static const size_t least_stack = 128;

/* A RuntimeError where a thread's stack is too small for the engine: past its end the process would be ended. */
static bool take_stack(void)
{
  static _Thread_local char *bottom, *top;
  if (!top) {
    pthread_attr_t attributes;
    void *address = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
      if (pthread_attr_getstack(&attributes, &address, &size) != 0) size = 0;
      pthread_attr_destroy(&attributes);
    }
    bottom = address;
    top = size ? bottom + size : (char *)UINTPTR_MAX;
  }
  char *here = __builtin_frame_address(0);
  /* Elsewhere than in the thread's own stack nobody knows. */
  if (!bottom || here < bottom || here >= top || (size_t)(here - bottom) >= least_stack << 10) return true;
  PyErr_Format(PyExc_RuntimeError,
               "this thread has %zu KiB of its stack left and %zu are needed; expected a larger threading.stack_size, "
               "or limit of the process's stack",
               (size_t)(here - bottom) >> 10, least_stack);
  return false;
}

bool take_arrays(Call *call, PyObject *const *objects, const ArraySpec *specs, int count)
{
  if (!take_stack()) return false;
  for (int index = 0; index < count; index++) {
    const ArraySpec *spec = &specs[index];
    Py_buffer *view = &call->views[call->count];
    if (PyObject_GetBuffer(objects[index], view, PyBUF_FULL_RO) < 0) {
      if (PyErr_ExceptionMatches(PyExc_MemoryError)) return false;
      PyErr_Clear();
      PyObject *type = PyType_GetName(Py_TYPE(objects[index]));
      if (type) PyErr_Format(PyExc_TypeError, "%s is of type %U; it must be a %s array", spec->name, type,
                              type_name(spec->format ? spec->format : call->format));
      Py_XDECREF(type);
      return false;
    }
    call->specs[call->count++] = spec;
    if (!check_view(call, spec, view)) return false;
    for (int other = 0; other < call->count - 1; other++) {
      if ((spec->output || call->specs[other]->output) && overlap(view, &call->views[other])) {
        PyErr_Format(PyExc_ValueError, "%s shares memory with %s", spec->name, call->specs[other]->name);
        return false;
      }
    }
  }
  return true;
}
