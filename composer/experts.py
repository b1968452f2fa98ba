"""experts.yaml -> Registry: the one reader of what experts there are and how they compose."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from composer.config_file import ConfigFile, Location, Problem, read_config_file
from composer.credentials import is_reference, resolve_secret
from composer.entries import (
    NAME,
    AggregatorConfig,
    ChooseRule,
    Composition,
    Expert,
    Price,
    RouterConfig,
    SamplingDefaults,
)
from composer.entry_checks import (
    EntryT,
    Found,
    check_composition,
    check_expert,
    check_pool,
    parse_entry,
)
from composer.errors import ConfigError
from composer.experts_file import ExpertsFile, experts_schema
from composer.pool_settings import PoolSettings
from composer.suggest import suggest, unknown_name
from composer.types import EngineSpec, Member

__all__ = [
    "AggregatorConfig",
    "ChooseRule",
    "Composition",
    "Expert",
    "PoolSettings",
    "Price",
    "Registry",
    "RouterConfig",
    "SamplingDefaults",
    "check_experts",
    "experts_schema",
    "load_experts",
    "resolve_secret",
    "unset_secrets",
]


@dataclass(frozen=True, slots=True)
class Registry:
    """What experts.yaml says, checked."""

    experts: Mapping[str, Expert]
    """By name, in the order of the file."""
    compositions: Mapping[str, Composition]
    """By name, in the order of the file."""
    pool: PoolSettings
    path: Path
    """The file: relative folders in it are relative to its own."""

    @property
    def routed(self) -> Mapping[str, Expert]:
        """The experts that routers choose among; a group is asked by those who name it."""
        return {name: e for name, e in self.experts.items() if e.engine != "latent"}

    def engine_spec(self, expert: str) -> EngineSpec:
        """The engine that serves an expert; a base and all LoRA experts on it have the same one.

        The source and the adapters are as the file names them, and a secret is still a reference.

        Raises:
            ConfigError: There is no such expert.
        """
        if expert not in self.experts:
            raise ConfigError(unknown_name("expert", expert, self.experts))
        base = self.experts[self.experts[expert].base or expert]
        members = tuple(self._member(name) for name in base.members)
        adapters = {
            e.name: self._anchored(e.adapter)
            for e in self.experts.values()
            if e.base == base.name and e.adapter is not None
        }
        engine_args = base.engine_args
        if base.engine == "openai":
            endpoint = {"base_url": base.base_url, "model": base.model, "api_key": base.api_key}
            engine_args = endpoint | engine_args
        if base.engine == "recorded":
            engine_args = engine_args | {"folder": self._anchored(base.engine_args["folder"])}
        identity = [base.engine, base.source, engine_args, adapters, base.chat_template]
        identity += [asdict(member) for member in members]
        return EngineSpec(
            key=f"{base.name}-{_hash(identity)}",
            engine=base.engine,
            runner=base.resolved_runner,
            experts=(base.name, *adapters),
            source=self._anchored(base.source) if base.source is not None else None,
            engine_args=engine_args,
            adapters=adapters,
            members=members,
            chat_template=base.chat_template if not members else members[0].chat_template,
            trust_remote_code=base.trust_remote_code,
        )

    def _member(self, name: str) -> Member:
        """An expert as a group has it."""
        expert = self.experts[name]
        base = self.experts[expert.base or name]
        assert base.source is not None, "checked when the file was read"
        adapter = None if expert.adapter is None else self._anchored(expert.adapter)
        return Member(
            name, self._anchored(base.source), adapter=adapter, chat_template=base.chat_template
        )

    def _anchored(self, source: str) -> str:
        """The source; a folder that lies beside the file is found from wherever one runs."""
        beside = self.path.parent / source
        return str(beside.resolve()) if beside.exists() else source


def load_experts(path: str | Path) -> Registry:
    """Read and check an experts.yaml; nothing is loaded, downloaded or looked up.

    Raises:
        ConfigError: Something in it is wrong; `path:line: message`, for the first of all.
    """
    registry, problems = _read(read_config_file(Path(path)))
    if problems:
        more = f" (and {len(problems) - 1} more; `composer experts check` lists them)"
        raise ConfigError(problems[0] + (more if len(problems) > 1 else ""))
    return registry


def check_experts(path: str | Path) -> list[str]:
    """Everything that is wrong with an experts.yaml, a line each: `path:line: message`."""
    try:
        return _read(read_config_file(Path(path)))[1]
    except ConfigError as exc:
        return [str(exc)]


def unset_secrets(registry: Registry) -> list[str]:
    """A message for each secret that the registry names and the environment lacks."""
    messages: list[str] = []
    for expert in registry.experts.values():
        for reference in _references(expert):
            try:
                resolve_secret(reference)
            except ConfigError as exc:
                messages.append(f"expert {expert.name!r}: {exc}")
    return messages


def _references(expert: Expert) -> list[str]:
    """The references to secrets that the expert's engine will resolve."""
    headers: object = expert.engine_args.get("headers")
    values = list(cast("dict[str, Any]", headers).values()) if isinstance(headers, dict) else []
    sent = [expert.api_key, *values] if expert.engine == "openai" else []
    return [value for value in sent if isinstance(value, str) and is_reference(value)]


def _read(file: ConfigFile) -> tuple[Registry, list[str]]:
    reading = _Reading(file)
    registry = reading.read()
    problems = sorted({*file.duplicates, *reading.problems}, key=lambda p: (p.line, p.message))
    return registry, [f"{file.path}:{problem.line}: {problem.message}" for problem in problems]


class _Reading:
    """One pass over a file: keeps the entries that are right and notes what is wrong."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        self.problems: list[Problem] = []

    def read(self) -> Registry:
        top = self._top()
        named = self._section(top, "experts")
        composed = self._section(top, "compositions")
        experts: dict[str, Expert] = {}
        for name, data in named.items():
            expert = self._entry(Expert, self._with_name(name, data), ("experts", name))
            if expert is not None:
                experts[name] = expert
        for name, expert in experts.items():
            self._note_all(("experts", name), check_expert(expert, named, experts))
        compositions: dict[str, Composition] = {}
        routed = [n for n in named if n not in experts or experts[n].engine != "latent"]
        for name, data in composed.items():
            composition = self._entry(Composition, data, ("compositions", name))
            if composition is not None:
                compositions[name] = composition
                found = check_composition(composition, named, routed)
                self._note_all(("compositions", name), found)
        for name in named.keys() & composed.keys():
            line = self._file.line(("experts", name))
            self._note(
                ("compositions", name),
                f"{name!r} is an expert already, on line {line}; rename one",
            )
        pool = PoolSettings()
        if top.get("pool") is not None:
            pool = self._entry(PoolSettings, top["pool"], ("pool",)) or pool
        self._note_all(("pool",), check_pool(pool, experts))
        return Registry(experts, compositions, pool, self._file.path)

    def _top(self) -> dict[str, Any]:
        data: object = self._file.data
        if data is not None and not isinstance(data, dict):
            raise ConfigError(f"{self._file.path}:1: no mapping; put 'experts:' at the top")
        top = cast("dict[str, Any]", data or {})
        for key in top:
            if key not in ExpertsFile.model_fields:
                self._note((key,), f"unknown key {key!r}; {suggest(key, ExpertsFile.model_fields)}")
        return top

    def _section(self, top: Mapping[str, Any], key: str) -> dict[str, Any]:
        section: object = top.get(key)
        if section is not None and not isinstance(section, dict):
            self._note((key,), f"{key!r} must be a mapping of names to entries")
            return {}
        entries = cast("dict[str, Any]", section or {})
        if key == "experts" and not entries:
            self._note((key,), "no experts; add one, or `composer init` writes some to begin with")
        for name in entries:
            if not re.fullmatch(NAME, name):
                message = (
                    f"the name {name!r} has other characters than A-Z a-z 0-9 . _ -; rename it"
                )
                self._note((key, name), message)
        return entries

    def _with_name(self, name: str, data: object) -> object:
        if not isinstance(data, dict):
            return data
        entry = cast("dict[str, Any]", data)
        if "name" in entry:
            message = f"expert {name!r}: unknown key 'name'; its key {name!r} is its name"
            self._note(("experts", name, "name"), message)
        return entry | {"name": name}

    def _entry(self, model: type[EntryT], data: object, location: Location) -> EntryT | None:
        entry = parse_entry(model, data)
        if isinstance(entry, list):
            self._note_all(location, entry)
            return None
        return entry

    def _note_all(self, location: Location, found: Iterable[Found]) -> None:
        section, *name = location
        subject = " ".join([str(section).removesuffix("s"), *map(repr, name)])
        for inner, message in found:
            self._note((*location, *inner), f"{subject}: {message}")

    def _note(self, location: Location, message: str) -> None:
        self.problems.append(Problem(self._file.line(location), message))


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
