"""The nets of `spectra.py` in each library: swiftnets, JAX, PyTorch, and operators on these."""

from collections.abc import Callable
from typing import Any

import numpy as np

from harness import Arrays


def our_net(p: Arrays) -> Any:
    from swiftnets import MLP

    sizes = tuple(int(size) for size in p["sizes"])
    return MLP(sizes, loss="softmax_cross_entropy", reduction="mean", l2=float(p["l2"]))


def our_point(p: Arrays) -> Any:
    return our_net(p).at(p["w"], p["x"], p["y"])


def in_parts(p: Arrays, w: np.ndarray) -> np.ndarray:
    """Parameters in the peers' order: weights [inputs, outputs], then the bias, layer by layer."""
    arrays, sizes, parts = our_net(p).unflatten(w), p["sizes"], []
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
        weights = arrays[f"w{i}"]
        weights = weights if weights.shape == (inputs, outputs) else weights.T
        parts += [weights.ravel(), arrays[f"b{i}"].ravel()]
    return np.concatenate(parts)


# ---- the peers' nets -----------------------------------------------------------------------------


def jax_net(p: Arrays) -> Any:
    """(jax, losses of samples without l2, loss, w)."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp, sizes = jax.numpy, [int(size) for size in p["sizes"]]
    x, y, l2 = jnp.asarray(p["x"]), jnp.asarray(p["y"]), float(p["l2"])

    def sample(w: Any, x: Any, y: Any) -> Any:
        return -jax.nn.log_softmax(jax_outputs(jnp, sizes, w, x))[..., y]

    def loss(w: Any) -> Any:
        return jnp.mean(jax.vmap(sample, (None, 0, 0))(w, x, y)) + l2 / 2 * w @ w

    return jax, sample, loss, jnp.asarray(p["parts"])


def jax_outputs(jnp: Any, sizes: list[int], w: Any, x: Any) -> Any:
    start = 0
    for i, (rows, columns) in enumerate(zip(sizes, sizes[1:], strict=False)):
        end = start + rows * columns
        x = x @ w[start:end].reshape(rows, columns) + w[end : end + columns]
        start = end + columns
        x = jnp.tanh(x) if i < len(sizes) - 2 else x
    return x


def jax_product(p: Arrays) -> Any:
    jax, _, loss, w = jax_net(p)
    return jax, lambda v: jax.jvp(jax.grad(loss), (w,), (v,))[1]


def torch_net(p: Arrays) -> Any:
    import torch

    torch.set_num_threads(1)
    sizes, start, layers = [int(size) for size in p["sizes"]], 0, []
    parts = torch.from_numpy(p["parts"])
    for rows, columns in zip(sizes, sizes[1:], strict=False):
        layer = torch.nn.Linear(rows, columns, dtype=torch.float64)
        end = start + rows * columns
        layer.weight.data = parts[start:end].reshape(rows, columns).T.contiguous()
        layer.bias.data = parts[end : end + columns].clone()
        start = end + columns
        layers += [layer, torch.nn.Tanh()]
    x, y = torch.from_numpy(p["x"]), torch.from_numpy(p["y"])
    return torch, torch.nn.Sequential(*layers[:-1]), x, y


def torch_l2(torch: Any, model: Any, l2: float) -> Callable[[Any, Any], Any]:
    cross = torch.nn.functional.cross_entropy
    return lambda output, y: (
        cross(output, y) + l2 / 2 * sum((w * w).sum() for w in model.parameters())
    )


def torch_eigenthings(p: Arrays) -> Any:
    torch, model, x, y = torch_net(p)
    import hessian_eigenthings as he

    loss = he.supervised_loss(torch_l2(torch, model, float(p["l2"])))
    return torch, he, he.HessianOperator(model, [(x, y)], loss)


def curvlinops_hessian(p: Arrays) -> Any:
    torch, model, x, y = torch_net(p)
    import curvlinops

    operator = curvlinops.HessianLinearOperator(
        model,
        torch.nn.CrossEntropyLoss(),
        list(model.parameters()),
        [(x, y)],
        check_deterministic=False,
    )
    return torch, curvlinops, operator
