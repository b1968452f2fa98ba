"""What callers write, made into queries."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from composer.errors import ConfigError
from composer.types import AnswerType, Message, Query

Prompt = str | Sequence[Mapping[str, str]] | Query


def make_query(
    prompt: Prompt,
    answer_type: AnswerType | None = None,
    *,
    query_id: str | None = None,
    category: str | None = None,
) -> Query:
    """A query of what a caller wrote.

    Args:
        prompt: A question, messages in OpenAI's form, or a query, which is taken as it is.
        answer_type: How a vote reads the answers; None: as the composition says.
        query_id: None: a new one.
        category: Where the caller knows it.

    Raises:
        ConfigError: It is empty, or not in OpenAI's chat form.
    """
    if isinstance(prompt, Query):
        return prompt
    if isinstance(prompt, str):
        messages = (Message("user", prompt),)
    else:
        messages = tuple(_message(m) for m in prompt)
    if not any(m.content.strip() for m in messages if m.role == "user"):
        raise ConfigError("the prompt is empty; write a question")
    return Query(query_id or uuid.uuid4().hex[:12], messages, category, answer_type)


def _message(message: Mapping[str, str]) -> Message:
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise ConfigError(
            f"not a chat message: {dict(message)!r}; it needs a role (system, user or assistant) "
            "and a text content"
        )
    return Message(role, content)
