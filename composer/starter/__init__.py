"""What comes with the package to begin with: labelled cases, and how the starter experts did."""

from pathlib import Path

CASES = Path(__file__).parent / "cases.jsonl"
OUTCOMES = Path(__file__).parent / "outcomes"
