"""A batch's results: one JSON line a query, appended as queries finish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from composer.appending import TakenUp
from composer.bulk.lines import BatchLine
from composer.errors import ComposerError, ConfigError
from composer.types import Answer

FILE = "results.jsonl"


class Results(TakenUp):
    """The file of results; `with` it."""

    def __init__(self, path: Path, end: int) -> None:
        """Store where it is.

        Args:
            path: Its file; made where there is none.
            end: Bytes of it that are known to be whole; what follows is dropped.
        """
        super().__init__(path)
        self._path = path
        self._end = end

    def _take_up(self) -> None:
        """See `TakenUp`. Refused: results that were written are gone."""
        missing = self._end - self._lines.end
        if missing > 0:
            raise ConfigError(
                f"{self._path}: {missing} bytes of results are gone; restore the file, or name "
                "another folder"
            )
        self._lines.cut(self._end)

    def add(self, line: BatchLine, composition: str, found: Answer | ComposerError) -> int:
        """Write a query's result; where the file ends then.

        Raises:
            ConfigError: The disk is full, or cannot be written; nothing is written then.
        """
        form = _openai_form if line.is_openai else _plain_form
        told = form(line.query.id, composition, found)
        self._lines.append(json.dumps(told, ensure_ascii=False).encode())
        return self._lines.end


def _plain_form(query_id: str, composition: str, found: Answer | ComposerError) -> dict[str, Any]:
    if isinstance(found, ComposerError):
        return {"id": query_id, "error": {"kind": type(found).__name__, "message": str(found)}}
    return {
        "id": query_id,
        "answer": found.text,
        "expert": found.expert,
        "composition": composition,
        "aggregator": found.aggregator,
        "reason": found.reason,
        "finish_reason": found.finish_reason,
        "asked": list(found.asked),
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "cost_usd": found.cost_usd,
        "failures": [
            {"expert": f.expert, "kind": f.kind, "message": f.message} for f in found.failures
        ],
    }


def _openai_form(query_id: str, composition: str, found: Answer | ComposerError) -> dict[str, Any]:
    """A line of OpenAI's batch output; `model` is the composition."""
    line: dict[str, Any] = {"id": f"batch_req_{query_id}", "custom_id": query_id}
    if isinstance(found, ComposerError):
        error = {"code": type(found).__name__, "message": str(found)}
        return line | {"response": None, "error": error}
    body = {
        "id": f"chatcmpl-{query_id}",
        "object": "chat.completion",
        "model": composition,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": found.text},
                "finish_reason": found.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": found.prompt_tokens,
            "completion_tokens": found.completion_tokens,
            "total_tokens": found.prompt_tokens + found.completion_tokens,
        },
    }
    return line | {"response": {"status_code": 200, "body": body}, "error": None}
