"""A GGUF file made into a Hugging Face folder; runs as a process of its own.

python -m composer.backends.gguf_conversion MODEL.gguf FOLDER [PARENT_PID]
"""

# transformers is untyped and is met here only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

PR_SET_PDEATHSIG = 1

_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip


def convert(gguf: Path, destination: Path) -> None:
    """Write the model in bfloat16 with its config, tokenizer and chat template.

    Weights are de-quantised. transformers does not carry over that the model wants a BOS token
    before every prompt, without which Gemma babbles; here it goes into tokenizer_config.json.

    Args:
        gguf: The file, whole.
        destination: Does not exist yet.
    """
    metadata = read_metadata(gguf)

    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    destination.mkdir(parents=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    is_tied = model.config.tie_word_embeddings
    weights = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if not (is_tied and name == "lm_head.weight")
    }
    save_file(weights, destination / "model.safetensors", metadata={"format": "pt"})
    model.generation_config.save_pretrained(destination)
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    config.pop("quantization_config", None)
    _write_json(destination / "config.json", config)

    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    bos_id = metadata.get("tokenizer.ggml.bos_token_id")
    if bos_id is not None:
        tokenizer.bos_token = tokenizer.convert_ids_to_tokens(bos_id)
    tokenizer.add_bos_token = wants_bos(metadata)
    tokenizer.chat_template = metadata.get("tokenizer.chat_template")
    tokenizer.save_pretrained(destination)
    settings = json.loads((destination / "tokenizer_config.json").read_text("utf-8"))
    settings |= {"bos_token": tokenizer.bos_token, "add_bos_token": wants_bos(metadata)}
    _write_json(destination / "tokenizer_config.json", settings)


def wants_bos(metadata: Mapping[str, Any]) -> bool:
    """Whether every prompt starts with the BOS token.

    Source: llama.cpp, src/llama-vocab.cpp: SentencePiece models ("llama") do unless they say
    otherwise.
    """
    default = metadata.get("tokenizer.ggml.model") == "llama"
    return bool(metadata.get("tokenizer.ggml.add_bos_token", default))


def read_metadata(path: Path) -> dict[str, Any]:
    """The GGUF's key-value pairs, without the arrays.

    The gguf package reads the vocabulary as well, which takes it half a minute for 262,144 tokens.

    Raises:
        ValueError: It is no GGUF file of version 2 or 3.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF" or _scalar(file, "I") not in (2, 3):
            raise ValueError(f"{str(path)!r} is no GGUF file of version 2 or 3")
        _scalar(file, "Q")
        pairs = [_pair(file) for _ in range(_scalar(file, "Q"))]
    return {key: value for key, value in pairs if value is not None}


def _pair(file: BinaryIO) -> tuple[str, Any]:
    key = _string(file)
    kind = _scalar(file, "I")
    if kind == _STRING:
        return key, _string(file)
    if kind == _ARRAY:
        _skip_array(file)
        return key, None
    return key, _scalar(file, _SCALARS[kind])


def _skip_array(file: BinaryIO) -> None:
    kind, count = _scalar(file, "I"), _scalar(file, "Q")
    if kind in _SCALARS:
        file.seek(count * struct.calcsize("<" + _SCALARS[kind]), os.SEEK_CUR)
        return
    for _ in range(count):
        if kind == _STRING:
            file.seek(_scalar(file, "Q"), os.SEEK_CUR)
        else:
            _skip_array(file)


def _scalar(file: BinaryIO, form: str) -> Any:
    return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]


def _string(file: BinaryIO) -> str:
    return file.read(_scalar(file, "Q")).decode("utf-8", errors="replace")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _die_with(parent: int) -> None:
    """Have Linux kill this process when its parent dies; elsewhere it finishes and is lost."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that wanted the model is gone")


if __name__ == "__main__":
    if len(sys.argv) > 3:
        _die_with(int(sys.argv[3]))
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
