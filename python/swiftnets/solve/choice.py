"""Which method takes the fewest operations for a system (A + λ) x = b."""

from __future__ import annotations

import math
import time

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.linalg.lanczos import Lanczos, lanczos
from swiftnets.solve.factors import dense_operations
from swiftnets.solve.layered import is_layered, plan
from swiftnets.solve.options import TITLES, Options
from swiftnets.solve.system import System

__all__ = ["choose", "expected_steps"]


def __dir__() -> list[str]:
    return __all__


_PROBE = 25  # Lanczos steps that "auto" spends to see the spectrum
_STEP_OVERHEAD = 1e6  # operations that fit in the time that a Krylov step spends outside the engine


class _Late(Exception):
    """The time is over."""


def choose(system: System, options: Options) -> tuple[list[str], str]:
    """Methods in the order in which to try them, and why.

    Parameters
    ----------
    system : System
    options : Options

    Returns
    -------
    tuple of a list of str, and the reason in words

    Raises
    ------
    MemoryError
        If the inertia is asked for, and no method that finds it fits in memory.
    """
    if system.has_blocks:
        return _choose_blocks(system, options)
    sides = len(system.b)
    product = system.product_operations + _STEP_OVERHEAD / sides
    costs = _direct_costs(system, product)
    if options.wants_inertia and not costs:
        checks.memory(_dense_bytes(system.net.parameter_count), "the Hessian and its factors")
    direct = sorted(costs, key=lambda name: costs[name])
    others = ["primal", *direct[1:], "minres"] if "layered" in costs else [*direct[1:], "minres"]
    if options.wants_inertia or (
        direct and costs[direct[0]] <= _PROBE * sides * product and options.deadline == math.inf
    ):
        return [direct[0], *others], f"{direct[0]}: fewest operations ({_shown(system, costs)})"
    try:
        is_definite, steps, seen = expected_steps(system, options.deadline)
    except _Late:
        return ["minres"], "MINRES: the time limit leaves no room for a look at the spectrum"
    krylov = "cg" if is_definite else "minres"
    costs[krylov] = steps * sides * product
    text = f"{_shown(system, costs)} for {'about' if is_definite else 'at least'} {steps:.0f} steps"
    best = min(costs, key=lambda name: costs[name])
    if best == krylov:
        order = [krylov, *([] if krylov == "minres" else ["minres"]), *direct]
    else:
        order = [direct[0], *others]
    return order, f"{TITLES[best]}: fewest operations ({text}; {seen})"


def _direct_costs(system: System, product: float) -> dict[str, float]:
    """Operations of the methods that factor, of those that there is memory for."""
    samples, sides, count = system.samples, len(system.b), system.net.parameter_count
    costs = {}
    if checks.fits(_dense_bytes(count)):
        costs["dense"] = (
            dense_operations(system.net, samples, count) + count**3 / 3 + 4.0 * sides * count**2
        )
    if is_layered(system.matrix):
        try:
            layered = plan(system.net, samples, form=system.form)
        except MemoryError:  # sizes that LAPACK does not count
            return costs
        if checks.fits(layered.bytes):
            each = layered.solve_operations + product
            costs["layered"] = layered.operations + 2 * sides * each
    return costs


def _dense_bytes(count: int) -> int:
    return 16 * count**2


def _choose_blocks(system: System, options: Options) -> tuple[list[str], str]:
    samples, sides = system.samples, len(system.b)
    layers = [part.stop - part.start for part in system.net.layer_slices]
    dense = sum(dense_operations(system.net, samples, n) + n**3 / 3 for n in layers)
    product = system.product_operations * len(layers) + _STEP_OVERHEAD / sides
    # Blocks of single layers are well conditioned as such go: Krylov steps as many as seen.
    text = f"dense {dense:.1e}, {_PROBE} products {_PROBE * sides * product:.1e}"
    if options.wants_inertia:
        return ["dense", "minres"], "dense: gives the inertia"
    if dense <= _PROBE * sides * product:
        return ["dense", "minres"], f"dense: few operations ({text})"
    return ["cg", "minres", "dense"], f"CG: dense takes more operations ({text})"


def _shown(system: System, costs: dict[str, float]) -> str:
    texts = []
    for name, cost in costs.items():
        seconds = system.seconds(cost)
        texts.append(f"{TITLES[name]} {cost:.1e}" + (f", {seconds:.2g} s," if seconds > 1 else ""))
    return ", ".join(texts).replace(",,", ",").removesuffix(",")


def expected_steps(system: System, deadline: float = math.inf) -> tuple[bool, float, str]:
    """Whether A + λ seems definite, Krylov steps to expect, and what was seen."""
    start = system.b[int(system.norms.argmax())]
    if not start.any():
        return True, 1.0, "b is 0"

    def product(v: Array) -> Array:
        if time.perf_counter() >= deadline:
            raise _Late
        result: Array = system.product(v[None])[0]
        return result

    run = lanczos(product, start, _PROBE)
    values, _ = run.eigenvalues()
    seen = f"Ritz values {values[0]:.2g} to {values[-1]:.2g}"
    low, high, taken = float(values[0]), float(abs(values).max()), len(values)
    if high == 0 or taken < _PROBE:
        return low > 0, float(taken), seen
    digits = math.log(2 / system.tolerance)
    # Eigenvalues of nets crowd around 0, those of A + λ around λ: none is seen nearer to 0.
    shift = abs(system.damping + system.net.l2)
    nearest = max(min(low, shift) if low > 0 else shift, high * np.finfo(float).eps)
    condition = high / nearest
    if low > 0:
        steps = math.sqrt(condition) / 2 * digits
    else:
        # Where eigenvalues lie on both sides of 0 and near it, only the pace says something:
        # of the residual over the second half of these steps, of which it slows down.
        half, all_ = _least_residual(run, taken // 2), _least_residual(run, taken)
        pace = max(math.log(half / all_), 1e-9) / (taken - taken // 2)
        left = max(math.log(all_ / system.tolerance), 0.0)
        steps = max(condition / 2 * digits, taken + left / pace)
    return low > 0, max(1.0, min(steps, 3.0 * system.net.parameter_count)), seen


def _least_residual(run: Lanczos, steps: int) -> float:
    """‖b − A x‖ / ‖b‖ after so many steps of MINRES, from a longer run."""
    matrix = np.zeros((steps + 1, steps))
    matrix[:steps] = run.matrix[:steps, :steps]
    matrix[steps, steps - 1] = [*run.off_diagonal, run.residual][steps - 1]
    q = np.linalg.qr(matrix, mode="complete")[0]
    return max(abs(float(q[0, -1])), np.finfo(float).eps)
