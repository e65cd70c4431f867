"""Many runs at once: a task for each setting, or for each run of a comparison."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.files import File
from swiftnets._support.progress import Progress
from swiftnets._support.types import FloatArray
from swiftnets.dask import worker
from swiftnets.dask.cluster import running
from swiftnets.dask.problem import DaskProblem
from swiftnets.optimizers.base import Optimizer
from swiftnets.optimizers.comparison import compare as compare_here
from swiftnets.optimizers.comparison import methods_of, places_of
from swiftnets.optimizers.results import Comparison, Run
from swiftnets.optimizers.trials import Limits, Numbers
from swiftnets.problems import Minibatches, Problem

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["compare", "sweep"]


def __dir__() -> list[str]:
    return __all__


def sweep(
    function: Callable[..., Any],
    settings: Iterable[Mapping[str, Any]],
    *,
    client: Client | None = None,
    return_exceptions: bool = False,
    progress: bool = False,
) -> list[Any]:
    """Call a function for each of many settings, a task each.

    Parameters
    ----------
    function : callable
        Of keyword arguments. It and its results are pickled, by cloudpickle where need be. What it
        draws at random should be by a seed in its setting: a call that was on a worker that died is
        made again.
    settings : iterable of mappings
        The arguments of each call by their names.
    client : distributed.Client, optional
        That of this process by default.
    return_exceptions : bool
        Put what a call raises in its place in the list, and go on with the others.
    progress : bool
        Show on standard error how many calls have ended.

    Returns
    -------
    list
        What the calls returned, in the order of the settings.

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError
        If an argument is not of the kind above.
    ValueError
        If there is no client that takes tasks.
    RuntimeError
        If the cluster dropped calls, as where its scheduler has ended.
    Exception
        What the first call that failed raised, with a note of its setting; calls that have not
        begun are then cancelled.

    Notes
    -----
    While such tasks run the engine takes as many threads for a call as their worker has. Several
    calls on one worker share them: one job of the engine's threads runs at a time in a process.

    Examples
    --------
    >>> from distributed import Client
    >>> from swiftnets.dask import sweep
    >>> with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
    ...     sweep(lambda a, b: a / b, [{"a": 1, "b": b} for b in (1, 2, 4)])
    [1.0, 0.5, 0.25]
    """
    checks.function(function, "function", "the settings by their names")
    if isinstance(settings, (str, bytes, Mapping)) or not checks.iterable(settings):
        raise TypeError(
            f"settings is of type {type(settings).__name__}; expected several mappings of names to "
            "values"
        )
    given = checks.several(settings, "settings")
    for index, setting in enumerate(given):
        if not isinstance(setting, Mapping) or not all(isinstance(name, str) for name in setting):
            raise TypeError(
                f"settings[{index}] is {setting!r}; expected a mapping of names to values"
            )
    return_exceptions = checks.flag(return_exceptions, "return_exceptions")
    progress = checks.flag(progress, "progress")
    found = running(client)
    if not given:
        return []
    name = getattr(function, "__name__", type(function).__name__).strip("<>").replace("-", "_")
    return _gathered(found, name, function, [dict(s) for s in given], return_exceptions, progress)


def _gathered(
    client: Any,
    name: str,
    function: Callable[..., Any],
    settings: list[dict[str, Any]],
    return_exceptions: bool,
    progress: bool,
) -> list[Any]:
    """The results in order; each comes here as soon as it is there."""
    import distributed

    as_completed: Any = distributed.as_completed
    token = uuid.uuid4().hex
    futures = client.map(
        worker.called,
        [worker.Call(function, setting) for setting in settings],
        key=[f"{name}-{token}-{index}" for index in range(len(settings))],
        pure=False,
    )
    places = {future.key: index for index, future in enumerate(futures)}
    results: list[Any] = [None] * len(settings)
    bar = Progress(0, len(settings), unit="call", shown=progress)
    try:
        for future in as_completed(futures):
            index = places[future.key]
            try:
                results[index] = future.result()
            except CancelledError as error:
                raise RuntimeError(
                    f"the cluster dropped settings[{index}] ({error}); is its scheduler up, and "
                    "was nothing cancelled?"
                ) from error
            except Exception as error:
                if not return_exceptions:
                    error.add_note(f"This was settings[{index}], {_shown(settings[index])}.")
                    raise
                results[index] = error
            bar.step()
    except BaseException:
        if client.status == "running":
            client.cancel(futures)
        raise
    finally:
        bar.close()
    return results


def _shown(setting: dict[str, Any]) -> str:
    text = ", ".join(f"{name}={value!r}" for name, value in setting.items())
    return text if len(text) <= 200 else f"{text[:200]}…"


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
    client: Client | None = None,
) -> Comparison:
    """`swiftnets.compare` with a task for each run.

    Parameters
    ----------
    problem : Problem, Minibatches, or function
        It goes to the worker with each run. Where its samples are many take a function of the seed
        that reads them there.
    optimizers, starts, seeds
        As `swiftnets.compare` takes them.
    max_iterations, time_limit, cost_limit, gradient_tolerance : optional
    evaluate, evaluate_every : optional
    progress : bool
        Show on standard error how many runs have ended.
    folder : path, optional
        On a file system that the workers share: a run that is there is not made again.
    client : distributed.Client, optional
        That of this process by default.

    Returns
    -------
    Comparison
        Its runs are those of `swiftnets.compare`, to the last bit where workers have as many
        threads as this process uses, and in the same order; what they say of seconds is as they ran
        beside each other.

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError, CheckpointError
        As in `swiftnets.compare`; or if there is no client.

    Examples
    --------
    >>> from distributed import Client
    >>> from swiftnets.dask import compare
    >>> from swiftnets.optimizers import LBFGS, SGD
    >>> from swiftnets.problems import Rosenbrock
    >>> methods = {"L-BFGS": LBFGS(), "SGD": SGD(learning_rate=1e-3)}
    >>> with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
    ...     compare(Rosenbrock(2), methods, [[-1.0, 1.0], [0.0, 2.0]], max_iterations=5)
    Comparison(4 runs of L-BFGS, SGD)
    """
    if isinstance(problem, DaskProblem):
        raise TypeError(
            "problem is a DaskProblem, whose samples are on the cluster already; expected one that "
            "goes to a worker (swiftnets.compare runs on this one)"
        )
    if not isinstance(problem, (Problem, Minibatches)) and not callable(problem):
        raise TypeError(
            f"problem is of type {type(problem).__name__}; expected a Problem, Minibatches or a "
            "function of a seed that returns one"
        )
    Limits(max_iterations, time_limit, cost_limit, gradient_tolerance)  # says what is wrong
    methods, places = methods_of(optimizers), places_of(starts, seeds)
    path = None if folder is None else checks.path(folder, "folder").absolute()
    progress = checks.flag(progress, "progress")
    options: dict[str, Any] = {
        "max_iterations": max_iterations,
        "time_limit": time_limit,
        "cost_limit": cost_limit,
        "gradient_tolerance": gradient_tolerance,
        "evaluate": evaluate,
        "evaluate_every": evaluate_every,
        "folder": path,
    }

    def run(optimizer: str, seed: int, start: Any) -> Run:
        chosen = {optimizer: methods[optimizer]}
        (one,) = compare_here(problem, chosen, [start], seeds=[seed], **options).runs
        return one

    settings = [
        {"optimizer": name, "seed": seed, "start": start}
        for seed, start in places
        for name in methods
    ]
    runs = _gathered(running(client), "compare", run, settings, False, progress)
    return Comparison(tuple(runs))
