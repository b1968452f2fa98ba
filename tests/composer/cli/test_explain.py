from __future__ import annotations

from io import StringIO

from rich.console import Console

from composer.cli.explain import show_selection
from composer.types import Choice, Evidence, Selection

NEAREST = {
    "id": "q7",
    "prompt": "What is [b]two[/b] plus two?",
    "similarity": 0.8125,
    "scores": {"bo": 1.0, "ada": 0.25},
}


def shown(details: dict[str, object], *, explain: bool) -> str:
    choice = Choice("ada", 0.5, 0.5, lambda: Evidence("near an example", details))
    selection = Selection("q", "told", (choice,), ("ada", "bo"), ("ada", "bo"), (0.5, 0.25), "best")
    stream = StringIO()
    show_selection(Console(file=stream, width=120), selection, explain=explain)
    return stream.getvalue()


def test_the_nearest_recorded_queries_are_shown_with_what_each_expert_scored() -> None:
    assert (
        "nearest (0.81): 'What is [b]two[/b] plus two?': ada 0.25, bo 1.00"
        in shown({"nearest": [NEAREST]}, explain=True).splitlines()
    )


def test_they_are_not_shown_unless_asked_for() -> None:
    assert "nearest" not in shown({"nearest": [NEAREST]}, explain=False)


def test_evidence_without_any_is_shown_as_it_is() -> None:
    text = shown({}, explain=True)

    assert "near an example" in text
    assert "nearest (" not in text
