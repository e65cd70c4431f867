"""The model problem's minimiser against the conditions for it, and against 80 digits."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swiftnets.optimizers.secular import resolved, secular_step

EPS = np.finfo(float).eps

pytestmark = pytest.mark.filterwarnings("error")


def numbers(exponents):
    """0, or ± a mantissa times a power of ten."""
    some = st.tuples(st.sampled_from([-1, 1]), st.integers(10, 99), exponents)
    return st.one_of(st.just(0.0), some.map(lambda t: t[0] * t[1] / 10 * 10.0 ** t[2]))


# Few different eigenvalues, so that they are often multiple; parts of g down to far below rounding.
eigenvalue = st.one_of(
    st.sampled_from([-1.0, -0.5, 0.0, 1.0, 2.0]), numbers(st.sampled_from([-40, -17, -8, 0]))
)
part = st.one_of(numbers(st.integers(-40, -8)), numbers(st.sampled_from([-1, 0])))
spectra = st.lists(st.tuples(eigenvalue, part), min_size=1, max_size=5)
scales = st.sampled_from([1.0, 1e-20, 1e20, 1e-150, 1e150])


def exactly(values):
    return [mpmath.mpf(float(v)) for v in values]


def model(values, gradient, step, sigma=0):
    """g·s + ½ s·Θ s + σ ‖s‖³ / 3."""
    size = mpmath.sqrt(sum(s**2 for s in step))
    quadratic = sum(g * s + t * s**2 / 2 for t, g, s in zip(values, gradient, step, strict=True))
    return quadratic + sigma * size**3 / 3


def minimiser(values, gradient, radius, interior):
    """s by bisection in the logarithm of λ + θ₁ in 80 digits; and the hard case by hand."""
    least = max(mpmath.mpf(0), -values[0])

    def step(above):
        return [
            mpmath.mpf(0) if g == 0 else -g / (t + least + above)
            for t, g in zip(values, gradient, strict=True)
        ]

    def size(s):
        return mpmath.sqrt(sum(x**2 for x in s))

    singular = any(t + least == 0 and g != 0 for t, g in zip(values, gradient, strict=True))
    if not singular:
        s = step(mpmath.mpf(0))
        if size(s) <= radius(least):
            if least > 0 or not interior:
                s[0] = mpmath.sqrt(radius(least) ** 2 - size(s) ** 2)
            return s
    low, high = mpmath.mpf(-800), mpmath.mpf(800)
    for _ in range(140):  # to 1600 / 2¹⁴⁰ of log₁₀
        middle = (low + high) / 2
        above = mpmath.mpf(10) ** middle
        low, high = (low, middle) if size(step(above)) <= radius(least + above) else (middle, high)
    return step(mpmath.mpf(10) ** high)


def check(values, gradient, sigma=None, radius=None):
    """What came against the conditions, whose residuals are roundings, and the best value."""
    if sigma is None:
        s, shift = secular_step(values, gradient, lambda _: radius, True)
    else:
        s, shift = secular_step(values, gradient, lambda t: t / sigma, False)
    with mpmath.workdps(80):
        theta, g, step, lam = exactly(values), exactly(gradient), exactly(s), mpmath.mpf(shift)
        unit, tiny = mpmath.mpf(EPS), mpmath.mpf(2) ** -1074
        size = mpmath.sqrt(sum(x**2 for x in step))
        # λ is rounded once, and each s, θ − θ₁ and norm a few times.
        scale = max(max(abs(t) for t in theta), lam)
        for t, a, x in zip(theta, g, step, strict=True):
            assert abs((t + lam) * x + a) <= scale * (8 * unit * size + tiny)
        assert lam >= 0 and theta[0] + lam >= -unit * scale
        if sigma is None:
            delta = mpmath.mpf(radius)
            assert size <= (1 + 20 * unit) * delta
            assert lam * (delta - size) <= 20 * unit * scale * delta
            best = minimiser(theta, g, lambda _: delta, True)
            value, least = model(theta, g, step), model(theta, g, best)
        else:
            cubic = mpmath.mpf(sigma)
            assert abs(cubic * size - lam) <= 20 * unit * scale
            best = minimiser(theta, g, lambda t: t / cubic, False)
            value, least = model(theta, g, step, cubic), model(theta, g, best, cubic)
        # Each term of the model is off by some roundings of s.
        length = mpmath.sqrt(sum(x**2 for x in best))
        slack = 50 * (unit * length + tiny) * (length * scale + mpmath.sqrt(sum(x**2 for x in g)))
        assert value <= least + slack


@settings(max_examples=60)
@given(spectra, st.sampled_from([1e-3, 1.0, 40.0]), scales, scales)
@example([(0.0, 0.0), (0.0, 2.3e-21)], 1e-3, 1e-150, 1e150)  # no spectrum, and a tiny shift
def test_the_trust_region_step_fulfils_the_conditions_and_is_best(pairs, radius, a, b):
    pairs = sorted(pairs)
    values, gradient = np.array([t for t, _ in pairs]) * a, np.array([g for _, g in pairs]) * b
    # In units of ‖g‖ / ‖Θ‖, as far as those are in range.
    check(values, gradient, radius=radius * b / a)


@settings(max_examples=60)
@given(spectra, st.sampled_from([1e-3, 1.0, 40.0]), st.sampled_from([1e-20, 1.0, 1e20]), scales)
def test_the_cubic_step_fulfils_the_conditions_and_is_best(pairs, sigma, a, b):
    pairs = sorted(pairs)
    values, gradient = np.array([t for t, _ in pairs]) * a, np.array([g for _, g in pairs]) * b
    check(values, gradient, sigma=sigma * a * (a / b))


@pytest.mark.parametrize("exponent", [*range(-40, -7), -60, -100, -200, -300])
def test_a_part_of_the_gradient_below_rounding_decides_where_to(exponent):
    for sign in (-1, 1):
        g = sign * 10.0**exponent
        s, shift = secular_step([-1, 1], [g, 0.1], lambda _: 1.0, True)
        assert shift == pytest.approx(1, abs=1e-7)
        np.testing.assert_allclose(s, [-sign * math.sqrt(1 - s[1] ** 2), -0.05], rtol=1e-7)
        check(np.array([-1.0, 1.0]), np.array([g, 0.1]), radius=1.0)
        check(np.array([-1.0, 1.0]), np.array([g, 0.1]), sigma=1.0)


@pytest.mark.parametrize(
    ("values", "gradient"),
    [
        ([-2.0, 1.0], [0.0, 3.0]),  # hard
        ([-2.0, -2.0, 1.0], [0.0, 0.0, 3.0]),
        ([-2.0, -2.0, 1.0], [0.0, 1e-30, 3.0]),
        ([-2.0, -2.0 + 4 * EPS, 1.0], [0.0, 1e-17, 3.0]),
        ([-2.0], [0.0]),
        ([-2.0], [1e-300]),
        ([3.0], [1.0]),
        ([-2.0, 1.0], [0.0, 0.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([0.0, 0.0], [3.0, 4.0]),
        ([0.0, 1.0], [1e-25, 1.0]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([1e-200, 1.0], [1e-10, 1.0]),
        ([-1e-200, 1.0], [0.0, 1.0]),
    ],
)
def test_hard_and_degenerate_cases(values, gradient):
    for size in (0.01, 1.0, 5.0, 1e5):
        check(np.array(values), np.array(gradient), radius=size)
        check(np.array(values), np.array(gradient), sigma=1 / size)


@settings(max_examples=50)
@given(spectra, st.integers(-700, 700), st.integers(-700, 700))
def test_steps_are_invariant_under_powers_of_two(pairs, a, b):
    pairs = sorted(pairs)
    values, gradient = np.array([t for t, _ in pairs]), np.array([g for _, g in pairs])
    if abs(b - a) > 700 or abs(2 * a - b) > 900:  # the step, or σ, out of range
        a, b = a // 4, b // 4
    plain, shift = secular_step(values, gradient, lambda _: 1.5, True)
    scaled, other = secular_step(
        np.ldexp(values, a), np.ldexp(gradient, b), lambda _: math.ldexp(1.5, b - a), True
    )
    # Where nothing becomes subnormal: parts of g are above 1e-40, and of s above 1e-42 or so.
    np.testing.assert_array_equal(np.ldexp(plain, b - a), scaled)
    assert math.ldexp(shift, a) == other
    plain, shift = secular_step(values, gradient, lambda t: t / 3, False)
    scaled, other = secular_step(
        np.ldexp(values, a),
        np.ldexp(gradient, b),
        lambda t: t / math.ldexp(3, 2 * a - b),
        False,
    )
    np.testing.assert_array_equal(np.ldexp(plain, b - a), scaled)
    assert math.ldexp(shift, a) == other


@settings(max_examples=30)
@given(spectra)
def test_eigenvalues_come_in_any_order(pairs):
    values, gradient = np.array(sorted(pairs)).T
    s, shift = secular_step(values, gradient, lambda _: 2.0, True)
    reverse, same = secular_step(values[::-1], gradient[::-1], lambda _: 2.0, True)
    assert shift == pytest.approx(same, rel=1e-15)
    # Equal eigenvalues may share a step in other ways.
    assert np.linalg.norm(s) == pytest.approx(np.linalg.norm(reverse), rel=1e-15)
    if len(set(values)) == len(values):
        np.testing.assert_allclose(s, reverse[::-1], rtol=1e-12)


def test_a_model_beyond_the_range_of_float64_still_has_its_step():
    s, shift = secular_step([1e-300, 2e-300], [3e300, 4e300], lambda _: 1e-10, True)
    np.testing.assert_allclose(s, [-6e-11, -8e-11], rtol=4 * EPS)
    assert shift == np.inf  # 5e310
    s, shift = secular_step([-1e-300, 1e-300], [3e-10, 4e-10], lambda t: t / 1e200, False)
    # ‖s‖ = λ / σ and λ ‖s‖ = ‖g‖.
    np.testing.assert_allclose(s, np.array([-0.6, -0.8]) * math.sqrt(5e-10 / 1e200), rtol=8 * EPS)
    assert shift == pytest.approx(math.sqrt(5e-10) * 1e100)


def test_a_radius_that_has_underflowed_leaves_no_room():
    s, shift = secular_step([-1.0, 1.0], [1.0, 1.0], lambda _: 0.0, True)
    assert (s == 0).all() and shift == np.inf
    s, _ = secular_step([-1.0, 1.0], [1.0, 1.0], lambda _: 5e-324, True)
    assert abs(s).max() == 5e-324


def test_numbers_that_are_not_finite_are_told():
    for values, gradient in [([np.nan], [1.0]), ([1.0], [np.inf]), ([-np.inf, 1.0], [1.0, 0.0])]:
        with pytest.raises(FloatingPointError, match="not finite"):
            secular_step(values, gradient, lambda _: 1.0, True)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_is_not_taken_for_negative_curvature(dtype):
    rng = np.random.default_rng(0)
    unit = float(np.finfo(dtype).eps)
    for n in (2, 10, 100):
        factor = rng.standard_normal((n, n // 2)).astype(dtype)
        values = np.linalg.eigvalsh((factor @ factor.T).astype(float))
        assert resolved(values, n, np.dtype(dtype))[1] == 0
        # What is well above rounding is, and nothing depends on scale.
        seen = np.append(-100 * math.sqrt(n) * unit * values[-1], values[1:])
        for scale in (1.0, 1e-300, 1e300):
            there, least = resolved(seen * scale, n, np.dtype(dtype))
            assert least == seen[0] * scale == there[0]


@pytest.mark.parametrize(
    ("values", "gradient", "radius", "says"),
    [
        ([1.0, 2.0], [1.0], 1.0, r"^gradient has shape \(1,\); expected \(2,\)"),
        ([], [], 1.0, r"^eigenvalues has shape \(0,\); expected \(n,\)"),
        ([[1.0]], [[1.0]], 1.0, r"^eigenvalues has shape \(1, 1\)"),
        ([1.0], [1.0], -1.0, "^radius of a shift of inf is -1.0; expected a number ≥ 0"),
        ([1.0], [1.0], math.nan, "^radius of a shift of inf is nan"),
    ],
)
def test_arguments_that_do_not_fit_are_named(values, gradient, radius, says):
    with pytest.raises(ValueError, match=says):
        secular_step(values, gradient, lambda _: radius, True)


def test_without_a_radius_the_step_down_negative_curvature_is_as_long_as_numbers_are():
    step, shift = secular_step([-1.0, 2.0], [0.0, 3.0], lambda _: math.inf, True)
    assert abs(step[0]) == np.finfo(float).max and shift == 1.0
    assert step[1] == -1.0
