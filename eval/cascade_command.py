"""`python -m eval cascade`: what a cascade of votes saves on recorded answers."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from composer.errors import ConfigError
from eval.cascade import WAYS, Comparison, compare, mean_points
from eval.console import stdout_console
from eval.progress import open_bars
from eval.replay.command import EncoderSource, Experts, Folder, make_encoder, read_outcomes
from routers.encoder import MINILM


def cascade_command(
    folder: Folder,
    experts: Experts = "",
    router: Annotated[
        str, typer.Option(help="The router beside it, its settings in brackets.")
    ] = "stacked",
    n_stages: Annotated[int, typer.Option(min=2, help="Stages of a cascade, at most.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the resampling behind the intervals.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the curves there: .svg, .png or .pdf.")
    ] = None,
    encoder_source: EncoderSource = MINILM,
    output: Annotated[Literal["table", "json"], typer.Option(help="How to print it.")] = "table",
) -> None:
    """What a cascade of votes saves on recorded outcomes; no model is run.

    Stages and thresholds are chosen on train, from cheap to dear; the confidence is the agreement
    of the experts asked so far. Prints what each method costs on test, as a share of the best
    single expert, at some shares of the way from the cheapest expert's accuracy to the best's.
    """
    if plot is not None and find_spec("matplotlib") is None:
        raise ConfigError(
            "matplotlib is not installed, which draws the plot; install multi-llm-composer[eval], "
            "or leave out --plot"
        )
    table = read_outcomes(folder, experts=experts, partial=False)
    train, judged = table.split("train"), table.split("test")
    with open_bars() as bars:
        encoder = make_encoder(encoder_source, bars)
        found = compare(train, judged, encoder, router=router, n_stages=n_stages, seed=seed)
    if plot is not None:
        from eval.cascade_chart import draw_curves  # noqa: PLC0415 - an extra brings matplotlib

        curves = {curve.method: mean_points(curve) for curve in found.curves}
        title = f"{table.name}, n = {found.n:,}"
        draw_curves(plot, curves, mean_points(found.alone), title)
    if output == "json":
        sys.stdout.write(json.dumps(_to_json(table.name, found), indent=1, allow_nan=False) + "\n")
        return
    title = f"{table.name}: cost as a share of {found.best}'s, n = {found.n}"
    shown = Table("method", *(f"at {way:.0%} of the way" for way in WAYS), title=title)
    for method, figures in found.shares.items():
        shown.add_row(escape(method), *(escape(str(figure)) for figure in figures))
    shown.add_row("router less cascade", *(escape(str(figure)) for figure in found.saved))
    console = stdout_console()
    console.print(shown)
    stages = " -> ".join(found.chosen.settings.experts or ())
    console.print(f"the cascade fitted for 95 % of the way: {stages}", soft_wrap=True)
    for name in ("accuracy", "way", "cost_share"):
        console.print(escape(f"  {name} {found.chosen_is[name]}"))


def _to_json(dataset: str, found: Comparison) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "n_train": found.n_train,
        "n": found.n,
        "cheapest": found.cheapest,
        "best_single": found.best,
        "ways": WAYS,
        "cost_shares": {
            method: [figure.to_json() for figure in figures]
            for method, figures in found.shares.items()
        },
        "router_less_cascade": [figure.to_json() for figure in found.saved],
        "chosen": {
            "fitted": dict(found.chosen.summary),
            **{name: figure.to_json() for name, figure in found.chosen_is.items()},
        },
        "curves": {
            curve.method: [
                {"accuracy": float(score), "cost_usd": float(cost)}
                for cost, score in zip(*mean_points(curve), strict=True)
            ]
            for curve in found.curves
        },
    }
