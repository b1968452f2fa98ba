"""What the harness wants generated, as a batch of ours, and the texts that came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from composer.appending import write_whole
from composer.bulk.lines import PROMPTS

Wanted = tuple[str, Mapping[str, Any]]
"""A context, and how its continuation is drawn, as `normalize_gen_kwargs` of lm_eval returns it."""
OURS = {"max_gen_toks": "max_tokens", "until": "stop"}
"""Settings of the harness that OpenAI's batch form calls otherwise."""


def write_batch(wanted: Sequence[Wanted], folder: Path) -> Path:
    """Write requests as a batch in OpenAI's form; their places, from 0, are their ids.

    A context is one user message, which each expert puts into its own chat template. Settings that
    ours lack stay in the lines, so that the batch counts them. The file is the only one in a folder
    that is named by what it says: the same requests go on in the same folder.

    Args:
        wanted: One at least.
        folder: Where that folder is made.

    Raises:
        ConfigError: It cannot be written.
    """
    lines = [{"custom_id": str(place), "body": _body(*one)} for place, one in enumerate(wanted)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path = folder / hashlib.sha256(text.encode()).hexdigest()[:12] / PROMPTS
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return path


def read_texts(results: Path, wanted: Sequence[Wanted]) -> tuple[list[str], list[str]]:
    """The texts in the order of the requests, "" for those that failed; and why these did.

    A text ends before the first of its request's stops, whoever wrote it.
    """
    texts = [""] * len(wanted)
    failures: list[str] = []
    # Not by `splitlines` of the text: it may hold other separators than the ends of lines.
    for line in results.read_bytes().splitlines():
        result = json.loads(line)
        if result["error"] is not None:
            failures.append(result["error"]["message"])
            continue
        place = int(result["custom_id"])
        text = result["response"]["body"]["choices"][0]["message"]["content"]
        texts[place] = _cut(text, wanted[place][1]["until"])
    return texts, failures


def _body(context: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    said = {OURS.get(key, key): value for key, value in settings.items() if key != "do_sample"}
    if not settings["do_sample"]:
        said["temperature"] = 0.0
    said["stop"] = [stop for stop in settings["until"] if stop]
    return {"messages": [{"role": "user", "content": context}], **said}


def _cut(text: str, stops: Sequence[str]) -> str:
    return min((text.partition(stop)[0] for stop in stops if stop), key=len, default=text)
