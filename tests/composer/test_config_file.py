from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.config_file import ConfigFile, read_config_file
from composer.errors import ConfigError

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
)
plain = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.yaml"


@pytest.fixture(scope="module")
def shared_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "some.yaml"


def read(path: Path, text: str) -> ConfigFile:
    path.write_text(text, encoding="utf-8")
    return read_config_file(path)


def refusal(path: Path) -> str | None:
    try:
        read_config_file(path)
    except ConfigError as exc:
        return str(exc)
    return None


@settings(max_examples=60, deadline=None)
@given(data=plain)
def test_plain_data_is_read_as_it_was_written(shared_path: Path, data: object) -> None:
    file = read(shared_path, yaml.safe_dump(data))
    assert file.data == data
    assert file.duplicates == ()


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=40) | st.text("ab:-{}[]&*!'\"\n ?|>#<0x_", max_size=30))
def test_any_content_is_read_or_refused_in_one_line(
    shared_path: Path, content: bytes | str
) -> None:
    shared_path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refusal(shared_path)
    assert message is None or message.startswith(f"{shared_path}:")
    assert message is None or "\n" not in message


def test_a_location_leads_to_its_line(path: Path) -> None:
    file = read(path, "a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n")
    assert file.line(()) == 1
    assert file.line(("a", "b")) == 2
    assert file.line(("a", "c")) == 3
    assert file.line(("a", "c", 1)) == 5
    assert file.line(("a", "c", 1, "d")) == 5


def test_a_location_that_is_not_there_leads_to_what_surrounds_it(path: Path) -> None:
    file = read(path, "a: 0\nb:\n  c: 1\n")
    assert file.line(("b", "missing", "deeper")) == 2
    assert file.line(("b", "c", 7)) == 3
    assert read(path, "").line(("a",)) == 1


def test_a_key_given_twice_is_noted_with_both_lines(path: Path) -> None:
    file = read(path, "a: 1\nb: {c: 1}\na: 2\n")
    (problem,) = file.duplicates
    assert (problem.line, problem.message) == (
        3,
        "'a' is given twice, first on line 1; remove one",
    )
    assert file.data["a"] == 2
    assert file.line(("a",)) == 3


def test_a_merged_key_is_no_duplicate_and_leads_to_the_line_that_holds(path: Path) -> None:
    file = read(path, "a: &a\n  x: 1\n  y: 2\nb:\n  <<: *a\n  y: 3\nc: *a\n")
    assert file.data == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}
    assert file.duplicates == ()
    assert file.line(("b", "y")) == 6
    assert file.line(("b", "x")) == 2


def test_keys_and_dates_stay_text_as_written(path: Path) -> None:
    assert read(path, "no: 2024-01-02\n1: 3\n").data == {"no": "2024-01-02", "1": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1\n", ":3: not YAML: "),
        ("a: 1\nb: c: d\n", ":2: not YAML: mapping values are not allowed here; look at"),
        ("a: 1\n---\nb: 1\n", ":2: not YAML: but found another document"),
        ("a: 1\nb: !!python/object:os.system {}\n", ":2: the tag "),
        ("a: !!int x\n", ":1: the tag "),
        ("a: 1\nb: 0x_\n", ":2: '0x_' is no number; put it in quotes"),
        ("a: 1\nb: {{name}}\n", ":2: a key must be plain text"),
        ("a: 1\nb: \x07\n", ":2: not YAML: a control character; remove it"),
        ("a: &a [*a]\n", ":1: nested too deeply, or an anchor holds itself"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(
    path: Path, text: str, message: str
) -> None:
    path.write_text(text, encoding="utf-8")
    refused = refusal(path)
    assert refused is not None
    assert refused.startswith(f"{path}{message}")


def test_aliases_of_aliases_cost_no_more_than_their_anchors(path: Path) -> None:
    doubling = [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)]
    file = read(path, "a0: &a0 [1]\n" + "".join(doubling))
    assert len(file.data) == 60


def test_a_missing_file_names_the_command_that_writes_one(path: Path) -> None:
    assert refusal(path) == f"{path}: no such file; `composer init` writes one"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory; check the path"


def test_broken_utf8_is_refused_with_its_line(path: Path) -> None:
    path.write_bytes(b"a: 1\nb: \xff\n")
    assert refusal(path) == f"{path}:2: not UTF-8 text; save the file as UTF-8"


def test_a_byte_order_mark_is_no_part_of_the_text(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_config_file(path).data == {"a": 1}
