"""Forks at random moments while another thread is inside the engine.

    python Tests/stress/forks.py [--seconds 60] [--seed 0] [--busy 0] [NAME ...]

Every operation runs in a thread over and over while the main one forks. Each child does the
operation itself, must get the parent's bits, and ends through sys.exit. A child that takes more
than its patience is counted as hung and killed. Exits with 1 if any hung or differed.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np

from swiftnets import MLP, FastNet, Network, SlowNet, _core, nets
from swiftnets.linalg.krylov import minres

PATIENCE = 30  # seconds


def images_net():
    """Images: a residual with norms, both pools."""
    body = [nets.Conv2d(4, 4, 3, padding=1), nets.GroupNorm(2, 4), "silu"]
    layers = [nets.Conv2d(2, 4, 2), "tanh", nets.MaxPool2d(2), nets.Residual(body)]
    layers += [nets.AvgPool2d(2), nets.Flatten(), nets.Dense(16, 4)]
    return Network(layers, (2, 9, 9), loss="softmax_cross_entropy")


def tokens_net():
    """Tokens: a block of a transformer."""
    layers = [nets.Embedding(9, 8), nets.PositionEmbedding(6, 8)]
    layers += [nets.Residual([nets.LayerNorm(8), nets.SelfAttention(8, 2)])]
    layers += [nets.Dense(8, 12), "gelu", nets.MeanOverPositions(), nets.Dense(12, 4)]
    return Network(layers, (6,), loss="softmax_cross_entropy")


def operations():
    r = np.random.default_rng(0)
    x, y = r.standard_normal((200, 40)), r.standard_normal((200, 10))
    net = MLP((40, 60, 10))
    w = net.initial(0)
    v = r.standard_normal((8, net.parameter_count))
    point = net.at(w, x, y)
    small = MLP((6, 8, 8, 3))
    ws, xs, ys = small.initial(0), r.standard_normal((20, 6)), r.standard_normal((20, 3))
    shifted = small.at(ws, xs, ys).hessian + 0.5
    factors = shifted.factorize(method="layered")
    b = r.standard_normal(small.parameter_count)
    images = r.integers(0, 256, (150, 300)) / 256 - 0.5
    targets = np.eye(10)[r.integers(0, 10, 150)]
    slow_x, slow_y = r.standard_normal((50, 50)), np.eye(100)[r.integers(0, 100, 50)]
    slow = SlowNet(seed=0)
    image, attending = images_net(), tokens_net()
    wi, xi, yi = image.initial(0), r.standard_normal((40, 2, 9, 9)), r.integers(0, 4, 40)
    wt, xt, yt = attending.initial(0), r.integers(0, 9, (40, 6)), r.integers(0, 4, 40)
    kept = image.at(wi, xi, yi)
    large, wide = r.standard_normal((600, 700)), r.standard_normal((700, 500))

    def fast():
        return FastNet(300, 10, seed=0).step(images, targets).loss

    def predict():
        out = np.empty((600, 500))
        _core.fast_predict(large, wide, out)
        return out

    def slow_step():
        fresh = SlowNet(seed=0)
        fresh.step(slow_x, slow_y)
        return np.concatenate([fresh.w1.ravel(), fresh.w2.ravel()])

    return {
        "gradient": lambda: net.gradient(w, x, y),
        "hvp at a kept point": lambda: v @ point.hessian,
        "dense": lambda: small.hessian(ws, xs, ys),
        "layered solve": lambda: factors.solve(b),
        "layered update": lambda: factors.update(0.5).solve(b),
        "dense solve": lambda: shifted.factorize(method="dense").solve(b),
        "minres": lambda: minres(point.hessian, v[0], max_iterations=20).solution,
        "slow gradient": lambda: np.concatenate([g.ravel() for g in slow.gradient(slow_x, slow_y)]),
        "slow step": slow_step,
        "fast step": fast,
        "large product": predict,
        "gradient of images": lambda: image.gradient(wi, xi, yi),
        "hvp of images": lambda: np.ones((3, image.parameter_count)) @ kept.hessian,
        "fourth of tokens": lambda: attending.at(wt, xt, yt).fourth(wt, wt, wt),
        "jacobian of tokens": lambda: attending.at(wt, xt).jacobian(),
    }


def run(name, operation, seconds, generator):
    """Forks, hung children and different bits within so many seconds."""
    expected = np.asarray(operation()).tobytes()
    stop = threading.Event()

    def loop():
        while not stop.is_set():
            operation()

    worker = threading.Thread(target=loop)
    worker.start()
    forks = hung = different = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(generator.uniform(0, 0.01))
        child = os.fork()
        if child == 0:
            stop.set()
            sys.exit(0 if np.asarray(operation()).tobytes() == expected else 3)
        forks += 1
        patience = time.monotonic() + PATIENCE
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                different += os.waitstatus_to_exitcode(status) != 0
                break
            if time.monotonic() > patience:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                hung += 1
                break
            time.sleep(0.002)
    stop.set()
    worker.join()
    print(f"{name:22s} {forks:5d} forks, {hung} hung, {different} different or failed", flush=True)
    return hung + different


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="operations; all by default")
    parser.add_argument("--seconds", type=float, default=60, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--busy", type=int, default=0, help="processes that only take time")
    options = parser.parse_args()
    _core.set_threads(2)
    chosen = operations()
    if options.names:
        chosen = {name: chosen[name] for name in options.names}
    generator = random.Random(options.seed)
    # Threads then lose their processor at any moment, also as they hold a lock very shortly.
    busy = [subprocess.Popen([sys.executable, "-c", "while True: 0"]) for _ in range(options.busy)]
    try:
        bad = sum(
            run(name, operation, options.seconds / len(chosen), generator)
            for name, operation in chosen.items()
        )
    finally:
        for process in busy:
            process.kill()
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
