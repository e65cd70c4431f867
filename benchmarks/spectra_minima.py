"""What `spectra.py` times at a minimum: all leave-one-outs, and a Laplace approximation.

Leave-one-outs return the moves of a few images, of the many that all systems but retraining find
in the same call, in the peers' order of parameters. The Laplace approximation, with the
Gauss-Newton matrix, returns the variances of the logits at some images.
"""

from typing import Any

import numpy as np

from harness import Arrays, Call, System
from spectra_nets import in_parts, jax_net, jax_outputs, our_net, our_point, torch_net

# ---- leave-one-outs ------------------------------------------------------------------------------


def ours_left_out(p: Arrays, order: int, certificate: Any) -> Call:
    from swiftnets.influence import leave_one_out

    point = our_point(p)

    def call() -> list[Any]:
        found = leave_one_out(point, order, certificate=certificate)
        return [in_parts(p, move) for move in found.moves()[p["rows"]]]

    return call


def jax_left_out(p: Arrays) -> Call:
    """H⁻¹ times the gradients of all images, the Hessian dense: the influence function."""
    jax, sample, loss, w = jax_net(p)
    jnp, x, y = jax.numpy, jax.numpy.asarray(p["x"]), jax.numpy.asarray(p["y"])
    l2, count = float(p["l2"]), len(p["x"])

    def run(w: Any) -> Any:
        hessian = jax.hessian(loss)(w)
        gradients = jax.vmap(jax.grad(sample), (None, 0, 0))(w, x, y) + l2 * w
        factors = jax.scipy.linalg.cho_factor(hessian)
        return jax.scipy.linalg.cho_solve(factors, gradients.T / count).T

    jitted, rows = jax.jit(run), jnp.asarray(p["rows"])
    return lambda: [np.asarray(jitted(w)[rows])]


def ours_retrained(p: Arrays) -> Call:
    """Newton's method from what order 1 predicts, for the few images alone."""
    from swiftnets.influence import leave_one_out

    found = leave_one_out(our_point(p), 1, groups=p["rows"], certificate=None)

    def call() -> list[Any]:
        return [in_parts(p, found.refit(i).w - found.minimum) for i in range(len(p["rows"]))]

    return call


def jax_retrained(p: Arrays) -> Call:
    jax, sample, _, start = jax_net(p)
    jnp, x, y = jax.numpy, jax.numpy.asarray(p["x"]), jax.numpy.asarray(p["y"])
    l2, count = float(p["l2"]), len(p["x"])

    def loss(w: Any, kept: Any) -> Any:
        losses = jax.vmap(sample, (None, 0, 0))(w, x, y)
        return kept @ losses / (count - 1) + l2 / 2 * w @ w

    gradient, hessian = jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))

    def retrained(row: int, first: Any) -> Any:
        w, kept = jnp.asarray(first), jnp.ones(count).at[row].set(0.0)
        for _ in range(20):
            g = gradient(w, kept)
            if float(jnp.linalg.norm(g)) < 1e-13:
                break
            w = w - jnp.linalg.solve(hessian(w, kept), g)
        return w - start

    pairs = list(zip(p["rows"], p["parts"] + p["first"], strict=True))
    return lambda: [np.asarray(retrained(int(row), first)) for row, first in pairs]


# ---- Laplace -------------------------------------------------------------------------------------


def ours_laplace(p: Arrays, structure: Any) -> Call:
    from swiftnets import laplace

    def call() -> list[Any]:
        posterior = laplace.fit(our_point(p), structure, tolerance=None)
        return [posterior.predictive(p["x"][p["rows"]]).variance]

    return call


def torch_laplace(p: Arrays, structure: str) -> Call:
    torch, model, x, y = torch_net(p)
    import laplace

    torch.set_default_dtype(torch.float64)
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), len(x))
    precision, some = len(x) * float(p["l2"]), x[torch.from_numpy(p["rows"])]

    def call() -> list[Any]:
        found = laplace.Laplace(
            model,
            "classification",
            subset_of_weights="all",
            hessian_structure=structure,
            prior_precision=precision,
        )
        found.fit(batches)
        jacobian, _ = found.backend.jacobians(some)
        variance = found.functional_variance(jacobian).detach().numpy()
        return [variance.diagonal(axis1=1, axis2=2)]

    return call


def jax_laplace(p: Arrays) -> Call:
    """The same in plain JAX: Jacobians of all images, their Gauss-Newton matrix, its inverse."""
    jax, _, _, w = jax_net(p)
    jnp, sizes = jax.numpy, [int(size) for size in p["sizes"]]
    x, rows, precision = jnp.asarray(p["x"]), jnp.asarray(p["rows"]), len(p["x"]) * float(p["l2"])

    def run(w: Any) -> Any:
        outputs = jax.vmap(lambda x: jax_outputs(jnp, sizes, w, x))(x)
        jacobians = jax.vmap(jax.jacrev(lambda w, x: jax_outputs(jnp, sizes, w, x)), (None, 0))(
            w, x
        )
        odds = jax.nn.softmax(outputs)
        weighted = odds[:, :, None] * (
            jacobians - jnp.einsum("nk,nkp->np", odds, jacobians)[:, None]
        )
        matrix = jnp.einsum("nkp,nkq->pq", jacobians, weighted) + precision * jnp.eye(len(w))
        some = jacobians[rows].reshape(-1, len(w))
        solved = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), some.T).T
        return (some * solved).sum(axis=1)

    jitted = jax.jit(run)
    return lambda: [np.asarray(jitted(w))]


# ---- the problem ---------------------------------------------------------------------------------

LEFT_OUT = {
    "influence": System("**swiftnets**, order 1", lambda p: ours_left_out(p, 1, None)),
    "influence-2": System("swiftnets, order 2", lambda p: ours_left_out(p, 2, None)),
    "influence-3": System("swiftnets, order 3", lambda p: ours_left_out(p, 3, None)),
    "influence-errors": System(
        "swiftnets, order 2, with its errors", lambda p: ours_left_out(p, 2, "minimum")
    ),
    "jax-influence": System("JAX, order 1, dense, jitted", jax_left_out),
    "retrained": System("swiftnets, retraining", ours_retrained),
    "jax-retrained": System("JAX, retraining, jitted", jax_retrained, once=True),
}
RETRAINED = ("retrained", "jax-retrained")  # a few images, not all
LAPLACE = {
    "laplace": System("**swiftnets**, Gauss-Newton", lambda p: ours_laplace(p, "ggn")),
    "laplace-kronecker": System("swiftnets, Kronecker", lambda p: ours_laplace(p, "kronecker")),
    "jax-laplace": System("JAX, Gauss-Newton, jitted", jax_laplace),
    "torch-laplace": System("laplace-torch, full", lambda p: torch_laplace(p, "full")),
    "torch-laplace-kronecker": System("laplace-torch, kron", lambda p: torch_laplace(p, "kron")),
}


def at_minimum(p: Arrays, count: int) -> Arrays:
    """The problem at a minimum of its net with l2 1e-2, and some of its images."""
    from swiftnets.influence import leave_one_out
    from swiftnets.optimizers import TrustRegion
    from swiftnets.problems import NetProblem

    p = p | {"l2": np.array(1e-2)}
    net = our_net(p)
    w = net.initial(seed=0)
    w = (
        TrustRegion()
        .minimize(NetProblem(net, p["x"], p["y"]), w, max_iterations=400, gradient_tolerance=1e-9)
        .w
    )
    for _ in range(3):  # to rounding
        w = w - np.linalg.solve(net.hessian(w, p["x"], p["y"]), net.gradient(w, p["x"], p["y"]))
    p = p | {"w": w, "parts": in_parts(p, w)}
    # Of those that are not flagged: without the others it may be another minimum, or none.
    found = leave_one_out(our_point(p), 3)
    good = np.flatnonzero(~found.is_flagged)
    rows = np.sort(np.random.default_rng(0).choice(good, count, replace=False))
    return p | {
        "rows": rows,
        "first": np.array([in_parts(p, move) for move in found.moves(1)[rows]]),
        "third": found.moves(3)[rows],
    }


def true_variances(p: Arrays) -> np.ndarray:
    """By NumPy from the Jacobians of all samples."""
    point = our_point(p)
    jacobian, outputs = point.jacobian(), point.outputs
    odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    means = np.einsum("nk,nkp->np", odds, jacobian)
    weighted = odds[:, :, None] * (jacobian - means[:, None])
    rows = jacobian.reshape(-1, len(p["w"]))
    matrix = rows.T @ weighted.reshape(rows.shape)
    matrix += len(p["x"]) * float(p["l2"]) * np.eye(len(p["w"]))
    some = jacobian[p["rows"]].reshape(-1, len(p["w"]))
    return (some * np.linalg.solve(matrix, some.T).T).sum(axis=1)


def true_moves(p: Arrays) -> np.ndarray:
    """By Newton's method with dense Hessians, from what order 3 predicts."""
    net, moves = our_net(p), []
    for row, third in zip(p["rows"], p["third"], strict=True):
        kept, w = np.arange(len(p["x"])) != row, p["w"] + third
        for _ in range(20):
            g = net.gradient(w, p["x"][kept], p["y"][kept])
            if np.linalg.norm(g) < 1e-13:
                break
            w = w - np.linalg.solve(net.hessian(w, p["x"][kept], p["y"][kept]), g)
        moves.append(in_parts(p, w) - p["parts"])
    return np.concatenate(moves)
