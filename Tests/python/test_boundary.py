"""Hostile arguments: whatever comes from Python gives a result or an exception that says why."""

import warnings

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftnets import FastNet, SlowNet

ACCEPTED = (ValueError, TypeError, ArithmeticError, MemoryError)

dtypes = st.one_of(
    arrays.floating_dtypes(),
    arrays.integer_dtypes(),
    arrays.unsigned_integer_dtypes(),
    arrays.boolean_dtypes(),
    arrays.complex_number_dtypes(),
    arrays.datetime64_dtypes(),
    arrays.byte_string_dtypes(),
)
anything = dtypes.flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


@settings(deadline=None, max_examples=150)
@given(anything, anything, st.sampled_from(["loss", "step", "gradient"]))
def test_any_pair_of_arrays_gives_a_result_or_a_python_exception(xs, ys, method):
    for net in (SlowNet(3, 2, 2, seed=0), FastNet(3, 2, seed=0)):
        if not hasattr(net, method):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = getattr(net, method)(xs, ys)
            except ACCEPTED as error:
                assert str(error)
            else:
                assert result is not None


finite = st.floats(-1e300, 1e300)


@settings(deadline=None, max_examples=150)
@given(
    arrays.arrays(np.float64, (4, 3), elements=finite),
    arrays.arrays(np.float64, (4, 2), elements=finite),
    st.floats(1e-300, 1e300),
)
def test_any_finite_numbers_leave_finite_weights_or_an_exception(xs, ys, damping):
    for net in (SlowNet(3, 2, 2, seed=0, damping=damping), FastNet(3, 2, seed=0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                net.step(xs, ys)
            except ArithmeticError as error:
                assert str(error)
        for w in net._get_weights():
            assert np.isfinite(w).all()


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[:, ::-1][:, ::-1],
        lambda a: a.astype(np.float32).astype(">f8"),
        lambda a: a.tolist(),
        lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
    ],
    ids=["fortran", "strided", "reversed", "big-endian", "list", "read-only"],
)
def test_arrays_of_any_layout_give_the_same_step(convert):
    draw = np.random.default_rng(1)
    xs = draw.normal(size=(6, 3)).astype(np.float32).astype(np.float64)
    ys = np.eye(2)[draw.integers(0, 2, 6)]
    for make in (lambda: SlowNet(3, 2, 2, seed=0), lambda: FastNet(3, 2, seed=0)):
        plain, other = make(), make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain.step(xs, ys)
            other.step(convert(xs), convert(ys))
        for a, b in zip(plain._get_weights(), other._get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [lambda: SlowNet(3, 2, 2), lambda: FastNet(3, 2)])
@pytest.mark.parametrize(
    ("xs", "ys", "error", "message"),
    [
        (np.zeros((4, 5)), np.zeros((4, 2)), ValueError, r"xs has shape \(4, 5\), expected \(n, 3"),
        (np.zeros((4, 3)), np.zeros((5, 2)), ValueError, r"ys has shape \(5, 2\), expected \(4, 2"),
        (np.zeros(3), np.zeros((1, 2)), ValueError, r"xs has shape \(3,\)"),
        (np.zeros((0, 3)), np.zeros((0, 2)), ValueError, "xs is empty"),
        (np.zeros((4, 3)) * 1j, np.zeros((4, 2)), TypeError, "xs has dtype complex128"),
        (np.zeros((4, 3)), np.full((4, 2), "a"), TypeError, "ys has dtype <U1"),
        (np.zeros((4, 3), object), np.zeros((4, 2)), TypeError, "xs has dtype object"),
        (np.zeros((4, 3)), [[0, 1], [0, np.nan], [0, 0], [0, 0]], ValueError, r"nan at \(1, 1\)"),
        (np.full((4, 3), np.inf), np.zeros((4, 2)), ValueError, "finite"),
    ],
)
def test_a_bad_batch_is_named(make, xs, ys, error, message):
    for method in ("loss", "step"):
        with pytest.raises(error, match=message):
            getattr(make(), method)(xs, ys)
