"""Runs recorded from the original scripts, reproduced."""

import subprocess
import sys

import numpy as np
import pytest

from swiftnets import FastNet, SlowNet, fast_net, reference, slow_net

EPSILON = 2.0**-52


@pytest.fixture(scope="session")
def golden(shared):
    return lambda name: np.load(shared / "originals" / "golden" / f"{name}.npz")


@pytest.fixture(scope="session")
def made(shared, tmp_path_factory):
    """Data as the recordings' own generator writes them."""

    def make(train, test, seed):
        folder = tmp_path_factory.mktemp("made")
        script = shared / "originals" / "make_data.py"
        arguments = [str(value) for value in (folder, train, test, seed)]
        subprocess.run([sys.executable, str(script), *arguments], check=True)
        return folder

    return make


def compare(record, history, weights, kept, tolerance, weight_tolerance):
    """Errors, counts and weights before recorded iterations, relative to the largest."""
    errs = record["errs"]
    assert np.max(np.abs(np.array(history.errs) - errs) / np.abs(errs)) <= tolerance
    # The recordings stop at a printed line, ours after the step that follows it.
    recorded = [(int(lines), int(count)) for lines, count in record["corrects"]]
    assert recorded == [row[:2] for row in history.corrects][: len(recorded)]
    assert len(history.corrects) - len(recorded) in (0, 1)
    checked = 0
    for key in record.files:
        name, _, iteration = key.partition("@")
        if iteration:
            ours = kept[int(iteration)][weights.index(name)]
            size = np.abs(record[key]).max()
            assert np.abs(ours - record[key]).max() <= weight_tolerance * size, key
            checked += 1
    assert checked


def slow(record, net, pairs, seed):
    kept = {0: (net.w1, net.w2)}

    def keep(event):
        kept[event.iteration + 1] = (net.w1, net.w2)

    lines = len(record["errs"])
    history = net.fit(*pairs, epochs=10, iterations=lines, original=True, callback=keep)
    compare(record, history, ["w1", "w2"], kept, 1e-10, 1e-10)


def test_slow_net_on_real_images_repeats_the_recording(golden, shared):
    pairs = slow_net.get_pairs(shared / "data" / "cifar10")
    slow(golden("slow_cifar10_seed13"), SlowNet(seed=13), pairs, 13)


def test_slow_net_repeats_three_epochs_of_a_small_recording_leak_included(golden, made):
    record = golden("slow_8-6-100_made2_seed16")
    slow(record, SlowNet(8, 6, 100, seed=16), slow_net.get_pairs(made(1000, 500, 2)), 16)


def test_slow_net_repeats_the_recording_of_full_size_batches(golden, made):
    pairs = slow_net.get_pairs(made(50000, 10000, 1))
    slow(golden("slow_full_made1_seed11"), SlowNet(seed=11), pairs, 11)


@pytest.mark.parametrize("r", [None, 1e-9])
@pytest.mark.parametrize("name", ["fast_made2_seed15", "fast_cifar10_seed14"])
def test_fast_net_repeats_the_recording_to_the_noise_of_its_difference(
    golden, made, shared, name, r
):
    folder = made(1000, 500, 2) if "made2" in name else shared / "data" / "cifar10"
    pairs = fast_net.get_pairs(folder)
    net = FastNet(seed=int(name.partition("seed")[2]), r=r)
    kept = {0: (net.w,)}

    def keep(event):
        kept[event.iteration + 1] = (net.w,)

    history = net.fit(*pairs, epochs=10, callback=keep)
    worst = max(reference.rank_and_condition(xs)[1] for xs, _ in pairs[0])
    record = golden(name)
    # Rounding errors of size (ε/r) κ pass two inverse slopes of up to 2. Both sides carry them when
    # ours takes a difference too.
    noise = 4 * EPSILON / 1e-9 * worst * (1 if r is None else 2)
    compare(record, history, ["w"], kept, 1e-6, noise)
