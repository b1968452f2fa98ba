"""A batch is answered once, with each expert loaded as rarely as can be."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from composer.bulk import BatchProgress, run_batch
from composer.errors import ConfigError
from composer.types import Completion, Message, Query, Request, Sample, Sampling
from tests.composer.bulk.conftest import EXPERTS, ONE, PANEL, VOTE, Bulk, registry

MAIN = registry({"main": PANEL})
QUORUM = {**VOTE, "aggregator": {**VOTE["aggregator"], "quorum": "exact"}}


async def test_every_query_is_answered_once(bulk: Bulk) -> None:
    report = await bulk.run(MAIN, bulk.questions(40))

    assert (report.n_queries, report.n_answered, report.n_failed) == (40, 40, 0)
    assert sorted(r["id"] for r in bulk.results()) == sorted(f"q{i}" for i in range(40))
    assert len(bulk.asked()) == len(set(bulk.asked())) == 40 * 3


async def test_an_expert_is_loaded_once_and_the_aggregating_one_last(bulk: Bulk) -> None:
    report = await bulk.run(MAIN, bulk.questions(40))

    assert report.loads == len(EXPERTS)
    assert [stage.experts for stage in report.stages][-1] == ("ben",)


async def test_a_query_is_answered_as_it_would_be_alone(bulk: Bulk) -> None:
    path = bulk.write([{"id": "a", "prompt": "why?"}, {"id": "b", "prompt": "how?"}])
    text = registry({"main": ONE})

    await bulk.run(text, path, composition="cas")
    async with bulk.composer(text) as composer:
        alone = await composer.ask("why?", composition="cas")

    assert {r["id"]: r["answer"] for r in bulk.results()} == {"a": alone.text, "b": "cas: how?"}


@pytest.mark.parametrize("window", [1, 3, 1000])
async def test_loads_do_not_depend_on_the_window(bulk: Bulk, window: int) -> None:
    text = registry({"main": PANEL})
    async with bulk.composer(text) as composer:
        report = await run_batch(
            bulk.questions(20),
            composer.compositions["main"],
            composer.registry,
            composer.pool,
            bulk.folder / "run",
            window=window,
        )

    assert report.loads == len(EXPERTS)
    assert report.n_answered == 20


async def test_experts_whose_votes_cannot_matter_are_not_asked(bulk: Bulk) -> None:
    text = registry({"main": QUORUM}, experts={name: {"text": "yes"} for name in EXPERTS})

    report = await bulk.run(text, bulk.questions(30))

    assert report.n_answered == 30
    assert len(bulk.asked()) == 60
    assert all(len(r["asked"]) == 2 for r in bulk.results())


async def test_engines_that_are_busy_at_one_time_share_the_stages(bulk: Bulk) -> None:
    text = registry({"main": PANEL}, pool={"busy_engines": 2, "cores": 2})

    report = await bulk.run(text, bulk.questions(40))

    first, second, *_ = sorted(report.stages, key=lambda stage: stage.start_s)
    assert report.n_answered == 40
    assert second.start_s < first.end_s


def said(request: Request) -> Completion:
    """What a scripted expert says to a request."""
    text = f"{request.expert}: {request.messages[-1].content}"
    return Completion(request.id, request.expert, (Sample(text, "stop", 2),), 1, cost_usd=0.5)


@pytest.mark.parametrize("composition", [ONE, PANEL, VOTE, QUORUM], ids=lambda c: str(len(str(c))))
async def test_what_is_known_is_not_asked_and_changes_no_answer(
    bulk: Bulk, composition: dict[str, Any]
) -> None:
    begun = bulk.folder / "begun"
    text = registry({"main": composition}, experts={n: {"log": str(begun)} for n in EXPERTS})

    def known(request: Request) -> Completion | None:
        return said(request) if request.expert in {"ann", "cas"} else None

    async def answers(**options: Any) -> list[tuple[str, str | None]]:
        shutil.rmtree(bulk.folder / "run", ignore_errors=True)
        begun.unlink(missing_ok=True)
        await bulk.run(text, bulk.questions(20), **options)
        return sorted((line["id"], line["answer"]) for line in bulk.results())

    asked = await answers()
    n_asked = len(begun.read_text("utf-8").split())
    told = await answers(known=known)

    assert told == asked
    assert len(begun.read_text("utf-8").split()) < n_asked


async def test_nothing_is_loaded_where_all_is_known(bulk: Bulk) -> None:
    report = await bulk.run(MAIN, bulk.questions(20), known=said)
    again = await bulk.run(MAIN, bulk.questions(20))

    assert (report.n_answered, report.loads) == (20, 0)
    assert (again.n_answered, again.loads) == (20, 0)
    assert all(line["cost_usd"] == 1.5 for line in bulk.results())


async def test_a_failed_expert_is_replaced_by_the_next_of_the_ranking(bulk: Bulk) -> None:
    text = registry({"main": ONE}, experts={"cas": {"failures": {"why": "refused"}}})

    report = await bulk.run(text, bulk.questions(30))

    assert report.n_answered == 30
    assert "cas" not in {r["expert"] for r in bulk.results()}
    assert any(r["failures"] for r in bulk.results())


async def test_a_query_that_nobody_answers_is_a_result_too(bulk: Bulk) -> None:
    broken = {name: {"failures": {"why 1?": "refused"}} for name in EXPERTS}

    report = await bulk.run(registry({"main": ONE}, experts=broken), bulk.questions(3))

    assert (report.n_answered, report.n_failed) == (2, 1)
    (failed,) = [r for r in bulk.results() if "error" in r]
    assert failed["id"] == "q1"
    assert failed["error"]["kind"] == "AggregationError"


async def test_a_query_that_the_composition_abstains_from_is_a_result_too(bulk: Bulk) -> None:
    careful = {**ONE, "choose": {"threshold": 1.0, "abstain": True}}

    report = await bulk.run(registry({"main": careful}), bulk.questions(3))

    assert (report.n_answered, report.n_failed, report.loads) == (0, 3, 0)
    assert {r["error"]["kind"] for r in bulk.results()} == {"RoutingError"}
    assert bulk.results()[0]["error"]["message"].startswith("abstained")


async def test_a_run_that_was_stopped_goes_on_without_asking_twice(bulk: Bulk) -> None:
    text = registry({"main": PANEL}, experts={name: {"token_s": 0.002} for name in EXPERTS})
    path, enough = bulk.questions(60), asyncio.Event()

    def watch(progress: BatchProgress) -> None:
        if progress.completion_tokens > 200:
            enough.set()

    task = asyncio.create_task(bulk.run(text, path, on_progress=watch))
    while not enough.is_set():
        await asyncio.sleep(0.01)
        if (bulk.folder / "run" / "journal.jsonl").exists() and len(bulk.asked()) > 50:
            enough.set()
    task.cancel()
    await asyncio.wait([task])
    before = bulk.asked()
    report = await bulk.run(text, path)

    assert 50 < len(before) < 180
    assert bulk.asked()[: len(before)] == before
    assert len(bulk.asked()) == len(set(bulk.asked())) == 180
    assert report.n_answered == 60
    assert len(bulk.results()) == 60


KILLED = """
import asyncio, sys
from pathlib import Path
from composer.assembly import compose
from composer.experts import load_experts
from routers.encoder import HashingEncoder

async def main(folder):
    registry = load_experts(folder / "experts.yaml")
    encoder = HashingEncoder(dimension=256)
    async with compose(registry, cache=folder, encoder=encoder) as composer:
        await composer.batch(folder / "in.jsonl", "main", folder / "run")

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("n_lines", [20, 75, 150])
def test_a_killed_run_loses_what_was_being_said_and_nothing_else(bulk: Bulk, n_lines: int) -> None:
    text = registry({"main": PANEL}, experts={name: {"token_s": 0.005} for name in EXPERTS})
    (bulk.folder / "experts.yaml").write_text(text, "utf-8")
    path, journal = bulk.questions(60), bulk.folder / "run" / "journal.jsonl"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(bulk.folder)])
    while process.poll() is None:
        time.sleep(0.005)
        if journal.exists() and journal.read_bytes().count(b"\n") >= n_lines:
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    kept = journal.read_bytes()
    before = [
        json.loads(line)["outcome"]["request_id"]
        for line in kept[: kept.rfind(b"\n") + 1].splitlines()
        if b'"outcome"' in line
    ]

    asyncio.run(bulk.run(text, path))

    assert bulk.asked()[: len(before)] == before
    assert len(bulk.asked()) == len(set(bulk.asked())) == 180
    assert sorted(r["id"] for r in bulk.results()) == sorted(f"q{i}" for i in range(60))


async def test_a_run_that_is_done_asks_nothing_again(bulk: Bulk) -> None:
    path = bulk.questions(5)
    await bulk.run(MAIN, path)
    before = (bulk.results(), bulk.asked())

    report = await bulk.run(MAIN, path)

    assert (report.loads, report.n_answered) == (0, 5)
    assert (bulk.results(), bulk.asked()) == before


async def test_results_that_were_written_but_not_noted_are_written_once(bulk: Bulk) -> None:
    path, run = bulk.questions(5), bulk.folder / "run"
    await bulk.run(MAIN, path)
    *kept, _ = (run / "journal.jsonl").read_text("utf-8").splitlines()
    (run / "journal.jsonl").write_text("\n".join(kept) + "\n", "utf-8")

    await bulk.run(MAIN, path)

    assert sorted(r["id"] for r in bulk.results()) == [f"q{i}" for i in range(5)]


async def test_a_run_killed_while_it_wrote_of_a_stage_goes_on(bulk: Bulk) -> None:
    path, stages = bulk.questions(5), bulk.folder / "run" / "stages.jsonl"
    await bulk.run(MAIN, path)
    whole = stages.read_bytes()
    stages.write_bytes(whole[:-10])

    await bulk.run(MAIN, path)

    assert stages.read_bytes() == whole[: whole[:-10].rfind(b"\n") + 1]


async def test_the_folder_of_another_batch_is_refused(bulk: Bulk) -> None:
    await bulk.run(MAIN, bulk.questions(3))

    with pytest.raises(ConfigError, match=r"the batch file is another than .* name another folder"):
        await bulk.run(MAIN, bulk.questions(4))


async def test_an_expert_that_has_changed_is_named(bulk: Bulk) -> None:
    path = bulk.questions(3)
    await bulk.run(MAIN, path)

    with pytest.raises(ConfigError, match="expert 'dan' is another than when the run began"):
        await bulk.run(registry({"main": PANEL}, experts={"dan": {"text": "no"}}), path)


async def test_a_composition_that_has_changed_is_refused(bulk: Bulk) -> None:
    path = bulk.questions(3)
    await bulk.run(MAIN, path)

    with pytest.raises(ConfigError, match="the composition is another than when the run began"):
        await bulk.run(registry({"main": VOTE}), path)


async def test_an_expert_larger_than_the_memory_is_refused_with_how_much(bulk: Bulk) -> None:
    text = registry({"main": ONE}, experts={"dan": {"memory_gib": 3}})

    with pytest.raises(ConfigError, match=r"'dan.*' takes 3.00 GiB, 1.00 GiB more than"):
        await bulk.run(text, bulk.questions(30))


async def test_bad_lines_are_reported_with_their_numbers_and_the_others_go_on(bulk: Bulk) -> None:
    path = bulk.write([{"id": "a", "prompt": "why?"}, "{", {"id": "a", "prompt": "how?"}])

    report = await bulk.run(MAIN, path)

    rejects = [json.loads(line) for line in report.rejects.read_text("utf-8").splitlines()]
    assert report.n_answered == 1
    assert [r["line"] for r in rejects] == [2, 3]
    assert rejects[1]["reason"] == "the id 'a' is used before"


async def test_told_to_be_strict_it_stops_at_the_first_bad_line(bulk: Bulk) -> None:
    path = bulk.write([{"id": "a", "prompt": "why?"}, {"id": "b"}])

    with pytest.raises(ConfigError, match=r"in.jsonl:2: needs either 'prompt' or 'messages'"):
        await bulk.run(MAIN, path, strict=True)

    assert not (bulk.folder / "run").exists()


async def test_lines_of_the_openai_form_are_answered_in_it(bulk: Bulk) -> None:
    body = {"model": "any", "messages": [{"role": "user", "content": "why?"}], "max_tokens": 5}
    path = bulk.write([{"custom_id": "a", "method": "POST", "body": body}])

    await bulk.run(registry({"main": ONE}), path, composition="ann")

    (line,) = bulk.results()
    assert line["custom_id"] == "a"
    assert line["error"] is None
    assert line["response"]["body"]["choices"][0]["message"]["content"] == "ann: why?"
    assert line["response"]["body"]["usage"]["total_tokens"] > 0


async def test_prompts_without_a_file_are_kept_in_the_folder(bulk: Bulk) -> None:
    async with bulk.composer(MAIN) as composer:
        await composer.batch(["why?", "how?"], "ann", bulk.folder / "run")
        with pytest.raises(ConfigError, match=r"queries.jsonl: holds other prompts"):
            await composer.batch(["who?"], "ann", bulk.folder / "run")

    assert {r["id"]: r["answer"] for r in bulk.results()} == {"0": "ann: why?", "1": "ann: how?"}


async def test_progress_tells_queries_stages_and_loads(bulk: Bulk) -> None:
    told: list[BatchProgress] = []

    await bulk.run(MAIN, bulk.questions(20), on_progress=told.append)

    answering = [p for p in told if p.phase == "answer"]
    assert told[0].phase == "route"
    assert [p.n_done for p in answering] == sorted(p.n_done for p in answering)
    assert answering[-1].n_done == 20
    assert answering[0].loads_left == len(EXPERTS)
    assert answering[-1].loads == len(EXPERTS)
    assert answering[-1].n_stages == len(EXPERTS)
    assert {p.loads + p.loads_left for p in answering} == {len(EXPERTS)}
    assert (answering[-1].requests, answering[-1].requests_left) == (60, 0)


async def test_a_penalty_for_loads_keeps_queries_with_fewer_experts(bulk: Bulk) -> None:
    text = registry({"main": ONE, "sparing": {**ONE, "choose": {"load_weight": 100}}})

    free = await bulk.run(text, bulk.questions(8))
    async with bulk.composer(text) as composer:
        other = bulk.folder / "other"
        sparing = await composer.batch(bulk.folder / "in.jsonl", "sparing", other)

    assert free.saving is None
    assert sparing.saving is not None
    assert sparing.loads == len(sparing.saving.loaded) < free.loads
    assert sparing.saving.seconds > 0


def test_an_empty_file_says_what_a_line_looks_like(bulk: Bulk) -> None:
    with pytest.raises(ConfigError, match=r'write lines like \{"id": "q1", "prompt": "Why\?"\}'):
        asyncio.run(bulk.run(MAIN, bulk.write([])))


def test_a_file_that_is_not_there_is_named(bulk: Bulk, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.jsonl: cannot be read \(No such file"):
        asyncio.run(bulk.run(MAIN, tmp_path / "nowhere.jsonl"))


async def test_a_body_says_how_long_its_answer_may_become(bulk: Bulk) -> None:
    body = {"messages": [{"role": "user", "content": "one two three"}]}
    path = bulk.write(
        [{"custom_id": "a", "body": body | {"max_tokens": 2}}, {"custom_id": "b", "body": body}]
    )

    report = await bulk.run(registry({"main": ONE}), path, composition="ann")

    choices = {r["custom_id"]: r["response"]["body"]["choices"][0] for r in bulk.results()}
    assert choices["a"]["finish_reason"] == "length"
    assert choices["b"]["message"]["content"] == "ann: one two three"
    assert report.ignored == {}


async def test_prompts_say_how_they_are_answered(bulk: Bulk) -> None:
    query = Query("a", (Message("user", "one two three"),), sampling=Sampling(max_tokens=2))

    async with bulk.composer(MAIN) as composer:
        await composer.batch([query], "ann", bulk.folder / "run")

    (result,) = bulk.results()
    assert result["answer"] == "ann: one"


async def test_a_prompt_that_asks_for_several_texts_is_refused(bulk: Bulk) -> None:
    query = Query("a", (Message("user", "why?"),), sampling=Sampling(n=2))

    async with bulk.composer(MAIN) as composer:
        with pytest.raises(ConfigError, match="'a' asks for n texts, and a batch answers with one"):
            await composer.batch([query], "ann", bulk.folder / "run")
