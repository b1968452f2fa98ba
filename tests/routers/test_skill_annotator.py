from __future__ import annotations

import json

import pytest

from composer.flow import FlowRun
from composer.types import (
    Annotation,
    Completion,
    Failure,
    Message,
    Outcome,
    Query,
    Request,
    Sample,
)
from routers.skill.annotator import SCHEMA, infer_skills, parse_skills, repeated_skills

QUERY = Query("q7", (Message("user", "What is 6 x 7?"),))


def ask(*texts: str, constrained: bool = False) -> tuple[Request, Annotation]:
    """What is asked, and the annotation made of these replies; none: the expert fails."""
    run = FlowRun(infer_skills(QUERY, "ann", samples=5, constrained=constrained))
    (request,) = run.start()
    outcome: Outcome = Failure(request.id, "ann", "timeout", "too late")
    if texts:
        samples = tuple(Sample(text, "stop", 3) for text in texts)
        outcome = Completion(request.id, "ann", samples, prompt_tokens=9)
    run.deliver([outcome])
    return request, run.result


def test_one_request_asks_for_all_samples():
    request, _ = ask("Skills: algebra")

    assert (request.id, request.expert, request.purpose) == (
        "q7/annotate/skill/ann",
        "ann",
        "annotate",
    )
    assert (request.sampling.n, request.sampling.temperature) == (5, 0.7)
    assert request.messages[-1].content.endswith("Question: What is 6 x 7?")
    assert request.schema is None


def test_the_seed_is_of_the_query():
    other = Query("q8", QUERY.messages)
    first, second, third = (
        FlowRun(infer_skills(query, "ann", samples=5, constrained=False)).start()[0].sampling.seed
        for query in (QUERY, QUERY, other)
    )

    assert first == second != third


def test_constrained_replies_are_held_to_the_schema():
    request, annotation = ask(*[json.dumps({"skills": ["Algebra"]})] * 2, constrained=True)

    assert request.schema == SCHEMA
    assert "JSON" in request.messages[-1].content
    assert annotation.values == {"skills": ["algebra"]}


def test_skills_of_several_samples_are_kept_in_the_order_of_first_appearance():
    _, annotation = ask("Skills: law, algebra", "Skills: algebra, music", "Skills: law")

    assert annotation.values == {"skills": ["law", "algebra"]}


def test_a_failed_expert_leaves_no_skills_and_its_words():
    _, annotation = ask()

    assert annotation.values == {"skills": [], "skills_failure": "'ann' failed: too late"}


def test_a_sample_that_repeats_itself_is_no_second_opinion():
    assert repeated_skills(["law, law", "music"]) == []


def test_of_a_single_sample_all_skills_are_kept():
    assert repeated_skills(["law, music"]) == ["law", "music"]


@pytest.mark.parametrize(
    "text",
    [
        "Skills: algebra, contract law",
        "algebra, contract law.",
        "The keywords are below.\n**Keywords:** Algebra, Contract Law",
        "Skills:\n- algebra\n- contract law",
        "Skills:\n1. algebra\n2) contract law",
        "Skills: algebra; contract law\n\nI chose these, as they fit.",
        "<think>skills: music, maybe</think>Skills: algebra, contract law",
        'Sure: {"skills": ["algebra", "contract law"]}',
        "skills\uff1aalgebra\uff0ccontract law",
    ],
)
def test_replies_of_many_forms_are_read(text: str):
    assert parse_skills(text) == ["algebra", "contract law"]


@pytest.mark.parametrize(
    "text",
    ["", "Skills:", '{"skills": "algebra"}}', '{"skills": [1, null]}', "[[]]", "a" * 21, "{}"],
)
def test_replies_without_a_skill_give_none(text: str):
    assert [skill for skill in parse_skills(text) if "algebra" not in skill] == []


def test_a_skill_of_twenty_characters_is_kept():
    assert parse_skills("Skills: " + "a" * 20) == ["a" * 20]
