"""What is refused when experts.yaml is read, and who aggregates where a benchmark says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from composer.aggregators import make_aggregator
from composer.aggregators.saved import NAME, save_learned
from composer.aggregators.synthesis.measured import (
    AggregatorScore,
    best_measured,
    check_free,
    load_scores,
    save_scores,
)
from composer.entries import Expert
from composer.errors import ConfigError

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive

ALL = ("synthesis", "self-moa", "sequential")


def experts(**contexts: int | None) -> dict[str, Expert]:
    """Experts whose entries say their context, or None: nothing of it."""
    return {
        name: Expert.model_validate(
            {
                "name": name,
                "source": "s",
                "engine_args": {} if limit is None else {"max_model_len": limit},
            }
        )
        for name, limit in contexts.items()
    }


def refused(name: str, settings: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        make_aggregator(name, settings)
    message = str(caught.value)
    assert message.startswith(f"aggregator {name!r}: ")
    assert "\n" not in message
    return message


def refused_by_check(
    name: str, settings: dict[str, Any], known: dict[str, Expert], k: int = 3
) -> str:
    with pytest.raises(ConfigError) as caught:
        make_aggregator(name, settings).check(known, k)
    message = str(caught.value)
    assert message.startswith(f"aggregator {name!r}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("synthesis", {"layers": 0}, "'layers' is 0; set 1 or more, or leave it out"),
        ("synthesis", {"min_proposals": 0}, "'min_proposals' is 0; set 1 or more"),
        ("synthesis", {"temperature": -0.1}, "'temperature' is -0.1; set 0 or more"),
        ("synthesis", {"max_tokens": 0}, "'max_tokens' is 0; set 1 or more"),
        ("synthesis", {"carry": "first"}, "setting 'carry' cannot be 'first'"),
        ("self-moa", {"n": 1}, "'n' is 1; set 2 or more"),
        ("self-moa", {"temperature": 0.0}, "'temperature' is 0.0, at which all samples are alike"),
        ("self-moa", {"max_tokens": 0}, "'max_tokens' is 0"),
        ("self-moa", {"max_reference_tokens": 0}, "'max_reference_tokens' is 0"),
        ("sequential", {"n": 0}, "'n' is 0; set 1 or more"),
        ("sequential", {"window": 1, "reserved": 1}, "'window' is 1; set 2 or more"),
        ("sequential", {"reserved": 0}, "'reserved' is 0; set 1 or more"),
        ("sequential", {"window": 3, "reserved": 3}, "'reserved' is 3 and 'window' 3, which leav"),
        ("sequential", {"window": 3}, "'reserved' is 3 and 'window' 3, which leaves no slot"),
        ("sequential", {"temperature": 0}, "'temperature' is 0, at which all samples are alike"),
        ("sequential", {"max_tokens": 0}, "'max_tokens' is 0"),
        ("sequential", {"max_reference_tokens": 0}, "'max_reference_tokens' is 0"),
        ("sequential", {"reserve": "two"}, "setting 'reserve' cannot be 'two'"),
        ("sequential", {"samplers": "all"}, "setting 'samplers' cannot be 'all'"),
        ("synthesis", {"by": "ann", "from": "d"}, "'by' and 'from' both say who aggregates; leave"),
        ("sequential", {"by": "ann", "from": "d"}, "'by' and 'from' both say who aggregates"),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, settings: dict[str, Any], said: str) -> None:
    assert said in refused(name, settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"layers": 3, "carry": "all", "min_proposals": 2, "temperature": 0.7, "max_tokens": 512},
        {"temperature": 0, "by": None, "from": None},
    ],
)
def test_settings_in_range_are_taken(settings: dict[str, Any]) -> None:
    assert make_aggregator("synthesis", settings).name == "synthesis"


@pytest.mark.parametrize("name", ALL)
def test_experts_that_have_room_or_do_not_say_are_let_pass(name: str) -> None:
    make_aggregator(name, {}).check(experts(ann=2048, ben=None), 3)


@pytest.mark.parametrize("name", ALL)
def test_any_expert_without_room_is_refused_where_any_may_aggregate(name: str) -> None:
    said = refused_by_check(name, {}, experts(ann=2048, ben=300))

    assert "the context of 'ben' is 300 tokens, and " in said
    assert said.endswith("raise engine_args.max_model_len, or let fewer propose")


@pytest.mark.parametrize("name", ALL)
def test_of_a_named_expert_alone_room_is_wanted(name: str) -> None:
    known = experts(ann=2048, ben=300)

    make_aggregator(name, {"by": "ann"}).check(known, 3)
    assert "'ben' is 300" in refused_by_check(name, {"by": "ben"}, known)


def test_every_expert_reads_references_where_there_are_layers() -> None:
    settings = {"by": "ann", "layers": 2}

    assert "'ben' is 300" in refused_by_check("synthesis", settings, experts(ann=2048, ben=300))


def test_the_room_grows_with_what_is_read_at_one_time() -> None:
    known = experts(ann=500)

    make_aggregator("synthesis", {}).check(known, 3)
    assert "and 12 references need" in refused_by_check("synthesis", {}, known, k=12)
    assert "and 12 references need" in refused_by_check("self-moa", {"n": 12}, known)
    assert "and 12 references need" in refused_by_check("sequential", {"window": 12}, known)
    make_aggregator("sequential", {"window": 12, "n": 3}).check(known, 3)


def test_the_answers_own_bound_counts() -> None:
    make_aggregator("synthesis", {"max_tokens": 20}).check(experts(ann=300), 3)

    said = refused_by_check("synthesis", {"max_tokens": 2000}, experts(ann=2048))
    assert "the answer 2000" in said


def test_a_lora_expert_has_the_context_of_its_base() -> None:
    tuned = Expert.model_validate({"name": "tuned", "base": "ann", "adapter": "a"})

    said = refused_by_check("synthesis", {"by": "tuned"}, {**experts(ann=300), "tuned": tuned})

    assert "the context of 'tuned' is 300" in said


def test_more_proposals_wanted_than_experts_chosen_are_refused() -> None:
    make_aggregator("synthesis", {"min_proposals": 3}).check(experts(ann=None), 3)

    said = refused_by_check("synthesis", {"min_proposals": 4}, experts(ann=None))
    assert "'min_proposals' is 4 and 3 experts are chosen; lower it, or raise choose.k" in said


@pytest.mark.parametrize("name", ALL)
def test_an_aggregating_expert_that_does_not_exist_is_refused(name: str) -> None:
    said = refused_by_check(name, {"by": "anne"}, experts(ann=None))

    assert "no expert 'anne'; did you mean 'ann'?" in said


@pytest.mark.parametrize("name", ["self-moa", "sequential"])
def test_many_texts_of_one_request_are_needed_only_where_it_asks_for_them(name: str) -> None:
    assert make_aggregator(name, {}).needs == {"n"}
    assert make_aggregator(name, {"separate": True}).needs == frozenset()


SCORES = (
    AggregatorScore("ann", 10, 6),
    AggregatorScore("ben", 8, 6),
    AggregatorScore("cas", 0, 0),
    AggregatorScore("dan", 4, 3),
)


def test_saved_scores_are_read_again(tmp_path: Path) -> None:
    save_scores(tmp_path, SCORES)

    assert load_scores(tmp_path) == SCORES
    saved = json.loads((tmp_path / NAME).read_text("utf-8"))["learned"]["experts"]
    assert saved[0]["accuracy"] == 0.6
    assert saved[2]["interval"] is None


def test_the_best_is_who_is_right_most_often_and_of_equals_the_first(tmp_path: Path) -> None:
    save_scores(tmp_path, SCORES)

    assert best_measured(tmp_path) == "ben"


@pytest.mark.parametrize(
    ("n", "n_right", "interval"),
    [(10, 6, (0.3127, 0.8318)), (4, 0, (0.0, 0.4899)), (4, 4, (0.5101, 1.0))],
)
def test_an_accuracy_has_wilsons_interval(
    n: int, n_right: int, interval: tuple[float, float]
) -> None:
    assert AggregatorScore("ann", n, n_right).interval == pytest.approx(interval, abs=1e-4)


@pytest.mark.parametrize("name", ["synthesis", "sequential"])
def test_the_measured_best_aggregates_whomever_the_router_chose(
    name: str, tmp_path: Path, drive: Drive
) -> None:
    save_scores(tmp_path / "measured", [AggregatorScore("dan", 9, 9), AggregatorScore("ann", 9, 1)])

    aggregator = make_aggregator(name, {"from": "measured"}, folder=tmp_path)
    ran = drive(aggregator, dict.fromkeys(("ann", "ben", "cas", "dan"), "42"))

    assert aggregator.experts == {"dan"}
    assert ran.answer.expert == "dan"
    assert {r.expert for r in ran.requests if r.purpose == "propose"} <= {"ann", "ben", "cas"}


def test_a_measured_expert_that_is_no_more_is_refused(tmp_path: Path) -> None:
    save_scores(tmp_path, SCORES)

    said = refused_by_check("synthesis", {"from": str(tmp_path)}, experts(ann=None))
    assert "it aggregates by 'ben'; no expert 'ben'" in said


def test_a_folder_without_a_benchmark_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_aggregator("synthesis", {"from": str(tmp_path)})

    assert str(caught.value) == (
        f"{tmp_path}: holds no saved aggregator; measure with `composer profile CASES "
        f"--aggregators --save {tmp_path}`"
    )


def test_another_aggregators_folder_is_refused(tmp_path: Path) -> None:
    save_learned(tmp_path, "vote-learned", {})

    with pytest.raises(ConfigError, match="holds a 'vote-learned', not a 'aggregating expert'"):
        best_measured(tmp_path)
    with pytest.raises(ConfigError, match=r"holds a 'vote-learned'.*; name another folder"):
        check_free(tmp_path)


def test_a_free_folder_or_one_with_a_benchmark_may_take_another(tmp_path: Path) -> None:
    check_free(tmp_path)
    save_scores(tmp_path, SCORES)

    check_free(tmp_path)


@pytest.mark.parametrize("learned", [{}, {"experts": [{"expert": "ann"}]}, {"experts": "ann"}])
def test_a_benchmark_without_scores_is_refused(learned: dict[str, Any], tmp_path: Path) -> None:
    save_learned(tmp_path, "aggregating expert", learned)

    with pytest.raises(ConfigError, match="holds no scores of experts; measure with"):
        load_scores(tmp_path)


def test_a_benchmark_that_nobody_answered_names_no_best(tmp_path: Path) -> None:
    save_scores(tmp_path, [AggregatorScore("ann", 0, 0)])

    with pytest.raises(ConfigError, match="no expert answered a case; mend the experts"):
        best_measured(tmp_path)
