import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.backends import backend_entry
from composer.backends.recorded import RecordedBackend
from composer.errors import ConfigError
from composer.experts import check_experts, load_experts
from composer.types import (
    Capabilities,
    Completion,
    Delta,
    EngineSpec,
    Failure,
    Message,
    Request,
    Sampling,
)

QUERIES = [
    {"id": "sum", "prompt": "2 + 2?", "category": "maths", "reference": "4", "split": "test"},
    {"id": "sky", "prompt": " The sky's colour?\n", "category": "nature", "split": "test"},
    {"id": "hard", "prompt": "P = NP?", "category": "maths", "split": "test"},
    {"id": "new", "prompt": "asked of nobody", "split": "ood"},
]
OUTCOMES = [
    {"query_id": "sum", "model": "bea", "score": 0, "answer": "5"},
    {"query_id": "sum", "model": "ann", "score": 1, "answer": "4", "tokens_in": 9, "tokens_out": 7},
    {"query_id": "sky", "model": "ann", "score": 1, "answer": "blue"},
    {"query_id": "hard", "model": "ann", "score": 0, "answer": None},
]
RESPONSES = [
    {"query_id": "sum", "model": "bea", "response": "I am ann. It is 5."},
    {"query_id": "sum", "model": "ann", "response": "That makes\n4."},
]
SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=16, stop=(), n=1)


def write(folder: Path, name: str, rows: list[Any]) -> None:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(b"\n".join([*lines, b""])))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What ann and bea said to four queries; bea was asked only one, and nobody the last."""
    write(tmp_path, "queries", QUERIES)
    write(tmp_path, "outcomes", OUTCOMES)
    write(tmp_path, "responses", RESPONSES)
    return tmp_path


def ask(prompt: str = "2 + 2?", **more: Any) -> Request:
    return replace(Request("q/a", "one", (Message("user", prompt),), SAMPLING, final=True), **more)


async def load(args: Mapping[str, Any]) -> RecordedBackend:
    backend = RecordedBackend()
    await backend.load(EngineSpec("one", "recorded", "inline", ("one",), engine_args=args))
    return backend


async def loaded(folder: Path, model: str = "ann") -> RecordedBackend:
    return await load({"folder": str(folder), "model": model})


async def run(
    backend: RecordedBackend, *requests: Request, stream: bool = False
) -> list[Delta | Completion | Failure]:
    return [event async for event in backend.generate(requests, stream=stream)]


async def completion(backend: RecordedBackend, request: Request) -> Completion:
    (event,) = await run(backend, request)
    assert isinstance(event, Completion)
    return event


async def failure(backend: RecordedBackend, request: Request) -> Failure:
    (event,) = await run(backend, request, stream=True)
    assert isinstance(event, Failure)
    return event


async def test_it_repeats_the_response_with_the_answer_and_the_tokens_recorded(
    folder: Path,
) -> None:
    said = await completion(await loaded(folder), ask())
    (sample,) = said.samples
    assert (sample.text, sample.answer, sample.finish_reason) == ("That makes\n4.", "4", "stop")
    assert (said.prompt_tokens, said.completion_tokens) == (9, 7)
    assert (said.request_id, said.expert) == ("q/a", "one")


async def test_where_no_tokens_are_recorded_the_words_are_counted(folder: Path) -> None:
    said = await completion(await loaded(folder, "bea"), ask())
    assert said.text == "I am ann. It is 5."
    assert (said.prompt_tokens, said.completion_tokens) == (3, 6)


async def test_where_only_the_answer_is_recorded_it_is_the_text(folder: Path) -> None:
    said = await completion(await loaded(folder), ask(" The sky's colour?\n"))
    assert (said.text, said.samples[0].answer, said.completion_tokens) == ("blue", "blue", 1)


async def test_a_folder_without_responses_gives_answers(folder: Path) -> None:
    (folder / "responses.jsonl.gz").unlink()
    assert (await completion(await loaded(folder), ask())).text == "4"


async def test_an_empty_response_is_not_made_up_for_by_the_answer(folder: Path) -> None:
    write(folder, "responses", [{"query_id": "sum", "model": "ann", "response": ""}])
    said = await completion(await loaded(folder), ask())
    assert (said.text, said.samples[0].answer) == ("", "4")


async def test_no_answer_and_no_text_is_still_a_completion(folder: Path) -> None:
    said = await completion(await loaded(folder), ask("P = NP?"))
    assert (said.text, said.samples[0].answer, said.completion_tokens) == ("", None, 0)


async def test_an_answer_that_is_a_number_is_read_as_text(folder: Path) -> None:
    write(folder, "outcomes", [{"query_id": "sum", "model": "ann", "score": 1, "answer": 4}])
    assert (await completion(await loaded(folder), ask())).samples[0].answer == "4"


async def test_the_last_user_message_decides(folder: Path) -> None:
    earlier = (
        Message("system", "Be brief."),
        Message("user", "P = NP?"),
        Message("user", "2 + 2?"),
    )
    assert (await completion(await loaded(folder), ask(messages=earlier))).text == "That makes\n4."


@pytest.mark.parametrize("prompt", ["The sky's colour?", "\tThe sky's colour?  "])
async def test_space_around_a_prompt_does_not_matter(folder: Path, prompt: str) -> None:
    assert (await completion(await loaded(folder), ask(prompt))).text == "blue"


async def test_a_prompt_recorded_exactly_goes_before_one_like_it(folder: Path) -> None:
    write(folder, "queries", [{"id": "sky", "prompt": "a? "}, {"id": "sum", "prompt": "a?"}])
    backend = await loaded(folder)
    assert (await completion(backend, ask("a? "))).text == "blue"
    assert (await completion(backend, ask("a?"))).text == "That makes\n4."


async def test_of_two_queries_with_one_prompt_the_first_that_was_asked_counts(
    folder: Path,
) -> None:
    same = [{"id": name, "prompt": "a?"} for name in ("new", "sky", "sum")]
    write(folder, "queries", same)
    assert (await completion(await loaded(folder), ask("a?"))).text == "blue"


@pytest.mark.parametrize(
    "prompt", ["asked of nobody", "never heard of", "2 + 2", "2 + 2? Yes or no?"]
)
async def test_what_is_not_recorded_is_refused(folder: Path, prompt: str) -> None:
    failed = await failure(await loaded(folder), ask(prompt))
    assert (failed.kind, failed.retryable) == ("refused", False)
    assert failed.message.startswith("nothing is recorded for this prompt")


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"logprobs": 0}, "log-probabilities"),
        ({"schema": {"type": "object"}}, "text after a schema"),
        ({"continuation": "4", "logprobs": 0}, "score of a given text"),
        ({"peers": ("two",), "mix": "attend"}, "mix with peers"),
        ({"weights": (1.0,)}, "mix with peers"),
    ],
)
async def test_what_a_recording_cannot_give_is_refused(
    folder: Path, wish: dict[str, Any], said: str
) -> None:
    failed = await failure(await loaded(folder), ask(**wish))
    assert (failed.kind, failed.retryable) == ("refused", False)
    assert failed.message.startswith(f"a recording has no {said}")


async def test_n_texts_are_the_one_repeated(folder: Path) -> None:
    said = await completion(await loaded(folder), ask(sampling=replace(SAMPLING, n=3)))
    assert [(s.text, s.answer) for s in said.samples] == [("That makes\n4.", "4")] * 3
    assert said.completion_tokens == 21


async def test_a_text_is_repeated_whole_whatever_the_sampling(folder: Path) -> None:
    short = replace(SAMPLING, max_tokens=1, stop=("makes",))
    said = await completion(await loaded(folder), ask(sampling=short))
    assert (said.text, said.samples[0].finish_reason) == ("That makes\n4.", "stop")


async def test_deltas_are_streamed_of_final_requests_only(folder: Path) -> None:
    backend = await loaded(folder)
    events = await run(backend, ask(), ask(id="q/draft", final=False), stream=True)
    assert [e.text for e in events if isinstance(e, Delta)] == ["That", " makes", "\n4."]
    assert [e.request_id for e in events if isinstance(e, Completion)] == ["q/a", "q/draft"]
    assert not any(isinstance(e, Delta) for e in await run(backend, ask()))


async def test_nothing_is_streamed_of_an_empty_text(folder: Path) -> None:
    events = await run(await loaded(folder), ask("P = NP?"), stream=True)
    assert [type(e) for e in events] == [Completion]


async def test_aborting_what_is_over_or_unknown_does_nothing(folder: Path) -> None:
    backend = await loaded(folder)
    said = await completion(backend, ask())
    await backend.abort(["q/a", "unknown"])
    assert await completion(backend, ask()) == said


async def test_nothing_is_recorded_once_it_is_unloaded(folder: Path) -> None:
    backend = await loaded(folder)
    await backend.unload()
    assert (await failure(backend, ask())).kind == "refused"


async def test_a_model_that_was_not_asked_everything_may_be_replayed(folder: Path) -> None:
    write(folder, "outcomes_partial", [{"query_id": "sum", "model": "eve", "answer": "3"}])
    backend = await loaded(folder, "eve")
    assert (await completion(backend, ask())).text == "3"
    assert (await failure(backend, ask("P = NP?"))).kind == "refused"


@settings(deadline=None, max_examples=50)
@given(model=st.text(st.characters(exclude_categories=["Cs"])), is_ascii=st.booleans())
async def test_a_model_of_any_name_is_found_however_json_spells_it(
    tmp_path_factory: pytest.TempPathFactory, model: str, is_ascii: bool
) -> None:
    folder = tmp_path_factory.mktemp("recorded")
    outcome = {"query_id": "sum", "model": model, "answer": "4"}
    write(folder, "queries", QUERIES)
    write(folder, "outcomes", [json.dumps(outcome, ensure_ascii=is_ascii).encode()])
    assert (await completion(await loaded(folder, model), ask())).text == "4"


async def test_an_unknown_argument_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'one': .* no argument 'fodler'; did you mean 'folder'"):
        await load({"fodler": ".", "model": "ann"})


@pytest.mark.parametrize("name", ["folder", "model"])
@pytest.mark.parametrize("value", [None, 4])
async def test_a_missing_argument_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"'one': .* needs the text 'engine_args.{name}'"):
        await load({"folder": ".", "model": "ann"} | {name: value})


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expert 'one': no folder '.*nowhere'; mend"):
        await loaded(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["queries", "outcomes"])
async def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / f"{name}.jsonl.gz").unlink()
    with pytest.raises(ConfigError, match=rf"^no file '.*/{name}.jsonl.gz'; "):
        await loaded(folder)


async def test_an_unknown_model_is_named_with_those_there_are(folder: Path) -> None:
    write(folder, "outcomes_partial", [{"query_id": "sum", "model": "eve", "answer": "3"}])
    with pytest.raises(ConfigError) as raised:
        await loaded(folder, "anne")
    assert str(raised.value) == (
        f"expert 'one': {folder}: no model 'anne'; "
        "did you mean 'ann'? choose from ['ann', 'bea', 'eve']"
    )


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("queries", b'{"id": "sum", "prompt": ', "invalid JSON"),
        ("queries", b'{"id": "sum"}', "'prompt': field required"),
        ("queries", b'["sum"]', "input should be an object"),
        ("outcomes", b'{"query_id": "sum", "model": "ann"', "invalid JSON"),
        ("outcomes", b'{"model": "ann"}', "'query_id': field required"),
        ("outcomes", b'{"query_id": "sum", "model": "ann", "tokens_out": -1}', "'tokens_out': "),
        ("responses", b'{"query_id": "sum", "model": "ann"}', "'response': field required"),
        ("responses", b'{"query_id": "\xff", "model": "ann", "response": ""}', "invalid JSON"),
    ],
)
async def test_a_broken_line_is_named_by_its_file_and_number(
    folder: Path, name: str, line: bytes, said: str
) -> None:
    first = {"id": "sum", "prompt": "a", "query_id": "sum", "model": "ann", "response": "b"}
    write(folder, name, [first, b"", line])
    with pytest.raises(ConfigError) as raised:
        await loaded(folder)
    message = str(raised.value)
    assert message.lower().startswith(f"{folder}/{name}.jsonl.gz:3: {said}".lower())
    assert message.endswith("; mend the line")
    assert "\n" not in message


async def test_lines_of_other_models_are_passed_over_unread(folder: Path) -> None:
    write(folder, "outcomes", [b'{"model": "bea", broken', *OUTCOMES])
    assert (await completion(await loaded(folder), ask())).text == "That makes\n4."


@pytest.mark.parametrize("name", ["queries", "outcomes", "responses"])
@pytest.mark.parametrize("fault", ["plain", "cut", "spoilt"])
async def test_a_file_that_is_not_whole_gzip_is_named(folder: Path, name: str, fault: str) -> None:
    file = folder / f"{name}.jsonl.gz"
    whole = file.read_bytes()
    broken = {"plain": b"{}\n", "cut": whole[:-9], "spoilt": whole[:12] + b"\xff" * len(whole)}
    file.write_bytes(broken[fault])
    with pytest.raises(ConfigError) as raised:
        await loaded(folder)
    assert str(raised.value).startswith(f"{file}: cannot be read (")
    assert "\n" not in str(raised.value)


def test_it_takes_none_of_the_budgets_and_gives_text_alone() -> None:
    entry = backend_entry("recorded")
    spec = EngineSpec("one", "recorded", "inline", ("one",))
    assert (entry.memory_bytes(spec), entry.is_local) == (0, False)
    assert entry.capabilities == entry.make().capabilities == Capabilities()


def test_a_folder_beside_the_experts_is_found_from_wherever_one_runs(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "experts.yaml"
    path.write_text(
        "experts:\n"
        "  near: {engine: recorded, engine_args: {folder: data, model: ann}}\n"
        "  far: {engine: recorded, engine_args: {folder: /far/off, model: ann}}\n",
        encoding="utf-8",
    )
    assert check_experts(path) == []
    registry = load_experts(path)
    near, far = registry.engine_spec("near"), registry.engine_spec("far")
    assert near.engine_args == {"folder": str((tmp_path / "data").resolve()), "model": "ann"}
    assert far.engine_args == {"folder": "/far/off", "model": "ann"}
    assert (near.runner, near.source) == ("inline", None)


@pytest.mark.parametrize(
    ("entry", "line", "said"),
    [
        ("engine_args: {model: ann}", 4, "'engine_args.folder' is missing"),
        ("engine_args: {folder: data}", 4, "'engine_args.model' is missing"),
        ("description: ''", 2, "'engine_args.folder' is missing"),
        ("engine_args:\n      model: ann\n      folder: 4", 6, "'engine_args.folder' must be text"),
        ("model: ann", 4, "'model' does not go with engine 'recorded'; write it under"),
        ("base_url: http://x", 4, "'base_url' does not go with engine 'recorded'; set engine"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said_with_its_line(
    tmp_path: Path, entry: str, line: int, said: str
) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text(f"experts:\n  one:\n    engine: recorded\n    {entry}\n", encoding="utf-8")
    first = check_experts(path)[0]
    assert first.startswith(f"{path}:{line}: expert 'one': {said}")
