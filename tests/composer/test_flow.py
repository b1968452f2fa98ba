from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import AggregationError
from composer.flow import (
    FlowRun,
    ask_many,
    ask_one,
    ask_ranked,
    check_length,
    complete_answer,
    describe_failures,
)
from composer.protocols import Flow
from composer.types import (
    Answer,
    Ask,
    Completion,
    Failure,
    Message,
    Outcome,
    Request,
    Sample,
    Selection,
)

EXPERTS = ("ann", "ben", "cas", "dan")


@dataclass(frozen=True)
class CharacterTools:
    """Every character is a token; experts not named have no known limit."""

    limits: Mapping[str, int] = field(default_factory=dict[str, int])

    def count(self, expert: str, messages: Sequence[Message]) -> int:
        return sum(len(m.content) for m in messages)

    def limit(self, expert: str) -> int | None:
        return self.limits.get(expert)


def ask(expert: str, prompt: str = "hello", path: str = "ask") -> Request:
    return Request(f"q/{path}/{expert}", expert, (Message("user", prompt),))


def says(request: Request, text: str | None = None) -> Completion:
    sample = Sample(text or f"{request.expert} says so", "stop", 3)
    return Completion(request.id, request.expert, (sample,), 5, cost_usd=0.25)


def fails(request: Request, message: str = "it is gone") -> Failure:
    return Failure(request.id, request.expert, "unavailable", message)


def selected(*ranking: str) -> Selection:
    return Selection("q", "told", (), ranking, ranking, [0.5] * len(ranking), "as told")


def listen(wait: Literal["all", "any"], asked: Sequence[Request], enough: int) -> Flow[list[str]]:
    """Who answered, in the order of what was sent, until there are enough of them."""
    heard = [o.expert for o in (yield Ask(tuple(asked), wait))]
    while len(heard) < enough:
        heard += [o.expert for o in (yield Ask((), wait))]
    return heard


ALL = tuple(ask(expert) for expert in EXPERTS)


def test_all_waits_for_the_last_and_is_sent_everything_in_the_order_asked() -> None:
    run = FlowRun(listen("all", ALL, enough=4))
    assert run.start() == ALL
    for request in reversed(ALL):
        assert not run.is_done
        assert run.deliver([says(request)]) == ()
    assert run.result == list(EXPERTS)


def test_any_goes_on_with_the_first_and_is_sent_things_in_the_order_delivered() -> None:
    run = FlowRun(listen("any", ALL, enough=3))
    run.start()
    run.deliver([says(ALL[2])])
    run.deliver([says(ALL[3]), says(ALL[0])])
    assert run.result == ["cas", "dan", "ann"]


def test_an_all_after_an_any_waits_for_the_earlier_requests_too() -> None:
    def flow() -> Flow[list[str]]:
        first = yield Ask(ALL[:3], "any")
        rest = yield Ask(ALL[3:], "all")
        return [o.expert for o in (*first, *rest)]

    run = FlowRun(flow())
    run.start()
    assert run.deliver([says(ALL[1])]) == ALL[3:]
    run.deliver([says(ALL[3])])
    assert run.waiting == (ALL[0], ALL[2])
    run.deliver([says(ALL[2]), says(ALL[0])])
    assert run.result == ["ben", "ann", "cas", "dan"]


def test_nothing_delivered_changes_nothing() -> None:
    run = FlowRun(listen("any", ALL, enough=1))
    run.start()
    assert run.deliver([]) == ()
    assert run.waiting == ALL


def test_what_is_unanswered_when_the_flow_returns_is_to_be_withdrawn() -> None:
    run = FlowRun(listen("any", ALL, enough=2))
    run.start()
    run.deliver([says(ALL[1])])
    run.deliver([says(ALL[3])])
    assert run.is_done
    assert run.waiting == (ALL[0], ALL[2])


def test_an_outcome_that_comes_too_late_is_dropped() -> None:
    run = FlowRun(listen("any", ALL, enough=1))
    run.start()
    run.deliver([says(ALL[1])])
    assert run.deliver([says(ALL[0])]) == ()
    assert run.result == ["ben"]
    assert [o.expert for sent in run.history for o in sent] == ["ben"]


def test_a_flow_that_asks_nothing_is_done_at_once() -> None:
    def flow() -> Flow[str]:
        return "known"
        yield Ask()

    run = FlowRun(flow())
    assert run.start() == ()
    assert run.result == "known"


def test_a_request_is_found_by_its_id() -> None:
    run = FlowRun(listen("all", ALL, enough=4))
    run.start()
    assert run.request("q/ask/ben") == ALL[1]


def test_a_flow_may_not_ask_twice_under_one_id() -> None:
    run = FlowRun(listen("all", (ALL[0], ALL[0]), enough=2))
    with pytest.raises(AssertionError, match="asked twice under 'q/ask/ann'"):
        run.start()


def test_a_flow_may_not_wait_for_nothing() -> None:
    run = FlowRun(listen("any", (), enough=1))
    with pytest.raises(AssertionError, match="waits for nothing"):
        run.start()


def test_a_driver_may_not_deliver_what_was_not_asked() -> None:
    run = FlowRun(listen("all", ALL[:1], enough=1))
    run.start()
    with pytest.raises(AssertionError, match="not asked: 'q/ask/ben'"):
        run.deliver([says(ALL[1])])


def test_closing_ends_the_flow_where_it_stands() -> None:
    steps: list[str] = []

    def flow() -> Flow[None]:
        try:
            yield Ask(ALL[:1])
            steps.append("went on")
        finally:
            steps.append("closed")

    run = FlowRun(flow())
    run.start()
    run.close()
    assert steps == ["closed"]
    assert not run.is_done
    assert run.waiting == ALL[:1]


def test_an_error_of_the_flow_reaches_its_driver() -> None:
    run = FlowRun(ask_ranked(selected("ann"), ask, CharacterTools()))
    run.start()
    with pytest.raises(AggregationError, match="no expert answered: ann: it is gone"):
        run.deliver([fails(ask("ann"))])


@settings(deadline=None)
@given(st.permutations(ALL), st.data())
def test_with_all_no_order_of_delivery_changes_the_result(
    order: list[Request], data: st.DataObject
) -> None:
    expected = FlowRun(ask_many(ALL, CharacterTools()))
    expected.start()
    expected.deliver([says(r) for r in ALL])
    run = FlowRun(ask_many(ALL, CharacterTools()))
    run.start()
    while order:
        size = data.draw(st.integers(1, len(order)))
        run.deliver([says(r) for r in order[:size]])
        order = order[size:]
    assert run.result == expected.result
    assert run.history == expected.history


def layered(wait: Literal["all", "any"]) -> Flow[list[str]]:
    """Three of four answer; whoever answered first is asked again with what they said."""
    heard: list[Outcome] = []
    requests = ALL
    while len(heard) < 3:
        heard += yield Ask(requests, wait)
        requests = ()
    texts = [o.text if isinstance(o, Completion) else o.message for o in heard[:3]]
    (last,) = yield from ask_many(
        [ask(heard[0].expert, " ".join(texts), "again")], CharacterTools()
    )
    return [*texts, last.expert]


@settings(deadline=None)
@given(st.permutations(range(4)), st.sets(st.sampled_from(EXPERTS)), st.booleans())
def test_a_history_replayed_into_a_fresh_flow_gives_the_same_result(
    order: list[int], failing: set[str], is_any: bool
) -> None:
    def outcome(request: Request) -> Outcome:
        return fails(request) if request.expert in failing else says(request)

    wait = "any" if is_any else "all"
    run = FlowRun(layered(wait))
    run.start()
    while not run.is_done:
        by_id = {r.id: r for r in run.waiting}
        ranked = [ALL[i].id for i in order] + [r.id for r in run.waiting]
        run.deliver([outcome(by_id[next(i for i in ranked if i in by_id)])])
    replayed = FlowRun(layered(wait))
    replayed.start()
    for past in run.history:
        replayed.deliver(past)
    assert replayed.result == run.result
    assert replayed.history == run.history
    assert replayed.waiting == run.waiting


def test_ask_one_returns_the_outcome_whatever_it_is() -> None:
    run = FlowRun(ask_one(ALL[0], CharacterTools()))
    run.start()
    run.deliver([fails(ALL[0])])
    assert run.result == fails(ALL[0])


def test_a_prompt_that_is_too_long_is_refused_before_it_is_sent() -> None:
    run = FlowRun(ask_one(ask("ann", "x" * 10), CharacterTools({"ann": 10})))
    assert run.start() == ()
    assert isinstance(run.result, Failure)
    assert (run.result.kind, run.result.retryable) == ("too_long", False)
    assert run.result.message == (
        "the prompt has 10 tokens and the context of 'ann' is 10; "
        "shorten the prompt or raise engine_args.max_model_len"
    )


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(1, 20))
def test_a_prompt_passes_exactly_when_it_leaves_room_for_a_token(size: int, limit: int) -> None:
    failure = check_length(ask("ann", "x" * size), CharacterTools({"ann": limit}))
    assert (failure is None) == (size + 1 <= limit)


def test_an_expert_of_unknown_context_takes_any_prompt() -> None:
    assert check_length(ask("ann", "x" * 10_000), CharacterTools()) is None


def test_ask_many_keeps_the_order_of_the_requests_whoever_was_refused() -> None:
    run = FlowRun(ask_many(ALL, CharacterTools({"ben": 2})))
    assert run.start() == (ALL[0], ALL[2], ALL[3])
    run.deliver([says(ALL[3]), fails(ALL[2]), says(ALL[0])])
    assert [o.expert for o in run.result] == list(EXPERTS)
    assert [type(o) for o in run.result] == [Completion, Failure, Failure, Completion]


def test_ask_many_sends_nothing_when_every_prompt_is_too_long() -> None:
    run = FlowRun(ask_many(ALL, CharacterTools(dict.fromkeys(EXPERTS, 1))))
    assert run.start() == ()
    assert len(run.result) == 4


def test_ask_ranked_falls_back_down_the_ranking_one_at_a_time() -> None:
    run = FlowRun(ask_ranked(selected("ann", "ben", "cas"), ask, CharacterTools({"ben": 2})))
    assert run.start() == (ALL[0],)
    assert run.deliver([fails(ALL[0])]) == (ALL[2],)
    run.deliver([says(ALL[2])])
    completion, failures = run.result
    assert completion.expert == "cas"
    assert [(f.expert, f.kind) for f in failures] == [("ann", "unavailable"), ("ben", "too_long")]


def test_ask_ranked_raises_with_every_failure_when_all_fail() -> None:
    run = FlowRun(ask_ranked(selected("ann", "ben"), ask, CharacterTools({"ben": 2})))
    run.start()
    with pytest.raises(AggregationError) as caught:
        run.deliver([fails(ALL[0], "no memory")])
    assert "ann: no memory; ben: the prompt has 5 tokens" in str(caught.value)


def test_failures_are_described_in_their_order() -> None:
    assert describe_failures([fails(ALL[1]), fails(ALL[0], "slow")]) == (
        "ben: it is gone; ann: slow"
    )


def test_a_complete_answer_accounts_for_every_outcome_once() -> None:
    refused = Failure("q/ask/dan", "dan", "too_long", "too long")
    answer = Answer("q", "yes", "ann", "vote", "stop", "as told", failures=(refused,))
    sent = [says(ALL[0]), fails(ALL[1]), says(ALL[2])]
    whole = complete_answer(answer, selected(*EXPERTS), [*sent, fails(ALL[3])])
    assert whole.text == "yes"
    assert [c.expert for c in whole.completions] == ["ann", "cas"]
    assert whole.failures == (fails(ALL[1]), refused)
    assert (whole.prompt_tokens, whole.completion_tokens, whole.cost_usd) == (10, 6, 0.5)
    assert whole.selection == selected(*EXPERTS)


def test_experts_that_wrote_one_text_together_have_all_been_asked() -> None:
    answer = Answer("q", "yes", "ann", "ensemble", "stop", "as told")

    whole = complete_answer(answer, selected(*EXPERTS), [replace(says(ALL[0]), peers=("ben",))])

    assert whole.asked == ("ann", "ben")
