"""MLP against programs that know nothing of it: torch.func and JAX, in float64."""

import mlp_reference as reference
import numpy as np
import pytest
from mlp_reference import ACTIVATIONS, LOSSES, assert_near, bound, case

NAMES = [(activation, loss) for activation in ACTIVATIONS for loss in LOSSES]
SETTINGS = {"reduction": "mean", "l2": 0.5}
"""And weighted samples: the peers' losses below are written out with all three."""


def problem(activation, loss):
    """Two layers with biases, and a third without them, in turn."""
    depth = 2 + NAMES.index((activation, loss)) % 2
    return case(activation, loss, depth == 2, depth, n=4, **SETTINGS)


def compare(it, peer):
    """Everything of `peer` with the engine's: a dictionary of numbers and arrays by name."""
    net, (w, x, y) = it.net.engine(), it.data(float)
    u, v, s = it.directions
    more = {"sample_weight": it.weights}
    ours = {
        "predict": lambda: net.predict(w, x),
        "loss": lambda: net.loss(w, x, y, **more),
        "gradient": lambda: net.gradient(w, x, y, **more),
        "hessian": lambda: net.hessian(w, x, y, **more),
        "jacobian": lambda: net.at(w, x).jacobian(),
        "gauss_newton": lambda: net.at(w, x, y, **more).gauss_newton.dense(),
        "hvp": lambda: net.hvp(w, x, y, u, **more),
        "third": lambda: net.at(w, x, y, **more).third(u, v),
        "fourth": lambda: net.at(w, x, y, **more).fourth(u, v, s),
    }
    few = bound(it.net, len(x), float, 4)
    for name, theirs in peer.items():
        theirs = np.asarray(theirs)
        # Samples and directions cancel in the higher orders: see `terms` in test_mlp_taylor.py.
        size = abs(theirs).max(initial=0) + {"third": 1, "fourth": 1}.get(name, 0)
        assert_near(ours[name](), theirs, few, size)


# PyTorch -----------------------------------------------------------------------------------------


def torch_program(torch, it):
    """Outputs and loss as PyTorch writes them: its own layers, activations and losses."""
    f, net = torch.nn.functional, it.net
    activations = {
        "identity": lambda a: a,
        "relu": f.relu,
        "leaky_relu": lambda a: f.leaky_relu(a, net.activations[0].parameter),
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softplus": f.softplus,
        "silu": f.silu,
        "gelu": f.gelu,
        "gelu_tanh": lambda a: f.gelu(a, approximate="tanh"),
        "sine": torch.sin,
        "elu": lambda a: f.elu(a, net.activations[0].parameter),
    }
    losses = {
        "squared_error": lambda z, y: f.mse_loss(z, y, reduction="none").sum(-1) / 2,
        "softmax_cross_entropy": lambda z, y: f.cross_entropy(z, y, reduction="none"),
        "binary_cross_entropy": lambda z, y: f.binary_cross_entropy_with_logits(
            z, y, reduction="none"
        ).sum(-1),
        "huber": lambda z, y: f.huber_loss(z, y, reduction="none", delta=net.loss.parameter).sum(
            -1
        ),
    }
    x, y, s = (torch.tensor(a) for a in (it.x, it.y, it.weights))

    def outputs(w):
        z = x
        for activation, (weights, bias) in zip(
            net.activations, reference.layers(net, w), strict=True
        ):
            z = activations[activation.name](
                f.linear(z, weights.T, bias if bias is None else bias[0])
            )
        return z

    def loss_of(z):
        return (s * losses[net.loss.name](z, y)).sum() / s.sum()

    return outputs, loss_of, lambda w: loss_of(outputs(w)) + net.l2 / 2 * w @ w


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("activation", "loss"), NAMES)
def test_torch_says_the_same(activation, loss):
    torch = pytest.importorskip("torch")
    from torch.func import grad, jacrev, jvp

    it = problem(activation, loss)
    w, u, v, s = (torch.tensor(a) for a in (it.w, *it.directions))
    outputs, loss_of, function = torch_program(torch, it)
    gradient = grad(function)
    jacobian = jacrev(outputs)(w)
    z = outputs(w)
    inner = jacrev(grad(loss_of))(z)
    flat = jacobian.reshape(z.numel(), len(w))
    peer = {
        "predict": z,
        "loss": function(w),
        "gradient": gradient(w),
        "hessian": jacrev(gradient)(w),
        "jacobian": jacobian,
        "gauss_newton": flat.T @ inner.reshape(z.numel(), -1) @ flat
        + it.net.l2 * torch.eye(len(w)),
    }
    if loss != "huber":  # PyTorch has no forward mode for it

        def along(direction, f):
            return lambda point: jvp(f, (point,), (direction,))[1]

        peer["third"] = along(v, along(u, gradient))(w)
        peer["fourth"] = along(s, along(v, along(u, gradient)))(w)
    compare(it, {name: value.detach().numpy() for name, value in peer.items()})


# JAX ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jax():
    module = pytest.importorskip("jax")
    before = module.config.jax_enable_x64
    module.config.update("jax_enable_x64", True)
    yield module
    module.config.update("jax_enable_x64", before)


def jax_program(jax, it):
    nn, np_, net = jax.nn, jax.numpy, it.net
    activations = {
        "identity": lambda a: a,
        "relu": nn.relu,
        "leaky_relu": lambda a: nn.leaky_relu(a, net.activations[0].parameter),
        "tanh": np_.tanh,
        "sigmoid": nn.sigmoid,
        "softplus": nn.softplus,
        "silu": nn.silu,
        "gelu": lambda a: nn.gelu(a, approximate=False),
        "gelu_tanh": lambda a: nn.gelu(a, approximate=True),
        "sine": np_.sin,
        "elu": lambda a: nn.elu(a, net.activations[0].parameter),
    }
    losses = {
        "squared_error": lambda z, y: ((z - y) ** 2).sum(-1) / 2,
        "softmax_cross_entropy": lambda z, y: -(y * nn.log_softmax(z)).sum(-1),
        "binary_cross_entropy": lambda z, y: (
            -(y * nn.log_sigmoid(z) + (1 - y) * nn.log_sigmoid(-z)).sum(-1)
        ),
        "huber": lambda z, y: jax.numpy.where(
            abs(z - y) < net.loss.parameter,
            (z - y) ** 2 / 2,
            net.loss.parameter * (abs(z - y) - net.loss.parameter / 2),
        ).sum(-1),
    }
    x, s = np_.asarray(it.x), np_.asarray(it.weights)
    y = np_.asarray(reference.rows_of_targets(net, it.y, it.x))

    def outputs(w):
        z = x
        for activation, (weights, bias) in zip(
            net.activations, reference.layers(net, w), strict=True
        ):
            z = activations[activation.name](z @ weights + (0 if bias is None else bias))
        return z

    return (
        outputs,
        lambda w: (s * losses[net.loss.name](outputs(w), y)).sum() / s.sum() + net.l2 / 2 * w @ w,
    )


@pytest.mark.parametrize(("activation", "loss"), [NAMES[4 * k + k % 4] for k in range(11)])
def test_jax_says_the_same(jax, activation, loss):
    it = problem(activation, loss)
    outputs, function = jax_program(jax, it)
    gradient = jax.grad(function)

    def along(direction, f):
        return lambda point: jax.jvp(f, (point,), (direction,))[1]

    @jax.jit
    def everything(w, u, v, s):
        return {
            "predict": outputs(w),
            "loss": function(w),
            "gradient": gradient(w),
            "hessian": jax.jacfwd(gradient)(w),
            "jacobian": jax.jacfwd(outputs)(w),
            "hvp": along(u, gradient)(w),
            "third": along(v, along(u, gradient))(w),
            "fourth": along(s, along(v, along(u, gradient)))(w),
        }

    compare(it, everything(it.w, *it.directions))
