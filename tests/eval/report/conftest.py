"""Runs of small tables, made by the replay itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery, save_table
from eval.replay.methods import make_method
from eval.replay.parts import make_parts
from eval.replay.run import replay
from eval.replay.run_folder import make_manifest, open_run, write_json
from routers.encoder import HashingEncoder

RUNGS = ("random", "best-single", "category-expert", "category-hindsight", "oracle")
METHODS = (*RUNGS[:3], "neighbours", *RUNGS[3:])
SUBJECTS = ("algebra", "poetry")
EXPERTS = ("ada", "org/bob", "cyd")


def make_table(
    *, n: int = 60, experts: Sequence[str] = EXPERTS, costs: bool = True, categories: bool = True
) -> OutcomeTable:
    """Questions of two subjects; each expert is better at one of them."""
    rng = np.random.default_rng(7)
    subject = np.arange(n) % 2
    skill = 0.4 + 0.4 * (subject[:, None] == np.arange(len(experts)) % 2)
    score = (rng.random((n, len(experts))) < skill).astype(np.float32)
    cost = np.tile(np.geomspace(1e-5, 1e-3, len(experts)), (n, 1)).astype(np.float32)
    queries = tuple(
        RecordedQuery(
            f"q{i}",
            f"a question of {SUBJECTS[s]} number {i}",
            "train" if i < n // 2 else "test",
            SUBJECTS[s] if categories else None,
        )
        for i, s in enumerate(subject)
    )
    recorded = tuple(RecordedExpert(name) for name in experts)
    return OutcomeTable("small", queries, recorded, score, cost if costs else None)


def with_prompt(table: OutcomeTable, prompt: str) -> OutcomeTable:
    """The table with one prompt for all of its queries."""
    return replace(table, queries=tuple(replace(query, prompt=prompt) for query in table.queries))


def make_run(path: Path, table: OutcomeTable, methods: Sequence[str] = METHODS) -> Path:
    """The finished run of a replay, as its command writes it."""
    run = open_run(path, make_manifest("replay", table, {"known_category": False, "seed": 3}))
    save_table(table, path / "table")
    encoder = HashingEncoder()
    found = replay(
        table,
        make_parts(table),
        [make_method(name, encoder) for name in methods],
        seed=3,
        folder=run,
    )
    as_json = {
        "rows": [row.to_json() for row in found.rows],
        "not_run": [{"method": method, "reason": why} for method, why in found.not_run],
    }
    write_json(path / "rows.json", as_json)
    return path


def make_pair(path: Path) -> Path:
    """A run between a strong and a weak expert."""
    open_run(path, make_manifest("pair", make_table(), {"known_category": False}))
    lines = [
        {
            "method": method,
            "prefix": "alg",
            "labels": 30,
            "n_seeds": 5,
            "n": 70,
            "apgr": apgr,
            "apgr_ci95": [low, high],
            "cpt50": 0.4,
            "cpt80": None,
            "curve": {"strong_share": [0.0, 0.5, 1.0], "accuracy": [0.3, middle, 0.7]},
        }
        for method, apgr, low, high, middle in (
            ("random", 0.5, 0.5, 0.5, 0.5),
            ("neighbours", 0.6125, 0.52, 0.71, 0.5675),
        )
    ]
    pair = {"strong": "ada", "weak": "cyd", "strong_accuracy": 0.7, "weak_accuracy": 0.3}
    write_json(path / "rows.json", {**pair, "rows": lines})
    return path


class Tables(HTMLParser):
    """The tables of a page: the texts of each one's rows, by its caption."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self._caption = ""
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("caption", "td", "th"):
            self._text = []
        if tag == "tr":
            self.found[self._caption].append([])

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        text = "".join(self._text).strip().replace("\N{NO-BREAK SPACE}", " ")
        if tag == "caption":
            self._caption = text
            self.found[text] = []
        if tag in ("td", "th"):
            self.found[self._caption][-1].append(text)


def tables_of(html: str) -> dict[str, list[list[str]]]:
    """The tables of a page, headers first."""
    parser = Tables()
    parser.feed(html)
    return parser.found


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The rows of a run as its rows.json has them."""
    return json.loads((run / "rows.json").read_text(encoding="utf-8"))["rows"]


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router between a strong and a weak expert."""
    return make_pair(tmp_path_factory.mktemp("runs") / "between")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay of a router and all rungs on two subjects and three experts, with costs."""
    return make_run(tmp_path_factory.mktemp("runs") / "first", make_table())
