import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jsonschema import Draft202012Validator  # pyright: ignore[reportMissingTypeStubs]
from pydantic import ValidationError

from composer.errors import ConfigError
from composer.experts import (
    ChooseRule,
    Expert,
    PoolSettings,
    Price,
    Registry,
    RouterConfig,
    SamplingDefaults,
    check_experts,
    experts_schema,
    load_experts,
    resolve_secret,
    unset_secrets,
)
from composer.types import Member, Sampling

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "experts.yaml"
SCHEMA = ROOT / "docs" / "experts.schema.json"

PAIR = """\
experts:
  one: {source: org/one}
  two: {source: org/two}
"""
FAMILY = """\
experts:
  chat: {source: org/chat, engine_args: {max_model_len: 64}, chat_template: "{{ messages }}"}
  units: {base: chat, adapter: adapters/units}
  dates: {base: chat, adapter: adapters/dates}
  other: {source: org/chat}
"""
REMOTE = """\
experts:
  remote:
    engine: openai
    base_url: https://example.org/v1
    model: large
    api_key: os.environ/SOME_KEY
    engine_args: {max_retries: 4}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "experts.yaml"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path, text: str) -> list[str]:
    return [line.removeprefix(f"{path}:") for line in check_experts(write(path, text))]


def schema_errors(text: str) -> Sequence[object]:
    validator = Draft202012Validator(experts_schema())
    return list(validator.iter_errors(yaml.safe_load(text)))  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType,reportUnknownArgumentType]


def test_the_starter_pool_is_right_and_holds_what_it_teaches() -> None:
    assert check_experts(STARTER) == []
    registry = load_experts(STARTER)
    specialists = ["units", "dates", "sorting", "reversing", "roman"]
    assert list(registry.experts) == ["smol", "gemma", *specialists, "thinkers"]
    assert {registry.experts[name].base for name in specialists} == {"smol"}
    assert list(registry.compositions) == ["auto", "panel", "vote", "thoughts"]
    assert all(len(expert.examples) >= 6 for expert in registry.routed.values())
    assert registry.pool == PoolSettings(memory_gib=12, cores=2, busy_engines=1, warm_spares=1)
    assert registry.path == STARTER


@pytest.mark.parametrize("trims", [True, False])
def test_the_starter_template_asks_a_base_model_questions(trims: bool) -> None:
    template = load_experts(STARTER).experts["gemma"].chat_template
    assert template is not None
    environment = ImmutableSandboxedEnvironment(trim_blocks=trims, lstrip_blocks=trims)
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Capital of Norway?"},
        {"role": "assistant", "content": "Oslo."},
        {"role": "user", "content": "And of Peru?"},
    ]
    render = environment.from_string(template).render
    shown = render(bos_token="<bos>", messages=[])
    assert shown.startswith("<bos>Question: What is 12 + 9? Give only the number.\nAnswer: 21\n\n")
    assert shown.endswith("\n\n")
    assert render(bos_token="<bos>", messages=conversation) == (
        f"{shown}Be brief.\n\nQuestion: Capital of Norway?\nAnswer: Oslo.\n\n"
        "Question: And of Peru?\nAnswer:"
    )
    assert render(bos_token="<bos>", messages=conversation[1:2]) == (
        f"{shown}Question: Capital of Norway?\nAnswer:"
    )


def test_no_question_of_the_starter_cases_is_solved_in_the_template() -> None:
    template = load_experts(STARTER).experts["gemma"].chat_template or ""
    cases = STARTER.parent / "composer" / "starter" / "cases.jsonl"
    prompts = [json.loads(line)["prompt"] for line in cases.read_text("utf-8").splitlines()]
    assert prompts
    assert not [prompt for prompt in prompts if prompt.splitlines()[0] in template]


def test_the_starter_names_its_schema_on_the_first_line() -> None:
    first = STARTER.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA.relative_to(ROOT)}"


def test_the_published_schema_is_current() -> None:
    published = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert published == experts_schema(), (
        "write it anew: python -c 'import json; from composer.experts import experts_schema; "
        f"print(json.dumps(experts_schema(), indent=2))' > {SCHEMA.relative_to(ROOT)}"
    )


def test_the_schema_describes_every_key() -> None:
    for name, model in experts_schema()["$defs"].items():
        for key, value in model["properties"].items():
            assert value.get("description"), f"{name}.{key}"


@pytest.mark.parametrize(
    "text", [STARTER.read_text(encoding="utf-8"), FAMILY, REMOTE], ids=["starter", "lora", "remote"]
)
def test_the_schema_accepts_what_is_right(text: str) -> None:
    assert schema_errors(text) == []


@pytest.mark.parametrize(
    "choose",
    [
        "{}",
        "{threshold: null}",
        "{threshold: 0.5, fallback: a}",
        "{threshold: 0.5, abstain: true}",
        "{threshold: 0.5, fallback: a, abstain: true}",
        "{fallback: a, abstain: false}",
    ],
)
def test_the_schema_accepts_every_rule_that_the_reader_accepts(path: Path, choose: str) -> None:
    text = f"""
experts: {{a: {{source: x}}}}
compositions: {{c: {{router: {{name: x}}, choose: {choose}}}}}
"""
    assert schema_errors(text) == []
    assert problems(path, text) == []


@pytest.mark.parametrize(
    "text",
    [
        "experts: {}",
        "experts: {a: {source: x, skils: []}}",
        "experts: {a: {name: a, source: x}}",
        "experts: {'a b': {source: x}}",
        "experts: {a: {engine: openai, api_key: sk-123}}",
        "experts: {a: {source: x}}\ncompositions: {c: {router: {name: x, from: y}}}",
        "experts: {a: {source: x}}\ncompositions: {c: {router: {name: x}, choose: {k: 0}}}",
        *(
            f"experts: {{a: {{source: x}}}}\ncompositions: {{c: {{router: {{name: x}}, {choose}}}}}"
            for choose in (
                "choose: {threshold: 0.5}",
                "choose: {threshold: 0.5, fallback: null, abstain: false}",
                "choose: {abstain: true, fallback: a}",
            )
        ),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(path: Path, text: str) -> None:
    assert schema_errors(text) != []
    assert problems(path, text) != []


def test_settings_of_routers_and_aggregators_pass_through(path: Path) -> None:
    text = PAIR + (
        "compositions:\n"
        "  c:\n"
        "    router: {from: profiles/x, depth: 3}\n"
        "    aggregator: {name: synthesis, by: two, experts: [one, two]}\n"
    )
    composition = load_experts(write(path, text)).compositions["c"]
    assert composition.router.from_ == "profiles/x"
    assert composition.router.settings == {"depth": 3}
    assert composition.aggregator.settings == {"by": "two", "experts": ["one", "two"]}
    assert composition.choose == ChooseRule()


def test_sections_that_hold_only_comments_are_left_out(path: Path) -> None:
    registry = load_experts(write(path, PAIR + "compositions:\n  # none yet\npool:\n"))
    assert registry.compositions == {}
    assert registry.pool == PoolSettings()


def test_entries_are_frozen_and_refuse_unknown_keys() -> None:
    expert = Expert(name="a", source="x")
    with pytest.raises(ValidationError):
        expert.name = "b"
    with pytest.raises(ValidationError):
        Expert.model_validate({"name": "a", "skils": ["x"]})
    with pytest.raises(ValidationError):
        RouterConfig(name="a", from_="b")


def test_weights_run_in_a_process_of_their_own_unless_told_otherwise() -> None:
    assert Expert(name="a").resolved_runner == "ray"
    assert Expert(name="a", runner="inline").resolved_runner == "inline"
    assert Expert(name="a", engine="openai").resolved_runner == "inline"
    assert Expert(name="a", engine="scripted", runner="ray").resolved_runner == "ray"


def test_sampling_defaults_leave_open_what_they_do_not_say() -> None:
    defaults = SamplingDefaults.model_validate({"stop": ["\n"], "max_tokens": 9})
    assert defaults.to_sampling() == Sampling(stop=("\n",), max_tokens=9)


@given(st.floats(0, 100), st.floats(0, 100), st.integers(0, 10**7), st.integers(0, 10**7))
def test_cost_is_linear_in_tokens(dear: float, cheap: float, prompt: int, generated: int) -> None:
    price = Price(input_usd_per_mtok=cheap, output_usd_per_mtok=dear)
    assert price.cost_usd(0, 0) == 0
    assert price.cost_usd(1_000_000, 0) == pytest.approx(cheap)
    assert price.cost_usd(prompt, generated) == pytest.approx(
        price.cost_usd(prompt, 0) + price.cost_usd(0, generated)
    )


@pytest.fixture
def family(path: Path) -> Registry:
    """A chat model with two adapters, and another expert of the same weights."""
    return load_experts(write(path, FAMILY))


def test_adapters_and_their_base_are_one_engine(family: Registry) -> None:
    spec = family.engine_spec("chat")
    assert spec == family.engine_spec("units") == family.engine_spec("dates")
    assert spec.experts == ("chat", "units", "dates")
    assert spec.adapters == {"units": "adapters/units", "dates": "adapters/dates"}
    assert (spec.engine, spec.runner, spec.source) == ("vllm", "ray", "org/chat")
    assert spec.engine_args == {"max_model_len": 64}
    assert spec.chat_template == "{{ messages }}"
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_group_is_an_engine_of_its_own_that_routers_do_not_choose(path: Path) -> None:
    group = "  all: {engine: latent, source: org/trained, members: [units, other]}\n"
    registry = load_experts(write(path, FAMILY + group))

    spec = registry.engine_spec("all")
    assert (spec.engine, spec.runner, spec.experts) == ("latent", "ray", ("all",))
    assert spec.members == (
        Member("units", "org/chat", adapter="adapters/units", chat_template="{{ messages }}"),
        Member("other", "org/chat"),
    )
    assert spec.chat_template == "{{ messages }}"
    assert set(registry.routed) == set(registry.experts) - {"all"}
    fallback = "compositions: {c: {router: {name: fixed}, choose: {threshold: 0, fallback: all}}}"
    assert problems(path, FAMILY + group + fallback) == [
        "7: composition 'c': 'choose.fallback' names no expert: 'all'; "
        "choose from ['chat', 'dates', 'other', 'units']"
    ]


def test_other_members_or_templates_make_another_engine(path: Path) -> None:
    def key(members: str, template: str = "a") -> str:
        text = (
            f"experts:\n  one: {{source: x, chat_template: {template}}}\n  two: {{source: y}}\n"
            f"  three: {{source: z}}\n  all: {{engine: latent, source: t, members: {members}}}\n"
        )
        return load_experts(write(path, text)).engine_spec("all").key

    keys = [key("[one, two]"), key("[two, one]"), key("[one, three]"), key("[one, two]", "b")]
    assert len(set(keys)) == 4
    assert key("[one, two]") == keys[0]


def test_an_engine_key_is_readable_and_tells_what_is_loaded(family: Registry, path: Path) -> None:
    spec = family.engine_spec("chat")
    name, digest = spec.key.rsplit("-", 1)
    assert name == "chat"
    assert len(digest) == 12
    described = FAMILY.replace("source: org/chat,", "source: org/chat, description: new,")
    assert load_experts(write(path, described)).engine_spec("chat").key == spec.key
    for change in [
        FAMILY.replace("max_model_len: 64", "max_model_len: 65"),
        FAMILY.replace("adapters/units", "adapters/lengths"),
        FAMILY.replace("{{ messages }}", "{{ prompt }}"),
    ]:
        assert load_experts(write(path, change)).engine_spec("chat").key != spec.key


def test_no_engine_serves_an_expert_that_does_not_exist(family: Registry) -> None:
    with pytest.raises(ConfigError, match="no expert 'chatt'; did you mean 'chat'"):
        family.engine_spec("chatt")


def test_an_endpoint_gets_its_address_and_the_reference_to_its_key(path: Path) -> None:
    spec = load_experts(write(path, REMOTE)).engine_spec("remote")
    assert (spec.engine, spec.runner, spec.source) == ("openai", "inline", None)
    assert spec.engine_args == {
        "base_url": "https://example.org/v1",
        "model": "large",
        "api_key": "os.environ/SOME_KEY",
        "max_retries": 4,
    }


@pytest.mark.parametrize("reference", ["os.environ/SOME_KEY", "${SOME_KEY}"])
def test_a_secret_is_read_from_the_environment(
    reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "hush")
    assert resolve_secret(reference) == "hush"


@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_secret_is_named_with_its_remedy(
    value: str | None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    message = "the environment variable 'SOME_KEY' is not set; `export SOME_KEY=...`"
    with pytest.raises(ConfigError, match=message):
        resolve_secret("os.environ/SOME_KEY")
    (line,) = unset_secrets(load_experts(write(path, REMOTE)))
    assert line.startswith(f"expert 'remote': {message}")


def test_a_secret_in_a_header_is_looked_for_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "hush")
    monkeypatch.delenv("OTHER_KEY", raising=False)
    headers = "headers: {x-api-key: '${OTHER_KEY}', x-team: red}"
    text = REMOTE.replace("max_retries: 4", headers)
    (line,) = unset_secrets(load_experts(write(path, text)))
    assert "'OTHER_KEY' is not set" in line


@pytest.mark.parametrize("secret", ["sk-123", "environ/SOME_KEY", "$SOME_KEY", "${A}${B}"])
def test_a_written_out_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_secret(secret)
    assert secret not in str(caught.value)


ENTRY_PROBLEMS: list[tuple[str, str]] = [
    ("{source: x, skils: [b]}", "expert 'a': unknown key 'skils'; did you mean 'skills'?"),
    (
        "{source: x, price: {input_usd_per_mtoks: 1}}",
        "expert 'a': unknown key 'price.input_usd_per_mtoks'; did you mean 'input_usd_per_mtok'?",
    ),
    ("{source: x, name: b}", "expert 'a': unknown key 'name'; its key 'a' is its name"),
    ("{source: 3}", "expert 'a': 'source' must be text; put it in quotes"),
    ("{source: x, skills: [no]}", "expert 'a': 'skills.0' must be text; put it in quotes"),
    ("{source: x, skills: b}", "expert 'a': 'skills' must be a list, such as [a, b]"),
    ("{source: x, params_b: big}", "expert 'a': 'params_b' must be a number"),
    ("{source: x, params_b: 0}", "expert 'a': 'params_b' must be more than 0"),
    ("{source: x, pinned: 1}", "expert 'a': 'pinned' must be true or false"),
    ("{source: x, price: 2}", "expert 'a': 'price' must be a mapping of keys to values"),
    (
        "{source: x, price: {input_usd_per_mtok: -1}}",
        "expert 'a': 'price.input_usd_per_mtok' must be at least 0",
    ),
    ("{source: x, sampling: {top_p: 2}}", "expert 'a': 'sampling.top_p' must be at most 1"),
    (
        "{source: x, sampling: {n: 1.5}}",
        "expert 'a': 'sampling.n' must be a whole number",
    ),
    (
        "{source: x, engine: vlm}",
        "expert 'a': 'engine' must be 'vllm', 'latent', 'openai', 'scripted' or 'recorded', not "
        "'vlm'",
    ),
    ("", "expert 'a': must be a mapping of keys to values"),
    (
        "{}",
        "expert 'a': 'source' is missing, which engine 'vllm' needs; "
        'give a hub id, a folder or "package:NAME"',
    ),
    (
        "{base_url: http://x}",
        "expert 'a': 'base_url' does not go with engine 'vllm'; set engine: openai or remove it",
    ),
    (
        "{engine: openai, base_url: http://x}",
        "expert 'a': 'model' is missing, which engine 'openai' needs; "
        "give the endpoint's own name for the model",
    ),
    (
        "{engine: openai, base_url: x, model: m}",
        "expert 'a': 'base_url' is no address; write it as http://HOST:PORT/v1",
    ),
    (
        "{engine: openai, base_url: http://me:pass@x, model: m}",
        "expert 'a': 'base_url' holds a password or a query; name the key by 'api_key'",
    ),
    (
        "{engine: openai, base_url: http://x, model: m, engine_args: {model: n}}",
        "expert 'a': 'engine_args.model' would hide 'model'; write 'model' beside 'engine_args'",
    ),
    (
        "{engine: openai, base_url: http://x, model: m, api_key: sk-123}",
        "expert 'a': 'api_key' holds the secret itself; "
        "put it into the environment and write 'os.environ/NAME' here",
    ),
    (
        "{source: x, engine_args: {parts: [{hf-token: abc}]}}".replace("hf-token", "HF_Token"),
        "expert 'a': 'engine_args.parts.0.HF_Token' holds the secret itself; "
        "put it into the environment and write 'os.environ/NAME' here",
    ),
    ("{base: one}", "expert 'a': 'base' needs an 'adapter'; give the adapter's folder"),
    ("{adapter: y}", "expert 'a': 'adapter' needs a 'base'; name the expert that it adapts"),
    ("{base: onne, adapter: y}", "expert 'a': 'base' names no expert: 'onne'; did you mean 'one'?"),
    ("{base: a, adapter: y}", "expert 'a': an expert cannot be its own base; name another"),
    (
        "{base: lora, adapter: y}",
        "expert 'a': 'base' 'lora' is itself an adapter; name 'one' instead",
    ),
    (
        "{base: fake, adapter: y}",
        "expert 'a': 'base' 'fake' runs on 'scripted'; only engine 'vllm' has adapters",
    ),
    (
        "{base: one, adapter: y, engine: scripted}",
        "expert 'a': only engine 'vllm' has adapters; remove 'engine'",
    ),
    (
        "{base: one, adapter: y, source: x}",
        "expert 'a': 'source' is for the base 'one' to say; remove it here",
    ),
    (
        "{base: one, adapter: y, engine_args: {}}",
        "expert 'a': 'engine_args' is for the base 'one' to say; remove it here",
    ),
    (
        "{base: one, adapter: y, model: m}",
        "expert 'a': 'model' goes with engine 'openai', which has no adapters; remove it",
    ),
    (
        "{engine: latent, source: x}",
        "expert 'a': 'members' is missing, which engine 'latent' needs; "
        "name the experts that think together, as a list",
    ),
    (
        "{engine: latent, members: [one, two]}",
        "expert 'a': 'source' is missing, which engine 'latent' needs; "
        "give the folder that `composer latent fit` has saved",
    ),
    (
        "{engine: latent, source: x, members: [one]}",
        "expert 'a': 'members' are fewer than two experts; name another one",
    ),
    (
        "{engine: latent, source: x, members: [one, two, one]}",
        "expert 'a': 'one' is named twice; name each member once",
    ),
    (
        "{engine: latent, source: x, members: [one, twoo]}",
        "expert 'a': 'members.1' names no expert: 'twoo'; did you mean 'two'?",
    ),
    (
        "{engine: latent, source: x, members: [one, fake]}",
        "expert 'a': 'fake' runs on 'scripted'; only members on 'vllm' have weights here",
    ),
    (
        "{engine: latent, source: x, members: [one, two], chat_template: y}",
        "expert 'a': 'chat_template' is for the members to say; remove it here",
    ),
    (
        "{source: x, members: [one, two]}",
        "expert 'a': 'members' does not go with engine 'vllm'; set engine: latent",
    ),
]


@pytest.mark.parametrize(("entry", "message"), ENTRY_PROBLEMS)
def test_a_wrong_expert_is_reported_with_line_and_remedy(
    path: Path, entry: str, message: str
) -> None:
    text = PAIR + (
        f"  lora: {{base: one, adapter: x}}\n  fake: {{engine: scripted}}\n  a: {entry}\n"
    )
    (line,) = problems(path, text)
    assert line.startswith(f"6: {message}")


@pytest.mark.parametrize(
    ("composition", "message"),
    [
        ("{}", "'router' is missing; add it"),
        ("{router: {}}", "'router' needs either 'name' or 'from'; give exactly one of them"),
        ("{router: {name: x, from: y}}", "'router' needs either 'name' or 'from'"),
        ("{router: {name: x}, aggregator: {by: one}}", "'aggregator.name' is missing; add it"),
        (
            "{router: {name: x}, chose: {k: 1}}",
            "unknown key 'chose'; did you mean 'choose'?",
        ),
        (
            "{router: {name: x}, choose: {treshold: 0.5}}",
            "unknown key 'choose.treshold'; did you mean 'threshold'?",
        ),
        ("{router: {name: x}, choose: {k: 0}}", "'choose.k' must be at least 1"),
        ("{router: {name: x}, choose: {k: true}}", "'choose.k' must be a whole number"),
        ("{router: {name: x}, choose: {k: 3}}", "'choose.k' is 3 and there are 2 experts"),
        (
            "{router: {name: x}, choose: {threshold: 0.5}}",
            "'choose' has a 'threshold' that changes nothing; name a 'fallback' or set "
            "'abstain: true'",
        ),
        (
            "{router: {name: x}, choose: {abstain: true}}",
            "'choose' has 'abstain' and nothing to measure by; set a 'threshold'",
        ),
        (
            "{router: {name: x}, choose: {fallback: tow}}",
            "'choose.fallback' names no expert: 'tow'; did you mean 'two'?",
        ),
        (
            "{router: {name: x}, aggregator: {name: y, by: zzz}}",
            "'aggregator.by' names no expert: 'zzz'; choose from ['one', 'two']",
        ),
        (
            "{router: {name: x, expert: [one]}}",
            "'router.expert' must be the name of an expert; put it in quotes",
        ),
        (
            "{router: {name: x, experts: [one, twoo]}}",
            "'router.experts.1' names no expert: 'twoo'; did you mean 'two'?",
        ),
        (
            "{router: {name: x, experts: one}}",
            "'router.experts' must be a list of experts, such as [a, b]",
        ),
    ],
)
def test_a_wrong_composition_is_reported_with_line_and_remedy(
    path: Path, composition: str, message: str
) -> None:
    (line,) = problems(path, f"{PAIR}compositions:\n  c: {composition}\n")
    assert line.startswith(f"5: composition 'c': {message}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: no experts; add one, or `composer init` writes some to begin with"),
        ("experts:\n", "1: no experts; add one, or `composer init` writes some to begin with"),
        ("[one]", "1: no mapping; put 'experts:' at the top"),
        ("\nexperts: [one]", "2: 'experts' must be a mapping of names to entries"),
        (PAIR + "compositions: 3\n", "4: 'compositions' must be a mapping of names to entries"),
        (PAIR + "pol: {}\n", "4: unknown key 'pol'; did you mean 'pool'?"),
        (PAIR + "pool:\n  cores: 0\n", "5: pool: 'cores' must be at least 1"),
        (PAIR + "pool: {grace_s: .nan}\n", "4: pool: 'grace_s' must be a finite number"),
        (PAIR + "pool: []\n", "4: pool: must be a mapping of keys to values"),
        (PAIR + "  one: {source: z}\n", "4: 'one' is given twice, first on line 2; remove one"),
        (
            PAIR + "  a b: {source: z}\n",
            "4: the name 'a b' has other characters than A-Z a-z 0-9 . _ -; rename it",
        ),
        (
            PAIR + "compositions:\n  two: {router: {name: x}}\n",
            "5: 'two' is an expert already, on line 3; rename one",
        ),
        ("experts: [\n", "2: not YAML: "),
    ],
)
def test_a_wrong_file_is_reported_with_line_and_remedy(
    path: Path, text: str, expected: str
) -> None:
    (line,) = problems(path, text)
    assert line.startswith(expected)


def test_a_missing_file_names_the_command_that_writes_one(path: Path) -> None:
    assert check_experts(path) == [f"{path}: no such file; `composer init` writes one"]


def test_everything_wrong_is_listed_in_the_order_of_the_file(path: Path) -> None:
    text = (
        "experts:\n  one: {source: 1, skils: []}\n  two: {base: one, adapter: x}\n"
        "compositions:\n  c: {router: {name: x}, choose: {k: 9, fallback: zzz}}\npool: {cores: 0}\n"
    )
    assert [line.split(":")[0] for line in problems(path, text)] == ["2", "2", "5", "5", "6"]


def test_reading_stops_with_the_first_problem_and_the_number_of_others(path: Path) -> None:
    write(path, PAIR + "  a: {source: x, params_b: 0}\npool: {cores: 0, cors: 1}\n")
    with pytest.raises(ConfigError) as caught:
        load_experts(path)
    assert str(caught.value) == (
        f"{path}:4: expert 'a': 'params_b' must be more than 0 "
        "(and 2 more; `composer experts check` lists them)"
    )


def test_one_problem_alone_counts_no_others(path: Path) -> None:
    write(path, PAIR + "pool: {cores: 0}\n")
    with pytest.raises(ConfigError) as caught:
        load_experts(path)
    assert str(caught.value) == f"{path}:4: pool: 'cores' must be at least 1"


@given(
    st.dictionaries(
        st.sampled_from(["experts", "compositions", "pool", "x"]),
        st.none()
        | st.integers()
        | st.text(max_size=3)
        | st.lists(st.integers(), max_size=2)
        | st.dictionaries(
            st.text(max_size=3),
            st.none()
            | st.lists(st.integers(), max_size=2)
            | st.dictionaries(
                st.sampled_from(["source", "base", "router", "choose", "engine"]),
                st.text(max_size=3)
                | st.none()
                | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
                max_size=3,
            ),
            max_size=3,
        ),
        max_size=4,
    )
)
def test_any_data_is_read_or_refused_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.yaml", yaml.safe_dump(data))
    found = check_experts(path)
    assert all(line.startswith(f"{path}:") and "\n" not in line for line in found)
    if not found:
        assert load_experts(path).experts


def test_experts_that_share_a_gpu_say_what_they_take_of_it(path: Path) -> None:
    greedy = "experts: {a: {source: x}, b: {source: y, engine_args: {kv_cache_memory_bytes: 1}}}\n"

    (problem,) = problems(path, greedy + "pool: {gpu_memory_gib: 20}")

    assert problem.startswith("2: pool: 'gpu_memory_gib' is shared out")
    assert "give ['a'] engine_args.kv_cache_memory_bytes" in problem
    assert problems(path, greedy) == []
