/* mlp: a net of dense layers and its derivatives. */
#include "core.h"

typedef struct {
  swn_linearization *engine;
  char format;
  size_t parameters;
} Linearization;

static const char net_name[] = "swiftnets.mlp";
static const char linearization_name[] = "swiftnets.linearization";

static void free_net(PyObject *capsule)
{
  Net *net = PyCapsule_GetPointer(capsule, net_name);
  swn_mlp_destroy(net->engine);
  PyMem_Free(net);
}

static void free_linearization(PyObject *capsule)
{
  Linearization *linearization = PyCapsule_GetPointer(capsule, linearization_name);
  swn_linearization_destroy(linearization->engine);
  PyMem_Free(linearization);
}

Net *take_net(PyObject *object)
{
  if (PyCapsule_IsValid(object, net_name)) return PyCapsule_GetPointer(object, net_name);
  PyErr_SetString(PyExc_TypeError, "net must be what mlp() returns");
  return NULL;
}

void begin_on(Call *call, PyObject *module, const Net *net)
{
  begin(call, module);
  call->format = net->format;
  call->sizes['i'] = (Py_ssize_t)net->inputs;
  call->sizes['o'] = (Py_ssize_t)net->outputs;
  call->sizes['p'] = (Py_ssize_t)net->parameters;
}

/* One array that may be None, which gives NULL. */
static bool take_optional(Call *call, PyObject *const *object, const ArraySpec *spec, const void **pointer)
{
  *pointer = NULL;
  if (Py_IsNone(*object)) return true;
  if (!take_arrays(call, object, spec, 1)) return false;
  *pointer = call->views[call->count - 1].buf;
  return true;
}

bool take_samples(Call *call, PyObject *const *args, swn_samples *samples)
{
  static const ArraySpec arrays[] = {{"w", "p", false, 0}, {"x", "ni", false, 0}};
  static const ArraySpec targets = {"y", "no", false, 0};
  static const ArraySpec labels = {"y", "n", false, 'q'};
  static const ArraySpec weights = {"sample_weight", "n", false, 0};
  const void *classes;
  if (!take_arrays(call, args, arrays, 2) || !take_optional(call, args + 2, &targets, &samples->targets) ||
      !take_optional(call, args + 3, &labels, &classes) ||
      !take_optional(call, args + 4, &weights, &samples->weights) || !take_double(args[5], "scale", &samples->scale)) {
    return false;
  }
  samples->n = size(call, 'n');
  samples->x = data(call, 1);
  samples->labels = classes;
  return true;
}

static PyObject *sizes_of(PyObject *object, size_t **sizes, Py_ssize_t *count)
{
  PyObject *tuple = PySequence_Tuple(object);
  if (!tuple) return NULL;
  *count = PyTuple_Size(tuple);
  *sizes = PyMem_Calloc((size_t)*count + 1, sizeof **sizes);
  if (!*sizes) {
    Py_DECREF(tuple);
    return PyErr_NoMemory();
  }
  for (Py_ssize_t index = 0; index < *count; index++) {
    (*sizes)[index] = PyLong_AsSize_t(PyTuple_GetItem(tuple, index));
    if (PyErr_Occurred()) {
      PyMem_Free(*sizes);
      Py_DECREF(tuple);
      return NULL;
    }
  }
  return tuple;
}

static bool take_activations(PyObject *object, Py_ssize_t depth, swn_activation **activations)
{
  PyObject *tuple = PySequence_Tuple(object);
  if (!tuple) return false;
  *activations = NULL;
  if (PyTuple_Size(tuple) != depth) {
    PyErr_Format(PyExc_ValueError, "%zd activations for %zd layers", PyTuple_Size(tuple), depth);
  } else if (!(*activations = PyMem_Calloc((size_t)depth, sizeof **activations))) {
    PyErr_NoMemory();
  } else {
    for (Py_ssize_t index = 0; index < depth; index++) {
      int kind;
      double parameter;
      PyObject *pair = PyTuple_GetItem(tuple, index);
      if (!PyTuple_Check(pair)) {
        PyErr_SetString(PyExc_TypeError, "activations must be pairs (kind, parameter)");
      } else if (PyArg_ParseTuple(pair, "id", &kind, &parameter)) {
        (*activations)[index] = (swn_activation){kind, parameter};
        continue;
      }
      PyMem_Free(*activations);
      *activations = NULL;
      break;
    }
  }
  Py_DECREF(tuple);
  return *activations != NULL;
}

static PyObject *mlp(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  if (!take_count("mlp", given, 6)) return NULL;
  int32_t dtype, bias, loss;
  double parameter;
  if (!take_int(args[2], "dtype", &dtype) || !take_int(args[3], "bias", &bias) || !take_int(args[4], "loss", &loss) ||
      !take_double(args[5], "loss_parameter", &parameter)) {
    return NULL;
  }
  size_t *sizes;
  Py_ssize_t count;
  PyObject *tuple = sizes_of(args[0], &sizes, &count);
  if (!tuple) return NULL;
  Py_DECREF(tuple);
  PyObject *capsule = NULL;
  swn_activation *activations = NULL;
  if (count < 2) {
    PyErr_Format(PyExc_ValueError, "sizes has %zd entries; it must have at least 2", count);
  } else if (take_activations(args[1], count - 1, &activations)) {
    swn_mlp_shape shape = {dtype, (size_t)count - 1, sizes, activations, bias, loss, parameter};
    Net *net = PyMem_Calloc(1, sizeof *net);
    if (!net) {
      PyErr_NoMemory();
    } else if (succeeded(module, swn_mlp_create(&shape, &net->engine))) {
      net->format = dtype == SWN_FLOAT32 ? 'f' : 'd';
      net->inputs = sizes[0];
      net->outputs = sizes[count - 1];
      net->parameters = swn_mlp_parameter_count(net->engine);
      capsule = PyCapsule_New(net, net_name, free_net);
    }
    if (net && !capsule) {
      swn_mlp_destroy(net->engine);
      PyMem_Free(net);
    }
  }
  PyMem_Free(activations);
  PyMem_Free(sizes);
  return capsule;
}

static PyObject *mlp_loss(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  if (!take_count("mlp_loss", given, 1 + SAMPLES)) return NULL;
  Net *net = take_net(args[0]);
  if (!net) return NULL;
  Call call;
  begin_on(&call, module, net);
  PyObject *result = NULL;
  swn_samples samples;
  if (take_samples(&call, args + 1, &samples)) {
    double loss = 0;
    release(&call);
    swn_status status = swn_mlp_loss(net->engine, data(&call, 0), &samples, &loss, &call.control);
    if (finish(&call, status)) result = PyFloat_FromDouble(loss);
  }
  end(&call);
  return result;
}

static PyObject *mlp_gradient(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec output[] = {{"out", "p", true, 0}};
  if (!take_count("mlp_gradient", given, 1 + SAMPLES + 1)) return NULL;
  Net *net = take_net(args[0]);
  if (!net) return NULL;
  Call call;
  begin_on(&call, module, net);
  PyObject *result = NULL;
  swn_samples samples;
  if (take_samples(&call, args + 1, &samples) && take_arrays(&call, args + 1 + SAMPLES, output, 1)) {
    double loss = 0;
    release(&call);
    swn_status status = swn_mlp_gradient(net->engine, data(&call, 0), &samples, data(&call, call.count - 1), &loss,
                                         &call.control);
    if (finish(&call, status)) result = PyFloat_FromDouble(loss);
  }
  end(&call);
  return result;
}

/* The functions of w and samples alone, which fill one array. */
typedef swn_status (*Fill)(const swn_mlp *, const void *, const swn_samples *, void *, const swn_control *);

static PyObject *fill(PyObject *module, PyObject *const *args, Py_ssize_t given, const char *name, const char *shape,
                      Fill function)
{
  const ArraySpec output[] = {{"out", shape, true, 0}};
  if (!take_count(name, given, 1 + SAMPLES + 1)) return NULL;
  Net *net = take_net(args[0]);
  if (!net) return NULL;
  Call call;
  begin_on(&call, module, net);
  PyObject *result = NULL;
  swn_samples samples;
  if (take_samples(&call, args + 1, &samples) && take_arrays(&call, args + 1 + SAMPLES, output, 1)) {
    release(&call);
    swn_status status = function(net->engine, data(&call, 0), &samples, data(&call, call.count - 1), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

static PyObject *mlp_predict(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  return fill(module, args, given, "mlp_predict", "no", swn_mlp_predict);
}

static PyObject *mlp_sample_gradients(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  return fill(module, args, given, "mlp_sample_gradients", "np", swn_mlp_sample_gradients);
}

static PyObject *mlp_jacobian(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  return fill(module, args, given, "mlp_jacobian", "nop", swn_mlp_jacobian);
}

/* The functions that map k vectors to k vectors. */
typedef swn_status (*Map)(const swn_mlp *, const void *, const swn_samples *, size_t, const void *, void *,
                          const swn_control *);

static PyObject *map(PyObject *module, PyObject *const *args, Py_ssize_t given, const char *name, const char *from,
                     const char *to, Map function)
{
  const ArraySpec arrays[] = {{"v", from, false, 0}, {"out", to, true, 0}};
  if (!take_count(name, given, 1 + SAMPLES + 2)) return NULL;
  Net *net = take_net(args[0]);
  if (!net) return NULL;
  Call call;
  begin_on(&call, module, net);
  PyObject *result = NULL;
  swn_samples samples;
  if (take_samples(&call, args + 1, &samples) && take_arrays(&call, args + 1 + SAMPLES, arrays, 2)) {
    release(&call);
    swn_status status = function(net->engine, data(&call, 0), &samples, size(&call, 'k'), data(&call, call.count - 2),
                                 data(&call, call.count - 1), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

static PyObject *mlp_jvp(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  return map(module, args, given, "mlp_jvp", "kp", "kno", swn_mlp_jvp);
}

static PyObject *mlp_vjp(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  return map(module, args, given, "mlp_vjp", "kno", "kp", swn_mlp_vjp);
}

static PyObject *mlp_product(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"v", "kp", false, 0}, {"out", "kp", true, 0}};
  if (!take_count("mlp_product", given, 1 + SAMPLES + 3)) return NULL;
  int32_t kind;
  Net *net = take_net(args[0]);
  if (!net || !take_int(args[1 + SAMPLES], "kind", &kind)) return NULL;
  Call call;
  begin_on(&call, module, net);
  PyObject *result = NULL;
  swn_samples samples;
  if (take_samples(&call, args + 1, &samples) && take_arrays(&call, args + 2 + SAMPLES, arrays, 2)) {
    release(&call);
    swn_status status = swn_mlp_product(net->engine, kind, data(&call, 0), &samples, size(&call, 'k'),
                                        data(&call, call.count - 2), data(&call, call.count - 1), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

static PyObject *mlp_diagonal(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec output[] = {{"out", "p", true, 0}};
  if (!take_count("mlp_diagonal", given, 1 + SAMPLES + 2)) return NULL;
  int32_t kind;
  Net *net = take_net(args[0]);
  if (!net || !take_int(args[1 + SAMPLES], "kind", &kind)) return NULL;
  Call call;
  begin_on(&call, module, net);
  PyObject *result = NULL;
  swn_samples samples;
  if (take_samples(&call, args + 1, &samples) && take_arrays(&call, args + 2 + SAMPLES, output, 1)) {
    release(&call);
    swn_status status =
        swn_mlp_diagonal(net->engine, kind, data(&call, 0), &samples, data(&call, call.count - 1), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

static PyObject *mlp_dense(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec output[] = {{"out", "ab", true, 0}};
  if (!take_count("mlp_dense", given, 1 + SAMPLES + 4)) return NULL;
  int32_t kind, upper, lower;
  Net *net = take_net(args[0]);
  if (!net || !take_int(args[1 + SAMPLES], "kind", &kind) || !take_int(args[2 + SAMPLES], "upper", &upper) ||
      !take_int(args[3 + SAMPLES], "lower", &lower)) {
    return NULL;
  }
  Call call;
  begin_on(&call, module, net);
  size_t rows = net->parameters, columns = net->parameters;
  if (upper >= 0 && !succeeded(module, swn_mlp_block_shape(net->engine, upper, lower, &rows, &columns))) return NULL;
  call.sizes['a'] = (Py_ssize_t)rows;
  call.sizes['b'] = (Py_ssize_t)columns;
  PyObject *result = NULL;
  swn_samples samples;
  if (take_samples(&call, args + 1, &samples) && take_arrays(&call, args + 4 + SAMPLES, output, 1)) {
    release(&call);
    swn_status status = swn_mlp_dense(net->engine, kind, data(&call, 0), &samples, upper, lower,
                                      data(&call, call.count - 1), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

static PyObject *mlp_taylor(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"v", "p", false, 0}, {"out", "cp", true, 0}};
  if (!take_count("mlp_taylor", given, 1 + SAMPLES + 3)) return NULL;
  int32_t order;
  Net *net = take_net(args[0]);
  if (!net || !take_int(args[1 + SAMPLES], "order", &order)) return NULL;
  if (order < 0 || order > 3) return PyErr_Format(PyExc_ValueError, "order is %d; it must be from 0 to 3", (int)order);
  Call call;
  begin_on(&call, module, net);
  call.sizes['c'] = order + 1;
  PyObject *result = NULL;
  swn_samples samples;
  if (take_samples(&call, args + 1, &samples) && take_arrays(&call, args + 2 + SAMPLES, arrays, 2)) {
    double loss = 0;
    release(&call);
    swn_status status = swn_mlp_taylor(net->engine, data(&call, 0), &samples, order, data(&call, call.count - 2),
                                       data(&call, call.count - 1), &loss, &call.control);
    if (finish(&call, status)) result = PyFloat_FromDouble(loss);
  }
  end(&call);
  return result;
}

static PyObject *mlp_multilinear(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec first[] = {{"u", "p", false, 0}};
  static const ArraySpec second = {"s", "p", false, 0};
  static const ArraySpec arrays[] = {{"v", "kp", false, 0}, {"out", "kp", true, 0}};
  if (!take_count("mlp_multilinear", given, 1 + SAMPLES + 4)) return NULL;
  Net *net = take_net(args[0]);
  if (!net) return NULL;
  Call call;
  begin_on(&call, module, net);
  PyObject *result = NULL;
  swn_samples samples;
  PyObject *const *rest = args + 1 + SAMPLES;
  const void *s;
  if (take_samples(&call, args + 1, &samples) && take_arrays(&call, rest, first, 1)) {
    const void *u = data(&call, call.count - 1);
    if (take_optional(&call, rest + 1, &second, &s) && take_arrays(&call, rest + 2, arrays, 2)) {
      release(&call);
      swn_status status = swn_mlp_multilinear(net->engine, data(&call, 0), &samples, u, s, size(&call, 'k'),
                                              data(&call, call.count - 2), data(&call, call.count - 1), &call.control);
      if (finish(&call, status)) result = Py_NewRef(Py_None);
    }
  }
  end(&call);
  return result;
}

static PyObject *linearize(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec output[] = {{"gradient_out", "p", true, 0}};
  if (!take_count("linearize", given, 1 + SAMPLES + 1)) return NULL;
  Net *net = take_net(args[0]);
  if (!net) return NULL;
  Linearization *linearization = PyMem_Calloc(1, sizeof *linearization);
  if (!linearization) return PyErr_NoMemory();
  linearization->format = net->format;
  linearization->parameters = net->parameters;
  Call call;
  begin_on(&call, module, net);
  PyObject *result = NULL;
  swn_samples samples;
  if (take_samples(&call, args + 1, &samples) && take_arrays(&call, args + 1 + SAMPLES, output, 1)) {
    double loss = 0;
    release(&call);
    swn_status status = swn_linearize(net->engine, data(&call, 0), &samples, data(&call, call.count - 1), &loss,
                                      &linearization->engine, &call.control);
    if (finish(&call, status)) {
      PyObject *capsule = PyCapsule_New(linearization, linearization_name, free_linearization);
      if (capsule) {
        linearization = NULL; /* the capsule's now */
        result = Py_BuildValue("(Nd)", capsule, loss);
      }
    }
  }
  end(&call);
  if (linearization) {
    swn_linearization_destroy(linearization->engine);
    PyMem_Free(linearization);
  }
  return result;
}

static Linearization *take_linearization(PyObject *value)
{
  if (PyCapsule_IsValid(value, linearization_name)) return PyCapsule_GetPointer(value, linearization_name);
  PyErr_SetString(PyExc_TypeError, "linearization must be what linearize() returns");
  return NULL;
}

static PyObject *linearization_product(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"v", "kp", false, 0}, {"out", "kp", true, 0}};
  if (!take_count("linearization_product", given, 4)) return NULL;
  int32_t kind;
  Linearization *linearization = take_linearization(args[0]);
  if (!linearization || !take_int(args[1], "kind", &kind)) return NULL;
  Call call;
  begin(&call, module);
  call.format = linearization->format;
  call.sizes['p'] = (Py_ssize_t)linearization->parameters;
  PyObject *result = NULL;
  if (take_arrays(&call, args + 2, arrays, 2)) {
    release(&call);
    swn_status status = swn_linearization_product(linearization->engine, kind, size(&call, 'k'), data(&call, 0),
                                                  data(&call, 1), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

static PyObject *linearization_lanczos(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {
      {"starts", "kp", false, 0}, {"diagonal_out", "ks", true, 0}, {"off_diagonal_out", "ks", true, 0}};
  if (!take_count("linearization_lanczos", given, 6)) return NULL;
  int32_t kind;
  double shift;
  Linearization *linearization = take_linearization(args[0]);
  if (!linearization || !take_int(args[1], "kind", &kind) || !take_double(args[2], "shift", &shift)) return NULL;
  Call call;
  begin(&call, module);
  call.format = linearization->format;
  call.sizes['p'] = (Py_ssize_t)linearization->parameters;
  PyObject *result = NULL;
  if (take_arrays(&call, args + 3, arrays, 3)) {
    release(&call);
    swn_status status =
        swn_linearization_lanczos(linearization->engine, kind, shift, size(&call, 'k'), size(&call, 's'), data(&call, 0),
                                  data(&call, 1), data(&call, 2), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

#define SAMPLES_TEXT "net, w, x, targets, labels, weights, scale"

PyMethodDef mlp_methods[] = {
    {"mlp", FASTCALL(mlp), METH_FASTCALL, "mlp(sizes, activations, dtype, bias, loss, loss_parameter) -> capsule"},
    {"mlp_loss", FASTCALL(mlp_loss), METH_FASTCALL, "mlp_loss(" SAMPLES_TEXT ") -> loss"},
    {"mlp_predict", FASTCALL(mlp_predict), METH_FASTCALL, "mlp_predict(" SAMPLES_TEXT ", out)"},
    {"mlp_gradient", FASTCALL(mlp_gradient), METH_FASTCALL, "mlp_gradient(" SAMPLES_TEXT ", out) -> loss"},
    {"mlp_sample_gradients", FASTCALL(mlp_sample_gradients), METH_FASTCALL,
     "mlp_sample_gradients(" SAMPLES_TEXT ", out)"},
    {"mlp_product", FASTCALL(mlp_product), METH_FASTCALL, "mlp_product(" SAMPLES_TEXT ", kind, v, out)"},
    {"mlp_dense", FASTCALL(mlp_dense), METH_FASTCALL,
     "mlp_dense(" SAMPLES_TEXT ", kind, upper, lower, out)"},
    {"mlp_diagonal", FASTCALL(mlp_diagonal), METH_FASTCALL, "mlp_diagonal(" SAMPLES_TEXT ", kind, out)"},
    {"mlp_jvp", FASTCALL(mlp_jvp), METH_FASTCALL, "mlp_jvp(" SAMPLES_TEXT ", v, out)"},
    {"mlp_vjp", FASTCALL(mlp_vjp), METH_FASTCALL, "mlp_vjp(" SAMPLES_TEXT ", u, out)"},
    {"mlp_jacobian", FASTCALL(mlp_jacobian), METH_FASTCALL, "mlp_jacobian(" SAMPLES_TEXT ", out)"},
    {"mlp_taylor", FASTCALL(mlp_taylor), METH_FASTCALL, "mlp_taylor(" SAMPLES_TEXT ", order, v, out) -> loss"},
    {"mlp_multilinear", FASTCALL(mlp_multilinear), METH_FASTCALL, "mlp_multilinear(" SAMPLES_TEXT ", u, s, v, out)"},
    {"linearize", FASTCALL(linearize), METH_FASTCALL, "linearize(" SAMPLES_TEXT ", gradient_out) -> (capsule, loss)"},
    {"linearization_product", FASTCALL(linearization_product), METH_FASTCALL,
     "linearization_product(linearization, kind, v, out)"},
    {"linearization_lanczos", FASTCALL(linearization_lanczos), METH_FASTCALL,
     "linearization_lanczos(linearization, kind, shift, starts, diagonal_out, off_diagonal_out)"},
    {NULL, NULL, 0, NULL},
};
