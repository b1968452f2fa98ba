"""`python -m eval replay`: the ladder and every method on recorded outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from composer.backends.sources import cache_dir
from composer.outcomes import OutcomeTable, read_table, save_table
from eval.progress import Bars, open_bars
from eval.replay.fits import Fits
from eval.replay.methods import all_methods, make_method, split_names
from eval.replay.output import Output, print_rows
from eval.replay.parts import make_parts
from eval.replay.run import REFERENCES, Replay, replay
from eval.replay.run_folder import make_manifest, open_run, write_json
from routers.encoder import MINILM, CachedEncoder, SentenceEncoder

Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Recorded outcomes: queries.jsonl.gz and its kin."),
]
Experts = Annotated[str, typer.Option(help="A sub-pool: names that commas separate. Default: all.")]
Categories = Annotated[
    str, typer.Option(help="Judge on these categories only; fitting still uses all of train.")
]
EncoderSource = Annotated[
    str,
    typer.Option(
        "--encoder",
        help="What routers embed prompts with: a sentence-transformers model, as "
        "package:NAME/FOLDER, a folder, or a hub id.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Keep every decision here; the same command then resumes."),
]
OutputOption = Annotated[Output, typer.Option(help="How to print it.")]


def replay_command(
    folder: Folder,
    methods: Annotated[
        str, typer.Option(help="Names that commas separate, settings in brackets. Default: all.")
    ] = "",
    experts: Experts = "",
    categories: Categories = "",
    known_category: Annotated[
        bool,
        typer.Option(
            "--known-category", help="Tell routers and aggregators each query's category."
        ),
    ] = False,
    out_of_fold: Annotated[
        bool,
        typer.Option(
            "--out-of-fold", help="Judge on train, by 5 folds, instead of on the other splits."
        ),
    ] = False,
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Leave out queries whose prompt is also in train.")
    ] = False,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Have the models as well that were not asked everything."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the resampling behind the intervals.")] = 0,
    encoder_source: EncoderSource = MINILM,
    out: Out = None,
    output: OutputOption = "table",
) -> None:
    r"""Judge methods on recorded outcomes; no model is run.

    Prints, for each split, the ladder (a random expert, the best single expert on train, the
    category's best expert on train, each method, the category's best in hindsight, the oracle) with
    95 % intervals, from 10,000 resamples of the queries within their categories.

    Methods: random, best-single, category-expert, category-hindsight, oracle, fixed\[expert=NAME];
    a router (neighbours, neighbours\[k=40]); an aggregator over the best experts on train
    (vote-majority, vote-majority\[k=5], \[k=all]); or both, as neighbours+vote-majority.
    """
    table = read_outcomes(folder, experts=experts, partial=partial)
    if deduplicate:
        table = table.deduplicated()
    parts = make_parts(table, out_of_fold=out_of_fold, categories=split_names(categories))
    with open_bars() as bars:
        encoder = make_encoder(encoder_source, bars)
        names = split_names(methods) or all_methods(table)
        fits = Fits()
        chosen = [make_method(name, encoder, fits) for name in dict.fromkeys([*names, *REFERENCES])]
        run = None
        if out is not None:
            options = {
                "categories": categories,
                "known_category": known_category,
                "out_of_fold": out_of_fold,
                "seed": seed,
                "encoder": f"{encoder_source}, {encoder.identity[:12]}",
            }
            run = open_run(out, make_manifest("replay", table, options))
            save_table(table, run.path / "table")
        found = replay(
            table,
            parts,
            chosen,
            known_category=known_category,
            seed=seed,
            folder=run,
            on_method=lambda part, method, n: bars.on_rows(f"{part} {method}", n),
        )
        for method, why in found.not_run:
            bars.say(f"{method}: not run, {why}")
    as_json = _to_json(table, found)
    if run is not None:
        write_json(run.path / "rows.json", as_json)
    print_rows(found.rows, output, as_json)


def read_outcomes(folder: Path, *, experts: str, partial: bool) -> OutcomeTable:
    """The table of a folder, with the experts asked for."""
    table = read_table(folder, partial=partial)
    return table.with_experts(split_names(experts)) if experts else table


def make_encoder(source: str, bars: Bars) -> CachedEncoder:
    """A sentence encoder, its embeddings kept in the user's cache, its progress shown."""
    folder = cache_dir() / "embeddings"
    return CachedEncoder(
        SentenceEncoder(source, hashes=folder), folder, on_progress=bars.on_embedded
    )


def _to_json(table: OutcomeTable, found: Replay) -> dict[str, Any]:
    return {
        "dataset": table.name,
        "experts": list(table.names),
        "rows": [row.to_json() for row in found.rows],
        "not_run": [{"method": method, "reason": why} for method, why in found.not_run],
    }
