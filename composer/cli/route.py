"""`composer route`: who would answer, and why."""

from __future__ import annotations

from composer.cli.options import (
    CompositionName,
    ExpertsPath,
    Explain,
    Output,
    Verbose,
    Words,
    experts_path,
    read_prompt,
    set_up_logging,
)
from composer.types import Selection


def route(
    prompt: Words = None,
    composition: CompositionName = "auto",
    experts: ExpertsPath = None,
    explain: Explain = False,
    output: Output = "text",
    verbose: Verbose = 0,
) -> None:
    """Say which experts would be asked; none of them is.

    (But those that the router itself asks about the question.)

    composer route What is the capital of Norway?

    composer route --explain -c panel "Rewrite this politely: send it now."

    composer route --output json "Hello!" | jq .scores
    """
    from composer.cli.explain import show_selection
    from composer.cli.output import selection_json, stdout, write_json
    from composer.cli.serving import EventLoop

    set_up_logging(verbose)
    text = read_prompt(prompt)
    with EventLoop() as loop:
        from composer.orchestrator import Composer

        made = Composer.from_yaml(experts_path(experts))

        async def run() -> Selection:
            async with made as composer:
                return await composer.route(text, composition=composition)

        selection = loop.run(run())
    if output == "json":
        write_json(selection_json(selection))
    else:
        show_selection(stdout(), selection, explain=explain)
