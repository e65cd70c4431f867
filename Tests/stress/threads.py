"""Random operations on shared objects from more threads than cores, with what else may happen.

    python Tests/stress/threads.py [--seconds 60] [--seed 0] [--threads 6]

Every result must have the bits that the operation alone gives, whatever the other threads do: other
products on the same handles, updates of other factorisations, and a thread that changes copies of
labels and inputs while calls read them, whose results alone may be anything. Signals interrupt the
main thread's calls at random. A watchdog ends the process if nothing has happened for a minute.
Exits with 1 if a result differed.
"""

import argparse
import contextlib
import faulthandler
import random
import signal
import sys
import threading
import time
import traceback

import numpy as np
from forks import images_net, tokens_net

from swiftnets import MLP, FastNet, _core


class Interrupted(Exception):
    pass


def shared(generator):
    """Operations on shared handles, and operations on what another thread changes."""
    r = np.random.default_rng(generator.randrange(2**32))
    net = MLP((40, 60, 10), loss="softmax_cross_entropy")
    w, x, labels = net.initial(0), r.standard_normal((300, 40)), r.integers(0, 10, 300)
    v = r.standard_normal((8, net.parameter_count))
    point = net.at(w, x, labels)
    small = MLP([8] * 6)
    ws, xs, ys = small.initial(0), r.standard_normal((12, 8)), r.standard_normal((12, 8))
    hessian = small.at(ws, xs, ys).hessian
    layered = (hessian + 0.5).factorize(method="layered")
    dense = (hessian + 0.5).factorize(method="dense")
    b = r.standard_normal((20, small.parameter_count))
    images, targets = r.integers(0, 256, (150, 300)) / 256 - 0.5, np.eye(10)[r.integers(0, 10, 150)]
    large, wide = r.standard_normal((600, 700)), r.standard_normal((700, 500))
    image, attending = images_net(), tokens_net()
    wi, xi, yi = image.initial(0), r.standard_normal((40, 2, 9, 9)), r.integers(0, 4, 40)
    wt, tokens, yt = attending.initial(0), r.integers(0, 9, (40, 6)), r.integers(0, 4, 40)
    image_point = image.at(wi, xi, yi)
    token_point = attending.at(wt, tokens, yt)
    vi, vt = r.standard_normal((5, len(wi))), r.standard_normal((5, len(wt)))

    def product():
        out = np.empty((600, 500))
        _core.fast_predict(large, wide, out)
        return out

    stable = {
        "gradient": lambda: net.gradient(w, x, labels),
        "hvp": lambda: v @ point.hessian,
        "lanczos": lambda: np.hstack(point.hessian.lanczos(v[:2], 10)),
        "third": lambda: point.third(v[0], v[1]),
        "new point": lambda: v[0] @ net.at(w, x, labels).hessian,
        "layered solve": lambda: layered.solve(b),
        "layered update": lambda: layered.update(0.5).solve(b),
        "dense solve": lambda: dense.solve(b),
        "dense update": lambda: dense.update(0.5).solve(b),
        "new factors": lambda: (hessian + 0.7).factorize(method="layered").solve(b),
        "fast step": lambda: FastNet(300, 10, seed=0).step(images, targets).loss,
        "large product": product,
        "gradient of images": lambda: image.gradient(wi, xi, yi),
        "hvp of images": lambda: vi @ image_point.hessian,
        "lanczos of images": lambda: np.hstack(image_point.hessian.lanczos(vi[:2], 10)),
        "new point of images": lambda: vi[0] @ image.at(wi, xi, yi).gauss_newton,
        "samples of images": lambda: image.at(wi, xi, yi).per_sample_gradients(),
        "hvp of tokens": lambda: vt @ token_point.hessian,
        "third of tokens": lambda: token_point.third(vt[0], vt[:3]),
        "jacobian of tokens": lambda: attending.at(wt, tokens).jacobian(),
        "diagonal of tokens": lambda: token_point.gauss_newton.diagonal(),
    }
    moving_x, moving_labels = x.copy(), labels.copy()
    moving_images, moving_tokens = images.copy(), tokens.copy()

    def change():
        moving_labels[:] = r.integers(-(2**40), 2**40, 300)
        moving_x[r.integers(300)] = r.choice([np.nan, np.inf, 1e308, 0.0])
        moving_images[r.integers(150)] = r.choice([np.nan, 0.5, -0.5, np.inf])
        moving_tokens[:] = r.integers(-(2**40), 2**40, tokens.shape)
        moving_tokens[:] = tokens
        moving_labels[:] = labels
        moving_x[:], moving_images[:] = x, images

    def states(x, labels):
        return (net.at(w, x, labels).hessian + 1.0).factorize(method="layered")

    moving = {
        "gradient": lambda: net.gradient(w, moving_x, moving_labels),
        "hvp": lambda: net.hvp(w, moving_x, moving_labels, v),
        "diagonal": lambda: net.at(w, moving_x, moving_labels).hessian.diagonal(),
        "factors": lambda: FastNet(300, 10, seed=0).step(moving_images, targets),
        "states": lambda: states(moving_x[:6], moving_labels[:6]),
        "tokens": lambda: attending.at(wt, moving_tokens, moving_labels[:40] % 4).gradient,
        "hvp of tokens": lambda: attending.hvp(wt, moving_tokens, yt, vt),
        "jacobian of tokens": lambda: attending.at(wt, moving_tokens).jacobian(),
        "solve": lambda: net.solve(
            w, moving_x, moving_labels, v[0], damping=1.0, method="minres", max_iterations=5
        ),
    }
    return stable, moving, change


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=6)
    options = parser.parse_args()
    _core.set_threads(2)
    stable, moving, change = shared(random.Random(options.seed))
    expected = {name: np.asarray(operation()).tobytes() for name, operation in stable.items()}
    end = time.monotonic() + options.seconds
    counts, different, lock = {"done": 0, "interrupted": 0}, [], threading.Lock()

    def check(generator):
        name = generator.choice(list(stable))
        try:
            same = np.asarray(stable[name]()).tobytes() == expected[name]
        except np.linalg.LinAlgError as error:
            # What the main thread's update, interrupted, leaves until the next one.
            same = "there is no factorisation" in str(error) and name.endswith(" solve")
            if not same:
                traceback.print_exc()
        with lock:
            counts["done"] += 1
            faulthandler.dump_traceback_later(60, exit=True)
            if not same:
                different.append(name)

    def steady(seed):
        generator = random.Random(seed)
        while time.monotonic() < end:
            try:
                check(generator)
            except Exception:
                traceback.print_exc()
                different.append("an exception")

    def careless():
        generator = random.Random(options.seed)
        while time.monotonic() < end:
            with contextlib.suppress(ValueError, ArithmeticError, np.linalg.LinAlgError):
                generator.choice(list(moving.values()))()

    def changing():
        while time.monotonic() < end:
            change()

    def interrupt(number, frame):
        raise Interrupted

    workers = [
        threading.Thread(target=steady, args=(options.seed + k,)) for k in range(options.threads)
    ]
    workers += [threading.Thread(target=careless), threading.Thread(target=changing)]
    faulthandler.dump_traceback_later(60, exit=True)
    for worker in workers:
        worker.start()
    signal.signal(signal.SIGALRM, interrupt)
    generator = random.Random(-options.seed)
    while time.monotonic() < end:
        try:
            signal.setitimer(signal.ITIMER_REAL, generator.uniform(0.001, 0.2))
            while True:
                check(generator)
                if time.monotonic() >= end:
                    break
        except Interrupted:
            counts["interrupted"] += 1
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    for worker in workers:
        worker.join()
    faulthandler.cancel_dump_traceback_later()
    print(
        f"{counts['done']} operations, {counts['interrupted']} interrupted, "
        f"{len(different)} different: {sorted(set(different))}"
    )
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
