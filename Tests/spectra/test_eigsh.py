"""Extremal and interior pairs against dense eigenvalues, and what is proved of them."""

import numpy as np
import pytest
from clustered import OPTIONS, clustered_hessian, images, spectrum_matrix

from swiftnets import MLP, curvature, spectra
from swiftnets.linalg import FunctionOperator, SymmetricOperator
from swiftnets.spectra import choice

P = 300
VALUES = np.sort(
    np.concatenate(
        [0.1 * np.random.default_rng(3).standard_normal(P - 13), np.full(7, 2.0), np.full(6, -1.5)]
    )
)
MATRIX = spectrum_matrix(VALUES)


def operator(matrix, dtype=np.float64):
    matrix = matrix.astype(dtype)
    return FunctionOperator(len(matrix), lambda rows: rows @ matrix, dtype)


def expected(values, which, k, sigma=None):
    away = values if sigma is None else 1 / (values - sigma)
    order = np.argsort(away)
    half = k // 2
    index = {
        "LA": order[len(order) - k :],
        "SA": order[:k],
        "LM": np.argsort(-abs(away))[:k],
        "BE": np.concatenate([order[:half], order[len(order) - (k - half) :]]),
    }[which]
    return np.sort(values[index])


def check(found, matrix, reference):
    """Errors within the bounds that are returned, which are small; the vectors are eigenvectors."""
    norm = max(abs(np.linalg.eigvalsh(matrix)))
    errors = abs(found.values - reference)
    assert (errors <= found.error_bounds).all()
    assert found.error_bounds.max() <= 1e-8 * norm
    assert errors.max() <= 1e-13 * norm
    k = len(reference)
    assert found.vectors.shape == (len(matrix), k)
    assert abs(found.vectors.T @ found.vectors - np.eye(k)).max() < 1e-12
    residuals = np.linalg.norm(matrix @ found.vectors - found.vectors * found.values, axis=0)
    assert abs(residuals - found.residual_norms).max() <= 1e-13 * norm
    assert residuals.max() <= 4e-10 * norm


# Clusters: 18 cases ----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[(6, 6), (8, 8, 8), (16,)], ids=str)
def cluster(request):
    hessian = clustered_hessian(request.param)
    entries = hessian.dense()
    return hessian, entries, np.linalg.eigvalsh(entries)


@pytest.mark.parametrize("which", ["LA", "SA"])
def test_no_member_of_a_cluster_is_left_out(cluster, which):
    hessian, entries, values = cluster
    norm = abs(values).max()
    for seed, k in enumerate((8, 16, 24)):
        # The smallest of the three would be dense as a net's matrix.
        given = hessian if hessian.order > 1000 else operator(entries)
        for certificate in ("inertia", "probabilistic"):
            found = spectra.eigsh(given, k, which=which, certificate=certificate, seed=seed)
            assert found.certificate.method == certificate
            assert found.factorizations <= 3
            errors = abs(found.values - expected(values, which, k))
            assert errors.max() <= 1e-12 * norm
            assert (errors <= found.error_bounds).all()
            own = hessian.order if given is not hessian and certificate == "inertia" else 0
            assert found.products - own <= 762
        found = spectra.eigsh(hessian, k, which=which, method="lanczos", seed=seed)
        assert found.certificate is not None
        assert abs(found.values - expected(values, which, k)).max() <= 1e-12 * norm


@pytest.mark.parametrize(("which", "k"), [("LA", 8), ("SA", 16)])
def test_scipy_leaves_out_members_where_we_do_not(which, k):
    linalg = pytest.importorskip("scipy.sparse.linalg")
    entries = clustered_hessian((6, 6)).dense()
    reference = expected(np.linalg.eigvalsh(entries), which, k)
    norm = abs(reference).max()
    wrong = 0
    for seed in range(6):
        v0 = np.random.default_rng(seed).standard_normal(len(entries))
        theirs = linalg.eigsh(entries, k, which=which, tol=0, v0=v0, return_eigenvectors=False)
        wrong += abs(np.sort(theirs) - reference).max() > 1e-9 * norm
        found = spectra.eigsh(operator(entries), k, which=which, seed=seed)
        assert found.certificate is not None
        assert abs(found.values - reference).max() < 1e-12 * norm
    assert wrong


# Kinds of questions ----------------------------------------------------------------------------


@pytest.mark.parametrize("certificate", ["inertia", "probabilistic"])
@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
@pytest.mark.parametrize("k", [1, 10])
def test_ends_of_a_spectrum(which, k, certificate):
    found = spectra.eigsh(operator(MATRIX), k, which=which, certificate=certificate)
    check(found, MATRIX, expected(VALUES, which, k))
    proof = found.certificate
    assert proof.method == certificate
    assert proof.failure_probability == (0 if certificate == "inertia" else 1e-6)
    beyond = (proof.lower > VALUES) | (proof.upper < VALUES)
    assert beyond.sum() == proof.count  # in truth, too
    assert str(proof) in found.message
    assert found.converged


@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
@pytest.mark.parametrize("sigma", [0.03, 1.0, -2.5])
def test_values_next_to_sigma(which, sigma):
    sides = (sigma > VALUES).sum(), (sigma < VALUES).sum()
    k = 5
    wanted = {"LA": (0, k), "SA": (k, 0), "LM": (0, 0), "BE": (k // 2, k - k // 2)}[which]
    if any(w > there for w, there in zip(wanted, sides, strict=True)):
        for given in (operator(MATRIX), MATRIX):
            with pytest.raises(ValueError, match=rf"^k is 5, and A has .* sigma, {sigma}; "):
                spectra.eigsh(given, k, which=which, sigma=sigma)
        return
    found = spectra.eigsh(operator(MATRIX), k, which=which, sigma=sigma)
    reference = expected(VALUES, which, k, sigma)
    check(found, MATRIX, reference)
    bare = spectra.eigsh(operator(MATRIX), k, which=which, sigma=sigma, certificate=None)
    assert len(bare.values) == k  # on their sides, too, where one value has copies
    assert bare.converged
    proof = found.certificate
    assert proof.inside
    assert ((proof.lower < VALUES) & (proof.upper > VALUES)).sum() == proof.count
    check(spectra.eigsh(MATRIX, k, which=which, sigma=sigma), MATRIX, reference)


def test_sigma_at_an_eigenvalue_finds_all_its_copies():
    found = spectra.eigsh(operator(MATRIX), 7, sigma=2.0)
    check(found, MATRIX, np.full(7, 2.0))
    assert found.certificate is not None
    for which in ("LA", "SA", "BE"):
        message = r'^sigma is 2\.0, an eigenvalue of A to .*; expected which="LM", or a sigma away'
        with pytest.raises(np.linalg.LinAlgError, match=message):
            spectra.eigsh(operator(np.diag(np.arange(P, dtype=float))), 7, sigma=2.0, which=which)
    near = spectra.eigsh(operator(np.diag(np.arange(P, dtype=float))), 3, sigma=2.0)
    assert abs(near.values - [1, 2, 3]).max() < 1e-12


@pytest.mark.parametrize("sigma", [0.0, 1e-300, -1e-170, 1.0, 1e200, 1e308])
def test_sigma_beside_a_matrix_of_zeros(sigma):
    """Of every size: numbers like 1 / sigma leave the range on the way."""
    found = spectra.eigsh(operator(np.zeros((P, P))), 3, sigma=sigma)
    assert not found.values.any()
    assert (found.certificate is not None) == (sigma < 1e308)  # whose double is beyond all numbers
    sides = {"SA": sigma > 0, "LA": sigma < 0}
    for which, there in sides.items():
        if not sigma:
            continue  # an eigenvalue: neither side
        if there:
            assert not spectra.eigsh(
                operator(np.zeros((P, P))), 3, sigma=sigma, which=which
            ).values.any()
        else:
            with pytest.raises(ValueError, match=r"^k is 3, and A has 0 eigenvalues (above|below)"):
                spectra.eigsh(operator(np.zeros((P, P))), 3, sigma=sigma, which=which)
    with pytest.raises(np.linalg.LinAlgError, match=r"^sigma is 1e-320: A - sigma is singular"):
        spectra.eigsh(operator(np.zeros((P, P))), 3, sigma=1e-320)


def test_dense_matrices_are_decomposed_whole():
    for given in (MATRIX, MATRIX.tolist()):
        found = spectra.eigsh(given, 10)
        check(found, MATRIX, VALUES[-10:])
        assert found.certificate.method == "dense"
        assert found.certificate.margin < 1e-11
    assert spectra.eigsh(MATRIX, 10, certificate=None).certificate is None
    found = spectra.eigsh(operator(MATRIX), P)
    check(found, MATRIX, VALUES)


# Nets ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def point():
    net = MLP((64, 14, 10, 10), l2=1e-4, **OPTIONS)
    return net.at(net.initial(seed=0), *images(50, 8))


def test_hessians_by_products_and_layered_factors(point):
    hessian = point.hessian
    assert hessian.order > 1000
    entries = hessian.dense()
    values = np.linalg.eigvalsh(entries)
    for which, certificate in (("LA", "inertia"), ("SA", "auto")):
        found = spectra.eigsh(hessian, 6, which=which, certificate=certificate)
        check(found, entries, expected(values, which, 6))
        assert found.certificate is not None
        assert found.factorizations == (found.certificate.method == "inertia")
        assert found.products < 200
    check(spectra.eigsh(hessian, 6, sigma=0.0), entries, expected(values, "LM", 6, 0.0))
    shifted = spectra.eigsh(hessian + 0.5, 6, sigma=0.7)
    check(shifted, entries + 0.5 * np.eye(len(entries)), expected(values + 0.5, "LM", 6, 0.7))


def test_large_layer_blocks():
    net = MLP((64, 17, 10), **OPTIONS)
    block = curvature.layer_block(net.at(net.initial(seed=0), *images(50, 8)).hessian, 0)
    assert block.order > 1000
    entries = block.dense()
    values = np.linalg.eigvalsh(entries)
    for certificate in ("inertia", "probabilistic"):
        found = spectra.eigsh(block, 6, certificate=certificate)
        check(found, entries, values[-6:])
        assert found.certificate.method == certificate


def test_matrices_of_float32_nets_are_taken_in_float64(point):
    net = MLP((64, 14, 10, 10), l2=1e-4, dtype=np.float32, **OPTIONS)
    hessian = net.at(net.initial(seed=0), *images(50, 8)).hessian
    entries = hessian.point.in_float64().hessian.dense()
    found = spectra.eigsh(hessian, 6)
    check(found, entries, np.linalg.eigvalsh(entries)[-6:])
    block = curvature.layer_block(hessian, 0)
    entries = entries[: block.order, : block.order]
    check(spectra.eigsh(block, 6), entries, np.linalg.eigvalsh(entries)[-6:])


def test_layer_blocks_are_matrices_of_their_own(point):
    for matrix in (point.hessian + 0.25, point.gauss_newton, point.fisher("empirical")):
        entries = matrix.dense()
        for i, slice_ in enumerate(point.net.layer_slices):
            block = curvature.layer_block(matrix, i)
            inner = entries[slice_, slice_]
            scale = abs(inner).max()
            assert block.shape == inner.shape
            rows = np.random.default_rng(i).standard_normal((3, block.order))
            assert abs(rows @ block - rows @ inner).max() <= 1e-12 * scale * block.order
            assert abs(block.dense() - inner).max() <= 1e-13 * scale
    for i, kind in ((3, ValueError), (-1, ValueError), (0.5, TypeError)):
        with pytest.raises(kind, match="^i is "):
            curvature.layer_block(point.hessian, i)
    with pytest.raises(TypeError, match="^matrix is of type "):
        curvature.layer_block(np.eye(3), 0)


def test_the_way_with_fewer_operations_is_taken():
    """By the model of operations: dense below it, Lanczos above, and the cheaper proof."""
    small, medium = MLP((64, 2, 10), **OPTIONS), MLP((64, 12, 10), l2=1e-4, **OPTIONS)
    few = small.at(small.initial(seed=0), *images(50, 8)).hessian
    many = medium.at(medium.initial(seed=0), *images(1000, 8)).hessian
    assert few.order < 200 < many.order < 1000
    assert spectra.eigsh(few, 5).certificate.method == "dense"
    forced = spectra.eigsh(few, 5, method="lanczos")
    assert forced.certificate.method in ("inertia", "probabilistic")
    values = np.linalg.eigvalsh(many.dense())
    # 2 N P² + P³ / 3 operations of factors are more than 1.5 times those of some 85 products.
    cheap = spectra.eigsh(many, 10)
    assert cheap.certificate.method == "probabilistic" and not cheap.factorizations
    bare = spectra.eigsh(many, 10, certificate=None, method="lanczos")
    assert bare.products < cheap.products <= 2 * bare.products
    # With as few samples as this both are next to nothing beside the steps.
    deep = MLP((64, *[8] * 7, 10), l2=1e-4, **OPTIONS)
    layered = deep.at(deep.initial(seed=0), *images(48, 8)).hessian
    assert spectra.eigsh(layered, 10).certificate.method == "inertia"
    forced = spectra.eigsh(many, 10, method="dense")
    assert forced.certificate.method == "dense"
    for found in (cheap, bare, forced):
        assert abs(found.values - values[-10:]).max() <= 1e-13 * abs(values).max()
    assert spectra.eigsh(many, many.order // 3).certificate.method == "dense"
    again = spectra.eigsh(many, 10)
    assert np.array_equal(again.values, cheap.values) and again.products == cheap.products


def test_a_random_certificate_that_takes_long_makes_way_for_inertia(monkeypatch):
    """Ten of a hundred values that are all but equal: the gap beyond them is 1e-9 of the norm."""
    monkeypatch.setattr(choice, "_EXACT", 0.0)  # or inertia would be first
    values = np.concatenate([np.linspace(-1, 0.9, 500), 1 + 1e-9 * np.arange(100)])
    matrix = spectrum_matrix(values)
    found = spectra.eigsh(matrix, 10, tolerance=1e-13, method="lanczos")
    assert found.certificate.method == "inertia"
    assert abs(found.values - values[-10:]).max() < 1e-12
    assert "random" not in found.message
    # Together no more than twice what the cheaper one takes.
    bare = spectra.eigsh(matrix, 10, tolerance=1e-13, method="lanczos", certificate=None)
    assert bare.products < found.products < bare.products + 60


def test_products_of_the_table():
    """Ten pairs to 1e-10 without a certificate in no more than a block Lanczos took at best."""
    net = MLP((64, 12, 10), l2=1e-4, **OPTIONS)
    hessian = net.at(net.initial(seed=0), *images(1000, 8)).hessian
    values = np.linalg.eigvalsh(hessian.dense())
    given = FunctionOperator(hessian.order, hessian.products)
    found = spectra.eigsh(given, 10, which="SA", certificate=None)
    assert abs(found.values - values[:10]).max() <= 4e-15 * abs(values).max()
    assert found.products <= 120
    assert spectra.eigsh(given, 10, which="SA").products <= 2 * 120


def test_warm_starts():
    hessian = clustered_hessian((16,), 100)
    cold = spectra.eigsh(hessian, 4)
    warm = spectra.eigsh(hessian, 4, start=cold.vectors)
    assert warm.products < cold.products / 2
    assert np.allclose(warm.values, cold.values, rtol=1e-12)
    assert warm.certificate is not None
    # Eigenvectors of other eigenvalues are no answer: the count finds out.
    low = spectra.eigsh(hessian, 4, which="SA")
    found = spectra.eigsh(hessian, 4, start=low.vectors)
    assert np.allclose(found.values, cold.values, rtol=1e-12)
    found = spectra.eigsh(hessian, 4, start=np.ones(hessian.order))
    assert np.allclose(found.values, cold.values, rtol=1e-12)


# Extremes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_scales_far_from_one(scale):
    reference = VALUES[-10:]
    for given in (operator(MATRIX * scale), MATRIX * scale):
        found = spectra.eigsh(given, 10)
        assert abs(found.values / scale - reference).max() < 1e-12
        assert (abs(found.values - reference * scale) <= found.error_bounds).all()
        assert found.error_bounds.max() <= 1e-8 * scale
        assert found.certificate is not None
    found = spectra.eigsh(operator(MATRIX * scale), 5, sigma=0.03 * scale)
    assert abs(found.values / scale - expected(VALUES, "LM", 5, 0.03)).max() < 1e-12
    assert spectra.count(MATRIX * scale, 1.9 * scale, np.inf) == 7


@pytest.mark.parametrize("certificate", ["inertia", "probabilistic"])
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_multiples_of_the_identity(value, certificate):
    given = operator(np.eye(P) * value)
    for which in ("LA", "LM", "BE"):
        found = spectra.eigsh(given, 4, which=which, certificate=certificate)
        assert abs(found.values - value).max() <= 1e-14 * abs(value)
        assert found.certificate is not None
        assert abs(found.vectors.T @ found.vectors - np.eye(4)).max() < 1e-13


def test_one_by_one():
    for given in ([[3.0]], FunctionOperator(1, lambda rows: 3 * rows)):
        found = spectra.eigsh(given, 1)
        assert abs(found.values[0] - 3) < 1e-15
        assert abs(found.vectors) == 1
        assert found.certificate is not None
    assert spectra.count([[3.0]], 2, 4) == 1


def test_float32_operators_have_errors_of_float32():
    found = spectra.eigsh(operator(MATRIX, np.float32), 10)
    errors = abs(found.values - VALUES[-10:])
    assert errors.max() < 1e-5
    assert (errors <= found.error_bounds).all()
    assert found.error_bounds.max() < 1e-2


def test_what_is_not_proved_says_so():
    found = spectra.eigsh(operator(MATRIX), 10, certificate=None)
    assert found.certificate is None
    assert found.message == "no certificate was asked for: eigenvalues may be missing"
    found = spectra.eigsh(operator(MATRIX), 10, max_products=25)
    assert found.certificate is None
    assert not found.converged
    assert found.message.startswith("nothing is certified, eigenvalues may be missing; residuals")
    # Bounds still hold, from some eigenvalue.
    nearest = abs(found.values[:, None] - VALUES).min(axis=1)
    assert (nearest <= found.error_bounds).all()


def test_a_matrix_that_is_not_symmetric_is_noticed():
    skew = MATRIX.copy()
    skew[3, 7] += 0.1
    with pytest.raises(ValueError, match="^A is not symmetric: "):
        spectra.eigsh(operator(skew), 4)
    with pytest.raises(ValueError, match=r"^A has .* at \[3, 7\] .* expected a symmetric matrix$"):
        spectra.eigsh(skew, 4)


SKEWED = {
    "dense": lambda given: spectra.eigsh(given, 2, method="dense"),
    "inertia": lambda given: spectra.count(given, 0.1, 9.9),
    "sigma": lambda given: spectra.eigsh(given, 2, sigma=0.123),
    "trace": lambda given: spectra.trace(given, method="exact"),
    "trace of inverse": lambda given: spectra.trace(given, "inverse", method="exact"),
    "logdet": lambda given: spectra.logdet(given, method="exact"),
    "norm": lambda given: spectra.norm(given, 2, method="exact"),
    "density": lambda given: spectra.density(given, method="exact"),
}


@pytest.mark.parametrize("name", SKEWED)
@pytest.mark.parametrize("order", [2, 60, 210])
def test_entries_from_products_are_those_of_a_symmetric_matrix(name, order):
    """Their symmetric part is another matrix."""
    random = np.random.default_rng(order)
    skew = np.diag(np.linspace(1, 2, order)) + 0.01 * random.standard_normal((order, order))
    with pytest.raises(ValueError, match=r"^A is not symmetric: by its products it has .* at \["):
        SKEWED[name](operator(skew))


def test_dense_bounds_have_what_is_not_symmetric_in_them():
    """Where so little differs that it is taken for rounding of the operator's."""
    random = np.random.default_rng(0)
    matrix = np.diag(np.linspace(1.0, 2.0, 60))
    for size in (1e-13, 1e-11, 1e-9):
        noise = size * random.standard_normal((60, 60))
        found = spectra.eigsh(operator(matrix + noise), 3)
        skew = np.linalg.norm(noise - noise.T) / 2
        assert (found.error_bounds >= skew).all()
        assert (found.error_bounds <= 1.01 * skew + 1e-12).all()


class _Odd(SymmetricOperator):
    order, dtype = P, np.dtype(np.float64)

    def __init__(self, kind):
        self._kind, self._kept = kind, np.empty((2 * P, P))

    def products(self, rows):
        if self._kind == "writes into what it gets":
            rows[:] = rows @ MATRIX
            return rows
        if self._kind == "lists":
            return (rows @ MATRIX).tolist()
        if self._kind == "complex":
            return rows @ MATRIX + 0j
        kept = self._kept[: len(rows)]
        kept.flags.writeable = True
        kept[:] = rows @ MATRIX
        kept.flags.writeable = self._kind != "read-only"
        return kept


@pytest.mark.parametrize("certificate", ["probabilistic", "inertia"])
@pytest.mark.parametrize("method", ["dense", "lanczos"])
@pytest.mark.parametrize("kind", ["writes into what it gets", "lists", "read-only", "one buffer"])
def test_what_operators_do_with_arrays(kind, method, certificate):
    odd = _Odd(kind)
    found = spectra.eigsh(odd, 4, method=method, certificate=certificate)
    assert found.certificate is not None
    assert abs(found.values - VALUES[-4:]).max() < 1e-9 * abs(VALUES).max()
    assert abs(spectra.trace(odd, method="exact").value - MATRIX.trace()) < 1e-9


@pytest.mark.parametrize("method", ["dense", "lanczos"])
def test_complex_products_are_refused(method):
    with pytest.raises(ValueError, match=r"^A.products returned dtype complex128; expected real"):
        spectra.eigsh(_Odd("complex"), 4, method=method)


def test_numbers_that_are_not_finite():
    calls = []

    def late(rows):
        calls.append(0)
        return rows @ MATRIX * (np.nan if len(calls) > 20 else 1.0)

    for given in (operator(MATRIX * np.nan), FunctionOperator(P, late)):
        with pytest.raises(FloatingPointError, match=r"^A times a vector has numbers"):
            spectra.eigsh(given, 4)
    with pytest.raises(ValueError, match=r"^A has nan at \[0, 0\]"):
        spectra.eigsh(MATRIX * np.nan, 4)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"k": 0}, ValueError, "^k is 0; expected an integer from 1 to 300"),
        ({"k": P + 1}, ValueError, "^k is 301; expected an integer from 1 to 300"),
        ({"k": 2.0}, TypeError, r"^k is 2\.0"),
        ({"which": "LR"}, ValueError, "^which is 'LR'; expected 'LA' or"),
        ({"sigma": np.nan}, ValueError, "^sigma is nan"),
        ({"tolerance": -1.0}, ValueError, "^tolerance is -1"),
        ({"tolerance": 1.0}, ValueError, "^tolerance is 1"),
        ({"method": "qr"}, ValueError, "^method is 'qr'; expected 'auto' or 'lanczos' or 'dense'"),
        ({"certificate": "proof"}, ValueError, "^certificate is 'proof'"),
        ({"certificate": "probabilistic", "sigma": 0.0}, ValueError, '^certificate is "prob'),
        ({"failure_probability": 0.0}, ValueError, "^failure_probability is 0"),
        ({"max_products": 0}, ValueError, "^max_products is 0"),
        ({"start": np.ones(3)}, ValueError, r"^start has shape \(3,\); expected \(300,\)"),
        ({"start": np.zeros((P, 2))}, ValueError, "^start has a column of zeros"),
        ({"seed": -1}, ValueError, "^seed is -1"),
    ],
)
def test_bad_arguments(options, kind, message):
    for given in (operator(MATRIX), MATRIX):
        with pytest.raises(kind, match=message):
            spectra.eigsh(given, **options)


def test_bad_matrices():
    for given, kind, message in (
        (np.ones((2, 3)), ValueError, r"^A has shape \(2, 3\); expected a square matrix"),
        (lambda rows: rows, TypeError, "^A is of type function; expected a SymmetricOperator"),
        (1j * np.eye(2), TypeError, "^A has dtype complex128"),
        (FunctionOperator(2, lambda r: r * 1j, complex), ValueError, "^A is of dtype complex"),
    ):
        with pytest.raises(kind, match=message):
            spectra.eigsh(given, 1)
        with pytest.raises(kind, match=message):
            spectra.count(given, 0, 1)


@pytest.mark.parametrize("scale", [1.0, 1e-150])
@pytest.mark.parametrize("certificate", ["auto", "probabilistic", "inertia"])
def test_what_is_rounding_beside_known_vectors_is_not_taken_for_asymmetry(certificate, scale):
    """One negative eigenvalue, reflected; the largest are 0, and products with them rounding."""
    random = np.random.default_rng(0)
    mirrors = random.standard_normal((3, 200))
    mirrors /= np.linalg.norm(mirrors, axis=1)[:, None]
    values = np.zeros(200)
    values[7] = -3 * scale

    def products(rows):
        for mirror in mirrors:
            rows = rows - 2 * np.outer(rows @ mirror, mirror)
        rows = rows * values
        for mirror in mirrors[::-1]:
            rows = rows - 2 * np.outer(rows @ mirror, mirror)
        return rows

    found = spectra.eigsh(FunctionOperator(200, products), 16, certificate=certificate)
    assert abs(found.values).max() <= 1e-13 * scale
    assert found.certificate is not None
