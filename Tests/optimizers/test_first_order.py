"""SGD, momentum and Adam at the edges of what float32 and float64 hold."""

import re

import numpy as np
import pytest

from swiftnets._support.checkpoints import CheckpointError
from swiftnets.optimizers import SGD, Adam, Momentum
from swiftnets.problems import Problem

METHODS = [SGD(), Momentum(), Adam()]
IDS = ["sgd", "momentum", "adam"]


class Fixed(Problem):
    """A constant gradient, of any dtype."""

    def __init__(self, gradient, dtype=np.float64):
        self.dtype = np.dtype(dtype)
        self.gradient = np.asarray(gradient, self.dtype)
        self.parameter_count = len(self.gradient)

    def loss_and_gradient(self, w):
        return 1.0, self.gradient.copy()


@pytest.mark.parametrize(("dtype", "large"), [(np.float32, 1e20), (np.float64, 1e155)])
def test_adam_says_when_a_square_overflows(dtype, large):
    result = Adam().minimize(Fixed([large, 1], dtype), [1.0, 1.0], max_iterations=5)
    assert result.status == "diverged"
    assert f"beyond {np.dtype(dtype)}" in result.message
    np.testing.assert_array_equal(result.w, [1, 1])
    # The sum of squares alone may overflow: each entry moves on, by the learning rate.
    below = np.full(8, np.sqrt(float(np.finfo(dtype).max)) * 0.9)
    result = Adam().minimize(Fixed(below, dtype), np.ones(8), max_iterations=1)
    assert result.status == "iterations"
    np.testing.assert_allclose(result.w, 0.999, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("method", METHODS, ids=IDS)
@pytest.mark.parametrize("dtype", ["g", "f2", ">f8"])
def test_other_dtypes_are_refused_by_the_problem(method, dtype):
    message = re.escape(f"problem.dtype is {np.dtype(dtype).str}; ") + ".*float64 or float32"
    with pytest.raises(TypeError, match=message):
        method.minimize(Fixed([1.0], dtype), [1.0], max_iterations=1)


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_a_step_takes_every_second_weight(method):
    w = np.arange(6.0)[::2]
    problem = Fixed([1.0, -2.0, 0.5])
    found = method.step(problem, w, method.initial_state(problem, w))
    right = method.step(problem, w.copy(), method.initial_state(problem, w))
    np.testing.assert_array_equal(found.w, right.w)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (Adam(epsilon=1e-46), "epsilon"),
        (Adam(learning_rate=1e39), "learning_rate"),
        (SGD(learning_rate=1e-50), "learning_rate"),
        (Momentum(momentum=1e-46), "momentum"),
    ],
    ids=repr,
)
def test_settings_that_float32_does_not_hold_are_refused(method, name):
    problem, w = Fixed([1.0], np.float32), np.ones(1, np.float32)
    with pytest.raises(ValueError, match=f"^{name} is .*float32 holds it as"):
        method.minimize(problem, w, max_iterations=1)
    with pytest.raises(ValueError, match=f"^{name} is .*float32 holds it as"):
        method.step(problem, w, method.initial_state(problem, w))
    method.minimize(Fixed([1.0]), [1.0], max_iterations=1)


@pytest.mark.parametrize("damage", [lambda a: a[:1], lambda a: a.astype("f4")], ids=["short", "f4"])
def test_a_damaged_state_is_an_error_of_the_checkpoint(tmp_path, damage):
    path = tmp_path / "run.npz"
    problem, method = Fixed([1.0, 2.0]), Adam()
    method.minimize(problem, [1.0, 1.0], max_iterations=2, checkpoint=path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["state mean"] = damage(arrays["state mean"])
    np.savez(path, **arrays)
    with pytest.raises(CheckpointError, match=r"run\.npz is damaged: .*state 'mean' is"):
        method.minimize(problem, [1.0, 1.0], max_iterations=4, checkpoint=path)
