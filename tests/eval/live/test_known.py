"""What experts said alone counts for compositions that would ask just that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from composer.experts import load_experts
from composer.types import Completion, Failure, Message, Request, Sample, Sampling
from eval.live.known import SaidAlone
from tests.eval.live.conftest import KINDS, N_TEST, N_TRAIN, Quiz, make_experts

ASKED = Request("answers/ada/1", "ada", (Message("user", "1 + 1?"),), Sampling(max_tokens=8, n=1))
SAID = Completion(ASKED.id, "ada", (Sample("2", "stop", 1),), 4, cost_usd=0.1)


@pytest.fixture
def known(tmp_path: Path) -> SaidAlone:
    path = tmp_path / "experts.yaml"
    path.write_text(make_experts(tmp_path), "utf-8")
    failed = replace(ASKED, id="answers/bob/1", expert="bob")
    failure = Failure(failed.id, "bob", "timeout", "too late")
    return SaidAlone(load_experts(path), [(ASKED, SAID), (failed, failure)])


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=8),
        Sampling(max_tokens=8, temperature=0.0, seed=7, top_p=0.5),
        Sampling(max_tokens=8, n=1, stop=()),
    ],
)
def test_the_same_question_has_the_same_greedy_answer(known: SaidAlone, sampling: Sampling) -> None:
    request = Request("q/propose/0", "ada", ASKED.messages, sampling, final=True)

    assert known(request) == replace(SAID, request_id="q/propose/0")


@pytest.mark.parametrize(
    "request_",
    [
        replace(ASKED, expert="cas"),
        replace(ASKED, expert="bob"),
        replace(ASKED, messages=(Message("system", "Be brief."), *ASKED.messages)),
        replace(ASKED, sampling=Sampling(max_tokens=9)),
        replace(ASKED, sampling=Sampling(max_tokens=8, temperature=0.7)),
        replace(ASKED, sampling=Sampling(max_tokens=8, n=3)),
        replace(ASKED, sampling=Sampling(max_tokens=8, stop=("\n",))),
        replace(ASKED, logprobs=1),
        replace(ASKED, schema={"type": "object"}),
        replace(ASKED, continuation="2"),
        replace(ASKED, peers=("bob",), mix="average"),
    ],
)
def test_what_was_asked_otherwise_or_failed_is_not_known(
    known: SaidAlone, request_: Request
) -> None:
    assert known(request_) is None


N_ALONE = 3 * len(KINDS) * (N_TRAIN + N_TEST)


async def test_a_run_asks_experts_once_and_compositions_take_what_they_said(quiz: Quiz) -> None:
    found = await quiz.run("routed", "vote", self_moa=False)

    assert len(quiz.asked()) == N_ALONE
    (routed,) = [each for each in found.attributions if each.method == "routed"]
    assert routed.terms["aggregation"].value == 0.0


async def test_asked_to_a_run_asks_anew(quiz: Quiz) -> None:
    await quiz.run("routed", self_moa=False, ask_again=True)

    assert len(quiz.asked()) == N_ALONE + len(KINDS) * N_TEST
