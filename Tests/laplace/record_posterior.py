"""Writes posterior.npz: variances of logits by a long run of MALA, for `test_laplace.py`.

The posterior of `problem()`: 63 parameters, 200 images of the embedded sample. Chains of the
Metropolis-adjusted Langevin algorithm (Roberts & Tweedie 1996), preconditioned by the inverse
Hessian at the mode, in plain NumPy; some minutes. Halves of the chains say how far they are off:
PYTHONPATH=Tests/support python Tests/laplace/record_posterior.py
"""

from pathlib import Path

import numpy as np
from laplace_problem import SIZES, problem

from swiftnets.laplace import fit, mode

CHAINS, STEPS, WARM, STRIDE = 64, 40_000, 4_000, 20
FILE = Path(__file__).with_name("posterior.npz")


def unpacked(w):
    inputs, hidden, outputs = SIZES
    first = inputs * hidden
    second = first + hidden
    third = second + hidden * outputs
    return (
        w[:, :first].reshape(-1, inputs, hidden),
        w[:, None, first:second],
        w[:, second:third].reshape(-1, hidden, outputs),
        w[:, None, third:],
    )


def logits(w, x):
    a, b, c, d = unpacked(w)
    return np.tanh(x @ a + b) @ c + d


def energy_and_gradient(w, x, one_hot, prior):
    a, b, c, d = unpacked(w)
    h = np.tanh(x @ a + b)
    z = h @ c + d
    z -= z.max(axis=2, keepdims=True)
    p = np.exp(z)
    total = p.sum(axis=2, keepdims=True)
    energy = (np.log(total)[:, :, 0] - (z * one_hot).sum(axis=2)).sum(axis=1)
    r = p / total - one_hot
    q = (r @ c.transpose(0, 2, 1)) * (1 - h * h)
    parts = (x.T @ q, q.sum(axis=1), h.transpose(0, 2, 1) @ r, r.sum(axis=1))
    gradient = np.concatenate([part.reshape(len(w), -1) for part in parts], axis=1)
    return energy + 0.5 * prior * (w * w).sum(axis=1), gradient + prior * w


def main():
    net, x, labels, test = problem()
    point = mode(net.at(net.initial(seed=0), x, labels))
    covariance = fit(point).solve(np.eye(net.parameter_count))
    root = np.linalg.cholesky(covariance)
    one_hot, generator = np.eye(SIZES[-1])[labels], np.random.default_rng(0)
    w = point.w + generator.standard_normal((CHAINS, len(root))) @ root.T
    energy, gradient = energy_and_gradient(w, x, one_hot, net.l2)
    size, accepted = 0.3, 0
    kept = []
    for step in range(WARM + STEPS):
        noise = generator.standard_normal(w.shape)
        new = w - size * gradient @ covariance + np.sqrt(2 * size) * noise @ root.T
        other, slope = energy_and_gradient(new, x, one_hot, net.l2)
        # |R⁻¹ (w − new + size S ∇E(new))|² of the way back, in noise's terms.
        back = np.linalg.solve(root, (w - new + size * slope @ covariance).T).T
        ratio = energy - other - (back**2).sum(axis=1) / (4 * size) + (noise**2).sum(axis=1) / 2
        taken = np.log(generator.uniform(size=CHAINS)) < ratio
        w = np.where(taken[:, None], new, w)
        energy, gradient = (
            np.where(taken, other, energy),
            np.where(taken[:, None], slope, gradient),
        )
        if step < WARM:
            size *= np.exp((taken.mean() - 0.574) / np.sqrt(1 + step))
        else:
            accepted += taken.mean()
            if step % STRIDE == 0:
                kept.append(logits(w, test))
    samples = np.array(kept)  # (kept, chains, N, outputs)
    parts = (samples[:, : CHAINS // 2], samples[:, CHAINS // 2 :])
    halves = [part.reshape(-1, *samples.shape[2:]).var(axis=0) for part in parts]
    flat = samples.reshape(-1, *samples.shape[2:])
    z = np.exp(flat - flat.max(axis=2, keepdims=True))
    probabilities = (z / z.sum(axis=2, keepdims=True)).mean(axis=0)
    print(f"step size {size:.3g}, accepted {accepted / STEPS:.3f}")
    print(
        f"halves: {halves[0].sum() / halves[1].sum():.4f}, {np.median(halves[0] / halves[1]):.4f}"
    )
    np.savez(
        FILE,
        variances=flat.var(axis=0).astype(np.float32),
        probabilities=probabilities.astype(np.float32),
    )


if __name__ == "__main__":
    main()
