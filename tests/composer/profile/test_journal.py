from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.profile import Case, Progress
from composer.profile.journal import Journal
from composer.types import Completion, Failure, Outcome, Request, Sample, TokenLogprob
from tests.composer.profile.conftest import CASES, EXPERTS, RunProfile, Watch, lines

DYING_PROFILE = """
import asyncio, os, signal, sys
from pathlib import Path
from composer.experts import load_experts
from composer.pool.pool import Pool
from composer.profile import Case, profile

folder, n_done = Path(sys.argv[1]), int(sys.argv[2])
cases = [Case(str(i), f"What is {i} + 1?", str(i + 1), "number") for i in range(20)]

def die(progress):
    if progress.done == n_done:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    registry = load_experts(folder / "experts.yaml")
    async with Pool(registry, cache=folder) as pool:
        await profile(cases, registry, pool, folder / "profile", on_progress=die)

asyncio.run(main())
"""
"""Profiles twenty cases and is killed after as many outcomes as it is told."""
COUNTING = """
experts:
  ada: {engine: scripted, engine_args: {text: "7"}}
  bob: {engine: scripted, engine_args: {text: "9"}}
"""


@pytest.mark.parametrize("n_done", [1, 13, 27])
def test_a_profile_that_is_killed_goes_on_where_it_stopped(
    run_profile: RunProfile, tmp_path: Path, watch: Watch, n_done: int
) -> None:
    (tmp_path / "experts.yaml").write_text(COUNTING, encoding="utf-8")
    command = [sys.executable, "-c", DYING_PROFILE, str(tmp_path), str(n_done)]
    killed = subprocess.run(command, check=False)
    cases = [Case(str(i), f"What is {i} + 1?", str(i + 1), "number") for i in range(20)]

    table = run_profile(COUNTING, cases).table

    assert killed.returncode == -signal.SIGKILL
    assert len(watch.asked) == 40 - n_done
    right = [[float(i == 6), float(i == 8)] for i in range(20)]
    np.testing.assert_array_equal(table.score, right)


def test_a_profile_that_is_done_asks_nobody_and_says_the_same(
    run_profile: RunProfile, watch: Watch
) -> None:
    first = run_profile(experts=["ada"]).table

    again = run_profile(experts=["ada"]).table

    assert watch.asked == []
    for name, cells in first.cells().items():
        np.testing.assert_array_equal(again.cells()[name], cells)


def test_what_failed_is_asked_again(run_profile: RunProfile, watch: Watch) -> None:
    run_profile()

    found = run_profile()

    assert [request.id for request in watch.asked] == ["answers/bob/sum"]
    assert len(found.failures) == 1


def test_an_expert_may_be_added_and_the_others_are_not_asked_again(
    run_profile: RunProfile, watch: Watch
) -> None:
    run_profile(experts=["ada"])

    table = run_profile().table

    assert table.names == ("ada", "bob")
    assert {request.expert for request in watch.asked} == {"bob"}


def test_prices_and_references_may_be_corrected(run_profile: RunProfile, watch: Watch) -> None:
    run_profile(experts=["ada"])
    corrected = [replace(CASES[0], reference="43"), *CASES[1:]]
    dearer = EXPERTS.replace("input_usd_per_mtok: 1.0", "input_usd_per_mtok: 3.0")

    table = run_profile(dearer, corrected, experts=["ada"]).table

    assert watch.asked == []
    assert table.score[0, 0] == 0
    assert table.cells()["cost_usd"][0, 0] == pytest.approx(23e-6)


@pytest.mark.parametrize(
    "cases",
    [
        CASES[:2],
        (*CASES[:2], replace(CASES[2], prompt="Is the sky green?")),
        (*CASES[:2], replace(CASES[2], id="heaven")),
        (*CASES[:2], replace(CASES[2], max_tokens=8)),
        CASES[::-1],
    ],
)
def test_other_cases_are_refused(
    run_profile: RunProfile, journal: Path, cases: tuple[Case, ...]
) -> None:
    run_profile()

    with pytest.raises(ConfigError) as raised:
        run_profile(cases=cases)

    said = "is of other cases; restore their ids and prompts, or name another folder"
    assert str(raised.value) == f"{journal}: {said}"


@pytest.mark.parametrize(
    "change",
    [
        ("I do not know", "Who knows"),
        ("params_b: 0.5", "sampling: {max_tokens: 3}"),
        ("params_b: 0.5", "source: elsewhere"),
    ],
)
def test_other_settings_of_an_expert_are_refused_before_anyone_is_asked(
    run_profile: RunProfile, journal: Path, watch: Watch, change: tuple[str, str]
) -> None:
    run_profile()

    with pytest.raises(ConfigError) as raised:
        run_profile(EXPERTS.replace(*change))

    said = "expert 'ada' was asked with other engine settings; restore them, or name another folder"
    assert str(raised.value) == f"{journal}: {said}"
    assert watch.asked == []


def test_a_last_line_that_was_cut_short_is_asked_again(
    run_profile: RunProfile, journal: Path, watch: Watch
) -> None:
    run_profile(experts=["ada"])
    journal.write_bytes(journal.read_bytes()[:-9])

    table = run_profile(experts=["ada"]).table

    assert len(watch.asked) == 1
    assert not np.isnan(table.score).any()
    assert len(lines(journal)) == 1 + 1 + 3


def test_a_first_line_that_was_cut_short_is_written_anew(
    run_profile: RunProfile, journal: Path
) -> None:
    journal.parent.mkdir()
    journal.write_text('{"schema_ver', encoding="utf-8")

    run_profile(experts=["ada"])

    assert lines(journal)[0]["schema_version"] == 1


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"request": "a", "outcome": {"text": "b"}}'])
def test_a_line_that_is_broken_is_named(run_profile: RunProfile, journal: Path, line: str) -> None:
    run_profile(experts=["ada"])
    with journal.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")

    with pytest.raises(ConfigError) as raised:
        run_profile(experts=["ada"])

    said = "is no line of a journal; remove it, or name another folder"
    assert str(raised.value) == f"{journal}:6: {said}"


def test_a_file_that_is_no_journal_is_refused(run_profile: RunProfile, journal: Path) -> None:
    journal.parent.mkdir()
    journal.write_text('{"id": "sum"}\n', encoding="utf-8")

    with pytest.raises(ConfigError, match=r"journal.jsonl:1: is no line of a journal"):
        run_profile()


def test_a_journal_of_a_newer_program_is_refused(run_profile: RunProfile, journal: Path) -> None:
    run_profile()
    first, *rest = journal.read_text("utf-8").splitlines()
    header = json.dumps(json.loads(first) | {"schema_version": 2})
    journal.write_text("\n".join([header, *rest, ""]), encoding="utf-8")

    with pytest.raises(ConfigError, match="has schema version 2, and this program reads 1; update"):
        run_profile()


def test_two_runs_do_not_write_at_once(
    run_profile: RunProfile, tmp_path: Path, journal: Path
) -> None:
    with (
        Journal(journal.parent, CASES, {}),
        pytest.raises(ConfigError, match="another run writes there; wait for it, or name"),
    ):
        run_profile()


@pytest.mark.parametrize("name", ["queries.jsonl.gz", "table.json"])
def test_the_folder_of_another_table_is_refused_before_anyone_is_asked(
    run_profile: RunProfile, journal: Path, watch: Watch, name: str
) -> None:
    journal.parent.mkdir()
    (journal.parent / name).touch()

    with pytest.raises(ConfigError, match=f"profile: holds {name}, another table; name another"):
        run_profile()

    assert watch.asked == []


def test_a_folder_that_cannot_be_made_is_refused(run_profile: RunProfile, journal: Path) -> None:
    journal.parent.touch()

    with pytest.raises(ConfigError, match=r"journal.jsonl: cannot be written \(File exists\)"):
        run_profile()


def test_a_full_disk_ends_the_run_in_one_line(
    run_profile: RunProfile, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite

    def write_or_fail(descriptor: int, data: bytes, offset: int) -> int:
        if b'"outcome"' in data:
            raise OSError(28, "No space left on device")
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", write_or_fail)

    with pytest.raises(ConfigError, match=r"cannot be written \(No space left on device\)"):
        run_profile()


def test_a_request_that_is_asked_otherwise_now_is_not_known(tmp_path: Path) -> None:
    request = Request("words/sum", "ada", CASES[0].to_query().messages)
    failure = Failure("words/sum", "ada", "refused", "no")
    with Journal(tmp_path, CASES, {"ada": "as it is"}) as journal:
        journal.add(request, failure)

    with Journal(tmp_path, CASES, {"ada": "as it is"}) as journal:
        assert journal.outcome(request) == failure
        assert journal.outcome(replace(request, deadline_s=9.0)) == failure
        assert journal.outcome(replace(request, continuation="42")) is None


@pytest.mark.parametrize(
    "outcome",
    [
        Completion(
            "q",
            "ada",
            (Sample("Oslo \u2028\n", "stop", 2, (TokenLogprob("Oslo", -0.5, (("Oslo", -0.5),)),)),),
            5,
            generating_s=0.25,
            runner="warm",
        ),
        Completion("q", "ada", (Sample("4", "stop", 1, answer="4"), Sample("", "length", 0)), 5),
        Failure("q", "ada", "timeout", "too late", retryable=True, attempts=2),
    ],
)
def test_an_outcome_comes_back_as_it_was(tmp_path: Path, outcome: Outcome) -> None:
    request = Request(outcome.request_id, "ada", CASES[0].to_query().messages)
    with Journal(tmp_path, CASES, {}) as journal:
        journal.add(request, outcome)

    with Journal(tmp_path, CASES, {}) as journal:
        assert journal.outcome(request) == outcome


def test_progress_counts_what_is_known_already(run_profile: RunProfile) -> None:
    told: list[Progress] = []
    run_profile(experts=["ada"])

    run_profile(on_progress=told.append)

    assert told[0] == Progress("answers", "bob", 3, 6, 0)
