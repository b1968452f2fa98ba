import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import StrongWeakRun, apgr, bootstrap_strong_weak, interval, strong_weak_curve
from eval.metrics.strong_weak_bootstrap import apgr_of_counts

unhurried = settings(max_examples=60, deadline=None)
NAN = math.nan
SCORE = st.sampled_from([0.0, 0.5, 1.0])
ROWS = st.lists(st.tuples(st.integers(0, 5), SCORE, SCORE), max_size=15)


def made_run(n: int, seed: int, *, first: int = 0, quality: float = 0.7) -> StrongWeakRun:
    """A strong expert that is right more often, and a router that often knows where."""
    rng = np.random.default_rng(first)
    strong, weak = (rng.random(n) < 0.8) * 1.0, (rng.random(n) < 0.5) * 1.0
    noise = np.random.default_rng(seed).normal(size=n)
    return StrongWeakRun(
        np.round(quality * (strong - weak) + noise, 1), strong, weak, np.arange(first, first + n)
    )


def point(run: StrongWeakRun) -> float:
    return apgr(strong_weak_curve(run.p_strong, run.strong, run.weak))


@unhurried
@given(
    ROWS,
    st.lists(st.lists(st.integers(0, 3), min_size=15, max_size=15), min_size=1, max_size=4),
    st.integers(1, 11),
)
def test_counted_rows_are_repeated_rows(
    rows: list[tuple[float, float, float]], repetitions: list[list[int]], n_bins: int
):
    table = np.array(sorted(rows, key=lambda row: -row[0]), np.float64).reshape(-1, 3)
    p_strong, strong, weak = table[:, 0], table[:, 1], table[:, 2]
    counts = np.array(repetitions)[:, : len(rows)]

    values = apgr_of_counts(p_strong, strong - weak, counts, n_bins)

    expected: list[float] = []
    for count in counts:
        columns = (np.repeat(column, count) for column in (p_strong, strong, weak))
        expected.append(apgr(strong_weak_curve(*columns, n_bins=n_bins)))
    assert values == pytest.approx(expected, nan_ok=True)


def test_one_run_is_an_ordinary_bootstrap_of_its_questions():
    run = made_run(200, 1)
    rng = np.random.default_rng(2)
    loop: list[float] = []
    for _ in range(1000):
        rows = rng.integers(0, 200, 200)
        curve = strong_weak_curve(run.p_strong[rows], run.strong[rows], run.weak[rows])
        loop.append(apgr(curve))

    samples = bootstrap_strong_weak([run], n_resamples=4000)

    assert samples.shape == (4000,)
    assert samples.mean() == pytest.approx(np.mean(loop), abs=0.15 * float(np.std(loop)))
    assert samples.std() == pytest.approx(np.std(loop), rel=0.1)
    assert interval(samples)[0] < point(run) < interval(samples)[1]


def test_a_question_is_resampled_together_in_all_runs():
    run = made_run(300, 1)

    one = bootstrap_strong_weak([run], n_resamples=3000)
    three = bootstrap_strong_weak([run, run, run], n_resamples=3000)

    assert three.std() == pytest.approx(one.std(), rel=0.08)


def test_runs_of_other_questions_are_resampled_apart():
    runs = [made_run(300, 1, first=1000 * i) for i in range(4)]
    spread = np.std([point(run) for run in runs])
    within = np.mean([bootstrap_strong_weak([run], n_resamples=1500).var() for run in runs])

    samples = bootstrap_strong_weak(runs, n_resamples=4000)

    # Of the runs that are drawn, some are twice: 1/4 + 3/16 of the variance of one is left.
    expected = math.sqrt(within * (1 / 4 + 3 / 16) + spread**2 / 4)
    assert samples.std() == pytest.approx(expected, rel=0.1)


def test_the_seeds_are_resampled():
    runs = [made_run(4000, 1, quality=quality) for quality in (-3, 3)]
    low, high = (point(run) for run in runs)

    samples = bootstrap_strong_weak(runs, n_resamples=2000)

    assert samples.mean() == pytest.approx((low + high) / 2, abs=0.02)
    assert samples.std() == pytest.approx((high - low) / 2 / math.sqrt(2), rel=0.06)


def test_questions_are_resampled_within_their_categories():
    gain = np.repeat([1.0, 0.0], [6, 14])
    run = StrongWeakRun(gain, gain, np.zeros(20), np.arange(20), np.repeat([3, 0], [6, 14]))
    without = StrongWeakRun(gain, gain, np.zeros(20), np.arange(20))

    assert bootstrap_strong_weak([run], n_resamples=50) == pytest.approx([point(run)] * 50)
    assert bootstrap_strong_weak([without], n_resamples=50).std() > 0.01


def test_a_run_that_lacks_a_question_goes_without_it():
    whole = made_run(300, 1)
    part = StrongWeakRun(
        whole.p_strong[100:], whole.strong[100:], whole.weak[100:], whole.question[100:]
    )

    samples = bootstrap_strong_weak([part], n_resamples=500)
    both = bootstrap_strong_weak([whole, part], n_resamples=2000)

    assert interval(samples)[0] < point(part) < interval(samples)[1]
    assert both.mean() == pytest.approx((point(whole) + point(part)) / 2, abs=0.02)


def test_what_is_unknown_in_a_run_is_not_one_of_its_questions():
    run = made_run(50, 1)
    p_strong, strong, weak = (
        np.append(values, [0.9, NAN, 0.9]) for values in (run.p_strong, run.strong, run.weak)
    )
    strong[50], weak[52] = NAN, NAN
    with_unknown = StrongWeakRun(p_strong, strong, weak, np.append(run.question, [50, 51, 52]))

    samples = bootstrap_strong_weak([with_unknown], n_resamples=20)

    assert (samples == bootstrap_strong_weak([run], n_resamples=20)).all()


def test_a_run_without_a_gap_is_left_out_of_the_mean():
    run = made_run(100, 1)
    without = StrongWeakRun(run.p_strong, run.weak, run.weak, run.question)

    samples = bootstrap_strong_weak([run, without], n_resamples=400)

    assert np.isnan(samples).mean() == pytest.approx(0.25, abs=0.07)
    assert np.nanmean(samples) == pytest.approx(point(run), abs=0.03)
    assert np.isnan(bootstrap_strong_weak([without], n_resamples=3)).all()


def test_a_run_that_knows_nothing_is_unknown():
    run = StrongWeakRun(np.full(2, NAN), np.ones(2), np.zeros(2), np.arange(2))

    assert np.isnan(bootstrap_strong_weak([run], n_resamples=3)).all()


def test_a_seed_gives_one_set_of_samples():
    runs = [made_run(50, 1), made_run(50, 2)]

    first, again, other = (
        bootstrap_strong_weak(runs, n_resamples=30, seed=seed) for seed in (1, 1, 2)
    )

    assert (first == again).all()
    assert (first != other).any()


def test_bad_arguments_are_refused():
    run = made_run(4, 1)
    row = (run.p_strong, run.strong, run.weak, run.question)
    with pytest.raises(ValueError, match="runs 0"):
        bootstrap_strong_weak([])
    with pytest.raises(ValueError, match="n_resamples 0"):
        bootstrap_strong_weak([run], n_resamples=0)
    with pytest.raises(ValueError, match="n_bins 0"):
        bootstrap_strong_weak([run], n_bins=0)
    with pytest.raises(ValueError, match="shapes differ"):
        bootstrap_strong_weak([StrongWeakRun(*row[:3], np.arange(3))])
    with pytest.raises(ValueError, match="twice in one run"):
        bootstrap_strong_weak([StrongWeakRun(*row[:3], np.zeros(4, np.int64))])
    with pytest.raises(ValueError, match="only some of the runs"):
        bootstrap_strong_weak([run, StrongWeakRun(*row, np.zeros(4, np.int64))])
    with pytest.raises(ValueError, match="two categories"):
        bootstrap_strong_weak(
            [StrongWeakRun(*row, np.zeros(4, np.int64)), StrongWeakRun(*row, np.arange(4))]
        )
    with pytest.raises(ValueError, match="integer codes"):
        bootstrap_strong_weak([StrongWeakRun(*row, np.full(4, -1))])
