from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.report.load import ReplayRun, load_runs
from eval.report.means import part_means
from eval.report.page import Page
from eval.report.render import to_html, to_markdown
from eval.report.sections import make_page
from eval.report.tables import category_tables
from tests.eval.report.conftest import (
    METHODS,
    make_run,
    make_table,
    rows_of,
    tables_of,
    with_prompt,
)

FEW = ("best-single", "oracle")
HOSTILE = "</td><script>alert(1)</script> ![x](http://evil/x.png) `a|b` <img src=//evil> & $x$"


@pytest.fixture(scope="module")
def page(run: Path, pair: Path) -> Page:
    """The report on a replay and on a pair."""
    return make_page(load_runs([run, pair]))


@pytest.fixture(scope="module")
def html(page: Page) -> str:
    """It as HTML."""
    return to_html(page)


@pytest.fixture(scope="module")
def markdown(page: Page) -> str:
    """It as Markdown."""
    return to_markdown(page)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report on a run without costs, categories and routers; no bad queries are asked for."""
    table = make_table(costs=False, categories=False)
    folder = make_run(tmp_path_factory.mktemp("runs") / "bare", table, FEW)
    not_run = [{"method": "vote-majority", "reason": "no answers are recorded"}]
    rows = {"rows": rows_of(folder), "not_run": not_run}
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    return html_of(folder, n_worst=0)


def html_of(*runs: Path, **settings: Any) -> str:
    return to_html(make_page(load_runs(runs), **settings))


def only(tables: Mapping[str, list[list[str]]], caption: str) -> list[list[str]]:
    """The one table whose caption begins so."""
    (found,) = [rows for name, rows in tables.items() if name.startswith(caption)]
    return found


def test_the_page_needs_nothing_beside_it(html: str):
    assert "http" not in html
    assert "<script" not in html
    assert "@import" not in html
    assert re.findall(r'\bsrc="|url\((?!#)|\bhref="(?!#)', html) == []


def test_every_id_is_there_once_and_every_reference_has_one(html: str):
    ids = re.findall(r'\bid="([^"]+)"', html)
    references = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html))

    assert len(ids) == len(set(ids))
    assert {first or second for first, second in references} <= set(ids)


def test_every_chart_says_what_it_shows(html: str):
    labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', html)

    assert len(labels) == html.count("<svg") == 4
    assert "first, test: accuracy and macro accuracy, n = 30" in labels[0]
    assert "On the Pareto front: " in labels[1]
    assert "neighbours APGR 0.6125" in labels[2]
    assert re.search(r"neighbours ECE 0\.\d{4}, n = 30", labels[3])


def test_the_numbers_are_those_of_the_rows(html: str, run: Path):
    header, *found = only(tables_of(html), "test")

    assert header[:4] == ["method", "run", "category", "n"]
    assert [line[0] for line in found] == list(METHODS)
    for line, row in zip(found, rows_of(run), strict=True):
        (low, high), (delta_low, delta_high) = row["ci95"], row["delta_ci95"]
        assert line[1:5] == [
            "first",
            row["category"],
            str(row["n"]),
            f"{row['accuracy']:.4f} [{low:.3f}, {high:.3f}]",
        ]
        delta = row["delta_best_single"]
        assert line[6] == f"{delta:+.4f} [{delta_low:+.3f}, {delta_high:+.3f}]"
        assert line[8] == f"{row['cost_usd_per_1k']:.3f}"


def test_the_twin_has_the_same_tables(html: str, markdown: str):
    for rows in tables_of(html).values():
        for row in rows[1:]:
            line = f"| {' | '.join(row)} |"
            assert line in re.sub(r"\\(.)", r"\1", markdown).replace("**", "")


def test_the_header_says_what_was_run(html: str, run: Path):
    facts = {name: rest[0] for name, *rest in only(tables_of(html), "What was run")}
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))

    assert facts["data set"] == "small"
    assert facts["experts"] == "3: ada, org/bob, cyd"
    assert facts["queries"] == "train 30, test 30"
    assert facts["category"].startswith("hidden;")
    assert facts["seed"] == "3"
    assert facts["config hash"] == manifest["config_hash"][:12]
    assert f"numpy {manifest['versions']['numpy']}" in facts["versions"]


def test_a_pair_is_told_with_its_interval(html: str):
    found = only(tables_of(html), "Between a strong")

    assert found[-1] == [
        *("neighbours", "between", "", "30", "5", "70"),
        *("0.6125 [0.520, 0.710]", "40.0%", "-"),
    ]


def test_categories_have_n_intervals_and_the_best_that_does_not_peek_in_bold(html: str):
    tables = tables_of(html)
    header, *rows = tables["first, test"]
    oracle = header.index("oracle")

    assert [row[:2] for row in rows] == [["algebra", "15"], ["poetry", "15"]]
    for row in rows:
        means = [float(cell.split()[0]) for cell in row[2:]]
        assert all(re.fullmatch(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", cell) for cell in row[2:])
        assert means[oracle - 2] == max(means)
        shown = re.findall(rf">{row[0]}</td>.*?</tr>", html, re.DOTALL)
        bold = re.findall(r'class="best">(\d\.\d{3})', shown[0])
        peeking = {"category-hindsight", "oracle"}
        others = [m for m, name in zip(means, header[2:], strict=True) if name not in peeking]
        assert {float(value) for value in bold} == {max(others)}


def test_the_worst_queries_are_lost_ones_and_say_what_each_expert_scored(html: str):
    header, *rows = only(tables_of(html), "first, test: neighbours did worse")
    table = make_table()

    assert header == ["query", "category", "prompt", "chosen", "what each expert scored"]
    assert rows
    for query_id, category, prompt, chosen, scored in rows:
        query = table.queries[int(query_id[1:])]
        scores = dict(zip(table.names, table.score[int(query_id[1:])], strict=True))
        levels = dict(level.split(": ") for level in scored.split("; "))
        assert (category, prompt) == (query.category, query.prompt)
        assert re.fullmatch(r"\S+ \(predicted 0\.\d\d\), scored 0\.00", chosen)
        assert levels == {
            f"{level:.2f}": ", ".join(name for name in table.names if scores[name] == level)
            for level in (1.0, 0.0)
        }


def test_prompts_cannot_become_markup(tmp_path: Path):
    folder = make_run(tmp_path / "hostile", with_prompt(make_table(), HOSTILE), FEW)
    page = make_page(load_runs([folder]))

    html, markdown = to_html(page), to_markdown(page)

    assert "<script" not in html
    assert "<img" not in html
    assert only(tables_of(html), "hostile, test: best-single")[1][2] == HOSTILE
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert "](" not in markdown
    assert "http://" not in markdown
    assert r"\`a\|b\`" in markdown


def test_without_costs_it_says_so_and_lists_the_experts(bare: str):
    experts = only(tables_of(bare), "bare, test: single experts")

    assert "No costs are recorded for bare" in bare
    assert "Pareto" not in bare
    assert sorted(row[0] for row in experts[1:]) == ["ada", "cyd", "org/bob"]
    assert all(row[1] == "30" for row in experts[1:])


def test_without_categories_it_says_so(bare: str):
    assert "No categories are recorded for bare." in bare
    assert "bare, test" not in tables_of(bare)


def test_without_routers_it_says_so(bare: str):
    assert "No method of these runs predicts a quality." in bare


def test_no_bad_queries_are_listed_if_none_are_asked_for(bare: str):
    assert "Where most was lost" not in bare


def test_what_a_run_could_not_judge_is_said(bare: str):
    facts = only(tables_of(bare), "What was run")

    assert facts[-1] == ["not run", "vote-majority: no answers are recorded"]


def test_several_runs_stand_beside_one_another(tmp_path: Path):
    first = make_run(tmp_path / "first", make_table(), FEW)
    second = shutil.copytree(first, tmp_path / "second")

    html = html_of(first, second)
    methods = [row[:2] for row in only(tables_of(html), "test")[1:]]

    assert methods == [[method, name] for method in FEW for name in ("first", "second")]
    groups = html.split('<div class="charts">')[1:]
    assert [group.count("<svg") for group in groups] == [2, 2]


def test_many_methods_go_on_in_another_table_in_the_order_of_the_ladder(tmp_path: Path):
    fixed = [f"fixed[expert={name}]" for name in ("ada", "cyd", "org/bob")]
    folder = make_run(tmp_path / "many", make_table(), [*METHODS[::-1], *fixed])
    (run,) = load_runs([folder])
    assert isinstance(run, ReplayRun)

    first, second = category_tables(
        "many", run.parts[0], part_means(run.parts[0], seed=0).by_category
    )

    assert first.columns == ("category", "n", *METHODS[:3], *fixed)
    assert second.columns == ("category", "n", *METHODS[3:])
    assert second.caption == "many (continued)"


def test_runs_of_one_name_are_told_apart_by_their_paths(pair: Path, tmp_path: Path):
    other = shutil.copytree(pair, tmp_path / pair.name)

    assert [run.name for run in load_runs([pair, other])] == [str(pair), str(other)]


def test_a_run_that_is_named_twice_is_shown_once(pair: Path):
    assert [run.name for run in load_runs([pair, pair])] == ["between"]


def test_the_method_and_the_number_of_bad_queries_can_be_chosen(tmp_path: Path):
    folder = make_run(tmp_path / "drawn", make_table(), ["random", *FEW])

    rows = only(tables_of(html_of(folder, method="random", n_worst=4)), "drawn, test: random")

    assert len(rows) == 1 + 4
    assert rows[1][3].startswith("nobody in particular, scored")


def test_flagged_rows_and_unknown_scores_are_told(tmp_path: Path):
    table = make_table()
    flags = [frozenset({"in_train"}) if i > 55 else frozenset[str]() for i in range(60)]
    is_unknown = (np.arange(60)[:, None] == 40) & (np.arange(3) < 2)
    score = np.where(is_unknown, np.nan, table.score).astype(np.float32)
    queries = tuple(replace(q, flags=f) for q, f in zip(table.queries, flags, strict=True))
    folder = make_run(tmp_path / "odd", replace(table, queries=queries, score=score), FEW)

    html = html_of(folder)

    tables = tables_of(html)
    facts = {name: rest[0] for name, *rest in only(tables, "What was run")}
    assert "odd, test: accuracy and macro accuracy, n = 25 to 26," in html
    assert facts["queries"] == "train 30, test 26 (and 4 flagged)"
    assert facts["judged on"] == "test (26), test-flagged (4)"
    assert tables["test"][1][3] == "25 (1 unknown)"
    assert tables["odd, test"][1][2].endswith("(n = 12)")
    assert tables["test-flagged"][1][3] == "4"


def test_the_same_runs_make_the_same_page(run: Path, pair: Path, page: Page, html: str):
    again = make_page(load_runs([run, pair]))

    assert again == page
    assert to_html(again) == html


def test_where_every_query_is_alone_in_its_category_a_page_is_made_without_intervals(
    tmp_path: Path,
):
    table = make_table()
    queries = tuple(replace(query, category=query.id) for query in table.queries)
    make_run(tmp_path / "run", replace(table, queries=queries))

    page = make_page(load_runs([tmp_path / "run"]))

    assert "[-, -]" in to_markdown(page)
    assert "nan" not in to_html(page)
