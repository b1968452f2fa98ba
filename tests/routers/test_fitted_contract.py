"""What every router that learns from recorded outcomes promises."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError, RoutingError
from composer.experts import Expert
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from composer.protocols import FittedRouter
from composer.types import Annotation, Evidence, Message, Query, Scores
from routers import (
    FITTED,
    LEARNERS,
    LOADERS,
    ROUTERS,
    load_router,
    make_fitted_router,
    make_router,
)
from routers.artefact import save_artefact
from routers.encoder import HashingEncoder
from routers.fitted import OutcomeRouter

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"lexical_share": 0} for name in LEARNERS},
    "stacked": {"lexical_share": 0, "members": ["neighbours", "category"]},
    "thoughts": {"lexical_share": 0, "steps": 30},
}
"""What a router need not learn here, to be quick; the tests of its own say more."""
SHARED_OUT = {"likelihood"}
"""Raw scores are logs of shares: what one expert no longer has, the others get, all the same."""
EXPERTS = tuple(
    RecordedExpert(name, params_b=size, description=f"An expert in {subject}.")
    for name, size, subject in (("ada", 1.0, "maths"), ("bo", 2.0, "law"), ("cy", 7.0, "history"))
)
PROMPTS = [
    "What is 12 times 12?",
    "Solve 2x = 8 for x.",
    "Is an oral contract binding?",
    "Who owes the rent?",
    "下列哪一项是中国古代的四大发明之一",
    "What is 7 times 8?",
    "",
    "Is a minor's contract binding?",
]
CATEGORIES = ["maths", "maths", "law", "law", "history", "maths", None, "law"]
ASKED = [
    Query(f"asked{number}", (Message("user", text),), category)
    for number, (text, category) in enumerate(
        [
            ("What is 3 times 4?", "maths"),
            ("Is a will binding?", "law"),
            ("谁发明了造纸术", None),
            ("", "cooking"),
            ("long " * 2000, None),
        ]
    )
]

every_router = pytest.mark.parametrize("name", sorted(FITTED))
every_outcome_router = pytest.mark.parametrize("name", sorted(LEARNERS))
quickly = settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])


def note(text: str) -> Annotation:
    """What experts might have said of a text, for routers that ask them."""
    rates = {e.name: 1 + crc32(f"{e.name} {text}".encode()) % 100 / 100 for e in EXPERTS}
    return Annotation(
        {"skills": text.split()[:2], "task": text, "nats_per_byte": rates, "failures": {}}
    )


def make_table(
    prompts: Sequence[str], score: Any, categories: Sequence[str | None] | None = None
) -> OutcomeTable:
    of_rows = categories or [None] * len(prompts)
    queries = tuple(
        RecordedQuery(f"q{row}", text, "train", category, annotation=note(text))
        for row, (text, category) in enumerate(zip(prompts, of_rows, strict=True))
    )
    return OutcomeTable("small", queries, EXPERTS, np.asarray(score, np.float32))


@pytest.fixture
def table() -> OutcomeTable:
    """Eight queries that three experts were asked, but for a few."""
    score = np.random.default_rng(0).random((len(PROMPTS), 3))
    score[[1, 3, 4, 4], [0, 1, 1, 2]] = math.nan
    return make_table(PROMPTS, score, CATEGORIES)


FITTED_ONCE: dict[str, FittedRouter] = {}


@pytest.fixture
def router(name: str, table: OutcomeTable) -> Any:
    """A router fitted on the table; what a test does to it no other test sees."""
    if name not in FITTED_ONCE:
        FITTED_ONCE[name] = make(name).fit(table)
    return copy.copy(FITTED_ONCE[name])


def make(name: str, **settings: Any) -> FittedRouter:
    chosen = {**SETTINGS.get(name, {}), **settings}
    return make_fitted_router(name, chosen, encoder=HashingEncoder())


def make_outcome_router(name: str) -> OutcomeRouter:
    made = make(name)
    assert isinstance(made, OutcomeRouter)
    return made


def ask(router: FittedRouter, queries: Sequence[Query] = ASKED) -> Scores:
    return router.score(queries, [note(query.text) for query in queries])


def reload(router: FittedRouter, folder: Path) -> Any:
    router.save(folder)
    return load_router(folder, encoder=HashingEncoder())


def check(scores: Scores, experts: tuple[str, ...]) -> None:
    """Quality of the right shape, within its range, and a reason for every cell."""
    quality = scores.quality
    assert scores.experts == experts
    assert quality.shape == (len(ASKED), len(experts))
    assert quality.dtype == np.float32
    assert np.all(np.isnan(quality) | ((quality >= 0) & (quality <= 1)))
    for row in range(len(ASKED)):
        for column in range(len(experts)):
            evidence = scores.why(row, column)
            assert isinstance(evidence, Evidence)
            assert evidence.reason
            assert len(evidence.reason.splitlines()) == 1
            json.dumps(dict(evidence.details), allow_nan=False)


@every_router
def test_fitting_returns_the_router_itself(name: str, table: OutcomeTable):
    router = make(name)

    assert router.fit(table) is router


@every_router
def test_the_experts_of_a_router_are_those_of_the_table(name: str, router: FittedRouter):
    assert router.experts == ("ada", "bo", "cy")


@every_router
def test_a_router_goes_by_its_name_in_the_table(name: str):
    assert make(name).name == name


@every_router
def test_quality_is_within_zero_and_one_and_every_cell_has_a_reason(
    name: str, router: FittedRouter
):
    check(ask(router), ("ada", "bo", "cy"))


@every_router
@quickly
@given(seed=st.integers(0, 2**32 - 1), share_unknown=st.sampled_from([0.3, 0.7]))
def test_any_scores_with_any_gaps_can_be_learned_from(name: str, seed: int, share_unknown: float):
    rng = np.random.default_rng(seed)
    score = rng.choice([0, 1, rng.random()], (len(PROMPTS), 3))
    score[rng.random(score.shape) < share_unknown] = math.nan
    score[:3] = [[1, 0, 0.5], [0, 1, 1], [math.nan, 0.5, 0]]
    table = make_table(PROMPTS, score, CATEGORIES)
    known = table.rows(np.asarray((~np.isnan(table.score)).any(axis=1)))

    scores = ask(make(name).fit(known))

    check(scores, table.names)
    # An empty text has no likelihood under any expert.
    assert not np.isnan(scores.quality[[0, 1, 2, 4]]).any()


@every_router
def test_one_expert_is_enough(name: str, table: OutcomeTable):
    check(ask(make(name).fit(table.with_experts(["bo"]))), ("bo",))


@every_router
def test_a_table_without_an_outcome_is_refused(name: str, table: OutcomeTable):
    with pytest.raises(ConfigError, match=f"router '{name}': no outcome .*; "):
        make(name).fit(replace(table, score=np.full_like(table.score, math.nan)))


@every_router
def test_a_table_without_a_row_is_refused(name: str, table: OutcomeTable):
    with pytest.raises(ConfigError, match=f"router '{name}': no outcome .*; "):
        make(name).fit(table.rows([]))


@every_outcome_router
def test_an_expert_of_which_nothing_is_known_is_refused_by_name(name: str, table: OutcomeTable):
    score = table.score.copy()
    score[:, 1] = math.nan

    with pytest.raises(ConfigError) as error:
        make(name).fit(replace(table, score=score))

    assert str(error.value) == (f"router {name!r}: no outcome of 'bo' to learn from; leave it out")


@every_outcome_router
@pytest.mark.parametrize(("names", "n"), [(["ada", "bo", "cy"], 2), (["ada"], 1)])
def test_fewer_queries_than_experts_or_than_two_are_refused(
    name: str, table: OutcomeTable, names: list[str], n: int
):
    few = table.with_experts(names).rows([0, 2][:n])

    with pytest.raises(ConfigError) as error:
        make(name).fit(few)

    assert str(error.value) == (
        f"router {name!r}: {n} queries with outcomes are too few for {len(names)} experts; "
        "record at least as many queries as experts, or leave experts out"
    )


@every_outcome_router
def test_queries_without_an_outcome_do_not_count_as_queries(name: str, table: OutcomeTable):
    score = table.score.copy()
    score[2:] = math.nan

    with pytest.raises(ConfigError, match="2 queries with outcomes are too few for 3 experts"):
        make(name).fit(replace(table, score=score))


@every_outcome_router
def test_a_table_on_which_all_experts_tie_is_refused(name: str, table: OutcomeTable):
    score = np.repeat([[0.0], [1.0]] * 4, 3, axis=1)
    score[3, 1:] = math.nan

    with pytest.raises(ConfigError) as error:
        make(name).fit(replace(table, score=score.astype(np.float32)))

    assert str(error.value) == (
        f"router {name!r}: on every query all experts scored the same, so nothing tells them "
        "apart; record harder queries, or other experts"
    )


@every_router
def test_two_routers_fitted_on_one_table_score_alike(
    name: str, table: OutcomeTable, router: FittedRouter
):
    again = make(name).fit(table)

    np.testing.assert_array_equal(ask(again).quality, ask(router).quality)
    assert again.settings == router.settings


@every_router
@quickly
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_table_does_not_matter(
    name: str, table: OutcomeTable, router: FittedRouter, seed: int
):
    rng = np.random.default_rng(seed)
    columns = rng.permutation(len(table.names))
    mixed = table.rows(rng.permutation(len(table.queries))).with_experts(
        [table.names[int(column)] for column in columns]
    )

    found = ask(make(name).fit(mixed))

    assert found.experts == mixed.names
    np.testing.assert_allclose(found.quality, ask(router).quality[:, columns], atol=1e-4)


@every_router
def test_fitting_and_scoring_leave_the_table_as_it_was(name: str, table: OutcomeTable):
    before = table.score.copy()

    ask(make(name).fit(table)).quality[:] = 7

    np.testing.assert_array_equal(table.score, before)


@every_router
def test_what_is_done_to_scores_or_to_the_table_does_not_reach_the_router(
    name: str, table: OutcomeTable
):
    router = make(name).fit(table)
    before = ask(router).quality.copy()

    ask(router).quality[:] = 7
    table.score[:] = 0

    np.testing.assert_array_equal(ask(router).quality, before)


@every_router
def test_fitting_again_forgets_what_was_learned_before(
    name: str, table: OutcomeTable, router: FittedRouter
):
    other = table.with_experts(["cy", "ada"]).rows([0, 2, 5])

    again = router.fit(other)

    np.testing.assert_array_equal(ask(again).quality, ask(make(name).fit(other)).quality)
    assert ask(again).experts == ("cy", "ada")


@every_router
def test_a_query_scores_alike_alone_and_in_a_batch(name: str, router: FittedRouter):
    batch = ask(router).quality
    alone = np.concatenate([ask(router, [query]).quality for query in ASKED])

    np.testing.assert_allclose(batch, alone, atol=1e-5)


@every_router
@quickly
@given(texts=st.lists(st.text(), min_size=3, max_size=4))
def test_any_text_can_be_learned_from_and_scored(name: str, texts: list[str]):
    score = np.linspace(0, 1, 3 * len(texts)).reshape(-1, 3)
    texts[0] += "?"
    asked = [Query("asked", (Message("user", text),)) for text in [*texts, "else"]]

    quality = ask(make(name).fit(make_table(texts, score)), asked).quality

    assert np.all(np.isnan(quality) | ((quality >= 0) & (quality <= 1)))
    assert not np.isnan(quality[[0, -1]]).any()


@every_router
def test_evidence_outlives_later_scoring(name: str, router: FittedRouter):
    scores = ask(router)
    before = scores.why(1, 0)
    ask(router, ASKED[::-1])

    assert scores.why(1, 0) == before


@every_outcome_router
def test_evidence_holds_the_raw_score_and_the_curve_that_makes_it_the_quality(
    name: str, table: OutcomeTable, router: FittedRouter
):
    scores = ask(router)

    for row in range(len(ASKED)):
        for column in range(len(table.names)):
            details = scores.why(row, column).details
            if (raw := details["raw"]) is None:
                assert np.isnan(scores.quality[row, column])
                continue
            logit = details["scale"] * raw + details["offset"]
            expected = np.clip(1 / (1 + math.exp(-np.clip(logit, -50, 50))), 0.001, 0.999)
            assert scores.quality[row, column] == pytest.approx(expected, abs=1e-4)


@every_outcome_router
def test_the_nearest_recorded_queries_come_with_what_was_recorded_of_them(
    name: str, table: OutcomeTable, router: FittedRouter
):
    recorded = {query.id: row for row, query in enumerate(table.queries)}

    nearest = ask(router).why(0, 1).details["nearest"]

    assert len(nearest) == 3
    assert [n["similarity"] for n in nearest] == sorted(
        (n["similarity"] for n in nearest), reverse=True
    )
    for each in nearest:
        row = recorded[each["id"]]
        assert each["prompt"] == table.queries[row].prompt
        assert each["scores"] == {
            expert: pytest.approx(float(score), abs=1e-4)
            for expert, score in zip(table.names, table.score[row], strict=True)
            if not math.isnan(score)
        }


@every_outcome_router
def test_experts_are_asked_of_a_query_if_and_only_if_the_router_needs_it(router: OutcomeRouter):
    asks = bool(router.needs & {"annotations", "likelihoods"})

    assert isinstance(router.annotate(ASKED[0]), Generator) == asks


@every_router
def test_before_it_is_fitted_it_neither_scores_nor_saves(name: str, tmp_path: Path):
    remedy = f"^router '{name}' is not fitted; fit it "

    with pytest.raises(RoutingError, match=remedy):
        ask(make(name))
    with pytest.raises(RoutingError, match=remedy):
        _ = make(name).experts
    with pytest.raises(ConfigError, match=remedy):
        make(name).save(tmp_path)
    assert not list(tmp_path.iterdir())


@every_outcome_router
def test_before_it_is_fitted_it_has_no_experts_to_ask_to_add_or_to_remove_and_no_summary(
    name: str, table: OutcomeTable
):
    router = make_outcome_router(name)

    for use in (
        lambda: router.annotate(ASKED[0]),
        lambda: router.add_expert(table),
        lambda: router.remove_expert("ada"),
        lambda: router.summary,
    ):
        with pytest.raises(RoutingError, match=f"^router '{name}' is not fitted; fit it "):
            use()


@every_router
def test_settings_are_json_values_that_make_the_same_router(
    name: str, table: OutcomeTable, router: FittedRouter
):
    used = json.loads(json.dumps(dict(router.settings), allow_nan=False))

    same = make_fitted_router(name, used, encoder=HashingEncoder()).fit(table)

    assert used == router.settings == same.settings
    np.testing.assert_allclose(ask(same).quality, ask(router).quality, atol=1e-6)


@every_router
def test_before_it_is_fitted_its_settings_are_those_given(name: str):
    settings = make(name).settings

    assert {key: settings[key] for key in SETTINGS.get(name, {})} == SETTINGS.get(name, {})


@every_outcome_router
def test_the_summary_tells_what_was_learned_from_and_how_well_it_chose(
    name: str, table: OutcomeTable, router: OutcomeRouter
):
    summary = router.summary

    assert json.loads(json.dumps(dict(summary), allow_nan=False)) == summary
    assert summary["queries"] == len(PROMPTS)
    assert summary["experts"] == ["ada", "bo", "cy"]
    assert summary["categories"] == ["history", "law", "maths"]
    assert summary["best_expert"] in table.names
    for which in ("held_out", "held_out_known", "best_single", "oracle"):
        assert 0 <= summary[which]["accuracy"] <= summary["oracle"]["accuracy"] <= 1
        assert 0 < summary[which]["n"] <= len(PROMPTS)


@every_outcome_router
def test_without_an_expert_the_others_score_exactly_as_before(name: str, router: OutcomeRouter):
    before = ask(router)

    assert router.remove_expert("bo") is router

    after = ask(router)
    assert after.experts == router.experts == ("ada", "cy")
    if name in SHARED_OUT:
        found, expected = (
            [details["scale"] * details["raw"] + details["offset"] for details in of_row]
            for of_row in (
                [scores.why(0, column).details for column in columns]
                for scores, columns in ((after, (0, 1)), (before, (0, 2)))
            )
        )
        assert found[1] - found[0] == pytest.approx(expected[1] - expected[0], abs=1e-4)
    else:
        np.testing.assert_array_equal(after.quality, before.quality[:, [0, 2]])


@every_outcome_router
def test_a_removed_expert_is_in_no_evidence(name: str, router: OutcomeRouter):
    scores = ask(router.remove_expert("bo"))

    for row in range(len(ASKED)):
        nearest = scores.why(row, 0).details["nearest"]
        assert not any("bo" in each["scores"] for each in nearest)


@every_outcome_router
def test_scores_made_before_an_expert_is_removed_can_still_be_explained(
    name: str, router: OutcomeRouter
):
    scores = ask(router)
    before = scores.why(0, 2)

    router.remove_expert("bo")

    assert scores.experts == ("ada", "bo", "cy")
    assert scores.why(0, 2) == before


@every_outcome_router
def test_experts_can_be_removed_until_one_is_left(name: str, router: OutcomeRouter):
    router.remove_expert("cy").remove_expert("ada")

    check(ask(router), ("bo",))
    with pytest.raises(ConfigError) as error:
        router.remove_expert("bo")
    assert str(error.value) == f"router {name!r}: 'bo' is its last expert; keep it"


@every_outcome_router
def test_removing_an_unknown_expert_is_refused(name: str, router: OutcomeRouter):
    with pytest.raises(ConfigError) as error:
        router.remove_expert("boo")

    assert str(error.value) == (
        f"router {name!r}: no expert 'boo'; did you mean 'bo'? choose from ['ada', 'bo', 'cy']"
    )


@every_outcome_router
def test_an_expert_that_is_added_scores_as_if_it_had_been_there(
    name: str, table: OutcomeTable, router: OutcomeRouter
):
    fitted = make_outcome_router(name).fit(table.with_experts(["ada", "cy"]))

    added = fitted.add_expert(table.with_experts(["bo"]))

    expected, found = ask(router), ask(added)
    assert added is fitted
    assert found.experts == ("ada", "cy", "bo")
    np.testing.assert_allclose(found.quality, expected.quality[:, [0, 2, 1]], atol=1e-4)
    assert added.settings == router.settings
    assert added.summary["experts"] == ["ada", "cy", "bo"]


@every_outcome_router
def test_an_expert_that_is_removed_and_added_again_scores_as_before(
    name: str, table: OutcomeTable, router: OutcomeRouter
):
    before = ask(router).quality

    after = ask(router.remove_expert("ada").add_expert(table.with_experts(["ada"])))

    np.testing.assert_allclose(after.quality, before[:, [1, 2, 0]], atol=1e-4)


@every_outcome_router
def test_a_loaded_router_can_add_and_remove_experts(
    name: str, table: OutcomeTable, router: OutcomeRouter, tmp_path: Path
):
    expected = ask(router).quality
    loaded = reload(router.remove_expert("cy"), tmp_path)

    loaded.add_expert(table.with_experts(["cy"]))

    assert ask(loaded).experts == ("ada", "bo", "cy")
    np.testing.assert_allclose(ask(loaded).quality, expected, atol=1e-4)
    check(ask(reload(loaded, tmp_path).remove_expert("ada")), ("bo", "cy"))


@every_router
def test_a_loaded_router_scores_as_the_saved_one(
    name: str, table: OutcomeTable, router: FittedRouter, tmp_path: Path
):
    loaded = reload(router, tmp_path / "new" / "folder")

    expected, found = ask(router), ask(loaded)
    assert type(loaded) is type(router)
    assert loaded.settings == router.settings
    assert found.experts == expected.experts
    np.testing.assert_allclose(found.quality, expected.quality, atol=1e-6)
    for row in range(len(ASKED)):
        for column in range(len(table.names)):
            assert found.why(row, column) == expected.why(row, column)


@every_outcome_router
def test_a_loaded_router_has_the_summary_of_the_saved_one(
    name: str, router: OutcomeRouter, tmp_path: Path
):
    assert reload(router, tmp_path).summary == router.summary


@every_router
def test_a_loaded_router_can_be_saved_and_fitted_again(
    name: str, table: OutcomeTable, router: FittedRouter, tmp_path: Path
):
    other = table.rows([0, 2, 5, 7])

    again = reload(reload(router, tmp_path), tmp_path).fit(other)

    np.testing.assert_array_equal(ask(again).quality, ask(make(name).fit(other)).quality)


@every_router
def test_a_saved_router_is_json_and_plain_arrays(name: str, router: FittedRouter, tmp_path: Path):
    router.save(tmp_path)

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".npz"}
    for path in tmp_path.rglob("*.json"):
        json.loads(path.read_text("utf-8"))
    for path in tmp_path.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[each].dtype.kind in "fiub" for each in arrays.files)


@every_router
@pytest.mark.parametrize("file", ["router.json", "arrays.npz"])
def test_a_truncated_router_is_refused_in_one_line(
    name: str, router: FittedRouter, tmp_path: Path, file: str
):
    router.save(tmp_path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[:-1])

    with pytest.raises(ConfigError, match=r"; fit and save it again$") as error:
        load_router(tmp_path, encoder=HashingEncoder())
    assert "\n" not in str(error.value)


def test_a_folder_without_a_router_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^no saved router in .*; fit one and save it there$"):
        load_router(tmp_path, encoder=HashingEncoder())


def test_a_saved_router_that_is_not_known_is_answered_with_those_that_are(tmp_path: Path):
    save_artefact(tmp_path, "neighbors", {}, {})

    with pytest.raises(ConfigError) as error:
        load_router(tmp_path, encoder=HashingEncoder())

    assert str(error.value) == (
        f"{tmp_path}: no saved router 'neighbors'; "
        f"did you mean 'neighbours'? choose from {sorted(LOADERS)}"
    )


def test_whatever_can_be_fitted_can_be_loaded():
    # A group's router is fitted with the group.
    assert LOADERS.keys() == FITTED.keys() | {"mixture"}


def test_a_name_of_both_kinds_of_router_makes_the_one_that_needs_no_outcomes():
    experts = {"law": Expert(name="law", engine="scripted", description="Contracts and statutes.")}

    for name in FITTED.keys() & ROUTERS.keys():
        made = make_router(name, experts, {}, encoder=HashingEncoder())

        assert made.name == name
        assert not hasattr(made, "fit")


@pytest.mark.parametrize("name", sorted(FITTED.keys() - ROUTERS.keys()))
def test_a_router_to_be_fitted_is_not_made_from_experts_alone(name: str):
    with pytest.raises(ConfigError) as error:
        make_router(name, {}, {}, encoder=HashingEncoder())

    assert str(error.value) == (
        f"router {name!r} is fitted on recorded outcomes; fit and save one (composer fit), "
        f"and name its folder by 'from', or choose from {[*ROUTERS]}"
    )


@every_router
def test_an_unknown_setting_is_refused(name: str):
    with pytest.raises(ConfigError, match=f"router '{name}' has no setting 'colour'; "):
        make_fitted_router(name, {"colour": "red"}, encoder=HashingEncoder())


@every_outcome_router
def test_a_setting_of_the_shell_out_of_its_range_is_refused(name: str):
    with pytest.raises(ConfigError, match=r"'lexical_share' is 2; give a number from 0 to 1$"):
        make(name, lexical_share=2)
    with pytest.raises(ConfigError) as error:
        make(name, calibration="plat")
    assert str(error.value) == (
        f"router {name!r} has no calibration 'plat'; "
        "did you mean 'platt'? choose from ['isotonic', 'platt']"
    )


def test_a_misspelt_router_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError) as error:
        make_fitted_router("priors", {}, encoder=HashingEncoder())

    assert str(error.value) == (
        f"no router that is fitted 'priors'; did you mean 'prior'? choose from {sorted(FITTED)}"
    )
