"""Minibatches that a loader makes."""

import numpy as np
import pytest

from swiftnets import MLP
from swiftnets._support.checkpoints import CheckpointError
from swiftnets.optimizers import SGD, Adam, SaddleFreeNewton
from swiftnets.problems import Minibatches

EPS = 2.3e-16


def data(weighted=False):
    random = np.random.default_rng(4)
    x, y = random.normal(size=(23, 3)), random.normal(size=(23, 2))
    weights = random.integers(0, 3, 23).astype(float) if weighted else None
    return x, y, weights


def cut(*arrays, size=5):
    arrays = [a for a in arrays if a is not None]
    return [tuple(a[k : k + size] for a in arrays) for k in range(0, len(arrays[0]), size)]


class Shuffled:
    """Batches in an order that depends on the epoch, of views of one buffer."""

    def __init__(self, *arrays, size=5):
        self.arrays, self.size, self.epoch, self.epochs = arrays, size, 0, []

    def set_epoch(self, epoch):
        self.epoch = epoch
        self.epochs.append(epoch)

    def __iter__(self):
        order = np.random.default_rng(self.epoch).permutation(len(self.arrays[0]))
        buffers = [np.empty_like(a[: self.size]) for a in self.arrays]
        for first in range(0, len(order), self.size):
            rows = order[first : first + self.size]
            for buffer, a in zip(buffers, self.arrays, strict=True):
                buffer[: len(rows)] = a[rows]
            yield tuple(buffer[: len(rows)] for buffer in buffers)
        for buffer in buffers:
            buffer[:] = np.nan


def net(**options):
    return MLP((3, 4, 2), **options)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_batches_estimate_the_loss_of_all_samples(reduction, weighted):
    x, y, weights = data(weighted)
    one = net(reduction=reduction, l2=0.1)
    w = one.initial(seed=0)
    batches = Minibatches(one, cut(x, y, weights))
    assert batches.per_epoch == 5 and batches.batch_size is None
    expected = one.loss_and_gradient(w, x, y, sample_weight=weights)
    counts, losses, gradients = [], [], []
    for iteration in range(5):
        problem = batches.at(iteration)
        counts.append(problem.sample_count)
        loss, gradient = problem.loss_and_gradient(w)
        losses.append(loss)
        gradients.append(gradient)
    present = 23 if weights is None else np.count_nonzero(weights)
    shares = np.array(counts) / present
    # Sums of 23 losses of order 1, weighed and divided.
    assert shares.sum() == pytest.approx(1)
    assert shares @ losses == pytest.approx(expected[0], rel=100 * EPS)
    np.testing.assert_allclose(shares @ gradients, expected[1], rtol=0, atol=3e3 * EPS)
    assert batches.full.loss(w) == pytest.approx(expected[0], rel=100 * EPS)
    hessian = one.hessian(w, x, y, sample_weight=weights)
    np.testing.assert_allclose(batches.full.hessian(w), hessian, rtol=0, atol=3e3 * EPS)
    np.testing.assert_allclose(batches.full.hvp(w, w), hessian @ w, rtol=0, atol=3e4 * EPS)


def test_a_list_is_gone_through_in_its_order():
    x, y, _ = data()
    one = net(reduction="mean")
    w = one.initial(seed=0)
    found = SGD(learning_rate=0.1).minimize(Minibatches(one, cut(x, y)), w, epochs=2).w
    for batch in cut(x, y) * 2:
        w = w - 0.1 * one.gradient(w, *batch)
    np.testing.assert_allclose(found, w, rtol=0, atol=100 * EPS)


def test_a_dataloader_of_pytorch_is_minimised_over():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    x, y, _ = data()
    labels = (x[:, 0] > x[:, 1]).astype(int)
    dataset = TensorDataset(torch.tensor(x), torch.tensor(labels))
    generator = torch.Generator().manual_seed(1)
    loader = DataLoader(dataset, batch_size=5, shuffle=True, generator=generator)
    one = net(reduction="mean", loss="softmax_cross_entropy")
    batches = Minibatches(one, loader)
    seen = [batches.at(k).batches[0].x[0, 0] for k in range(10)]
    assert len(set(seen[:5])) == 5 and seen[:5] != seen[5:]
    result = Adam(learning_rate=0.05).minimize(batches, one.initial(seed=0), epochs=40)
    assert len(result.history) == 200
    assert result.loss == pytest.approx(one.loss(result.w, x, labels), rel=100 * EPS)
    assert result.loss < 0.1 * one.loss(one.initial(seed=0), x, labels)


def test_a_run_on_a_loader_goes_on_with_the_same_bits(tmp_path):
    x, y, _ = data()
    one, path = net(reduction="mean"), tmp_path / "run.npz"
    start = one.initial(seed=0)

    def run(count, **options):
        batches = Minibatches(one, Shuffled(x, y))
        return Adam().minimize(batches, start, max_iterations=count, **options)

    whole = run(13)
    for count in (3, 8, 13):  # within epochs
        resumed = run(count, checkpoint=path)
    assert resumed.w.tobytes() == whole.w.tobytes()
    assert resumed.history.loss.tobytes() == whole.history.loss.tobytes()
    # Others' data are told by their loss, other batches by their number.
    for loader, says in (
        (Shuffled(x + 0.1, y), "other data"),
        (Shuffled(x, y, size=4), "batches is 5 there and 6 here"),
        (cut(x, y), "loader is 'Shuffled' there and 'list' here"),
    ):
        with pytest.raises(CheckpointError, match=says):
            Adam().minimize(Minibatches(one, loader), start, max_iterations=20, checkpoint=path)


def test_each_epoch_is_told_to_the_loader():
    x, y, _ = data()
    loader = Shuffled(x, y)
    batches = Minibatches(net(), loader)
    SGD(learning_rate=1e-3).minimize(batches, net().initial(seed=0), epochs=3)
    assert loader.epochs == [0, 1, 2]

    class Sampled:
        def __init__(self):
            self.sampler = Shuffled(x, y)

        def __iter__(self):
            return iter(cut(x, y))

    one = Sampled()
    Minibatches(net(), one).at(7)
    assert one.sampler.epochs == [1]


def test_batches_are_found_again_in_any_order():
    x, y, _ = data()
    batches = Minibatches(net(), Shuffled(x, y))
    first = [batches.at(k).batches[0].x.copy() for k in range(10)]
    for k in (9, 9, 0, 4, 2, 7, 5):
        np.testing.assert_array_equal(batches.at(k).batches[0].x, first[k])


def test_a_batch_stays_while_the_loader_goes_on():
    x, y, _ = data()
    one = net()
    w = one.initial(seed=0)

    class OneBuffer:
        def __init__(self):
            self.buffers = np.empty((5, 3)), np.empty((5, 2))

        def __iter__(self):
            for batch in cut(x, y):
                for buffer, a in zip(self.buffers, batch, strict=True):
                    buffer[: len(a)] = a
                yield tuple(buffer[: len(batch[0])] for buffer in self.buffers)

    batches = Minibatches(one, OneBuffer())
    expected = batches.at(1).loss(w)
    batches.full.loss(w)
    assert batches.at(1).loss(w) == expected == pytest.approx(one.loss(w, *cut(x, y)[1]) * 23 / 5)


def test_methods_of_second_order_end_on_a_loader():
    x, y, _ = data()
    one = net(l2=1.0)
    batches = Minibatches(one, Shuffled(x, y, size=23))
    result = SaddleFreeNewton().minimize(
        batches, one.initial(seed=0), max_iterations=100, gradient_tolerance=1e-6
    )
    assert result.status == "converged"
    assert np.linalg.norm(one.gradient(result.w, x, y)) <= 1.01e-6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, y: iter(cut(x, y)), "^x is of type list_iterator, which can be gone through on"),
        (lambda x, y: (b for b in cut(x, y)), "^x is of type generator, which can"),
        (lambda x, y: x, "^y is None and x is of type ndarray"),
        (lambda x, y: [x, y], "^batch 0 is of type ndarray"),
        (lambda x, y: [], "^x has no batches"),
        (lambda x, y: cut(x[:, :2], y), r"^x of batch 0 has shape \(5, 2\)"),
        (lambda x, y: cut(x, y, np.zeros(23)), "^sample_weight sums to 0.0"),
    ],
)
def test_what_is_no_loader_is_named(make, message):
    x, y, _ = data()
    with pytest.raises((TypeError, ValueError), match=message):
        Minibatches(net(), make(x, y))


def test_arguments_of_arrays_do_not_go_with_a_loader():
    x, y, weights = data(True)
    with pytest.raises(TypeError, match="^batch_size is given and y is missing"):
        Minibatches(net(), cut(x, y), batch_size=5)
    with pytest.raises(TypeError, match="^sample_weight is given and y is missing"):
        Minibatches(net(), cut(x, y), sample_weight=weights)
    with pytest.raises(TypeError, match="^batch_size is missing"):
        Minibatches(net(), x, y)


def test_a_loader_that_has_less_than_it_had_is_an_error():
    x, y, _ = data()
    loader = cut(x, y)
    batches = Minibatches(net(), loader)
    del loader[3:]
    with pytest.raises(ValueError, match="has 3 batches in epoch 0; expected 5"):
        SGD(learning_rate=1e-3).minimize(batches, net().initial(seed=0), epochs=1)


@pytest.mark.parametrize("place", [0, 4])
def test_a_loader_that_has_more_than_it_had_is_an_error(place):
    """What came on top was left out without a word."""
    x, y, _ = data()
    loader = cut(x, y)
    batches = Minibatches(net(), loader)
    count = batches.per_epoch
    loader.append(loader[0])
    for iteration in range(place, count - 1):  # from the start of an epoch, or its end alone
        batches.at(iteration)
    with pytest.raises(ValueError, match=f"^x, of type list, has more than {count} batches in ep"):
        batches.at(count - 1)


def test_the_last_batch_stays_while_the_end_is_looked_for():
    """A loader may have one buffer for all batches."""
    x, y, _ = data()
    parts = cut(x, y)

    class OneBuffer:
        def __iter__(self):
            buffers = [np.empty_like(part) for part in parts[0]]
            for part in parts:
                rows = [one[: len(new)] for one, new in zip(buffers, part, strict=True)]
                for row, new in zip(rows, part, strict=True):
                    row[:] = new
                yield tuple(rows)
            for buffer in buffers:
                buffer[:] = 0

    one, w = net(), net().initial(seed=0)
    found = [Minibatches(one, loader).at(len(parts) - 1).loss(w) for loader in (OneBuffer(), parts)]
    assert found[0] == found[1]
