/* mlp: a net of dense layers and its derivatives. */
#include "core.h"

static const char net_name[] = "swiftnets.mlp";
static const char linearization_name[] = "swiftnets.linearization";

static void free_net(PyObject *capsule)
{
  Net *net = PyCapsule_GetPointer(capsule, net_name);
  swn_mlp_destroy(net->engine);
  Py_XDECREF(net->functions);
  PyMem_Free(net);
}

static void free_linearization(PyObject *capsule)
{
  Linearization *linearization = PyCapsule_GetPointer(capsule, linearization_name);
  swn_linearization_destroy(linearization->engine);
  Py_XDECREF(linearization->functions);
  PyMem_Free(linearization);
}

PyObject *capsule_of(Net *net)
{
  PyObject *capsule = PyCapsule_New(net, net_name, free_net);
  if (!capsule) {
    swn_mlp_destroy(net->engine);
    Py_XDECREF(net->functions);
    PyMem_Free(net);
  }
  return capsule;
}

Net *take_net(PyObject *object)
{
  if (PyCapsule_IsValid(object, net_name)) return PyCapsule_GetPointer(object, net_name);
  PyErr_SetString(PyExc_TypeError, "net must be what mlp() or network() returns");
  return NULL;
}

Linearization *take_linearization(PyObject *object)
{
  if (PyCapsule_IsValid(object, linearization_name)) return PyCapsule_GetPointer(object, linearization_name);
  PyErr_SetString(PyExc_TypeError, "linearization must be what linearize() returns");
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

static void begin_at(Call *call, PyObject *module, const Linearization *linearization)
{
  begin(call, module);
  call->format = linearization->format;
  call->sizes['p'] = (Py_ssize_t)linearization->parameters;
}

typedef struct {
  ArraySpec array;
  bool optional; /* None stands for no array */
} Operand;

#define INPUT(name, shape) {{name, shape, false, 0}, false}
#define OPTIONAL(name, shape) {{name, shape, false, 0}, true}
#define OUTPUT(shape) {{"out", shape, true, 0}, false}

/* Their pointers in `arrays`, NULL for None. */
static bool take_operands(Call *call, PyObject *const *args, const Operand *operands, int count, void **arrays)
{
  for (int index = 0; index < count; index++) {
    arrays[index] = NULL;
    if (operands[index].optional && Py_IsNone(args[index])) continue;
    if (!take_arrays(call, args + index, &operands[index].array, 1)) return false;
    arrays[index] = data(call, call->count - 1);
  }
  return true;
}

bool take_samples(Call *call, const Net *net, PyObject *const *args, swn_samples *samples)
{
  enum { W, X, TARGETS, LABELS, WEIGHTS, COUNT };
  static const Operand numbers[COUNT] = {
      INPUT("w", "p"), INPUT("x", "ni"), OPTIONAL("y", "no"), {{"y", "n", false, 'q'}, true},
      OPTIONAL("sample_weight", "n")};
  static const Operand tokens[COUNT] = {
      INPUT("w", "p"), {{"x", "ni", false, 'q'}, false}, OPTIONAL("y", "no"), {{"y", "n", false, 'q'}, true},
      OPTIONAL("sample_weight", "n")};
  void *arrays[COUNT];
  if (!take_operands(call, args, net->takes_tokens ? tokens : numbers, COUNT, arrays) || !take_double(args[COUNT], "scale", &samples->scale)) {
    return false;
  }
  samples->n = size(call, 'n');
  samples->x = arrays[X];
  samples->targets = arrays[TARGETS];
  samples->labels = arrays[LABELS];
  samples->weights = arrays[WEIGHTS];
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
  if (!take_count("mlp", given, 7)) return NULL;
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
  PyObject *capsule = NULL, *kept = NULL;
  swn_activation *activations = NULL;
  swn_function *functions = NULL;
  if (count < 2) {
    PyErr_Format(PyExc_ValueError, "sizes has %zd entries; it must have at least 2", count);
  } else if (take_activations(args[1], count - 1, &activations) &&
             take_functions(args[6], count - 1, &kept, &functions)) {
    swn_mlp_shape shape = {dtype, (size_t)count - 1, sizes, activations, bias, loss, parameter, functions};
    Net *net = PyMem_Calloc(1, sizeof *net);
    if (!net) {
      PyErr_NoMemory();
    } else if (succeeded(module, swn_mlp_create(&shape, &net->engine))) {
      net->format = dtype == SWN_FLOAT32 ? 'f' : 'd';
      net->inputs = sizes[0];
      net->outputs = sizes[count - 1];
      net->parameters = swn_mlp_parameter_count(net->engine);
      net->functions = Py_XNewRef(kept);
      capsule = capsule_of(net);
    } else {
      PyMem_Free(net);
    }
  }
  Py_XDECREF(kept);
  PyMem_Free(functions);
  PyMem_Free(activations);
  PyMem_Free(sizes);
  return capsule;
}

/* The functions on samples are alike: a net, its w and samples, then integers, then arrays; the engine's work without
 * the GIL; None, or the loss. An `Operation` says what is one's own. */

enum { MAX_INTEGERS = 3, MAX_OPERANDS = 4 };

/* What the engine is called with. */
typedef struct {
  const swn_mlp *net;
  const void *w;
  swn_samples samples;
  int32_t integers[MAX_INTEGERS];
  void *arrays[MAX_OPERANDS]; /* NULL for None */
  size_t k;                   /* how many vectors, where a shape has a k */
  double loss;                /* written by those that return it */
  const swn_control *control;
} Operands;

typedef struct {
  const char *name;
  swn_status (*run)(Operands *);
  bool returns_loss;
  const char *integers[MAX_INTEGERS + 1];
  Operand operands[MAX_OPERANDS + 1];
  /* Sizes that no array tells; false, with an exception, where the integers are none that it knows. May be NULL. */
  bool (*prepare)(Call *call, const Net *net, const int32_t *integers);
} Operation;

static PyObject *operate(const Operation *operation, PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  int integers = 0, arrays = 0;
  while (operation->integers[integers]) integers++;
  while (operation->operands[arrays].array.name) arrays++;
  if (!take_count(operation->name, given, 1 + SAMPLES + integers + arrays)) return NULL;
  const Net *net = take_net(args[0]);
  if (!net) return NULL;
  Operands operands = {.net = net->engine};
  PyObject *const *own = args + 1 + SAMPLES;
  for (int index = 0; index < integers; index++) {
    if (!take_int(own[index], operation->integers[index], &operands.integers[index])) return NULL;
  }
  Call call;
  begin_on(&call, module, net);
  PyObject *result = NULL;
  if ((!operation->prepare || operation->prepare(&call, net, operands.integers)) &&
      take_samples(&call, net, args + 1, &operands.samples) &&
      take_operands(&call, own + integers, operation->operands, arrays, operands.arrays)) {
    operands.w = data(&call, 0);
    operands.k = size(&call, 'k');
    operands.control = &call.control;
    release(&call);
    swn_status status = operation->run(&operands);
    if (finish(&call, status)) {
      result = operation->returns_loss ? PyFloat_FromDouble(operands.loss) : Py_NewRef(Py_None);
    }
  }
  end(&call);
  return result;
}

/* One block's rows and columns, or all of the matrix where `upper` is negative. */
static bool block_shape(Call *call, const Net *net, const int32_t *integers)
{
  const int32_t upper = integers[1], lower = integers[2];
  size_t rows = net->parameters, columns = net->parameters;
  if (upper >= 0 && !succeeded(call->module, swn_mlp_block_shape(net->engine, upper, lower, &rows, &columns))) {
    return false;
  }
  call->sizes['a'] = (Py_ssize_t)rows;
  call->sizes['b'] = (Py_ssize_t)columns;
  return true;
}

static bool coefficient_count(Call *call, const Net *Py_UNUSED(net), const int32_t *integers)
{
  const int32_t order = integers[0];
  if (order < 0 || order > 3) {
    PyErr_Format(PyExc_ValueError, "order is %d; it must be from 0 to 3", (int)order);
    return false;
  }
  call->sizes['c'] = order + 1;
  return true;
}

/* A function of the module by its name, the engine's call with the operands `o`, and the fields of its operation. */
#define OPERATION(name, call, ...)                                                             \
  static swn_status name##_run(Operands *o) { return call; }                                   \
  static PyObject *name(PyObject *module, PyObject *const *args, Py_ssize_t given)             \
  {                                                                                            \
    static const Operation operation = {#name, name##_run, __VA_ARGS__};                       \
    return operate(&operation, module, args, given);                                           \
  }

OPERATION(mlp_loss, swn_mlp_loss(o->net, o->w, &o->samples, &o->loss, o->control), .returns_loss = true)
OPERATION(mlp_predict, swn_mlp_predict(o->net, o->w, &o->samples, o->arrays[0], o->control),
          .operands = {OUTPUT("no")})
OPERATION(mlp_gradient, swn_mlp_gradient(o->net, o->w, &o->samples, o->arrays[0], &o->loss, o->control),
          .returns_loss = true, .operands = {OUTPUT("p")})
OPERATION(mlp_sample_gradients, swn_mlp_sample_gradients(o->net, o->w, &o->samples, o->arrays[0], o->control),
          .operands = {OUTPUT("np")})
OPERATION(mlp_product,
          swn_mlp_product(o->net, o->integers[0], o->w, &o->samples, o->k, o->arrays[0], o->arrays[1], o->control),
          .integers = {"kind"}, .operands = {INPUT("v", "kp"), OUTPUT("kp")})
OPERATION(mlp_dense,
          swn_mlp_dense(o->net, o->integers[0], o->w, &o->samples, o->integers[1], o->integers[2], o->arrays[0],
                        o->control),
          .integers = {"kind", "upper", "lower"}, .operands = {OUTPUT("ab")}, .prepare = block_shape)
OPERATION(mlp_diagonal, swn_mlp_diagonal(o->net, o->integers[0], o->w, &o->samples, o->arrays[0], o->control),
          .integers = {"kind"}, .operands = {OUTPUT("p")})
OPERATION(mlp_jvp, swn_mlp_jvp(o->net, o->w, &o->samples, o->k, o->arrays[0], o->arrays[1], o->control),
          .operands = {INPUT("v", "kp"), OUTPUT("kno")})
OPERATION(mlp_vjp, swn_mlp_vjp(o->net, o->w, &o->samples, o->k, o->arrays[0], o->arrays[1], o->control),
          .operands = {INPUT("v", "kno"), OUTPUT("kp")})
OPERATION(mlp_jacobian, swn_mlp_jacobian(o->net, o->w, &o->samples, o->arrays[0], o->control),
          .operands = {OUTPUT("nop")})
OPERATION(mlp_taylor,
          swn_mlp_taylor(o->net, o->w, &o->samples, o->integers[0], o->arrays[0], o->arrays[1], &o->loss, o->control),
          .returns_loss = true, .integers = {"order"}, .operands = {INPUT("v", "p"), OUTPUT("cp")},
          .prepare = coefficient_count)
OPERATION(mlp_multilinear,
          swn_mlp_multilinear(o->net, o->w, &o->samples, o->arrays[0], o->arrays[1], o->k, o->arrays[2], o->arrays[3],
                              o->control),
          .operands = {INPUT("u", "p"), OPTIONAL("s", "p"), INPUT("v", "kp"), OUTPUT("kp")})

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
  linearization->functions = Py_XNewRef(net->functions);
  Call call;
  begin_on(&call, module, net);
  PyObject *result = NULL;
  swn_samples samples;
  if (take_samples(&call, net, args + 1, &samples) && take_arrays(&call, args + 1 + SAMPLES, output, 1)) {
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
    Py_XDECREF(linearization->functions);
    PyMem_Free(linearization);
  }
  return result;
}

static PyObject *linearization_product(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"v", "kp", false, 0}, {"out", "kp", true, 0}};
  if (!take_count("linearization_product", given, 4)) return NULL;
  int32_t kind;
  Linearization *linearization = take_linearization(args[0]);
  if (!linearization || !take_int(args[1], "kind", &kind)) return NULL;
  Call call;
  begin_at(&call, module, linearization);
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

static PyObject *linearization_third(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"u", "p", false, 0}, {"v", "kp", false, 0}, {"out", "kp", true, 0}};
  if (!take_count("linearization_third", given, 4)) return NULL;
  Linearization *linearization = take_linearization(args[0]);
  if (!linearization) return NULL;
  Call call;
  begin_at(&call, module, linearization);
  PyObject *result = NULL;
  if (take_arrays(&call, args + 1, arrays, 3)) {
    release(&call);
    swn_status status = swn_linearization_third(linearization->engine, data(&call, 0), size(&call, 'k'), data(&call, 1),
                                                data(&call, 2), &call.control);
    if (finish(&call, status)) result = Py_NewRef(Py_None);
  }
  end(&call);
  return result;
}

static PyObject *linearization_thirds(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec rows[] = {{"u", "kp", false, 0}}, output[] = {{"out", "tp", true, 0}};
  if (!take_count("linearization_thirds", given, 3)) return NULL;
  Linearization *linearization = take_linearization(args[0]);
  if (!linearization) return NULL;
  Call call;
  begin_at(&call, module, linearization);
  PyObject *result = NULL;
  if (take_arrays(&call, args + 1, rows, 1)) {
    const size_t k = size(&call, 'k');
    call.sizes['t'] = k < (size_t)1 << 31 ? (Py_ssize_t)(k * (k + 1) / 2) : PY_SSIZE_T_MAX;
    if (take_arrays(&call, args + 2, output, 1)) {
      release(&call);
      swn_status status =
          swn_linearization_thirds(linearization->engine, k, data(&call, 0), data(&call, 1), &call.control);
      if (finish(&call, status)) result = Py_NewRef(Py_None);
    }
  }
  end(&call);
  return result;
}

static PyObject *linearization_factors(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  static const ArraySpec arrays[] = {{"mix", "m", false, 0}, {"out", "c", true, 0}};
  if (!take_count("linearization_factors", given, 3)) return NULL;
  Linearization *linearization = take_linearization(args[0]);
  if (!linearization) return NULL;
  size_t mix, factors;
  if (!succeeded(module, swn_linearization_factor_counts(linearization->engine, &mix, &factors))) return NULL;
  Call call;
  begin_at(&call, module, linearization);
  call.sizes['m'] = mix > PY_SSIZE_T_MAX ? PY_SSIZE_T_MAX : (Py_ssize_t)mix;
  call.sizes['c'] = factors > PY_SSIZE_T_MAX ? PY_SSIZE_T_MAX : (Py_ssize_t)factors;
  PyObject *result = NULL;
  if (take_arrays(&call, args + 1, arrays, 2)) {
    release(&call);
    swn_status status = swn_linearization_factors(linearization->engine, data(&call, 0), data(&call, 1), &call.control);
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
  begin_at(&call, module, linearization);
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

static PyObject *mlp_memory(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  if (!take_count("mlp_memory", given, 2)) return NULL;
  const Net *net = take_net(args[0]);
  if (!net) return NULL;
  const size_t samples = PyLong_AsSize_t(args[1]);
  if (PyErr_Occurred()) return NULL;
  size_t point = 0, working = 0;
  if (!succeeded(module, swn_mlp_memory(net->engine, samples, &point, &working))) return NULL;
  return Py_BuildValue("(KK)", (unsigned long long)point, (unsigned long long)working);
}

#define SAMPLES_TEXT "net, w, x, targets, labels, weights, scale"

PyMethodDef mlp_methods[] = {
    {"mlp", FASTCALL(mlp), METH_FASTCALL,
     "mlp(sizes, activations, dtype, bias, loss, loss_parameter, functions) -> capsule"},
    {"mlp_memory", FASTCALL(mlp_memory), METH_FASTCALL, "mlp_memory(net, samples) -> (point bytes, working bytes)"},
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
    {"linearization_third", FASTCALL(linearization_third), METH_FASTCALL,
     "linearization_third(linearization, u, v, out)"},
    {"linearization_thirds", FASTCALL(linearization_thirds), METH_FASTCALL, "linearization_thirds(linearization, u, out)"},
    {"linearization_factors", FASTCALL(linearization_factors), METH_FASTCALL,
     "linearization_factors(linearization, mix, out)"},
    {"linearization_lanczos", FASTCALL(linearization_lanczos), METH_FASTCALL,
     "linearization_lanczos(linearization, kind, shift, starts, diagonal_out, off_diagonal_out)"},
    {NULL, NULL, 0, NULL},
};
