"""Symmetric operators: functions as matrices, what products take, and NumPy's functions of them."""

import copy
import pickle

import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.linalg import DenseFactorization, FunctionOperator, cg, lanczos, minres

DOUBLE = FunctionOperator(3, lambda rows: 2 * rows)


def doubled(rows):
    return 2 * rows


def hessian():
    net = MLP((2, 3, 1))
    return net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1))).hessian


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("a", doubled), TypeError, "order is 'a'"),
        ((-1, doubled), ValueError, "order is -1"),
        ((0, doubled), ValueError, "order is 0"),
        ((3, None), TypeError, "products is None"),
        ((3, doubled, "no dtype"), TypeError, "dtype is 'no dtype'"),
        ((3, doubled, int), ValueError, "dtype is int64"),
    ],
)
def test_an_operator_of_wrong_settings_is_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=f"^{message}; expected "):
        FunctionOperator(*arguments)


@pytest.mark.parametrize(
    ("products", "error", "message"),
    [
        (lambda rows: rows[:, :2], ValueError, r"shape \(1, 2\); expected \(1, 3\)"),
        (lambda rows: rows[0], ValueError, r"shape \(3,\); expected \(1, 3\)"),
        (lambda rows: None, TypeError, "dtype object; expected float64"),
        (lambda rows: 1j * rows, TypeError, "dtype complex128; expected float64"),
    ],
)
def test_what_a_function_returns_is_checked_by_name(products, error, message):
    operator = FunctionOperator(3, products)
    for call in (lambda: operator @ np.ones(3), lambda: np.ones((1, 3)) @ operator):
        with pytest.raises(error, match=f"^products returned {message}"):
            call()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex64, np.complex128])
def test_products_have_the_dtype_of_the_operator(dtype):
    operator = FunctionOperator(3, doubled, dtype)
    assert (operator @ np.ones(3)).dtype == operator.dense().dtype == dtype
    assert repr(operator) == f"FunctionOperator(order=3, dtype={np.dtype(dtype)})"


def test_operators_of_functions_of_modules_are_copied_and_pickled():
    operator = FunctionOperator(3, doubled, np.float32)
    for twin in (copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
        assert repr(twin) == repr(operator)
        np.testing.assert_array_equal(twin.dense(), 2 * np.eye(3))


@pytest.mark.parametrize("matrix", [DOUBLE, hessian()], ids=["function", "net"])
def test_products_report_the_shapes_that_were_given(matrix):
    p = matrix.order
    for shape in ((p - 1, 5), (5, p), (p, 2, 2)):
        with pytest.raises(ValueError) as caught:
            matrix @ np.ones(shape)
        assert str(caught.value) == f"v has shape {shape}; expected ({p}, K)"
    with pytest.raises(ValueError, match=rf"^v has shape \(\); expected \({p}, K\)"):
        matrix @ 3
    with pytest.raises(ValueError, match=rf"^v has shape \(3, 5\); expected \(K, {p}\)"):
        np.ones((3, 5)) @ matrix
    assert (matrix @ np.ones((p, 0))).shape == (p, 0)


@pytest.mark.parametrize("matrix", [DOUBLE, hessian()], ids=["function", "net"])
def test_products_with_what_is_no_array_are_refused_in_words(matrix):
    for call in (lambda: matrix @ None, lambda: None @ matrix):
        with pytest.raises(TypeError, match="^v is None, or missing; expected real numbers"):
            call()
    with pytest.raises(TypeError, match=r"^v is of type \w+; expected an array \(see .dense"):
        matrix @ matrix
    with pytest.raises(TypeError, match="^v has dtype complex128"):
        matrix @ np.full((matrix.order, 2), 1j)


@pytest.mark.parametrize("matrix", [DOUBLE, hessian(), hessian() + 1j], ids=["f", "net", "complex"])
def test_numpy_takes_a_matrix_by_its_entries(matrix):
    np.testing.assert_array_equal(np.asarray(matrix), matrix.dense())
    wide = np.asarray(matrix, np.complex64)
    np.testing.assert_array_equal(wide, matrix.dense().astype(np.complex64))
    np.testing.assert_array_equal(np.linalg.eigvals(matrix), np.linalg.eigvals(matrix.dense()))
    with pytest.raises(ValueError, match="copy"):
        np.array(matrix, copy=False)


@pytest.mark.parametrize("method", [cg, minres])
def test_a_right_hand_side_of_another_length_is_named(method):
    for b in (np.ones(2), np.ones((4, 2))):
        with pytest.raises(ValueError) as caught:
            method(DOUBLE, b)
        assert str(caught.value).startswith(f"b has shape {b.shape}; expected ")
    with pytest.raises(ValueError, match=r"^start has shape \(2,\); expected \(3,\)"):
        lanczos(DOUBLE, np.ones(2), 2)


@pytest.mark.parametrize(
    ("call", "note"),
    [
        (lambda f: cg(f, np.ones(3)), "product was called with rows of shape (1, 3)."),
        (lambda f: minres(f, np.ones((2, 3))), "product was called with rows of shape (2, 3)."),
        (lambda f: lanczos(f, np.ones(3), 2), "product was called with a vector of shape (3,)."),
        (
            lambda f: cg(DOUBLE, np.ones(3), preconditioner=f),
            "preconditioner was called with rows of shape (1, 3).",
        ),
        (
            lambda f: FunctionOperator(3, f) @ np.ones(3),
            "products was called with rows of shape (1, 3).",
        ),
    ],
)
def test_a_function_that_takes_another_form_is_told_what_it_was_given(call, note):
    with pytest.raises(ValueError) as caught:
        call(lambda given: np.eye(4) @ given)
    assert caught.value.__notes__ == [note]


def test_factors_say_that_they_are_not_pickled():
    kinds = (hessian() + 1).factorize(method="layered"), DenseFactorization(np.eye(2))
    for factors in kinds:
        for call in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=f"a {type(factors).__name__} can be neither"):
                call(factors)


def test_functions_may_write_on_what_they_are_given():
    double = FunctionOperator(3, lambda rows: rows.__imul__(2))
    v, rows = np.ones(3), np.ones((2, 3))
    for given, image in ((v, double @ v), (v, v @ double), (rows, rows @ double)):
        assert (given == 1).all() and (image == 2).all()
    v.flags.writeable = False
    assert (double @ v == 2).all()
    assert not np.shares_memory(FunctionOperator(3, lambda rows: rows) @ v, v)
