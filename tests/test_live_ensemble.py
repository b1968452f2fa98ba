"""Experts that write together for real: LoRA experts of one vLLM engine, and another model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from composer.aggregators.ensemble.posterior import domain_posterior, running_posterior
from composer.orchestrator import Composer
from composer.tokenizer import ChatTokenizer
from composer.types import (
    Answer,
    Completion,
    Delta,
    Failure,
    Message,
    Outcome,
    Request,
    Restart,
    Sampling,
)
from tests.lora import ALPHA, RANK

if TYPE_CHECKING:
    from tests.conftest import MakeComposer

pytestmark = [
    pytest.mark.models,
    pytest.mark.ray,
    pytest.mark.asyncio(loop_scope="session"),
]

QUESTION = (Message("user", "What is love?"),)
GREEDY = Sampling(temperature=0.0, max_tokens=10)


@pytest.fixture(scope="module")
def composer(compose_live: MakeComposer) -> Composer:
    """A base and two LoRA experts in one engine, in float32, and a model of another family."""
    choices = {"options": ["Paris", "Berlin"], "tau": 0.01}
    weighed = {"prior": {"one": 3.0, "two": 1.0, "exact": 1.0, "gemma": 1.0}, "tau": 0.01}
    compositions = {
        name: {
            "router": {"name": "fixed", "expert": "one"},
            "choose": {"k": k},
            "aggregator": {"name": "ensemble", **settings},
        }
        for name, k, settings in [
            ("together", 2, {}),
            ("weighed", 2, weighed),
            ("all", 4, choices),
        ]
    }
    return compose_live(["one", "two", "exact", "gemma"], compositions)


async def one_of(composer: Composer, request: Request) -> Outcome:
    (outcome,) = [outcome async for _, outcome in composer.pool.run([request])]
    return outcome


async def done(composer: Composer, request: Request) -> Completion:
    outcome = await one_of(composer, request)
    assert isinstance(outcome, Completion), outcome
    return outcome


def mixing(
    request_id: str,
    expert: str,
    *peers: str,
    sampling: Sampling = GREEDY,
    weights: tuple[float, ...] = (),
) -> Request:
    mix = "average" if peers else None
    return Request(
        request_id,
        expert,
        QUESTION,
        sampling,
        logprobs=0,
        peers=peers,
        mix=mix,
        weights=weights,
    )


@pytest.mark.parametrize("expert", ["exact", "one"])
async def test_an_expert_mixed_with_itself_says_what_it_says_alone(
    composer: Composer, expert: str
) -> None:
    alone = await done(composer, mixing(f"alone/{expert}", expert))
    mixed = await done(composer, mixing(f"mixed/{expert}", expert, expert))

    assert mixed.text == alone.text
    logprobs = [t.logprob for t in alone.samples[0].logprobs or ()]
    assert [t.logprob for t in mixed.samples[0].logprobs or ()] == pytest.approx(logprobs, abs=1e-3)
    assert mixed.completion_tokens == 2 * alone.completion_tokens
    assert mixed.prompt_tokens == 2 * alone.prompt_tokens


async def test_the_mixture_is_that_of_two_forward_passes_by_hand(
    composer: Composer, smol: Path, adapters: dict[str, dict[str, Any]]
) -> None:
    models = load_by_hand(smol, adapters)
    texts: set[str] = set()

    for weights in ((), (1.0, 9.0)):
        said = await done(composer, mixing(f"hand/{weights}", "one", "two", weights=weights))

        text, logprobs, experts = write_by_hand(smol, models, weights or (1.0, 1.0), n_tokens=10)
        mixed = [t.logprob for t in said.samples[0].logprobs or ()]
        assert mixed == pytest.approx(logprobs, abs=2e-3)
        for sample, of_expert in zip(said.samples[1:], experts, strict=True):
            assert [t.logprob for t in sample.logprobs or ()] == pytest.approx(of_expert, abs=2e-3)
        assert [sample.text for sample in said.samples] == [text] * 3
        texts.add(text)

    assert len(texts) == 2


def load_by_hand(smol: Path, adapters: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """The model with each of the adapters merged into it, by transformers."""
    torch: Any = pytest.importorskip("torch")
    transformers: Any = pytest.importorskip("transformers")
    models: list[Any] = []
    for weights in adapters.values():
        model = transformers.AutoModelForCausalLM.from_pretrained(smol, dtype=torch.float32)
        parameters = dict(model.named_parameters())
        for name in weights:
            if ".lora_A." in name:
                delta = weights[name.replace("lora_A", "lora_B")] @ weights[name]
                target = parameters[name.replace(".lora_A", "")]
                target.data += torch.from_numpy(delta * (ALPHA / RANK))
        models.append(model.eval())
    return models


def write_by_hand(
    smol: Path, models: Sequence[Any], prior: Sequence[float], n_tokens: int
) -> tuple[str, list[float], list[list[float]]]:
    """The greedy text of the mixture, its log-probabilities, and each expert's."""
    torch: Any = pytest.importorskip("torch")
    transformers: Any = pytest.importorskip("transformers")
    prompt = ChatTokenizer.load(smol).encode(QUESTION)
    ends = models[0].generation_config.eos_token_id
    written: list[int] = []
    mixed: list[float] = []
    experts: list[list[float]] = [[] for _ in models]
    while len(written) < n_tokens and (not written or written[-1] != ends):
        with torch.inference_mode():
            ids = torch.tensor([prompt + written])
            each = torch.stack([model(ids).logits[0, -1].log_softmax(-1) for model in models])
        weights_now = torch.tensor(running_posterior(prior, experts)[-1])
        mixture = weights_now.float() @ each.exp()
        token = int(mixture.argmax())
        written.append(token)
        mixed.append(math.log(float(mixture[token])))
        for j, of_expert in enumerate(experts):
            of_expert.append(float(each[j, token]))
    tokenizer = transformers.AutoTokenizer.from_pretrained(smol)
    return tokenizer.decode(written, skip_special_tokens=True), mixed, experts


async def test_an_engine_with_adapters_scores_a_text_as_it_would_say_it(
    composer: Composer,
) -> None:
    for expert in ("exact", "two"):
        said = await done(composer, mixing(f"said/{expert}", expert))
        asked = Request(f"score/{expert}", expert, QUESTION, GREEDY, continuation=said.text)

        scored = await done(composer, asked)

        logprobs = [t.logprob for t in scored.samples[0].logprobs or ()]
        assert scored.text == said.text
        assert scored.samples[0].finish_reason == "scored"
        assert scored.prompt_tokens == said.prompt_tokens
        assert logprobs == pytest.approx(
            [t.logprob for t in said.samples[0].logprobs or ()][: len(logprobs)], abs=1e-3
        )


async def test_a_composition_of_lora_experts_streams_a_text_of_all(composer: Composer) -> None:
    said = ""
    answer = None
    async for event in composer.stream("Name a city.", composition="together"):
        match event:
            case Delta(_, _, text):
                said += text
            case Restart():
                said = ""
            case Answer():
                answer = event

    assert answer is not None
    assert answer.text == said
    assert answer.details["level"] == "token"
    assert answer.details["prior"] == {"one": 0.5, "two": 0.5}
    weights = answer.details["weights"]
    assert sum(weights.values()) == pytest.approx(1)
    assert set(weights) == {"one", "two"}
    assert weights["one"] != 0.5


async def test_experts_that_read_the_query_write_with_the_weights_that_this_gives_them(
    composer: Composer,
) -> None:
    answer = await composer.ask("Name a city.", composition="weighed")

    assert answer.details["level"] == "token"
    assert answer.details["prior"] == {"one": 0.75, "two": 0.25}
    assert [c.request_id.split("/", 1)[1] for c in answer.completions] == [
        "annotate/one",
        "annotate/two",
        "aggregate/one",
    ]
    nats = [sum(t.logprob for t in c.samples[0].logprobs or ()) for c in answer.completions[:2]]
    weights = domain_posterior([0.75, 0.25], nats, 0.01)
    start = answer.details["weights_at_start"]
    assert start == pytest.approx(dict(zip(("one", "two"), weights, strict=True)))
    logprobs = [[t.logprob for t in s.logprobs or ()] for s in answer.completions[2].samples]
    first, one, two = (math.exp(of_sample[0]) for of_sample in logprobs)
    assert first == pytest.approx(weights[0] * one + weights[1] * two)
    assert start["one"] != 0.75


async def test_drawn_texts_are_the_same_for_the_same_seed(composer: Composer) -> None:
    drawing = Sampling(temperature=1.0, top_p=0.9, max_tokens=10, seed=7)

    first = await done(composer, mixing("drawn/1", "one", "two", "exact", sampling=drawing))
    second = await done(composer, mixing("drawn/2", "one", "two", "exact", sampling=drawing))

    assert first.text == second.text
    assert {sample.text for sample in first.samples} == {first.text}
    assert len(first.samples) == 4


async def test_groups_and_single_experts_run_in_one_batch(composer: Composer) -> None:
    requests = [
        mixing(f"batch/{i}", "one", *peers)
        for i, peers in enumerate([(), ("two",), ("exact",), (), ("two", "exact")])
    ]

    outcomes = [o async for _, o in composer.pool.run(requests)]

    assert all(isinstance(o, Completion) for o in outcomes), outcomes


async def test_a_stop_string_ends_the_text_for_all(composer: Composer) -> None:
    whole = await done(composer, mixing("whole", "one", "two"))
    word = whole.text.split()[2]

    stopping = Sampling(temperature=0.0, max_tokens=10, stop=(word,))
    cut = await done(composer, mixing("cut", "one", "two", sampling=stopping))

    assert cut.text == whole.text.partition(word)[0]
    assert {sample.text for sample in cut.samples} == {cut.text}
    assert cut.samples[0].finish_reason == "stop"


async def test_an_expert_of_another_engine_is_refused(composer: Composer) -> None:
    outcome = await one_of(composer, mixing("stranger", "one", "gemma"))

    assert isinstance(outcome, Failure)
    assert outcome.kind == "refused"
    assert "'gemma' is on another engine than 'one'" in outcome.message


async def test_weights_that_are_not_for_the_experts_are_refused(composer: Composer) -> None:
    outcome = await one_of(composer, mixing("weightless", "one", "two", weights=(1.0,)))

    assert isinstance(outcome, Failure)
    assert outcome.kind == "refused"
    assert "1 weights are not for 2 experts" in outcome.message


async def test_models_of_two_families_score_the_same_answers(composer: Composer) -> None:
    answer = await composer.ask("What is the capital of France?", composition="all")

    assert answer.details["level"] == "answer"
    assert answer.text == "Paris"
    assert set(answer.details["weights"]) == {"one", "two", "exact", "gemma"}
    assert sum(answer.details["weights"].values()) == pytest.approx(1)
    assert sum(answer.details["shares"].values()) == pytest.approx(1)
    assert answer.details["by_expert"]["gemma"][0] > 0.5
