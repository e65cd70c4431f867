"""swiftnets.interop.torch: the same net on both sides, or a clear refusal."""

import threading
from functools import partial

import numpy as np
import pytest

from swiftnets import MLP, Network
from swiftnets.interop import torch as torch_conversion
from swiftnets.nets import activations

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from swiftnets.interop.torch import from_torch, to_torch  # noqa: E402

MODULES = [
    nn.ReLU(),
    nn.LeakyReLU(0.2),
    nn.ELU(0.7),
    nn.Tanh(),
    nn.Sigmoid(),
    nn.Softplus(),
    nn.SiLU(),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
]


@pytest.mark.parametrize("module", MODULES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_module_and_its_net_give_the_same_outputs_and_gradients(module, bias, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 5, bias), nn.Sequential(module, nn.Linear(5, 3, bias))
    ).to(dtype)
    x, y = torch.randn(7, 2, 3, dtype=dtype), torch.randint(0, 3, (7,))
    net, w = from_torch(model, loss=nn.CrossEntropyLoss())
    eps = float(np.finfo(net.dtype).eps)
    assert net.dtype == (np.float32 if dtype == torch.float32 else np.float64)
    outputs = model(x)
    flat = x.reshape(7, 6)
    # Two products of depth 6 and 5, of numbers of order 1, and activations within a few ulp.
    np.testing.assert_allclose(net.predict(w, flat), outputs.detach().numpy(), atol=64 * eps)
    loss = nn.CrossEntropyLoss()(outputs, y)
    loss.backward()
    ours, gradient = net.loss_and_gradient(w, flat, y)
    assert ours == pytest.approx(loss.item(), abs=64 * eps)
    views = net.unflatten(gradient)
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    for index, layer in enumerate(linear):
        np.testing.assert_allclose(views[f"w{index}"], layer.weight.grad.numpy().T, atol=64 * eps)
        if bias:
            np.testing.assert_allclose(views[f"b{index}"], layer.bias.grad.numpy(), atol=64 * eps)


@pytest.mark.parametrize("name", [name for name in activations._NAMES if name != "sine"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_there_and_back_is_exact(name, dtype):
    net = MLP((3, 4, 2), activation=name, output_activation="sigmoid", dtype=dtype)
    w = net.initial(seed=3)
    model = to_torch(net, w)
    back, again = from_torch(model)
    assert back.sizes == net.sizes and back.activations == net.activations and back.dtype == dtype
    np.testing.assert_array_equal(again, w)


def test_the_module_owns_its_parameters():
    net = MLP((2, 1))
    w = net.initial(seed=0)
    model = to_torch(net, w)
    with torch.no_grad():
        model[0].weight.fill_(7)
    np.testing.assert_array_equal(w, net.initial(seed=0))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(
    ("make", "name"),
    [(nn.BCEWithLogitsLoss, "binary_cross_entropy"),
     (nn.MSELoss, "squared_error"),
     (partial(nn.HuberLoss, delta=0.5), "huber"),
     (partial(nn.SmoothL1Loss, beta=0.7), "huber"),
     (nn.CrossEntropyLoss, "softmax_cross_entropy")],
)  # fmt: skip
@pytest.mark.parametrize("as_network", [False, True])
def test_losses_and_their_derivatives_are_the_same_numbers(make, name, reduction, as_network):
    """Of three outputs, by which PyTorch's means divide, too."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    loss = make(reduction=reduction)
    x = torch.randn(6, 3, dtype=torch.float64)
    y = torch.rand(6, 3, dtype=torch.float64)
    y = y / y.sum(1, keepdim=True)
    net, w = Network.from_torch(model, x, loss=loss) if as_network else from_torch(model, loss=loss)
    assert (net.loss_function.name, net.reduction) == (name, reduction)
    names = [row.torch_name for row in net.parameter_table]
    own = [model.get_parameter(one) for one in names]

    def flat(arrays):
        """In the order and layout of the net's vector."""
        return np.concatenate([one.detach().numpy().T.ravel() for one in arrays])

    value = loss(model(x), y)
    gradient = torch.autograd.grad(value, own, create_graph=True)
    directions = [torch.randn_like(one) for one in own]
    slope = sum((g * d).sum() for g, d in zip(gradient, directions, strict=True))
    product = torch.autograd.grad(slope, own)
    # A few units of rounding for each of 6 x 3 terms of order 1.
    for batches in ((x, y), ([(x[:2], y[:2]), (x[2:], y[2:])],)):
        assert net.loss(w, *batches) == pytest.approx(value.item(), rel=1e-14)
        np.testing.assert_allclose(net.gradient(w, *batches), flat(gradient), atol=1e-14)
        point = net.at(w, *batches)
        np.testing.assert_allclose(point.hessian @ flat(directions), flat(product), atol=1e-13)


def test_names_are_those_of_the_module():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(4, 2), nn.Sequential(nn.Linear(3, 4))

        def forward(self, x):
            return self.last(torch.tanh(self.first(x)))

    found = [
        [row.torch_name for row in from_torch(model)[0].parameter_table]
        for model in (Own(), nn.Linear(2, 1), nn.Linear(2, 1, bias=False))
    ]
    names = ["first.0.weight", "first.0.bias", "last.weight", "last.bias"]
    assert found == [names, ["weight", "bias"], ["weight"]]
    assert set(names) == {name for name, _ in Own().named_parameters()}


def _normed(*parts, dtype=torch.float64):
    """In evaluation, with statistics of some batches and factors of its own."""
    torch.manual_seed(3)
    model = nn.Sequential(*parts).to(dtype).train()
    with torch.no_grad():
        for part in model:
            if isinstance(part, nn.BatchNorm1d) and part.affine:
                part.weight.uniform_(0.5, 2)
                part.bias.uniform_(-1, 1)
        for _ in range(4):
            model(3 * torch.randn(20, 3, dtype=dtype) + 1)
    return model.eval()


NORMED = {
    "after": lambda: (nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)),
    "makes a bias": lambda: (nn.Linear(3, 4, False), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)),
    "before": lambda: (nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Linear(4, 2)),
    "first and last": lambda: (
        nn.BatchNorm1d(3, affine=False), nn.Linear(3, 4, False), nn.GELU(), nn.BatchNorm1d(4),
        nn.Dropout(), nn.BatchNorm1d(4, eps=0.1), nn.Linear(4, 2), nn.BatchNorm1d(2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_batch_norms_in_evaluation_are_folded(name, dtype):
    model = _normed(*NORMED[name](), dtype=dtype)
    net, w = from_torch(model, loss=nn.MSELoss())
    assert isinstance(net, MLP) and net.sizes == (3, 4, 2) and net.bias
    x, y = torch.randn(8, 3, dtype=dtype), torch.randn(8, 2, dtype=dtype)
    eps = torch.finfo(dtype).eps
    outputs = model(x).detach()
    # Sums of 3 and 4 products of order 1, times factors up to some 10.
    np.testing.assert_allclose(net.predict(w, x), outputs.numpy(), atol=200 * eps)
    assert net.loss(w, x, y) == pytest.approx(nn.MSELoss()(outputs, y).item(), rel=200 * eps)


def test_a_folded_layer_is_that_of_pytorch():
    model = _normed(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    net, w = from_torch(model)
    fused = torch.nn.utils.fusion.fuse_linear_bn_eval(model[0], model[1])
    views = net.unflatten(w)
    np.testing.assert_allclose(views["w0"], fused.weight.detach().numpy().T, rtol=1e-14)
    np.testing.assert_allclose(views["b0"], fused.bias.detach().numpy(), atol=1e-14)
    np.testing.assert_array_equal(views["w1"], model[3].weight.detach().numpy().T)


def _norm(**options):
    return nn.BatchNorm1d(2, **options).eval()


NORM = _norm()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((nn.Linear(2, 2), nn.BatchNorm1d(2)), "module 1 .*is in training"),
        ((nn.Linear(2, 2), _norm(track_running_stats=False)), "no running statistics"),
        ((nn.Linear(2, 2), nn.ReLU(), _norm()), "module 2 .* after an activation with no Linear"),
        ((nn.Linear(2, 2), nn.ReLU(), _norm(), nn.Tanh()), "module 3 .* is after module 2"),
        ((nn.Linear(2, 2), NORM, nn.Linear(2, 2), NORM), "module 1 .* is called twice"),
        ((nn.Linear(2, 3), _norm()), "module 1 .* has 2 inputs; expected 3"),
        ((_norm(), nn.Linear(3, 2)), "module 1 .* has 3 inputs; expected 2"),
        ((nn.Linear(2, 2), _norm(eps=0.0)), "eps is 0.0"),
        ((nn.Linear(2, 2, False), _norm(), nn.Linear(2, 2, False)), "module 2 .* no bias"),
        ((_norm(),), "no Linear layer"),
    ],
)
def test_batch_norms_that_do_not_fold_are_named(parts, words):
    model = nn.Sequential(*parts)
    with pytest.raises(ValueError, match=words):
        from_torch(model)


@pytest.mark.parametrize(
    ("module", "error", "words"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 3)), TypeError, "module 0 is of type Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softplus(beta=2)), ValueError, "beta 2"),
        (nn.Sequential(nn.Tanh(), nn.Linear(2, 2)), ValueError, "before the first Linear"),
        (nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.ReLU()), ValueError, "after another"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, False)), ValueError, "no bias"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 2)), ValueError, "3 inputs; expected 2"),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout()), ValueError, "in training"),
        (nn.Sequential(nn.Linear(2, 2), nn.Flatten()), ValueError, "after a layer"),
        (nn.Sequential(nn.Identity()), ValueError, "no Linear"),
        (nn.Sequential(), ValueError, "no Linear"),
        (nn.Linear(2, 2).half(), ValueError, "float16"),
        (nn.Linear(2, 2, dtype=torch.complex128), ValueError, "complex128"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()),
            ValueError,
            "module 1 .*float64",
        ),
        (nn.Sequential(nn.Linear(2, 2, False), nn.Linear(2, 2)), ValueError, "module 1 .*a bias"),
        (nn.Linear(2, 2, device="meta"), ValueError, "weight is on the meta device"),
        (nn.Sequential(nn.LazyLinear(2)), ValueError, "0.weight is not initialised"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softplus(threshold=5)), ValueError, "threshold 5"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.BatchNorm2d(2)).eval(),
            TypeError,
            "BatchNorm1d in eval",
        ),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), TypeError, "takes logits"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(2, 2)), ValueError, "all dimensions from 1"),
        (nn.Linear, TypeError, "the class Linear, not an instance"),
        (nn.Linear(2, 2).state_dict(), TypeError, "OrderedDict"),
    ],
)
def test_what_has_no_equivalent_is_named(module, error, words):
    with pytest.raises(error, match=words):
        from_torch(module)


def _tied(change):
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    change(model)
    return model


LINEAR, ACT = nn.Linear(3, 3), nn.Tanh()
BLOCK = nn.Sequential(nn.Linear(3, 3), nn.Tanh())


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(LINEAR, ACT, LINEAR), "module 0 .* is called twice"),
        (nn.Sequential(BLOCK, nn.Linear(3, 3), BLOCK), r"module 0\.0 .* is called twice"),
        (_tied(lambda m: setattr(m[2], "weight", m[0].weight)), "module 2 .* weight with module 0"),
        (_tied(lambda m: setattr(m[2], "bias", m[0].bias)), "module 2 .* bias with module 0"),
        (_tied(lambda m: setattr(m[2].weight, "data", m[0].weight.data.T)), "with module 0"),
    ],
)
def test_parameters_that_are_used_twice_are_refused(module, words):
    with pytest.raises(ValueError, match=words):
        from_torch(module)


def test_one_activation_in_two_places_counts_twice():
    torch.manual_seed(2)
    act = nn.Tanh()
    layers = [nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1)]
    model = nn.Sequential(layers[0], act, layers[1], act, layers[2]).double()
    net, w = from_torch(model)
    assert [function.name for function in net.activations] == ["tanh", "tanh", "identity"]
    x = torch.randn(5, 2, dtype=torch.float64)
    np.testing.assert_allclose(net.predict(w, x), model(x).detach().numpy(), atol=64 * 2.3e-16)


class Own(nn.Module):
    """Layers fc1 and fc2 in a forward of its own."""

    def __init__(self, forward):
        super().__init__()
        self.fc1, self.fc2, self.dropout = nn.Linear(4, 3), nn.Linear(3, 2), nn.Dropout()
        self.scale, self.calls, self.of = nn.Buffer(torch.tensor(2.0)), 0, forward

    def forward(self, x):
        self.calls += 1
        self.last = self.fc1(torch.flatten(x, 1))
        return self.of(self, self.last)


@pytest.mark.parametrize(
    ("forward", "name"),
    [
        (lambda m, h: m.fc2(functional.relu(m.dropout(h))), "relu"),
        (lambda m, h: m.fc2(functional.relu(h, inplace=True)), "relu"),
        (lambda m, h: m.fc2(functional.dropout(h.tanh(), 0.2, m.training)), "tanh"),
        (lambda m, h: m.fc2(torch.sigmoid(h)), "sigmoid"),
        (lambda m, h: m.fc2(functional.silu(input=h)), "silu"),
        (lambda m, h: m.fc2(functional.gelu(h, approximate="tanh")), "gelu_tanh"),
        (lambda m, h: m.fc2(functional.softplus(h)), "softplus"),
        (lambda m, h: m.fc2(functional.leaky_relu(h, 0.3)), "leaky_relu"),
        (lambda m, h: m.fc2(functional.elu(h, 0.3)), "elu"),
    ],
)
def test_an_own_forward_is_followed_and_left_untouched(forward, name):
    model = Own(forward).eval()
    net, w = from_torch(model)
    assert model.calls == 0 and not hasattr(model, "last")
    assert [function.name for function in net.activations] == [name, "identity"]
    x = torch.randn(5, 2, 2)
    # Two products of depth 4 and 3, of numbers of order 1.
    want = model(x).detach().numpy()
    np.testing.assert_allclose(net.predict(w, x.reshape(5, 4)), want, atol=64 * 1.2e-7)


@pytest.mark.parametrize(
    ("forward", "error", "words"),
    [
        (lambda m, h: m.fc2(h + torch.tanh(h)), ValueError, "branches at tanh"),
        (lambda m, h: m.fc2(h.view(h.size(0), -1)), ValueError, r"\.size\(\); .*flatten\(x, 1\)"),
        (lambda m, h: m.fc2(2 * h), TypeError, r"mul\(\) in the forward"),
        (lambda m, h: m.fc2(h * m.scale), ValueError, "branches at parameter scale"),
        (lambda m, h: m.fc2(h) if h.sum() > 0 else h, ValueError, "cannot be followed"),
        (lambda m, h: (m.fc2(h),), ValueError, "returns a tuple"),
        (lambda m, h: h, ValueError, "fc2.weight is not used"),
        (lambda m, h: m.fc2(functional.dropout(h)), ValueError, "in training"),
        (lambda m, h: m.fc2(functional.softplus(h, 1, 3)), ValueError, "threshold 3"),
        (lambda m, h: m.fc2(m.dropout.train()(h)), ValueError, "dropout .* in training"),
    ],
)
def test_what_an_own_forward_does_besides_is_named(forward, error, words):
    with pytest.raises(error, match=words):
        from_torch(Own(forward).eval())


def test_a_module_that_keeps_a_result_is_followed_too():
    model, x = Own(lambda m, h: m.fc2(h.relu())).eval(), torch.randn(5, 4)
    want = model(x).detach().numpy()
    last = model.last
    net, w = from_torch(model)
    assert model.last is last and not last.is_leaf
    np.testing.assert_allclose(net.predict(w, x), want, atol=64 * 1.2e-7)


def test_what_cannot_be_seen_in_the_calls_is_seen_in_the_outputs():
    def forward(module, h):
        return module.fc2(h) if module.calls % 2 else module.fc2(h) * 1.001

    with pytest.raises(ValueError, match=r"outputs differ on random inputs: .* rounding explains"):
        from_torch(Own(forward))


def test_outputs_are_compared_on_the_way_back_too(monkeypatch):
    net = MLP((3, 4, 4, 2), activation="gelu", dtype=np.float32)
    monkeypatch.setattr(torch_conversion, "modules_of", lambda activation: [nn.GELU("tanh")])
    with pytest.raises(ValueError, match="outputs differ"):
        to_torch(net, net.initial(seed=0))


def _hooked(add):
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    add(model)
    return model


def _own_forward(model):
    model[1].forward = torch.sin


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m[0].register_forward_hook(lambda *a: 2 * a[2]), "module 0 .* forward hook"),
        (lambda m: m[1].register_forward_pre_hook(lambda *a: None), "module 1 .* forward-pre hook"),
        (lambda m: m.register_full_backward_hook(lambda *a: None), "Sequential .* backward hook"),
        (lambda m: m[0].weight.register_hook(lambda g: 2 * g), "0.weight has a backward hook"),
        (lambda m: nn.utils.parametrizations.weight_norm(m[0]), "module 0 .* parametrization"),
        (lambda m: nn.utils.parametrizations.spectral_norm(m[0]), "module 0 .* parametrization"),
        (_own_forward, "module 1 .* forward of its own instance"),
        (lambda m: m[0].bias.data.fill_(np.nan), "module 0 .* bias that is not finite"),
    ],
)
def test_hooks_parametrizations_and_what_is_not_finite_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        from_torch(_hooked(change))


def test_random_numbers_gradients_and_training_stay_as_they_are():
    model = Own(lambda m, h: m.fc2(h.relu())).train()
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.inference_mode():
        net, w = from_torch(model)
    back = to_torch(net, w)
    assert model.training and all(part.training for part in model.modules())
    assert torch.is_grad_enabled() and torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.requires_grad for parameter in back.parameters())


def test_modules_of_other_threads_go_on_meanwhile():
    other, x = nn.Sequential(nn.Linear(3, 3), nn.Tanh()), torch.randn(2, 3)
    errors, done = [], threading.Event()

    def work():
        try:
            while not done.is_set():
                other(x)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            from_torch(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))
    finally:
        done.set()
        thread.join()
    assert errors == []


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 10.0, 1e3])
def test_rounding_alone_refuses_no_net(dtype, scale):
    names = [name for name in activations._NAMES if name != "sine"]
    for seed in range(6):
        rng = np.random.default_rng(seed)
        depth = int(rng.integers(1, 10))
        chosen = [str(name) for name in rng.choice(names, depth)]
        sizes = rng.integers(1, 20, depth + 1)
        net = MLP(sizes, activation=chosen[1:], output_activation=chosen[0], dtype=dtype)
        w = scale / np.sqrt(10) * rng.standard_normal(net.parameter_count)
        from_torch(to_torch(net, w.astype(dtype)))


def test_a_deep_net_is_compared_to_rounding_and_no_less():
    net = MLP((10,) * 51, activation="tanh")
    w = net.initial(seed=0, scheme="orthogonal")
    model = to_torch(net, w)
    x = np.random.default_rng(0).standard_normal((1, 10))
    # Fifty layers of orthogonal weights, 12 products each: some 50 · 50 · 12 units.
    assert (torch_conversion._rounding(net, w, x) < 3e4 * 2.3e-16).all()
    with torch.no_grad():
        model[48].bias[3] += 1e-9
    with pytest.raises(ValueError, match="outputs differ"):
        torch_conversion._compare(net, w, model)


def test_a_softplus_of_the_way_back_is_exact_beyond_twenty():
    net = MLP((1, 1), output_activation="softplus", bias=False)
    model, x = to_torch(net, [1.0]), np.array([[21.0], [30.0], [39.0], [41.0]])
    # log(1 + exp(a)) exceeds a by 8e-10 at 21, and is a to rounding from 37.
    want = np.log1p(np.exp(x))
    np.testing.assert_allclose(model(torch.from_numpy(x)).detach().numpy(), want, rtol=4.5e-16)


@pytest.mark.parametrize(
    "loss",
    [
        nn.L1Loss(),
        nn.SmoothL1Loss(beta=0),
        nn.BCELoss(),
        nn.NLLLoss(),
        nn.MSELoss(reduction="none"),
        nn.CrossEntropyLoss(reduction="none"),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(ignore_index=0),
        type("Own", (nn.CrossEntropyLoss,), {"forward": lambda self, z, y: z.sum()})(),
        nn.BCEWithLogitsLoss(pos_weight=torch.ones(2), reduction="sum"),
    ],
    ids=lambda loss: f"{type(loss).__name__}-{loss.reduction}",
)
def test_a_loss_with_other_derivatives_is_refused(loss):
    with pytest.raises(ValueError, match="loss"):
        from_torch(nn.Linear(2, 2), loss=loss)


def test_dropout_in_evaluation_is_seen_through():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Identity()).eval()
    assert from_torch(model)[0].sizes == (2, 2)


def test_a_sine_has_no_module():
    net = MLP((2, 2, 1), activation="sine")
    with pytest.raises(ValueError, match="'sine'"):
        to_torch(net, net.initial(seed=0))
