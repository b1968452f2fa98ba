"""YAML as plain data that remembers the line of each of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from composer.errors import ConfigError

Location = tuple[str | int, ...]
"""Keys and list positions from the top of the file to one part of it."""

_Resolve = Callable[[type[yaml.Node], str, tuple[bool, bool]], str]

_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a file, with the remedy."""

    line: int
    """Counted from 1."""
    message: str


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a YAML file holds."""

    path: Path
    data: Any
    """None, bool, int, float, str, list, or dict whose keys are text as written."""
    duplicates: tuple[Problem, ...]
    """Keys that one mapping gives twice; `data` holds the last value."""
    root: yaml.Node | None
    """The parsed document; None: the file is empty."""

    def line(self, location: Location) -> int:
        """The line of the innermost part on the way to `location` that the file has."""
        node, mark = self.root, self.root.start_mark if self.root is not None else None
        for step in location:
            found = _child(node, step)
            if found is None:
                break
            mark, node = found
        return mark.line + 1 if mark is not None else 1


def read_config_file(path: Path) -> ConfigFile:
    """Read a YAML file.

    Raises:
        ConfigError: It is missing or is not UTF-8 or YAML; `path:line: message`.
    """
    text = _read_text(path)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        builder = _Builder(path, loader)
        data = None if root is None else builder.build(root)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark is not None else 1
        message = f"not YAML: {exc.problem}; look at the indentation and the quotes here"
        raise _error(path, line, message) from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise _error(path, line, "not YAML: a control character; remove it") from exc
    except RecursionError as exc:
        message = "nested too deeply, or an anchor holds itself; write it out flat"
        raise _error(path, 1, message) from exc
    return ConfigFile(path, data, tuple(builder.duplicates), root)


class _Builder:
    """Turns nodes into plain data, with only what YAML and JSON have in common."""

    def __init__(self, path: Path, loader: yaml.SafeLoader) -> None:
        self._path = path
        self._loader = loader
        self._built: dict[yaml.Node, Any] = {}
        self.duplicates: list[Problem] = []

    def build(self, node: yaml.Node) -> Any:
        # An alias is its anchor's very node: built once, however often it is named.
        if node not in self._built:
            self._built[node] = self._make(node)
        return self._built[node]

    def _make(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.build(item) for item in node.value]
        raise self._refuse(node, f"the tag {node.tag!r} has no meaning here; remove it")

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        resolve = cast("_Resolve", self._loader.resolve)  # pyright: ignore[reportUnknownMemberType]
        implicit = resolve(yaml.ScalarNode, node.value, (True, False))
        if node.tag == f"{_TAG}str" or implicit == f"{_TAG}timestamp":
            return node.value
        if node.tag != implicit:
            raise self._refuse(node, f"the tag {node.tag!r} has no meaning here; remove it")
        try:
            return self._loader.construct_object(node)  # pyright: ignore[reportUnknownMemberType]
        except ValueError as exc:
            raise self._refuse(node, f"{node.value!r} is no number; put it in quotes") from exc

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._refuse(key, "a key must be plain text; put {{ ... }} in quotes")
            line = key.start_mark.line + 1
            if key.value in lines:
                first = lines[key.value]
                message = f"{key.value!r} is given twice, first on line {first}; remove one"
                self.duplicates.append(Problem(line, message))
            lines.setdefault(key.value, line)
        self._loader.flatten_mapping(node)
        return {key.value: self.build(value) for key, value in node.value}

    def _refuse(self, node: yaml.Node, message: str) -> ConfigError:
        return _error(self._path, node.start_mark.line + 1, message)


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Mark, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        # From the end: of a key given twice, and of one that a merge brought, the last holds.
        pairs = reversed(node.value)
        return next(((k.start_mark, v) for k, v in pairs if k.value == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark, node.value[step]
    return None


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as exc:
        raise ConfigError(f"{path}: no such file; `composer init` writes one") from exc
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}; check the path") from exc
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise _error(path, line, "not UTF-8 text; save the file as UTF-8") from exc


def _error(path: Path, line: int, message: str) -> ConfigError:
    return ConfigError(f"{path}:{line}: {message}")
