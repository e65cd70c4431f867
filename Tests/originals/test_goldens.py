"""Runs recorded from the original scripts, reproduced by `fit(..., original=True)`."""

import numpy as np
import pytest
import recordings

from swiftnets import FastNet, SlowNet, fast_net, slow_net
from swiftnets.originals import fast, reference

EPSILON, R = 2.0**-52, 1e-9


# Of each recording's images; those of CIFAR-10 are not in the repository.
MADE = {"made1": (50000, 10000, 1), "made2": (1000, 500, 2)}


@pytest.fixture(scope="module")
def images_of(request, tmp_path_factory):
    """A function: the folder of the images that a recording was made on."""
    folders = {}

    def of(name):
        images = name.split("_")[-2]
        if images not in MADE:
            return request.getfixturevalue("shared") / "data" / "cifar10"
        if images not in folders:
            folders[images] = tmp_path_factory.mktemp("made") / images
            recordings.write_images(folders[images], *MADE[images])
        return folders[images]

    return of


def replay(record, net, pairs, names):
    """Errors, counts, and the weights before every recorded iteration, beside the recorded."""
    weights = {}

    def keep(event):
        weights[event.iteration + 1] = {name: getattr(net, name) for name in names}

    lines = len(record["errs"])
    history = net.fit(*pairs, epochs=lines, iterations=lines, original=True, callback=keep)
    error = np.abs(history.errs / record["errs"] - 1).max()
    # The recording ends at a line, before what the script would count after or below it.
    counts = [tuple(map(int, row)) for row in record["corrects"]]
    assert [row[:2] for row in history.correct_counts][: len(counts)] == counts
    assert len(history.correct_counts) <= len(counts) + 1
    differences = []
    for key, recorded in record.items():
        name, _, iteration = key.partition("@")
        if iteration:
            ours = recordings.as_recorded(weights[int(iteration)][name])
            differences.append(np.abs(ours - recorded).max() / np.abs(recorded).max())
    assert differences
    return error, max(differences)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("slow_8-6-100_made2_seed16", (8, 6, 100)),
        ("slow_cifar10_seed13", (50, 50, 100)),
        ("slow_full_made1_seed11", (50, 50, 100)),
    ],
)
def test_slow_net_repeats_the_recording_to_1e_10(images_of, name, sizes):
    folder = images_of(name)
    record, net = recordings.load(name), SlowNet(*sizes, seed=int(name.partition("seed")[2]))
    np.testing.assert_array_equal(recordings.as_recorded(net.shaper()), record["shaper"])
    error, weights = replay(record, net, slow_net.get_pairs(folder), ("w1", "w2"))
    assert error <= 1e-10
    assert weights <= 1e-10


@pytest.mark.parametrize("r", [None, R])
@pytest.mark.parametrize(
    "name", ["fast_made2_seed15", "fast_cifar10_seed14", "fast_full_made1_seed12"]
)
def test_fast_net_repeats_the_recording_to_the_noise_of_its_difference(
    images_of, name, r, monkeypatch
):
    if r is None:  # the limit, in place of the original's difference
        monkeypatch.setattr(fast, "ORIGINAL_R", None)
    folder = images_of(name)
    record, net = recordings.load(name), FastNet(seed=int(name.partition("seed")[2]))
    pairs = fast_net.get_pairs(folder)
    used = pairs[0][: len(record["errs"])]
    if "full" in name:  # six decompositions of that size for one bound are too many
        used = used[:1]
    worst = max(reference.rank_and_condition(xs)[1] for xs, _ in used)
    error, weights = replay(record, net, pairs, ("w",))
    assert error <= 1e-6
    # The script subtracts two sets of weights, each with that noise; with r, so do we.
    assert weights <= EPSILON / R * worst * (2 if r is None else 4)
