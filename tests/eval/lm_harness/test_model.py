import json
import re
from pathlib import Path
from typing import Any

import pytest

from composer.errors import AggregationError, ConfigError, ExpertError
from tests.eval.lm_harness.conftest import MakeModel, generate, score


def asked(folder: Path) -> list[dict[str, Any]]:
    """The bodies of what was asked."""
    (file,) = folder.glob("asked/*/queries.jsonl")
    return [json.loads(line)["body"] for line in file.read_text("utf-8").splitlines()]


def test_answers_come_in_the_order_of_the_requests(model_of: MakeModel) -> None:
    model = model_of({"text": "Hm", "replies": {"rain": "Drip", "sum": "42"}})

    texts = model.generate_until([generate("a sum"), generate("the rain"), generate("why?")])

    assert texts == ["42", "Drip", "Hm"]


def test_a_text_ends_before_the_first_stop_whoever_wrote_it(model_of: MakeModel) -> None:
    model = model_of({"text": "It is 7. Question: and 9? Answer: 9"})

    texts = model.generate_until([generate("why?", until=["Answer:", "", " Question:"])])

    assert texts == ["It is 7."]


def test_a_text_is_no_longer_than_the_request_says(model_of: MakeModel) -> None:
    model = model_of({"text": "one two three four"})

    assert model.generate_until([generate("why?", max_gen_toks=2)]) == ["one two"]


def test_a_request_says_how_its_text_is_drawn(model_of: MakeModel, tmp_path: Path) -> None:
    model = model_of({"text": "Hm"})

    model.generate_until(
        [
            generate("a", until="Q:", temperature=0.7),
            generate("b", do_sample=True, temperature=0.7, top_p=0.9, seed=3, max_new_tokens=5),
            generate("c", do_sample=False, temperature=0.7),
        ]
    )

    common = {"stop": ["\n\n"], "max_tokens": 256}
    assert [{k: v for k, v in body.items() if k != "messages"} for body in asked(tmp_path)] == [
        {"stop": ["Q:"], "max_tokens": 256, "temperature": 0.7},
        {**common, "max_tokens": 5, "temperature": 0.7, "top_p": 0.9, "seed": 3},
        {**common, "temperature": 0.0},
    ]
    assert asked(tmp_path)[0]["messages"] == [{"role": "user", "content": "a"}]


def test_settings_that_are_not_taken_over_are_counted(model_of: MakeModel) -> None:
    model = model_of({"text": "Hm"})

    model.generate_until([generate("a", top_k=3), generate("b", top_k=3), generate("c")])

    assert model.ignored == {"top_k": 2}
    assert model.get_model_info()["ignored_settings"] == {"top_k": 2}


def test_a_setting_that_cannot_be_is_refused(model_of: MakeModel) -> None:
    model = model_of({"text": "Hm"})

    with pytest.raises(ConfigError, match="temperature"):
        model.generate_until([generate("a"), generate("b", do_sample=True, temperature=-1.0)])


def test_a_request_that_failed_has_an_empty_text_and_is_counted(model_of: MakeModel) -> None:
    script = {"text": "Hm", "failures": {"sum": "refused"}}
    model = model_of(script, poet=script)

    texts = model.generate_until([generate("a poem"), generate("a sum")])

    assert texts == ["Hm", ""]
    assert [failure.count("as its script says") for failure in model.failures] == [2]
    assert model.get_model_info() == {
        "composition": "alone",
        "failed_requests": 1,
        "ignored_settings": {},
    }


def test_nothing_answered_is_an_error(model_of: MakeModel) -> None:
    script = {"failures": {"a": "refused"}}
    model = model_of(script, poet=script)

    with pytest.raises(AggregationError, match=r"^no request was answered; the first: no expert"):
        model.generate_until([generate("a poem")])


def test_the_same_request_asked_twice_is_answered_twice(model_of: MakeModel) -> None:
    model = model_of({"text": "Hm"})

    assert model.generate_until([generate("a"), generate("a")]) == ["Hm", "Hm"]


def test_the_same_requests_are_not_asked_again_and_others_are(
    model_of: MakeModel, tmp_path: Path
) -> None:
    script = {"text": "Hm", "log": str(tmp_path / "log")}
    requests = [generate("a"), generate("b")]
    first = model_of(script).generate_until(requests)

    second = model_of(script).generate_until(requests)
    third = model_of(script).generate_until(requests[:1])

    assert (first, second, third) == (["Hm", "Hm"], ["Hm", "Hm"], ["Hm"])
    assert len((tmp_path / "log").read_text("utf-8").split()) == 3


def test_options_are_scored_by_the_one_expert_of_a_composition(model_of: MakeModel) -> None:
    model = model_of({"text": "Hm", "logprob": -0.25})

    found = model.loglikelihood([score("why?", " yes"), score("why?", " not at all")])

    assert found == [(-0.25, False), (-0.75, False)]


def test_scores_are_kept_and_only_failed_ones_asked_again(
    model_of: MakeModel, tmp_path: Path
) -> None:
    script = {"text": "Hm", "log": str(tmp_path / "log")}
    requests = [score("a poem", " yes"), score("a sum", " yes")]
    with pytest.raises(ExpertError) as refusal:
        model_of(script | {"failures": {"sum": "refused"}}).loglikelihood(requests)

    assert str(refusal.value) == (
        "expert 'clerk': 1 of 2 texts have no likelihood: as its script says"
    )
    # Another script is another engine, and journals hold outcomes of one.
    with pytest.raises(ConfigError, match="was asked with other engine settings"):
        model_of(script).loglikelihood(requests)


def test_scores_that_are_there_are_not_asked_for_again(model_of: MakeModel, tmp_path: Path) -> None:
    script = {"text": "Hm", "log": str(tmp_path / "log")}
    requests = [score("a", " yes"), score("b", " yes")]

    assert model_of(script).loglikelihood(requests) == model_of(script).loglikelihood(requests)
    assert len((tmp_path / "log").read_text("utf-8").split()) == 2


@pytest.mark.parametrize("composition", ["clerk", "alone"])
def test_an_expert_and_a_composition_of_it_alone_score_alike(
    model_of: MakeModel, composition: str
) -> None:
    model = model_of({"text": "Hm"}, composition)

    assert model.loglikelihood([score("why?", " yes")]) == [(-0.5, False)]


def test_a_composition_of_several_experts_scores_nothing(model_of: MakeModel) -> None:
    model = model_of({"text": "Hm"}, "vote")

    with pytest.raises(ConfigError, match=re.escape("take one of the experts ['clerk', 'poet']")):
        model.loglikelihood([score("why?", " yes")])


def test_the_likelihood_of_whole_texts_is_refused(model_of: MakeModel) -> None:
    with pytest.raises(ConfigError, match="output_type: generate_until"):
        model_of({"text": "Hm"}).loglikelihood_rolling([])
