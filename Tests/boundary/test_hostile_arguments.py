"""Arguments of the wrong kind: the message names them, and nothing is read without an end."""

import itertools
from typing import Any

import numpy as np
import pytest

import swiftnets
from swiftnets import MLP, datasets, optimizers, problems, slow_net
from swiftnets.curvature import tensors
from swiftnets.linalg import lanczos
from swiftnets.optimizers.comparison import Comparison, compare
from swiftnets.originals import relaxations
from swiftnets.solve import plan

NET = MLP((3, 2, 1))
W, X, Y = NET.initial(seed=0), np.eye(3), np.ones((3, 1))
PROBLEM = problems.NetProblem(NET, X, Y)
METHODS = {"Adam": optimizers.Adam()}


def compared(starts: Any, **options: Any) -> Comparison:
    return compare(PROBLEM, METHODS, starts, max_iterations=1, **options)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("sizes", lambda: MLP(itertools.count(1))),
        ("activation", lambda: MLP((3, 2, 1), activation=itertools.repeat("tanh"))),
        ("seeds", lambda: compared(lambda s: W, seeds=itertools.count())),
        ("starts", lambda: compared(itertools.repeat(W))),
    ],
)
def test_iterables_without_an_end_are_refused(name: str, call: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} has over 1048576 entries"):
        call()


def test_labels_without_an_end_are_refused() -> None:
    labels = np.broadcast_to(np.zeros(1, int), (2**40,))
    with pytest.raises(MemoryError, match="one-hot"):
        slow_net.labels_to_onehots(labels)


FLAG = np.zeros(2)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("progress", lambda: NET.solve(W, X, Y, W, damping=1.0, progress=FLAG)),
        ("progress", lambda: optimizers.Adam().minimize(PROBLEM, W, progress=FLAG)),
        ("progress", lambda: compared([W], progress=FLAG)),
        ("complex", lambda: plan(NET, 3, complex=FLAG)),
        ("dtype", lambda: MLP((3, 1), dtype="\ud800")),
        ("path", lambda: tensors.estimate(NET.at(W, X, Y), order=2, path=1)),
        ("path", lambda: tensors.compute(NET.at(W, X, Y), order=2, path=None)),
        ("path", lambda: tensors.DerivativeTensor(1.5)),
        ("folder", lambda: compared([W], folder=1)),
        ("seeds", lambda: compared([W], seeds=np.array(1))),
        ("starts", lambda: compared(None)),
        ("train_pairs", lambda: swiftnets.SlowNet(3, 2, 1).fit(np.array(1.0))),
        ("original", lambda: swiftnets.SlowNet(3, 2, 1).fit([(X, Y)], original=FLAG)),
        ("original", lambda: swiftnets.FastNet(3, 1).fit([(X, Y)], original=FLAG)),
        ("w", lambda: problems.Rosenbrock(3).at("x")),
        ("w", lambda: problems.Quadratic(X).at({})),
        ("v", lambda: problems.Counted(problems.Quadratic(X)).hvp(W, [1, [2, 3]])),
        ("function", lambda: lanczos(lambda v: v, W, 2).apply(None)),
        ("net", lambda: relaxations.circular_system(None, W, X, Y, W)),
    ],
)
def test_a_type_error_names_the_argument(name: str, call: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\b"):
        call()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("labels", {"labels": np.zeros(3)}),
        ("md5", {"md5": None}),
        ("url", {"url": 5}),
        ("url", {"url": "ftp://x"}),
    ],
)
def test_readers_name_the_argument(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is .*; expected"):
        if name == "labels":
            datasets.load(**arguments)
        else:
            datasets.fetch_cifar100("nowhere", **arguments)


def test_functions_of_eigenvalues_return_as_many() -> None:
    tridiagonal = lanczos(lambda v: v * np.arange(len(v)), np.ones(5), 3)
    with pytest.raises(ValueError, match=r"function returned shape \(7,\); expected \(3,\)"):
        tridiagonal.apply(lambda values: np.ones(7))
