"""Layered factorisations of random small nets against dense eigenvalues, in doubt with 40 digits.

A net has random widths of 1 to 4, depth 2 to 8, 1 to 8 samples, identity, ReLU, leaky ReLU or tanh,
with and without biases, and either loss; each is factored for every damping below. An answer counts
as wrong where the inertia is not the true one, where log|det| is off by more than it says, or where
a solution is off by more than its condition explains; an eigenvalue counted as 0 is right where it
is below 1e-10 of the norm. Refusals and zeros are counted where the condition is below 1e12.

Run: python Tests/long/layered_survey.py --nets 5000 [--first 0] [--form auto]
"""

from __future__ import annotations

import argparse
import collections
import math
import sys

import mpmath
import numpy as np

from swiftnets import MLP

DAMPINGS = (0.0, 1e-12, -1e-12, 1e-8, 1e-4, 0.1, -0.37, 1e-12j)
ACTIVATIONS = ("identity", "relu", "leaky_relu", "tanh")
LOSSES = ("squared_error", "softmax_cross_entropy")
EPSILON = np.finfo(float).eps


class Problem:
    """Net number `seed`."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        depth = int(rng.integers(2, 9))
        self.sizes = tuple(int(n) for n in rng.integers(1, 5, depth + 1))
        self.activation = str(rng.choice(ACTIVATIONS))
        self.loss = str(rng.choice(LOSSES))
        self.bias = bool(rng.integers(2))
        n = int(rng.integers(1, 9))
        self.net = MLP(self.sizes, activation=self.activation, loss=self.loss, bias=self.bias)
        self.w = self.net.initial(seed=seed)
        self.w = self.w + 0.1 * rng.standard_normal(len(self.w))
        self.x = rng.standard_normal((n, self.sizes[0]))
        if self.loss == "squared_error":
            self.y = rng.standard_normal((n, self.sizes[-1]))
        else:
            self.y = np.eye(self.sizes[-1])[rng.integers(0, self.sizes[-1], n)]
        self.b = rng.standard_normal(len(self.w))

    def __str__(self) -> str:
        return (
            f"{self.sizes} {self.activation} {self.loss} bias={self.bias} N={len(self.x)} "
            f"P={len(self.w)}"
        )

    def hessian(self) -> np.ndarray:
        return self.net.hessian(self.w, self.x, self.y)

    def exact_hessian(self) -> np.ndarray:
        """H with 40 digits, by the R-pass, as an array of mpf."""
        real = np.vectorize(mpmath.mpf, otypes=[object])
        zero, one = mpmath.mpf(0), mpmath.mpf(1)
        x, y = real(self.x), real(self.y)
        slope = mpmath.mpf(self.net.activations[0].parameter)

        def activate(a, last):
            if last or self.activation == "identity":
                return a, np.full(a.shape, one), np.full(a.shape, zero)
            if self.activation == "tanh":
                z = np.vectorize(mpmath.tanh, otypes=[object])(a)
                return z, one - z * z, -2 * z * (one - z * z)
            s = np.vectorize(lambda v: one if v > 0 else slope, otypes=[object])(a)
            return a * s, s, np.full(a.shape, zero)

        layers, z, w = [], x, real(self.w)
        for index, part in enumerate(self.net.layer_slices):
            inputs = np.hstack([z, np.full((len(z), 1), one)]) if self.bias else z
            weights = w[part].reshape(inputs.shape[1], -1)
            z, s, k = activate(inputs @ weights, index == len(self.sizes) - 2)
            layers.append([inputs, weights[: inputs.shape[1] - self.bias], s, k])
        if self.loss == "squared_error":
            g, blocks = z - y, None
        else:
            powers = np.vectorize(mpmath.exp, otypes=[object])(z)
            p = powers / powers.sum(axis=1, keepdims=True)
            g = p - y
            blocks = [np.diag(row) - np.outer(row, row) for row in p]
        for layer in layers[::-1]:
            layer[3] = layer[3] * g
            layer.append(layer[2] * g)
            g = layer[4] @ layer[1].T
        rows = []
        for column in range(len(w)):
            v = np.full(len(w), zero)
            v[column] = one
            z, tangents = None, []
            for (inputs, weights, s, _, _), part in zip(layers, self.net.layer_slices, strict=True):
                step = v[part].reshape(inputs.shape[1], -1)
                a = inputs @ step
                if z is not None:
                    a = a + z @ weights
                tangents.append((step, z, a))
                z = s * a
            g = (
                z
                if blocks is None
                else np.array([c @ row for c, row in zip(blocks, z, strict=True)])
            )
            product = []
            for (inputs, weights, s, k, deltas), (step, z, a) in zip(
                layers[::-1], tangents[::-1], strict=True
            ):
                d = k * a + s * g
                out = inputs.T @ d
                if z is not None:
                    out[: z.shape[1]] += z.T @ deltas
                product.append(out.ravel())
                g = d @ weights.T + deltas @ step[: len(weights)].T
            rows.append(np.concatenate(product[::-1]))
        return np.array(rows)


def exact_values(matrix: np.ndarray, shift: float) -> tuple[np.ndarray, float]:
    """Eigenvalues' signs and sizes of D in P A Pᵀ = L D Lᵀ (Bunch and Parlett), and log|det|."""
    a = matrix.copy()
    n = len(a)
    for i in range(n):
        a[i, i] += mpmath.mpf(shift)
    size = max(abs(v) for v in a.ravel())
    signs, logarithm = [], mpmath.mpf(0)
    while len(a):
        m = len(a)
        flat = np.vectorize(abs, otypes=[object])(a)
        diagonal = max(range(m), key=lambda i: flat[i, i])
        place = max(range(m * m), key=lambda i: flat.flat[i])
        i, j = divmod(place, m)
        if flat[i, j] <= size * mpmath.mpf(10) ** -30:
            signs += [0] * m
            logarithm = -mpmath.inf
            break
        if flat[diagonal, diagonal] > mpmath.mpf("0.64") * flat[i, j]:
            pivots = [diagonal]
            d = a[diagonal, diagonal]
            signs.append(1 if d > 0 else -1)
            inverse = np.array([[1 / d]])
        else:
            pivots = [i, j]
            d = a[i, i] * a[j, j] - a[i, j] ** 2
            signs += [1, -1]
            inverse = np.array([[a[j, j] / d, -a[i, j] / d], [-a[i, j] / d, a[i, i] / d]])
        logarithm += mpmath.log(abs(d))
        rest = [k for k in range(m) if k not in pivots]
        c = a[np.ix_(pivots, rest)]
        a = a[np.ix_(rest, rest)] - c.T @ inverse @ c if rest else a[:0, :0]
    return np.array(signs), float(logarithm)


class Count(collections.Counter):
    def report(self) -> str:
        return ", ".join(f"{key}: {self[key]}" for key in sorted(self))


def examine(problem: Problem, damping: complex, form: str, count: Count, memory: dict) -> list[str]:
    """What is wrong with one factorisation."""
    if "hessian" not in memory:
        memory["hessian"] = problem.hessian()
        memory["values"] = np.linalg.eigvalsh(memory["hessian"])
    p = len(problem.w)
    values = memory["values"] + damping
    norm = max(abs(memory["values"]).max(), abs(damping))
    least = abs(values).min()
    condition = norm / least if least > 0 else math.inf
    is_clear = condition < 1e12
    count["cases"] += 1
    count["condition < 1e12"] += is_clear
    complex_ = isinstance(damping, complex)
    hessian = problem.net.at(problem.w, problem.x, problem.y).hessian
    try:
        factors = (hessian + damping).factorize(form=form, method="layered")
    except np.linalg.LinAlgError as error:
        if "singular to working precision" not in str(error):
            return [f"message: {error}"]
        count["refused"] += 1
        count["refused, condition < 1e12"] += is_clear
        count["refused, condition < 1e8"] += condition < 1e8
        return []
    faults = []
    if not complex_:
        reported = factors.inertia
        true, logarithm = values, float(np.log(abs(values)).sum()) if values.all() else -math.inf
        doubtful = condition > 1e13
        few = 100 * p * EPSILON * norm
        if reported.zero:
            count["zeros"] += 1
            count["zeros, condition < 1e12"] += is_clear
            count["zeros, condition < 1e10"] += condition < 1e10
            right = (
                reported.positive + reported.negative + reported.zero == p
                and (true > 1e-10 * norm).sum() <= reported.positive <= (true > -few).sum()
                and (true < -1e-10 * norm).sum() <= reported.negative <= (true < few).sum()
            )
            exact = (
                reported.positive == (true > 1e-12 * norm).sum()
                and reported.negative == (true < -1e-12 * norm).sum()
            )
            count["zeros, not those below 1e-12"] += right and not exact
            if not right:
                faults.append(f"inertia {reported}")
            if factors.log_determinant != -math.inf:
                faults.append(f"log|det| {factors.log_determinant} with zeros")
            try:
                factors.solve(problem.b)
                faults.append("solved in spite of zeros")
            except np.linalg.LinAlgError:
                pass
            return faults
        count["answered"] += 1
        counts = ((true > 0).sum(), (true < 0).sum())
        reported_counts = (reported.positive, reported.negative)
        off = abs(factors.summary.logarithm - logarithm)
        if doubtful or reported_counts != counts or off > factors.log_determinant_error:
            count["with 40 digits"] += 1
            if "exact" not in memory:
                memory["exact"] = problem.exact_hessian()
            signs, logarithm = exact_values(memory["exact"], damping)
            counts = ((signs > 0).sum(), (signs < 0).sum())
        if reported_counts != counts:
            faults.append(f"inertia {reported}, true {counts}")
        off = abs(factors.summary.logarithm - logarithm)
        if factors.log_determinant is None:
            count["log|det| withheld"] += 1
            count["log|det| withheld, condition < 1e8"] += condition < 1e8
        elif off > 1e-3:
            faults.append(
                f"log|det| off by {off:.1e}, reported {factors.log_determinant_error:.1e}"
            )
        if off > max(factors.log_determinant_error, 1e-13 * max(1, abs(logarithm))):
            count["log|det| off by more than reported"] += 1
            if off > 10 * factors.log_determinant_error:
                faults.append(
                    f"log|det| off by {off:.1e}, reported {factors.log_determinant_error:.1e}"
                )
    else:
        count["answered, complex"] += 1
    count["certificate > 1e-3"] += factors.certificate > 1e-3
    x = factors.solve(problem.b)
    residual = memory["hessian"] @ x + damping * x - problem.b
    backward = np.linalg.norm(residual) / (norm * np.linalg.norm(x) + np.linalg.norm(problem.b))
    memory["worst"] = max(memory.get("worst", 0), backward)
    if backward > 1e-8:
        faults.append(f"backward error {backward:.1e}")
    return faults


def survey(
    seeds: range,
    form: str = "auto",
    dampings: tuple[complex, ...] = DAMPINGS,
    show: bool = False,
) -> tuple[Count, list[str], float]:
    """Counts, faults, and the largest backward error."""
    count, faults, worst = Count(), [], 0.0
    with mpmath.workdps(40):
        for seed in seeds:
            problem, memory = Problem(seed), {}
            for damping in dampings:
                for fault in examine(problem, damping, form, count, memory):
                    faults.append(f"{seed}, {damping}: {problem}: {fault}")
                    if show:
                        print(faults[-1], flush=True)
            worst = max(worst, memory.get("worst", 0))
            if show and (seed - seeds.start) % 500 == 499:
                print(f"{seed - seeds.start + 1} nets. {count.report()}", flush=True)
    return count, faults, worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--form", default="auto")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.nets)
    count, faults, worst = survey(seeds, arguments.form, show=True)
    print(count.report())
    clear = count["condition < 1e12"]
    lost = count["refused, condition < 1e12"] + count["zeros, condition < 1e12"]
    print(f"Not answered where the condition is below 1e12: {lost} of {clear}, {lost / clear:.2%}.")
    print(f"Largest backward error of an unrefined solution: {worst:.1e}. Faults: {len(faults)}.")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
