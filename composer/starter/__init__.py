"""What comes with the package: specialists, labelled cases, and how experts did on them."""

from pathlib import Path

CASES = Path(__file__).parent / "cases.jsonl"
OUTCOMES = Path(__file__).parent / "outcomes"
