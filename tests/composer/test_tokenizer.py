import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from composer.errors import ConfigError
from composer.tokenizer import ChatTokenizer, context_length
from composer.types import Message

BOS, EOS = 1, 2
WITH_BOS = "{{ bos_token }}{% for m in messages %}{{ m.content }} {% endfor %}"
WITHOUT_BOS = "{% for m in messages %}{{ m.content }} {% endfor %}"
HELLO = (Message("user", "hello"),)

MakeModel = Callable[..., Path]


def tiny_tokenizer() -> Tokenizer:
    words = ["<unk>", "<bos>", "<eos>", "hello", "world", "assistant:"]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens(["<bos>", "<eos>"])  # pyright: ignore[reportUnknownMemberType]
    return tokenizer


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """A model's folder with a vocabulary of six words; keywords go into its tokenizer_config."""

    def make(*, tokenizer: Tokenizer | None = None, **settings: Any) -> Path:
        (tokenizer or tiny_tokenizer()).save(str(tmp_path / "tokenizer.json"))
        config = {"bos_token": "<bos>", "eos_token": {"content": "<eos>"}} | settings
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
        return tmp_path

    return make


@pytest.mark.parametrize("template", [WITH_BOS, WITHOUT_BOS])
def test_a_model_that_wants_a_bos_token_gets_exactly_one(make_model: MakeModel, template: str):
    tokenizer = ChatTokenizer.load(make_model(add_bos_token=True), template)
    assert tokenizer.encode(HELLO) == [BOS, 3]
    assert tokenizer.count(HELLO) == 2


def test_a_model_that_wants_no_bos_token_gets_what_its_template_writes(make_model: MakeModel):
    path = make_model(add_bos_token=False)
    assert ChatTokenizer.load(path, WITHOUT_BOS).encode(HELLO) == [3]
    assert ChatTokenizer.load(path, WITH_BOS).encode(HELLO) == [BOS, 3]


@pytest.mark.parametrize("template", [WITH_BOS, WITHOUT_BOS])
def test_a_tokenizer_that_adds_bos_itself_wants_one(make_model: MakeModel, template: str):
    own = tiny_tokenizer()
    own.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    tokenizer = ChatTokenizer.load(make_model(tokenizer=own), template)
    assert tokenizer.encode(HELLO) == [BOS, 3]
    assert tokenizer.encode_text("hello") == [3]


def test_a_tokenizer_without_a_bos_token_adds_none(make_model: MakeModel):
    path = make_model(bos_token=None, add_bos_token=True)
    assert ChatTokenizer.load(path, WITH_BOS).encode(HELLO) == [3]


@given(st.lists(st.sampled_from(["hello", "world", "other"])))
def test_a_prompt_is_one_bos_and_the_tokens_of_its_text(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
):
    path = tmp_path_factory.getbasetemp() / "tiny"
    path.mkdir(exist_ok=True)
    tiny_tokenizer().save(str(path / "tokenizer.json"))
    settings = {"bos_token": "<bos>", "add_bos_token": True}
    (path / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    tokenizer = ChatTokenizer.load(path, WITH_BOS)
    text = " ".join(words)
    assert tokenizer.encode([Message("user", text)]) == [BOS, *tokenizer.encode_text(text)]


def test_a_given_template_comes_before_the_file_and_the_file_before_the_config(
    make_model: MakeModel,
):
    path = make_model(chat_template="config")
    assert ChatTokenizer.load(path).render(HELLO) == "config"
    (path / "chat_template.jinja").write_text("file", "utf-8")
    assert ChatTokenizer.load(path).render(HELLO) == "file"
    assert ChatTokenizer.load(path, "given").render(HELLO) == "given"


def test_of_several_templates_in_the_config_the_default_one_is_taken(make_model: MakeModel):
    templates = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    assert ChatTokenizer.load(make_model(chat_template=templates)).render(HELLO) == "yes"


def test_templates_have_what_they_are_written_for(make_model: MakeModel):
    template = (
        "{% for m in messages %}\n"
        "  {% if loop.last %}{% break %}{% endif %}\n"
        "{{ m | tojson }}{{ eos_token }}\n"
        "{% endfor %}\n"
        "{% if tools is none %}{{ strftime_now('%%') }}{% endif %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    tokenizer = ChatTokenizer.load(make_model(), template)
    messages = (Message("system", "a < b"), Message("user", "hello"))
    text = '{"role": "system", "content": "a < b"}<eos>\n%'
    assert tokenizer.render(messages) == text + "assistant:"
    assert tokenizer.render(messages, add_generation_prompt=False) == text


def test_messages_that_the_template_refuses_are_a_config_error(make_model: MakeModel):
    template = "{{ raise_exception('no system role') }}"
    with pytest.raises(ConfigError, match=r"refuses the messages: no system role; set another"):
        ChatTokenizer.load(make_model(), template).count(HELLO)


def test_a_template_cannot_reach_out_of_its_sandbox(make_model: MakeModel):
    template = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(ConfigError, match="unsafe"):
        ChatTokenizer.load(make_model(), template).render(HELLO)


def test_a_broken_template_is_a_config_error(make_model: MakeModel):
    with pytest.raises(ConfigError, match="is broken"):
        ChatTokenizer.load(make_model(), "{% for %}")


def test_a_model_without_a_template_says_where_to_set_one(make_model: MakeModel):
    with pytest.raises(ConfigError, match=r"chat_template in experts\.yaml"):
        ChatTokenizer.load(make_model())


def test_a_missing_tokenizer_says_how_to_make_one(make_model: MakeModel):
    path = make_model()
    (path / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"no tokenizer\.json in .*save_pretrained"):
        ChatTokenizer.load(path, WITH_BOS)


def test_a_broken_tokenizer_is_a_config_error(make_model: MakeModel):
    path = make_model()
    (path / "tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(ConfigError, match=r"tokenizer\.json' cannot be read"):
        ChatTokenizer.load(path, WITH_BOS)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 8192}, 8192),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({}, None),
    ],
)
def test_the_context_length_is_read_from_the_config(
    tmp_path: Path, config: dict[str, Any], length: int | None
):
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert context_length(tmp_path) == length


def test_a_missing_config_is_a_config_error(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"config\.json' cannot be read"):
        context_length(tmp_path)
