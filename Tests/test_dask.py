"""Sums over samples and runs on a cluster: a real scheduler, three workers as processes."""

import math
import os
import pickle
import threading
import time

import numpy as np
import pytest

import swiftnets
from swiftnets import MLP, Network
from swiftnets.curvature import kronecker_factors
from swiftnets.nets import Conv2d, Flatten
from swiftnets.optimizers import LBFGS, SGD, TrustRegion
from swiftnets.problems import Minibatches, NetProblem, Rosenbrock
from swiftnets.spectra import eigsh

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

from dask_cluster import ProcessCluster  # noqa: E402

from swiftnets.dask import DaskProblem, cluster, compare, sweep, worker  # noqa: E402

pytestmark = pytest.mark.thread_unsafe(reason="one cluster, whose workers are killed")

THREADS = (1, 1, 2)
EPS = np.finfo(np.float64).eps


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    # A count of the engine's threads that no worker has.
    made = ProcessCluster(tmp_path_factory.mktemp("dask"), THREADS, {"SWIFTNETS_NUM_THREADS": "5"})
    yield made
    made.close()
    for process in made.processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


@pytest.fixture(scope="module")
def client(processes):
    with distributed.Client(processes.address, timeout=120) as connected:
        connected.wait_for_workers(len(THREADS), timeout=120)
        yield connected


def alive(processes, client, count):
    """The names of at least so many workers, with new ones where some were killed."""
    running = [name for name, process in processes.workers.items() if process.poll() is None]
    running += [processes.add() for _ in range(count - len(running))]
    client.wait_for_workers(len(running), timeout=120)
    return running


def samples(seed=0, count=90, inputs=4, outputs=3):
    random = np.random.default_rng(seed)
    return random.standard_normal((count, inputs)), random.standard_normal((count, outputs))


def cut(array, chunks=20):
    return da.from_array(array, chunks=(chunks, *array.shape[1:]))


def close(found, expected, dtype=np.float64, factor=200):
    """To rounding of sums of what are moderate numbers: 200 units of the largest."""
    unit = np.finfo(dtype).eps * max(1e-300, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=factor * unit)


def test_without_a_client_it_says_so():
    """First of all, as there is none in this process."""
    with pytest.raises(ValueError, match="client is None and this process has none; expected a di"):
        sweep(abs, [{}])


# Sums --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "reduction", "weighted"),
    [("float64", "sum", True), ("float64", "mean", False), ("float32", "mean", True)],
)
def test_every_sum_is_that_of_one_process(client, dtype, reduction, weighted):
    net = MLP((4, 5, 3), reduction=reduction, l2=0.3, dtype=dtype)
    x, y = (array.astype(dtype) for array in samples())
    weights = np.random.default_rng(1).random(90).astype(dtype) if weighted else None
    random = np.random.default_rng(2)
    w = net.initial(seed=0)
    rows = random.standard_normal((3, net.parameter_count)).astype(dtype)
    here = net.at(w, x, y, sample_weight=weights)
    problem = DaskProblem(net, cut(x), cut(y), sample_weight=weights if weights is None else
                          cut(weights))  # fmt: skip
    there = problem.at(w)
    assert problem.partition_count == 5 and problem.sample_count == 90
    assert there.gradient.dtype == dtype and not there.gradient.flags.writeable

    close(there.loss, here.loss, dtype)
    close(there.gradient, here.gradient, dtype)
    close(problem.loss(w), here.loss, dtype)
    value, gradient = problem.loss_and_gradient(w)
    close(value, here.loss, dtype), close(gradient, here.gradient, dtype)
    pairs = [(there.hessian, here.hessian), (there.gauss_newton, here.gauss_newton)]
    pairs += [(there.fisher(kind), here.fisher(kind)) for kind in ("exact", "empirical")]
    for far, near in pairs:
        assert far.dtype == near.dtype and far.shape == near.shape
        close(rows @ far, rows @ near, dtype)
        close(far @ rows[0], near @ rows[0], dtype)
        close(far.diagonal(), near.diagonal(), dtype)
        close(far.dense(), near.dense(), dtype)
        close((far + 0.5 - 0.25).dense(), (near + 0.25).dense(), dtype)
    for far, near in zip(
        there.hessian.lanczos(rows, 4), here.hessian.lanczos(rows, 4), strict=True
    ):
        close(far, near, dtype, 1000)
    close(there.third(rows[0], rows), here.third(rows[0], rows), dtype)
    close(there.fourth(rows[0], rows[1], rows[2]), here.fourth(rows[0], rows[1], rows[2]), dtype)
    for order in (0, 3):
        far, near = there.taylor(rows[0], order), here.taylor(rows[0], order)
        close(far.loss, near.loss, dtype), close(far.gradient, near.gradient, dtype)
    far, near = there.kronecker_factors(), kronecker_factors(here)
    for one, other in zip(far.inputs + far.outputs, near.inputs + near.outputs, strict=True):
        close(one, other, dtype)
    close(problem.hvp(w, rows), rows @ here.hessian, dtype)
    close(problem.hvp(w, rows[0]), here.hessian @ rows[0], dtype)
    close(problem.hessian(w), here.hessian.dense(), dtype)


def test_a_linear_net_has_the_normal_equations(client):
    """In closed form, of chunks of many sizes, with none in some of them."""
    x, y = samples(count=30, outputs=1)
    chunks = ((7, 0, 1, 20, 0, 2),)
    far = [da.from_array(a, chunks=-1).rechunk((*chunks, -1)) for a in (x, y)]
    net = MLP((4, 1), bias=False, l2=2.0)
    w = np.arange(4.0)
    problem = DaskProblem(net, *far)
    assert problem.partition_count == 4
    point, error = problem.at(w), x @ w - y[:, 0]
    close(point.loss, 0.5 * error @ error + w @ w)
    close(point.gradient, x.T @ error + 2 * w)
    close(point.hessian.dense(), x.T @ x + 2 * np.eye(4))
    exact = np.linalg.solve(x.T @ x + 3 * np.eye(4), w)
    for method, preconditioner in (
        ("auto", "diagonal"),
        ("minres", "kronecker"),
        ("cg", lambda rows: rows / 2),
    ):
        found = point.gauss_newton.solve(
            w, damping=1.0, method=method, preconditioner=preconditioner
        )
        # The residual is at most 1e-10 of w, and no eigenvalue below 3.
        assert found.success
        assert np.linalg.norm(found.solution - exact) <= 1e-10 * np.linalg.norm(w) / 3


@pytest.mark.parametrize("of", ["delayed", "future"])
def test_batches_are_delayed_or_futures_with_labels_and_weights(client, of):
    x, _ = samples(count=40)
    labels = np.arange(40) % 3
    weights = np.arange(40) % 4 / 2.0
    x[weights == 0] = np.nan  # not there, whatever they are
    net = MLP((4, 3), loss="softmax_cross_entropy", reduction="mean")
    parts = [slice(0, 5), slice(5, 33), slice(33, 33), slice(33, 40)]
    items = [(x[part], labels[part], weights[part]) for part in parts]
    if of == "delayed":
        batches = [dask.delayed(lambda *item: item)(*item) for item in items]
    else:
        batches = [client.submit(lambda *item: item, *item) for item in items]
    problem = DaskProblem(net, batches, client=client)
    w = net.initial(seed=3)
    here = net.at(w, x, labels, sample_weight=weights)
    there = problem.at(w)
    assert problem.sample_count == 40 and there.counted_samples == 30
    close(there.loss, here.loss), close(there.gradient, here.gradient)
    close(there.hessian.dense(), here.hessian.dense())


def test_weights_of_any_size_make_a_mean(client):
    """Their sum is beyond float64, and the largest are in one partition alone."""
    x, y = samples(count=12)
    weights = np.ones(12)
    weights[:6] = 1e308
    net = MLP((4, 3), reduction="mean")
    w = net.initial(seed=0)
    there = DaskProblem(net, cut(x, 4), cut(y, 4), sample_weight=cut(weights, 4)).at(w)
    here = net.at(w, x[:6], y[:6])  # beside which the others vanish
    close(there.loss, here.loss), close(there.gradient, here.gradient)
    close(there.hessian.dense(), here.hessian.dense())


def test_any_net_and_lengths_that_are_not_known(client):
    random = np.random.default_rng(0)
    images, y = random.standard_normal((20, 1, 5, 5)), random.standard_normal((20, 18))
    net = Network([Conv2d(1, 2, 3), "tanh", Flatten()], input_shape=(1, 5, 5), l2=0.1)
    keep = np.arange(20) % 3 > 0
    x_far, y_far = (da.from_array(a, chunks=(6, *a.shape[1:]))[da.from_array(keep, chunks=6)]
                    for a in (images, y))  # fmt: skip
    assert math.isnan(x_far.chunks[0][0])
    w = net.initial(seed=1)
    there, here = DaskProblem(net, x_far, y_far).at(w), net.at(w, images[keep], y[keep])
    close(there.gradient, here.gradient)
    close(there.hessian.dense(), here.hessian.dense())
    with pytest.raises(NotImplementedError, match="Kronecker"):
        there.kronecker_factors()


def test_one_sample_and_one_partition(client):
    x, y = samples(count=1)
    net = MLP((4, 3), reduction="mean")
    w = net.initial(seed=0)
    there, here = DaskProblem(net, cut(x), cut(y)).at(w), net.at(w, x, y)
    assert there.loss == here.loss
    np.testing.assert_array_equal(there.gradient, here.gradient)


def test_sampled_factors_are_right_in_the_mean(client):
    """One sample a partition: Σ δδᵀ over many draws is B to 5 standard errors."""
    x, y = samples(count=3, outputs=2)
    net = MLP((4, 2))
    point = DaskProblem(net, cut(x, 1), cut(y, 1)).at(net.initial(seed=0))
    draws = [point.kronecker_factors(targets="sampled", seed=seed).outputs[0] for seed in range(12)]
    again = point.kronecker_factors(targets="sampled", seed=7).outputs[0]
    np.testing.assert_array_equal(again, draws[7])
    # Each partition draws for itself: of the same numbers the sum would have rank 1.
    assert np.linalg.matrix_rank(draws[0]) == 2
    # Each is Σ g gᵀ over 3 standard normal g, with variances 6 and 3, about 3 I.
    error = abs(np.mean(draws, axis=0) - 3 * np.eye(2))
    assert (error < 5 * np.sqrt(np.array([[6, 3], [3, 6]]) / 12)).all()


def test_the_same_partitions_give_the_same_bits(client):
    """Whichever worker has which, as many are added: 19 partitions are a tree of three levels."""
    x, y = samples(count=190)
    net = MLP((4, 5, 3), l2=0.1)
    w, v = net.initial(seed=0), np.random.default_rng(0).standard_normal(net.parameter_count)
    results = []
    for _ in range(3):
        far = [cut(array, 10).persist() for array in (x, y)]
        point = DaskProblem(net, *far).at(w)
        results.append((point.loss, point.gradient.tobytes(), (point.hessian @ v).tobytes()))
        del far, point
    # On workers with two threads sums may round otherwise: this net is too small to be shared out.
    assert results[0] == results[1] == results[2]


def test_what_takes_operators_and_problems_takes_these(client):
    x, y = samples()
    net = MLP((4, 3, 3), reduction="mean", l2=0.05)
    w = net.initial(seed=0)
    problem, near = DaskProblem(net, cut(x, 45), cut(y, 45)), NetProblem(net, x, y)
    point = problem.at(w)
    exact = np.linalg.eigvalsh(net.at(w, x, y).hessian.dense())
    found = eigsh(point.hessian, 2)
    close(np.sort(found.values), exact[-2:], factor=1e6)
    for method in (LBFGS(), TrustRegion()):
        far = method.minimize(problem, w, max_iterations=4)
        here = method.minimize(near, w, max_iterations=4)
        close(far.w, here.w, factor=1e6)


def test_passes_are_kept_between_products_and_freed_with_the_point(client):
    x, y = samples()
    net = MLP((4, 5, 3))
    problem = DaskProblem(net, cut(x), cut(y))

    def made():
        def count(dask_scheduler):
            states = [task.state for key, task in dask_scheduler.tasks.items()
                      if str(key).startswith("linearize")]  # fmt: skip
            return states.count("memory"), len(states)

        return client.run_on_scheduler(count)

    before = made()[0]
    point = problem.at(net.initial(seed=0))
    assert made()[0] == before
    for _ in range(3):
        _ = point.hessian @ point.gradient
    futures = point._passed
    assert made()[0] == before + 5
    kept = client.gather([client.submit(lambda p: p.point._passed is not None, f, pure=False)
                          for f in futures])  # fmt: skip
    assert kept == [True] * 5
    sizes = client.gather([client.submit(lambda p: p.__sizeof__(), f, pure=False) for f in futures])
    assert min(sizes) > net.memory_plan(10).point
    del point, futures
    deadline = time.monotonic() + 10
    while made()[0] > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert made()[0] == before


def test_the_dashboard_reads_well(client):
    x, y = samples()
    net = MLP((4, 5, 3))
    point = DaskProblem(net, cut(x), cut(y)).at(net.initial(seed=0))
    point.fisher("empirical").diagonal()
    sweep(lambda a: a, [{"a": 1}])
    found = client.run_on_scheduler(lambda dask_scheduler: set(dask_scheduler.task_prefixes))
    assert {"read-samples", "linearize", "empirical-fisher-diag", "empirical-fisher-diag-sum",
            "lambda"} <= found  # fmt: skip


# Threads -----------------------------------------------------------------------------------------


def test_calls_have_the_threads_of_their_worker_and_take_turns(processes, client):
    def used(held):
        import time

        import swiftnets

        start = time.monotonic()
        time.sleep(0.05)
        return start, time.monotonic(), swiftnets.get_threads()

    infos = client.scheduler_info()["workers"]
    if not any(info["nthreads"] == 2 for info in infos.values()):  # it was killed
        processes.add(2)
        client.wait_for_workers(len(infos) + 1, timeout=120)
        infos = client.scheduler_info()["workers"]
    for address, info in infos.items():
        futures = [client.submit(worker.part, used, None, workers=[address], pure=False)
                   for _ in range(4)]  # fmt: skip
        spans = sorted(client.gather(futures))
        assert {count for _, _, count in spans} == {info["nthreads"]}
        assert all(one[1] <= other[0] for one, other in zip(spans, spans[1:], strict=False))
    # Calls of a sweep go on side by side, and what the process had before comes back.
    counts = sweep(lambda index: swiftnets.get_threads(), [{"index": i} for i in range(12)])
    assert set(counts) <= set(THREADS)
    assert set(client.run(swiftnets.get_threads).values()) == {5}


# Workers that die --------------------------------------------------------------------------------


def killed_in_the_middle(processes, client, name, call):
    """What a call returns of whose workers one stands still and is killed once it has tasks."""
    found = {}
    processes.stop(name)
    thread = threading.Thread(target=lambda: found.update(value=call()))
    thread.start()
    addresses = {info["name"]: a for a, info in client.scheduler_info()["workers"].items()}

    def busy(dask_scheduler, address):
        return len(dask_scheduler.workers[address].processing)

    deadline = time.monotonic() + 120
    while not client.run_on_scheduler(busy, address=addresses[name]):
        assert time.monotonic() < deadline and thread.is_alive(), "it was not given a task"
        time.sleep(0.01)
    processes.kill(name)
    thread.join(120)
    assert not thread.is_alive() and "value" in found
    return found["value"]


@pytest.mark.parametrize("inline", [True, False], ids=["vectors with tasks", "vectors as tasks"])
def test_a_worker_killed_in_a_product_loses_nothing(processes, client, monkeypatch, inline):
    if not inline:
        monkeypatch.setattr(cluster, "_WITH_TASKS", 0)
    x, y = samples(count=120)
    net = MLP((4, 5, 3), reduction="mean", l2=0.1)
    v = np.random.default_rng(0).standard_normal((2, net.parameter_count))
    *_, name = alive(processes, client, 2)
    point = DaskProblem(net, cut(x, 10), cut(y, 10)).at(net.initial(seed=0))
    before = point.loss, v @ point.hessian
    after = killed_in_the_middle(processes, client, name, lambda: v @ point.hessian)
    np.testing.assert_array_equal(after, before[1])
    assert point.cluster.sum("loss", worker.loss, point.cluster.partitions, point.w, 0)


def test_when_all_workers_die_everything_is_made_again(processes, client, monkeypatch):
    alive(processes, client, 1)
    monkeypatch.setattr(cluster, "_WITH_TASKS", 0)  # w is with the workers alone
    x, y = samples()
    net = MLP((4, 5, 3), reduction="mean", l2=0.1)
    point = DaskProblem(net, cut(x), cut(y)).at(net.initial(seed=0))
    gradient, image = point.gradient, point.hessian @ point.gradient
    for name in alive(processes, client, 1):
        processes.kill(name)
    processes.add()
    np.testing.assert_array_equal(point.hessian @ gradient, image)


def test_a_worker_killed_in_a_sweep_loses_nothing(processes, client):
    def norm(seed):
        import numpy

        return float(numpy.linalg.norm(numpy.random.default_rng(seed).standard_normal(5)))

    settings = [{"seed": seed} for seed in range(12)]
    *_, name = alive(processes, client, 2)
    found = killed_in_the_middle(processes, client, name, lambda: sweep(norm, settings))
    assert found == [norm(**setting) for setting in settings]


# Runs --------------------------------------------------------------------------------------------


def test_a_sweep_says_which_call_failed(client):
    def inverse(a):
        return 1 / a

    settings = [{"a": a} for a in (1, 2, 0, 4)]
    with pytest.raises(ZeroDivisionError) as caught:
        sweep(inverse, settings)
    assert any("settings[2], a=0" in note for note in caught.value.__notes__)
    found = sweep(inverse, settings, return_exceptions=True)
    assert found[:2] == [1.0, 0.5] and found[3] == 0.25
    assert isinstance(found[2], ZeroDivisionError)
    assert sweep(inverse, []) == []
    # Tuples and dicts are data, and no tasks to Dask.
    odd = sweep(lambda a: a, [{"a": (abs, -1)}, {"a": {"b": [1, (2,)]}}])
    assert odd == [(abs, -1), {"b": [1, (2,)]}]


def test_a_sweep_shows_progress(client, capfd):
    assert sweep(lambda a: a, [{"a": i} for i in range(3)], progress=True) == [0, 1, 2]
    assert "3" in capfd.readouterr().err


def test_refitting_and_lyapunov_runs_are_sweeps(client):
    """Any function: retraining without a sample, and a map's exponent in closed form."""
    x, y = samples(count=6, outputs=1)

    def refit(left_out):
        keep = np.arange(6) != left_out
        return np.linalg.lstsq(x[keep], y[keep], rcond=None)[0]

    found = sweep(refit, [{"left_out": i} for i in range(6)], client=client)
    for index, w in enumerate(found):
        keep = np.arange(6) != index
        rest = x[keep].T @ (x[keep] @ w - y[keep])
        assert np.abs(rest).max() <= 1e3 * EPS * np.abs(x).max() * np.abs(y).sum()

    def lyapunov(r, steps):
        total, z = 0.0, 0.3
        for _ in range(steps):
            total += math.log(abs(r * (1 - 2 * z)))
            z = r * z * (1 - z)
        return total / steps

    # The logistic map's fixed point has the multiplier 2 - r; the way there is 1/steps of it.
    settings = [{"r": r, "steps": 4000} for r in (2.25, 2.5)]
    for setting, exponent in zip(settings, sweep(lyapunov, settings, client=client), strict=True):
        assert abs(exponent - math.log(setting["r"] - 2)) < 1e-2


def test_a_comparison_is_that_of_one_process(client, tmp_path):
    x, y = samples()
    net = MLP((4, 3))
    methods = {"L-BFGS": LBFGS(), "SGD": SGD(learning_rate=1e-3)}
    options = {"seeds": [3, 1], "max_iterations": 6, "evaluate_every": 2}

    def problem(seed):
        return Minibatches(net, x, y, batch_size=30, seed=seed)

    for given, chosen in ((NetProblem(net, x, y), methods),
                          (problem, {"SGD": methods["SGD"]})):  # fmt: skip
        starts = lambda seed: net.initial(seed=seed)  # noqa: E731
        with swiftnets.threads(1):
            here = swiftnets.compare(given, chosen, starts, **options)
        far = compare(given, chosen, starts, folder=tmp_path / str(len(chosen)), **options)
        assert [(r.name, r.start, r.status) for r in far.runs] == [
            (r.name, r.start, r.status) for r in here.runs
        ]
        for one, other in zip(far.runs, here.runs, strict=True):
            np.testing.assert_array_equal(one.w, other.w)
        assert len(list((tmp_path / str(len(chosen))).iterdir())) == len(far.runs)


# What is not as it must be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda x, y: (x, y.rechunk((30, -1))), ValueError,
         r"y has chunks of \(30, 30, 30\) rows; expected those of x, \(20, 20, 20, 20, 10\): "
         r"y.rechunk"),
        (lambda x, y: (x, y[:80]), ValueError, "y has 80 rows; expected 90, as x has"),
        (lambda x, y: (x.rechunk((20, 2)), y), ValueError,
         r"x has 2 chunks along axis 1; expected one.*x.rechunk\({1: -1}\)"),
        (lambda x, y: (x[x[:, 0] > 0], y), ValueError, "x of partition . has shape|y of partition"),
        (lambda x, y: (x[:, :3], y), ValueError,
         r"x of partition \d has shape \(\d+, 3\); expected \(N, 4\)"),
        (lambda x, y: (np.ones((90, 4)), y), TypeError, "x is of type ndarray; expected a Dask ar"),
        (lambda x, y: (x, np.ones((90, 3))), TypeError, "y is of type ndarray; expected a Dask ar"),
        (lambda x, y: (x.astype(complex), y), TypeError, "x of partition . has dtype complex128"),
        (lambda x, y: (x, None), TypeError, "y is None and x is of type Array; expected Dask ar"),
        (lambda x, y: ([], None), ValueError, "x has no batches"),
        (lambda x, y: ([(1, 2)], None), TypeError, "batch 0 is of type tuple; expected one that i"),
        (lambda x, y: ([dask.delayed(5)], None), TypeError, "batch 0 is of type int; expected a t"),
        (lambda x, y: (x[:0], y[:0]), ValueError, "x has no samples in any partition"),
        (lambda x, y: (da.zeros((), chunks=()), y), ValueError, r"x has shape \(\)"),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit_say_so(client, build, error, message):
    x, y = (cut(array) for array in samples())
    with pytest.raises(error, match=message):
        DaskProblem(MLP((4, 5, 3)), *build(x, y))


def test_weights_that_do_not_fit_say_so(client):
    net, (x, y) = MLP((4, 3)), (cut(array) for array in samples())
    ones = np.ones(90)
    for weights, error, message in (
        (da.from_array(-ones, chunks=20), ValueError, "sample_weight of partition . has an entry"),
        (da.from_array(0 * ones, chunks=20), ValueError, "sample_weight is 0 everywhere"),
        (da.from_array(ones, chunks=90), ValueError, r"sample_weight has chunks of \(90\) rows"),
        (ones, TypeError, "sample_weight is of type ndarray"),
    ):
        with pytest.raises(error, match=message):
            DaskProblem(net, x, y, sample_weight=weights)
    with pytest.raises(TypeError, match="give batches as tuples"):
        DaskProblem(net, [dask.delayed(1)], sample_weight=ones)


def test_a_batch_that_raises_raises_here_and_says_which(client):
    def load(index):
        if index == 2:
            raise OSError("no such shard")
        return np.ones((5, 4)), np.ones((5, 3))

    batches = [dask.delayed(load)(index) for index in range(4)]
    with pytest.raises(OSError, match="no such shard") as caught:
        DaskProblem(MLP((4, 3)), batches)
    assert any("2 of 0 to 3" in note for note in caught.value.__notes__)


def test_numbers_that_are_not_finite_say_where_they_are(client):
    x, y = samples()
    x[45] = np.inf
    net = MLP((4, 3))
    problem = DaskProblem(net, cut(x), cut(y))
    w = net.initial(seed=0)
    value = problem.loss(w)
    assert not math.isfinite(value)
    with pytest.raises(FloatingPointError):
        problem.at(w).hessian.lanczos(np.ones(15), 2)


def test_clients_that_take_no_tasks_say_so(processes, client):
    x, y = (cut(array) for array in samples())
    net = MLP((4, 3))
    with distributed.Client(processes.address, set_as_default=False) as other:
        problem = DaskProblem(net, x, y, client=other)
        point = problem.at(net.initial(seed=0))
        assert problem.client is other
        assert math.isfinite(point.loss)
    for call in (
        lambda: point.hessian @ point.w,
        lambda: problem.loss(point.w),
        lambda: DaskProblem(net, x, y, client=other),
        lambda: sweep(abs, [{}], client=other),
    ):
        with pytest.raises(ValueError, match="client is closed; expected one with a running"):
            call()
    with pytest.raises(TypeError, match="client is of type str; expected a distributed.Client"):
        DaskProblem(net, x, y, client=processes.address)


def test_arguments_that_do_not_fit_say_so(client):
    x, y = samples()
    net = MLP((4, 3))
    problem = DaskProblem(net, cut(x), cut(y))
    point = problem.at(net.initial(seed=0))
    hessian = point.hessian
    huber = DaskProblem(MLP((4, 3), loss="huber"), cut(x), cut(y)).at(point.w)
    cases = [
        (lambda: DaskProblem(None, x, y), TypeError, "net is of type NoneType"),
        (lambda: problem.at([1.0]), ValueError, r"w has shape \(1,\); expected \(15,\)"),
        (lambda: hessian @ [1.0], ValueError, r"v has shape \(1,\); expected \(15,\)"),
        (lambda: hessian + 1j, TypeError, "shift is 1j"),
        (lambda: hessian + math.inf, ValueError, "shift is inf"),
        (lambda: hessian.solve(point.w, method="dense"), ValueError, "method is 'dense'"),
        (lambda: hessian.solve(point.w, preconditioner="x"), ValueError, "preconditioner is 'x'"),
        (lambda: hessian.lanczos(np.zeros(15), 2), ValueError, "starts has a row that is 0"),
        (lambda: hessian.lanczos(point.w, 0), ValueError, "steps is 0"),
        (lambda: point.kronecker_factors(seed=-1), ValueError, "seed is -1"),
        (lambda: huber.fisher(), ValueError, "which is no likelihood"),
        (lambda: pickle.dumps(problem), TypeError, "a DaskProblem is not pickled"),
        (lambda: pickle.dumps(point), TypeError, "a DaskPoint is not pickled"),
        (lambda: pickle.dumps(hessian), TypeError, "a DaskMatrix is not pickled"),
        (lambda: type(point)(None, point.w), TypeError, "a DaskPoint is made by DaskProblem.at"),
        (lambda: type(hessian)(None, 0), TypeError, "a DaskMatrix is made by a point"),
        (lambda: sweep(3, []), TypeError, "function is 3"),
        (lambda: sweep(abs, {"a": 1}), TypeError, "settings is of type dict"),
        (lambda: sweep(abs, [3]), TypeError, r"settings\[0\] is 3; expected a mapping"),
        (lambda: compare(problem, {"L": LBFGS()}, [point.w], max_iterations=1), TypeError,
         "problem is a DaskProblem"),
        (lambda: compare(3, {"L": LBFGS()}, [point.w], max_iterations=1), TypeError,
         "problem is of type int"),
        (lambda: compare(Rosenbrock(2), {"L": LBFGS()}, [[0.0, 1.0]]), ValueError,
         "expected at least one of them"),
        (lambda: compare(Rosenbrock(2), {}, [[0.0, 1.0]], max_iterations=1), TypeError,
         "optimizers is {}"),
    ]  # fmt: skip
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()
    assert repr(hessian + 0.5).startswith("Hessian + 0.5 of DaskPoint(MLP((4, 3)")
    assert repr(point).endswith("90 samples in 5 partitions)")


def test_a_vector_of_any_size_is_sent_once_and_without_a_warning(client, monkeypatch):
    net = MLP((1200, 1100), bias=False)
    x, y = np.ones((2, 1200)), np.ones((2, 1100))
    problem = DaskProblem(net, cut(x, 1), cut(y, 1))
    w = np.zeros(net.parameter_count)
    w[:1100] = 1.0
    assert w.nbytes > 10e6  # of which Dask warns
    calls, submit = [], client.submit

    def watched(function, *arguments, **options):
        calls.append(options["key"].rpartition("-")[0])
        return submit(function, *arguments, **options)

    monkeypatch.setattr(client, "submit", watched)
    assert problem.loss(w) == 0
    assert calls.count("send-vectors") == 1


def test_partitions_stay_where_they_are_though_vectors_are_larger(processes, client, monkeypatch):
    alive(processes, client, 2)
    monkeypatch.setattr(cluster, "_WITH_TASKS", 0)
    x, y = samples(count=8, inputs=60, outputs=60)
    net = MLP((60, 60), bias=False)
    point = DaskProblem(net, cut(x, 1), cut(y, 1)).at(net.initial(seed=0))
    rows = np.ones((40, 3600))  # 1.2 MB beside 1 kB
    _ = point.loss
    places = client.who_has(point._passed)
    assert len(set(places.values())) > 1
    for _ in range(3):
        close(rows @ point.gauss_newton, rows @ net.at(point.w, x, y).gauss_newton)
    assert client.who_has(point._passed) == places


def test_a_cluster_that_forgot_the_samples_says_so(client):
    x, y = samples()
    net = MLP((4, 3))
    problem = DaskProblem(net, cut(x), cut(y))
    client.cancel(problem._cluster.partitions)
    with pytest.raises(RuntimeError, match="the cluster dropped the sum .*A new DaskProblem"):
        problem.loss(net.initial(seed=0))
