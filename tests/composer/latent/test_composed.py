"""A group inside a composition: real runners, online and in bulk, tiny models."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from composer.orchestrator import Composer
from composer.types import Answer, Delta
from tests.composer.latent.groups import PROMPTS, save_group

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

EXPERTS = """\
experts:
  llama: {source: llama}
  gemma: {source: gemma}
  both:
    engine: latent
    members: [llama, gemma]
    source: trained
    engine_args: {dtype: float32}
    sampling: {max_tokens: 12}
    price: {output_usd_per_mtok: 1}
compositions:
  thoughts:
    router: {name: fixed, expert: llama}
    aggregator: {name: cross-attention, by: both}
pool: {memory_gib: 6, cores: 1, warm_spares: 0}
"""


@pytest.fixture
async def composer(tmp_path: Path) -> AsyncGenerator[Composer]:
    """Two tiny models that only their group loads."""
    save_group(tmp_path, ["llama", "gemma"])
    (tmp_path / "experts.yaml").write_text(EXPERTS, "utf-8")
    async with Composer.from_yaml(tmp_path / "experts.yaml", cache=tmp_path / "cache") as made:
        yield made


async def test_a_group_answers_online_and_in_bulk_and_is_loaded_as_one(
    composer: Composer, tmp_path: Path
) -> None:
    online = await composer.ask(PROMPTS[0], composition="thoughts")
    streamed = [e async for e in composer.stream(PROMPTS[0], composition="thoughts")]
    by_name = await composer.ask(PROMPTS[0], composition="both")
    queries = tmp_path / "queries.jsonl"
    lines = [json.dumps({"id": f"q{i}", "prompt": text}) for i, text in enumerate(PROMPTS)]
    queries.write_text("\n".join(lines) + "\n", "utf-8")
    batch = await composer.batch(queries, "thoughts", tmp_path / "run")

    assert online.asked == ("both", "llama", "gemma")
    assert online.details == {"primary": "llama", "peers": ["gemma"]}
    assert online.completions[0].runner == "fresh"
    assert online.cost_usd == pytest.approx(online.completion_tokens / 1e6)
    assert isinstance(streamed[-1], Answer)
    assert "".join(e.text for e in streamed if isinstance(e, Delta)) == streamed[-1].text
    assert online.text == streamed[-1].text == by_name.text
    assert (batch.n_answered, batch.n_failed) == (len(PROMPTS), 0)
    assert batch.loads == 0
    rows = [json.loads(row) for row in batch.results.read_text("utf-8").splitlines()]
    answers = {row["id"]: row for row in rows}
    assert answers["q0"]["answer"] == online.text
