"""`Network.from_torch` and `to_torch`: the same net to third order, or a clear refusal."""

import copy
import pickle

import layer_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings

from swiftnets import MLP, Network
from swiftnets.nets import Conv2d, Dense, GlobalAvgPool2d, Residual

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as f  # noqa: E402

# Derivatives to third order -----------------------------------------------------------------------


class LeNet(nn.Module):
    """Convolutions and dense layers in a forward of its own."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 5, padding=2), nn.Conv2d(4, 6, 3)
        self.fc1, self.fc2, self.fc3 = nn.Linear(54, 12), nn.Linear(12, 9), nn.Linear(9, 5)

    def forward(self, x):
        x = f.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = f.max_pool2d(f.gelu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        return self.fc3(torch.sigmoid(self.fc2(torch.tanh(self.fc1(x)))))


class Block(nn.Module):
    """A residual block; registered in another order than it runs."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.norm2, self.norm1 = nn.GroupNorm(2, outputs), nn.GroupNorm(2, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding="same")
        self.act = nn.SiLU(inplace=True)

    def forward(self, x):
        y = self.act(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        y += self.shortcut(x)
        return self.act(y)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU())
        self.blocks = nn.Sequential(Block(4, 4, 1), Block(4, 6, 2))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))


class Transformer(nn.Module):
    """Tokens and positions, a pre-norm block by hand, and one of PyTorch's."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(7, 8), nn.Parameter(torch.randn(1, 5, 8))
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.encoder = nn.TransformerEncoderLayer(
            8, 4, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.head = nn.Linear(8, 4)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        x = x + self.feed(self.norm2(x))
        return self.head(self.encoder(x).mean(dim=1))


NETS = {
    "lenet": (LeNet, lambda r: r.standard_normal((6, 1, 16, 16)), 5),
    "resnet": (ResNet, lambda r: r.standard_normal((6, 2, 7, 7)), 3),
    "transformer": (Transformer, lambda r: r.integers(7, size=(6, 5)), 4),
}


def to_ours(table, arrays):
    """PyTorch's arrays by name as one vector, by what the table says of them."""
    parts = []
    for row in table:
        array = arrays[row.torch_name]
        if row.layout.startswith("kernel"):
            array = array.transpose(2, 3, 1, 0)
        elif row.layout.startswith("in, out"):
            array = array.T
        elif row.layout == "position, width":
            array = array[0]
        assert array.shape == row.shape, row
        parts.append(array.ravel())
    return np.concatenate(parts)


def layer_norm(x, shape, weight, bias, eps):
    """By its formula: the third derivative of PyTorch 2.13's own is wrong by half of itself."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / ((centred**2).mean(-1, keepdim=True) + eps).sqrt() * weight + bias


@pytest.mark.parametrize("name", NETS)
def test_every_derivative_to_third_order_is_pytorchs(name, monkeypatch):
    make, draw, outputs = NETS[name]
    torch.manual_seed(0)
    module = make().double()
    random = np.random.default_rng(1)
    x, y = draw(random), random.integers(outputs, size=6)
    before = copy.deepcopy(module.state_dict())
    net, w = Network.from_torch(module, x[:2], loss=nn.CrossEntropyLoss())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    names = [row.torch_name for row in net.parameter_table]
    parameters = dict(module.named_parameters())
    assert sorted(names) == sorted(parameters)

    def ours(tensors):
        arrays = {key: value.detach().numpy() for key, value in tensors.items()}
        return to_ours(net.parameter_table, arrays)

    np.testing.assert_array_equal(w, ours(parameters))
    direction = {
        key: torch.from_numpy(random.standard_normal(value.shape) / np.sqrt(len(w)))
        for key, value in parameters.items()
    }
    v = ours(direction)
    # The backward pass once, twice, thrice; attention by its formula, which alone allows that.
    monkeypatch.setattr(f, "layer_norm", layer_norm)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        z = module(torch.from_numpy(x))
        loss = nn.CrossEntropyLoss()(z, torch.from_numpy(y))
        keys = list(parameters)

        def along(gradients):
            product = sum((g * direction[key]).sum() for key, g in gradients.items())
            values = [parameters[key] for key in keys]
            found = torch.autograd.grad(product, values, create_graph=True, materialize_grads=True)
            return dict(zip(keys, found, strict=True))

        values = [parameters[key] for key in keys]
        first = dict(zip(keys, torch.autograd.grad(loss, values, create_graph=True), strict=True))
        second = along(first)
        third = along(second)
    point = net.at(w, x, y)
    assert point.loss == pytest.approx(loss.item(), rel=1e-13)
    # The 1e-12 of the largest number.
    for got, want in (
        (net.predict(w, x), z.detach().numpy()),
        (point.gradient, ours(first)),
        (point.hessian @ v, ours(second)),
        (point.third(v, v), ours(third)),
    ):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * abs(want).max())


# There and back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.NETS)
def test_there_and_back_is_exact(name):
    it = cases.case(name)
    model = it.net.to_torch(it.w)
    x = torch.from_numpy(np.asarray(it.x).reshape(len(it.x), *it.net.input_shape))
    with torch.no_grad():
        theirs = model(x).numpy()
    np.testing.assert_allclose(theirs, it.net.predict(it.w, it.x), rtol=0, atol=1e-12)
    assert [n for n, _ in model.named_parameters()] == [r.name for r in it.net.parameter_table]
    back, w = Network.from_torch(model, x)
    np.testing.assert_array_equal(w, it.w)
    if name == "kinks":  # the identity in it is left out
        return
    assert repr(back.layers) == repr(it.net.layers)
    again, state = back.to_torch(w).state_dict(), model.state_dict()
    assert sorted(again) == sorted(state)
    assert all(torch.equal(again[key], state[key]) for key in state)


@settings(max_examples=50, derandomize=True, database=None)
@given(cases.nets())
def test_rounding_alone_refuses_no_net(it):
    model = it.net.to_torch(it.w)
    back, w = Network.from_torch(model, np.asarray(it.x))
    np.testing.assert_array_equal(w, it.w)
    assert back.layers == it.net.layers


def test_a_net_of_float32_goes_there_and_back():
    net = cases.make("strided").astype(np.float32)
    w = cases.case("strided").w.astype(np.float32)
    model = net.to_torch(w)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    back, again = Network.from_torch(model, np.zeros((1, *net.input_shape), np.float32))
    assert back.dtype == np.float32
    np.testing.assert_array_equal(again, w)


def test_the_module_owns_its_parameters_and_is_pickled():
    net = cases.make("tokens with attention")
    w = cases.case("tokens with attention").w
    state = torch.random.get_rng_state()
    model = pickle.loads(pickle.dumps(net.to_torch(w)))
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    np.testing.assert_array_equal(w, cases.case("tokens with attention").w)


def test_names_of_the_module_stay_with_copies_of_the_net():
    net, _ = Network.from_torch(LeNet(), np.zeros((1, 1, 16, 16)))
    assert net.dtype == np.float32
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.astype("float64")):
        assert other.parameter_table["0.weight"].torch_name == "conv1.weight"


def test_the_dtype_and_the_loss_are_as_asked():
    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(8, 2))
    net, w = Network.from_torch(module, np.zeros((1, 1, 3, 3)), dtype="float64", l2=0.5)
    assert net.dtype == w.dtype == np.float64 and net.l2 == 0.5 and net.reduction == "sum"
    loss = nn.CrossEntropyLoss()
    net, _ = Network.from_torch(module, np.zeros((1, 1, 3, 3)), loss=loss)
    assert (net.loss_function.name, net.reduction) == ("softmax_cross_entropy", "mean")
    net, _ = Network.from_torch(module, np.zeros((1, 1, 3, 3)), reduction="mean")
    assert net.reduction == "mean"
    with pytest.raises(ValueError, match=r"reduction is 'sum' and the loss's 'mean'"):
        Network.from_torch(module, np.zeros((1, 1, 3, 3)), loss=loss, reduction="sum")


def test_an_mlp_is_made_of_a_chain():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    net, w = MLP.from_torch(module, dtype="float32", reduction="mean")
    assert isinstance(net, MLP) and net.dtype == w.dtype == np.float32 and net.reduction == "mean"
    assert isinstance(net.to_torch(w)[0], nn.Linear)
    other, same = Network.from_torch(module, torch.zeros(1, 3))
    assert type(other) is Network and other.layers[0] == Dense(3, 4)
    np.testing.assert_array_equal(same.astype(np.float32), w)


# What is read -------------------------------------------------------------------------------------


class Own(nn.Module):
    """Some layers in a forward that a test gives."""

    def __init__(self, forward):
        super().__init__()
        self.of = forward
        self.fc, self.conv = nn.Linear(4, 3), nn.Conv2d(2, 2, 3, padding=1)
        self.conv2, self.one = nn.Conv2d(2, 2, 1), nn.Linear(4, 4)
        self.norm, self.attention = nn.LayerNorm(4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.table, self.row = nn.Parameter(torch.randn(5, 4)), nn.Embedding(5, 4)
        self.dropout, self.scale = nn.Dropout(), nn.Buffer(torch.ones(5, 4))

    def forward(self, x):
        return self.of(self, x)


def trimmed(forward, *used):
    """With the parts that a forward uses alone, so that no parameter is idle."""
    torch.manual_seed(3)
    module = Own(forward)
    for name in ("fc", "conv", "conv2", "one", "norm", "attention", "table", "row"):
        if name not in used:
            delattr(module, name)
    return module.double().eval()


IMAGE, SEQUENCE, VECTOR = (2, 2, 3, 5), (2, 5, 4), (2, 4)


def by_rows(m, x):
    return (x + m.row(torch.arange(x.shape[1], device=x.device))).mean(1)


def by_rows_of_all(m, x):
    n, t, _ = x.shape
    return (m.row(torch.arange(t).expand(n, t)) + x).mean(-2)


@pytest.mark.parametrize(
    ("forward", "used", "shape", "layers"),
    [
        (lambda m, x: m.conv(x).mean((2, 3)), ("conv",), IMAGE, "Conv2d GlobalAvgPool2d"),
        (lambda m, x: m.conv(x).mean([-1, -2], keepdim=True).flatten(1), ("conv",), IMAGE,
         "Conv2d GlobalAvgPool2d"),
        (lambda m, x: m.conv2(f.adaptive_avg_pool2d(m.conv(x), 1)).reshape(len(x), -1),
         ("conv", "conv2"), IMAGE, "Conv2d AvgPool2d Conv2d Flatten"),
        (lambda m, x: f.dropout(m.conv(x), 0.5, m.training).flatten(1).contiguous(), ("conv",),
         IMAGE, "Conv2d Flatten"),
        (lambda m, x: torch.add(m.conv(x), x).flatten(1), ("conv",), IMAGE, "Residual Flatten"),
        (lambda m, x: f.leaky_relu(m.conv(x).add(m.conv2(x)), 0.2).flatten(1), ("conv", "conv2"),
         IMAGE, "Residual leaky_relu Flatten"),
        (lambda m, x: f.elu(m.conv(x).add(m.conv2(x)), 0.3).flatten(1), ("conv", "conv2"),
         IMAGE, "Residual elu Flatten"),
        (lambda m, x: m.fc(x + x), ("fc",), VECTOR, "Residual Dense"),
        (lambda m, x: m.fc(torch.sin(x) + f.softplus(m.one(x)) + x), ("fc", "one"), VECTOR,
         "Residual Dense"),
        (lambda m, x: (m.table + x).mean(1), ("table",), SEQUENCE, "PositionEmbedding Mean"),
        (lambda m, x: (x + m.table[None, :x.size(1)]).flatten(1), ("table",), SEQUENCE,
         "PositionEmbedding Flatten"),
        (by_rows, ("row",), SEQUENCE, "PositionEmbedding Mean"),
        (by_rows_of_all, ("row",), SEQUENCE, "PositionEmbedding Mean"),
        (lambda m, x: m.attention(x, x, x)[0].mean(1), ("attention",), SEQUENCE,
         "SelfAttention Mean"),
    ],
)  # fmt: skip
def test_forwards_are_read(forward, used, shape, layers):
    module = trimmed(forward, *used)
    net, w = Network.from_torch(module, torch.zeros(shape))
    names = [getattr(layer, "name", type(layer).__name__) for layer in net.layers]
    assert [name.replace("MeanOverPositions", "Mean") for name in names] == layers.split()
    x = torch.randn(3, *shape[1:], dtype=torch.float64)
    np.testing.assert_allclose(net.predict(w, x), module(x).detach().numpy(), rtol=0, atol=1e-14)


def test_frozen_batch_norms_are_read():
    torch.manual_seed(4)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 2)
    ).double()
    x = torch.randn(8, 2, 5, 5, dtype=torch.float64)
    module(x)  # statistics other than 0 and 1
    net, w = Network.from_torch(module.eval(), x)
    np.testing.assert_allclose(net.predict(w, x), module(x).detach().numpy(), rtol=1e-13)


@pytest.mark.parametrize("norm_first", [True, False])
def test_encoders_are_read(norm_first):
    torch.manual_seed(5)
    layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, norm_first=norm_first)
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(4), enable_nested_tensor=False)
    module = nn.Sequential(encoder, nn.Flatten(), nn.Linear(12, 2)).double().eval()
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    net, w = Network.from_torch(module, x)
    np.testing.assert_allclose(net.predict(w, x), module(x).detach().numpy(), rtol=0, atol=1e-13)
    assert net.parameter_table[0].torch_name.startswith("0.layers.0.")


# What is refused ----------------------------------------------------------------------------------


def ended(*layers, n=2):
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(n))


def tied():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    return module


CONV = nn.Conv2d(2, 2, 1)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize(
    ("module", "shape", "error", "words"),
    [
        (nn.Conv2d(2, 2, 2, dilation=2), IMAGE, ValueError, r"module itself .*dilation is \(2, 2"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), IMAGE, ValueError, "'reflect'"),
        (nn.Conv2d(2, 2, 2, padding="same"), IMAGE, ValueError, "'same' of an even kernel"),
        (nn.AvgPool2d(2, ceil_mode=True), IMAGE, ValueError, "ceil_mode is True"),
        (nn.AvgPool2d(2, divisor_override=3), IMAGE, ValueError, "divisor_override is 3"),
        (nn.MaxPool2d(2, dilation=2), IMAGE, ValueError, "dilation is 2"),
        (nn.AdaptiveAvgPool2d(2), IMAGE, ValueError, "output_size is 2"),
        (nn.AdaptiveMaxPool2d(1), IMAGE, TypeError, "AdaptiveMaxPool2d, which has no equivalent"),
        (nn.SELU(), IMAGE, TypeError, "SELU, .*supported are Linear"),
        (nn.LayerNorm([3, 5]), IMAGE, ValueError, r"normalized_shape is \(3, 5\)"),
        (nn.LayerNorm(5, bias=False), IMAGE, ValueError, "a weight alone"),
        (nn.LayerNorm(5), IMAGE, ValueError, "is given an image .*GroupNorm"),
        (nn.Linear(5, 2), IMAGE, ValueError, "images take a Flatten"),
        (nn.Dropout(), IMAGE, ValueError, r"in training; expected module.eval\(\)"),
        (nn.BatchNorm2d(2), IMAGE, ValueError, r"in training: .*module.eval\(\).*GroupNorm"),
        (nn.BatchNorm2d(2, track_running_stats=False).eval(), IMAGE, ValueError, "no running stat"),
        (nn.BatchNorm1d(5).eval(), SEQUENCE, ValueError, r"given \(7, 5, 4\)"),
        (nn.LSTM(4, 4, batch_first=True), SEQUENCE, (TypeError, ValueError), "LSTM"),
        (nn.MultiheadAttention(4, 2), SEQUENCE, (TypeError, ValueError), "MultiheadAttention|fx"),
        (nn.TransformerEncoderLayer(4, 2, 4), SEQUENCE, ValueError, "batch_first|in training"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)  # fmt: skip
def test_modules_without_an_equivalent_are_named(module, shape, error, words):
    module = nn.Sequential(nn.Conv2d(2, 2, 1), module) if shape == IMAGE else module
    words = words.replace("module itself", "module 1")
    with pytest.raises(error, match=words):
        Network.from_torch(module, torch.zeros(shape))


@pytest.mark.parametrize(
    ("forward", "used", "shape", "words"),
    [
        (lambda m, x: m.fc(x) if x.sum() > 0 else x, ("fc",), VECTOR, "torch.fx .*control flow"),
        (lambda m, x: m.fc(m.one(m.one(x))), ("fc", "one"), VECTOR, "one.weight.* called twice"),
        (lambda m, x: m.fc(x * 2), ("fc",), VECTOR, r"mul\(\).* has no equivalent"),
        (lambda m, x: m.fc(x + 2), ("fc",), VECTOR, "adds a number"),
        (lambda m, x: m.fc(x + m.scale[0]), ("fc",), VECTOR, "a fixed tensor"),
        (lambda m, x: m.fc(x + m.table[0]), ("fc", "table"), VECTOR, "adds parameter table"),
        (lambda m, x: (x + m.table[:1]).mean(1), ("table",), SEQUENCE, "adds parameter"),
        (lambda m, x: m.fc(x[:, :4]), ("fc",), VECTOR, r"getitem\(\)"),
        (lambda m, x: m.fc(x), ("fc", "one"), VECTOR, "one.weight is not used"),
        (lambda m, x: (m.fc(x), x), ("fc",), VECTOR, "returns a tuple"),
        (lambda m, x: m.conv(x).flatten(2).mean(2), ("conv",), IMAGE, "torch.flatten"),
        (lambda m, x: m.conv(x).mean(1), ("conv",), IMAGE, "none of the means"),
        (lambda m, x: m.attention(x, x, m.norm(x))[0].mean(1), ("attention", "norm"), SEQUENCE,
         "self-attention"),
        (lambda m, x: m.attention(x, x, x)[1].mean(1), ("attention",), SEQUENCE, "weights of an"),
        (lambda m, x: m.attention(x, x, x, attn_mask=m.scale @ m.scale.T)[0].mean(1),
         ("attention",), SEQUENCE, "attn_mask is given"),
        (lambda m, x: m.fc(m.one(x).view(7, 4)), ("fc", "one"), VECTOR, "any number of samples"),
        (lambda m, x: m.fc(torch.relu_(x) + x), ("fc",), VECTOR, "outputs differ on random"),
        (lambda m, x: m.dropout(m.conv(x)).sum((1, 2, 3)), ("conv",), IMAGE, r"sum\(\)"),
    ],
)  # fmt: skip
def test_forwards_without_an_equivalent_are_named(forward, used, shape, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Network.from_torch(trimmed(forward, *used), torch.zeros(shape))


def test_sums_that_are_no_residuals_are_named():
    def forward(m, x):
        a = m.one(x)
        b = m.norm(a) + x
        return m.fc(a + b)

    with pytest.raises(ValueError, match=r"node add, .* no residual: .*module one"):
        Network.from_torch(trimmed(forward, "one", "norm", "fc"), torch.zeros(VECTOR))


def test_tied_parameters_are_named():
    with pytest.raises(ValueError, match="parameter 1.weight shares its numbers with 0.weight"):
        Network.from_torch(tied(), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("example", "error", "words"),
    [
        ("image", TypeError, "example"),
        (np.zeros(4), ValueError, r"shape \(4,\); expected samples first"),
        (np.zeros((0, 4)), ValueError, r"shape \(0, 4\)"),
        (np.zeros((1, 4), complex), TypeError, "complex"),
        (np.zeros((1, 3)), ValueError, r"node module, module itself fails on the example"),
        (np.zeros((1, 4), int), ValueError, "fails on the example"),
        (None, TypeError, "example is None"),
    ],
)
def test_examples_that_do_not_fit_are_named(example, error, words):
    with pytest.raises(error, match=words):
        Network.from_torch(nn.Linear(4, 2), example)


def test_outputs_are_compared():
    class Wrong(nn.Linear):
        def forward(self, x):
            return super().forward(x)

    module = Wrong(4, 2)
    other = nn.Sequential(module)
    other.forward = None
    with pytest.raises(ValueError, match="forward of its own instance"):
        Network.from_torch(other, torch.zeros(1, 4))
    net = Network([Conv2d(1, 2, 2), GlobalAvgPool2d()], input_shape=(1, 3, 3))
    w = net.initial(seed=0)
    model = net.to_torch(w).double()
    with torch.no_grad():
        model[0].weight += 1e-9
    from swiftnets.interop.torch_graph import compare

    with pytest.raises(ValueError, match="differ on random inputs by .*e-"):
        compare(net, w, model)


def test_long_sums_are_nested():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(nn.Linear(2, 2) for _ in range(60))

        def forward(self, x):
            total = x
            for part in self.parts:
                total = total + part(x)
            return total

    net, _ = Network.from_torch(Sum(), torch.zeros(1, 2))
    assert isinstance(net.layers[0], Residual) and net.parameter_count == 360


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norms_are_group_norms_of_a_channel_each(affine):
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.InstanceNorm2d(3, 1e-3, affine=affine), nn.Flatten()
    )
    net, w = Network.from_torch(module, torch.zeros(2, 2, 5, 5))
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    theirs = module.double()(x).detach().numpy()
    np.testing.assert_allclose(net.astype("f8").predict(w, x), theirs, rtol=0, atol=1e-13)
    module[1].track_running_stats = True
    with pytest.raises(ValueError, match="running statistics"):
        Network.from_torch(module, torch.zeros(2, 2, 5, 5))


class Detached(nn.Module):
    """Its first layer is not differentiated."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        with torch.no_grad():
            x = self.one(x)
        return self.two(torch.tanh(x))


def test_parameters_that_are_not_differentiated_are_named():
    for convert in (lambda m: Network.from_torch(m, torch.zeros(2, 3)), MLP.from_torch):
        with pytest.raises(ValueError, match=r"parameter one.weight has no gradient in PyTorch"):
            convert(Detached())
    frozen = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    frozen[0].requires_grad_(False)
    for net, _ in (Network.from_torch(frozen, torch.zeros(2, 3)), MLP.from_torch(frozen)):
        assert net.parameter_count == 26
