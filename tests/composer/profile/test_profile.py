from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from composer.errors import AggregationError, ConfigError
from composer.outcomes import RecordedExpert, load_table, save_table
from composer.profile import Progress
from composer.protocols import Flow
from composer.types import Annotation, Ask, Completion, Message, Query, Request
from tests.composer.profile.conftest import CASES, EXPERTS, RunProfile, Watch

NAN = math.nan


class Describing:
    """Has an expert describe each query, and another say it again; some it leaves alone."""

    def __init__(self, key: str, *, first: str = "ada", then: str = "bob") -> None:
        self.key = key
        self.first, self.then = first, then
        self.experts: Sequence[str] = ()

    def annotate(self, query: Query, experts: Sequence[str]) -> Flow[Annotation] | None:
        self.experts = experts
        return None if query.category is None else self._flow(query)

    def _flow(self, query: Query) -> Flow[Annotation]:
        said: list[str] = []
        for expert in (self.first, self.then):
            messages = (Message("user", f"Describe: {query.text}"),)
            (told,) = yield Ask((Request(f"{query.id}/{expert}", expert, messages),))
            if not isinstance(told, Completion):
                raise AggregationError(told.message)
            said.append(told.text)
        return Annotation({self.key: said})


class Silent:
    """Needs nothing."""

    def annotate(self, query: Query, experts: Sequence[str]) -> None:
        return None


def test_answers_are_scored_by_their_type_and_a_failure_is_unknown(
    run_profile: RunProfile,
) -> None:
    table = run_profile().table

    np.testing.assert_array_equal(table.score, [[1, NAN], [1, 0], [0, 1]])
    assert table.answers is not None
    assert [[table.answers.value(r, c) for c in (0, 1)] for r in range(3)] == [
        ["42", None],
        ["B", None],
        [None, "yes"],
    ]
    np.testing.assert_array_equal(table.answers.codes[:, 1], [-2, -1, 2])


def test_what_was_said_and_what_it_took_is_recorded(run_profile: RunProfile) -> None:
    table = run_profile().table

    assert table.name == "profile"
    assert table.texts is not None
    assert table.texts[0].tolist() == ["The answer is 42.", None]
    assert table.cells()["prompt_tokens"][0].tolist() == pytest.approx([5, NAN], nan_ok=True)
    assert table.cells()["completion_tokens"][0].tolist() == pytest.approx([4, NAN], nan_ok=True)
    assert table.cells()["cost_usd"][0].tolist() == pytest.approx([13e-6, NAN], nan_ok=True)
    assert (table.cells()["latency_s"][1] >= 0).all()


def test_the_rows_are_the_cases_and_the_columns_what_routers_go_by(
    run_profile: RunProfile,
) -> None:
    table = run_profile().table

    assert [(q.id, q.prompt, q.reference, q.category, q.split) for q in table.queries] == [
        (case.id, case.prompt, case.reference, case.category, case.split) for case in CASES
    ]
    assert table.experts == (
        RecordedExpert("ada", 0.5, 1.0, 2.0, description="Knows numbers."),
        RecordedExpert("bob", None, 0.0, 0.0),
    )


def test_a_profile_is_saved_and_read_again(run_profile: RunProfile, tmp_path: Path) -> None:
    table = run_profile(annotators={"words": Describing("words")}).table

    save_table(table, tmp_path / "profile")

    loaded = load_table(tmp_path / "profile", texts=True)
    assert (loaded.queries, loaded.experts) == (table.queries, table.experts)


def test_failures_are_told_with_their_reasons(run_profile: RunProfile) -> None:
    (failure,) = run_profile().failures

    assert (failure.expert, failure.kind, failure.message) == (
        "bob",
        "refused",
        "as its script says",
    )


def test_experts_write_no_more_tokens_than_a_case_allows(
    run_profile: RunProfile, watch: Watch
) -> None:
    run_profile(cases=(replace(CASES[0], max_tokens=3), CASES[1]))

    allowed = {request.messages[0].content: request.sampling.max_tokens for request in watch.asked}
    assert allowed == {CASES[0].prompt: 3, CASES[1].prompt: None}


def test_each_engine_is_asked_all_before_the_next_one_is(
    run_profile: RunProfile, watch: Watch
) -> None:
    run_profile(experts=["bob", "ada"])

    assert [request.expert for request in watch.asked] == ["bob"] * 3 + ["ada"] * 3


@pytest.mark.parametrize("in_flight", [1, 5])
def test_an_engine_has_many_requests_at_once_and_no_more_than_it_may(
    run_profile: RunProfile, watch: Watch, in_flight: int
) -> None:
    cases = [replace(CASES[0], id=str(i)) for i in range(12)]

    table = run_profile(cases=cases, experts=["ada"], in_flight=in_flight).table

    assert watch.most_at_once == in_flight
    assert (table.score == 1).all()


def test_experts_are_asked_in_the_columns_order_and_each_once(
    run_profile: RunProfile,
) -> None:
    table = run_profile(experts=["bob", "ada", "bob"]).table

    assert table.names == ("bob", "ada")


def test_an_expert_that_does_not_exist_is_refused_before_any_is_asked(
    run_profile: RunProfile, journal: Path
) -> None:
    with pytest.raises(ConfigError, match="no expert 'adda'; did you mean 'ada'"):
        run_profile(experts=["bob", "adda"])

    assert not journal.exists()


def test_progress_tells_who_is_asked_and_how_many_failed(run_profile: RunProfile) -> None:
    told: list[Progress] = []

    run_profile(on_progress=told.append)

    assert told[0] == Progress("answers", "ada", 0, 6, 0)
    assert told[-1] == Progress("answers", "bob", 6, 6, 1)


def test_annotations_of_all_routers_are_merged(run_profile: RunProfile) -> None:
    annotators = {"one": Describing("first"), "two": Describing("second")}

    table = run_profile(annotators=annotators).table

    said = ["B", "Yes, it is."]
    assert [query.annotation for query in table.queries] == [
        None,
        Annotation({"first": said, "second": said}),
        None,
    ]
    assert annotators["one"].experts == ["ada", "bob"]


def test_a_flow_that_ends_in_an_error_leaves_its_query_without_an_annotation(
    run_profile: RunProfile, caplog: pytest.LogCaptureFixture
) -> None:
    found = run_profile(annotators={"words": Describing("words")})

    assert found.table.queries[0].annotation is None
    assert [f.request_id for f in found.failures] == ["answers/bob/sum", "words/sum/bob"]
    assert "a query is left without an annotation: as its script says" in caplog.text


def test_each_step_of_the_flows_asks_an_expert_once(run_profile: RunProfile, watch: Watch) -> None:
    run_profile(experts=["ada"], annotators={"words": Describing("words")})

    assert [request.expert for request in watch.asked[3:]] == ["ada", "ada", "bob", "bob"]


def test_a_router_that_asks_nothing_is_refused(run_profile: RunProfile) -> None:
    with pytest.raises(ConfigError, match="router 'quiet' asks nothing about a query; leave it"):
        run_profile(annotators={"quiet": Silent()})


def test_an_annotator_that_does_not_exist_is_refused(run_profile: RunProfile) -> None:
    with pytest.raises(ConfigError, match="no expert 'eve'; choose from"):
        run_profile(annotators={"words": Describing("words", first="eve")})


def test_experts_of_a_text_are_those_of_the_file(run_profile: RunProfile) -> None:
    only_ada = EXPERTS.split("  bob:")[0]

    assert run_profile(only_ada).table.names == ("ada",)
