"""Importers: outcomes that others publish, each format read into one form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eval.datasets.alpaca_eval import read_alpaca_eval
from eval.datasets.avengers import read_avengers
from eval.datasets.imported import Imported, Options
from eval.datasets.llmrouter import read_llmrouter
from eval.datasets.llmrouterbench import read_llmrouterbench
from eval.datasets.lm_eval import read_lm_eval
from eval.datasets.routellm import read_routellm
from eval.datasets.routerbench import read_routerbench
from eval.datasets.routerdc import read_routerdc
from eval.datasets.source import Source

__all__ = ["IMPORTERS", "Imported", "Importer", "Options", "Source"]


@dataclass(frozen=True, slots=True)
class Importer:
    """How one format is read."""

    read: Callable[[Source, Options], Imported]
    options: frozenset[str] = frozenset()
    """Fields of `Options` that this format alone heeds."""


IMPORTERS: Mapping[str, Importer] = {
    "alpaca-eval": Importer(read_alpaca_eval, frozenset({"annotator"})),
    "avengers": Importer(read_avengers),
    "llmrouter": Importer(read_llmrouter),
    "llmrouterbench": Importer(read_llmrouterbench),
    "lm-eval": Importer(read_lm_eval, frozenset({"metrics", "filter", "question"})),
    "routellm": Importer(read_routellm),
    "routerbench": Importer(read_routerbench),
    "routerdc": Importer(read_routerdc, frozenset({"binarise"})),
}
