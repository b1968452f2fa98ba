from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError, RoutingError
from composer.experts import Expert
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from composer.types import Query, Scores
from routers.baselines import FixedRouter, PriorRouter, RandomRouter, RoundRobinRouter

if TYPE_CHECKING:
    from composer.types import Float32Array

EXPERTS = {name: Expert(name=name, engine="scripted") for name in ("ada", "bo", "cy")}
NAN = math.nan
RECORDED: dict[str | None, list[list[float]]] = {
    "maths": [[1, 0, NAN]] * 4,
    "law": [[0, 1, 0.25]],
    None: [[0.5, 0.8, NAN]],
}
"""What ada, bo and cy scored, by category: ada on most rows, bo in most categories."""


def ask(router: FixedRouter | RandomRouter | RoundRobinRouter, *ids: str) -> Float32Array:
    return router.score([Query(i, ()) for i in ids], [None] * len(ids)).quality


def recorded(scores: dict[str | None, list[list[float]]]) -> OutcomeTable:
    rows = [(category, row) for category, rows in scores.items() for row in rows]
    queries = [RecordedQuery(f"q{i}", "?", "train", name) for i, (name, _) in enumerate(rows)]
    experts = tuple(map(RecordedExpert, EXPERTS))
    score = np.array([row for _, row in rows], np.float32)
    return OutcomeTable("recorded", tuple(queries), experts, score)


def test_the_fixed_expert_comes_first_for_every_query():
    np.testing.assert_array_equal(ask(FixedRouter(EXPERTS, "bo"), "q", "r"), [[0, 1, 0]] * 2)


def test_a_fixed_expert_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="names no known expert: 'dee'; choose from"):
        FixedRouter(EXPERTS, "dee")


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=8), st.integers())
def test_a_random_draw_depends_on_the_seed_and_the_query_id_only(ids: list[str], seed: int):
    router = RandomRouter(EXPERTS, seed)

    np.testing.assert_array_equal(ask(router, *ids), np.concatenate([ask(router, i) for i in ids]))


def test_another_seed_draws_otherwise():
    first, second = ask(RandomRouter(EXPERTS), "q"), ask(RandomRouter(EXPERTS, seed=1), "q")

    assert not np.array_equal(first, second)


def test_a_removed_expert_leaves_the_other_draws_alone():
    fewer = {name: expert for name, expert in EXPERTS.items() if name != "bo"}

    np.testing.assert_array_equal(
        ask(RandomRouter(fewer), "q"), ask(RandomRouter(EXPERTS), "q")[:, [0, 2]]
    )


def test_random_gives_each_expert_its_share_of_first_places():
    n = 3000
    firsts = ask(RandomRouter(EXPERTS), *(str(i) for i in range(n))).argmax(axis=1)

    shares = np.bincount(firsts, minlength=3) / n
    four_deviations = 4 * np.sqrt(1 / 3 * 2 / 3 / n)
    np.testing.assert_allclose(shares, 1 / 3, atol=four_deviations)


@pytest.mark.parametrize("seed", ["abc", 1.5, True])
def test_a_seed_that_is_no_whole_number_is_refused(seed: int):
    with pytest.raises(ConfigError, match="give a whole number"):
        RandomRouter(EXPERTS, seed)


def test_round_robin_goes_on_over_batches():
    router = RoundRobinRouter(EXPERTS)

    firsts = [*ask(router, "a", "b").argmax(axis=1), *ask(router, "c", "d").argmax(axis=1)]

    assert firsts == [0, 1, 2, 0]


def test_round_robin_ranks_the_next_expert_second():
    second = ask(RoundRobinRouter(EXPERTS), "a", "b")[1]

    np.testing.assert_allclose(second, [1 / 3, 1, 2 / 3], rtol=1e-6)


def test_round_robin_evidence_names_whose_turn_it_is():
    scores = RoundRobinRouter(EXPERTS).score([Query("a", ()), Query("b", ())], [None, None])

    assert scores.why(1, 0).reason == "turn 1 is 'bo''s; 'ada' comes 2 after it"
    assert scores.why(1, 0).details == {"turn": 1, "place": 2}


def test_threads_share_one_rotation():
    router = RoundRobinRouter(EXPERTS)

    with ThreadPoolExecutor(4) as threads:
        rows = list(threads.map(partial(ask, router), map(str, range(300))))

    assert np.concatenate(rows).argmax(axis=1).tolist().count(0) == 100
    np.testing.assert_allclose(np.concatenate(rows).sum(axis=0), 200, rtol=1e-5)


def in_categories(router: PriorRouter, *categories: str | None) -> Scores:
    queries = [Query(str(category), (), category) for category in categories]
    return router.score(queries, [None] * len(queries))


def test_without_a_category_each_category_counts_alike_for_the_prior():
    quality = in_categories(PriorRouter().fit(recorded(RECORDED)), None).quality

    np.testing.assert_allclose(quality, [[1.5 / 3, 1.8 / 3, 0.25]], rtol=1e-6)


def test_with_a_category_the_prior_is_the_mean_there():
    quality = in_categories(PriorRouter().fit(recorded(RECORDED)), "law", "maths").quality

    np.testing.assert_allclose(quality[0], [0, 1, 0.25])
    assert quality[1].argmax() == 0


def test_an_expert_never_asked_in_a_category_keeps_its_overall_mean_there():
    scores = in_categories(PriorRouter().fit(recorded(RECORDED)), "maths")

    assert scores.quality[0, 2] == 0.25
    assert scores.why(0, 2).reason == "'cy' scored 0.250 over all categories"
    assert scores.why(0, 0).reason == "'ada' scored 1.000 in 'maths'"


@pytest.mark.parametrize("category", ["cooking", ""])
def test_rows_without_a_category_say_nothing_more_of_one_that_is_not_known(category: str):
    quality = in_categories(PriorRouter().fit(recorded(RECORDED)), None, category).quality

    np.testing.assert_array_equal(quality[1], quality[0])


def test_an_expert_of_which_nothing_is_recorded_is_unknown_to_the_prior():
    scores = in_categories(PriorRouter().fit(recorded({"law": [[0, 1, NAN]]})), "law", None)

    assert np.isnan(scores.quality[:, 2]).all()
    assert scores.why(0, 2).reason == "no outcome of 'cy' is recorded"


def test_a_prior_without_any_outcome_is_refused():
    with pytest.raises(ConfigError, match="no outcome to learn from; fit it on another table"):
        PriorRouter().fit(recorded({"law": [[NAN, NAN, NAN]]}))


def test_a_prior_that_is_not_fitted_neither_scores_nor_saves(tmp_path: Path):
    with pytest.raises(RoutingError, match="is not fitted; fit it on recorded outcomes"):
        in_categories(PriorRouter(), None)
    with pytest.raises(ConfigError, match="is not fitted; fit it before it is saved"):
        PriorRouter().save(tmp_path)


def test_a_loaded_prior_says_what_the_saved_one_said(tmp_path: Path):
    router = PriorRouter().fit(recorded(RECORDED))
    router.save(tmp_path)

    loaded = PriorRouter.load(tmp_path)

    categories = ["maths", "law", "cooking", None]
    expected, found = in_categories(router, *categories), in_categories(loaded, *categories)
    assert found.experts == ("ada", "bo", "cy")
    np.testing.assert_array_equal(found.quality, expected.quality)
    for row in range(len(categories)):
        assert found.why(row, 2) == expected.why(row, 2)


def test_a_newer_prior_is_refused(tmp_path: Path):
    PriorRouter().fit(recorded(RECORDED)).save(tmp_path)
    header = json.loads((tmp_path / "router.json").read_text("utf-8"))
    (tmp_path / "router.json").write_text(json.dumps(header | {"schema_version": 2}), "utf-8")

    with pytest.raises(ConfigError, match="update the program or fit again"):
        PriorRouter.load(tmp_path)
