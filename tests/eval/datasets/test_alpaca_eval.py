from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.eval.datasets.conftest import Importing


def annotation(
    instruction: str, model: str, preference: float | None, **more: Any
) -> dict[str, Any]:
    return {
        "instruction": instruction,
        "dataset": "koala",
        "output_1": f"the reference on {instruction}",
        "generator_1": "ref",
        "output_2": f"{model} on {instruction}",
        "generator_2": model,
        "annotator": "judge",
        "preference": preference,
        "price_per_example": 0.02,
    } | more


def test_a_score_is_how_surely_the_model_is_preferred(importing: Importing) -> None:
    src = importing.json("annotations.json", [annotation("q", "m", 1.75), annotation("r", "m", 1)])

    table = importing.table("alpaca-eval", src)

    assert table.names == ("m", "ref")
    assert table.score.tolist() == [[0.75, 0.5], [0, 0.5]]
    assert [(query.prompt, query.category) for query in table.queries] == [
        ("q", "koala"),
        ("r", "koala"),
    ]
    assert table.texts is not None
    assert table.texts[0].tolist() == ["m on q", "the reference on q"]
    assert table.cost_usd is None


def test_models_of_several_files_share_the_reference(importing: Importing) -> None:
    importing.json("results/m/judge/annotations.json", [annotation("q", "m", 2)])
    importing.json("results/n/judge/annotations.json", [annotation("q", "n", 1.25)])
    importing.json("results/n/model_outputs.json", [{"instruction": "q", "output": "..."}])
    importing.json("results/ref/judge/annotations.json", [annotation("q", "ref", 1.5)])

    assert importing.scores("alpaca-eval", importing.folder / "results") == {
        "q": {"m": 1, "n": 0.25, "ref": 0.5}
    }


def test_a_reference_that_says_different_things_is_left_out(importing: Importing) -> None:
    src = importing.json(
        "annotations.json",
        [annotation("q", "m", 2), annotation("q", "n", 1.5, output_1="something else")],
    )

    result = importing.done("alpaca-eval", src)

    assert "the outputs of the reference 'ref' differ: it is left out" in result.stderr
    assert importing.scores("alpaca-eval", src, "--force") == {"q": {"m": 1, "n": 0.5}}


def test_two_references_are_refused(importing: Importing) -> None:
    src = importing.json(
        "annotations.json", [annotation("q", "m", 2), annotation("q", "n", 1, generator_1="old")]
    )

    assert importing.refusal("alpaca-eval", src) == (
        f"{src}: record 2: 'generator_1': 'old', and 'ref' before; import the comparisons with one "
        "reference at a time"
    )


def test_no_preference_is_a_missing_cell_and_0_is_an_old_draw(importing: Importing) -> None:
    src = importing.json("annotations.json", [annotation("q", "m", None), annotation("q", "n", 0)])

    assert importing.scores("alpaca-eval", src) == {"q": {"n": 0.5, "ref": 0.5}}


def test_a_preference_outside_its_range_is_refused(importing: Importing) -> None:
    src = importing.json("annotations.json", [annotation("q", "m", 2.5)])

    assert importing.refusal("alpaca-eval", src) == (
        f"{src}: record 1: 'preference': 2.5 is outside 1..2; mend the record"
    )


def test_one_of_several_judges_must_be_chosen(importing: Importing) -> None:
    src = importing.json(
        "annotations.json", [annotation("q", "m", 2), annotation("q", "m", 1, annotator="other")]
    )

    message = importing.refusal("alpaca-eval", src)

    assert message.endswith("several annotators, ['judge', 'other']; choose by --annotator")
    assert importing.scores("alpaca-eval", src, "--annotator", "other")["q"]["m"] == 0


def test_files_in_folders_of_the_judges_name_are_enough(importing: Importing) -> None:
    importing.json("results/m/judge/annotations.json", [annotation("q", "m", 2)])
    importing.text("results/m/other/annotations.json", "broken")

    scores = importing.scores("alpaca-eval", importing.folder / "results", "--annotator", "judge")

    assert scores["q"]["m"] == 1


def test_a_judge_that_there_is_not_is_met_with_a_suggestion(importing: Importing) -> None:
    src = importing.json("annotations.json", [annotation("q", "m", 2)])

    assert importing.refusal("alpaca-eval", src, "--annotator", "jugde") == (
        "--annotator: no annotator 'jugde'; did you mean 'judge'? choose from ['judge']"
    )
