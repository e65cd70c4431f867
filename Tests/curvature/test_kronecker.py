"""Kronecker factors: drawn targets, eigenbases, EKFAC's rescaling, and the audit."""

import itertools

import numpy as np
import pytest
import scipy.linalg

from swiftnets import MLP
from swiftnets.curvature import (
    KroneckerEigenbasis,
    KroneckerFactors,
    kronecker,
    kronecker_audit,
    kronecker_factors,
)
from swiftnets.nets.losses import Huber

EPS = np.finfo(float).eps
LOSSES = ["squared_error", "binary_cross_entropy", "softmax_cross_entropy", Huber(0.5)]


def a_point(loss="softmax_cross_entropy", samples=6, weights=None, rows=False, **options):
    options = {"l2": 0.01, "reduction": "mean", **options}
    net = MLP((3, 4, 3), loss=loss, **options)
    random = np.random.default_rng(5)
    x = random.standard_normal((samples, 3))
    if loss == "softmax_cross_entropy" and not rows:
        y = random.integers(0, 3, samples)
    else:
        y = random.uniform(0.1, 0.9, (samples, 3))  # rows that do not sum to 1, for softmax
    return net.at(1.5 * net.initial(seed=2), x, y, sample_weight=weights)


def full(factors, net):
    """The matrix, by NumPy's Kronecker product."""
    assert len(factors.inputs) == len(net.layer_slices)
    blocks = [np.kron(a, g) for a, g in zip(factors.inputs, factors.outputs, strict=True)]
    return scipy.linalg.block_diag(*blocks)


# Drawn targets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_what_is_drawn_has_the_exact_factor_as_its_mean(loss, reduction):
    weights = [1.0, 2.0, 0.0, 0.5, 3.0, 1.0]
    for rows in (False, True)[: 2 if loss == "softmax_cross_entropy" else 1]:
        point = a_point(loss, weights=weights, rows=rows, reduction=reduction)
        exact = kronecker_factors(point)
        drawn = [kronecker_factors(point, targets="sampled", seed=seed) for seed in range(400)]
        for layer, want in enumerate(exact.outputs):
            found = np.array([one.outputs[layer] for one in drawn])
            error = found.std(axis=0) / 20
            # Seeds are fixed: five standard errors, for 25 entries in all, are none by chance.
            assert (abs(found.mean(axis=0) - want) <= 5 * error + 1e-14).all()
            assert (error > 0).any()
            np.testing.assert_array_equal(drawn[0].inputs[layer], exact.inputs[layer])


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy"])
def test_what_is_drawn_is_the_gradient_of_a_target(loss):
    one = a_point(loss, samples=1, reduction="sum", l2=0.0)
    targets = [np.array([label]) for label in range(3)]
    if loss == "binary_cross_entropy":
        targets = [np.array([bits], float) for bits in itertools.product([0, 1], repeat=3)]
    x = one.samples.batches[0].x
    gradients = [one.net.at(one.w, x, target).gradient for target in targets]
    # A bias's gradient is that of the pre-activations.
    parts = zip(one.net.layer_slices, (4, 3), strict=True)
    ends = [slice(part.stop - size, part.stop) for part, size in parts]
    possible = [[np.outer(g[end], g[end]) for end in ends] for g in gradients]
    seen = set()
    for seed in range(100):
        outputs = kronecker_factors(one, targets="sampled", seed=seed).outputs
        fits = [
            number
            for number, want in enumerate(possible)
            if all(
                np.allclose(a, b, rtol=1e-12, atol=1e-15)
                for a, b in zip(outputs, want, strict=True)
            )
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert seen == set(range(len(targets)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss", ["binary_cross_entropy", "softmax_cross_entropy"])
def test_targets_of_nets_that_are_sure_are_drawn_too(loss):
    for scale, least in ((30.0, 1e-54), (800.0, 0.0)):
        net = MLP((2, 2), loss=loss, bias=False)
        point = net.at(scale * np.array([1.0, -1, -1, 1.0]), np.eye(2), [[1.0, 0], [0, 1.0]])
        (found,) = kronecker_factors(point, targets="sampled").outputs
        assert np.isfinite(found).all()
        # The likelier target's gradient, which is not rounded to 0 or to EPS.
        assert least < found[0, 0] < 1e-20 or found[0, 0] == least == 0


def test_seeds_tell_draws_apart_and_a_generator_goes_on():
    point = a_point(samples=30)
    one, same, other = (
        kronecker_factors(point, targets="sampled", seed=seed).outputs[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    random = np.random.default_rng(1)
    first, second = (
        kronecker_factors(point, targets="sampled", seed=random).outputs[0] for _ in range(2)
    )
    np.testing.assert_array_equal(first, one)
    assert (second != one).any()
    with pytest.raises(ValueError, match="^targets is 'sample'; expected 'exact' or 'sampled'"):
        kronecker_factors(point, targets="sample")
    with pytest.raises(ValueError, match="^seed is -1"):
        kronecker_factors(point, targets="sampled", seed=-1)


@pytest.mark.parametrize("targets", ["exact", "sampled"])
def test_chunks_are_summed(targets, monkeypatch):
    point = a_point(samples=25)
    whole = kronecker_factors(point, targets=targets)
    basis = whole.eigenbasis()
    moments = basis.rescaled(point, targets=targets)
    monkeypatch.setattr(kronecker, "_CHUNK", 50)
    cut = kronecker_factors(point, targets=targets), basis.rescaled(point, targets=targets)
    for one, other in zip(whole.outputs, cut[0].outputs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=100 * EPS * abs(one).max())
    for one, other in zip(moments.values, cut[1].values, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=100 * EPS * abs(one).max())


# Eigenbases ---------------------------------------------------------------------------------------


def test_an_eigenbasis_is_the_same_matrix():
    point = a_point(samples=20)
    factors = kronecker_factors(point)
    basis = factors.eigenbasis()
    matrix = full(factors, point.net)
    size = np.linalg.norm(matrix, 2)
    np.testing.assert_allclose(
        scipy.linalg.block_diag(*basis.dense()), matrix, rtol=0, atol=100 * EPS * size
    )
    v = np.random.default_rng(0).standard_normal((2, basis.order))
    want = np.linalg.solve(matrix + 0.1 * np.eye(basis.order), v.T).T
    # The condition is size / 0.1, twice.
    for inverse in (basis.inverse(0.1), factors.inverse(0.1)):
        np.testing.assert_allclose(inverse(v), want, rtol=0, atol=1000 * EPS * (size / 0.1) ** 2)
        np.testing.assert_array_equal(inverse(v[0]), inverse(v[:1])[0])


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_rescaled_values_are_the_diagonal_of_the_blocks(loss):
    point = a_point(loss, samples=20, weights=np.arange(20.0), l2=0.0)
    basis = kronecker_factors(point).eigenbasis()
    rescaled = basis.rescaled(point)
    exact = point.gauss_newton.dense("diagonal")
    for layer, block in enumerate(exact):
        turn = np.kron(basis.inputs[layer], basis.outputs[layer])
        want = np.diag(turn.T @ block @ turn).reshape(basis.values[layer].shape)
        size = np.linalg.norm(block, 2)
        np.testing.assert_allclose(rescaled.values[layer], want, rtol=0, atol=100 * EPS * size)
        # The nearest matrix of this form; rounding alone where a block has it.
        plain, ours = (np.linalg.norm(b.dense()[layer] - block) for b in (basis, rescaled))
        assert ours < max(plain, 100 * EPS * size)
    drawn = basis.rescaled(point, targets="sampled", seed=3)
    alien = KroneckerFactors((np.eye(1),), (np.eye(1),)).eigenbasis()
    assert (drawn.values[0] != rescaled.values[0]).any()
    with pytest.raises(ValueError, match=r"^point is of a net whose layers are \[\(4, 4\), \(5, 3"):
        alien.rescaled(point)


# The audit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_audit_says_what_dense_algebra_says(dtype):
    point = a_point(samples=40, dtype=dtype) if dtype == np.float64 else a_single_point()
    factors = kronecker_factors(point)
    exact = point.gauss_newton.dense().astype(float)
    l2, damping = point.net.l2, 0.03
    bare = exact - l2 * np.eye(len(exact))
    matrix = full(factors, point.net)
    audit = kronecker_audit(factors, point.gauss_newton, damping=damping)
    few = 1e-12 if dtype == np.float64 else 1e-5
    assert audit.frobenius_error == pytest.approx(
        np.linalg.norm(matrix - bare) / np.linalg.norm(bare), rel=few
    )
    eye = np.eye(len(exact))
    eigenvalues = scipy.linalg.eigh(
        exact + damping * eye, matrix + (l2 + damping) * eye, eigvals_only=True
    )
    np.testing.assert_allclose(audit.eigenvalues, eigenvalues, rtol=few)
    assert audit.condition == pytest.approx(eigenvalues[-1] / eigenvalues[0], rel=few)
    assert audit.plain_condition == pytest.approx(np.linalg.cond(exact + damping * eye), rel=few)
    inside = 0.0
    for part, error in zip(point.net.layer_slices, audit.block_errors, strict=True):
        own = bare[part, part]
        want = np.linalg.norm(matrix[part, part] - own) / np.linalg.norm(own)
        assert error == pytest.approx(want, rel=few)
        inside += np.linalg.norm(own) ** 2
    outside = np.sqrt(1 - inside / np.linalg.norm(bare) ** 2)
    assert audit.outside == pytest.approx(outside, rel=few)
    assert audit.damping == damping
    assert f"outside {outside:.3g}" in repr(audit)
    # A shift is in both, as l2 is.
    shifted = kronecker_audit(factors, point.gauss_newton + 0.02, damping=0.01)
    np.testing.assert_allclose(shifted.eigenvalues, audit.eigenvalues, rtol=few)
    assert shifted.frobenius_error == pytest.approx(audit.frobenius_error, rel=few)


@pytest.mark.parametrize("damping", [1e8, 1e17, 1e300])
def test_errors_of_an_audit_do_not_depend_on_damping_or_shift(damping):
    """Beside a damping the matrix may be nothing but its rounding."""
    point = a_point()
    factors = kronecker_factors(point)
    small = kronecker_audit(factors, point.gauss_newton, damping=0.1)
    for shift in (0.0, 1e12):
        large = kronecker_audit(factors, point.gauss_newton + shift, damping=damping)
        assert large.frobenius_error == pytest.approx(small.frobenius_error, rel=1e-13)
        assert large.block_errors == pytest.approx(small.block_errors, rel=1e-13)
        assert large.outside == pytest.approx(small.outside, rel=1e-13)
        assert large.eigenvalues == pytest.approx(1.0, rel=0.1)


def a_single_point():
    net = MLP((3, 4, 2), dtype=np.float32, l2=0.01, reduction="mean")
    random = np.random.default_rng(1)
    x, y = random.standard_normal((40, 3)), random.standard_normal((40, 2))
    return net.at(net.initial(seed=0), x.astype(np.float32), y.astype(np.float32))


def test_the_audit_finds_nothing_where_the_factors_are_exact():
    net = MLP((3, 2), l2=0.1)  # one layer, squared error: the same B for all samples
    x = np.random.default_rng(0).standard_normal((30, 3))
    point = net.at(net.initial(seed=0), x, np.ones((30, 2)))
    factors = kronecker_factors(point)
    audit = kronecker_audit(factors, point.gauss_newton, damping=0.0)
    assert audit.outside == 0 and audit.frobenius_error < 100 * EPS
    # To the roundings of the matrices, over the least of their eigenvalues.
    assert abs(audit.eigenvalues - 1).max() < 1000 * EPS * audit.plain_condition
    assert audit.condition < 1 + 1e-12 * audit.plain_condition < audit.plain_condition


def test_the_audit_shows_what_scalings_of_few_samples_do():
    net = MLP((8, 6, 4), loss="softmax_cross_entropy", reduction="mean")
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2000, 8)), random.integers(0, 4, 2000)
    w = net.initial(seed=0)
    point, few = net.at(w, x, y), net.at(w, x[:20], y[:20])
    basis = kronecker_factors(point, targets="sampled").eigenbasis()

    def audit(one):
        return kronecker_audit(one, point.gauss_newton, damping=1e-5)

    plain, all_of_them = audit(basis), audit(basis.rescaled(point))
    drawn = audit(basis.rescaled(few, targets="sampled"))
    # With all samples the nearest matrix of the form; few take some directions for nearly flat, and
    # a step overshoots along them.
    assert all_of_them.frobenius_error < plain.frobenius_error < drawn.frobenius_error
    assert all_of_them.eigenvalues[-1] < 1.2 * plain.eigenvalues[-1]
    assert drawn.eigenvalues[-1] > 1.3 * plain.eigenvalues[-1]


def test_what_the_audit_refuses():
    point = a_point()
    factors, matrix = kronecker_factors(point), point.gauss_newton
    for call, error, says in (
        (lambda: kronecker_audit(matrix, matrix, damping=1.0), TypeError, "^factors is of type Cu"),
        (lambda: kronecker_audit(factors, 3, damping=1.0), TypeError, "^matrix is of type int"),
        (lambda: kronecker_audit(factors, matrix, damping=-1), ValueError, "^damping is -1"),
        (lambda: kronecker_audit(factors, matrix + 1j, damping=1.0), ValueError, "^matrix has the"),
        (
            lambda: kronecker_audit(factors, matrix - 0.01, damping=0.0),
            ValueError,
            "^damping is 0, and l2 and the matrix's shift are 0; expected a sum above 0",
        ),
        (
            lambda: kronecker_audit(
                KroneckerFactors(factors.inputs[:1], factors.outputs[:1]), matrix, damping=1.0
            ),
            ValueError,
            r"^factors are of layers with \[16\] parameters; expected .* \[16, 15\]",
        ),
    ):
        with pytest.raises(error, match=says):
            call()
    assert isinstance(factors.eigenbasis(), KroneckerEigenbasis)


@pytest.mark.parametrize("scale", [2.0**-300, 2.0**300])
def test_the_audit_of_matrices_whose_squares_are_no_numbers(scale):
    """Its errors were 0 or NaN."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((9, 3)), rng.standard_normal((9, 2))

    def audited(scale):
        # A ReLU is of degree 1: every block has the scale's square.
        net = MLP((3, 2, 2), activation="relu", bias=False)
        w = net.initial(seed=0)
        point = net.at(w, scale * x, scale * y)
        return kronecker_audit(kronecker_factors(point), point.gauss_newton, damping=scale**2)

    found, known = audited(scale), audited(1.0)
    assert known.frobenius_error > 0.1
    for name in ("frobenius_error", "block_errors", "outside"):
        # The last block is exact, but for rounding.
        np.testing.assert_allclose(
            getattr(found, name), getattr(known, name), rtol=1e-12, atol=1e-15
        )
