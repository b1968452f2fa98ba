import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import ResampledMeans, interval, resample_means

unhurried = settings(max_examples=60, deadline=None)
NAN = math.nan
CELL = st.sampled_from([0.0, 0.1, 0.5, 1.0, NAN])
TABLES = st.integers(1, 3).flatmap(
    lambda m: st.lists(
        st.tuples(st.integers(0, 2), st.lists(CELL, min_size=m, max_size=m)),
        min_size=1,
        max_size=40,
    )
)


def naive(
    values: np.ndarray, strata: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Micro and macro means of resampled tables, one at a time."""
    micro: list[np.ndarray] = []
    macro: list[np.ndarray] = []
    for _ in range(n_resamples):
        rows: list[np.ndarray] = []
        for stratum in set(strata.tolist()):
            members = np.flatnonzero(strata == stratum)
            rows.append(values[rng.choice(members, len(members))])
        micro.append(np.nanmean(np.concatenate(rows), axis=0))
        macro.append(np.mean([np.nanmean(part, axis=0) for part in rows], axis=0))
    return np.array(micro), np.array(macro)


def made_distinct(values: np.ndarray) -> np.ndarray:
    """The same table to the eye, with no two rows alike."""
    return values + 1e-9 * np.arange(len(values))[:, None]


@pytest.fixture
def table() -> tuple[np.ndarray, np.ndarray]:
    """Two methods on 120 queries of three categories, 10 of them unknown of the second."""
    rng = np.random.default_rng(7)
    strata = np.repeat([0, 1, 2], [70, 30, 20])
    skill = np.array([0.8, 0.4, 0.6])[strata]
    values = (rng.random((120, 2)) < skill[:, None]) * 1.0
    values[:60, 1] = values[:60, 0]
    values[:10, 1] = NAN
    return values, strata


@unhurried
@given(TABLES, st.integers(1, 30))
def test_means_of_resamples_are_means_of_known_cells(
    rows: list[tuple[int, list[float]]], n_resamples: int
):
    strata, values = np.array([code for code, _ in rows]), np.array([row for _, row in rows])

    resampled = resample_means(values, strata, n_resamples)

    n_strata = max(strata) + 1
    assert resampled.means.shape == (n_resamples, n_strata, values.shape[1])
    assert resampled.sizes.tolist() == [list(strata).count(code) for code in range(n_strata)]
    assert resampled.method == "exact"
    for samples in (resampled.micro(), resampled.macro(), *resampled.means.swapaxes(0, 1)):
        assert samples.shape == (n_resamples, values.shape[1])
        for column, known in zip(samples.T, values.T, strict=True):
            cells = known[~np.isnan(known)]
            found = column[~np.isnan(column)]
            assert not found.size or cells.min() - 1e-9 <= found.min()
            assert not found.size or found.max() <= cells.max() + 1e-9


@unhurried
@given(TABLES)
def test_micro_and_macro_weigh_cells_and_strata(rows: list[tuple[int, list[float]]]):
    resampled = resample_means(
        np.array([row for _, row in rows]), np.array([code for code, _ in rows]), 3
    )
    known = np.broadcast_to(resampled.known, resampled.means.shape)

    micro, macro = resampled.micro(), resampled.macro()

    for b, column in product(range(3), range(micro.shape[1])):
        parts = [
            (mean, weight)
            for mean, weight in zip(resampled.means[b, :, column], known[b, :, column], strict=True)
            if weight > 0
        ]
        n = sum(weight for _, weight in parts)
        assert micro[b, column] == pytest.approx(
            sum(mean * weight for mean, weight in parts) / n if n else NAN, nan_ok=True
        )
        assert macro[b, column] == pytest.approx(
            sum(mean for mean, _ in parts) / len(parts) if parts else NAN, nan_ok=True
        )


@pytest.mark.parametrize("is_distinct", [False, True])
def test_the_spread_is_the_standard_error(is_distinct: bool):
    rng = np.random.default_rng(1)
    strata = np.repeat([0, 1], [300, 100])
    values = (rng.random((400, 1)) < 0.7) * 1.0
    if is_distinct:
        values = made_distinct(values)
    variances = [values[strata == code].var() / sum(strata == code) for code in (0, 1)]

    resampled = resample_means(values, strata, 8000)

    micro, macro = resampled.micro()[:, 0], resampled.macro()[:, 0]
    micro_error = math.sqrt(0.75**2 * variances[0] + 0.25**2 * variances[1])
    macro_error = math.sqrt((variances[0] + variances[1]) / 4)
    assert micro.std() == pytest.approx(micro_error, rel=0.03)
    assert macro.std() == pytest.approx(macro_error, rel=0.03)
    assert micro.mean() == pytest.approx(values.mean(), abs=4 * micro_error / math.sqrt(8000))


@pytest.mark.parametrize("is_distinct", [False, True])
def test_a_loop_over_resamples_finds_the_same(
    table: tuple[np.ndarray, np.ndarray], is_distinct: bool
):
    values, strata = (made_distinct(table[0]) if is_distinct else table[0]), table[1]

    resampled = resample_means(values, strata, 20_000)
    loop_micro, loop_macro = naive(values, strata, 1500, np.random.default_rng(2))

    for samples, loop in ((resampled.micro(), loop_micro), (resampled.macro(), loop_macro)):
        for ours, theirs in (
            (samples[:, 0], loop[:, 0]),
            (samples[:, 1], loop[:, 1]),
            (samples[:, 1] - samples[:, 0], loop[:, 1] - loop[:, 0]),
        ):
            error = theirs.std()
            assert ours.mean() == pytest.approx(theirs.mean(), abs=0.12 * error)
            assert ours.std() == pytest.approx(error, rel=0.08)
            assert np.array(interval(ours)) == pytest.approx(
                np.array(interval(theirs)), abs=0.25 * error
            )


def test_drawn_rows_have_the_bootstraps_distribution():
    resampled = resample_means(np.array([[0.0], [1.0], [5.0]]), None, 27_000)

    sums, counts = np.unique(np.round(3 * resampled.micro()[:, 0]), return_counts=True)

    outcomes = [sum(draw) for draw in product([0, 1, 5], repeat=3)]
    expected = {total: 1000 * outcomes.count(total) for total in sorted(set(outcomes))}
    assert sums.tolist() == list(expected)
    assert counts == pytest.approx(np.array(list(expected.values())), abs=200)


def test_grouped_rows_have_the_bootstraps_distribution():
    values = np.repeat([[1.0], [0.0]], [10, 20], axis=0)

    hits = np.round(30 * resample_means(values, None, 20_000).micro()[:, 0]).astype(int)

    counts = np.bincount(hits, minlength=31)
    chances = [math.comb(30, k) * (1 / 3) ** k * (2 / 3) ** (30 - k) for k in range(31)]
    assert counts == pytest.approx(20_000 * np.array(chances), abs=4 * math.sqrt(20_000 * 0.16))


def test_the_normal_limit_is_what_many_rows_tend_to():
    rng = np.random.default_rng(3)
    strata = np.repeat([0, 1], [3000, 10])
    values = made_distinct((rng.random((3010, 2)) < 0.6) * 1.0)
    values[:1500, 1] = values[:1500, 0]
    values[1000:1900, 1] = NAN

    exact = resample_means(values, strata, 6000)
    normal = resample_means(values, strata, 6000, max_draws=1e6)

    assert (exact.method, normal.method) == ("exact", "normal")
    assert normal.means[:, 1] * 10 == pytest.approx(np.round(normal.means[:, 1] * 10), abs=1e-4)
    for ours, theirs in (
        (normal.micro(), exact.micro()),
        (normal.macro(), exact.macro()),
        (np.diff(normal.means[:, 0]), np.diff(exact.means[:, 0])),
        (normal.known[:, 0, 1:], exact.known[:, 0, 1:]),
    ):
        error = theirs.std(axis=0)
        assert ours.mean(axis=0) == pytest.approx(theirs.mean(axis=0), abs=0.08 * error.max())
        assert ours.std(axis=0) == pytest.approx(error, rel=0.04)


def test_what_is_known_of_few_rows_is_never_taken_for_normal():
    values = made_distinct(np.zeros((2000, 2)))
    values[5:, 1] = NAN

    resampled = resample_means(values, None, 200, max_draws=0)

    assert resampled.method == "exact"
    assert resampled.known[:, 0, 1] == pytest.approx(np.round(resampled.known[:, 0, 1]))


def test_few_rows_are_never_taken_for_normal():
    values = np.array([[0.0], [0.25], [1.0]])

    resampled = resample_means(values, None, 200, max_draws=0)

    assert resampled.method == "exact"
    assert set(12 * resampled.micro()[:, 0]) <= set(range(13))


def test_what_is_never_known_stays_unknown_in_the_normal_limit():
    values = np.random.default_rng(0).random((2000, 6))
    values[:, 1] = NAN
    values[:900, 3:] = NAN

    resampled = resample_means(values, None, 50, max_draws=0)

    assert resampled.method == "normal"
    assert np.isnan(resampled.means[:, 0, 1]).all()


def test_few_distinct_rows_are_exact_in_any_number():
    values = np.repeat([[1.0], [0.0]], 200_000, axis=0)

    resampled = resample_means(values, None, 5000)

    assert resampled.method == "exact"
    assert resampled.micro().std() == pytest.approx(0.5 / math.sqrt(400_000), rel=0.05)


def test_a_constant_stratum_adds_no_variance():
    rng = np.random.default_rng(4)
    values = np.concatenate([(rng.random((50, 1)) < 0.5) * 1.0, np.full((200, 1), 0.3)])
    strata = np.repeat([0, 1], [50, 200])

    together, alone = resample_means(values, strata, 4000), resample_means(values[:50], None, 4000)

    assert together.means[:, 1] == pytest.approx(0.3)
    assert together.macro().std() == pytest.approx(alone.macro().std() / 2, rel=0.05)
    assert together.micro().std() == pytest.approx(alone.micro().std() / 5, rel=0.05)


def test_the_intervals_cover_the_truth():
    rng = np.random.default_rng(5)
    strata = np.repeat([0, 1], [60, 60])
    covered = 0
    for simulation in range(300):
        values = (rng.random((120, 2)) < np.where(strata, 0.8, 0.5)[:, None]) * 1.0
        macro = resample_means(values, strata, 300, seed=simulation).macro()
        low, high = interval(macro[:, 1] - macro[:, 0])
        covered += bool(low <= 0 <= high)

    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 300) <= covered / 300 < 1


def test_a_resample_without_anything_known_has_no_mean():
    values = np.array([[1.0, 0.0], [NAN, 1.0]])

    resampled = resample_means(values, None, 2000)

    unknown = np.isnan(resampled.micro())
    assert unknown[:, 0].mean() == pytest.approx(0.25, abs=0.04)
    assert not unknown[:, 1].any()
    assert interval(resampled.micro())[0].tolist() == [1, 0]


def test_a_stratum_that_no_row_has_is_unknown_and_left_out():
    resampled = resample_means(np.full((4, 1), 0.5), np.array([0, 0, 2, 2]), 5)

    assert resampled.sizes.tolist() == [2, 0, 2]
    assert np.isnan(resampled.means[:, 1]).all()
    assert resampled.micro().tolist() == resampled.macro().tolist() == [[0.5]] * 5


@pytest.mark.parametrize("strata", [None, np.empty(0, np.int64)])
def test_a_table_without_rows_is_unknown(strata: np.ndarray | None):
    resampled = resample_means(np.empty((0, 2)), strata, 3)

    for samples in (resampled.micro(), resampled.macro()):
        assert samples.shape == (3, 2)
        assert np.isnan(samples).all()


def test_one_row_is_always_itself():
    assert (resample_means(np.array([[0.25, 1.0]]), None, 9).micro() == [0.25, 1.0]).all()


@pytest.mark.parametrize("max_draws", [0, 1e9])
@pytest.mark.parametrize("is_distinct", [False, True])
def test_a_seed_gives_one_set_of_resamples(is_distinct: bool, max_draws: float):
    values = np.repeat([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], 1000, axis=0)
    if is_distinct:
        values = made_distinct(values)

    def means(seed: int) -> np.ndarray:
        return resample_means(values, None, 20, seed, max_draws=max_draws).means

    assert (means(1) == means(1)).all()
    assert (means(1) != means(2)).any()


def test_columns_are_resampled_together():
    values = np.random.default_rng(6).random((50, 1)) * [1.0, 2.0]

    micro = resample_means(values, None, 100).micro()

    assert micro[:, 1] == pytest.approx(2 * micro[:, 0])


@unhurried
@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=30),
    st.sampled_from([0.5, 0.9, 0.95]),
    st.integers(0, 5),
)
def test_an_interval_is_of_the_known_samples_percentiles(
    samples: list[float], level: float, n_unknown: int
):
    expected = np.percentile(samples, [50 - 50 * level, 50 + 50 * level])
    with_unknown = np.array([NAN] * n_unknown + samples)
    table = np.column_stack([with_unknown, -with_unknown, np.full(len(with_unknown), NAN)])

    low, high = interval(with_unknown, level)
    lows, highs = interval(table, level)

    assert [low, high] == pytest.approx(list(expected))
    assert lows == pytest.approx([low, -high, NAN], nan_ok=True)
    assert highs == pytest.approx([high, -low, NAN], nan_ok=True)


def test_a_higher_level_is_a_wider_interval():
    samples = np.random.default_rng(0).normal(size=500)

    narrow, wide = interval(samples, 0.5), interval(samples, 0.9)

    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_bad_arguments_are_refused():
    values = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"must be \[n, m\]"):
        resample_means(np.zeros(3), None)
    with pytest.raises(ValueError, match="n_resamples 0"):
        resample_means(values, None, 0)
    for level in (0, 1):
        with pytest.raises(ValueError, match="must be inside"):
            interval(np.zeros(3), level)
    with pytest.raises(ValueError, match=r"samples \(0,\) some"):
        interval(np.empty(0))


@pytest.mark.parametrize(
    "strata", [np.zeros(2, np.int64), np.zeros((3, 1), np.int64), np.array([0, 1, -1]), np.zeros(3)]
)
def test_strata_that_are_no_codes_of_the_rows_are_refused(strata: np.ndarray):
    with pytest.raises(ValueError, match="3 rows need as many integer codes"):
        resample_means(np.zeros((3, 2)), strata, 5)


def test_means_can_be_made_by_hand():
    made = ResampledMeans(
        np.array([[[0.5], [NAN]], [[0.5], [1.0]]]), np.array([[[2.0], [0.0]], [[1.0], [3.0]]]),
        np.array([2, 3]), "exact",
    )  # fmt: skip

    assert made.micro() == pytest.approx(np.array([[0.5], [0.875]]))
    assert made.macro() == pytest.approx(np.array([[0.5], [0.75]]))
