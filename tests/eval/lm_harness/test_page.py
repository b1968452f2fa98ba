"""The page on the harness shows a task that works."""

import re
from pathlib import Path

import pytest

from composer.experts import load_experts
from eval.lm_harness.tasks import check_tasks, load_tasks
from tests.eval.lm_harness.conftest import experts_text

PAGE = Path(__file__).parents[3] / "docs" / "lm-harness.md"


def test_the_task_of_the_page_can_be_done_by_any_composition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(
        r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    (line,) = re.findall(r'# (\{"question".*\})$', block, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    Path("sums.yaml").write_text(block, "utf-8")
    Path("sums.jsonl").write_text(line, "utf-8")
    Path("experts.yaml").write_text(experts_text({"text": "42"}, {"text": "7"}), "utf-8")

    (task,) = load_tasks(["sums.yaml"], None).tasks

    check_tasks([task], load_experts("experts.yaml"), "vote")
    (document,) = task.test_docs()
    assert task.doc_to_text(document) == "What is 17 + 25? End with: The answer is N."
    assert task.doc_to_target(document) == "42"
