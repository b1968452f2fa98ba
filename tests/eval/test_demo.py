"""The demonstration: who is right, and what is shown of it."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from rich.console import Console

from composer.orchestrator import Composer
from eval.demo import Demonstration, demonstrate
from eval.starter.items import make_items
from eval.starter.skill import Item
from eval.starter.skills import SKILLS

FIXED = {"name": "fixed", "expert": "units"}
BEST = {"name": "best"}


@pytest.fixture
def item() -> Item:
    return make_items(SKILLS["units"], "test", 1)[0]


@pytest.fixture
def experts(tmp_path: Path, item: Item) -> Path:
    """An expert that knows the answer, and a base model that does not."""
    says = {"units": item.reference, "smol": "I can help with that."}
    registry = {
        "experts": {
            name: {"engine": "scripted", "engine_args": {"text": text}}
            for name, text in says.items()
        },
        "compositions": {
            name: {"router": FIXED, "choose": {"k": 1}, "aggregator": BEST}
            for name in ("auto", "panel", "thoughts")
        },
    }
    path = tmp_path / "experts.yaml"
    path.write_text(json.dumps(registry), "utf-8")
    return path


@pytest_asyncio.fixture
async def composer(experts: Path) -> AsyncIterator[Composer]:
    async with Composer.from_yaml(experts) as made:
        yield made


async def test_the_routed_expert_and_the_base_model_are_each_marked_right_or_wrong(
    composer: Composer, item: Item
) -> None:
    out = io.StringIO()

    right = await Demonstration(composer, Console(file=out, width=200)).show_skill(item)

    assert right == (True, False)
    said = out.getvalue()
    assert f"units (right): {item.reference}" in said
    assert "smol (wrong): I can help with that." in said
    assert "fixed chose units" in said


async def test_an_answer_is_streamed_with_who_said_it(composer: Composer) -> None:
    out = io.StringIO()

    await Demonstration(composer, Console(file=out, width=200)).show("panel", "How much?")

    said = out.getvalue()
    assert "How much?" in said
    assert "units (" in said
    assert "best: " in said


async def test_all_skills_are_shown_and_the_right_answers_counted(
    experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await demonstrate(str(experts))

    last = capsys.readouterr().out.splitlines()[-1]
    assert f"of {len(SKILLS)} are right; smol alone: 0." in last
