from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery, save_table
from composer.outcomes.lint import Finding, lint_folder, lint_table

NAN = np.nan


def make_table(
    *queries: RecordedQuery, scores: Sequence[Sequence[float]], partial: Sequence[str] = ()
) -> OutcomeTable:
    names = "abc"[: len(scores[0])]
    experts = tuple(RecordedExpert(name, is_partial=name in partial) for name in names)
    return OutcomeTable("made", queries, experts, np.array(scores, np.float32))


def plain(*scores: Sequence[float], partial: Sequence[str] = ()) -> OutcomeTable:
    """As many train queries as scores, and a test query that is like none of them."""
    queries = [RecordedQuery(f"q{i}", f"What is {i}?", "train") for i in range(len(scores))]
    test = RecordedQuery("test", "Who?", "test")
    return make_table(*queries, test, scores=[*scores, [0.5, 0.25, 0.75]], partial=partial)


def found(table: OutcomeTable, kind: str) -> list[Finding]:
    return [finding for finding in lint_table(table) if finding.kind == kind]


def one(table: OutcomeTable, kind: str) -> Finding:
    (finding,) = found(table, kind)
    assert "\n" not in finding.message
    return finding


def test_nothing_is_found_where_nothing_is_odd():
    assert lint_table(plain([0, 1, 0], [1, 0, 0], [0, 0, 1])) == ()


def test_the_worst_is_said_first():
    queries = (RecordedQuery("one", "?", "train"), RecordedQuery("two", "", "train"))
    table = make_table(*queries, scores=[[1, 1], [1, NAN]])

    severities = [finding.severity for finding in lint_table(table)]

    assert set(severities) == {"error", "warning", "note"}
    assert severities == sorted(severities, key=["error", "warning", "note"].index)


@pytest.mark.parametrize("score", [-0.5, 1.5, float("inf")])
def test_scores_out_of_range_are_errors(score: float):
    finding = one(plain([0, 1, 0], [1, score, 0], [0, 0, score]), "score_range")

    assert (finding.severity, finding.rows, finding.n_rows) == ("error", ("q1", "q2"), 2)
    assert finding.message == (
        f"scores outside [0, 1]: 2, first {score:g} of 'b' for 'q1'; scale them"
    )


def test_empty_prompts_are_errors_and_no_duplicates():
    queries = [RecordedQuery(name, prompt, "train") for name, prompt in (("a", " \n"), ("b", ""))]
    table = make_table(*queries, scores=[[0, 1], [1, 0]])

    finding = one(table, "empty_prompt")

    assert (finding.severity, finding.rows, finding.n_rows) == ("error", ("a", "b"), 2)
    assert not found(table, "duplicates")


def test_missing_outcomes_are_counted_for_each_expert():
    table = plain([0, NAN, NAN], [1, 0, NAN], partial="c")

    whole, partial = found(table, "missing")

    assert (whole.severity, whole.rows, whole.n_rows) == ("warning", ("q0",), 1)
    assert whole.message.startswith("expert 'b' lacks outcomes: 1 of 3; ")
    assert (partial.severity, partial.rows) == ("note", ("q0", "q1"))
    assert partial.message == "expert 'c' lacks outcomes: 2 of 3, being partial"


def test_an_expert_without_an_outcome_is_an_error():
    table = make_table(RecordedQuery("q", "?", "train"), scores=[[0, NAN]], partial="b")

    finding = one(table, "missing")

    assert finding.severity == "error"
    assert finding.message == "expert 'b' lacks outcomes: 1 of 1; take it out"


def test_an_expert_that_never_varies_is_said():
    queries = [RecordedQuery(str(i), str(i), "train") for i in range(3)]
    table = make_table(*queries, scores=[[0.5, 0, 1], [NAN, 0, NAN], [0.5, 1, NAN]])

    finding = one(table, "constant")

    assert finding.severity == "warning"
    assert finding.message == "expert 'a' scores 0.5 on every query; was it scored?"
    assert finding.rows == ("0", "2")


def test_experts_that_score_alike_everywhere_may_be_copies():
    queries = [RecordedQuery(str(i), str(i), "train") for i in range(3)]
    table = make_table(*queries, scores=[[1, 1, 0], [0, NAN, 1], [0, 0, 0]])

    finding = one(table, "copy")

    assert finding.message == "experts 'a' and 'b' score alike on every query; is one a copy?"
    assert (finding.severity, finding.rows) == ("warning", ("0", "2"))


def test_constant_experts_are_not_taken_for_copies():
    queries = [RecordedQuery(str(i), str(i), "train") for i in range(3)]

    assert not found(make_table(*queries, scores=[[1, 1]] * 3), "copy")


def test_ties_are_counted_where_several_experts_are_known():
    table = plain([0, 0, 0], [1, NAN, 1], [0, 0, 1], [NAN, NAN, 1])

    finding = one(table, "ties")

    assert (finding.severity, finding.rows, finding.n_rows) == ("note", ("q0", "q1"), 2)
    assert finding.message.startswith("on 2 of 4 queries (50.0%) all experts score alike; ")


def test_prompts_of_train_are_leaks_elsewhere_flagged_or_not():
    flagged = RecordedQuery("flagged", "WHO?", "test", flags=frozenset({"in_train"}))
    queries = (
        RecordedQuery("train", "Who?", "train"),
        RecordedQuery("other", "How?", "test"),
        RecordedQuery("leak", " who? ", "test"),
        RecordedQuery("ood", "Who?\n", "ood"),
        flagged,
    )
    table = make_table(*queries, scores=[[0, 1]] * 5)

    unflagged, reported = found(table, "leak")

    assert (unflagged.severity, unflagged.rows) == ("warning", ("leak", "ood"))
    assert unflagged.message.endswith(
        "that is in train as well: 2; leave them out (OutcomeTable.deduplicated), or flag them"
    )
    assert (reported.severity, reported.rows) == ("note", ("flagged",))
    assert reported.message.endswith(" that is in train as well, flagged: 1; report them apart")


def test_duplicates_that_are_scored_differently_are_noise():
    queries = [
        RecordedQuery(name, prompt, "test") for name, prompt in zip("stuv", "xxyy", strict=True)
    ]
    scores = [[0, 1, 0.5], [0, 0, NAN], [1, 1, 1], [1, 1, 1]]

    finding = one(make_table(*queries, scores=scores), "duplicates")

    assert (finding.severity, finding.rows, finding.n_rows) == ("warning", ("s", "t"), 2)
    assert finding.message.startswith(
        "prompts that occur more than once: 2; in 20.0% of their cells"
    )


def test_duplicates_that_agree_are_a_note():
    queries = [RecordedQuery(name, "x", "test") for name in "st"]

    finding = one(make_table(*queries, scores=[[0, NAN], [0, 1]]), "duplicates")

    assert (finding.severity, finding.rows) == ("note", ("s", "t"))
    assert finding.message == "prompts that occur more than once: 1"


def test_a_table_needs_ordinary_rows_in_train_and_in_test():
    train = RecordedQuery("q", "?", "train", flags=frozenset({"contaminated"}))
    table = make_table(train, RecordedQuery("r", "!", "ood"), scores=[[0, 1]] * 2)

    messages = [finding.message for finding in found(table, "split")]

    assert messages == [
        "no ordinary row in 'train', so nothing to be fitted on; there are ['train', 'ood']",
        "no ordinary row in 'test', so nothing to be measured on; there are ['train', 'ood']",
    ]


def test_categories_with_few_train_rows_are_counted():
    names = ["many"] * 10 + ["few"] * 2 + ["one", None]
    queries = [RecordedQuery(str(i), str(i), "train", name) for i, name in enumerate(names)]
    table = make_table(*queries, scores=[[0, 1]] * len(names))

    finding = one(table, "few_train_rows")

    assert finding.severity == "warning"
    assert finding.message == "categories with fewer than 10 train rows: 'few' (2), 'one' (1)"
    assert (finding.rows, finding.n_rows) == (("10", "11", "12"), 3)


def test_no_category_of_test_should_be_absent_from_train():
    queries = (
        RecordedQuery("1", "1", "train", "maths"),
        RecordedQuery("2", "2", "test", "maths"),
        RecordedQuery("3", "3", "test", "law"),
        RecordedQuery("4", "4", "ood", "art"),
    )

    finding = one(make_table(*queries, scores=[[0, 1]] * 4), "unseen_category")

    assert finding.severity == "warning"
    assert finding.message == "categories that are not in train: 'art' (1), 'law' (1)"
    assert finding.rows == ("3", "4")


def test_categories_of_ood_alone_are_a_note():
    queries = (RecordedQuery("1", "1", "train", "maths"), RecordedQuery("4", "4", "ood", "art"))

    assert one(make_table(*queries, scores=[[0, 1]] * 2), "unseen_category").severity == "note"


def test_without_train_no_category_is_said_to_be_unseen():
    queries = (RecordedQuery("1", "1", "test", "maths"),)

    assert not found(make_table(*queries, scores=[[0, 1]]), "unseen_category")


def test_long_lists_are_cut_and_counted():
    queries = [RecordedQuery(str(i), str(i), "train", f"c{i:02}") for i in range(14)]

    finding = one(make_table(*queries, scores=[[0, 1]] * 14), "few_train_rows")

    assert (len(finding.rows), finding.n_rows) == (10, 14)
    assert finding.message.endswith("'c09' (1) and 4 more")


def test_a_table_without_rows_is_looked_at_too():
    findings = lint_table(plain([0, 1, 0]).rows([]))

    assert [finding.kind for finding in findings] == ["split", "split"]


def test_a_table_without_experts_is_looked_at_too():
    query = RecordedQuery("q", "?", "train")

    (finding,) = lint_table(OutcomeTable("none", (query,), (), np.zeros((1, 0), np.float32)))

    assert finding.kind == "split"


def test_what_cannot_be_read_comes_first_and_the_rest_is_looked_at(
    folder: Path, append: Callable[..., None]
):
    append("outcomes.jsonl.gz", {"query_id": "sky", "model": "bea", "score": 7}, b"?")

    findings = lint_folder(folder)

    assert [finding.kind for finding in findings[:3]] == ["unreadable", "unreadable", "missing"]
    assert [finding.severity for finding in findings[:2]] == ["error", "error"]
    assert findings[0].message.startswith(f"{folder}/outcomes.jsonl.gz:5: 'score': input should")
    assert findings[1].message.startswith(f"{folder}/outcomes.jsonl.gz:6: invalid JSON")


def test_many_broken_lines_are_counted(folder: Path, append: Callable[..., None]):
    append("queries.jsonl.gz", *[b"{}"] * 1030)

    findings = [finding for finding in lint_folder(folder) if finding.kind == "unreadable"]

    assert len(findings) == 21
    assert findings[-1].message == f"{folder}: 1,010 more problems; mend these first"


def test_a_folder_of_which_nothing_can_be_read_is_one_finding(folder: Path):
    (folder / "queries.jsonl.gz").write_bytes(b"plain")

    (finding,) = lint_folder(folder)

    assert (finding.kind, finding.severity) == ("unreadable", "error")
    assert finding.message.startswith(f"{folder}/queries.jsonl.gz: cannot be read (")


def test_partial_experts_are_looked_at_on_request(folder: Path):
    def names(**options: Any) -> bool:
        return any("'eve'" in finding.message for finding in lint_folder(folder, **options))

    assert (names(), names(partial=True)) == (False, True)


def test_a_saved_table_is_looked_at_as_well(tmp_path: Path):
    save_table(plain([0, 1, 0], [1, 0, NAN]), tmp_path)

    assert [finding.kind for finding in lint_folder(tmp_path)] == ["missing"]


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^no folder '.*nowhere'; name one with recorded"):
        lint_folder(tmp_path / "nowhere")
