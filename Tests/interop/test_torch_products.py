"""`as_torch`: exact Hessian products of tensors, against `torch.autograd` applied twice."""

import numpy as np
import pytest

from swiftnets import MLP, Network

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.nn.utils import parameters_to_vector  # noqa: E402

from swiftnets.interop import as_torch, from_torch, to_torch  # noqa: E402


class Own(nn.Module):
    """Parameters that are registered in another order than that of their layers."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 3)
        self.first = nn.Conv2d(2, 4, 2, groups=2)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x):
        return self.last(torch.flatten(torch.tanh(self.norm(self.first(x))), 1))


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(4, 3), nn.Linear(5, 4)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.places = nn.Parameter(torch.randn(1, 3, 4))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        x = x + self.places
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def case(kind):
    """A module, whether it is taken for an MLP, and inputs."""
    torch.manual_seed(0)
    if kind is Chain:
        return kind().double(), None, torch.randn(6, 5, dtype=torch.float64)
    shape = (6, 2, 3, 2) if kind is Own else (6, 3, 4)
    x = torch.randn(shape, dtype=torch.float64)
    return kind().double(), x, x


def peer(module, loss, x, y, v):
    """Loss, gradient and Hessian product by PyTorch."""
    parameters = list(module.parameters())
    with sdpa_kernel(SDPBackend.MATH):  # the other ones have no second derivatives
        value = loss(module(x), y)
    gradient = parameters_to_vector(torch.autograd.grad(value, parameters, create_graph=True))
    product = parameters_to_vector(torch.autograd.grad(gradient @ v, parameters))
    return value.detach(), gradient.detach(), product


@pytest.mark.parametrize("kind", [Chain, Attention, Own])
@pytest.mark.parametrize("make", [nn.MSELoss, nn.CrossEntropyLoss])
def test_products_in_a_modules_order_are_pytorchs(kind, make):
    module, example, x = case(kind)
    y = torch.randn(6, 3, dtype=torch.float64).softmax(1)
    net, _ = from_torch(module, example, loss=make())
    problem = as_torch(net, x, y, module=module)
    w = parameters_to_vector(module.parameters()).detach()
    v = torch.randn(2, len(w), dtype=torch.float64)
    value, gradient, product = peer(module, make(), x, y, v[0])
    # Of sums of tens of terms of order 1.
    torch.testing.assert_close(problem.loss(w), value, rtol=1e-13, atol=0)
    torch.testing.assert_close(problem.gradient(w), gradient, rtol=0, atol=1e-13)
    torch.testing.assert_close(problem.hvp(w, v[0]), product, rtol=0, atol=1e-12)
    torch.testing.assert_close(problem.hvp(w, v)[1], peer(module, make(), x, y, v[1])[2],
                               rtol=0, atol=1e-12)  # fmt: skip


def test_without_a_module_vectors_are_the_nets():
    net = MLP((3, 4, 2), loss="softmax_cross_entropy", reduction="mean", l2=0.1)
    w, rng = net.initial(seed=0), np.random.default_rng(0)
    x, y, v = rng.standard_normal((6, 3)), rng.integers(2, size=6), rng.standard_normal((3, 26))
    problem, point = as_torch(net, x, torch.from_numpy(y)), net.at(w, x, y)
    tensor, rows = torch.from_numpy(w), torch.from_numpy(v)
    assert problem.loss(tensor).item() == point.loss
    assert problem.loss(tensor).shape == () and problem.loss(tensor).dtype == torch.float64
    np.testing.assert_array_equal(problem.gradient(tensor), point.gradient)
    np.testing.assert_array_equal(problem.hvp(tensor, rows), v @ point.hessian)
    np.testing.assert_array_equal(problem.hvp(tensor, rows[0]), point.hessian @ v[0])
    np.testing.assert_array_equal(problem.gauss_newton_product(tensor, rows[1]),
                                  point.gauss_newton @ v[1])  # fmt: skip
    np.testing.assert_array_equal(problem.hvp(tensor, rows.T.contiguous().T), v @ point.hessian)


def test_it_follows_w_and_keeps_one_pass(monkeypatch):
    from swiftnets.curvature import passes

    made = []
    first = passes.Pass.__init__
    monkeypatch.setattr(
        passes.Pass, "__init__", lambda self, *given: (made.append(1), first(self, *given))[1]
    )
    net = MLP((2, 3, 1))
    x, y = torch.ones(4, 2), torch.ones(4, 1)
    problem = as_torch(net, x, y)
    w = torch.from_numpy(net.initial(seed=0))
    before = problem.gradient(w)
    problem.loss(w), problem.hvp(w, before), problem.gauss_newton_product(w, before)
    assert len(made) == 1
    x.fill_(7)  # copied
    w.mul_(2)  # in place, in memory that the engine has seen
    after = problem.gradient(w)
    assert len(made) == 2
    np.testing.assert_array_equal(after, net.gradient(w, np.ones((4, 2)), np.ones((4, 1))))
    after.zero_()  # the caller's own
    assert problem.gradient(w).abs().max() > 0


def test_memory_is_shared(monkeypatch):
    """The engine reads w and v where PyTorch has them, and PyTorch what the engine has written."""
    net = MLP((2, 3, 1), dtype="float32")
    problem = as_torch(net, torch.ones(4, 2), torch.ones(4, 1))
    w = torch.from_numpy(net.initial(seed=0))
    v = torch.ones(5, len(w))
    seen = []
    rows = net.engine.rows
    monkeypatch.setattr(net.engine, "rows", lambda *a: (seen.append(rows(*a)), seen[-1])[1])
    result = problem.hvp(w, v)
    assert seen[0][0].ctypes.data == v.data_ptr()
    assert result.dtype == torch.float32 and not result.requires_grad
    assert problem._taken(w, "w").ctypes.data == w.data_ptr()


def test_a_way_back_module_has_the_order_too():
    net = MLP((3, 4, 2), activation="gelu")
    w = net.initial(seed=0)
    module = to_torch(net, w)
    problem = as_torch(net, np.ones((2, 3)), np.zeros((2, 2)), module=module)
    vector = parameters_to_vector(module.parameters()).detach()
    assert problem.loss(vector).item() == net.loss(w, np.ones((2, 3)), np.zeros((2, 2)))
    again = parameters_to_vector([p.grad for p in _backward(module)])
    torch.testing.assert_close(problem.gradient(vector), again, rtol=0, atol=1e-14)


def _backward(module):
    outputs = module(torch.ones(2, 3, dtype=torch.float64))
    (0.5 * (outputs**2).sum()).backward()
    return module.parameters()


NET = MLP((2, 1))
GOOD = torch.zeros(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (np.zeros(3), TypeError, "v is of type ndarray; expected a torch.Tensor"),
        ([GOOD], TypeError, "v is of type list"),
        (GOOD.clone().requires_grad_(), ValueError, r"v requires gradients.*v\.detach\(\)"),
        (nn.Parameter(GOOD.clone()) * 2, ValueError, "v requires gradients"),
        (GOOD.to("meta"), ValueError, r"v is on the device meta; .* v\.cpu\(\)"),
        (GOOD.to_sparse(), TypeError, "v is a tensor of torch.float64 and makes no array"),
        (GOOD.to(torch.complex128), TypeError, "v has dtype complex128"),
        (GOOD[:2], ValueError, r"v has shape \(2,\); expected \(3,\)"),
        (GOOD.reshape(3, 1, 1), ValueError, r"v has shape \(3, 1, 1\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(value, error, words):
    problem = as_torch(NET, torch.ones(1, 2), torch.ones(1, 1))
    with pytest.raises(error, match=words):
        problem.hvp(GOOD, value)


def test_samples_that_require_gradients_are_named():
    with pytest.raises(ValueError, match="x requires gradients"):
        as_torch(NET, torch.ones(1, 2, requires_grad=True), torch.ones(1, 1))
    with pytest.raises(TypeError, match="x is of type Tensor and makes no array .*cpu"):
        as_torch(NET, torch.ones(1, 2, device="meta"), torch.ones(1, 1))
    with pytest.raises(TypeError, match="net is of type Linear"):
        as_torch(nn.Linear(2, 1), torch.ones(1, 2), torch.ones(1, 1))


def test_modules_of_other_nets_are_named():
    x, y = np.ones((1, 2)), np.ones((1, 1))
    for module, error, words in (
        (nn.Linear(3, 1), ValueError, "no parameter 0.weight that w0"),
        (nn.Sequential(nn.Linear(2, 1, bias=False)), ValueError, "no parameter 0.bias that b0"),
        (nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1)), ValueError, "a parameter 1.weight"),
        (nn.Sequential(nn.Conv2d(2, 1, 1)), ValueError, "no parameter 0.weight"),
        (nn.Linear, TypeError, "module is the class Linear"),
    ):
        with pytest.raises(error, match=words):
            as_torch(NET, x, y, module=module)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)).eval()
    with pytest.raises(ValueError, match="batch norms that are folded"):
        as_torch(from_torch(model)[0], x, y, module=model)
    kept, _ = Network.from_torch(model, torch.ones(1, 2))
    assert as_torch(kept, x, y, module=model)
