"""`composer ask`: one question, one answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from composer.cli.options import (
    CompositionName,
    ExpertsPath,
    Explain,
    Output,
    System,
    Verbose,
    Words,
    experts_path,
    read_prompt,
    set_up_logging,
    to_messages,
)
from composer.errors import ConfigError
from composer.types import Answer, AnswerType

if TYPE_CHECKING:
    from composer.orchestrator import Composer


def ask(
    prompt: Words = None,
    composition: CompositionName = "auto",
    experts: ExpertsPath = None,
    output: Output = "text",
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Write the text as it comes (to a terminal). Left out: with --output text.",
        ),
    ] = None,
    explain: Explain = False,
    answer_type: Annotated[
        AnswerType | None,
        typer.Option("--answer-type", help="How a vote reads the experts' answers."),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("--k", min=1, help="Experts to choose. Left out: as the composition says."),
    ] = None,
    system: System = None,
    verbose: Verbose = 0,
) -> None:
    """Answer one question.

    The answer goes to stdout, everything else to stderr.

    composer ask What is the capital of Norway?

    composer ask -c panel --k 3 --explain "Why is the sky blue?"

    composer ask -c vote --answer-type number "How many legs have three spiders?"

    composer ask --output json < question.txt
    """
    from composer.cli.display import answer_aloud, answer_silently
    from composer.cli.explain import show_answer
    from composer.cli.output import answer_json, stderr, write_json
    from composer.cli.serving import EventLoop

    set_up_logging(verbose)
    if stream and output == "json":
        raise ConfigError("--stream writes text; leave it out or leave out --output json")
    messages = to_messages(read_prompt(prompt), system)
    with EventLoop() as loop:
        from composer.orchestrator import Composer

        made = Composer.from_yaml(experts_path(experts))
        if k is not None:
            choose_k(made, composition, k)

        async def run() -> Answer:
            async with made as composer:
                if output == "json":
                    return await answer_silently(
                        composer, messages, composition=composition, answer_type=answer_type
                    )
                return await answer_aloud(
                    composer,
                    messages,
                    composition=composition,
                    answer_type=answer_type,
                    stream=stream is not False,
                )

        answer = loop.run(run())
    if output == "json":
        write_json(answer_json(answer))
    elif explain:
        show_answer(stderr(), answer)


def choose_k(composer: Composer, composition: str, k: int) -> None:
    """Have a composition choose k experts, whatever experts.yaml says.

    Raises:
        ConfigError: There are fewer experts, or one is asked by its own name.
    """
    n_experts = len(composer.registry.routed)
    if k > n_experts:
        raise ConfigError(f"--k is {k} and there are {n_experts} experts; lower it")
    if composition in composer.registry.experts:
        raise ConfigError(f"{composition!r} is an expert and answers alone; leave out --k")
    composed = composer.compositions.get(composition)
    if composed is not None:
        changed = replace(composed, rule=composed.rule.model_copy(update={"k": k}))
        composer.compositions = {**composer.compositions, composition: changed}
