"""What is wrong with an entry of experts.yaml, said for the person who wrote it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from composer.config_file import Location
from composer.credentials import HOW_TO_REFER, is_reference
from composer.entries import Composition, Expert
from composer.group_checks import check_members
from composer.pool_settings import PoolSettings
from composer.suggest import suggest

EntryT = TypeVar("EntryT", bound=BaseModel)
Found = tuple[Location, str]
"""Where inside the entry, and what is wrong there, remedy last."""

_REQUIRED = {
    "vllm": {"source": 'give a hub id, a folder or "package:NAME"'},
    "latent": {
        "source": "give the folder that `composer latent fit` has saved",
        "members": "name the experts that think together, as a list",
    },
    "openai": {
        "base_url": "give the endpoint, such as http://127.0.0.1:8000/v1",
        "model": "give the endpoint's own name for the model",
    },
}
_REQUIRED_ARGS = {
    "recorded": {
        "folder": "give the folder of the recorded data",
        "model": "give the model's name in that folder",
    },
}
_ENDPOINT_KEYS = ("base_url", "model", "api_key")
_WEIGHTS_KEYS = ("source", "chat_template")
_BASE_KEYS = ("source", "engine_args", "chat_template", "runner", "trust_remote_code")
_SECRET_KEYS = (
    "api_key",
    "apikey",
    "hf_token",
    "access_token",
    "authorization",
    "secret",
    "password",
)
_TEXTS = {
    "string_type": "must be text; put it in quotes",
    "string_too_short": "must not be empty",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list, such as [a, b]",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "missing": "is missing; add it",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
}


def parse_entry(model: type[EntryT], data: object) -> EntryT | list[Found]:
    """The entry, or everything that is wrong with its keys and values."""
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        return [_describe(model, error) for error in exc.errors()]


def check_expert(
    expert: Expert, names: Collection[str], valid: Mapping[str, Expert]
) -> list[Found]:
    """What is wrong between the keys of an expert, and between it and the others.

    Args:
        expert: The one to check.
        names: All experts of the file.
        valid: Those of them whose own keys and values are right.
    """
    found: list[Found] = []
    if expert.base is not None or expert.adapter is not None:
        found += _check_lora(expert, names, valid)
    else:
        found += _check_engine_keys(expert)
        found += check_members(expert, names, valid)
    if expert.api_key is not None and not is_reference(expert.api_key):
        found.append((("api_key",), f"'api_key' holds the secret itself; {HOW_TO_REFER}"))
    found += _find_secrets(expert.engine_args, ("engine_args",))
    return found


def check_composition(
    composition: Composition, names: Collection[str], routed: Collection[str]
) -> Iterator[Found]:
    """What is wrong between a composition and the experts of the file, given by name.

    Args:
        composition: The one to check.
        names: All experts.
        routed: Those of them that routers choose among.
    """
    choose = composition.choose
    if choose.k > len(routed):
        message = f"'choose.k' is {choose.k} and there are {len(routed)} experts; lower it"
        yield ("choose", "k"), message
    if choose.fallback is not None:
        yield from _check_name(choose.fallback, routed, ("choose", "fallback"))
    for part, settings in (
        ("router", composition.router.settings),
        ("aggregator", composition.aggregator.settings),
    ):
        for key in settings.keys() & {"by", "expert"}:
            yield from _check_name(settings[key], names, (part, key))
        if "experts" in settings:
            yield from _check_names(settings["experts"], names, (part, "experts"))


def check_pool(settings: PoolSettings, experts: Mapping[str, Expert]) -> Iterator[Found]:
    """What is wrong between the pool's settings and the experts of the file."""
    if settings.gpu_memory_gib is None:
        return
    greedy = [
        name
        for name, expert in experts.items()
        if expert.engine == "vllm"
        and expert.base is None
        and "kv_cache_memory_bytes" not in expert.engine_args
    ]
    if greedy:
        message = (
            "'gpu_memory_gib' is shared out by what engines take, and vLLM takes nearly all unless "
            f"told otherwise; give {greedy} engine_args.kv_cache_memory_bytes"
        )
        yield ("gpu_memory_gib",), message


def _describe(model: type[BaseModel], error: ErrorDetails) -> Found:
    location = error["loc"]
    key = repr(_dotted(location))
    if error["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        return location, f"unknown key {key}; {suggest(str(location[-1]), known)}"
    text = error["msg"][:1].lower() + error["msg"][1:]
    if error["type"] in _TEXTS:
        text = _TEXTS[error["type"]].format_map(error.get("ctx", {}))
    if error["type"] == "literal_error":
        text += f", not {error['input']!r}"
    return location, f"{key} {text}" if location else text


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    for step in location:
        model = cast("type[BaseModel]", model.model_fields[str(step)].annotation)
    return [name for name in model.model_fields if name != "name" or model is not Expert]


def _dotted(location: Location) -> str:
    return ".".join(str(step) for step in location)


def _check_lora(
    expert: Expert, names: Collection[str], valid: Mapping[str, Expert]
) -> Iterator[Found]:
    if expert.adapter is None:
        yield ("base",), "'base' needs an 'adapter'; give the adapter's folder or remove 'base'"
    if expert.base is None:
        yield ("adapter",), "'adapter' needs a 'base'; name the expert that it adapts"
        return
    for key in _BASE_KEYS:
        if key in expert.model_fields_set:
            yield (key,), f"{key!r} is for the base {expert.base!r} to say; remove it here"
    for key in _ENDPOINT_KEYS:
        if key in expert.model_fields_set:
            yield (key,), f"{key!r} goes with engine 'openai', which has no adapters; remove it"
    if expert.engine != "vllm":
        yield ("engine",), "only engine 'vllm' has adapters; remove 'engine'"
    if expert.base == expert.name:
        yield ("base",), "an expert cannot be its own base; name another"
        return
    yield from _check_name(expert.base, set(names) - {expert.name}, ("base",))
    base = valid.get(expert.base)
    if base is not None and base.base is not None:
        yield ("base",), f"'base' {base.name!r} is itself an adapter; name {base.base!r} instead"
    elif base is not None and base.engine != "vllm":
        message = f"'base' {base.name!r} runs on {base.engine!r}; only engine 'vllm' has adapters"
        yield ("base",), message


def _check_engine_keys(expert: Expert) -> Iterator[Found]:
    is_remote = expert.engine == "openai"
    required_args = _REQUIRED_ARGS.get(expert.engine, {})
    strangers = [k for k in (_WEIGHTS_KEYS if is_remote else _ENDPOINT_KEYS) if getattr(expert, k)]
    for key in strangers:
        remedy = "remove it" if is_remote else "set engine: openai or remove it"
        if key in required_args:
            remedy = "write it under 'engine_args'"
        yield (key,), f"{key!r} does not go with engine {expert.engine!r}; {remedy}"
    for key, remedy in _REQUIRED.get(expert.engine, {}).items():
        if not getattr(expert, key) and not strangers:
            yield (), f"{key!r} is missing, which engine {expert.engine!r} needs; {remedy}"
    for key, remedy in required_args.items() if not strangers else ():
        if key not in expert.engine_args:
            missing = f"'engine_args.{key}' is missing, which engine {expert.engine!r} needs"
            yield ("engine_args",), f"{missing}; {remedy}"
        elif not isinstance(expert.engine_args[key], str):
            yield ("engine_args", key), f"'engine_args.{key}' must be text; put it in quotes"
    for key in _ENDPOINT_KEYS if is_remote else ():
        if key in expert.engine_args:
            message = f"'engine_args.{key}' would hide {key!r}; write {key!r} beside 'engine_args'"
            yield ("engine_args", key), message
    if is_remote and expert.base_url:
        yield from _check_url(expert.base_url)


def _check_url(url: str) -> Iterator[Found]:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in {"http", "https"} or not parts.netloc:
        yield ("base_url",), "'base_url' is no address; write it as http://HOST:PORT/v1"
    elif "@" in parts.netloc or parts.query:
        message = "'base_url' holds a password or a query; name the key by 'api_key' or in headers"
        yield ("base_url",), message


def _find_secrets(value: object, location: Location) -> Iterator[Found]:
    if isinstance(value, list):
        for i, item in enumerate(cast("list[Any]", value)):
            yield from _find_secrets(item, (*location, i))
    if not isinstance(value, dict):
        return
    for key, item in cast("dict[str, Any]", value).items():
        place = (*location, key)
        is_secret = key.lower().replace("-", "_") in _SECRET_KEYS
        if is_secret and isinstance(item, str) and not is_reference(item):
            message = f"{_dotted(place)!r} holds the secret itself; {HOW_TO_REFER}"
            yield place, message
        yield from _find_secrets(item, place)


def _check_names(value: object, names: Collection[str], location: Location) -> Iterator[Found]:
    if not isinstance(value, list):
        yield location, f"{_dotted(location)!r} must be a list of experts, such as [a, b]"
        return
    for i, name in enumerate(cast("list[Any]", value)):
        yield from _check_name(name, names, (*location, i))


def _check_name(value: object, names: Collection[str], location: Location) -> Iterator[Found]:
    if not isinstance(value, str):
        yield location, f"{_dotted(location)!r} must be the name of an expert; put it in quotes"
    elif value not in names:
        yield location, f"{_dotted(location)!r} names no expert: {value!r}; {suggest(value, names)}"
