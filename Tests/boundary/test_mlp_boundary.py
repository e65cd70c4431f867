"""Whatever comes to MLP from Python gives a result, or an exception that names the argument."""

import copy
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import warnings

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlp_reference import DTYPES, case

from swiftnets import MLP
from swiftnets.curvature import CurvatureMatrix, Point
from swiftnets.nets.activations import ELU, GELU, Activation, LeakyReLU
from swiftnets.nets.losses import Huber, Loss
from swiftnets.problems import NetProblem

LIMIT = 300
"""Seconds after which something counts as hanging."""

P = 26  # of MLP((3, 4, 2))


def problem(n=4, loss="squared_error", **more):
    """A net, and w, x, y and v for it."""
    net, draw = MLP((3, 4, 2), loss=loss, **more), np.random.default_rng(0)
    y = draw.integers(2, size=n) if loss.startswith("softmax") else draw.uniform(size=(n, 2))
    return net, draw.normal(size=P), draw.normal(size=(n, 3)), y, draw.normal(size=P)


def raises(name, *errors):
    """A ValueError or TypeError whose message begins with the name, and says what was expected."""
    return pytest.raises(errors or (ValueError, TypeError), match=rf"^{re.escape(name)}[ :]")


# Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sizes", [(3,), (), 3, None, "34", b"34"]),
        ("sizes[1]", [(3, 0), (3, -1), (3, 2.5), (3, True), (3, None), (3, "2"), (3, 2**31)]),
        ("sizes[0]", [(10**40, 2), [[3, 2], [1, 1]], np.array([2.5, 2])]),
        ("activation", ["Tanhh", "", 3, None, ["tanh"] * 2, [], Huber()]),
        ("activation[0]", [["Tanhh"], [3], [None], [Huber()]]),
        ("output_activation", ["softmax", None, 1, ["tanh"], LeakyReLU]),
        ("loss", ["mae", None, 1, ["huber"], LeakyReLU(), Huber]),
        ("bias", [1, 0, None, "yes", 1.0, [True]]),
        ("reduction", ["none", None, 1, True, ["sum"]]),
        ("l2", [-1, -1e-300, np.nan, np.inf, "0", None, True, 1j, [0.1], 10**400]),
        ("dtype", [np.float16, np.longdouble, int, "f9", object, complex, ">f8", 3.5]),
    ],
)
def test_a_setting_that_is_none_is_named(name, values):
    for value in values:
        sizes = value if name.startswith("sizes") else (3, 4, 2)
        key = re.sub(r"\[.*", "", name)
        with raises(name):
            MLP(sizes, **({} if key == "sizes" else {key: value}))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Huber(0), "delta"),
        (lambda: Huber(-1.0), "delta"),
        (lambda: Huber(np.nan), "delta"),
        (lambda: Huber("1"), "delta"),
        (lambda: Loss("squared_error", 1.0), "parameter"),
        (lambda: Loss("mse"), "loss"),
        (lambda: LeakyReLU(np.inf), "slope"),
        (lambda: LeakyReLU("0.5"), "slope"),
        (lambda: LeakyReLU(None), "slope"),
        (lambda: Activation("tanh", 1.0), "parameter"),
        (lambda: Activation("leaky_relu", np.nan), "parameter"),
        (lambda: Activation("Tanh"), "activation"),
        (lambda: GELU("yes"), "approximate"),
        (lambda: GELU(True), "approximate"),
    ],
)
def test_an_activation_or_loss_that_is_none_is_named(make, name):
    with raises(name):
        make()


def test_numpy_scalars_are_numbers():
    net = MLP(
        np.array([3, 4, 2]), l2=np.float32(0.5), bias=np.bool_(True), dtype="float32", loss=Huber(2)
    )
    assert net.sizes == (3, 4, 2) and net.parameter_count == P and net.l2 == 0.5
    assert all(type(size) is int for size in net.sizes) and net.bias is True
    assert net.initial(seed=np.int64(3)).dtype == np.float32
    net, w, x, y, v = problem()
    assert net.hessian(w, x, y, block=(np.int64(0), np.uint8(1))).shape == (16, 10)
    assert net.at(w, x, y).taylor(v, order=np.int32(2)).gradient.shape == (3, P)


def test_settings_cannot_be_changed():
    net = MLP((3, 4, 2))
    for name in ("sizes", "depth", "parameter_count", "dtype", "bias", "activations", "l2"):
        with pytest.raises(AttributeError):
            setattr(net, name, getattr(net, name))
    with pytest.raises(AttributeError):
        net.activations[0].parameter = 2.0


def test_points_and_matrices_cannot_be_changed():
    net, w, x, y, _ = problem()
    point = net.at(w, x, y)
    matrix = point.hessian + 1.0
    changes = [(point, name) for name in ("net", "w", "solver", "loss", "gradient")]
    changes += [(matrix, name) for name in ("point", "kind", "shift", "order", "dtype")]
    for thing, name in changes:
        with pytest.raises(AttributeError):
            setattr(thing, name, getattr(thing, name))
    with pytest.raises(ValueError, match="read-only"):
        point.w[0] = 1.0


@pytest.mark.parametrize("name", ["w", "fisher", "solve", "hesian", "net", "shift"])
def test_no_name_of_a_point_or_a_matrix_can_be_set_or_deleted(name):
    point = MLP((2, 1)).at(np.ones(3), np.eye(2), np.ones((2, 1)))
    for one in (point, point.hessian, point.gauss_newton + 1.0):
        with pytest.raises(AttributeError, match=f"{name} cannot be set"):
            setattr(one, name, 1)
        with pytest.raises(AttributeError, match=f"{name} cannot be deleted"):
            delattr(one, name)


def test_points_and_matrices_are_not_made_by_hand():
    net, w, x, y, _ = problem()
    point = net.at(w, x, y)
    for arguments in ((net, w, (x, y), None), (None, w, point.samples, None)):
        with pytest.raises(TypeError, match=r"^a Point is made by net.at\(w, x, y\)"):
            Point(*arguments)
    for arguments in ((point, "hessian"), (net, point.hessian.kind), (None, point.hessian.kind)):
        with pytest.raises(TypeError, match="^a CurvatureMatrix is made by a point, as in net.at"):
            CurvatureMatrix(*arguments)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda net: net.initial(seed=-1), "seed"),
        (lambda net: net.initial(seed=1.5), "seed"),
        (lambda net: net.initial(seed="1"), "seed"),
        (lambda net: net.initial(scheme="xavier"), "scheme"),
        (lambda net: net.initial(scheme=None), "scheme"),
        (lambda net: net.unflatten(np.zeros(P + 1)), "w"),
        (lambda net: net.unflatten(np.zeros((P, 1))), "w"),
        (lambda net: net.unflatten("w"), "w"),
        (lambda net: net.flatten(net.unflatten(np.zeros(P)) | {"w0": np.zeros((4, 3))}), "w0"),
        (lambda net: net.flatten(net.unflatten(np.zeros(P)) | {"b1": None}), "b1"),
    ],
)
def test_parameters_that_are_none_are_named(call, name):
    with raises(name):
        call(MLP((3, 4, 2)))


def test_named_arrays_that_are_missing_or_too_many_are_listed():
    net = MLP((3, 4, 2))
    whole = net.unflatten(np.zeros(P))
    for arrays_given in ({}, {"w0": whole["w0"]}, whole | {"w2": whole["w0"]}):
        with pytest.raises(
            ValueError, match=r"arrays has the names .*; expected \['b0', 'b1', 'w0'"
        ):
            net.flatten(arrays_given)


# Arrays ------------------------------------------------------------------------------------------

dtypes = st.one_of(
    arrays.floating_dtypes(),
    arrays.integer_dtypes(),
    arrays.unsigned_integer_dtypes(),
    arrays.boolean_dtypes(),
    arrays.complex_number_dtypes(),
    arrays.datetime64_dtypes(),
    arrays.byte_string_dtypes(),
)
FITTING = {"w": (8,), "x": (4, 3), "y": (4, 2), "v": (8,), "sample_weight": (4,)}


def anything(shape):
    shapes = st.just(shape) | arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
    kinds = st.just(np.dtype(np.float64)) | dtypes
    return st.tuples(kinds, shapes).flatmap(lambda both: arrays.arrays(*both))


@settings(max_examples=300)
@given(
    st.fixed_dictionaries({name: anything(shape) for name, shape in FITTING.items()}),
    st.sampled_from(["squared_error", "softmax_cross_entropy", "binary_cross_entropy", "huber"]),
    st.sampled_from(["float64", "float32"]),
    st.sampled_from(["sum", "mean"]),
    st.sampled_from(["loss", "gradient", "hvp", "hessian", "taylor", "at", "predict", "jvp"]),
)
def test_any_arrays_give_a_result_or_an_exception_that_names_one(
    given_arrays, loss, dtype, reduction, method
):
    net = MLP((3, 2), loss=loss, dtype=dtype, reduction=reduction)
    w, x, y, v, s = (given_arrays[name] for name in ("w", "x", "y", "v", "sample_weight"))
    used = {"w", "x"} | (set() if method in ("predict", "jvp") else {"y", "sample_weight"})
    used |= {"v"} if method in ("hvp", "taylor", "jvp") else set()
    fits = all(
        given_arrays[name].shape == FITTING[name]
        and given_arrays[name].dtype.kind in "biuf"
        and np.can_cast(given_arrays[name].dtype, np.float64)
        for name in used
    )
    if fits and "y" in used:
        with np.errstate(all="ignore"):
            rounded = s.astype(dtype)  # large weights become infinite in float32, small ones 0
        sensible = np.isfinite(rounded).all() and (rounded >= 0).all()
        sensible = sensible and (reduction == "sum" or rounded.any())
        probable = not loss.endswith("entropy") or ((y >= 0) & (y <= 1)).all()
        fits = sensible and probable
    calls = {
        "predict": lambda: net.predict(w, x),
        "jvp": lambda: net.at(w, x).jvp(v),
        "hvp": lambda: net.hvp(w, x, y, v, sample_weight=s),
        "taylor": lambda: net.at(w, x, y, sample_weight=s).taylor(v),
        "at": lambda: net.at(w, x, y, sample_weight=s).loss,
    }
    call = calls.get(method, lambda: getattr(net, method)(w, x, y, sample_weight=s))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # what float32 cannot hold
        try:
            call()
        except (ValueError, TypeError) as error:
            assert not fits
            named = re.match(
                r"(w|x|y|v|sample_weight) (has|is|sums)\b.*; (expected|a mean needs)", str(error)
            )
            assert named and named[1] in used, error


@settings(max_examples=150)
@given(anything((4,)), st.sampled_from(["loss", "gradient", "fisher", "per_sample_gradients"]))
def test_any_labels_give_a_result_or_an_exception_that_names_them(labels, method):
    net = MLP((3, 2), loss="softmax_cross_entropy")
    given_arrays = np.ones(8), np.eye(4, 3), labels
    calls = {
        "fisher": lambda: net.at(*given_arrays).fisher().dense(),
        "per_sample_gradients": lambda: net.at(*given_arrays).per_sample_gradients(),
    }
    call = calls.get(method, lambda: getattr(net, method)(*given_arrays))
    good = labels.shape == (4,) and labels.dtype.kind in "iub"
    if good and (labels >= 0).all() and (labels < 2).all():
        call()
    elif labels.shape != (4, 2):
        with raises("y"):
            call()


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "abc",
        b"abc",
        object(),
        {},
        1,
        1.5,
        np.zeros(()),
        np.zeros(0),
        np.zeros((4, 5)),
        np.zeros((2, 4, 3)),
        np.zeros((0, 3)),
        [[1.0], [1.0, 2.0]],
        [[1.0, "a"]],
        np.zeros((4, 3)) * 1j,
        np.zeros((4, 3), object),
        np.zeros((4, 3), np.longdouble),
        np.zeros((4, 3), "m8[s]"),
        np.zeros((4, 3), [("a", float)]),
        np.ma.masked_equal(np.eye(4, 3), 0),
        iter([[1.0, 2.0, 3.0]]),
        lambda: None,
        [10**400],
    ],
    ids=lambda bad: repr(bad)[:30],
)
@pytest.mark.parametrize("loss", ["squared_error", "softmax_cross_entropy"])
def test_an_array_that_is_none_is_named(bad, loss):
    net, w, x, y, v = problem(loss=loss)
    u = np.zeros((4, 2))
    calls = {
        "w": [
            lambda: net.predict(bad, x),
            lambda: net.loss(bad, x, y),
            lambda: net.gradient(bad, x, y),
            lambda: net.hessian(bad, x, y),
            lambda: net.hvp(bad, x, y, v),
            lambda: net.at(bad, x, y),
            lambda: net.at(bad, x, y).taylor(v),
            lambda: net.at(bad, x).jacobian(),
        ],
        "x": [
            lambda: net.predict(w, bad),
            lambda: net.loss(w, bad, y),
            lambda: net.at(w, bad, y).hessian.diagonal(),
            lambda: net.at(w, bad, y).per_sample_gradients(),
            lambda: net.at(w, bad).jvp(v),
            lambda: net.at(w, bad).vjp(u),
        ],
        "v": [
            lambda: net.hvp(w, x, y, bad),
            lambda: bad @ net.at(w, x, y).gauss_newton,
            lambda: bad @ net.at(w, x, y).hessian,
            lambda: net.at(w, x, y).taylor(bad),
            lambda: net.at(w, x, y).third(v, bad),
            lambda: net.at(w, x, y).fourth(v, bad, v),
            lambda: net.at(w, x).jvp(bad),
        ],
        "u": [
            lambda: net.at(w, x, y).third(bad, v),
            lambda: net.at(w, x, y).fourth(bad, v, v),
            lambda: net.at(w, x).vjp(bad),
        ],
        "s": [lambda: net.at(w, x, y).fourth(v, v, bad)],
        "sample_weight": [
            lambda: net.loss(w, x, y, sample_weight=bad),
            lambda: net.hvp(w, x, y, v, sample_weight=bad),
        ],
    }
    if bad is None:
        calls.pop("sample_weight")
    else:
        calls["y"] = [lambda: net.loss(w, x, bad), lambda: net.hessian(w, x, bad)]
    for name, some in calls.items():
        for call in some:
            with raises(name):
                call()


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        ("softmax_cross_entropy", [0, 1, 2, 0], r"y has 2 at 2; expected 4 integers from 0 to 1"),
        ("softmax_cross_entropy", [0, -1, 1, 0], "y has -1 at 1"),
        ("softmax_cross_entropy", [0.0, 1.0, 1.0, 0.0], "y has dtype float64; expected"),
        ("softmax_cross_entropy", [0, 1, 1], r"y has shape \(3,\); expected \(4,\)"),
        ("softmax_cross_entropy", [[0], [1], [1], [0]], r"y has shape \(4, 1\); expected"),
        ("softmax_cross_entropy", [[0, -0.1]] * 4, "y has .*below 0"),
        ("softmax_cross_entropy", [[0, np.nan]] * 4, "y has .*NaN"),
        (
            "softmax_cross_entropy",
            np.array([0, 2**63, 0, 0], np.uint64),
            "y has 9223372036854775808",
        ),
        ("softmax_cross_entropy", np.ma.masked_equal([0, 1, 1, 0], 1), "y is a masked array"),
        ("binary_cross_entropy", [[0, 1.1]] * 4, "y has .*above 1"),
        ("binary_cross_entropy", [[0, -1e-9]] * 4, "y has .*below 0"),
        ("binary_cross_entropy", [[0, np.nan]] * 4, "y has "),
        ("binary_cross_entropy", [0, 1, 1, 0], r"y has shape \(4,\); expected \(4, 2\)"),
        ("squared_error", [0, 1, 1, 0], r"y has shape \(4,\); expected \(4, 2\)"),
        ("squared_error", np.zeros((3, 2)), r"y has shape \(3, 2\); expected \(4, 2\)"),
        ("huber", np.zeros((4, 3)), r"y has shape \(4, 3\); expected \(4, 2\)"),
    ],
)
def test_targets_that_do_not_fit_the_loss_are_named(loss, y, message):
    net, w, x, _, v = problem(loss=loss)
    for call in (
        lambda: net.loss(w, x, y),
        lambda: net.hvp(w, x, y, v),
        lambda: net.at(w, x, y).per_sample_gradients(),
    ):
        with pytest.raises((ValueError, TypeError), match=f"^{message}"):
            call()
    message = message.replace("y ", "y of batch 1 ", 1)
    good = (x, [[0, 1]] * 4)
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        net.loss(w, [good, (x, y)])


@pytest.mark.parametrize("bad", [[-1, 1, 1, 1], [np.nan] * 4, [np.inf] * 4, [1] * 3, [[1]] * 4])
def test_weights_of_samples_that_are_none_are_named(bad):
    net, w, x, y, v = problem()
    for call in (
        lambda: net.loss(w, x, y, sample_weight=bad),
        lambda: net.hessian(w, x, y, sample_weight=bad),
        lambda: net.at(w, x, y, sample_weight=bad),
        lambda: net.at(w, x, y, sample_weight=bad).fourth(v, v, v),
    ):
        with raises("sample_weight"):
            call()
    with raises("sample_weight of batch 0"):
        net.loss(w, [(x, y, bad)])


@pytest.mark.filterwarnings("error")
def test_weights_beyond_float32_are_named_with_their_number():
    net, w, x, y = MLP((1, 1), dtype=np.float32), np.ones(2), np.ones((2, 1)), np.ones((2, 1))
    with pytest.raises(
        ValueError, match=r"^sample_weight has 1e\+300, which float32 does not hold"
    ):
        net.loss(w, x, y, sample_weight=[1, 1e300])
    with pytest.raises(ValueError, match="^sample_weight has an entry that is negative"):
        net.loss(w, x, y, sample_weight=[-1, 1e300])


def test_an_out_on_the_memory_of_an_argument_is_refused_by_its_name():
    net, out = MLP((1, 1)), np.ones((2, 2))
    mine, ones = out.reshape(4, 1), np.ones((4, 1))
    for name, arguments in {
        "x": {"x": mine, "y": ones},
        "y": {"x": ones, "y": mine},
        "sample_weight": {"x": ones, "y": ones, "sample_weight": out.reshape(-1)},
    }.items():
        with pytest.raises(ValueError, match=f"^out shares memory with {name}$"):
            net.hessian(np.ones(2), **arguments, out=out)


def test_data_that_is_no_batches_is_named():
    net, w, x, y, _ = problem()
    for data in (x, 5, None, "xy", b"xy", {0: (x, y)}):
        with pytest.raises(TypeError, match="^y is None and x is of type .*; expected"):
            net.loss(w, data)
    with raises("x of batch 0"):  # numbers where arrays should be
        net.loss(w, x[:, :2].tolist())
    for data in ([x], [(x,)], [(x, y, None, None)], [{"x": x, "y": y}], ["xy"], [None]):
        with pytest.raises(TypeError, match="^batch 0 .*; expected"):
            net.loss(w, data)
    for data in ([], (), iter([])):
        with pytest.raises(ValueError, match="^x has no batches; expected"):
            net.gradient(w, data)
    for call in (net.loss, net.hessian, net.at):
        with raises("x of batch 1"):
            call(w, [(x, y), (x[:0], y[:0])])
    with pytest.raises(TypeError, match="^sample_weight goes with x and y"):
        net.loss(w, [(x, y)], sample_weight=[1] * 4)
    with raises("x"):
        net.loss(w, x[:0], y[:0])


def test_an_exception_of_the_data_comes_through():
    net, w, x, y, v = problem()

    def broken():
        yield x, y
        raise RuntimeError("the disk is gone")

    for call in (
        lambda: net.loss(w, broken()),
        lambda: net.hvp(w, broken(), v=v),
        lambda: net.hessian(w, broken(), block="diagonal"),
        lambda: net.at(w, broken()),
    ):
        with pytest.raises(RuntimeError, match="the disk is gone"):
            call()


@pytest.mark.parametrize(
    "block",
    ["diag", 1, (0,), (0, 1, 0), (0, 2), (-1, 0), (0.0, 1), (True, 0), (None, 0), [[0], [1]], "01"],
)
def test_a_block_that_is_not_there_is_named(block):
    net, w, x, y, _ = problem()
    point = net.at(w, x, y)
    for matrix in (point.hessian, point.gauss_newton, point.fisher()):
        with raises("block") as caught:
            matrix.dense(block=block)
        assert repr(block) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values"),
    [("order", [-1, 4, 1.5, True, "2", None, 10**40]), ("kind", ["exactly", None, 0, True])],
)
def test_an_option_that_is_not_there_is_named(name, values):
    net, w, x, y, v = problem()
    point = net.at(w, x, y)
    method = {"order": lambda **given: point.taylor(v, **given), "kind": point.fisher}[name]
    for value in values:
        with raises(name):
            method(**{name: value})


@pytest.mark.parametrize(
    "call",
    [
        lambda net, w, x, y: net.hessian(w, x, y),
        lambda net, w, x, y: net.at(w, x, y).gauss_newton.dense(),
        lambda net, w, x, y: net.hessian(w, x, y, block=(1, 0)),
        lambda net, w, x, y: net.hessian(w, x, y, block="diagonal"),
        lambda net, w, x, y: net.at(w, np.zeros((1000, 2000))).jacobian(),
        lambda net, w, x, y: net.at(
            w, np.zeros((10**6, 1)), np.zeros((10**6, 1))
        ).per_sample_gradients(),
    ],
    ids=["hessian", "gauss_newton", "block", "diagonal", "jacobian", "per_sample_gradients"],
)
def test_absurd_sizes_are_refused_with_their_bytes(call, request):
    narrow = "per_sample" in request.node.name
    net = MLP((1, 2_000_000, 1)) if narrow else MLP((2000, 2000, 2000))
    x, y = np.zeros((1, net.sizes[0])), np.zeros((1, net.sizes[-1]))
    with pytest.raises(MemoryError, match=r"would need [\d,]+ bytes \([\d.e+]+ [TP]iB\) of memory"):
        call(net, np.zeros(net.parameter_count), x, y)


def test_parameters_beyond_all_memory_are_refused():
    for sizes in ((10**6, 10**7), (2**31 - 1, 2**31 - 1), [2**31 - 1] * 9):
        with pytest.raises((MemoryError, ValueError)):
            MLP(sizes).initial(seed=0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sizes", [(1, 1), (1,) * 60, (1, 300, 1), (300, 1), (1, 300), (40, 1, 40)])
def test_nets_of_any_shape_work(sizes, dtype):
    net, draw = MLP(sizes, dtype=dtype), np.random.default_rng(1)
    w, v = net.initial(seed=1, scheme="orthogonal"), draw.normal(size=net.parameter_count)
    for n in (1, 2, 17):
        x, y = draw.normal(size=(n, sizes[0])), draw.normal(size=(n, sizes[-1]))
        # Along a line the two ways to a slope agree, and all orders are there.
        series = net.at(w, x, y).taylor(v / np.linalg.norm(v))
        assert np.isfinite(series.gradient).all() and np.isfinite(series.loss).all()
        assert net.at(w, x, y).per_sample_gradients().shape == (n, net.parameter_count)
        each = net.at(w, x, y).per_sample_gradients().astype(float)
        terms = abs(each).sum(axis=0).max() * len(sizes)
        error = abs(each.sum(axis=0) - net.gradient(w, x, y)).max()
        assert error <= 1e3 * np.finfo(dtype).eps * terms


# Objects, threads, processes, signals ------------------------------------------------------------


def test_copies_and_pickles_are_the_same_net():
    settings_of = {"activation": GELU(), "loss": Huber(0.5), "reduction": "mean", "l2": 0.25}
    net, w, x, y, v = problem()
    net = MLP((3, 4, 2), dtype=np.float64, **settings_of)
    for twin in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert repr(twin) == repr(net)
        np.testing.assert_array_equal(twin.hvp(w, x, y, v), net.hvp(w, x, y, v))
    assert eval(repr(MLP((3, 4, 2))), {"MLP": MLP}) == MLP((3, 4, 2))


@pytest.mark.parametrize("activation", ["leaky_relu", LeakyReLU(0), LeakyReLU(0.3), "elu", ELU(0)])
@pytest.mark.parametrize("loss", ["huber", Huber(0.5), Loss("squared_error", factor=2.0)])
def test_what_is_shown_of_a_net_makes_it_again(activation, loss):
    net = MLP((3, 4, 2), activation=activation, loss=loss)
    names = {"LeakyReLU": LeakyReLU, "ELU": ELU, "Loss": Loss, "Huber": Huber}
    assert eval(repr(net), names | {"MLP": MLP}) == net


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))]
)
def test_copies_and_pickles_of_points_and_matrices_give_the_same_bits(again, dtype):
    _, w, x, y, v = problem()
    net, weights = MLP((3, 4, 2), l2=0.25, dtype=dtype), np.arange(len(x)) % 3
    batches = [(x, y, weights), (x + 1, y)]
    points = [net.at(w, x, y, sample_weight=weights), net.at(w, batches), net.at(w, x)]
    for point in [*points, points[0].with_all, NetProblem(net, x, y).at(w)]:
        twin = again(point)
        assert repr(twin) == repr(point) and not twin.w.flags.writeable
        np.testing.assert_array_equal(twin.jacobian(), point.jacobian())
        if point is points[2]:
            continue
        np.testing.assert_array_equal(twin.gradient, point.gradient)
        matrix = again(point.gauss_newton + 0.5)
        assert matrix.shift == 0.5 and repr(matrix) == repr(point.gauss_newton + 0.5)
        np.testing.assert_array_equal(matrix @ v, (point.gauss_newton + 0.5) @ v)
        assert matrix.inertia == (point.gauss_newton + 0.5).inertia
        assert twin.hessian.solve(v, damping=100.0).success


def run_threads(*works):
    failures = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert not any(thread.is_alive() for thread in threads) and not failures, failures


def test_threads_on_one_net_and_one_point_do_not_disturb_each_other():
    it = case("tanh", "softmax_cross_entropy", True, 3, n=50)
    net, data = it.net.engine(), it.data(float)
    kept = net.at(*data)

    def results(v):
        return [
            net.hvp(*data, v),
            net.gradient(*data),
            net.hessian(*data),
            net.at(*data).taylor(v).gradient,
            v @ kept.hessian,
            v @ kept.gauss_newton,
        ]

    alone = [results(v) for v in it.directions]

    def work(index):
        for _ in range(30):
            for ours, theirs in zip(results(it.directions[index]), alone[index], strict=True):
                np.testing.assert_array_equal(ours, theirs)

    run_threads(*[lambda index=index: work(index) for index in (0, 1, 2, 0)])


def test_a_net_may_be_freed_while_its_point_lives():
    net, w, x, y, v = problem()
    kept, expected = net.at(w, x, y), net.hvp(w, x, y, v)
    del net, w, x, y
    for _ in range(3):
        MLP((30, 40, 20)).gradient(np.zeros(2060), np.zeros((9, 30)), np.zeros((9, 20)))
    assert abs(v @ kept.hessian - expected).max() <= 1e-12 * abs(expected).max()


CHILDREN = """
import multiprocessing, sys
import numpy as np
from swiftnets import MLP, _core

def work(net):
    draw = np.random.RandomState(3)
    w, x, y = draw.randn(net.parameter_count), draw.randn(300, 30), draw.randn(300, 20)
    kept, rows = net.at(w, x, y), np.stack([w, x.ravel()[:len(w)]])
    return b"".join(a.tobytes() for a in (
        net.gradient(w, x, y), net.hvp(w, x, y, w), rows @ kept.hessian,
        net.hessian(w, x, y, block=(1, 1)), kept.taylor(w).gradient))

if __name__ == "__main__":
    _core.set_threads(2)
    nets = [MLP((30, 40, 20), activation=a) for a in ("tanh", "relu", "gelu")]
    expected = [work(net) for net in nets]
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2, initializer=_core.set_threads, initargs=(2,)) as pool:
        assert pool.map(work, nets) == expected
    assert [work(net) for net in nets] == expected
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_nets_go_to_other_processes_and_give_the_same_bits(method, tmp_path):
    script = tmp_path / "children.py"
    script.write_text(CHILDREN)
    done = subprocess.run(
        [sys.executable, script, method], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["fourth", "hvp", "kept"])
def test_ctrl_c_ends_a_long_call_and_leaves_a_net_that_works(method):
    """Minutes of work, unless it is ended."""
    net, draw = MLP((64, 64, 64, 10)), np.random.default_rng(2)
    w = net.initial(seed=0)
    x, y = draw.normal(size=(40_000, 64)), draw.normal(size=(40_000, 10))
    rows = np.broadcast_to(w, (2000, len(w)))
    kept = net.at(w, x[:20], y[:20]) if method != "kept" else net.at(w, x, y)
    call = {
        "fourth": lambda: net.at(w, x, y).fourth(w, w, rows[:400]),
        "hvp": lambda: net.hvp(w, x, y, rows),
        "kept": lambda: rows @ kept.hessian,
    }[method]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, before)
    few = x[:20], y[:20]
    twin = MLP((64, 64, 64, 10))
    np.testing.assert_array_equal(net.hvp(w, *few, w), twin.hvp(w, *few, w))
    if method != "kept":
        np.testing.assert_array_equal(w @ kept.hessian, w @ twin.at(w, *few).hessian)
