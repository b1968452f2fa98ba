"""What every router that learns from recorded outcomes promises."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError, RoutingError
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from composer.protocols import FittedRouter
from composer.types import Evidence, Message, Query, Scores
from routers import (
    FITTED,
    LOADERS,
    ROUTERS,
    load_router,
    make_fitted_router,
    make_router,
)
from routers.artefact import save_artefact
from routers.encoder import HashingEncoder

SETTINGS: Mapping[str, Mapping[str, Any]] = {"neighbours": {"lexical_share": 0}}
"""What a router need not learn here; the tests of its own say more."""
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
quickly = settings(
    deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def table() -> OutcomeTable:
    """Eight queries that three experts were asked, but for a few."""
    rng = np.random.default_rng(0)
    score = rng.random((len(PROMPTS), 3)).astype(np.float32)
    score[[1, 3, 4, 4], [0, 1, 1, 2]] = math.nan
    queries = [
        RecordedQuery(f"q{row}", prompt, "train", category)
        for row, (prompt, category) in enumerate(zip(PROMPTS, CATEGORIES, strict=True))
    ]
    experts = (RecordedExpert("ada"), RecordedExpert("bo"), RecordedExpert("cy"))
    return OutcomeTable("small", tuple(queries), experts, score)


def make(name: str) -> FittedRouter:
    return make_fitted_router(name, SETTINGS.get(name, {}), encoder=HashingEncoder())


def ask(router: FittedRouter, queries: list[Query] = ASKED) -> Scores:
    return router.score(queries, [None] * len(queries))


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
def test_a_router_goes_by_its_name_in_the_table(name: str):
    assert make(name).name == name


@every_router
def test_quality_is_within_zero_and_one_and_every_cell_has_a_reason(name: str, table: OutcomeTable):
    check(ask(make(name).fit(table)), table.names)


@every_router
@quickly
@given(seed=st.integers(0, 2**32 - 1), share_unknown=st.sampled_from([0.3, 0.7]))
def test_any_scores_with_any_gaps_can_be_learned_from(
    name: str, table: OutcomeTable, seed: int, share_unknown: float
):
    rng = np.random.default_rng(seed)
    score = rng.choice([0, 1, rng.random()], table.score.shape).astype(np.float32)
    score[rng.random(score.shape) < share_unknown] = math.nan
    score[rng.integers(len(score))] = 1

    scores = ask(make(name).fit(replace(table, score=score)))

    check(scores, table.names)
    assert not np.isnan(scores.quality).any()


@every_router
def test_one_expert_is_enough(name: str, table: OutcomeTable):
    check(ask(make(name).fit(table.with_experts(["bo"]))), ("bo",))


@every_router
def test_one_row_is_enough(name: str, table: OutcomeTable):
    scores = ask(make(name).fit(table.rows([0])))

    check(scores, table.names)
    np.testing.assert_allclose(scores.quality, np.tile(table.score[0], (len(ASKED), 1)), atol=1e-6)


@every_router
def test_a_table_without_an_outcome_is_refused(name: str, table: OutcomeTable):
    with pytest.raises(ConfigError, match=f"router '{name}': no outcome .*; "):
        make(name).fit(replace(table, score=np.full_like(table.score, math.nan)))


@every_router
def test_a_table_without_a_row_is_refused(name: str, table: OutcomeTable):
    with pytest.raises(ConfigError, match=f"router '{name}': no outcome .*; "):
        make(name).fit(table.rows([]))


@every_router
def test_two_routers_fitted_on_one_table_score_alike(name: str, table: OutcomeTable):
    first, second = make(name).fit(table), make(name).fit(table)

    np.testing.assert_array_equal(ask(first).quality, ask(second).quality)
    assert first.settings == second.settings


@every_router
@quickly
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_table_does_not_matter(name: str, table: OutcomeTable, seed: int):
    rng = np.random.default_rng(seed)
    columns = rng.permutation(len(table.names))
    mixed = table.rows(rng.permutation(len(table.queries))).with_experts(
        [table.names[int(column)] for column in columns]
    )

    expected, found = ask(make(name).fit(table)), ask(make(name).fit(mixed))

    assert found.experts == mixed.names
    np.testing.assert_allclose(found.quality, expected.quality[:, columns], atol=1e-6)


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
def test_fitting_again_forgets_what_was_learned_before(name: str, table: OutcomeTable):
    other = table.with_experts(["cy", "ada"]).rows([0, 2, 5])

    again = make(name).fit(table).fit(other)

    np.testing.assert_array_equal(ask(again).quality, ask(make(name).fit(other)).quality)
    assert ask(again).experts == ("cy", "ada")


@every_router
def test_a_query_scores_alike_alone_and_in_a_batch(name: str, table: OutcomeTable):
    router = make(name).fit(table)
    batch = ask(router).quality
    alone = np.concatenate([ask(router, [query]).quality for query in ASKED])

    np.testing.assert_allclose(batch, alone, atol=1e-5)


@every_router
@quickly
@given(texts=st.lists(st.text(), min_size=1, max_size=4))
def test_any_text_can_be_learned_from_and_scored(name: str, table: OutcomeTable, texts: list[str]):
    queries = [RecordedQuery(f"q{row}", text, "train") for row, text in enumerate(texts)]
    score = np.linspace(0, 1, 3 * len(texts), dtype=np.float32).reshape(-1, 3)
    asked = [Query("asked", (Message("user", text),)) for text in [*texts, "else"]]

    quality = ask(
        make(name).fit(OutcomeTable("texts", tuple(queries), table.experts, score)), asked
    ).quality

    assert np.all((quality >= 0) & (quality <= 1))


@every_router
def test_evidence_outlives_later_scoring(name: str, table: OutcomeTable):
    router = make(name).fit(table)
    scores = ask(router)
    before = scores.why(1, 0)
    ask(router, ASKED[::-1])

    assert scores.why(1, 0) == before


@every_router
def test_no_annotation_is_needed(name: str):
    assert make(name).annotate(ASKED[0]) is None
    assert not make(name).needs


@every_router
def test_before_it_is_fitted_it_neither_scores_nor_saves(name: str, tmp_path: Path):
    remedy = f"^router '{name}' is not fitted; fit it "

    with pytest.raises(RoutingError, match=remedy):
        ask(make(name))
    with pytest.raises(ConfigError, match=remedy):
        make(name).save(tmp_path)
    assert not list(tmp_path.iterdir())


@every_router
def test_settings_are_json_values_that_make_the_same_router(name: str, table: OutcomeTable):
    router = make(name).fit(table)

    used = json.loads(json.dumps(dict(router.settings), allow_nan=False))

    same = make_fitted_router(name, used, encoder=HashingEncoder()).fit(table)
    assert used == router.settings == same.settings
    np.testing.assert_allclose(ask(same).quality, ask(router).quality, atol=1e-6)


@every_router
def test_before_it_is_fitted_its_settings_are_those_given(name: str):
    settings = make(name).settings

    assert {key: settings[key] for key in SETTINGS.get(name, {})} == SETTINGS.get(name, {})


@every_router
def test_a_loaded_router_scores_as_the_saved_one(name: str, table: OutcomeTable, tmp_path: Path):
    router = make(name).fit(table)
    router.save(tmp_path / "new" / "folder")

    loaded = load_router(tmp_path / "new" / "folder", encoder=HashingEncoder())

    expected, found = ask(router), ask(loaded)
    assert type(loaded) is type(router)
    assert loaded.settings == router.settings
    assert found.experts == expected.experts
    np.testing.assert_allclose(found.quality, expected.quality, atol=1e-6)
    for row in range(len(ASKED)):
        for column in range(len(table.names)):
            assert found.why(row, column) == expected.why(row, column)


@every_router
def test_a_loaded_router_can_be_saved_and_fitted_again(
    name: str, table: OutcomeTable, tmp_path: Path
):
    make(name).fit(table).save(tmp_path)
    loaded = load_router(tmp_path, encoder=HashingEncoder())
    loaded.save(tmp_path)

    again = load_router(tmp_path, encoder=HashingEncoder()).fit(table.rows([0, 2, 5]))

    expected = make(name).fit(table.rows([0, 2, 5]))
    np.testing.assert_array_equal(ask(again).quality, ask(expected).quality)


@every_router
def test_a_saved_router_is_json_and_plain_arrays(name: str, table: OutcomeTable, tmp_path: Path):
    make(name).fit(table).save(tmp_path)

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".npz"}
    for path in tmp_path.rglob("*.json"):
        json.loads(path.read_text("utf-8"))
    for path in tmp_path.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[each].dtype.kind in "fiu" for each in arrays.files)


@every_router
@pytest.mark.parametrize("file", ["router.json", "arrays.npz"])
def test_a_truncated_router_is_refused_in_one_line(
    name: str, table: OutcomeTable, tmp_path: Path, file: str
):
    make(name).fit(table).save(tmp_path)
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
    assert LOADERS.keys() == FITTED.keys()


def test_a_name_is_of_a_router_to_be_fitted_or_of_another():
    assert not FITTED.keys() & ROUTERS.keys()


@every_router
def test_a_router_to_be_fitted_is_not_made_from_experts_alone(name: str):
    with pytest.raises(ConfigError) as error:
        make_router(name, {}, {}, encoder=HashingEncoder())

    assert str(error.value) == (
        f"router {name!r} is fitted on recorded outcomes; choose from {[*ROUTERS]}"
    )


@every_router
def test_an_unknown_setting_is_refused(name: str):
    with pytest.raises(ConfigError, match=f"router '{name}' has no setting 'colour'; "):
        make_fitted_router(name, {"colour": "red"}, encoder=HashingEncoder())


def test_a_misspelt_router_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError) as error:
        make_fitted_router("priors", {}, encoder=HashingEncoder())

    assert str(error.value) == (
        f"no router that is fitted 'priors'; did you mean 'prior'? choose from {sorted(FITTED)}"
    )
