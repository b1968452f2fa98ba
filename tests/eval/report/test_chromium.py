"""The report as a browser shows it."""

from __future__ import annotations

import html
import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from eval.report.load import load_runs
from eval.report.render import to_html
from eval.report.sections import make_page
from tests.eval.report.conftest import make_run, make_table

CHROMIUM = shutil.which("chromium")
LONG = "neighbours[k=5,temperature=0.1]"
PRINTED_PX = 703
"""The width of a sheet of A4 between its margins."""
MEASURE = """
<script>
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const sized = (e) => e.scrollWidth > e.clientWidth + 1;
const names = (svg) => all('g[id*="-text_"]', svg).map((g) => g.getBoundingClientRect());
const inside = (box, room) => box.left >= room.left - 1 && box.right <= room.right + 1
  && box.top >= room.top - 1 && box.bottom <= room.bottom + 1;
const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
  && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
const shown = all('svg');
document.body.innerHTML = '<pre id="measured">' + JSON.stringify({
  tables: all('table').length,
  charts: shown.length,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  scrolling: all('.wide').filter(sized).length,
  cut: all('td, th, caption, figcaption, p, h1, h2').filter(sized).map((e) => e.textContent),
  outside: shown.flatMap((svg) =>
    names(svg).filter((box) => !inside(box, svg.getBoundingClientRect()))).length,
  overlapping: shown.flatMap((svg) => { const boxes = names(svg);
    return boxes.filter((a, i) => boxes.slice(i + 1).some((b) => meet(a, b))); }).length,
  names: shown.map((svg) => names(svg).length),
  chart_px: Math.min(...shown.map((svg) =>
    8 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)),
  text_px: Math.min(...all('body *').map((e) => parseFloat(getComputedStyle(e).fontSize))),
}) + '</pre>';
</script>
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, run: Path, pair: Path) -> str:
    """A report on two replays and a pair."""
    folder = tmp_path_factory.mktemp("runs") / "second"
    other = make_run(folder, make_table(), ["random", "best-single", LONG, "oracle"])
    return to_html(make_page(load_runs([run, other, pair])))


def chromium(folder: Path, file: Path, *flags: str) -> str:
    """What it prints of a page."""
    assert CHROMIUM is not None
    profile = f"--user-data-dir={folder / 'profile'}"
    quiet = ("--headless", "--no-sandbox", "--disable-background-networking", "--no-first-run")
    command = [CHROMIUM, *quiet, profile, *flags, file.as_uri()]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return run.stdout


@pytest.mark.parametrize(
    ("width", "media"), [(1280, "screen"), (800, "screen"), (PRINTED_PX, "print")]
)
def test_everything_can_be_read_and_nothing_is_cut_off(
    tmp_path: Path, page: str, width: int, media: str
):
    file = tmp_path / "measured.html"
    measured = page.replace("</body>", f"{MEASURE}</body>")
    if media == "print":
        measured = measured.replace("@media print", "@media all")
    file.write_text(measured, encoding="utf-8")

    dom = chromium(tmp_path, file, f"--window-size={width},900", "--dump-dom")
    (text,) = re.findall(r'<pre id="measured">(.*?)</pre>', dom, re.DOTALL)
    found: dict[str, Any] = json.loads(html.unescape(text))

    assert found["tables"] == page.count("<table>")
    assert found["charts"] == page.count("<svg") == 7
    assert found["overflow"] <= 0
    assert (found["scrolling"], found["cut"]) == (0, [])
    assert (found["outside"], found["overlapping"]) == (0, 0)
    assert min(found["names"]) >= 10
    assert found["chart_px"] >= 9
    assert found["text_px"] >= 9


def test_the_page_is_painted(tmp_path: Path, page: str):
    file, picture = tmp_path / "report.html", tmp_path / "report.png"
    file.write_text(page, encoding="utf-8")

    chromium(tmp_path, file, "--window-size=1280,2400", f"--screenshot={picture}")

    data = picture.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1280, 2400)
    assert len(data) > 50_000
