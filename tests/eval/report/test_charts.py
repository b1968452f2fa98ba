from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.replay.ladder import LADDER
from eval.report.chart_cost import cost_chart
from eval.report.chart_reliability import wilson_interval
from eval.report.drawing import FONT_PT, drawing_style, printable, text_width, wrap
from eval.report.labels import Box, place_labels
from eval.report.load import JudgedPart, ReplayRun, load_runs
from eval.report.looks import GREY, is_reference, ladder_place, make_looks
from eval.report.means import part_means
from eval.report.tables import excerpt
from eval.report.worst import regrets, worst_queries
from tests.eval.report.conftest import make_run, make_table

ROOM = Box(0, 0, 400, 300)
PLACES = st.tuples(st.floats(0, 400), st.floats(0, 300))
NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), max_size=60)


@pytest.fixture(scope="module")
def part(run: Path) -> JudgedPart:
    """The test split of the replay."""
    (loaded,) = load_runs([run])
    assert isinstance(loaded, ReplayRun)
    return loaded.parts[0]


@given(st.lists(PLACES, max_size=30), st.floats(5, 120), st.floats(5, 25))
def test_labels_stay_inside_and_hide_neither_points_nor_one_another(
    points: list[tuple[float, float]], width: float, height: float
):
    dots = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in points]

    placed = place_labels(points, [(width, height)] * len(points), ROOM)

    boxes = [box for box in placed if box is not None]
    assert len(placed) == len(points)
    assert all(box.is_inside(ROOM) for box in boxes)
    assert not any(box.overlaps(dot) for box in boxes for dot in dots)
    assert not any(one.overlaps(two) for i, one in enumerate(boxes) for two in boxes[:i])


def test_a_lonely_point_has_its_label_at_its_right():
    (box,) = place_labels([(100, 100)], [(50, 10)], ROOM)

    assert box == Box(105, 95, 155, 105)


def test_labels_go_around_what_is_in_their_way():
    wall = Box(105, 0, 110, 300)

    (box,) = place_labels([(100, 100)], [(50, 10)], ROOM, obstacles=[wall])

    assert box is not None
    assert not box.overlaps(wall)


@given(NAMES, st.integers(4, 40), st.integers(1, 3))
def test_names_are_wrapped_into_few_short_lines(name: str, n_characters: int, n_lines: int):
    lines = wrap(name, n_characters, n_lines).split("\n")

    assert len(lines) <= n_lines
    assert all(len(line) <= n_characters for line in lines)


def test_names_are_broken_after_punctuation():
    wrapped = wrap("neighbours[k=40,temperature=0.1]+vote-majority", 24)

    assert wrapped == "neighbours[k=40,\ntemperature=0.1]+vote-\nmajority"


def test_what_the_font_lacks_is_drawn_as_a_stand_in():
    assert printable("été 模 ok") == "été \N{REPLACEMENT CHARACTER} ok"


def test_widths_are_those_of_the_longest_line():
    with drawing_style():
        assert text_width("iii\nwww") == text_width("www") > text_width("iii") > 0
        assert text_width("www", bold=True) > text_width("www")
        assert 3 * 0.7 * FONT_PT < text_width("www") < 3 * FONT_PT


def test_forty_methods_look_different_and_references_are_grey():
    methods = [f"router[k={k}]" for k in range(40)]

    looks = make_looks([*LADDER, *methods])

    assert len({(looks[method].colour, looks[method].marker) for method in methods}) == 40
    assert {looks[rung].colour for rung in LADDER} == {GREY}
    assert len({looks[rung].marker for rung in LADDER}) == len(LADDER)


def test_methods_stand_between_the_rungs():
    names = ["oracle", "neighbours", "category-hindsight", "fixed[expert=a]", *LADDER][:-2]

    assert sorted(dict.fromkeys(names), key=ladder_place) == [
        *("random", "best-single", "category-expert"),
        *("fixed[expert=a]", "neighbours", "category-hindsight", "oracle"),
    ]
    assert [is_reference(name) for name in names[:4]] == [True, False, True, True]


@pytest.mark.parametrize(
    ("mean", "n", "low", "high"),
    [(0.5, 10, 0.2366, 0.7634), (0.0, 5, 0.0, 0.4345), (1, 1, 0.2065, 1)],
)
def test_wilson_intervals_are_those_of_the_tables(mean: float, n: float, low: float, high: float):
    assert wilson_interval(mean, n) == pytest.approx((low, high), abs=1e-4)


def test_names_with_markup_or_mathematics_are_drawn_as_they_are(part: JudgedPart):
    looks = make_looks(part.row_of)
    with drawing_style():
        means = part_means(part, seed=0)
        chart = cost_chart(part, means, looks, name="c", title='a"b <i> $x$ --> &')

    assert 'aria-label="a&quot;b &lt;i&gt; $x$ --&gt; &amp;: accuracy against cost' in chart.svg
    assert "<i>" not in chart.svg


def test_the_front_holds_what_nothing_cheaper_beats(part: JudgedPart):
    with drawing_style():
        chart = cost_chart(
            part, part_means(part, seed=0), make_looks(part.row_of), name="c", title="t"
        )

    assert chart.numbers is not None
    rows = [[cell.text for cell in row] for row in chart.numbers.rows]
    points = [
        (row[2], float(row[4]), float(row[5].split()[0]))
        for row in rows
        if row[0] not in ("oracle", "category-hindsight")
    ]
    for on_front, cost, accuracy in points:
        beaten = any(
            c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for _, c, a in points
        )
        assert (on_front == "yes") == (not beaten)
    assert {row[2] for row in rows if row[0] in ("oracle", "category-hindsight")} == {""}


def test_means_by_category_have_intervals_around_them(part: JudgedPart):
    means = part_means(part, seed=0)

    assert [expert.name for expert in means.experts] == list(part.table.names)
    for mean in [
        *(e.score for e in means.experts),
        *(m for ms in means.by_category.values() for m in ms),
    ]:
        assert mean.low <= mean.value <= mean.high
        assert mean.n in (15, 30)


def test_the_worst_queries_come_first_by_loss_and_then_by_how_sure_the_router_was(part: JudgedPart):
    lost = worst_queries(part, "neighbours", 100)

    keys = [(-query.regret, -query.decision.predicted) for query in lost]
    assert keys == sorted(keys)
    assert len(lost) == (regrets(part, "neighbours") > 0).sum() > 1
    assert worst_queries(part, "oracle", 100) == ()
    assert all(query.scores[0][0] - query.decision.score == query.regret for query in lost)


def test_an_excerpt_has_no_invisible_characters():
    assert excerpt("a\u202eb\x00c\u200bd\n e") == "a b c d e"


def test_a_long_text_is_cut():
    text = excerpt("first line\n\nsecond\tline " + 300 * "x")

    assert text.startswith("first line second line xxx")
    assert text.endswith("x…")
    assert len(text) == 240


def test_a_category_of_one_query_has_a_mean_and_no_interval(tmp_path: Path):
    table = make_table()
    alone = replace(table.queries[-1], category="chess")
    make_run(tmp_path / "run", replace(table, queries=(*table.queries[:-1], alone)))
    (run,) = load_runs([tmp_path / "run"])
    assert isinstance(run, ReplayRun)

    means = part_means(run.parts[0], seed=0).by_category["oracle"]

    lone = means[run.parts[0].table.categories.index("chess")]
    assert lone.n == 1
    assert not math.isnan(lone.value)
    assert math.isnan(lone.low)
    assert math.isnan(lone.high)
    assert all(mean.low <= mean.value <= mean.high for mean in means if mean is not lone)
