"""X ≥ 0 with A + B[X] ≥ 0 and nothing in common, beside an enumeration of ranks for 2 x 2."""

import numpy as np
import pytest
from scipy.optimize import brentq

from swiftnets.dynamics import complementarity, solve_sdcp


def entries(k):
    """The basis of symmetric matrices that B is given in."""
    basis = []
    for i in range(k):
        for j in range(i, k):
            matrix = np.zeros((k, k))
            matrix[i, j] = matrix[j, i] = 1 if i == j else np.sqrt(0.5)
            basis.append(matrix)
    return np.array(basis)


def applied(B, X):
    """B[X], by the basis."""
    basis = entries(len(X))
    return np.einsum("a,aij->ij", B @ np.einsum("aij,ij->a", basis, X), basis)


def violations(A, B, X):
    """What a solution misses, computed here."""
    S = A + applied(B, X)
    size, norm = np.linalg.norm(X) or 1.0, np.linalg.norm(A)
    return max(
        -np.linalg.eigvalsh(X)[0] / size,
        -np.linalg.eigvalsh(S)[0] / norm,
        abs(np.vdot(X, S)) / (size * norm),
    )


def instance(n):
    """Regular, nearly square, singular with a known solution, or with rows of many sizes."""
    rng = np.random.default_rng(n)
    k, kind = 1 + n % 8, n // 8 % 4
    count = k * (k + 1) // 2
    columns = (4 * count, count + 1, max(1, count // 2), 4 * count)[kind]
    M = rng.normal(size=(count, columns))
    if kind == 3:
        M *= 10 ** rng.uniform(-2, 0, (count, 1))
    B = M @ M.T / 2 * 10 ** rng.uniform(-3, 3)
    G = rng.normal(size=(k, k))
    A = (G + G.T) / 2 * 10 ** rng.uniform(-3, 3)
    if kind == 2:
        V, rank = np.linalg.qr(G)[0], rng.integers(0, k + 1)
        values = rng.uniform(0.1, 1, k)
        X = (V[:, :rank] * values[:rank]) @ V[:, :rank].T
        A = (V[:, rank:] * values[rank:]) @ V[:, rank:].T - applied(B, X)
        A = (A + A.T) / 2
    return A, B


def test_random_problems_are_solved_to_their_last_digits():
    methods = set()
    for n in range(1600):
        A, B = instance(n)
        found = complementarity.solve_checked(A, B)
        assert max(found.residuals) <= 1e-9, n
        assert violations(A, B, found.X) <= 2e-9, n
        methods.add(found.method)
        scale = np.linalg.norm(A) + np.linalg.norm(B) * np.linalg.norm(found.X)
        assert np.linalg.norm(found.S - A - applied(B, found.X)) <= 1e-13 * scale
    assert methods == {"closed form", "newton", "interior point"}


@pytest.mark.parametrize("method", ["newton", "interior"])
def test_each_method_does_without_the_other(method, monkeypatch):
    other = {"newton": "interior", "interior": "newton"}[method]
    monkeypatch.setattr(complementarity._Problem, other, lambda problem, x: (0 * x, x, 0))
    for n in range(16):  # regular ones
        A, B = instance(n // 8 * 32 + n % 8)
        assert max(complementarity.solve_checked(A, B).residuals) <= 1e-9


def by_ranks(A, B):
    """Of a 2 x 2 problem with regular B: ranks 0, 1 and 2 of X, one after the other."""
    if np.linalg.eigvalsh(A)[0] >= 0:
        return np.zeros((2, 2))
    basis = entries(2)
    x = -np.linalg.solve(B, np.einsum("aij,ij->a", basis, A))
    X = np.einsum("a,aij->ij", x, basis)
    if np.linalg.eigvalsh(X)[0] >= 0:
        return X

    def ray(angle):
        v, w = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        image = applied(B, np.outer(v, v))
        size = -(v @ A @ v) / (v @ image @ v)
        return w @ (A + size * image) @ v, size * np.outer(v, v)

    angles = np.linspace(0, np.pi, 2001)
    values = [ray(angle)[0] for angle in angles]
    for low, high, a, b in zip(angles, angles[1:], values, values[1:], strict=False):
        if a * b <= 0:
            X = ray(brentq(lambda t: ray(t)[0], low, high, xtol=1e-15))[1]
            S = A + applied(B, X)
            if np.trace(X) >= 0 and np.linalg.eigvalsh(S)[0] >= -1e-9 * np.linalg.norm(A):
                return X
    raise AssertionError("no rank has a solution")


def test_two_by_two_is_what_an_enumeration_of_ranks_finds():
    ranks = set()
    for n in range(40):
        rng = np.random.default_rng(n)
        M = rng.normal(size=(3, 12))
        G = rng.normal(size=(2, 2)) - 0.5 * np.eye(2)
        A, B = (G + G.T) / 2, M @ M.T / 2
        expected = by_ranks(A, B)
        ranks.add(np.linalg.matrix_rank(expected, tol=1e-8))
        np.testing.assert_allclose(solve_sdcp(A, B).X, expected, atol=4e-8)
    assert ranks == {0, 1, 2}


def test_residuals_are_those_of_what_is_no_solution():
    A, B = np.array([[-2.0, 0.5], [0.5, 1.0]]), np.diag([1.0, 2.0, 3.0])
    X = np.array([[1.0, 2.0], [2.0, -1.0]])
    S = A + applied(B, X)
    size, norm = np.linalg.norm(X), np.linalg.norm(A)
    expected = [
        -np.linalg.eigvalsh(X)[0] / size,
        -np.linalg.eigvalsh(S)[0] / norm,
        abs(np.vdot(X, S)) / (size * norm),
    ]
    assert min(expected) > 0.1
    np.testing.assert_allclose(complementarity._checked(A, B, X)[1], expected, rtol=1e-12)


def test_a_start_near_the_solution_saves_iterations():
    more = fewer = 0
    for n in range(5, 400, 32):
        A, B = instance(n)
        cold = solve_sdcp(A, B)
        warm = solve_sdcp(A * (1 + 1e-3), B, start=cold.X)
        np.testing.assert_allclose(
            warm.X, cold.X * (1 + 1e-3), rtol=0, atol=1e-8 * abs(cold.X).max()
        )
        more, fewer = more + cold.iterations, fewer + warm.iterations
    assert fewer < more


def test_one_number_is_a_quotient_and_nothing_is_needed_where_nothing_pulls():
    assert solve_sdcp([[-3.0]], [[2.0]]).X == [[1.5]]
    assert solve_sdcp([[3.0]], [[2.0]]).X == [[0.0]]
    found = solve_sdcp(np.eye(3), np.zeros((6, 6)))
    assert not found.X.any() and found.residuals == (0.0, 0.0, 0.0) and found.iterations == 0


def test_what_has_no_solution_says_so():
    with pytest.raises(np.linalg.LinAlgError, match="B is 0"):
        solve_sdcp([[-1.0]], [[0.0]])
    # B reaches the first entry alone, and it is the second that is negative.
    with pytest.raises(np.linalg.LinAlgError, match="singular B there may be none"):
        solve_sdcp(np.diag([1.0, -1.0]), np.diag([1.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1.0, 2.0]], [[1.0]]), ValueError, r"A has shape \(1, 2\); expected \(1, 1\)"),
        (([[1.0, 2.0], [0.0, 1.0]], np.eye(3)), ValueError, "A differs from its transpose by 2"),
        (([[np.nan]], [[1.0]]), ValueError, r"A has nan at \[0, 0\]"),
        ((np.eye(2), np.eye(2)), ValueError, r"B has shape \(2, 2\); expected \(3, 3\)"),
        ((-np.eye(1), -np.eye(1)), ValueError, "B has the eigenvalue -1 .*semidefinite"),
        (("A", np.eye(1)), TypeError, "A "),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        solve_sdcp(*arguments)
    with pytest.raises(ValueError, match=r"start has shape \(3, 3\)"):
        solve_sdcp(-np.eye(2), np.eye(3), start=np.eye(3))
