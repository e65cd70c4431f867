"""`Network.from_onnx`, `MLP.from_onnx`: what ONNX's evaluator computes, or a clear refusal."""

import numpy as np
import pytest

from swiftnets import MLP, Network
from swiftnets.nets import activations

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from swiftnets.interop import onnx_layers  # noqa: E402


def model(nodes, size, opset=21, kind=TensorProto.DOUBLE, batch="N", **constants):
    """Of nodes ``(operator, inputs, output, attributes)``; the last one's output is its own."""
    made = [
        helper.make_node(op, inputs.split(), [out], name=f"{op}_{index}", **options)
        for index, (op, inputs, out, options) in enumerate(nodes)
    ]
    graph = helper.make_graph(
        made,
        "net",
        [helper.make_tensor_value_info("x", kind, [batch, *size])],
        [helper.make_tensor_value_info(nodes[-1][2], TensorProto.DOUBLE, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def positive(*shape):
    return np.random.default_rng(shape).uniform(0.5, 2, shape)


PADS = [1, 0, 1, 0]


def lenet():
    return model(
        [
            ("Conv", "x w1 b1", "c1", {"pads": [2, 2, 2, 2]}),
            ("Tanh", "c1", "t1", {}),
            ("AveragePool", "t1", "p1", {"kernel_shape": [2, 2], "strides": [2, 2]}),
            ("Conv", "p1 w2", "c2", {"group": 2, "strides": [2, 1]}),
            ("Gelu", "c2", "t2", {"approximate": "tanh"}),
            ("MaxPool", "t2", "p2", {"kernel_shape": [2, 2], "strides": [2, 1], "pads": PADS}),
            ("Flatten", "p2", "f", {}),
            ("Gemm", "f w3 b3", "h", {"transB": 1}),
            ("Sigmoid", "h", "s", {}),
            ("MatMul", "s w4", "m", {}),
            ("Add", "m b4", "y", {}),
        ],
        (1, 12, 12),
        w1=normal(4, 1, 5, 5), b1=normal(4), w2=normal(6, 2, 3, 3), w3=normal(5, 36), b3=normal(5),
        w4=normal(5, 3), b4=normal(3),
    )  # fmt: skip


def resnet():
    """Norms of groups in both ways, frozen batch norms, a projection, SiLU as a product."""
    return model(
        [
            ("Conv", "x w1", "c1", {"auto_pad": "SAME_UPPER"}),
            ("BatchNormalization", "c1 g1 o1 mean var", "n1", {"epsilon": 0.01}),
            ("LeakyRelu", "n1", "a1", {"alpha": 0.3}),
            ("Conv", "a1 w2 b2", "c2", {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
            ("Shape", "c2", "shape", {}),
            ("Reshape", "c2 parts", "r2", {}),
            ("InstanceNormalization", "r2 ones zeros", "i2", {}),
            ("Reshape", "i2 shape", "s2", {}),
            ("Mul", "s2 g2", "m2", {}),
            ("Add", "m2 o2", "n2", {}),
            ("Sigmoid", "n2", "sig", {}),
            ("Mul", "n2 sig", "a2", {}),
            ("GroupNormalization", "a2 g3 o3", "n3", {"num_groups": 3}),
            ("Conv", "a1 w3", "short", {"strides": [2, 2]}),
            ("Add", "n3 short", "sum", {}),
            ("Dropout", "sum", "d", {}),
            ("GlobalAveragePool", "d", "pool", {}),
            ("Reshape", "pool flat", "f", {}),
            ("Gemm", "f w4", "y", {}),
        ],
        (2, 7, 7),
        w1=normal(4, 2, 3, 3), g1=normal(4), o1=normal(4, seed=1), mean=normal(4, seed=2),
        var=positive(4), w2=normal(6, 4, 3, 3), b2=normal(6), parts=[0, 2, -1], ones=np.ones(2),
        zeros=np.zeros(2), g2=normal(6, 1, 1), o2=normal(6, 1, 1, seed=1), g3=normal(6, seed=2),
        o3=normal(6, seed=3), w3=normal(6, 4, 1, 1), flat=[0, -1], w4=normal(6, 3),
    )  # fmt: skip


def tokens():
    return model(
        [
            ("Gather", "table x", "e", {}),
            ("Add", "e positions", "p", {}),
            ("LayerNormalization", "p g o", "n", {"axis": -1}),
            ("MatMul", "n w1", "m1", {}),
            ("Add", "b1 m1", "h1", {}),
            ("Gelu", "h1", "a", {}),
            ("MatMul", "a w2", "m2", {}),
            ("Add", "p m2", "r", {}),
            ("ReduceMean", "r axes", "mean", {"keepdims": 0}),
            ("Softplus", "mean", "y", {}),
        ],
        (5,),
        kind=TensorProto.INT64,
        table=normal(6, 4), positions=normal(1, 5, 4), g=normal(4), o=normal(4, seed=1),
        w1=normal(4, 3), b1=normal(3), w2=normal(3, 4), axes=[1],
    )  # fmt: skip


def defaults():
    """Slopes and ε of ONNX's own, which are numbers of float32."""
    return model(
        [
            ("BatchNormalization", "x g o mean var", "n1", {}),
            ("LeakyRelu", "n1", "a1", {}),
            ("Elu", "a1", "e1", {}),
            ("InstanceNormalization", "e1 g2 o2", "n2", {}),
            ("Flatten", "n2", "f", {}),
            ("MatMul", "f w", "y", {}),
        ],
        (2, 3, 3),
        g=normal(2), o=normal(2, seed=1), mean=normal(2, seed=2), var=[1e-6, 1e-5],
        g2=normal(2, seed=3), o2=normal(2, seed=4), w=normal(18, 3),
    )  # fmt: skip


@pytest.mark.parametrize("make", [lenet, resnet, tokens, defaults])
def test_outputs_are_the_reference_evaluators(make, tmp_path):
    made = make()
    net, w = Network.from_onnx(made, loss="squared_error")
    shape = (4, *net.input_shape)
    x = np.random.default_rng(1).integers(6, size=shape) if make is tokens else normal(*shape)
    (want,) = ReferenceEvaluator(made).run(None, {"x": x})
    # The evaluator's GroupNormalization passes through float32, its Gelu has such constants; by
    # themselves they are compared to 1e-12 below.
    tolerance = 1e-5 if make is resnet else 1e-7
    np.testing.assert_allclose(net.predict(w, x), want, rtol=0, atol=tolerance * abs(want).max())
    constants = {one.name: numpy_helper.to_array(one) for one in made.graph.initializer}
    for row in net.parameter_table:
        assert np.array_equal(
            np.sort(net.unflatten(w)[row.name].ravel()), np.sort(constants[row.torch_name].ravel())
        )
    onnx.save(made, tmp_path / "net.onnx")
    again, same = Network.from_onnx(tmp_path / "net.onnx", dtype="float32")
    assert again.layers == net.layers and again.dtype == np.float32
    np.testing.assert_array_equal(same, w.astype(np.float32))


@pytest.mark.parametrize("make", [lenet, resnet, tokens])
def test_outputs_are_the_evaluators_to_rounding_without_its_float32(make):
    made = make()
    for node in made.graph.node:
        if node.op_type in ("Gelu", "GroupNormalization"):
            node.op_type = "Tanh" if node.op_type == "Gelu" else "Identity"
            del node.attribute[:], node.input[1:]
    net, w = Network.from_onnx(made)
    shape = (4, *net.input_shape)
    x = np.random.default_rng(1).integers(6, size=shape) if make is tokens else normal(*shape)
    (want,) = ReferenceEvaluator(made).run(None, {"x": x})
    np.testing.assert_allclose(net.predict(w, x), want, rtol=0, atol=1e-12 * abs(want).max())


def test_layers_have_the_attributes():
    net, _ = Network.from_onnx(resnet())
    block, eps = net.layers[3], float(np.float32(1e-5))
    assert [repr(layer) for layer in block.body[1:]] == [
        f"GroupNorm(2, 6, eps={eps})",
        "SiLU()",
        f"GroupNorm(3, 6, eps={eps})",
    ]
    assert [repr(layer) for layer in net.layers[4:]] == [
        "GlobalAvgPool2d()",
        "Dense(6, 3, bias=False)",
    ]


def test_a_shape_that_is_open_is_asked_for():
    made = model([("Conv", "x w", "c", {}), ("Flatten", "c", "y", {})], (1, "H", "W"),
                 w=normal(2, 1, 2, 2))  # fmt: skip
    with pytest.raises(ValueError, match=r"input x has shape \['\?', 1, '\?', '\?'\].*input_shape"):
        Network.from_onnx(made)
    net, _ = Network.from_onnx(made, input_shape=(1, 4, 3))
    assert net.outputs == 12
    with pytest.raises(ValueError, match=r"input_shape is \(2, 4, 3\); expected"):
        Network.from_onnx(made, input_shape=(2, 4, 3))


def test_a_model_of_one_sample_is_read():
    made = model(
        [("Conv", "x w", "c", {}), ("Reshape", "c flat", "y", {})],
        (1, 4, 3), batch=1, w=normal(2, 1, 2, 2), flat=[1, 12],
    )  # fmt: skip
    assert Network.from_onnx(made)[0].outputs == 12


IMAGE, POOL = (2, 4, 4), {"kernel_shape": [2, 2]}


@pytest.mark.parametrize(
    ("node", "constants", "error", "words"),
    [
        (("Selu", "x", "y", {}), {}, TypeError, r"node Selu_0 \(Selu\) has no equivalent; sup"),
        (("Conv", "x w", "y", {"dilations": [2, 2]}), {}, ValueError, "dilations"),
        (("Conv", "x w", "y", {"pads": [0, 0, 1, 1]}), {}, ValueError, "pads is .*both sides"),
        (("Conv", "x w", "y", {"auto_pad": "SAME_LOWER"}), {}, ValueError, "odd kernels"),
        (("Conv", "w x", "y", {}), {}, ValueError, "no result of a layer"),
        (("MaxPool", "x", "y", {**POOL, "ceil_mode": 1}), {}, ValueError, "ceil_mode is 1"),
        (("MaxPool", "x", "y", {"kernel_shape": [2]}), {}, ValueError, "two dimensions"),
        (("AveragePool", "x", "y", {**POOL, "pads": [2, 2, 2, 2]}), {}, ValueError,
         "node AveragePool_0 .*padding is"),
        (("Add", "x w", "y", {}), {}, ValueError, r"adds a constant \(3, 2, 2, 2\)"),
        (("Mul", "x w", "y", {}), {}, TypeError, "Mul.* has no equivalent"),
        (("Mul", "x x", "y", {}), {}, TypeError, "Mul.* has no equivalent"),
        (("Gemm", "x w", "y", {"alpha": 2.0}), {}, ValueError, "alpha is 2.0"),
        (("Gemm", "x w", "y", {}), {}, ValueError, "given an image"),
        (("Gather", "w x", "y", {}), {}, ValueError, "given an image"),
        (("Flatten", "x", "y", {"axis": 2}), {}, ValueError, "axis is 2"),
        (("Reshape", "x shape", "y", {}), {"shape": [0, 2, 2, 8]}, ValueError, r"\[0, 2, 2, 8\]"),
        (("ReduceMean", "x", "y", {}), {}, ValueError, "is over"),
        (("BatchNormalization", "x s s s s", "y", {"training_mode": 1}), {"s": np.ones(2)},
         ValueError, "is in training"),
        (("BatchNormalization", "x s s s s", "y", {}), {"s": np.ones(2)}, ValueError, "tied"),
        (("LSTM", "x w w", "y", {}), {}, TypeError, "LSTM"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)  # fmt: skip
def test_nodes_without_an_equivalent_are_named(node, constants, error, words):
    made = model([node], IMAGE, w=normal(3, 2, 2, 2), **constants)
    with pytest.raises(error, match=words):
        Network.from_onnx(made)


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(TypeError, match="model is of type list; expected an onnx.ModelProto"):
        Network.from_onnx([])
    with pytest.raises(FileNotFoundError):
        Network.from_onnx(tmp_path / "none.onnx")
    two = lenet()
    two.graph.output.append(two.graph.output[0])
    with pytest.raises(ValueError, match=r"outputs \['y', 'y'\]; expected one of each"):
        Network.from_onnx(two)
    half = model([("Flatten", "x", "f", {}), ("Gemm", "f w", "y", {})], IMAGE,
                 w=normal(32, 2).astype(np.float16))  # fmt: skip
    with pytest.raises(ValueError, match="parameters of float16; expected float32 or float64"):
        Network.from_onnx(half)
    bad = model([("Flatten", "x", "f", {}), ("Gemm", "f w", "y", {})], IMAGE,
                w=np.full((32, 2), np.nan))  # fmt: skip
    with pytest.raises(ValueError, match="w is not finite"):
        Network.from_onnx(bad)


@pytest.mark.filterwarnings("ignore")  # the exporter that needs no more packages is deprecated
def test_what_pytorch_exports_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()  # fmt: skip
    torch.onnx.export(module, torch.zeros(1, 1, 8, 8), tmp_path / "net.onnx", dynamo=False)
    net, w = Network.from_onnx(tmp_path / "net.onnx")
    other, same = Network.from_torch(module, torch.zeros(1, 1, 8, 8))
    assert [type(one) for one in net.layers] == [type(one) for one in other.layers]
    np.testing.assert_array_equal(w, same)


def test_a_damaged_file_is_refused_by_its_name(tmp_path):
    whole = lenet().SerializeToString()
    for number, content in enumerate((b"", b"no model", whole[:-7], whole[:200])):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{number}\.onnx' is damaged|^model has inputs"):
            Network.from_onnx(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Network.from_onnx(tmp_path / "nowhere.onnx")


def test_a_model_that_breaks_the_rules_is_refused():
    for made in (
        model([("MatMul", "x", "y", {})], (3,), w=normal(3, 2)),
        model([("Conv", "x", "y", {})], (1, 3, 3), w=normal(1, 1, 2, 2)),
    ):
        with pytest.raises(ValueError, match="breaks ONNX's rules"):
            Network.from_onnx(made)


def test_nodes_that_nothing_comes_of_are_not_run():
    """A loop without an end, say: here one that would leave a mark."""
    made = model([("MatMul", "x w", "y", {})], (3,), w=normal(3, 2), much=[1 << 40])
    made.graph.node.append(helper.make_node("ConstantOfShape", ["much"], ["unused"]))
    net, w = Network.from_onnx(made)
    assert net.parameter_count == w.size == 6


# Chains as MLPs


def chain():
    """Gemm, and MatMul with Add in both orders, and the activations that there are here."""
    nodes = [
        ("Gemm", "x w0 b0", "h0", {"transB": 1}), ("Tanh", "h0", "a0", {}),
        ("MatMul", "a0 w1", "m1", {}), ("Add", "m1 b1", "h1", {}), ("Relu", "h1", "a1", {}),
        ("MatMul", "a1 w2", "m2", {}), ("Add", "b2 m2", "h2", {}),
        ("LeakyRelu", "h2", "a2", {"alpha": 0.25}),
        ("Gemm", "a2 w3 b3", "h3", {}), ("Sigmoid", "h3", "s3", {}), ("Mul", "h3 s3", "a3", {}),
        ("Gemm", "a3 w4 b4", "h4", {}), ("Sin", "h4", "a4", {}),
        ("Gemm", "a4 w5 b5", "h5", {}), ("Gelu", "h5", "a5", {}),
        ("Gemm", "a5 w6 b6", "h6", {}), ("Softplus", "h6", "a6", {}),
        ("Gemm", "a6 w7 b7", "h7", {}), ("Elu", "h7", "a7", {"alpha": 0.75}),
        ("Gemm", "a7 w8 b8", "h8", {}), ("Identity", "h8", "y", {}),
    ]  # fmt: skip
    arrays = {f"w{i}": normal(4, 4, seed=i) for i in range(9)} | {"w0": normal(4, 3)}
    arrays |= {f"b{i}": normal(4, seed=10 + i) for i in range(9)} | {"b2": normal(1, 4)}
    return model(nodes, (3,), **arrays), arrays


def evaluated(made, x):
    return np.asarray(ReferenceEvaluator(made).run(None, {"x": x})[0])


def test_a_chain_is_an_mlp():
    made, arrays = chain()
    net, w = MLP.from_onnx(made, loss="huber", reduction="mean", l2=0.5)
    assert type(net) is MLP and net.sizes == (3, *[4] * 9)
    expected = ("tanh", "relu", 0.25, "silu", "sine", "gelu", "softplus", 0.75, "identity")
    assert [one.parameter or one.name for one in net.activations] == list(expected)
    assert (net.loss_function.name, net.reduction, net.l2) == ("huber", "mean", 0.5)
    views = net.unflatten(w)
    np.testing.assert_array_equal(views["w0"], arrays["w0"].T)
    np.testing.assert_array_equal(views["b2"], arrays["b2"][0])
    x = normal(6, 3, seed=7)
    # The evaluator's Gelu has a constant of float32, which is 1e-8 off.
    np.testing.assert_allclose(net.predict(w, x), evaluated(made, x), rtol=1e-6, atol=1e-6)
    assert "layered_solve" in net.supports


def test_layers_without_biases_are_an_mlp_without():
    made = model([("MatMul", "x w", "h", {}), ("Tanh", "h", "a", {}), ("MatMul", "a v", "y", {})],
                 (3,), w=normal(3, 4), v=normal(4, 2))  # fmt: skip
    net, w = MLP.from_onnx(made)
    assert (net.sizes, net.bias) == ((3, 4, 2), False)
    np.testing.assert_array_equal(w, np.concatenate([normal(3, 4).ravel(), normal(4, 2).ravel()]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_batch_norms_are_folded_and_flattening_left_out(dtype):
    norms = {f"{name}{i}": normal(n, seed=i) for i, n in ((0, 6), (1, 4)) for name in "gom"}
    arrays = norms | {"v0": positive(6), "v1": positive(4), "w": normal(6, 4), "k": normal(4, 2)}
    made = model(
        [
            ("Flatten", "x", "f", {}), ("BatchNormalization", "f g0 o0 m0 v0", "n0", {}),
            ("MatMul", "n0 w", "h", {}), ("BatchNormalization", "h g1 o1 m1 v1", "n1", {}),
            ("Tanh", "n1", "a", {}), ("Gemm", "a k b", "y", {}),
        ],
        (1, 2, 3), b=normal(2).astype(dtype), kind=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
        **{name: array.astype(dtype) for name, array in arrays.items()},
    )  # fmt: skip
    net, w = MLP.from_onnx(made)
    assert net.sizes == (6, 4, 2) and net.bias and w.dtype == dtype
    x = normal(5, 1, 2, 3).astype(dtype)
    # Sums of 6 and 4 products of order 1 and factors of a few.
    tolerance = 200 * np.finfo(dtype).eps
    np.testing.assert_allclose(net.predict(w, x.reshape(5, 6)), evaluated(made, x), atol=tolerance)
    kept, _ = Network.from_onnx(made)
    assert [type(one).__name__ for one in kept.layers].count("BatchNorm") == 2


@pytest.mark.parametrize(
    ("nodes", "size", "words"),
    [
        ([("Conv", "x k", "c", {}), ("Flatten", "c", "y", {})], (1, 3, 3), "Conv.* none of an MLP"),
        ([("Tanh", "x", "h", {}), ("MatMul", "h w", "y", {})], (2,), "before the first Gemm"),
        ([("MatMul", "x w", "h", {}), ("Tanh", "h", "a", {}), ("Relu", "a", "y", {})], (2,),
         "after another activation"),
        ([("Gemm", "x w b", "h", {}), ("MatMul", "h v", "y", {})], (2,), "MatMul.* no bias"),
        ([("MatMul", "x w", "h", {}), ("Add", "h x", "y", {})], (2,), "Residual.* none of an MLP"),
        ([("MatMul", "x w", "h", {}), ("Softmax", "h", "y", {})], (2,), "takes logits"),
        ([("Flatten", "x", "f", {}), ("Identity", "f", "y", {})], (2,), "of none"),
    ],
)  # fmt: skip
def test_what_is_no_chain_is_named(nodes, size, words):
    made = model(nodes, size, k=normal(2, 1, 2, 2), w=normal(2, 2), v=normal(2, 2), b=normal(2))
    with pytest.raises((TypeError, ValueError), match=words):
        MLP.from_onnx(made)


def test_outputs_of_a_chain_are_compared(monkeypatch):
    made, _ = chain()
    monkeypatch.setitem(onnx_layers._FUNCTIONS, "Tanh", activations.Sigmoid)
    with pytest.raises(ValueError, match="outputs differ on random inputs"):
        MLP.from_onnx(made)


# GELU in five nodes


ROOT = np.float32(np.sqrt(2))
SPELLINGS = {
    "x (1 + erf) / 2": [("Div", "h r", "d"), ("Erf", "d", "e"), ("Add", "e one", "p"),
                        ("Mul", "h p", "m"), ("Mul", "m half", "y")],
    "x / 2 (1 + erf)": [("Mul", "inverse h", "d"), ("Erf", "d", "e"), ("Add", "one e", "p"),
                        ("Mul", "half h", "m"), ("Mul", "m p", "y")],
    "(1 + erf) / 2 x": [("Div", "h r", "d"), ("Erf", "d", "e"), ("Add", "e one", "p"),
                        ("Mul", "p half", "m"), ("Mul", "m h", "y")],
}  # fmt: skip


def spelt(nodes, **changes):
    numbers = {"r": ROOT, "inverse": 1 / ROOT, "one": 1.0, "half": 0.5} | changes
    arrays = {name: np.float64(value) for name, value in numbers.items()}
    nodes = [("Gemm", "x w b", "h", {}), *((*node, {}) for node in nodes)]
    return model(nodes, (3,), w=normal(3, 4), b=normal(4), **arrays)


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_gelu_that_is_written_out_is_one(name):
    made = spelt(SPELLINGS[name])
    net, w = MLP.from_onnx(made)
    assert net.activations == (activations.GELU(),)
    x = normal(5, 3)
    np.testing.assert_allclose(net.predict(w, x), evaluated(made, x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "change"),
    [("x (1 + erf) / 2", {"r": 2.0}), ("x / 2 (1 + erf)", {"half": 0.25}),
     ("(1 + erf) / 2 x", {"one": 2.0})],
)  # fmt: skip
def test_other_numbers_make_no_gelu(name, change):
    with pytest.raises(TypeError, match="has no equivalent"):
        MLP.from_onnx(spelt(SPELLINGS[name], **change))


@pytest.mark.filterwarnings("ignore")  # the exporter that needs no more packages is deprecated
@pytest.mark.parametrize("opset", [17, 20])
def test_a_chain_that_pytorch_exports_is_the_one_that_it_is(tmp_path, opset):
    torch = pytest.importorskip("torch")
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 5), nn.SiLU(), nn.Linear(5, 4),
        nn.LeakyReLU(0.2), nn.Linear(4, 4), nn.Softplus(), nn.Linear(4, 3),
        nn.ELU(0.3), nn.Linear(3, 2),
    ).eval()  # fmt: skip
    path = tmp_path / "net.onnx"
    torch.onnx.export(module, torch.zeros(1, 2, 3), path, dynamo=False, opset_version=opset)
    net, w = MLP.from_onnx(path)
    other, same = MLP.from_torch(module)
    assert net.sizes == other.sizes
    for ours, theirs in zip(net.activations, other.activations, strict=True):
        assert ours.name == theirs.name and ours.parameter == pytest.approx(theirs.parameter)
    np.testing.assert_array_equal(w, same)
