"""`composer route`: who would answer, and why."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated

import typer

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
from composer.errors import ConfigError
from composer.types import Message, Query, Selection


def route(
    prompt: Words = None,
    composition: CompositionName = "auto",
    experts: ExpertsPath = None,
    router: Annotated[
        Path | None,
        typer.Option(
            "--router", metavar="DIR", help="A saved router, asked alone, without an experts.yaml."
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("--k", min=1, help="Experts to choose. Left out: as the composition says, 1."),
    ] = None,
    category: Annotated[
        str | None, typer.Option("--category", help="The question's category, where it is known.")
    ] = None,
    explain: Explain = False,
    output: Output = "text",
    verbose: Verbose = 0,
) -> None:
    """Say which experts would be asked; none of them is.

    (But those that the router itself asks about the question.)

    composer route What is the capital of Norway?

    composer route --explain -c panel "Rewrite this politely: send it now."

    composer route --router routers/mine --k 2 --explain "What is 17 + 25?"

    composer route --output json "Hello!" | jq .scores
    """
    from composer.cli.explain import show_selection
    from composer.cli.output import selection_json, stdout, write_json

    set_up_logging(verbose)
    text = read_prompt(prompt)
    query = Query(uuid.uuid4().hex[:12], (Message("user", text),), category)
    if router is None:
        selection = _by_composition(query, experts_path(experts), composition, k)
    elif composition != "auto":
        raise ConfigError("--router asks a saved router alone; leave out --composition")
    else:
        selection = _by_saved_router(query, router, k or 1)
    if output == "json":
        write_json(selection_json(selection))
    else:
        show_selection(stdout(), selection, explain=explain)


def _by_composition(query: Query, path: Path, composition: str, k: int | None) -> Selection:
    from composer.cli.serving import EventLoop

    with EventLoop() as loop:
        from composer.cli.ask import choose_k
        from composer.orchestrator import Composer

        made = Composer.from_yaml(path)
        if k is not None:
            choose_k(made, composition, k)

        async def run() -> Selection:
            async with made as composer:
                return await composer.route(query, composition=composition)

        return loop.run(run())


def _by_saved_router(query: Query, folder: Path, k: int) -> Selection:
    from composer.assembly import default_encoder
    from composer.backends.sources import cache_dir
    from composer.choose import choose
    from composer.experts import ChooseRule
    from routers import load_router

    made = load_router(folder, encoder=default_encoder(cache_dir()))
    if asks := sorted(made.needs & {"annotations", "likelihoods"}):
        raise ConfigError(
            f"router {made.name!r} needs {asks[0]}, for which it asks experts; name it in "
            "experts.yaml (router: {from: DIR}) and route by that composition"
        )
    scores = made.score([query], [None])
    if k > len(scores.experts):
        raise ConfigError(
            f"--k is {k} and the router knows {len(scores.experts)} experts; lower it"
        )
    (selection,) = choose(scores, [query.id], ChooseRule(k=k), router=made.name)
    return selection
