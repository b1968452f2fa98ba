"""`python -m eval pair`: a strong and a weak expert, and the routers between them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from eval.console import stdout_console
from eval.progress import open_bars
from eval.replay.command import (
    EncoderSource,
    Folder,
    Out,
    OutputOption,
    make_encoder,
    read_outcomes,
)
from eval.replay.methods import split_names
from eval.replay.output import Output, number, with_interval
from eval.replay.pair import PairRow, check_method, judge_pair, make_draws, pair_methods
from eval.replay.run_folder import make_manifest, open_run, write_json
from routers.encoder import MINILM

COLUMNS = ("method", "category", "labels", "seeds", "n", "APGR [95 %]", "CPT(50 %)", "CPT(80 %)")


def pair_command(
    folder: Folder,
    strong: Annotated[str, typer.Option(help="The strong expert.")],
    weak: Annotated[str, typer.Option(help="The weak expert.")],
    train_labels: Annotated[
        int | None, typer.Option(min=1, help="Questions that train. Default: half of them.")
    ] = None,
    category_prefix: Annotated[
        str, typer.Option(help="Only the categories that begin so. Default: all.")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the labels.")] = 5,
    methods: Annotated[
        str, typer.Option(help="Names that commas separate, settings in brackets. Default: all.")
    ] = "",
    known_category: Annotated[
        bool, typer.Option("--known-category", help="Tell routers each question's category.")
    ] = False,
    encoder_source: EncoderSource = MINILM,
    out: Out = None,
    output: OutputOption = "table",
) -> None:
    """Judge routers between a strong and a weak expert, as RouteLLM defines it.

    For each seed, labels are drawn from the questions (flagged ones are left out) and train the
    router; all the rest judges it. APGR is the mean share of the gap between weak and strong that
    is recovered, over all shares of strong calls: about 0.5 at random. CPT(x) is the share of
    strong calls that recovers x of the gap. The interval covers seeds and questions.

    Methods: random, category-expert (told the category), a router (stacked, neighbours, ...),
    oracle.
    """
    table = read_outcomes(folder, experts="", partial=False)
    draws = make_draws(
        table,
        strong=strong,
        weak=weak,
        prefix=category_prefix,
        n_labels=train_labels,
        n_seeds=seeds,
    )
    rows: list[PairRow] = []
    with open_bars() as bars:
        encoder = make_encoder(encoder_source, bars)
        names = list(dict.fromkeys(split_names(methods))) or pair_methods(encoder)
        for name in names:
            check_method(name, encoder)
        run = None
        if out is not None:
            options = {
                "strong": strong,
                "weak": weak,
                "labels": train_labels,
                "prefix": category_prefix,
                "seeds": seeds,
                "known_category": known_category,
                "encoder": f"{encoder_source}, {encoder.identity[:12]}",
            }
            run = open_run(out, make_manifest("pair", table, options))
        for name in names:
            row = judge_pair(
                name,
                draws,
                encoder,
                prefix=category_prefix,
                known_category=known_category,
                run=run,
                on_draw=bars.on_rows(name, seeds),
            )
            rows.append(row)
    strong_score, weak_score = np.mean([d.judged.score.mean(axis=0) for d in draws], axis=0)
    as_json = {
        "dataset": table.name,
        "strong": strong,
        "weak": weak,
        "strong_accuracy": float(strong_score),
        "weak_accuracy": float(weak_score),
        "rows": [row.to_json() for row in rows],
    }
    if run is not None:
        write_json(run.path / "rows.json", as_json)
    _print(rows, output, as_json)


def _print(rows: Sequence[PairRow], output: Output, as_json: dict[str, Any]) -> None:
    if output == "json":
        sys.stdout.write(json.dumps(as_json, indent=1, allow_nan=False) + "\n")
        return
    if output == "markdown":
        lines = [COLUMNS, ["---"] * len(COLUMNS), *map(_cells, rows)]
        sys.stdout.write("".join(f"| {' | '.join(line)} |\n" for line in lines))
        return
    title = f"{as_json['strong']} against {as_json['weak']}"
    table = Table(*COLUMNS, title=escape(title))
    for row in rows:
        table.add_row(*map(escape, _cells(row)))
    stdout_console().print(table)


def _cells(row: PairRow) -> list[str]:
    return [
        row.method,
        row.category,
        str(row.labels),
        str(row.n_seeds),
        str(row.n),
        with_interval(row.apgr, row.apgr_ci95),
        number(row.cpt50, ".1%"),
        number(row.cpt80, ".1%"),
    ]
