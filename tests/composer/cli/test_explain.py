from __future__ import annotations

from io import StringIO

from rich.console import Console

from composer.cli.explain import show_answer, show_selection
from composer.types import Answer, Choice, Completion, Evidence, Failure, Sample, Selection

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


def told(**parts: object) -> str:
    """How an answer came about, as it is shown."""
    answer = Answer("q", "B", "ada", "vote", "stop", "2 of 3 votes", **parts)  # pyright: ignore[reportArgumentType]
    stream = StringIO()
    show_answer(Console(file=stream, width=160), answer)
    return stream.getvalue()


def test_an_explained_answer_says_who_said_what_to_which_request():
    samples = (Sample("It is\n(B).", "stop", 4), Sample("Or [bold](C)[/bold]?", "stop", 4))

    text = told(completions=(Completion("q/propose/ada", "ada", samples, 9),))

    assert "ada said to propose/ada: 'It is (B).'" in text
    assert "ada said to propose/ada: 'Or [bold](C)[/bold]?'" in text


def test_an_explained_answer_gives_the_aggregators_account_line_by_line():
    details = {
        "tally": {"B": ("ada", "bo"), "C": ()},
        "posterior": 0.91234,
        "late": {"x": {"y": 1}},
    }

    lines = [line.strip() for line in told(details=details).splitlines()]

    assert {"B: ada, bo", "C: none", "posterior: 0.9123", "x: y 1"} <= set(lines)


def test_an_explained_answer_says_whom_it_asked_and_whom_it_did_not_need():
    failure = Failure("q/propose/bo", "bo", "timeout", "too [slow]")

    text = told(asked=("ada", "bo"), saved=("cy",), failures=(failure,))

    assert "asked ada, bo; saved cy" in text
    assert "failed: bo (timeout): too [slow]" in text
