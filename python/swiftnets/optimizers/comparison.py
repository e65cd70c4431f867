"""Optimisers side by side: the same problem, starts and minibatches, everything recorded.

Examples
--------
>>> from swiftnets.optimizers.comparison import compare
>>> from swiftnets.optimizers import LBFGS, SGD
>>> from swiftnets.problems import Rosenbrock
>>> problem = Rosenbrock(2)
>>> methods = {"SGD": SGD(learning_rate=1e-3), "SGD, too fast": SGD(learning_rate=1.0)}
>>> result = compare(problem, {"L-BFGS": LBFGS()} | methods, [problem.start()], max_iterations=100,
...                  gradient_tolerance=1e-6)
>>> [(run.name, run.status) for run in result.runs]
[('L-BFGS', 'converged'), ('SGD', 'iterations'), ('SGD, too fast', 'diverged')]
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.files import File
from swiftnets._support.progress import report
from swiftnets._support.types import FloatArray
from swiftnets.optimizers.base import Optimizer
from swiftnets.optimizers.results import Comparison, Run
from swiftnets.optimizers.trials import Limits, Numbers, Trial
from swiftnets.problems import Minibatches, Problem

__all__ = ["Comparison", "Run", "compare"]


def __dir__() -> list[str]:
    return __all__


def compare(
    problem: Problem | Minibatches | Callable[[int], Problem | Minibatches],
    optimizers: Mapping[str, Optimizer],
    starts: Sequence[npt.ArrayLike] | Callable[[int], npt.ArrayLike],
    *,
    seeds: Iterable[int] | None = None,
    max_iterations: int | None = None,
    time_limit: float | None = None,
    cost_limit: float | None = None,
    gradient_tolerance: float = 0.0,
    evaluate: Callable[[FloatArray], Numbers] | None = None,
    evaluate_every: int | None = None,
    progress: bool = False,
    folder: File | None = None,
) -> Comparison:
    """Run every optimiser from every start, one after the other in this process.

    Parameters
    ----------
    problem : Problem, Minibatches, or function
        A function is given a start's seed. All optimisers see the same minibatches.
    optimizers : mapping of str to Optimizer
    starts : list of (P,) array_like, or function
        A function is given a seed: ``lambda seed: net.initial(seed=seed)``.
    seeds : ints, optional
        One for each start; 0, 1, … where starts are a list.
    max_iterations, time_limit, cost_limit : optional
        Where runs end: steps, seconds of optimising, gradients
        (see `swiftnets.problems.Counted`). At least one of them.
    gradient_tolerance : float
        Runs end where the gradient's norm is not larger.
    evaluate : function, optional
        Of w, to numbers by name: accuracies, for one; any name but "iterations". It does not count
        as time or cost. Where there are minibatches the loss of all samples is evaluated, too.
    evaluate_every : int, optional
        Steps from one evaluation to the next: an epoch of minibatches, else 1. The start and the
        end are evaluated in any case.
    progress : bool
        Write a line on standard error when a run has ended.
    folder : path, optional
        Each run that has ended is saved here, and not made again: call once more after a break.
        Functions are told apart by their names, and `evaluate` by its numbers at the start and the
        end of a run, which are computed again.

    Returns
    -------
    Comparison
        Divergence and break-down are reported in a run's status, not raised.

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above.
    CheckpointError
        If a file in the folder is damaged, or of another comparison.

    Examples
    --------
    >>> from swiftnets.optimizers import SGD, Momentum
    >>> from swiftnets.problems import Rosenbrock
    >>> result = compare(
    ...     Rosenbrock(2),
    ...     {"plain": SGD(learning_rate=1e-3), "heavy ball": Momentum(learning_rate=1e-3)},
    ...     lambda seed: np.random.default_rng(seed).normal(size=2),
    ...     seeds=range(3), cost_limit=200)
    >>> result
    Comparison(6 runs of plain, heavy ball)
    >>> {run.status for run in result.runs}
    {'cost'}
    """
    limits = Limits(max_iterations, time_limit, cost_limit, gradient_tolerance)
    methods = methods_of(optimizers)
    places = places_of(starts, seeds)
    if evaluate is not None and not callable(evaluate):
        raise TypeError(f"evaluate is {evaluate!r}; expected a function of w")
    if evaluate_every is not None:
        evaluate_every = checks.integer(evaluate_every, "evaluate_every")
    progress = checks.flag(progress, "progress")
    path = None if folder is None else checks.path(folder, "folder")
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    for index, (seed, w) in enumerate(places):
        own = problem(seed) if callable(problem) else problem
        if not isinstance(own, (Problem, Minibatches)):
            raise TypeError(
                f"problem is of type {type(own).__name__}; expected a Problem, Minibatches or a "
                "function of a seed that returns one"
            )
        of = f"starts[{index}]"
        w = np.array(checks.array(w, of, (own.parameter_count,), own.dtype))
        checks.finite(w, of)
        for name, optimizer in methods.items():
            one = Trial(name, seed, optimizer, own, w, limits, evaluate, evaluate_every)
            file = None if path is None else path / _file(name, seed)
            runs.append(one.run() if file is None else one.kept(file))
            if progress:
                report(f"{len(runs)} of {len(places) * len(methods)}: {runs[-1]}")
    return Comparison(tuple(runs))


def methods_of(optimizers: object) -> dict[str, Optimizer]:
    if not isinstance(optimizers, Mapping) or not optimizers:
        raise TypeError(f"optimizers is {optimizers!r}; expected a mapping of names to optimizers")
    for name, optimizer in optimizers.items():
        if not isinstance(name, str) or not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizers has {name!r}: {optimizer!r}; expected a name and an Optimizer"
            )
    return dict(optimizers)


def places_of(starts: Any, seeds: Iterable[int] | None) -> list[tuple[int, Any]]:
    """Seeds and starts."""
    if seeds is not None and not checks.iterable(seeds):
        raise TypeError(f"seeds is {seeds!r}; expected several, as range(3)")
    listed = None
    if seeds is not None:
        listed = [checks.integer(s, "seeds", 0) for s in checks.several(seeds, "seeds")]
    if callable(starts):
        if not listed:
            raise ValueError(f"seeds is {seeds!r}; expected at least one, as starts is a function")
        places = [(seed, starts(seed)) for seed in listed]
    else:
        if not checks.iterable(starts):
            raise TypeError(f"starts is {starts!r}; expected several vectors, or a function")
        given = checks.several(starts, "starts")
        if not given:
            raise ValueError("starts is empty; expected at least one")
        listed = list(range(len(given))) if listed is None else listed
        if len(listed) != len(given):
            raise ValueError(f"seeds has {len(listed)} entries; expected {len(given)}, as starts")
        places = list(zip(listed, given, strict=True))
    if len(set(listed)) != len(listed):
        raise ValueError(f"seeds is {listed!r}; expected each once")
    return places


def _file(name: str, seed: int) -> str:
    """Readable, and another for another name, whatever is in it."""
    plain = re.sub(r"[^\w.+-]+", "-", name)[:60].strip(".-")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}-{seed}.npz"
