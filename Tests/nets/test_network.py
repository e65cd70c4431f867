"""`Network`: shapes, messages, the table, samples, copies, what it offers; beside an MLP."""

import copy
import pickle

import numpy as np
import pytest

import swiftnets
from swiftnets import MLP, Network, _core
from swiftnets.curvature import tensors
from swiftnets.nets import (
    GELU,
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    Conv2d,
    Dense,
    Embedding,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    Huber,
    LayerNorm,
    LeakyReLU,
    MaxPool2d,
    MeanOverPositions,
    PositionEmbedding,
    Residual,
    SelfAttention,
    Tanh,
    layers,
)
from swiftnets.optimizers import KFAC, Adam, Newton, SaddleFreeNewton
from swiftnets.problems import NetProblem
from swiftnets.solve import plan

EPS = np.finfo(float).eps


def lenet(**options):
    parts = [
        Conv2d(1, 3, 3, padding=1),
        "tanh",
        AvgPool2d(2),
        Conv2d(3, 4, (3, 2), bias=False),
        LeakyReLU(0.1),
        MaxPool2d(2, stride=1),
        Flatten(),
        Dense(8, 3),
    ]
    return Network(
        parts, input_shape=(1, 8, 8), **{"loss": "softmax_cross_entropy", "l2": 0.1, **options}
    )


def resnet(**options):
    body = [
        Conv2d(2, 4, 3, stride=2, padding=1),
        GroupNorm(2, 4),
        "silu",
        Conv2d(4, 4, 3, padding=1, groups=2),
    ]
    shortcut = [Conv2d(2, 4, 1, stride=2), BatchNorm2d([0.1] * 4, [0.5, 1.0, 2.0, 4.0])]
    parts = [Residual(body, shortcut), "relu", Residual([BatchNorm([0.0] * 4, [1.0] * 4)])]
    return Network([*parts, GlobalAvgPool2d(), Dense(4, 2)], input_shape=(2, 6, 5), **options)


def transformer(**options):
    parts = [
        Embedding(7, 4),
        PositionEmbedding(5, 4),
        Residual([LayerNorm(4), SelfAttention(4, 2)]),
        Residual([LayerNorm(4, affine=False), Dense(4, 6), GELU("tanh"), Dense(6, 4)]),
        MeanOverPositions(),
        Dense(4, 3),
    ]
    return Network(parts, input_shape=(5,), **{"loss": "softmax_cross_entropy", **options})


NETS = {"lenet": lenet, "resnet": resnet, "transformer": transformer}


def samples(net, count=5, seed=0):
    rng = np.random.default_rng(seed)
    shape = (count, *net.input_shape)
    x = rng.standard_normal(shape) if not net.vocabulary else rng.integers(0, 7, shape)
    is_classes = net.loss_function.name == "softmax_cross_entropy"
    y = rng.integers(0, net.outputs, count) if is_classes else rng.standard_normal((count, 2))
    return x, y


@pytest.fixture(params=NETS)
def net(request):
    return NETS[request.param]()


# What a net is ------------------------------------------------------------------------------------


def test_the_layers_shapes_are_pytorchs(net):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    made = {
        "conv": (Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0)), nn.Conv2d),
        "avg": (AvgPool2d((3, 2), stride=2, padding=1), nn.AvgPool2d),
        "max": (MaxPool2d(3, stride=2, padding=1), nn.MaxPool2d),
    }
    for layer, kind in made.values():
        names = [name for name in ("in_channels", "out_channels") if hasattr(layer, name)]
        given = [getattr(layer, name) for name in names]
        theirs = kind(*given, layer.kernel_size, stride=layer.stride, padding=layer.padding)
        found = theirs(torch.zeros(1, 2, 9, 8)).shape[1:]
        ours = Network([layer, Flatten(), Dense(int(np.prod(found)), 1)], input_shape=(2, 9, 8))
        assert ours.outputs == 1 and f"{tuple(found)}" in str(ours)


def test_parameters_are_counted_layer_by_layer():
    net = lenet()
    sizes = [3 * 3 * 3 + 3, 3 * 2 * 3 * 4, 8 * 3 + 3]
    assert [part.stop - part.start for part in net.layer_slices] == sizes
    assert net.parameter_count == sum(sizes) == net.parameter_table.count
    assert net.outputs == 3 and net.input_shape == (1, 8, 8)


def test_the_table_says_where_each_array_is(net):
    table, w = net.parameter_table, np.arange(net.parameter_count, dtype=float)
    views = net.unflatten(w)
    assert list(views) == [row.name for row in table]
    ends = [row.slice.stop for row in table]
    assert [row.slice.start for row in table] == [0, *ends[:-1]] and ends[-1] == len(w)
    for row in table:
        assert views[row.name].shape == row.shape == table[row.name].shape
        assert np.shares_memory(views[row.name], w)
        part = net.layer_slices[row.layer]
        assert part.start <= row.slice.start < row.slice.stop <= part.stop
    assert (net.flatten(views) == w).all()
    assert all(row.name in str(table) for row in table) and repr(table) == str(table)
    assert table[0].name in table and "no" not in table and len(table) == len(list(table))
    with pytest.raises(KeyError, match="there is no 'no'; there are "):
        table["no"]


def test_names_are_those_of_pytorchs_sequential():
    names = [row.torch_name for row in resnet().parameter_table]
    assert names[:3] == ["0.body.0.weight", "0.body.0.bias", "0.body.1.weight"]
    assert "0.shortcut.0.weight" in names and names[-1] == "4.bias"
    names = [row.name for row in transformer().parameter_table if ".1." in row.name]
    assert names[:4] == [
        f"2.body.1.{name}"
        for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    ]


def test_an_mlps_table_has_its_own_names_and_pytorchs():
    table = MLP((3, 4, 2), activation="tanh", bias=True).parameter_table
    assert [row.name for row in table] == ["w0", "b0", "w1", "b1"]
    assert [row.torch_name for row in table] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [row.name for row in MLP((3, 4, 2), bias=False).parameter_table] == ["w0", "w1"]


def test_print_is_a_table_of_layers_and_repr_makes_the_net_again(net):
    lines = str(net).splitlines()
    assert lines[0].split() == ["layer", "makes", "parameters"]
    assert lines[1].split()[0] == "input" and lines[-1].split() == [
        "total",
        f"{net.parameter_count:,}",
    ]
    counts = [int(line.split()[-1].replace(",", "")) for line in lines[2:-1]]
    assert sum(counts) == net.parameter_count
    names = {name: getattr(swiftnets.nets, name) for name in swiftnets.nets.__all__}
    again = eval(repr(net), {**names, "Network": Network})
    assert again.settings() == net.settings() and repr(again) == repr(net)


def test_settings_tell_nets_apart():
    import json

    nets = [
        *[make() for make in NETS.values()],
        lenet(l2=0.0),
        lenet(reduction="mean"),
        lenet(dtype=np.float32),
        lenet(loss="squared_error"),
        lenet(loss=Huber(0.3)),
        Network([BatchNorm([0.0], [1.0])], input_shape=1),
        Network([BatchNorm([0.0], [1.0], eps=1e-3)], input_shape=1),
        Network([BatchNorm([0.0], [2.0])], input_shape=1),
        Network([Dense(4, 4), "tanh", Flatten()], input_shape=(4,)),
        Network([Dense(4, 4), "relu", Flatten()], input_shape=(4,)),
        Network([Dense(4, 4), Residual(["tanh"])], input_shape=(4,)),
    ]
    texts = [json.dumps(net.settings()) for net in nets]
    assert len(set(texts)) == len(nets)


def test_copies_and_pickles_are_the_same_net(net):
    w = net.initial(seed=0)
    x, y = samples(net)
    for again in (pickle.loads(pickle.dumps(net)), copy.copy(net), copy.deepcopy(net)):
        assert again.settings() == net.settings() and again.loss(w, x, y) == net.loss(w, x, y)
    point = pickle.loads(pickle.dumps(net.at(w, x, y)))
    assert (point.gradient == net.gradient(w, x, y)).all()
    single = net.astype(np.float32)
    assert single.dtype == np.float32 and single.layers == net.layers
    assert single.loss(w, x, y) == pytest.approx(net.loss(w, x, y), rel=1e-4)
    summed = lenet(reduction="mean").summing()
    assert summed.reduction == "sum" and summed.layers == lenet().layers


def test_layers_are_values_that_equal_their_like():
    assert Conv2d(3, 6, 5) == Conv2d(3, 6, (5, 5), stride=[1, 1]) != Conv2d(3, 6, 5, padding=1)
    assert repr(Conv2d(3, 6, (5, 3), padding=(2, 2))) == "Conv2d(3, 6, (5, 3), padding=2)"
    assert AvgPool2d(2) == AvgPool2d(2, 2) and repr(AvgPool2d(2, 2)) == "AvgPool2d(2)"
    assert MaxPool2d(2) != AvgPool2d(2)
    assert repr(Residual(["tanh"], [Dense(1, 1)])) == "Residual([Tanh()], shortcut=[Dense(1, 1)])"
    assert hash(BatchNorm([0.0], [1.0])) == hash(BatchNorm(np.zeros(1), np.ones(1)))
    assert Network([Dense(1, 1), "tanh"], input_shape=1).layers[1] == Tanh()
    with pytest.raises(AttributeError):
        Dense(1, 1).bias = False
    assert sorted(layers.__all__) == dir(layers)


# Starts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["glorot", "he", "orthogonal", "original"])
def test_a_chain_starts_as_the_mlp_does(scheme):
    mlp, net = MLP((5, 4, 3)), Network([Dense(5, 4), "tanh", Dense(4, 3)], input_shape=5)
    assert (mlp.initial(3, scheme) == net.initial(3, scheme)).all()


def test_a_convolution_starts_with_the_fans_of_pytorch():
    torch = pytest.importorskip("torch")
    conv = torch.nn.Conv2d(6, 9, (3, 4), groups=3)
    fans = torch.nn.init._calculate_fan_in_and_fan_out(conv.weight)
    net = Network([Conv2d(6, 9, (3, 4), groups=3), GlobalAvgPool2d()], input_shape=(6, 5, 5))
    glorot = net.unflatten(net.initial(0))["0.weight"]
    limit = np.sqrt(6 / sum(fans))
    # Of 216 uniform numbers the largest is within a tenth of the limit.
    assert 0.9 * limit < abs(glorot).max() <= limit
    he = net.unflatten(net.initial(0, "he"))["0.weight"]
    # The standard deviation of a variance of 216 numbers is a tenth of it.
    assert he.var() == pytest.approx(2 / fans[0], rel=0.4)
    whole = net.unflatten(net.initial(0, "orthogonal"))["0.weight"].reshape(-1, 9)
    assert np.allclose(whole.T @ whole, np.eye(9), atol=20 * EPS)


def test_norms_start_with_ones_and_embeddings_with_normal_numbers():
    views = transformer().unflatten(transformer().initial(0))
    assert (views["2.body.0.weight"] == 1).all() and (views["2.body.0.bias"] == 0).all()
    assert (views["5.bias"] == 0).all() and (views["2.body.1.in_proj_bias"] == 0).all()
    assert views["0.weight"].std() == pytest.approx(1, abs=0.5)
    assert (transformer().initial(0) == transformer().initial(0)).all()
    assert (transformer().initial(0) != transformer().initial(1)).any()


# Refusals -----------------------------------------------------------------------------------------

BAD_LAYERS = {
    "an unknown activation": (
        lambda: Residual(["tnh"]),
        r"body\[0\] is 'tnh'.*did you mean 'tanh'",
    ),
    "no layer": (lambda: Residual([3]), r"body\[0\] is of type int; expected a layer"),
    "a class": (lambda: Residual([Flatten]), r"body\[0\] is Flatten itself; .*: Flatten\(…\)"),
    "a maker": (lambda: Residual([Tanh]), r"body\[0\] is Tanh itself"),
    "an empty body": (lambda: Residual([]), "body is empty"),
    "a body of text": (lambda: Residual("tanh"), "body is of type str; expected a list of layers"),
    "padding by name": (lambda: Conv2d(3, 4, 3, padding="same"), "padding is 'same'; expected int"),
    "dilation": (lambda: Conv2d(3, 4, 3, dilation=2), r"dilation is \(2, 2\); a Conv2d has 1"),
    "groups": (lambda: Conv2d(3, 4, 3, groups=2), "groups is 2 and in_channels 3; expected a div"),
    "one size": (lambda: Conv2d(3, 4, (3,)), r"kernel_size is \(3,\); expected an integer or a"),
    "no kernel": (lambda: Conv2d(3, 4, 0), "kernel_size is 0; expected an integer from 1"),
    "half a stride": (lambda: Conv2d(3, 4, 3, 0.5), "stride is 0.5; expected an integer from 1"),
    "a stride of 0": (lambda: Conv2d(3, 4, 3, (1, 0)), r"stride\[1\] is 0; expected an integer"),
    "half the kernel": (lambda: AvgPool2d(2, padding=2), "expected a padding of at most half"),
    "a flag": (lambda: AvgPool2d(2, count_include_pad=1), "count_include_pad is 1; expected True"),
    "training": (lambda: BatchNorm2d(16), r"in training mode .* couples the samples.*GroupNorm"),
    "no variances": (lambda: BatchNorm([0.0]), "takes the statistics mean and var"),
    "a variance": (lambda: BatchNorm([1.0], [-1.0]), "var has -1.0; expected variances"),
    "a NaN": (lambda: BatchNorm([np.nan], [1.0]), r"mean has nan at \[0\]"),
    "other lengths": (lambda: BatchNorm([1.0], [1.0, 2.0]), "mean has 1 entries and var 2"),
    "several dimensions": (
        lambda: LayerNorm((3, 4)),
        r"normalized_shape is \(3, 4\); .* GroupNorm",
    ),
    "no eps": (lambda: LayerNorm(3, eps=0), "eps is 0; expected a finite number above 0"),
    "groups of channels": (lambda: GroupNorm(2, 3), "num_groups is 2 and num_channels 3; expected"),
    "heads": (lambda: SelfAttention(4, 3), "heads is 3 and width 4; expected a divisor"),
    "an empty table": (lambda: Embedding(0, 3), "num_embeddings is 0; expected an integer from 1"),
}


@pytest.mark.parametrize("case", BAD_LAYERS)
def test_a_layer_refuses_bad_settings(case):
    make, message = BAD_LAYERS[case]
    with pytest.raises((TypeError, ValueError, NotImplementedError), match=message):
        make()


IMAGE = (3, 8, 8)
BAD_NETS = {
    "nothing": ([], 3, "layers is empty"),
    "text": ("tanh", 3, "layers is of type str"),
    "no parameters": (["tanh"], 3, "layers have no parameters"),
    "an image at the end": (
        [Conv2d(3, 4, 3)],
        IMAGE,
        r"end with Conv2d\(3, 4, 3\), which makes an image \(4, 6, 6\); expected a vector",
    ),
    "a large kernel": (
        [Conv2d(3, 4, 9, padding=(0, 1)), Flatten()],
        IMAGE,
        r"layers\[0\] is Conv2d\(3, 4, 9, .*given an image \(3, 8, 8\); it takes .* 9 by 7",
    ),
    "channels": (
        [Conv2d(2, 4, 3), Flatten()],
        IMAGE,
        r"layers\[0\] is Conv2d\(2, 4, 3\) and is given an image \(3, 8, 8\); it takes .*\(2, H",
    ),
    "widths": (
        [Dense(4, 3), "tanh", Dense(4, 3)],
        4,
        r"layers\[2\] is Dense\(4, 3\) and is given a vector \(3,\); it takes a vector \(4,\)",
    ),
    "no flattening": ([Dense(192, 3)], IMAGE, r"it takes .*; images take a Flatten\(\) first"),
    "a pool of a vector": ([Dense(4, 3), MaxPool2d(2)], 4, r"layers\[1\] is MaxPool2d\(2\)"),
    "a body that widens": (
        [Residual([Dense(4, 3)])],
        4,
        r"its body makes a vector \(3,\) and its input, without a shortcut, is a vector \(4,\)",
    ),
    "a shortcut": (
        [Residual([Dense(4, 3)], [Dense(4, 2)])],
        4,
        r"body makes a vector \(3,\) and its shortcut makes a vector \(2,\)",
    ),
    "inside a body": (
        [Dense(4, 4), Residual(["tanh", LayerNorm(3)])],
        4,
        r"layers\[1\]\.body\[1\] is LayerNorm\(3\) and is given a vector \(4,\)",
    ),
    "tokens late": ([Dense(4, 3), Embedding(3, 4)], 4, r"layers\[1\] is Embedding.* takes tokens"),
    "tokens in two dimensions": ([Embedding(3, 4), Flatten()], (4, 2), r"it takes tokens \(T,\)"),
    "another length": (
        [Embedding(3, 4), PositionEmbedding(5, 4), Flatten()],
        4,
        r"is given a sequence \(4, 4\); it takes a sequence \(5, 4\)",
    ),
    "layer norm of images": ([LayerNorm(3), Flatten()], IMAGE, r"see GroupNorm\(1"),
    "batch norm of others": ([BatchNorm2d([0.0] * 3, [1.0] * 3)], 3, r"takes an image \(3, H, W\)"),
    "an unknown shape": ([Dense(4, 3)], "4", "input_shape is '4'; expected an integer, or 1 to 3"),
    "no shape": ([Dense(4, 3)], (), r"input_shape is \(\); expected"),
    "four dimensions": ([Dense(4, 3)], (1, 2, 3, 4), "input_shape is .1, 2, 3, 4.; expected"),
    "an empty shape": ([Dense(4, 3)], (0,), r"input_shape\[0\] is 0; expected an integer from 1"),
    "many parameters": ([Dense(2**30, 2**20)], 2**30, "layers have over 17592186044416 parameters"),
    "many numbers": (
        [Conv2d(1, 1, 1, padding=2**30), Flatten()],
        (1, 4, 4),
        r"layers\[0\] is Conv2d.* makes an image .* of each sample; expected at most 2147483647",
    ),
}


@pytest.mark.parametrize("case", BAD_NETS)
def test_a_net_says_which_layer_does_not_take_what_comes(case):
    parts, shape, message = BAD_NETS[case]
    with pytest.raises((TypeError, ValueError), match=message):
        Network(parts, input_shape=shape)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "mae"},
        {"reduction": "none"},
        {"l2": -1.0},
        {"dtype": "float16"},
        {"input_shape": 0},
    ],
)
def test_the_other_arguments_are_checked_as_an_mlps(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} is "):
        Network([Dense(2, 1)], **{"input_shape": 2, **options})


def test_a_first_layer_of_parameters_alone_decides_on_tokens():
    twice = Network(
        [Residual([Embedding(3, 4)], [Embedding(5, 4)]), MeanOverPositions()], input_shape=6
    )
    assert twice.vocabulary == 3
    w = np.arange(32.0)
    expected = w[:12].reshape(3, 4) + w[12:].reshape(5, 4)[:3]
    assert np.allclose(twice.predict(w, [[0, 1, 2, 0, 1, 2]]), expected.mean(axis=0), rtol=8 * EPS)


# Samples ------------------------------------------------------------------------------------------


def test_samples_come_in_their_shape_alone(net):
    w = net.initial(seed=0)
    x, y = samples(net)
    shape = net.input_shape
    flat = x.reshape(len(x), -1)
    for bad in (x[0], x[:, None], flat[:, 1:]) + ((flat,) if x.ndim > 2 else ()):
        with pytest.raises(ValueError, match=r"^x has shape \(.*; expected \(N, "):
            net.loss(w, bad, y)
    with pytest.raises(ValueError, match="^x is empty"):
        net.loss(w, x[:0], y[:0])
    with pytest.raises((TypeError, ValueError), match="^x of batch 1 has shape"):
        net.loss(w, [(x, y), (x[:, None], y)])
    assert net.predict(w, x).shape == (len(x), net.outputs)
    assert net.predict(w, x.tolist()).shape == (len(x), net.outputs)
    assert net.at(w, x.tolist()).outputs.shape == (len(x), net.outputs)
    if not net.vocabulary:
        strided = np.asfortranarray(x)
        assert net.loss(w, strided, y) == net.loss(w, x, y)
        bad = x.copy()
        bad[(2, *[1 * (n > 1) for n in shape])] = np.nan
        where = [2, *[1 * (n > 1) for n in shape]]
        with pytest.raises(ValueError, match=f"^x has nan at {where}".replace("[", r"\[")):
            net.at(w, bad, y).hessian.solve(np.ones(len(w)), damping=1.0, method="dense")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64", "int64"])
def test_tokens_are_integers_of_any_kind(dtype):
    net = transformer()
    w, (x, y) = net.initial(seed=0), samples(transformer())
    assert net.loss(w, x.astype(dtype), y) == net.loss(w, x, y)


def test_tokens_out_of_the_table_are_refused():
    net = transformer()
    w, (x, y) = net.initial(seed=0), samples(transformer())
    for value in (-1, 7, 2**40):
        bad = x.copy()
        bad[1, 2] = value
        with pytest.raises(ValueError, match=rf"^x has {value} at \[1, 2\]; expected .* 0 to 6"):
            net.loss(w, bad, y)
        # Not where the sample does not count.
        weights = np.ones(len(x))
        weights[1] = 0
        others = np.arange(len(x)) != 1
        assert net.loss(w, bad, y, sample_weight=weights) == pytest.approx(
            net.loss(w, x[others], y[others]), rel=8 * EPS
        )
        assert np.isfinite(net.at(w, bad, y, sample_weight=weights).outputs).all()
    for bad in (x.astype(float), x > 0, x.astype(str)):
        with pytest.raises(TypeError, match="^x has dtype .*; expected .* tokens$"):
            net.loss(w, bad, y)


def test_batches_weights_and_loaders_sum_to_the_whole(net):
    w = net.initial(seed=0)
    x, y = samples(net, 6)
    weights = np.array([1.0, 2.0, 0.0, 0.5, 3.0, 1.0])
    cuts = (slice(0, 2), slice(2, 6))
    batches = [(x[cut], y[cut], weights[cut]) for cut in cuts]
    whole, parts = net.at(w, x, y, sample_weight=weights), net.at(w, iter(batches))
    assert parts.loss == pytest.approx(whole.loss, rel=30 * EPS)
    scale = abs(whole.gradient).max()
    assert np.allclose(parts.gradient, whole.gradient, rtol=0, atol=100 * EPS * scale)
    v = np.random.default_rng(1).standard_normal(len(w))
    product = whole.hessian @ v
    bound = 1000 * EPS * abs(product).max()
    assert np.allclose(parts.hessian @ v, product, rtol=0, atol=bound)
    assert np.allclose(parts.in_float64().hessian @ v, product, rtol=0, atol=bound)
    assert np.allclose(net.hvp(w, batches, v=v), product, rtol=0, atol=bound)
    kept = net.at(w, x[weights > 0], y[weights > 0], sample_weight=weights[weights > 0])
    assert kept.loss == pytest.approx(whole.loss, rel=30 * EPS)
    singles = net.astype(np.float32)
    mixed = [(x[:2], y[:2]), (x[2:], y[2:], weights[2:] * 1e30)]
    assert np.isfinite(singles.at(w, mixed).loss)


def test_a_loader_of_tensors_is_taken():
    torch = pytest.importorskip("torch")
    net = transformer()
    w, (x, y) = net.initial(seed=0), samples(transformer(), 6)
    data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    assert net.loss(w, loader) == pytest.approx(net.loss(w, x, y), rel=30 * EPS)


# What a net offers --------------------------------------------------------------------------------


def test_a_chain_of_dense_layers_answers_as_the_mlp_to_rounding():
    mlp = MLP((4, 5, 3), activation="silu", loss="huber", reduction="mean", l2=0.2)
    chain = [Dense(4, 5), "silu", Dense(5, 3)]
    net = Network(chain, input_shape=4, loss="huber", reduction="mean", l2=0.2)
    rng = np.random.default_rng(0)
    w, x, y = mlp.initial(seed=1), rng.standard_normal((9, 4)), rng.standard_normal((9, 3))
    weights = rng.uniform(0, 2, 9)
    u, v, t = rng.standard_normal((3, len(w)))
    ours, theirs = (one.at(w, x, y, sample_weight=weights) for one in (net, mlp))
    answers = {
        "loss": lambda p: p.loss,
        "gradient": lambda p: p.gradient,
        "outputs": lambda p: p.outputs,
        "hvp": lambda p: p.hessian @ v,
        "dense": lambda p: p.hessian.dense(),
        "diagonal": lambda p: p.hessian.diagonal(),
        "block": lambda p: p.hessian.dense((1, 0)),
        "transposed block": lambda p: p.hessian.dense((0, 1)),
        "gauss_newton": lambda p: p.gauss_newton @ v,
        "fisher": lambda p: p.fisher("empirical").dense(),
        "samples": lambda p: p.per_sample_gradients(),
        "jacobian": lambda p: p.jacobian(),
        "jvp": lambda p: p.jvp(v),
        "vjp": lambda p: p.vjp(y),
        "taylor": lambda p: p.taylor(v).gradient,
        "third": lambda p: p.third(u, v),
        "fourth": lambda p: p.fourth(u, v, t),
        "solve": lambda p: p.hessian.solve(u, damping=1.0).solution,
    }
    for name, answer in answers.items():
        a, b = answer(ours), answer(theirs)
        assert np.shape(a) == np.shape(b)
        # Sums of some hundred terms, in another order.
        assert np.allclose(a, b, rtol=0, atol=500 * EPS * np.abs(b).max()), name


def test_supports_says_what_an_mlp_alone_offers(net):
    dense = {"layered_solve", "structural_hessian", "layer_states", "kronecker"}
    assert MLP((2, 1)).supports - net.supports == dense
    assert net.supports < MLP((2, 1)).supports
    assert {"hessian", "fourth", "krylov_solve", "dense_solve"} <= net.supports


def test_what_needs_dense_layers_says_what_to_use_instead(net):
    w = net.initial(seed=0)
    x, y = samples(net)
    point, problem = net.at(w, x, y), NetProblem(net, x, y)
    b = np.ones(len(w))
    kind = {"lenet": "Conv2d", "resnet": "Residual", "transformer": "Embedding"}
    name = next(name for name, make in NETS.items() if make().layers == net.layers)
    refused = [
        lambda: point.hessian.solve(b, damping=1.0, method="layered"),
        lambda: point.hessian.solve(b, damping=1.0, method="cg", preconditioner="kronecker"),
        lambda: (point.hessian + 1.0).factorize(method="layered"),
        lambda: (point.hessian + 1.0).factorize(form="dual"),
        lambda: (point.hessian + 1j).factorize(),
        lambda: plan(net, 5),
        lambda: swiftnets.curvature.layer_states(point),
        lambda: swiftnets.curvature.kronecker_factors(point),
        lambda: KFAC().minimize(problem, w, max_iterations=1),
        lambda: SaddleFreeNewton(damping=1.0, method="rational").minimize(
            problem, w, max_iterations=1
        ),
    ]
    for call in refused:
        words = f"needs dense layers; layer 0 is {kind[name]}; use "
        with pytest.raises(NotImplementedError, match=words):
            call()
    chain = Network([Dense(2, 1)], input_shape=2)
    with pytest.raises(NotImplementedError, match=r"but is no swiftnets\.MLP; use"):
        plan(chain, 5)


def test_auto_solves_by_what_there_is(net):
    w = net.initial(seed=0)
    x, y = samples(net)
    point = net.at(w, x, y)
    matrix = point.hessian
    b = point.gradient
    dense = matrix.dense()
    shift = 1.1 * abs(np.linalg.eigvalsh(dense)).max()
    expected = np.linalg.solve(dense + shift * np.eye(len(w)), b)
    for options in ({}, {"method": "cg"}, {"method": "minres"}, {"method": "dense"}):
        found = matrix.solve(b, damping=shift, **options)
        assert found.success and found.method in ("dense", "cg", "minres")
        # The residual is at most 1e-10 of b, the condition number about 20.
        assert np.allclose(found.solution, expected, rtol=0, atol=1e-8 * abs(expected).max())
    assert matrix.solve(b, damping=shift, inertia=True).inertia.positive == len(w)
    factors = (matrix + shift).factorize()
    assert np.allclose(factors.solve(b), expected, rtol=0, atol=1e-10 * abs(expected).max())
    assert matrix.solve(b, damping=shift, block="diagonal").success
    blocks = matrix.dense("diagonal")
    assert len(blocks) == len(net.layer_slices)
    for part, block in zip(net.layer_slices, blocks, strict=True):
        bound = 100 * EPS * abs(dense).max()
        assert np.allclose(block, dense[part, part], rtol=0, atol=bound)
    with pytest.raises(ValueError, match="^block is "):
        matrix.dense((len(blocks), 0))


@pytest.mark.parametrize("method", [Adam(), Newton(damping=10.0), SaddleFreeNewton(damping=1.0)])
def test_optimizers_lower_the_loss(net, method):
    problem = NetProblem(net, *samples(net))
    w = net.initial(seed=0)
    assert method.minimize(problem, w, max_iterations=3).loss < problem.loss(w)


def test_a_run_resumes_from_its_checkpoint_with_the_same_net_alone(tmp_path):
    net = lenet()
    x, y = samples(net)
    w, file = net.initial(seed=0), tmp_path / "run.npz"
    whole = Adam().minimize(NetProblem(net, x, y), w, max_iterations=4)
    Adam().minimize(NetProblem(net, x, y), w, max_iterations=2, checkpoint=file)
    again = Adam().minimize(NetProblem(net, x, y), w, max_iterations=4, checkpoint=file)
    assert (again.w == whole.w).all()
    with pytest.raises(swiftnets.CheckpointError):
        Adam().minimize(NetProblem(lenet(l2=0.2), x, y), w, max_iterations=4, checkpoint=file)


def test_tensors_and_operators_are_those_of_products(tmp_path):
    pytest.importorskip("scipy")
    net = Network([Conv2d(1, 2, 2), "tanh", GlobalAvgPool2d(), Dense(2, 1)], input_shape=(1, 3, 3))
    w, rng = net.initial(seed=0), np.random.default_rng(0)
    point = net.at(w, rng.standard_normal((4, 1, 3, 3)), rng.standard_normal((4, 1)))
    u, v = rng.standard_normal((2, len(w)))
    third = tensors.compute(point, order=3, path=tmp_path / "third.npy")
    expected = point.third(u, v)
    assert np.allclose(third.contract(u, v), expected, rtol=0, atol=500 * EPS * abs(expected).max())
    with pytest.raises(ValueError, match="^layer is 2; expected an integer from 0 to 1"):
        tensors.compute(point, order=3, path=tmp_path / "other.npy", layer=2)
    assert np.allclose(point.hessian.as_linear_operator() @ v, point.hessian @ v, rtol=8 * EPS)


# The engine's own checks --------------------------------------------------------------------------


def test_the_core_refuses_what_is_no_net():
    good = lenet()._graph
    given = np.array(good.input.code, np.int64)

    def make(codes=good.codes, numbers=good.numbers, statistics=good.statistics, given=given):
        return _core.network(codes, numbers, statistics, given, 0, 0, 0.0, None)

    make()
    rng = np.random.default_rng(0)
    extremes = [-(2**63), -1, 0, 1, 2**31, 2**44, 2**63 - 1]
    refused = 0
    for row in range(len(good.codes)):
        for column in range(good.codes.shape[1]):
            for value in extremes:
                codes = good.codes.copy()
                codes[row, column] = value
                try:
                    make(codes)
                except (ValueError, MemoryError):
                    refused += 1
    assert refused > len(good.codes) * 20
    for _ in range(300):
        codes = rng.choice(extremes[1:4] + [2, 3, 7, 14], good.codes.shape)
        with pytest.raises(ValueError):
            make(codes.astype(np.int64))
    for index in range(4):
        for value in extremes:
            bad = given.copy()
            bad[index] = value
            if not (bad == given).all():
                with pytest.raises((ValueError, MemoryError)):
                    make(given=bad)
    with pytest.raises(ValueError, match="codes has shape"):
        make(good.codes[:, :5].copy())
    with pytest.raises(ValueError, match="numbers has shape"):
        make(numbers=good.numbers[1:])
    with pytest.raises(ValueError, match="statistics"):
        make(statistics=np.ones(3))
    with pytest.raises(TypeError, match="codes"):
        make(good.codes.astype(float))
    with pytest.raises(ValueError, match="loss is 9"):
        _core.network(good.codes, good.numbers, good.statistics, given, 0, 9, 0.0, None)
    with pytest.raises(ValueError, match="delta is 0"):
        _core.network(good.codes, good.numbers, good.statistics, given, 0, 2, 0.0, None)
    with pytest.raises(ValueError, match="dtype is 3"):
        _core.network(good.codes, good.numbers, good.statistics, given, 3, 0, 0.0, None)


def test_the_core_checks_tokens_itself():
    net = transformer()
    w = net.initial(seed=0)
    x, labels = np.full((2, 5), 7), np.zeros(2, np.int64)
    for bad in (x, -x):
        with pytest.raises(ValueError):
            _core.mlp_loss(net.engine.handle, w, bad, None, labels, None, 1.0)
    with pytest.raises(TypeError, match="x holds items"):
        _core.mlp_loss(net.engine.handle, w, x.astype(float), None, labels, None, 1.0)
