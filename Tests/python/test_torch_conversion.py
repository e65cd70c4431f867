"""swiftnets.torch_conversion: the same net on both sides, or a clear refusal."""

import numpy as np
import pytest

from swiftnets import MLP, activations

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from swiftnets.torch_conversion import from_torch, to_torch  # noqa: E402

MODULES = [
    nn.ReLU(),
    nn.LeakyReLU(0.2),
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


@pytest.mark.parametrize(
    ("loss", "name"),
    [(nn.BCEWithLogitsLoss(reduction="sum"), "binary_cross_entropy"),
     (nn.HuberLoss(reduction="sum", delta=0.5), "huber"),
     (nn.CrossEntropyLoss(reduction="sum"), "softmax_cross_entropy")],
)  # fmt: skip
def test_losses_are_the_same_numbers(loss, name):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    net, w = from_torch(model, loss=loss)
    assert net.loss_function.name == name
    x = torch.randn(6, 3, dtype=torch.float64)
    y = torch.rand(6, 2, dtype=torch.float64)
    y = y / y.sum(1, keepdim=True)
    assert net.loss(w, x, y) == pytest.approx(loss(model(x), y).item(), rel=1e-14)


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
        (nn.Linear(2, 2).half(), ValueError, "float16"),
    ],
)
def test_what_has_no_equivalent_is_named(module, error, words):
    with pytest.raises(error, match=words):
        from_torch(module)


@pytest.mark.parametrize(
    "loss",
    [
        nn.MSELoss(),
        nn.HuberLoss(),
        nn.BCEWithLogitsLoss(),
        nn.CrossEntropyLoss(reduction="none"),
        nn.CrossEntropyLoss(label_smoothing=0.1),
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
