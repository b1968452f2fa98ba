"""Chat messages to tokens, exactly as the engine gets them: what is counted is what is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from composer.errors import ConfigError
from composer.types import Message

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
"""What tokenizer_config.json names and chat templates may use."""


class ChatTokenizer:
    """A model's tokenizer and its chat template."""

    def __init__(
        self, tokenizer: Tokenizer, template: Template, settings: Mapping[str, Any], where: str
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._where = where
        self._specials = {
            name: _content(settings[name]) for name in SPECIAL_TOKENS if settings.get(name)
        }
        self._prefix = _prefix(tokenizer, settings, self._specials.get("bos_token"))

    @classmethod
    def load(cls, path: Path, chat_template: str | None = None) -> ChatTokenizer:
        """Read the tokenizer of a model's folder.

        Args:
            path: Holds tokenizer.json and tokenizer_config.json.
            chat_template: Jinja2 text; None: the model's own.

        Raises:
            ConfigError: A file is missing or broken, or there is no chat template.
        """
        settings = _read_json(path / "tokenizer_config.json")
        text = chat_template if chat_template is not None else _own_template(path, settings)
        if text is None:
            raise ConfigError(
                f"the model in {str(path)!r} has no chat template; "
                "set the expert's chat_template in experts.yaml"
            )
        try:
            template = _environment().from_string(text, globals=_GLOBALS)
        except TemplateError as exc:
            raise ConfigError(
                f"the chat template for {str(path)!r} is broken: {exc}; mend chat_template"
            ) from exc
        return cls(_load_tokenizer(path / "tokenizer.json"), template, settings, str(path))

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The prompt's text, special tokens written out.

        Raises:
            ConfigError: The template refuses the messages (a role, their order).
        """
        try:
            return self._template.render(
                messages=[{"role": m.role, "content": m.content} for m in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._specials,
            )
        except (TemplateError, TypeError) as exc:
            raise ConfigError(
                f"the chat template of {self._where!r} refuses the messages: {exc}; "
                "set another chat_template in experts.yaml"
            ) from exc

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's token ids, to be handed to the engine as they are.

        A model that wants a BOS token has exactly one, whether or not the template writes it.

        Raises:
            ConfigError: See `render`.
        """
        ids = self.encode_text(self.render(messages))
        return ids if ids[: len(self._prefix)] == self._prefix else self._prefix + ids

    def encode_places(self, messages: Sequence[Message]) -> tuple[str, list[int], list[int]]:
        """The prompt's text, its token ids as `encode` has them, and where in it each one ends.

        Raises:
            ConfigError: See `render`.
        """
        text = self.render(messages)
        ids, ends = self.encode_text_places(text)
        if ids[: len(self._prefix)] == self._prefix:
            return text, ids, ends
        return text, self._prefix + ids, [0] * len(self._prefix) + ends

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt.

        Raises:
            ConfigError: See `render`.
        """
        return len(self.encode(messages))

    def encode_text(self, text: str) -> list[int]:
        """The text's token ids, with nothing added."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_text_places(self, text: str) -> tuple[list[int], list[int]]:
        """The text's token ids, with nothing added, and the character at which each one ends."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, [end for _, end in encoding.offsets]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special ones left out."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def token_text(self, token: int) -> str:
        """One token's text by itself, special ones included."""
        return self._tokenizer.decode([token], skip_special_tokens=False)


def context_length(path: Path) -> int | None:
    """The context that the model was made for, in tokens; None: its config does not say.

    Raises:
        ConfigError: config.json is missing or broken.
    """
    config = _read_json(path / "config.json")
    length = (config.get("text_config") or config).get("max_position_embeddings")
    return int(length) if length is not None else None


def _prefix(tokenizer: Tokenizer, settings: Mapping[str, Any], bos: str | None) -> list[int]:
    """The BOS token's id if the model wants one before each prompt, else nothing."""
    bos_id = tokenizer.token_to_id(bos) if bos is not None else None
    if bos_id is None:
        return []
    adds_bos = settings.get("add_bos_token")
    if adds_bos is None:
        adds_bos = tokenizer.encode("", add_special_tokens=True).ids[:1] == [bos_id]
    return [bos_id] if adds_bos else []


def _own_template(path: Path, settings: Mapping[str, Any]) -> str | None:
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text("utf-8")
    templates: str | list[dict[str, str]] | None = settings.get("chat_template")
    if isinstance(templates, list):
        return next((t["template"] for t in templates if t["name"] == "default"), None)
    return templates


def _load_tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise ConfigError(
            f"no {path.name} in {str(path.parent)!r}; save it there with transformers: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as exc:
        raise ConfigError(f"{str(path)!r} cannot be read: {exc}; get the model anew") from exc


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{str(path)!r} cannot be read: {exc}; get the model anew") from exc


def _content(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else token["content"]


def _environment() -> ImmutableSandboxedEnvironment:
    """What chat templates are written for.

    Source: transformers, docs "Chat templates": blocks trimmed, the sandbox, the functions in
    `_GLOBALS`, and a `tojson` that leaves HTML characters alone.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    return environment


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


_GLOBALS: dict[str, Any] = {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
