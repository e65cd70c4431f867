"""What surrounds the steps: schedules, clipping, weight decay, validation, going on."""

import functools

import numpy as np
import pytest

from swiftnets import MLP
from swiftnets._support.checkpoints import CheckpointError
from swiftnets.optimizers import (
    KFAC,
    LBFGS,
    SGD,
    Adam,
    Momentum,
    Newton,
    Optimizer,
    QuarticLineSearch,
)
from swiftnets.optimizers.schedules import Constant, Cosine, Exponential, Linear, Step
from swiftnets.problems import Minibatches, NetProblem, Problem, Quadratic, Rosenbrock

BOWL = Quadratic(np.diag([1.0, 2.0]))


def data(count=24, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 3))
    return x, np.sin(x @ np.arange(6.0).reshape(3, 2))


def net(**options):
    return MLP((3, 4, 2), **{"reduction": "mean"} | options)


def batches(**options):
    return Minibatches(net(**options), *data(), batch_size=7, seed=3)


def same(one, other):
    """All that a run determines, bit for bit; NaN is NaN."""
    assert (one.w.tobytes(), one.loss, one.status) == (other.w.tobytes(), other.loss, other.status)
    assert (one.message, one.iteration) == (other.message, other.iteration)
    for name in ("loss", "gradient_norm", "cost", "accepted"):
        assert getattr(one.history, name).tobytes() == getattr(other.history, name).tobytes(), name
    for there, here in ((one.history.info, other.history.info), (one.state, other.state)):
        assert there.keys() == here.keys()
        for name, values in there.items():
            np.testing.assert_array_equal(values, here[name], strict=True)


# Schedules ----------------------------------------------------------------------------------------


def cosine_of_pytorch(optimizer, scheduler):
    up = scheduler.LinearLR(optimizer, start_factor=1 / 5, total_iters=4)
    down = scheduler.CosineAnnealingLR(optimizer, T_max=25, eta_min=0.3 * 0.1)
    return scheduler.SequentialLR(optimizer, [up, down], milestones=[5])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Step(7, 0.3), lambda o, s: s.StepLR(o, 7, 0.3)),
        (Exponential(0.93), lambda o, s: s.ExponentialLR(o, 0.93)),
        (Constant(0.25, 9), lambda o, s: s.ConstantLR(o, 0.25, 9)),
        (Linear(0.2, 0.9, 11), lambda o, s: s.LinearLR(o, 0.2, 0.9, 11)),
        (Cosine(30, minimum=0.1), lambda o, s: s.CosineAnnealingLR(o, 30, 0.03)),
        (Cosine(30, warmup=5, minimum=0.1), cosine_of_pytorch),
    ],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_schedules_are_those_of_pytorch(ours, theirs):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = theirs(optimizer, torch.optim.lr_scheduler)
    for step in range(30):
        # PyTorch goes from one rate to the next: some roundings a step.
        rate = optimizer.param_groups[0]["lr"]
        assert 0.3 * ours(step) == pytest.approx(rate, rel=30 * 4 * 2.3e-16), step
        optimizer.step()
        scheduler.step()


def test_schedules_stay_where_they_end():
    assert Cosine(4)(4) == Cosine(4)(9) == 0.0
    assert Cosine(4, minimum=0.5)(400) == 0.5
    assert Linear(1.0, 0.0, 3)(7) == 0.0
    assert Exponential(0.5)(10**6) == 0.0


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Step(0), "step_size"),
        (lambda: Step(2.5), "step_size"),
        (lambda: Step(2, -1.0), "gamma"),
        (lambda: Exponential(np.nan), "gamma"),
        (lambda: Exponential("0.9"), "gamma"),
        (lambda: Linear(-0.1), "start_factor"),
        (lambda: Linear(total_iters=0), "total_iters"),
        (lambda: Constant(np.inf), "factor"),
        (lambda: Cosine(0), "steps"),
        (lambda: Cosine(10, warmup=10), "warmup is 10; expected less than steps, 10"),
        (lambda: Cosine(10, minimum=-1), "minimum"),
    ],
)
def test_settings_of_schedules_are_checked(make, names):
    with pytest.raises((TypeError, ValueError), match=f"^{names}"):
        make()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_trajectory_with_everything_is_that_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    x, y = (a.astype(dtype) for a in data())
    problem = NetProblem(net(dtype=dtype), x, y)
    start = problem.net.initial(seed=1)
    tensor = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.AdamW([tensor], lr=0.02, weight_decay=0.3)
    scheduler = torch.optim.lr_scheduler.StepLR(theirs, 10, 0.5)
    steps, clip, seen = 40, 0.5, []
    ours = Adam(learning_rate=0.02, weight_decay=0.3)
    result = ours.minimize(
        problem,
        start,
        max_iterations=steps,
        schedule=Step(10, 0.5),
        clip=clip,
        callback=lambda event: seen.append(event.w),
    )
    assert (result.history.gradient_norm > clip).any()  # norms are those before
    np.testing.assert_allclose(result.history.info["learning_rate"][[9, 10]], [0.02, 0.01])
    # As without: a rounding of each step. And PyTorch divides by the norm plus 1e-6, which Adam
    # hardly sees, being free of scales but for the steps on which it is clipped.
    tolerance = 20 * steps * np.finfo(dtype).eps + steps * 0.02 * 1e-6 / clip
    for w in seen:
        tensor.grad = torch.tensor(problem.gradient(tensor.detach().numpy()))
        torch.nn.utils.clip_grad_norm_([tensor], clip)
        theirs.step()
        scheduler.step()
        np.testing.assert_allclose(w, tensor.detach().numpy(), 0, tolerance)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_decays_beside_its_gradient(nesterov):
    torch = pytest.importorskip("torch")
    rate, decay = 0.05, 0.2
    problem = NetProblem(net(), *data())
    start = problem.net.initial(seed=1)
    tensor = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.SGD([tensor], lr=rate, momentum=0.8, nesterov=nesterov)
    method = Momentum(learning_rate=rate, momentum=0.8, nesterov=nesterov, weight_decay=decay)
    found = method.minimize(problem, start, max_iterations=30).w
    for _ in range(30):
        tensor.grad = torch.tensor(problem.gradient(tensor.detach().numpy()))
        with torch.no_grad():
            tensor.mul_(1 - rate * decay)
        theirs.step()
    np.testing.assert_allclose(found, tensor.detach().numpy(), 0, 20 * 30 * 2.3e-16)


def test_weight_decay_of_sgd_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    problem = NetProblem(net(), *data())
    start = problem.net.initial(seed=1)
    tensor = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.SGD([tensor], lr=0.05, weight_decay=0.2)
    found = SGD(learning_rate=0.05, weight_decay=0.2).minimize(problem, start, max_iterations=30).w
    for _ in range(30):
        tensor.grad = torch.tensor(problem.gradient(tensor.detach().numpy()))
        theirs.step()
    np.testing.assert_allclose(found, tensor.detach().numpy(), 0, 20 * 30 * 2.3e-16)
    assert abs(found - SGD(learning_rate=0.05).minimize(problem, start, max_iterations=30).w).max()


def test_a_clipped_step_is_as_long_as_asked():
    w = np.array([3.0, 4.0])
    for clip, length in ((0.5, 0.5), (8.5, 8.5), (8.6, np.hypot(3, 8)), (1e9, np.hypot(3, 8))):
        result = SGD(learning_rate=1.0).minimize(BOWL, w, max_iterations=1, clip=clip)
        # BOWL's gradient at w is (3, 8).
        np.testing.assert_allclose(np.linalg.norm(result.w - w), length, rtol=1e-15)
        assert result.history.gradient_norm[0] == pytest.approx(np.hypot(3, 8), rel=1e-15)


def test_a_run_converges_by_its_gradient_and_not_by_the_clipped_one():
    method = SGD(learning_rate=0.1)
    result = method.minimize(BOWL, [3.0, 4.0], clip=1e-9, gradient_tolerance=1e-8)
    assert result.status == "iterations"


def test_a_factor_of_0_leaves_w_and_moves_the_state():
    def schedule(step):
        return float(step > 0)

    seen = []
    method = Momentum(learning_rate=0.1, momentum=0.5)
    method.minimize(
        BOWL,
        [3.0, 4.0],
        max_iterations=2,
        schedule=schedule,
        callback=lambda event: seen.append(event.w),
    )
    np.testing.assert_array_equal(seen[0], [3, 4])
    np.testing.assert_allclose(seen[1], [3 - 0.1 * 1.5 * 3, 4 - 0.1 * 1.5 * 8], rtol=1e-15)


def test_rates_below_float32_are_0():
    problem = NetProblem(net(dtype="float32"), *(a.astype("float32") for a in data()))
    start = problem.net.initial(seed=0)
    result = SGD().minimize(problem, start, max_iterations=3, schedule=Exponential(1e-25))
    # 0.01, 1e-27, and 1e-52, which float32 rounds to 0.
    np.testing.assert_allclose(result.history.info["learning_rate"], [1e-2, 1e-27, 0.0])


def test_names_are_schedules_of_the_whole_run():
    for name, last in (("cosine", (1 + np.cos(np.pi * 0.9)) / 2), ("linear", 0.1), ("constant", 1)):
        result = SGD().minimize(BOWL, [1.0, 1.0], max_iterations=10, schedule=name)
        assert result.history.info["learning_rate"][-1] == pytest.approx(0.01 * last)
    result = SGD().minimize(batches(), net().initial(seed=0), epochs=3, schedule="linear")
    assert result.history.info["learning_rate"][-1] == pytest.approx(0.01 / 12)


def test_kfac_takes_a_schedule_where_it_has_a_rate():
    problem, start = NetProblem(net(), *data()), net().initial(seed=0)
    fixed = KFAC(learning_rate=0.1, momentum=False)
    one = fixed.minimize(problem, start, max_iterations=1, schedule=Constant(0.5))
    two = KFAC(learning_rate=0.05, momentum=False).minimize(problem, start, max_iterations=1)
    np.testing.assert_array_equal(one.w, two.w)
    with pytest.raises(ValueError, match="^schedule is given.*this KFAC chooses its steps itself"):
        KFAC().minimize(problem, start, schedule="cosine")
    with pytest.raises(ValueError, match="^schedule is given.*Newton has none"):
        Newton().minimize(problem, start, schedule="cosine")


# How long -----------------------------------------------------------------------------------------


def test_epochs_are_as_many_steps_as_there_are_batches():
    start = net().initial(seed=0)
    assert len(SGD().minimize(batches(), start, epochs=3).history) == 3 * 4
    assert len(SGD().minimize(batches(), start, epochs=3, max_iterations=5).history) == 5
    assert len(SGD().minimize(batches(), start, epochs=1, max_iterations=5).history) == 4
    assert len(SGD().minimize(BOWL, [1.0, 1.0], epochs=3).history) == 3
    assert len(SGD().minimize(BOWL, [1.0, 1.0]).history) == 100


def test_all_callbacks_see_every_step_and_one_may_end_the_run():
    first, second = [], []

    def stop(event):
        first.append(event.iteration)
        return event.iteration == 2

    result = SGD().minimize(BOWL, [1.0, 1.0], callback=[stop, lambda e: second.append(e.iteration)])
    assert first == second == [0, 1, 2] and result.status == "callback"


# Validation ---------------------------------------------------------------------------------------


def test_the_validation_loss_is_that_of_the_other_samples_without_the_penalty():
    x, y = data(10, seed=9)
    weights = np.arange(10.0)
    plain, penalised = net(), net(l2=0.3)
    seen = {}
    result = SGD(learning_rate=0.1).minimize(
        batches(l2=0.3),
        penalised.initial(seed=0),
        epochs=3,
        validation=(x, y, weights),
        callback=lambda event: seen.update({event.iteration: (event.w, dict(event.info))}),
    )
    column = result.history.info["validation_loss"]
    looked = np.flatnonzero(~np.isnan(column))
    np.testing.assert_array_equal(looked, [3, 7, 11])
    for index in looked:
        w, info = seen[index]
        assert column[index] == plain.loss(w, x, y, sample_weight=weights)
        assert info["validation_loss"] == column[index]
    assert "validation_loss" not in seen[4][1]


def test_validation_is_taken_in_every_form():
    x, y = data(10, seed=9)
    problem, start = NetProblem(net(), *data()), net().initial(seed=0)
    forms = [
        (x, y),
        [(x[:4], y[:4]), (x[4:], y[4:])],
        NetProblem(net(), x, y),
        Minibatches(net(), x, y, batch_size=2),
        lambda w: np.array(net().loss(w, x, y)),
    ]
    found = [
        SGD().minimize(problem, start, max_iterations=5, validation=form, validation_every=2)
        for form in forms
    ]
    for one in found:
        column = one.history.info["validation_loss"]
        np.testing.assert_array_equal(np.isnan(column), [True, False, True, False, True])
        # The second adds up in another order.
        np.testing.assert_allclose(column, found[0].history.info["validation_loss"], rtol=1e-15)


def falling_and_rising(event_w):
    """Least where the first weight is 1: on the way of a run that goes from 3 to 0."""
    return abs(event_w[0] - 1.0)


def test_the_best_weights_are_kept_with_their_state():
    seen = [np.array([3.0, 4.0])]
    states = []

    class Watched(Momentum):
        def step(self, problem, w, state):
            result = super().step(problem, w, state)
            states.append(result.state)
            return result

    result = Watched(learning_rate=0.02, momentum=0.5).minimize(
        BOWL,
        seen[0],
        max_iterations=60,
        validation=falling_and_rising,
        keep_best=True,
        callback=lambda event: seen.append(event.w),
    )
    best = int(np.argmin([abs(w[0] - 1) for w in seen]))
    assert 0 < best < 60 and result.iteration == best and len(result.history) == 60
    np.testing.assert_array_equal(result.w, seen[best])
    assert result.state["velocity"] is states[best - 1]["velocity"]
    assert result.loss == BOWL.loss(seen[best])
    assert f"after {best} iterations" in result.message
    assert result.history.info["validation_loss"].argmin() == best - 1


def test_the_start_and_the_end_may_be_the_best():
    rising = SGD().minimize(
        BOWL, [1.0, 1.0], max_iterations=7, validation=lambda w: -w[0], keep_best=True
    )
    assert rising.iteration == 0 and (rising.w == 1).all()
    falling = SGD().minimize(
        BOWL,
        [1.0, 1.0],
        max_iterations=7,
        validation=lambda w: w[0],
        validation_every=5,
        keep_best=True,
    )
    assert falling.iteration == 7 and "at the end" in falling.message
    # The history is of looks every five steps alone.
    assert np.isfinite(falling.history.info["validation_loss"]).sum() == 1


def test_without_validation_it_is_the_loss_of_all_samples():
    start = net().initial(seed=0)
    result = SGD(learning_rate=0.3).minimize(batches(), start, epochs=4, keep_best=True)
    losses = result.history.info["full_loss"][3::4]
    best = int(losses.argmin())
    assert result.loss == losses[best] and result.iteration == 4 * (best + 1)
    assert result.loss == net().loss(result.w, *data())


def test_patience_ends_a_run_after_so_many_looks():
    result = SGD(learning_rate=0.02).minimize(
        BOWL, [3.0, 4.0], max_iterations=500, validation=falling_and_rising, patience=4
    )
    values = result.history.info["validation_loss"]
    assert result.status == "patience" and not result.success
    assert len(values) == values.argmin() + 1 + 4
    assert "the validation loss has not fallen in 4 looks" in result.message
    never = SGD().minimize(
        BOWL, [1.0, 1.0], max_iterations=9, validation=lambda w: w[0], patience=1
    )
    assert never.status == "iterations"


def test_numbers_that_are_none_are_never_the_best():
    def nan(w):
        return np.nan if w[0] < 0.9 else w[0]

    def broken(w):
        raise FloatingPointError

    result = SGD(learning_rate=0.02).minimize(
        BOWL, [1.0, 1.0], validation=nan, keep_best=True, patience=3
    )
    assert result.w[0] >= 0.9 and result.status == "patience"
    result = SGD().minimize(BOWL, [1.0, 1.0], max_iterations=3, validation=broken, keep_best=True)
    assert (result.history.info["validation_loss"] == np.inf).all()
    with pytest.raises(TypeError, match="^validation returned 'x'; expected a number"):
        SGD().minimize(BOWL, [1.0, 1.0], validation=lambda w: "x")


def test_a_validation_function_cannot_change_the_run():
    def spoil(w):
        w[:] = 0
        return 1.0

    one = SGD().minimize(BOWL, [1.0, 1.0], max_iterations=5, validation=spoil, keep_best=True)
    assert (one.w == 1).all()


# Going on -----------------------------------------------------------------------------------------


def falling(step):
    return 0.9**step


@pytest.mark.parametrize("schedule", [Cosine(12, 3), falling, "constant"], ids=str)
@pytest.mark.parametrize("method", [SGD(), Momentum(), Adam()], ids=["sgd", "momentum", "adam"])
def test_a_run_with_everything_goes_on_with_the_same_bits(method, schedule, tmp_path):
    start, x, y = net().initial(seed=0), *data(10, seed=9)

    def run(**options):
        return method.minimize(
            batches(),
            start,
            schedule=schedule,
            clip=0.1,
            validation=(x, y),
            validation_every=3,
            keep_best=True,
            patience=4,
            **{"epochs": 3} | options,
        )

    whole, path = run(), tmp_path / "run.npz"

    def interrupt(event):
        if event.iteration == 7:
            raise KeyboardInterrupt

    run(checkpoint=path, max_iterations=4)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=path, callback=interrupt)
    same(run(checkpoint=path), whole)
    same(run(checkpoint=path), whole)


def test_a_run_that_lost_patience_has_lost_it_when_it_goes_on(tmp_path):
    path = tmp_path / "run.npz"

    def run(patience):
        return SGD(learning_rate=0.02).minimize(
            BOWL,
            [3.0, 4.0],
            max_iterations=500,
            validation=falling_and_rising,
            keep_best=True,
            patience=patience,
            checkpoint=path,
        )

    first = run(4)
    same(run(4), first)
    more = run(6)
    assert len(more.history) == len(first.history) + 2
    np.testing.assert_array_equal(more.w, first.w)


def test_the_best_weights_come_back_with_their_state(tmp_path):
    path = tmp_path / "run.npz"

    def run(count, **options):
        return Momentum(learning_rate=0.02).minimize(
            BOWL,
            [3.0, 4.0],
            max_iterations=count,
            validation=falling_and_rising,
            keep_best=True,
            **options,
        )

    whole = run(20)
    assert 0 < whole.iteration < 14
    for count in (3, 14, 20, 20):
        found = run(count, checkpoint=path)
    same(found, whole)


def test_an_interrupt_while_validating_leaves_the_step_before(tmp_path):
    calls = []

    def validation(w):
        calls.append(0)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return float(w @ w)

    def run(**options):
        return SGD().minimize(
            BOWL, [1.0, 1.0], max_iterations=6, validation=validation, keep_best=True, **options
        )

    path = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=path)
    resumed = run(checkpoint=path)
    calls[:] = [0] * 10
    same(resumed, run())


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path):
    path = tmp_path / "run.npz"

    def run(**options):
        given = {"schedule": Cosine(9), "clip": 0.5, "keep_best": True} | options
        SGD().minimize(BOWL, [1.0, 1.0], max_iterations=4, checkpoint=path, **given)

    run()
    for says, options in (
        ("schedule's steps is 9 there and 8 here", {"schedule": Cosine(8)}),
        ("schedule is Cosine there and Step here", {"schedule": Step(2)}),
        ("schedule is Cosine there and None here", {"schedule": None}),
        ("clip is 0.5 there and 0.25 here", {"clip": 0.25}),
        ("validation's every is 1 there and 2 here", {"validation_every": 2}),
        ("validation is .* there and None here", {"keep_best": False}),
    ):
        with pytest.raises(CheckpointError, match=says):
            run(**options)
    run()


@pytest.mark.parametrize("method", [SGD(), Momentum(), Adam(), LBFGS(), KFAC()], ids=repr)
def test_a_result_goes_on_as_if_it_had_not_ended(method):
    problem = batches() if not isinstance(method, LBFGS) else NetProblem(net(), *data())
    start = net().initial(seed=0)
    options = {"schedule": falling} if isinstance(method, (SGD, Momentum, Adam)) else {}
    first = method.minimize(problem, start, max_iterations=6, **options)
    second = method.minimize(problem, first.w, max_iterations=11, state=first, **options)
    same(second, method.minimize(problem, start, max_iterations=11, **options))
    assert second.history.seconds[6] > second.history.seconds[5] == first.history.seconds[5]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("count", [4, 5])  # a look at the end, or none
def test_a_checkpoint_of_another_validation_function_is_refused(keep, count, tmp_path):
    """Two functions of one name, by their values: where a run started, was best and stands."""
    path = tmp_path / "run.npz"
    start = np.array([1.0, 1.0])

    def run(validation, iterations):
        return SGD(learning_rate=0.1).minimize(
            BOWL,
            start,
            max_iterations=iterations,
            validation=validation,
            validation_every=2,
            keep_best=keep,
            checkpoint=path,
        )

    run(lambda w: float(w @ w), count)
    before = path.read_bytes()
    others = [(lambda w: float(w @ w) + 1, "0 iterations is 2 there and 3 here")]
    if keep or count % 2 == 0:  # the same at the start
        others.append((lambda w: 2.0, "4 iterations is .* there and 2 here"))
    for other, words in others:
        with pytest.raises(
            CheckpointError, match=f"another run: the validation loss after {words}"
        ):
            run(other, 9)
        assert path.read_bytes() == before
    resumed = run(lambda w: float(np.sum(w**2)), 9)
    path.unlink()
    whole = run(lambda w: float(w @ w), 9)
    assert resumed.w.tobytes() == whole.w.tobytes() and resumed.iteration == whole.iteration


class Shifted:
    """A function of w without a name."""

    def __init__(self, by):
        self.by = by

    def __call__(self, w):
        return falling_and_rising(w) + self.by


@pytest.mark.parametrize(
    "make", [Shifted, lambda by: functools.partial(lambda shift, w: shift + w[0], by)]
)
def test_what_can_be_called_is_a_validation_function(make, tmp_path):
    whole = SGD().minimize(BOWL, [1.0, 1.0], max_iterations=4, validation=make(1), keep_best=True)
    options = {"keep_best": True, "checkpoint": tmp_path / "run.npz"}
    SGD().minimize(BOWL, [1.0, 1.0], max_iterations=2, validation=make(1), **options)
    with pytest.raises(CheckpointError, match="another run: the validation loss after 0"):
        SGD().minimize(BOWL, [1.0, 1.0], max_iterations=4, validation=make(2), **options)
    found = SGD().minimize(BOWL, [1.0, 1.0], max_iterations=4, validation=make(1), **options)
    np.testing.assert_array_equal(found.w, whole.w)
    with pytest.raises(CheckpointError, match="another run: validation's source is "):
        SGD().minimize(BOWL, [1.0, 1.0], max_iterations=4, validation=BOWL, **options)


def test_a_problem_of_ones_own_as_validation_is_told_apart(tmp_path):
    class Own(Problem):
        parameter_count = 2

        def __init__(self, height):
            self.height = height

        def loss_and_gradient(self, w):
            return float(w @ w) + self.height, 2 * w

    options = {"checkpoint": tmp_path / "run.npz", "patience": 5}
    SGD().minimize(BOWL, [1.0, 1.0], max_iterations=2, validation=Own(0), **options)
    with pytest.raises(CheckpointError, match="the validation loss after 0 iterations is 2 there"):
        SGD().minimize(BOWL, [1.0, 1.0], max_iterations=4, validation=Own(1), **options)


def test_a_result_that_goes_on_has_checkpoints_of_its_own(tmp_path):
    path = tmp_path / "run.npz"
    first = Adam().minimize(BOWL, [1.0, 1.0], max_iterations=4)
    whole = Adam().minimize(BOWL, [1.0, 1.0], max_iterations=9)
    for count in (6, 9):
        found = Adam().minimize(BOWL, first.w, max_iterations=count, state=first, checkpoint=path)
    same(found, whole)
    with pytest.raises(CheckpointError, match="state"):
        Adam().minimize(BOWL, first.w, max_iterations=9, checkpoint=path)


def test_the_best_of_a_run_goes_on_from_its_own_iteration():
    def run(w, **options):
        return Momentum(learning_rate=0.02).minimize(
            BOWL, w, validation=falling_and_rising, keep_best=True, **options
        )

    first = run([3.0, 4.0], max_iterations=40)
    assert 0 < first.iteration < 40
    second = run(first.w, state=first, max_iterations=40)
    np.testing.assert_array_equal(second.history.loss, first.history.loss)


def test_a_state_alone_goes_on_with_what_the_method_remembers():
    first = Momentum(learning_rate=0.1, momentum=0.5).minimize(BOWL, [1.0, 1.0], max_iterations=3)
    velocity = first.state["velocity"].copy()
    second = Momentum(learning_rate=0.1, momentum=0.5).minimize(
        BOWL, first.w, max_iterations=1, state=first.state
    )
    gradient = first.w * [1.0, 2.0]
    np.testing.assert_allclose(second.w, first.w - 0.1 * (0.5 * velocity + gradient), rtol=1e-15)
    assert len(second.history) == 1
    np.testing.assert_array_equal(first.state["velocity"], velocity)


# Arguments ----------------------------------------------------------------------------------------


DONE = Adam().minimize(BOWL, [1.0, 1.0], max_iterations=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs is -1"),
        ({"epochs": 2.5}, "epochs is 2.5"),
        ({"schedule": 3}, "schedule is 3; expected a function of the step"),
        ({"schedule": Cosine}, "schedule is <class"),
        ({"schedule": "cosin"}, "schedule is 'cosin'.*did you mean 'cosine'"),
        ({"schedule": lambda step: -1.0}, r"schedule\(0\) is -1.0; expected a number that is not"),
        ({"schedule": lambda step: "1"}, r"schedule\(0\) is '1'"),
        ({"schedule": lambda step: np.inf}, r"schedule\(0\) is inf"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"clip": "1"}, "clip is '1'"),
        ({"validation": 3}, "validation is of type int"),
        ({"validation": (np.ones((2, 2)), np.ones(2))}, "validation has samples, and problem has"),
        ({"validation": Rosenbrock(3)}, "validation has 3 parameters; expected 2"),
        ({"validation_every": 0}, "validation_every is 0"),
        ({"keep_best": 1}, "keep_best is 1"),
        ({"patience": 0}, "patience is 0"),
        ({"state": [1.0]}, "state is of type list"),
        ({"state": {}}, "state has no 'mean', 'square', 'steps'"),
        ({"state": DONE.state | {"mean": np.zeros(3)}}, r"state 'mean' is float64 of shape \(3,\)"),
        ({"state": DONE}, "w differs from the w of the Result"),
        ({"state": DONE, "w": DONE.w, "max_iterations": 2}, "state is a Result of 3 iterations"),
        ({"callback": [3]}, r"callback\[0\] is 3"),
        ({"callback": "log"}, "callback is 'log'"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        Adam().minimize(**{"problem": BOWL, "w": [1.0, 1.0]} | options)


def test_validation_samples_are_checked():
    problem, start = NetProblem(net(), *data()), net().initial(seed=0)
    for validation, message in (
        ((np.ones((4, 2)), np.ones((4, 2))), r"^x has shape \(4, 2\)"),
        ((np.ones((4, 3)),), "^validation has 1 entries"),
        ([], "^x has no batches"),
    ):
        with pytest.raises(ValueError, match=message):
            SGD().minimize(problem, start, validation=validation)


def test_clipping_is_refused_where_steps_need_the_gradient():
    for method in (LBFGS(), Newton()):
        with pytest.raises(ValueError, match=f"^clip is 1.0, and steps of {type(method).__name__}"):
            method.minimize(BOWL, [1.0, 1.0], clip=1)


def test_a_method_of_ones_own_may_be_clipped_and_scheduled():
    class Mine(Optimizer):
        clips = True

        def __init__(self):
            self.learning_rate = 1.0

        def step(self, problem, w, state):
            loss, gradient = problem.loss_and_gradient(w)
            from swiftnets.optimizers import StepResult

            length = float(np.linalg.norm(gradient))
            return StepResult(w - self.learning_rate * gradient, loss, length, state)

    result = Mine().minimize(
        BOWL, [3.0, 4.0], max_iterations=1, clip=0.5, schedule=lambda step: 0.5
    )
    assert np.linalg.norm(result.w - [3, 4]) == pytest.approx(0.25)
    assert result.history.gradient_norm[0] == pytest.approx(np.hypot(3, 8))


def test_problems_without_nets_take_functions_as_validation():
    class Flat(Problem):
        parameter_count = 1

        def loss_and_gradient(self, w):
            return float(w[0] ** 2), 2 * w

    result = SGD().minimize(Flat(), [1.0], max_iterations=2, validation=Flat(), patience=1)
    np.testing.assert_array_equal(
        result.history.info["validation_loss"][:-1], result.history.loss[1:]
    )


def test_a_schedule_of_the_same_name_is_no_other_schedule(tmp_path):
    """All that the settings of a function say is its name, and that of each is <lambda>."""
    path, w = tmp_path / "run.npz", net().initial(seed=0)

    def run(schedule, epochs):
        return SGD().minimize(batches(), w, epochs=epochs, schedule=schedule, checkpoint=path)

    run(lambda step: 0.9**step, 2)
    for other in (lambda step: 0.5, lambda step: 0.9**step if step < 7 else 0.1):
        with pytest.raises(CheckpointError, match="the learning rate at iteration . is .* there"):
            run(other, 4)
    before = SGD().minimize(batches(), w, epochs=1, schedule=lambda step: 0.7)
    for epochs in (2, 3):  # steps of a run before had a schedule of their own
        SGD().minimize(
            batches(),
            before.w,
            epochs=epochs,
            state=before,
            schedule=lambda step: 0.2,
            checkpoint=tmp_path / "second.npz",
        )
    with_break = run(lambda step: 0.9**step, 4)
    whole = SGD().minimize(batches(), w, epochs=4, schedule=falling)
    np.testing.assert_array_equal(with_break.w, whole.w)


def test_a_schedule_may_return_an_array_of_no_axes():
    """As those of optax do, which are functions of JAX."""
    rates = []
    for kind in (float, np.float32, np.array):
        result = SGD().minimize(
            BOWL, [1.0, 1.0], max_iterations=2, schedule=lambda _, k=kind: k(0.5)
        )
        rates.append(result.history.info["learning_rate"])
    np.testing.assert_array_equal(rates, np.full((3, 2), 0.005))
    with pytest.raises(TypeError, match=r"^schedule\(0\) is array\(\[0.5\]\)"):
        SGD().minimize(BOWL, [1.0, 1.0], schedule=lambda step: np.array([0.5]))


def test_a_validation_loss_that_is_finite_nowhere_gives_no_steps_away():
    """It gave the start back as the best, after all steps."""
    x, y = data()
    w, spoilt = net().initial(seed=0), (np.full_like(x, np.nan), y)
    plain = SGD().minimize(batches(), w, epochs=3)
    result = SGD().minimize(batches(), w, epochs=3, validation=spoilt, keep_best=True)
    np.testing.assert_array_equal(result.w, plain.w)
    assert (result.loss, result.iteration) == (plain.loss, plain.iteration)
    assert "the validation loss was finite nowhere, so that w is the last one" in result.message
    on = SGD().minimize(batches(), result.w, epochs=5, state=result)
    np.testing.assert_array_equal(on.w, SGD().minimize(batches(), w, epochs=5).w)
    ended = SGD().minimize(batches(), w, epochs=9, validation=spoilt, patience=2)
    assert (ended.status, len(ended.history)) == ("patience", 8)
    assert ended.message == "the validation loss was finite in none of 2 looks"


def test_a_class_is_no_callback():
    for callback in (Quadratic, [print, Quadratic]):
        with pytest.raises(TypeError, match="^callback.* is .*Quadratic.*; expected a function"):
            SGD().minimize(BOWL, [1.0, 1.0], callback=callback)


@pytest.mark.parametrize("steps", [np.nan, 1.0, [1, 2]])
def test_a_count_in_a_state_is_an_integer(steps):
    state = Adam().minimize(BOWL, [1.0, 1.0], max_iterations=2).state | {"steps": np.array(steps)}
    with pytest.raises(ValueError, match="^state 'steps' is .*; expected an integer"):
        Adam().minimize(BOWL, [1.0, 1.0], state=state)


def small(sizes):
    one, rng = MLP(sizes), np.random.default_rng(0)
    x, y = rng.standard_normal((9, sizes[0])), rng.standard_normal((9, sizes[-1]))
    return NetProblem(one, x, y), one.initial(seed=0)


@pytest.mark.parametrize("split_damping", [False, True])
@pytest.mark.parametrize("other", [(3, 2, 4, 2), (2, 3, 2, 3, 1)])
def test_a_state_of_another_net_is_refused(split_damping, other):
    """Of as many parameters: its factors were taken, or memory that nothing had filled."""
    method = KFAC(split_damping=split_damping, period=100)
    there = method.minimize(*small(other), max_iterations=3).state
    problem, w = small((5, 3, 3))
    assert there["previous"].shape == w.shape
    with pytest.raises(ValueError, match="^state 'inputs0' is float64 of shape .* 30 parameters"):
        method.minimize(problem, w, state=there)


METHODS = [Adam(), Momentum(), LBFGS(), KFAC(), KFAC(split_damping=True), QuarticLineSearch()]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_every_array_of_a_state_is_looked_at(method):
    problem, w = small((3, 2, 1))
    done = method.minimize(problem, w, max_iterations=3)
    method.minimize(problem, done.w, max_iterations=1, state=done.state)
    for name in method.initial_state(problem, w):
        values = done.state[name]
        for wrong in (np.append(values, values), values.astype(complex), np.array("a")):
            with pytest.raises(ValueError, match=f"^state {name!r} is .*; expected "):
                method.minimize(
                    problem, done.w, max_iterations=1, state={**done.state, name: wrong}
                )
        if values.dtype.kind == "f":
            with pytest.raises(ValueError, match=f"^state {name!r} has numbers that are not fin"):
                nothing = np.full_like(values, np.nan)
                method.minimize(
                    problem, done.w, max_iterations=1, state={**done.state, name: nothing}
                )


@pytest.mark.parametrize("what", [[], 3, ()])
def test_a_plot_of_nothing_is_refused(what):
    history = SGD().minimize(BOWL, [1.0, 1.0], max_iterations=2).history
    with pytest.raises(ValueError, match="^what is .*; expected a name, or a list"):
        history.plot(what)


def test_samples_of_a_validation_need_a_problem_that_knows_its_net():
    """Not a NetProblem: `swiftnets.dask.DaskProblem` has its samples elsewhere."""

    class Elsewhere(Problem):
        def __init__(self, net, x, y):
            self.net, self._inner = net, NetProblem(net, x, y)
            self.parameter_count, self.dtype = net.parameter_count, net.dtype

        def loss_and_gradient(self, w):
            return self._inner.loss_and_gradient(w)

        def hvp(self, w, v):
            return self._inner.hvp(w, v)

    one, (x, y) = net(l2=0.3), data()
    found = SGD().minimize(
        Elsewhere(one, x, y), one.initial(seed=0), max_iterations=3, validation=(x[:5], y[:5])
    )
    last = found.history.info["validation_loss"][-1]
    assert last == net().loss(found.w, x[:5], y[:5])


def test_what_differs_is_said_in_few_words(tmp_path):
    path, w = tmp_path / "run.npz", net().initial(seed=0)
    SGD().minimize(batches(), w, epochs=1, checkpoint=path)
    with pytest.raises(CheckpointError, match="validation is None there and {'source': ") as caught:
        SGD().minimize(batches(), w, epochs=1, checkpoint=path, validation=data())
    assert len(str(caught.value)) < 200 + len(str(path))
