"""JAX's arrays, in without copies, and results as JAX's arrays by DLPack."""

import numpy as np
import pytest

from swiftnets import MLP, Network
from swiftnets._support import checks
from swiftnets.nets import Embedding, MeanOverPositions

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

N, SIZES = 6, (3, 4, 2)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def data(dtype):
    net = MLP(SIZES, loss="softmax_cross_entropy", reduction="mean", l2=0.1, dtype=dtype)
    rng = np.random.default_rng(0)
    w, v, x = net.initial(seed=0), rng.standard_normal(26), rng.standard_normal((N, 3))
    y, weights = rng.dirichlet([1, 1], N), rng.random(N)
    return net, *(np.asarray(a, dtype) for a in (w, v, x, y, weights))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays_are_read_where_jax_has_them(dtype):
    for given in (jnp.ones(4096, dtype), jnp.ones((64, 64), dtype) * 2, jnp.ones((1, 1), dtype)):
        found = checks.array(given, "x", given.shape, np.dtype(dtype))
        assert found.ctypes.data == given.unsafe_buffer_pointer()
        assert found.dtype == dtype and not found.flags.writeable


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_all_arguments_may_be_jaxs(dtype):
    net, *arrays = data(dtype)
    w, v, x, y, s = arrays
    jw, jv, jx, jy, js = map(jnp.asarray, arrays)
    assert jw.dtype == dtype
    ours, theirs = net.at(w, x, y, sample_weight=s), net.at(jw, jx, jy, sample_weight=js)
    assert theirs.loss == ours.loss == net.loss(jw, jx, jy, sample_weight=js)
    for one, other in (
        (ours.gradient, theirs.gradient),
        (ours.hessian @ v, theirs.hessian @ jv),
        (net.hvp(w, x, y, v), net.hvp(jw, jx, jy, jv)),
        (ours.third(v, v), theirs.third(jv, jv)),
        (v[None] @ ours.hessian, jv[None] @ theirs.hessian),
        (net.predict(w, x), net.predict(jw, jx)),
    ):
        np.testing.assert_array_equal(other, one)
        assert type(other) is np.ndarray and other.dtype == dtype
    assert net.loss(jw, [(jx[:2], jy[:2]), (jx[2:], jy[2:])]) == net.loss(
        w, [(x[:2], y[:2]), (x[2:], y[2:])]
    )


def test_integers_are_labels_and_tokens():
    net = Network([Embedding(5, 2), MeanOverPositions()], 3, loss="softmax_cross_entropy")
    w = net.initial(seed=0)
    tokens, labels = np.array([[0, 4, 1], [2, 2, 3]], np.int32), np.array([1, 0])
    assert net.loss(jnp.asarray(w), jnp.asarray(tokens), jnp.asarray(labels)) == net.loss(
        w, tokens, labels
    )


def test_what_is_not_as_the_engine_takes_it_is_converted_or_refused():
    net = MLP((2, 1))
    transposed = jnp.arange(6.0).reshape(2, 3).T
    assert net.loss(np.zeros(3), transposed, jnp.ones((3, 1))) == 1.5
    assert net.loss(np.zeros(3), jnp.ones((3, 2), bool), jnp.ones((3, 1), jnp.int8)) == 1.5
    with pytest.raises(TypeError, match="x has dtype complex128"):
        net.loss(np.zeros(3), jnp.ones((3, 2)) * 1j, jnp.ones((3, 1)))
    with pytest.raises(TypeError, match="w is of type .* and makes no array"):
        net.loss(jax.random.key(0), np.ones((3, 2)), np.ones((3, 1)))
    with pytest.raises(TypeError, match="x .*makes no array"):  # there are no numbers yet
        jax.jit(lambda x: net.loss(np.zeros(3), x, np.ones((3, 1))))(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match=r"x has shape \(3, 4\)"):
        net.loss(np.zeros(3), jnp.ones((3, 4)), jnp.ones((3, 1)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_results_go_to_jax_as_its_documentation_has_it(dtype):
    net, w, v, x, y, s = data(dtype)
    point = net.at(w, x, y)
    for result in (net.gradient(w, x, y), net.hvp(w, x, y, v), point.hessian @ v, point.outputs,
                   point.hessian.dense(), point.third(v, v), net.predict(w, x)):  # fmt: skip
        taken = jax.dlpack.from_dlpack(result)
        assert taken.dtype == dtype
        np.testing.assert_array_equal(taken, result)
    # Read-only, which JAX does not take by DLPack.
    taken = jnp.asarray(point.gradient)
    assert taken.dtype == dtype
    np.testing.assert_array_equal(taken, point.gradient)


def test_one_calls_the_engine_within_a_jitted_function():
    net, w, v, x, y, s = data(np.float64)
    shape = jax.ShapeDtypeStruct(w.shape, w.dtype)

    @jax.jit
    def halved(w, v):
        return jax.pure_callback(lambda w, v: net.hvp(w, x, y, v), shape, w, v) / 2

    np.testing.assert_array_equal(halved(w, v), net.hvp(w, x, y, v) / 2)
