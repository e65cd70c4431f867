"""Activations of one's own: the built-in ones once more, and what can go wrong with them."""

import copy
import gc
import json
import os
import pickle
import re
import signal
import threading
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from mlp_reference import assert_near, bound

from swiftnets import MLP, CheckpointError, Network, _core, critical, dynamics
from swiftnets.interop.torch import to_torch
from swiftnets.nets import (
    Conv2d,
    CustomActivation,
    Dense,
    Flatten,
    MeanOverPositions,
    Residual,
    Softplus,
    Tanh,
)
from swiftnets.optimizers import KFAC, LevenbergMarquardt
from swiftnets.problems import NetProblem


def slope(a):
    return 1 / np.cosh(a) ** 2


def logistic(a):
    return 1 / (1 + np.exp(-a))


def bell(a):
    return logistic(a) * logistic(-a)


def third(a):
    return slope(a) * (4 - 6 * slope(a))


def second(a):
    return -2 * np.tanh(a) * slope(a)


FUNCTIONS = {
    "tanh": (
        *(np.tanh, slope, second, third),
        lambda a: np.tanh(a) * slope(a) * (24 * slope(a) - 8),
    ),
    "sine": (np.sin, np.cos, lambda a: -np.sin(a), lambda a: -np.cos(a), np.sin),
    "softplus": (
        *(lambda a: np.logaddexp(0, a), logistic, bell),
        lambda a: -bell(a) * np.tanh(a / 2),
        lambda a: bell(a) * (1 - 6 * bell(a)),
    ),
}
FUNCTIONS["softplus"] = tuple(
    # NumPy's constants are of float64 where they are no Python numbers.
    (lambda a, f=f: f(a).astype(a.dtype))
    for f in FUNCTIONS["softplus"]
)
DTYPES = (np.float64, np.float32)


def own(name="tanh", order=4):
    return CustomActivation(f"own {name}", *FUNCTIONS[name][: order + 1])


def chain(activation, dtype=np.float64):
    return MLP(
        (6, 40, 30, 3), activation=activation, loss="softmax_cross_entropy", dtype=dtype, l2=0.5
    )


def layers(activation, dtype=np.float64):
    body = [Conv2d(1, 4, 2), activation, Residual([Conv2d(4, 4, 1), activation])]
    return Network(
        [*body, Flatten(), Dense(16, 8), activation, Dense(8, 3)],
        input_shape=(1, 3, 3),
        loss="softmax_cross_entropy",
        dtype=dtype,
    )


def data(net, n=700, seed=0):
    """Enough samples for several threads."""
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(n, *net.input_shape)), random.integers(3, size=n)
    return net.initial(seed), x, y, random.normal(size=(3, net.parameter_count)) / 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("make", [chain, layers])
def test_they_give_what_the_built_in_ones_give(make, name, dtype):
    net, other = make(own(name), dtype), make(name, dtype)
    w, x, y, (u, v, s) = data(net)
    mine, theirs = net.at(w, x, y), other.at(w, x, y)
    calls = {
        "loss": (0, lambda n, p: n.loss(w, x, y)),
        "outputs": (0, lambda n, p: n.predict(w, x)),
        "gradient": (1, lambda n, p: n.gradient(w, x, y)),
        "sample gradients": (1, lambda n, p: p.per_sample_gradients()[:20]),
        "jacobian": (1, lambda n, p: p.jacobian()[:20]),
        "jvp": (1, lambda n, p: p.jvp(v)),
        "hvp": (2, lambda n, p: n.hvp(w, x, y, v)),
        "product": (2, lambda n, p: p.hessian @ v),
        "hessian": (2, lambda n, p: n.hessian(w, x, y)),
        "gauss_newton": (2, lambda n, p: p.gauss_newton.dense()),
        "diagonal": (2, lambda n, p: p.hessian.diagonal()),
        "third": (3, lambda n, p: p.third(u, v)),
        "fourth": (4, lambda n, p: p.fourth(u, v, s)),
        "taylor": (4, lambda n, p: p.taylor(v).gradient),
    }
    sizes = chain(Tanh()).sizes if make is chain else (16, 8, 16, 8, 3)
    for order, call in calls.values():
        # Twice the engine's bound, and formulas whose terms cancel in place of its own.
        few = 8 * bound(type("Sizes", (), {"sizes": sizes}), len(x), dtype, order)
        assert_near(call(net, mine), call(other, theirs), few)


@pytest.mark.parametrize("make", [chain, layers])
def test_they_are_called_on_the_calling_thread_alone_whatever_the_count_of_threads(make):
    seen = set()

    def value(a):
        seen.add(threading.get_ident())
        return np.tanh(a)

    net = make(CustomActivation("watched", value, *FUNCTIONS["tanh"][1:]))
    w, x, y, (u, v, _) = data(net)
    seen.clear()
    before = _core.get_threads()
    try:
        found = []
        for threads in (2, 4):
            _core.set_threads(threads)
            point = net.at(w, x, y)
            found.append([net.gradient(w, x, y), point.hessian @ v, point.third(u, v)])
    finally:
        _core.set_threads(before)
    assert seen == {threading.get_ident()}
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)


# The check ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("change", [1e-8, 1.0, -2.0])
def test_a_wrong_derivative_is_found(name, order, change):
    functions = list(FUNCTIONS[name])
    right = functions[order]
    functions[order] = lambda a: (1 + change) * right(a)
    nth = ("first", "second", "third", "fourth")[order - 1]
    before = "value" if order == 1 else f"{('first', 'second', 'third')[order - 2]} derivative"
    with pytest.raises(ValueError, match=rf"the {nth} derivative of 'x' is .* at -?\d") as caught:
        CustomActivation("x", *functions)
    assert f"where differences of the {before} give" in str(caught.value)


def test_a_derivative_that_is_wrong_in_one_place_is_found_there():
    def bumped(a):
        return slope(a) + 1e-6 * np.exp(-(((a - 1.0625) * 20) ** 2)).astype(a.dtype)

    with pytest.raises(ValueError, match=r"at 1\.0625, where"):
        CustomActivation("x", np.tanh, bumped)


@pytest.mark.parametrize(
    "functions",
    [
        (lambda a: np.tanh(30 * a), lambda a: 30 * slope(30 * a)),
        (lambda a: np.sin(15 * a), lambda a: 15 * np.cos(15 * a), lambda a: -225 * np.sin(15 * a)),
        (np.exp, np.exp, np.exp, np.exp, np.exp),
        (lambda a: 1e9 * a**3, lambda a: 3e9 * a**2, lambda a: 6e9 * a),
        (lambda a: np.where(a > 0, a, 0 * a), lambda a: (a > 0).astype(a.dtype)),
        (np.abs, np.sign, lambda a: 0 * a),
        (lambda a: 0 * a, lambda a: 0 * a),
        (lambda a: a / np.sqrt(1 + a * a), lambda a: (1 + a * a) ** -1.5),
    ],
)
def test_right_derivatives_are_taken_though_they_are_steep_or_have_kinks(functions):
    with np.errstate(all="raise"):
        assert CustomActivation("x", *functions).functions == functions


@pytest.mark.parametrize(
    ("functions", "error", "words"),
    [
        ((np.tanh,), TypeError, "0 derivatives are given; expected the first"),
        ((np.tanh, *[slope] * 5), TypeError, "5 derivatives are given"),
        ((np.tanh, 1.0), TypeError, "the first derivative is of type float; expected a function"),
        ((np.tanh, lambda a: 1.0), TypeError, "first derivative of 'x' returns .* type float"),
        ((np.tanh, lambda a: slope(a)[:3]), TypeError, r"returns an array \(3,\) of float32"),
        ((np.tanh, lambda a: slope(a)[:, None]), TypeError, r"returns an array \(64, 1\)"),
        ((np.tanh, lambda a: slope(a) * 1j), TypeError, "of complex"),
        ((lambda a: a > 0, slope), TypeError, "the value of 'x' returns .* of bool"),
        ((lambda a: np.ma.masked_less(a, 0), slope), TypeError, "of type MaskedArray for"),
        ((np.log, lambda a: 1 / a), ValueError, "the value of 'x' is nan at -3.9375; .*finite"),
        ((lambda a: a / abs(a).max(), slope), ValueError, "where an array has other entries"),
        ((lambda a: np.add(a, 1, out=a), slope), ValueError, "read-only"),
    ],
)
def test_functions_are_checked(functions, error, words):
    with pytest.raises(error, match=words):
        CustomActivation("x", *functions)


@pytest.mark.parametrize("make", [chain, layers])
@pytest.mark.parametrize("is_common", [False, True])
def test_functions_may_fill_one_array_again_and_again(make, is_common):
    arrays = {}

    def filling(k, function):
        def fill(a):
            key = 0 if is_common else k, a.size, a.dtype
            out = arrays.setdefault(key, np.empty_like(a))
            out[:] = function(a)
            return out

        return fill

    functions = FUNCTIONS["tanh"]
    net = make(CustomActivation("x", *[filling(k, f) for k, f in enumerate(functions)]))
    w, x, y, (u, v, s) = data(net)
    point, expected = net.at(w, x, y), make(own()).at(w, x, y)
    assert point.loss == expected.loss
    np.testing.assert_array_equal(point.third(u, v), expected.third(u, v))
    np.testing.assert_array_equal(point.fourth(u, v, s), expected.fourth(u, v, s))


@pytest.mark.parametrize(
    ("name", "error"),
    [("tanh", ValueError), ("Swish", ValueError), ("", ValueError), (1, TypeError)],
)
def test_names_are_checked(name, error):
    with pytest.raises(error, match="name is"):
        CustomActivation(name, np.tanh, slope)


@pytest.mark.parametrize("make", [chain, layers])
@pytest.mark.parametrize(("given", "nth"), [(1, "second"), (2, "third"), (3, "fourth")])
def test_a_call_that_takes_more_derivatives_than_there_are_names_the_one_it_lacks(make, given, nth):
    net = make(own(order=given))
    w, x, y, (u, v, s) = data(net, 5)
    calls = [
        lambda: net.gradient(w, x, y),
        lambda: net.hessian(w, x, y),
        lambda: net.at(w, x, y).third(u, v),
        lambda: net.at(w, x, y).fourth(u, v, s),
    ]
    for call in calls[:given]:
        call()
    with pytest.raises(
        ValueError, match=rf"CustomActivation\('own tanh'\) .* takes the {nth} deriv"
    ):
        calls[given]()


# Exceptions, signals, threads, forks -------------------------------------------------------------


class Failing:
    """A value that raises in its n-th call from when it is told to."""

    def __init__(self, error):
        self.error, self.left = error, None

    def __call__(self, a):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.error()
        return np.tanh(a)


@pytest.mark.parametrize("make", [chain, layers])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_what_a_function_raises_ends_the_call_and_the_net_goes_on(make, after):
    def error():
        raise ZeroDivisionError("of one's own")

    value = Failing(error)
    net = make(CustomActivation("x", value, *FUNCTIONS["tanh"][1:]))
    w, x, y, (u, v, s) = data(net)
    expected = net.gradient(w, x, y)
    for call in (
        lambda: net.predict(w, x),
        lambda: net.loss(w, x, y),
        lambda: net.gradient(w, x, y),
        lambda: net.hvp(w, x, y, v),
        lambda: net.hessian(w, x, y),
        lambda: net.at(w, x, y).hessian @ v,
        lambda: net.at(w, x, y).third(u, v),
        lambda: net.at(w, x, y).fourth(u, v, s),
        lambda: net.at(w, x).jacobian(),
    ):
        value.left = after
        with pytest.raises(ZeroDivisionError, match="of one's own") as caught:
            call()
        # What it was given can still be looked at.
        frame = caught.traceback[-2].frame
        assert np.isfinite(frame.f_locals["a"]).any()
        value.left = None
    np.testing.assert_array_equal(net.gradient(w, x, y), expected)


def test_what_ends_an_iteration_ends_the_call_as_well():
    def error():
        raise StopIteration("of one's own")

    value = Failing(error)
    net = chain(CustomActivation("x", value, slope))
    w, x, _, _ = data(net)
    value.left = 0
    with pytest.raises(StopIteration, match="of one's own"):
        net.predict(w, x)


@pytest.mark.parametrize("make", [chain, layers])
def test_ctrl_c_in_a_function_ends_the_call(make):
    value = Failing(lambda: signal.raise_signal(signal.SIGINT))
    net = make(CustomActivation("x", value, *FUNCTIONS["tanh"][1:]))
    w, x, y, _ = data(net)
    expected = net.gradient(w, x, y)
    value.left = 1
    with pytest.raises(KeyboardInterrupt):
        net.gradient(w, x, y)
    value.left = None
    np.testing.assert_array_equal(net.gradient(w, x, y), expected)


@pytest.mark.parametrize("make", [chain, layers])
def test_threads_may_use_one_net_at_once(make):
    net = make(own())
    w, x, y, (u, v, _) = data(net)
    expected = [net.gradient(w, x, y), net.at(w, x, y).third(u, v)]
    same = []

    def work():
        for _ in range(4):
            found = [net.gradient(w, x, y), net.at(w, x, y).third(u, v)]
            same.append(all(map(np.array_equal, found, expected)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 16


@pytest.mark.parametrize("make", [chain, layers])
def test_a_child_of_a_fork_uses_the_net(make):
    net = make(own())
    w, x, y, (_, v, _) = data(net)
    expected = net.hvp(w, x, y, v).tobytes()
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if net.hvp(w, x, y, v).tobytes() == expected else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_child_that_a_function_forks_gets_an_error_and_the_parent_its_numbers():
    forked = []

    def value(a):
        if forked == [None]:
            forked[0] = os.fork()
        return np.tanh(a)

    net = chain(CustomActivation("x", value, slope))
    w, x, y, _ = data(net)
    expected = net.gradient(w, x, y)
    forked.append(None)
    try:
        found = net.gradient(w, x, y)
    except RuntimeError as error:
        os._exit(3 if forked == [0] and "forked" in str(error) else 4)
    if forked == [0]:
        os._exit(5)
    np.testing.assert_array_equal(found, expected)
    assert os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1]) == 3


def test_a_function_may_itself_be_a_net():
    inner = MLP((1, 1), output_activation=own(), bias=False)

    def tangent(a):
        return inner.at([1.0], a.astype(float)[:, None]).jacobian()[:, 0, 0]

    def value(a):
        return inner.predict([1.0], a.astype(float)[:, None])[:, 0]

    # s(w a) at w = 1 in w is a s'(a).
    outer = CustomActivation("x", value, lambda a: np.where(a == 0, 1, tangent(a) / (a + (a == 0))))
    net, other = chain(outer), chain("tanh")
    w, x, y, _ = data(net)
    assert_near(net.gradient(w, x, y), other.gradient(w, x, y), 1e-12)


# What else a net has -----------------------------------------------------------------------------


def test_functions_live_as_long_as_a_net_or_a_point_of_it():
    class Value:
        def __call__(self, a):
            return np.tanh(a)

    value = Value()
    seen = weakref.ref(value)
    net = chain(CustomActivation("x", value, *FUNCTIONS["tanh"][1:]))
    del value
    w, x, y, (_, v, _) = data(net)
    point = net.at(w, x, y)
    expected = point.hessian @ v
    del net
    gc.collect()
    np.testing.assert_array_equal(point.hessian @ v, expected)
    del point
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("make", [chain, layers])
def test_what_holds_a_net_may_have_its_functions_as_methods(make):
    class Model:
        def __init__(self):
            self.net = make(CustomActivation("x", self.value, slope, second))
            w, x, y, _ = data(self.net)
            self.hessian = self.net.at(w, x, y).hessian

        def value(self, a):
            return np.tanh(a)

    model = Model()
    seen, hessian, expected = weakref.ref(model), model.hessian, model.hessian.diagonal()
    del model
    gc.collect()
    np.testing.assert_array_equal(hessian.diagonal(), expected)
    del hessian
    gc.collect()
    assert seen() is None


def test_functions_need_no_hash():
    @dataclass
    class Square:
        factor: float

        def __call__(self, a):
            return self.factor * a * a

    net = MLP((2, 3, 3, 1), activation=CustomActivation("square", Square(2.0), lambda a: 4 * a))
    other = MLP((2, 3, 3, 1), activation=["tanh", net.activations[0]])
    assert "activation=CustomActivation('square')," in repr(net)
    assert "activation=['tanh', CustomActivation('square')]," in repr(other)
    with pytest.raises(TypeError, match="unhashable type: 'Square'"):
        hash(net)
    np.testing.assert_array_equal(net.gradient(net.initial(seed=0), [[0, 0]], [0]), 0)


def test_nets_are_copied_and_pickled_with_their_functions():
    functions = np.tanh, slope, second, third
    one = CustomActivation("mine", *functions)
    assert one == CustomActivation("mine", *functions) and hash(one) == hash(copy.copy(one))
    assert one != CustomActivation("mine", *functions[:3]) and one != Tanh()
    for net in (chain(one), layers(one)):
        w, x, y, _ = data(net, 9)
        for again in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net), net.astype(net.dtype)):
            np.testing.assert_array_equal(again.gradient(w, x, y), net.gradient(w, x, y))
            assert again.settings() == net.settings()
        assert "CustomActivation('mine')" in repr(net) and "'mine'" in str(net.settings())
        assert net.settings() != type(net).settings(
            chain("tanh") if "sizes" in net.settings() else layers("tanh")
        )
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(chain(CustomActivation("x", lambda a: a, lambda a: 0 * a + 1)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [chain, layers])
def test_nets_are_saved_with_names_and_loaded_with_functions(make, dtype, tmp_path):
    one, path = own(), tmp_path / "net.npz"
    net = make(one, dtype)
    w, x, y, _ = data(net, 9)
    net.save(path, w)
    again, found = type(net).load(path, activations=[one])
    assert again == net and found.tobytes() == w.tobytes()
    np.testing.assert_array_equal(again.gradient(found, x, y), net.gradient(w, x, y))

    def rounded(a):  # as another machine may have it
        return np.tanh(a) * (1 + np.finfo(a.dtype).eps)

    other, _ = Network.load(path, activations=(CustomActivation("own tanh", rounded, slope),))
    assert other.settings() != net.settings()
    assert_near(other.gradient(w, x, y), net.gradient(w, x, y), 64 * np.finfo(dtype).eps)


def test_several_activations_are_given_in_any_order(tmp_path):
    path, given = tmp_path / "net.npz", [own("tanh"), own("sine"), own("softplus")]
    net = MLP((2, 3, 3, 3, 1), activation=[given[0], "relu", given[1]], output_activation=given[2])
    net.save(path, net.initial(seed=0))
    assert MLP.load(path, activations=given[::-1])[0] == net


@pytest.mark.parametrize("make", [chain, layers])
def test_activations_that_a_file_does_not_name_are_refused(make, tmp_path):
    path, net, one = tmp_path / "net.npz", make(own()), own()
    net.save(path, net.initial(seed=0))
    renamed = CustomActivation("other", *one.functions)
    for given in ((), [renamed], [one, renamed]):
        names = re.escape(str(sorted(each.name for each in given)))
        match = rf"^activations has the names {names}; expected \['own tanh'\]: .*net\.npz"
        with pytest.raises(CheckpointError, match=match):
            Network.load(path, activations=given)
    another = CustomActivation("own tanh", *FUNCTIONS["sine"])
    with pytest.raises(CheckpointError, match=r"^activations: 'own tanh' is .*; expected the same"):
        Network.load(path, activations=[another])
    builtin = make("tanh")
    builtin.save(path, builtin.initial(seed=0))
    with pytest.raises(CheckpointError, match=r"has the names \['own tanh'\]; expected \[\]"):
        Network.load(path, activations=[one])


def test_activations_of_the_wrong_kind_are_named(tmp_path):
    path, one = tmp_path / "net.npz", own()
    for given, what in ((one, "activations is of type CustomActivation"), ("x", "type str")):
        with pytest.raises(TypeError, match=f"{what}; expected a sequence of CustomActivation"):
            MLP.load(path, activations=given)
    with pytest.raises(TypeError, match=r"^activations\[1\] is of type Activation; expected"):
        MLP.load(path, activations=[one, Tanh()])
    with pytest.raises(ValueError, match=r"^activations\[1\] is .*'own tanh'\), as one before"):
        MLP.load(path, activations=[one, own()])
    two = [one, CustomActivation("own tanh", *FUNCTIONS["sine"])]
    with pytest.raises(
        ValueError, match=r"two CustomActivation\('own tanh'\), whose values differ"
    ):
        MLP((1, 1, 1, 1), activation=two).save(path, np.zeros(6))
    assert not path.exists()


@pytest.mark.parametrize("make", [chain, layers])
def test_files_with_other_numbers_of_an_activation_are_damaged(make, tmp_path):
    path, one, net = tmp_path / "net.npz", own(), make(own())
    net.save(path, net.initial(seed=0))
    with np.load(path) as file:
        header, w = json.loads(file["header"].tobytes()), file["w"]
    values = header["settings"]["activations"]["own tanh"]
    text = json.dumps(header)
    for old, new in (
        (json.dumps(values), "[]"),
        (json.dumps(values), json.dumps([*values[1:], float("nan")])),
        (json.dumps(values), '"import os"'),
        ('{"own tanh": ', '{"other": '),
        ('["own tanh", null]', '["tanh", 0.0]'),
        ('["CustomActivation", {"name": "own tanh", ', '["CustomActivation", {"name": "other", '),
        ("null", '"import os"'),
    ):
        if old not in text:  # the settings of the other class
            continue
        bent = np.frombuffer(text.replace(old, new).encode(), np.uint8)
        with open(path, "wb") as file:
            np.savez(file, header=bent, w=w)
        match = "has the names" if "other" in new and old.startswith("{") else "is damaged or no"
        with pytest.raises(CheckpointError, match=match):
            Network.load(path, activations=[one])


def test_nets_are_equal_if_their_functions_are_the_same_objects():
    assert "they count as the same if they are the same objects" in Network.__doc__
    functions = [(lambda a: a * a, lambda a: 2 * a) for _ in range(2)]
    one, other = (chain(CustomActivation("square", *two)) for two in functions)
    assert one == chain(CustomActivation("square", *functions[0])) != other
    assert one.settings() == other.settings()


def test_what_does_not_know_the_function_says_so():
    net = MLP((2, 3, 1), activation=own("softplus"))
    w, x, y = net.initial(seed=0), np.ones((2, 2)), np.ones((2, 1))
    with pytest.raises(
        NotImplementedError, match=r"has none of CustomActivation\('own softplus'\)"
    ):
        critical.certify(net.at(w, x, y))
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match="'own softplus', which PyTorch has no module for"):
        to_torch(net, w)


def test_solvers_optimisers_and_dynamics_take_such_nets():
    net, other = (MLP((2, 4, 1), activation=a, l2=0.1) for a in (own("softplus"), Softplus()))
    random = np.random.default_rng(1)
    x, y, w = random.normal(size=(20, 2)), random.normal(size=(20, 1)), net.initial(seed=1)
    points = [one.at(w, x, y) for one in (net, other)]
    for ask in (
        lambda point: (point.hessian + 3.0).solve(point.gradient, method="layered").solution,
        lambda point: (point.hessian + 3.0).solve(point.gradient, method="dense").solution,
        lambda point: dynamics.leading_eigenpairs(point, k=2).values,
    ):
        mine, theirs = map(ask, points)
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)
    for optimizer in (LevenbergMarquardt(), KFAC()):
        mine, theirs = (
            optimizer.minimize(NetProblem(one, x, y), w, max_iterations=3).w for one in (net, other)
        )
        np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-7)


def test_settings_tell_functions_of_one_name_apart_by_their_values():
    def of(scale):
        functions = (lambda a: scale * a, lambda a: 0 * a + scale, lambda a: 0 * a)
        return CustomActivation("line", *functions)

    for make in (
        lambda one: MLP((2, 3, 1), activation=one),
        lambda one: Network([Dense(2, 3), one, MeanOverPositions(), Dense(3, 1)], (4, 2)),
    ):
        first, same, other = (make(of(scale)).settings() for scale in (1.0, 1.0, 2.0))
        assert first == same != other and json.loads(json.dumps(first)) == first


def test_a_class_may_have_the_name_of_a_hash(tmp_path):
    one = own("sine")
    net = MLP((1, 2, 2), activation=one, loss="softmax_cross_entropy", classes=list(one.key))
    net.save(tmp_path / "net.npz", net.initial(seed=0))
    assert MLP.load(tmp_path / "net.npz", activations=[one])[0] == net
