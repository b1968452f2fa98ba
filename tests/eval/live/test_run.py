"""A run as a whole: experts alone, compositions, figures; and going on with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.outcomes import load_table
from composer.profile import Case
from composer.types import Sample
from eval.live.attribution import Attribution
from eval.live.run import LiveRun
from eval.replay.fits import Fits
from eval.replay.methods import make_method
from eval.replay.parts import make_parts
from eval.replay.rows import Row
from eval.replay.run import replay
from eval.report.load import ReplayRun, load_runs
from eval.tasks.task import Task
from routers.encoder import HashingEncoder
from tests.eval.live.conftest import KINDS, N_TEST, N_TRAIN, Quiz, make_case, make_quiz

RUNGS = ["random", "best-single", "category-expert"]
SINGLES = [f"fixed[expert={name}]" for name in ("ada", "bob", "cas")]
N = N_TEST * len(KINDS)


def rows_of(found: LiveRun) -> dict[str, Row]:
    return {row.method: row for row in found.rows}


def attributions_of(found: LiveRun) -> dict[str, Attribution]:
    return {each.method: each for each in found.attributions}


async def test_compositions_stand_on_the_ladder_between_experts_and_the_oracle(quiz: Quiz) -> None:
    found = await quiz.run("routed", "ada", self_moa=False)

    rows = rows_of(found)
    names = [*RUNGS, *SINGLES, "routed", "ada", "category-hindsight", "oracle"]
    assert list(rows) == names
    accuracies = {name: rows[name].accuracy for name in names}
    third = 1 / 3
    assert accuracies["random"] == pytest.approx(third)
    assert accuracies["best-single"] == accuracies["fixed[expert=ada]"] == accuracies["ada"]
    assert accuracies["ada"] == pytest.approx(2 * third)
    assert accuracies["fixed[expert=bob]"] == pytest.approx(third)
    assert accuracies["routed"] == accuracies["oracle"] == 1
    assert {row.n for row in found.rows} == {N}
    assert {row.split for row in found.rows} == {"test"}
    assert rows["best-single"].settings == {"expert": "ada", "samples": 1}
    assert rows["routed"].settings["samples"] == 1


async def test_each_expert_is_asked_each_question_once_and_compositions_only_test_ones(
    quiz: Quiz,
) -> None:
    await quiz.run("routed", ask_again=True)

    asked = quiz.asked()
    alone = [i for i in asked if i.startswith("answers/")]
    assert len(alone) == len(set(alone)) == 3 * len(KINDS) * (N_TRAIN + N_TEST)
    assert len(asked) - len(alone) == N


async def test_one_pool_does_it_all_with_each_engine_loaded_once(quiz: Quiz) -> None:
    await quiz.run("routed", "panel", "vote")

    timing = quiz.json("timing.json")
    assert timing["loads"] == 3
    assert [step["step"] for step in timing["steps"]] == [
        "experts",
        "routed",
        "panel",
        "vote",
        "self-moa-ada-2",
        "figures",
    ]
    assert timing["seconds"] == pytest.approx(sum(s["seconds"] for s in timing["steps"]))


async def test_a_gain_is_routings_where_one_is_chosen_and_the_aggregators_where_it_errs(
    quiz: Quiz,
) -> None:
    terms = {
        name: {term: value.value for term, value in each.terms.items()}
        for name, each in attributions_of(await quiz.run("routed", "panel")).items()
    }

    third = pytest.approx(1 / 3)
    assert (terms["routed"]["gain"], terms["routed"]["routing"]) == (third, third)
    assert terms["routed"]["aggregation"] == terms["routed"]["gap"] == 0
    assert terms["panel"]["routing"] == third
    assert (terms["panel"]["aggregation"], terms["panel"]["unused"]) == (-1, 1)
    assert terms["panel"]["potential"] == terms["panel"]["missed"] == 0
    assert terms["best-single"]["gain"] == 0
    assert terms["best-single"]["missed"] == third


async def test_the_best_single_expert_stands_beside_with_as_many_samples(quiz: Quiz) -> None:
    found = await quiz.run("vote", "routed")

    rows, attributions = rows_of(found), attributions_of(found)
    assert rows["self-moa"].settings["expert"] == "ada"
    assert rows["self-moa"].settings["samples"] == 2
    assert [attributions[name].samples for name in ("vote", "self-moa", "routed")] == [2, 2, 1]
    assert {attributions[name].samples for name in [*RUNGS[1:], *SINGLES]} == {1}
    assert "random" not in attributions


async def test_without_more_than_a_sample_or_if_told_so_there_is_no_self_moa(quiz: Quiz) -> None:
    alone = await quiz.run("routed")
    left_out = await quiz.run("vote", run_dir=quiz.folder / "other", self_moa=False)

    assert alone.as_json["not_run"] == []
    assert "self-moa" not in rows_of(alone)
    assert "self-moa" not in rows_of(left_out)


async def test_samples_that_do_not_fit_are_no_reason_to_lose_the_run(quiz: Quiz) -> None:
    found = await quiz.run("vote", experts={"ada": {"context": 300}})

    (not_run,) = found.as_json["not_run"]
    assert not_run["method"] == "self-moa"
    assert "context" in not_run["reason"]
    assert "vote" in rows_of(found)


async def test_a_record_holds_all_that_is_known_of_a_query_and_a_composition(quiz: Quiz) -> None:
    await quiz.run("routed", "vote")

    records = quiz.lines("records.jsonl")
    assert [r["composition"] for r in records[::N]] == ["routed", "vote", "self-moa"]
    record = next(r for r in records if r["id"] == "city-10")
    assert (record["task"], record["category"], record["reference"]) == ("quiz", "city", "10")
    assert record["answer"] == record["prompt"] == "city 10: the answer is 10"
    assert (record["extracted"], record["score"]) == ("10", 1.0)
    assert record["expert"] == "bob"
    assert record["asked"] == record["chosen"] == record["proposed"] == ["bob"]
    assert record["predicted"] == record["quality"]["bob"]
    assert (record["prompt_tokens"], record["completion_tokens"]) == (6, 6)
    assert record["cost_usd"] == pytest.approx(18e-6)
    assert (record["finish_reason"], record["failures"], record["error"]) == ("stop", [], None)
    assert record["seconds"] >= 0
    assert record["ttft_s"] is None


async def test_online_each_record_says_how_long_one_waited(quiz: Quiz) -> None:
    await quiz.run("routed", online=True)

    records = quiz.lines("records.jsonl")
    assert len(records) == N
    assert all(0 < r["ttft_s"] <= r["seconds"] for r in records)


async def test_the_category_is_hidden_unless_it_is_to_be_known(quiz: Quiz) -> None:
    hidden = await quiz.run("routed")
    known = await quiz.run("routed", run_dir=quiz.folder / "known", known_category=True)

    batch = Path("compositions", "routed", "queries.jsonl")
    assert not any("category" in line for line in quiz.lines(str(batch)))
    assert '"category": "sum"' in (quiz.folder / "known" / batch).read_text()
    assert [rows_of(run)["routed"].category for run in (hidden, known)] == ["hidden", "known"]
    assert rows_of(hidden)["category-expert"].category == "known"


async def test_queries_without_an_answer_count_as_wrong_and_are_said(quiz: Quiz) -> None:
    found = await quiz.run("shy", "routed")

    row = rows_of(found)["shy"]
    assert (row.accuracy, row.n, row.n_failed) == (0, N, N)
    assert list(found.unanswered) == ["shy"]
    assert len(found.unanswered["shy"]) == N
    terms = attributions_of(found)["shy"].terms
    assert terms["routing"].value == terms["gain"].value == pytest.approx(-2 / 3)


async def test_an_expert_that_answers_nothing_is_named_and_the_rest_is_kept(quiz: Quiz) -> None:
    found = await quiz.run("routed", experts={"cas": {"load_failure": "broken"}})

    assert found.silent == {"cas": "broken (2 attempts)"}
    rows = rows_of(found)
    assert rows["routed"].accuracy == rows["oracle"].accuracy == 1
    assert (rows["fixed[expert=cas]"].n, rows["fixed[expert=cas]"].n_unknown) == (0, N)
    assert np.isnan(load_table(quiz.run_dir / "experts").score[:, 2]).all()


async def test_experts_that_are_not_asked_alone_may_still_be_asked_by_compositions(
    quiz: Quiz,
) -> None:
    found = await quiz.run("routed", only=("ada", "cas"))

    assert load_table(quiz.run_dir / "experts").names == ("ada", "cas")
    assert rows_of(found)["routed"].accuracy == 1
    attribution = attributions_of(found)["routed"]
    assert (attribution.n, attribution.n_unknown) == (2 * N_TEST, N_TEST)


async def test_the_table_of_the_experts_can_be_replayed_without_a_model(quiz: Quiz) -> None:
    await quiz.run("routed")
    asked = quiz.asked()

    table = load_table(quiz.run_dir / "experts")
    names = ("best-single", "prior", "vote-majority[k=2]", "oracle")
    fits = Fits()
    methods = [make_method(name, HashingEncoder(64), fits) for name in names]
    found = replay(table, make_parts(table), methods)

    rows = {row.method: row for row in found.rows}
    assert found.not_run == ()
    assert rows["best-single"].accuracy == pytest.approx(2 / 3)
    assert rows["oracle"].accuracy == 1
    assert quiz.asked() == asked


async def test_the_folder_is_a_run_for_reports(quiz: Quiz) -> None:
    found = await quiz.run("routed", "vote")

    (run,) = load_runs([quiz.run_dir])

    assert isinstance(run, ReplayRun)
    (part,) = run.parts
    assert {row.method for row in part.rows} == set(rows_of(found))
    assert part.judged["routed"].quality is not None
    assert part.judged["vote"].quality is None
    predicted = {
        name: [decision.predicted for decision in part.judged[name].decisions]
        for name in ("routed", "vote")
    }
    assert not np.isnan(predicted["routed"]).any()
    assert np.isnan(predicted["vote"]).all()
    assert run.attributions == found.attributions
    assert run.manifest.dataset == "quiz"


@pytest.mark.parametrize(
    ("what", "n_done"), [("experts: ada", 5), ("experts: cas", 40), ("vote", 3), ("self-moa", 5)]
)
async def test_a_run_that_was_ended_goes_on_and_asks_nothing_twice_that_was_answered(
    quiz: Quiz, what: str, n_done: int
) -> None:
    slow = {name: {"token_s": 0.0005} for name in ("ada", "bob", "cas")}
    ending: list[str] = []

    def end(now: str, done: int, total: int) -> None:
        if now.startswith(what) and done >= n_done and not ending:
            ending.append(now)
            running.cancel()

    def run(**options: Any) -> Coroutine[Any, Any, LiveRun]:
        return quiz.run("routed", "vote", experts=slow, ask_again=True, **options)

    running = asyncio.create_task(run(on_progress=end))
    with pytest.raises(asyncio.CancelledError):
        await running
    n_known, n_begun = n_answered(quiz.run_dir), len(quiz.asked())

    found = await run()

    n_asked = len(quiz.asked())
    whole = await run(run_dir=quiz.folder / "whole")
    assert 0 < n_known <= n_begun
    assert n_asked == len(quiz.asked()) - n_asked + (n_begun - n_known)
    assert [row.to_json() for row in found.rows] == [row.to_json() for row in whole.rows]
    assert found.attributions == whole.attributions


def n_answered(run_dir: Path) -> int:
    """Requests whose outcomes are in a journal of the run."""
    texts = [path.read_text("utf-8") for path in run_dir.rglob("journal.jsonl")]
    return sum(text.count('"outcome"') for text in texts)


async def test_a_run_that_is_done_asks_nothing_and_finds_the_same(quiz: Quiz) -> None:
    before = await quiz.run("routed", "vote")
    asked = quiz.asked()

    again = await quiz.run("routed", "vote")

    assert quiz.asked() == asked
    assert [row.to_json() for row in again.rows] == [row.to_json() for row in before.rows]
    assert again.attributions == before.attributions
    assert {step["run"] for step in quiz.json("timing.json")["steps"]} == {1, 2}


async def test_a_further_composition_is_asked_alone(quiz: Quiz) -> None:
    await quiz.run("routed", ask_again=True)
    asked = len(quiz.asked())

    found = await quiz.run("routed", "ada-alone", ask_again=True)

    assert len(quiz.asked()) - asked == N
    assert {"routed", "ada-alone"} <= rows_of(found).keys()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"limit": 3}, r"--limit is another than when the run began \(none then, 3 now\)"),
        ({"only": ("ada",)}, r"--only is another .* \(all experts then, ada now\); restore it, or"),
        ({"online": True}, r"--online is another .* \(no then, yes now\)"),
        ({"known_category": True}, r"--known-category is another .* \(no then, yes now\)"),
        ({"seed": 1}, r"--seed is another .* \(0 then, 1 now\)"),
        ({"tasks": [make_quiz(5)]}, "what is asked is another"),
        (
            {"tasks": [Task("quiz", (*make_quiz().cases, make_case("sum", 5, "train")))]},
            "what is asked is another",
        ),
        ({"tasks": [replace(make_quiz(), name="other")]}, r"--task is another .* \(quiz then, oth"),
        ({"experts": {"cas": {"text": "no"}}}, "expert 'cas' is another than when the run began"),
    ],
)
async def test_other_options_or_data_are_refused_with_the_difference(
    quiz: Quiz, change: dict[str, object], said: str
) -> None:
    await quiz.run()
    asked = quiz.asked()

    with pytest.raises(ConfigError, match=said):
        await quiz.run(**change)  # pyright: ignore[reportArgumentType]

    assert quiz.asked() == asked


async def test_a_folder_of_something_else_is_refused(quiz: Quiz) -> None:
    quiz.run_dir.mkdir()
    (quiz.run_dir / "manifest.json").write_text('{"config_hash": "of a replay"}')

    with pytest.raises(
        ConfigError, match=r"manifest.json: not a live run's manifest; name another"
    ):
        await quiz.run()


async def test_a_composition_that_has_changed_is_refused(quiz: Quiz) -> None:
    await quiz.run("routed")
    path = quiz.run_dir / "compositions" / "routed" / "journal.jsonl"
    path.write_text(path.read_text().replace('"the composition": "routed-', '"the composition": "'))

    with pytest.raises(ConfigError, match="the composition is another than when the run began"):
        await quiz.run("routed")


async def test_recorded_outcomes_take_the_place_of_train_questions(quiz: Quiz) -> None:
    await quiz.run(run_dir=quiz.folder / "before")
    test = tuple(make_case(kind, 50 + n, "test") for kind in KINDS for n in range(2))
    later = Task("later", (make_case("sum", 70, "train"), *test))
    asked = len(quiz.asked())

    before = quiz.folder / "before" / "experts"
    found = await quiz.run("routed", tasks=[later], outcomes=before, ask_again=True)

    assert len(quiz.asked()) - asked == 3 * 6 + 6
    assert rows_of(found)["best-single"].settings["expert"] == "ada"
    table = load_table(quiz.run_dir / "experts")
    assert [len(table.split(name).queries) for name in ("train", "test")] == [6, 6]


@pytest.mark.parametrize("change", [{"id": "renamed"}, {"prompt": "What is the answer?"}])
async def test_questions_that_recorded_outcomes_were_chosen_on_are_refused(
    quiz: Quiz, change: dict[str, str]
) -> None:
    await quiz.run(run_dir=quiz.folder / "before")
    known = replace(make_case("sum", 0, "test"), **change)
    seen = Task("seen", (known, make_case("sum", 50, "test")))

    with pytest.raises(ConfigError, match="1 of 2 test questions are in the train split of '"):
        await quiz.run(tasks=[seen], outcomes=quiz.folder / "before" / "experts")


async def test_other_recorded_outcomes_are_another_run(quiz: Quiz) -> None:
    test_only = Task("later", tuple(make_case("sum", 50 + n, "test") for n in range(2)))
    for name, n in (("one", 3), ("two", 5)):
        train = tuple(make_case("sum", 20 + i, "train") for i in range(n))
        tasks = [Task(name, (*train, make_case("sum", 30, "test")))]
        await quiz.run(tasks=tasks, run_dir=quiz.folder / name)
    await quiz.run(tasks=[test_only], outcomes=quiz.folder / "one" / "experts")

    with pytest.raises(ConfigError, match="--outcomes is another than when the run began"):
        await quiz.run(tasks=[test_only], outcomes=quiz.folder / "two" / "experts")


async def test_without_train_questions_or_recorded_ones_nothing_is_asked(quiz: Quiz) -> None:
    with pytest.raises(ConfigError, match=r"no train case, .* name recorded ones with --outcomes"):
        await quiz.run(tasks=[Task("t", (make_case("sum", 1, "test"),))])

    assert quiz.asked() == []


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (["rooted"], {}, "no composition 'rooted'; did you mean 'routed'?"),
        ([], {"only": ("adda",)}, "no expert 'adda'; did you mean 'ada'?"),
    ],
)
async def test_a_name_that_there_is_not_is_refused_before_anybody_is_asked(
    quiz: Quiz, names: list[str], options: dict[str, tuple[str, ...]], said: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        await quiz.run(*names, only=options.get("only", ()))

    assert said in str(raised.value)
    assert not quiz.run_dir.exists()
    assert quiz.asked() == []


@pytest.mark.parametrize("name", ["oracle", "self-moa"])
async def test_a_composition_called_as_a_rung_is_refused(quiz: Quiz, name: str) -> None:
    with pytest.raises(ConfigError, match=f"composition '{name}' is called as a row is that every"):
        await quiz.run(name)


async def test_a_tasks_own_scorer_judges_experts_and_compositions(quiz: Quiz) -> None:
    def by_words(case: Case, sample: Sample) -> float:
        return 0.25 if "dragon" in sample.text else 0.75

    found = await quiz.run(
        "routed", tasks=[replace(make_quiz(), scorer=by_words)], experts={"cas": {"text": "dragon"}}
    )

    accuracies = {row.method: row.accuracy for row in found.rows}
    assert accuracies["fixed[expert=cas]"] == 0.25
    assert accuracies["fixed[expert=ada]"] == accuracies["routed"] == 0.75
    assert {r["score"] for r in quiz.lines("records.jsonl")} == {0.75}


async def test_several_tasks_are_one_run_and_told_apart_in_the_records(quiz: Quiz) -> None:
    facts = Task("facts", (replace(make_case("city", 90, "test"), category=None),))

    found = await quiz.run("routed", tasks=[make_quiz(), facts])

    assert rows_of(found)["routed"].n == N + 1
    (record,) = [r for r in quiz.lines("records.jsonl") if r["task"] == "facts"]
    assert (record["id"], record["category"]) == ("city-90", "facts")
    assert quiz.json("rows.json")["dataset"] == "quiz+facts"
