"""When experts of one engine may write together, and what their text is put together from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from composer.backends.vllm_groups import (
    can_mix,
    common_seed,
    fits_one_step,
    log_weights,
    out_of_step,
    too_long_together,
    unmixable,
)
from composer.backends.vllm_memory import vllm_engine_args
from composer.backends.vllm_outputs import Run, mixture_samples
from composer.types import (
    Completion,
    EngineSpec,
    Message,
    Request,
    Sample,
    Sampling,
    TokenLogprob,
)

GROUP = Request(
    "q1/aggregate/ann",
    "ann",
    (Message("user", "Hi"),),
    Sampling(n=1),
    peers=("ben",),
    mix="average",
)
ALIKE = (math.log(0.5),) * 2
"""The weights of two experts."""


@dataclass
class Progress:
    """A request in the engine."""

    num_tokens: int
    num_computed_tokens: int


@dataclass
class Scheduler:
    """What is asked of vLLM's."""

    max_num_scheduled_tokens: int = 20
    max_num_running_reqs: int = 4
    requests: dict[str, Progress] = field(default_factory=dict[str, Progress])


def run(n_tokens: int, peers: tuple[str, ...] = ("ben",)) -> Run:
    return Run(replace(GROUP, peers=peers), [1] * n_tokens, [], stream=False)


def test_a_group_fits_an_empty_engine_as_long_as_one_step_takes_its_prompts() -> None:
    assert fits_one_step(Scheduler(), run(10))
    assert not fits_one_step(Scheduler(), run(11))


def test_what_is_in_the_engine_takes_part_of_a_step() -> None:
    reading = Scheduler(requests={"a": Progress(12, 0)})
    writing = Scheduler(requests={"a": Progress(13, 12), "b": Progress(90, 90)})

    assert fits_one_step(reading, run(4))
    assert not fits_one_step(reading, run(5))
    assert fits_one_step(writing, run(9))
    assert not fits_one_step(replace(writing, max_num_scheduled_tokens=19), run(9))


def test_a_group_takes_as_many_places_as_it_has_experts() -> None:
    two = Scheduler(requests={"a": Progress(2, 1), "b": Progress(2, 1)})

    assert fits_one_step(two, run(2))
    assert not fits_one_step(two, run(2, peers=("ben", "cas")))


def test_a_group_that_no_step_takes_is_too_long() -> None:
    failure = too_long_together(Scheduler(), run(11))

    assert failure is not None
    assert failure.kind == "too_long"
    assert failure.message == (
        "the prompt has 11 tokens for each of 2 experts, and a step takes 20; "
        "shorten it or raise engine_args.max_num_batched_tokens"
    )
    assert too_long_together(Scheduler(), run(10)) is None


def test_more_experts_than_places_are_refused() -> None:
    failure = too_long_together(Scheduler(), run(1, peers=("b", "c", "d", "e")))

    assert failure is not None
    assert failure.kind == "refused"
    assert "raise engine_args.max_num_seqs" in failure.message


def test_a_group_out_of_step_may_be_tried_again() -> None:
    assert out_of_step(GROUP).retryable


def test_an_engine_mixes_where_it_has_adapters_and_does_not_speculate() -> None:
    bare = EngineSpec("k", "vllm", "ray", ("ann",))
    loras = replace(bare, adapters={"ben": "folder"})

    assert can_mix(loras, {})
    assert not can_mix(bare, {})
    assert not can_mix(loras, {"speculative_config": {"method": "ngram"}})


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (replace(GROUP, peers=("zoe",)), "'zoe' is on another engine than 'ann'"),
        (replace(GROUP, mix="attend"), "ask for mix 'average'"),
        (replace(GROUP, mix=None), "ask for mix 'average'"),
        (replace(GROUP, continuation="Hi"), "ask for mix 'average'"),
        (replace(GROUP, sampling=Sampling(n=2)), "set n to 1"),
        (replace(GROUP, weights=(1.0,)), "1 weights are not for 2 experts; give each one, or none"),
        (replace(GROUP, weights=(1.0,) * 3), "3 weights are not for 2 experts"),
        (replace(GROUP, weights=(1.0, math.nan)), "nan cannot be the weight of an expert"),
        (replace(GROUP, weights=(math.inf, 1.0)), "inf cannot be the weight of an expert"),
        (
            replace(GROUP, weights=(1.0, -0.5)),
            "-0.5 cannot be the weight of an expert; give finite",
        ),
        (replace(GROUP, weights=(0.0, 0.0)), "give one of them a weight above 0"),
        (replace(GROUP, peers=(), mix=None, weights=(1.0,)), "it has no peers; name them"),
    ],
)
def test_what_an_engine_cannot_mix_is_refused(request_: Request, reason: str) -> None:
    found = unmixable(request_, ("ann", "ben"))

    assert found is not None
    assert reason in found
    assert "\n" not in found


def test_an_engine_of_one_expert_mixes_none() -> None:
    assert "holds no adapters" in (unmixable(GROUP, None) or "")
    assert unmixable(GROUP, ("ann", "ben")) is None
    assert unmixable(replace(GROUP, weights=(0.0, 3.0)), ("ann", "ben")) is None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_engine_with_adapters_knows_each_token_before_the_next_step(
    device: str, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 4}', "utf-8")
    bare = EngineSpec("k", "vllm", "ray", ("ann",))
    loras = replace(bare, adapters={"ben": str(tmp_path)})

    assert vllm_engine_args(loras, device)["async_scheduling"] is False
    assert "async_scheduling" not in vllm_engine_args(bare, device)


def test_all_rows_draw_by_one_seed() -> None:
    assert common_seed(replace(GROUP, sampling=Sampling(seed=3))) == 3
    assert common_seed(GROUP) == common_seed(GROUP)
    assert common_seed(GROUP) != common_seed(replace(GROUP, id="q2/aggregate/ann"))


def test_weights_are_shares_in_log_space_and_alike_where_none_are_said() -> None:
    given = replace(GROUP, weights=(1e300, 3e300))

    assert [math.exp(log) for log in log_weights(given)] == pytest.approx([0.25, 0.75])
    assert log_weights(GROUP) == pytest.approx([math.log(0.5)] * 2)
    assert log_weights(replace(GROUP, weights=(0.0, 2.0))) == (-math.inf, 0.0)


def scored(*probabilities: float) -> Sample:
    tokens = tuple(TokenLogprob(f"t{i}", math.log(p)) for i, p in enumerate(probabilities))
    return Sample("text", "stop", len(tokens), tokens)


def test_a_group_gives_its_text_and_how_each_expert_scored_it() -> None:
    text, ann, ben = mixture_samples([scored(0.2, 0.5), scored(0.6, 0.1)], ALIKE)

    assert (text.text, text.finish_reason) == ("text", "stop")
    assert (ann.finish_reason, ben.finish_reason) == ("scored", "scored")
    assert ann.logprobs == scored(0.2, 0.5).logprobs
    assert ben.logprobs == scored(0.6, 0.1).logprobs


def test_the_probability_of_a_token_is_that_of_the_mixture_by_then() -> None:
    text, *_ = mixture_samples([scored(0.2, 0.5), scored(0.6, 0.1)], ALIKE)

    assert text.logprobs is not None
    assert [math.exp(t.logprob) for t in text.logprobs] == pytest.approx(
        [0.4, 0.25 * 0.5 + 0.75 * 0.1]
    )


def test_the_first_token_is_as_likely_as_the_weights_at_first_make_it() -> None:
    weights = (math.log(0.9), math.log(0.1))

    text, *_ = mixture_samples([scored(0.2, 0.5), scored(0.6, 0.1)], weights)

    assert text.logprobs is not None
    assert [math.exp(t.logprob) for t in text.logprobs] == pytest.approx(
        [0.24, (0.18 * 0.5 + 0.06 * 0.1) / 0.24]
    )


def said(p: float) -> Any:
    """What vLLM puts out for a row of one token."""
    logprobs = [{5: SimpleNamespace(decoded_token="Hi", logprob=math.log(p), rank=1)}]
    part = SimpleNamespace(
        index=0, text="Hi", token_ids=[5], finish_reason="stop", logprobs=logprobs
    )
    return SimpleNamespace(outputs=[part], finished=True)


def test_a_group_is_complete_with_its_last_row_and_as_likely_as_its_weights_make_it() -> None:
    request = replace(GROUP, weights=(9.0, 1.0), logprobs=0)
    writing = Run(request, [1, 2], [], stream=False)

    assert writing.take(0, said(0.2)) == []
    (completion,) = writing.take(1, said(0.6))

    assert isinstance(completion, Completion)
    assert completion.samples[0].logprobs is not None
    (token,) = completion.samples[0].logprobs
    assert math.exp(token.logprob) == pytest.approx(0.24)


def test_an_expert_of_no_weight_has_no_part_in_the_text() -> None:
    text, *_ = mixture_samples([scored(0.2, 0.5), scored(0.6, 0.1)], (-math.inf, 0.0))

    assert text.logprobs is not None
    assert [math.exp(t.logprob) for t in text.logprobs] == pytest.approx([0.6, 0.1])


def test_tokens_of_a_group_are_counted_once_for_each_expert() -> None:
    samples = mixture_samples([scored(0.2, 0.5), scored(0.6, 0.1)], ALIKE)

    assert sum(sample.completion_tokens for sample in samples) == 4
    assert samples[0].completion_tokens == 2


def test_without_log_probabilities_asked_for_there_are_none() -> None:
    mute = Sample("text", "stop", 2)

    assert all(sample.logprobs is None for sample in mixture_samples([mute, mute], ALIKE))
