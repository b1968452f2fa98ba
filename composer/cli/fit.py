"""`composer fit`: a router that has learned from recorded outcomes, saved."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from composer.cli.options import Output, Verbose, set_up_logging
from composer.errors import ConfigError


def fit(
    outcomes: Annotated[
        Path,
        typer.Option(
            "--outcomes", metavar="DIR", help="Recorded outcomes; or `starter`: those shipped."
        ),
    ],
    save: Annotated[Path, typer.Option("--save", metavar="DIR", help="Where it is kept.")],
    router: Annotated[
        str | None, typer.Option("--router", help="The kind of router. Left out: stacked.")
    ] = None,
    aggregator: Annotated[
        str | None,
        typer.Option(
            "--aggregator", help="Fit this aggregator instead: vote-learned, cascade, ..."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting; its value as JSON, or text."),
    ] = None,
    split: Annotated[
        Literal["train", "all"],
        typer.Option("--split", help="Learn from the train split, or from all rows."),
    ] = "train",
    only: Annotated[
        list[str] | None, typer.Option("--only", help="An expert to score. Left out: all.")
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(
            "--examples",
            metavar="EXPERTS_YAML",
            help="Learn too from its experts' examples, as if each expert alone were right on its "
            "own: then what resembles no recorded question goes to whom it is meant for.",
        ),
    ] = None,
    output: Output = "text",
    verbose: Verbose = 0,
) -> None:
    """Fit a router, or an aggregator that learns, on recorded outcomes, and save it.

    experts.yaml takes it by `router: {from: DIR}` or `aggregator: {name: NAME, from: DIR}`;
    `composer route --router DIR` asks a router alone.

    composer fit --outcomes starter --save routers/starter

    composer fit --router neighbours --outcomes profiles/mine --save routers/mine --set k=20

    composer fit --outcomes profiles/mine --examples experts.yaml --save routers/mine

    composer fit --aggregator vote-learned --outcomes profiles/mine --save votes/mine
    """
    from composer.cli.output import stderr, stdout, write_json

    set_up_logging(verbose)
    from composer.aggregators.fitted import fit_aggregator
    from composer.assembly import default_encoder
    from composer.backends.sources import cache_dir
    from composer.experts import load_experts
    from composer.outcomes import read_table
    from composer.profile import with_examples
    from composer.starter import OUTCOMES
    from routers import make_fitted_router

    if router is not None and aggregator is not None:
        raise ConfigError("--router and --aggregator are two things to fit; leave one out")
    if aggregator is not None and examples is not None:
        raise ConfigError("--examples are for routers; leave them out")
    given, name = read_settings(settings or ()), aggregator or router or "stacked"
    unfitted = None
    if aggregator is None:
        unfitted = make_fitted_router(name, given, encoder=default_encoder(cache_dir()))
        check_free(save)
    table = read_table(OUTCOMES if outcomes == Path("starter") else outcomes)
    if only:
        table = table.with_experts(list(dict.fromkeys(only)))
    if split == "train":
        table = table.split("train")
    if examples is not None:
        table = with_examples(table, load_experts(examples))
    started_s = time.perf_counter()
    with stderr().status(f"fitting {name} on {len(table.queries):,} queries"):
        if unfitted is None:
            made, used = fit_aggregator(name, table, given), given
        else:
            made = unfitted.fit(table)
            used = made.settings
    seconds = time.perf_counter() - started_s
    made.save(save)
    learned = {
        "router" if aggregator is None else "aggregator": name,
        "outcomes": table.name,
        "split": split,
        "n": len(table.queries),
        "experts": list(table.names),
        "settings": used,
        "seconds": seconds,
        # A baseline holds nothing out, and has none.
        "summary": dict(getattr(made, "summary", {})),
        "folder": str(save),
    }
    if output == "json":
        write_json(learned)
        return
    from composer.cli.explain import make_table

    shown = make_table("learned", "")
    for key, value in _flat(learned):
        shown.add_row(key, _text(value))
    stdout().print(shown)


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """The settings that KEY=VALUE pairs give; a value that is no JSON is text.

    Raises:
        ConfigError: A pair is none, or a key is given twice.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ConfigError(f"--set {pair!r} is no KEY=VALUE; write it as k=20")
        if key in settings:
            raise ConfigError(f"--set gives {key!r} twice; leave one")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def check_free(folder: Path) -> None:
    """Refuse a folder that holds anything but a saved router, which may be replaced.

    Raises:
        ConfigError: It does, or it is a file.
    """
    from routers.artefact import saved_kind

    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        saved_kind(folder)
    except ConfigError as exc:
        raise ConfigError(
            f"{folder}: holds something else than a saved router; name another folder"
        ) from exc


def _flat(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that is no mapping, by the path to it."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, Any]", value), f"{within}{key}.")
        else:
            yield within + key, value


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
