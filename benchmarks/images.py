"""CIFAR's images where the user has them, else images with natural statistics."""

import numpy as np


def generated(count: int, seed: int = 0) -> np.ndarray:
    """uint8 [count, 3072]: smooth random pictures of three correlated channels.

    Amplitudes fall with frequency so that the singular values of 2,500 of them are near those of
    2,500 CIFAR images, whose condition number is 1.6e4.
    """
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32)[None, :])
    falloff = 1 / (frequency + 1 / 32) ** 2.4
    mix = np.array([[1.0, 0.25, 0.1], [1.0, 0.0, -0.15], [1.0, -0.25, 0.15]])
    images = np.empty((count, 3072), np.uint8)
    for start in range(0, count, 1000):  # in parts, to stay small in memory
        rows = images[start : start + 1000]
        noise = rng.standard_normal((len(rows), 3, 32, 17)) + 1j * rng.standard_normal(
            (len(rows), 3, 32, 17)
        )
        smooth = np.fft.irfft2(noise * falloff, s=(32, 32))
        smooth /= smooth.std()
        channels = np.einsum("ck,nkij->ncij", mix, smooth)
        rows[:] = np.clip(120 + 60 * channels, 0, 255).astype(np.uint8).reshape(len(rows), 3072)
    return images


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(100)[labels]


def generated_batches(
    count: int, batches: int, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`(xs, ys)` float64 batches as `get_pairs` gives them, the labels at random."""
    images = generated(count, seed)
    labels = np.random.default_rng(seed + 1).integers(0, 100, count)
    return [
        (part / 256 - 0.5, one_hot(names))
        for part, names in zip(
            np.array_split(images, batches), np.array_split(labels, batches), strict=True
        )
    ]
