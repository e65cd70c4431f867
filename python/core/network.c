/* network: a net of any layers. What is done with it is in mlp.c. */
#include "core.h"

enum { INPUT_LENGTH = 4 }; /* its kind, then three sizes */

static PyObject *network(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
  enum { CODES, NUMBERS, STATISTICS, INPUT, ARRAYS };
  static const ArraySpec arrays[ARRAYS] = {
      {"codes", "lc", false, 'q'}, {"numbers", "l", false, 'd'}, {"statistics", "m", false, 'd'},
      {"input", "j", false, 'q'}};
  if (!take_count("network", given, ARRAYS + 4)) return NULL;
  swn_network_shape shape = {0};
  if (!take_int(args[ARRAYS], "dtype", &shape.dtype) || !take_int(args[ARRAYS + 1], "loss", &shape.loss) ||
      !take_double(args[ARRAYS + 2], "loss_parameter", &shape.loss_parameter)) {
    return NULL;
  }
  Call call;
  begin(&call, module);
  call.sizes['c'] = SWN_CODE_LENGTH;
  call.sizes['j'] = INPUT_LENGTH;
  PyObject *capsule = NULL, *kept = NULL;
  swn_function *functions = NULL;
  if (take_arrays(&call, args, arrays, ARRAYS) &&
      take_functions(args[ARRAYS + 3], call.sizes['l'], &kept, &functions)) {
    const int64_t *input = call.views[INPUT].buf;
    if (input[0] < SWN_INPUT_VECTOR || input[0] > SWN_INPUT_TOKENS) {
      PyErr_Format(PyExc_ValueError, "input[0] is %lld; it must be from 0 to 3", (long long)input[0]);
      goto done;
    }
    shape.input_kind = (int32_t)input[0];
    for (int index = 0; index < INPUT_LENGTH - 1; index++) shape.input[index] = (size_t)input[index + 1];
    shape.layers = size(&call, 'l');
    shape.codes = call.views[CODES].buf;
    shape.numbers = call.views[NUMBERS].buf;
    shape.statistics_count = size(&call, 'm');
    shape.statistics = call.views[STATISTICS].buf;
    shape.functions = functions;
    Net *net = PyMem_Calloc(1, sizeof *net);
    if (!net) {
      PyErr_NoMemory();
    } else if (succeeded(module, swn_network_create(&shape, &net->engine))) {
      net->format = shape.dtype == SWN_FLOAT32 ? 'f' : 'd';
      net->takes_tokens = shape.input_kind == SWN_INPUT_TOKENS;
      net->inputs = swn_mlp_input_count(net->engine);
      net->outputs = swn_mlp_output_count(net->engine);
      net->parameters = swn_mlp_parameter_count(net->engine);
      net->functions = Py_XNewRef(kept);
      capsule = capsule_of(net);
    } else {
      PyMem_Free(net);
    }
  }
done:
  Py_XDECREF(kept);
  PyMem_Free(functions);
  end(&call);
  return capsule;
}

PyMethodDef network_methods[] = {
    {"network", FASTCALL(network), METH_FASTCALL,
     "network(codes, numbers, statistics, input, dtype, loss, loss_parameter, functions) -> capsule"},
    {NULL, NULL, 0, NULL},
};
