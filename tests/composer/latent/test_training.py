"""Training an interaction: what it reaches, what it leaves alone, and how it goes on."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from composer.errors import ConfigError
from composer.latent.answer_loss import Control, answer_nats, evaluate, mean_nats
from composer.latent.artefact import make_interaction
from composer.latent.examples import end_token, make_lesson
from composer.latent.group import Group
from composer.latent.members import Thinker, load_thinker
from composer.latent.recipe import Recipe
from composer.latent.rows import Row
from composer.latent.settings import LatentSettings
from composer.latent.states_cache import StatesCache
from composer.latent.study import Study
from composer.latent.training import Gates, forget_run, has_run, rows_at, train
from composer.types import Member, Message
from tests.composer.latent.groups import PROMPTS, ask, engine, thinkers, write
from tests.composer.latent.test_states_cache import counted
from tests.latent_models import save_tiny_model

RECIPE = Recipe(steps=6, batch=3, warmup_steps=1, keep_every=2, gate_rate=0.05, dtype="float32")
ROWS = tuple(
    Row((Message("user", prompt),), answer, where=f"row {i}")
    for i, (prompt, answer) in enumerate(
        zip(
            PROMPTS, ("oslo", "one", "two three", "42", "norway", "red", "green", "no"), strict=True
        )
    )
)


class Interruption(Exception):
    """What ends a run in the middle."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Thinker, ...]:
    """Two experts of different families and depths."""
    return thinkers(tmp_path_factory.mktemp("models"), ("llama", "gemma"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> StatesCache:
    """What all tests of these experts share."""
    return StatesCache(tmp_path_factory.mktemp("states"))


def study(
    members: Sequence[Thinker],
    cache: StatesCache,
    *,
    rows: Sequence[Row] = ROWS,
    primaries: Sequence[str] = ("llama",),
    opened: float = 0.0,
    **shape: Any,
) -> Study:
    """A group and rows, read; gates are opened so far."""
    sizes: dict[str, Any] = {"levels": 2, "width": 16, "heads": 2} | shape
    settings = LatentSettings(**sizes)
    names = [thinker.name for thinker in members]
    interaction = make_interaction(
        [thinker.width for thinker in members], [names.index(p) for p in primaries], settings
    )
    if opened:
        for name, weight in interaction.named_parameters():
            if ".gate." in name:
                weight.data.fill_(opened)
            elif ".up." in name:
                weight.data.normal_(generator=torch.Generator().manual_seed(0))
    made = Study(Group(tuple(members), interaction), rows, primaries, cache)
    made.prepare()
    return made


def weights(of: Study) -> dict[str, Tensor]:
    return {name: w.detach().clone() for name, w in of.group.interaction.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"gate": "channel"},
        {"gate": "none"},
        {"attend_self": True},
        {"refresh": "token"},
        {"refresh": "every_n", "refresh_every": 2},
        {"think_tokens": 3},
    ],
    ids=str,
)
def test_gradients_reach_all_that_is_trained_and_nothing_else(
    pair: tuple[Thinker, ...], cache: StatesCache, shape: dict[str, Any]
) -> None:
    made = study(pair, cache, primaries=("llama", "gemma"), opened=0.3, **shape)

    torch.cat(
        [n for who in ((0, 1), (1, 0)) for n in answer_nats(made, who, [0, 2, 3])]
    ).sum().backward()

    lacking = [
        name
        for name, weight in made.group.interaction.named_parameters()
        if weight.grad is None or not weight.grad.abs().sum() > 0
    ]
    assert lacking == []
    frozen = [weight for thinker in pair for weight in thinker.network.parameters()]
    assert all(weight.grad is None and not weight.requires_grad for weight in frozen)


def test_the_experts_are_the_same_after_training(
    pair: tuple[Thinker, ...], cache: StatesCache, tmp_path: Path
) -> None:
    before = [w.clone() for thinker in pair for w in thinker.network.parameters()]
    made = study(pair, cache)
    untrained = weights(made)

    steps = train(made, tmp_path, RECIPE)

    after = [w for thinker in pair for w in thinker.network.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not same(untrained, weights(made))
    assert len(steps) == RECIPE.steps
    assert [len(values) for values in steps[-1].gates.values()] == [2]
    assert set(steps[-1].gates) == {"llama"}


def end_at(number: int) -> Callable[[int, float, Gates], None]:
    def end(step: int, loss: float, gates: Gates) -> None:
        if step == number:
            raise Interruption

    return end


@pytest.mark.parametrize("primaries", [("llama",), ("gemma", "llama")], ids=str)
@pytest.mark.parametrize("ended", [1, 3, 6])
def test_a_run_that_was_ended_comes_to_the_same_weights_bit_for_bit(
    pair: tuple[Thinker, ...],
    cache: StatesCache,
    tmp_path: Path,
    primaries: tuple[str, ...],
    ended: int,
) -> None:
    shape: Any = {"primaries": primaries, "refresh": "every_n", "refresh_every": 2}
    whole = study(pair, cache, **shape)
    steps = train(whole, tmp_path / "whole", RECIPE)

    with pytest.raises(Interruption):
        train(study(pair, cache, **shape), tmp_path / "cut", RECIPE, on_step=end_at(ended))
    told: list[int] = []
    again = study(pair, cache, **shape)

    def tell(step: int, loss: float, gates: Gates) -> None:
        told.append(step)

    found = train(again, tmp_path / "cut", RECIPE, on_step=tell)

    assert told == list(range(1 + (ended - 1) // 2 * 2, 7))
    assert found == steps
    assert same(weights(whole), weights(again))


def test_the_same_seed_comes_to_the_same_weights_and_another_to_others(
    pair: tuple[Thinker, ...], cache: StatesCache, tmp_path: Path
) -> None:
    found: list[dict[str, Tensor]] = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        made = study(pair, cache)
        train(made, tmp_path / name, replace(RECIPE, seed=seed))
        found.append(weights(made))

    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_a_run_that_is_done_is_not_done_again(
    pair: tuple[Thinker, ...], cache: StatesCache, tmp_path: Path
) -> None:
    first = study(pair, cache)
    steps = train(first, tmp_path, RECIPE)
    again = study(pair, cache)

    assert train(again, tmp_path, RECIPE, on_step=end_at(1)) == steps

    assert same(weights(first), weights(again))
    assert has_run(tmp_path)
    forget_run(tmp_path)
    assert not has_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"steps": 7}, "'steps': 6"), ({"learning_rate": 0.5}, "'learning_rate': 0.001")],
)
def test_a_run_with_other_settings_is_refused_and_they_are_named(
    pair: tuple[Thinker, ...],
    cache: StatesCache,
    tmp_path: Path,
    change: dict[str, Any],
    said: str,
) -> None:
    train(study(pair, cache), tmp_path, RECIPE)

    with pytest.raises(ConfigError, match=f"begun with other settings .{{{said}}}"):
        train(study(pair, cache), tmp_path, replace(RECIPE, **change))


def test_a_run_on_other_rows_is_refused(
    pair: tuple[Thinker, ...], cache: StatesCache, tmp_path: Path
) -> None:
    train(study(pair, cache), tmp_path, RECIPE)

    with pytest.raises(ConfigError, match=r"begun with other settings .*'rows'"):
        train(study(pair, cache, rows=ROWS[1:]), tmp_path, RECIPE)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_what_was_good(
    pair: tuple[Thinker, ...], cache: StatesCache, tmp_path: Path
) -> None:
    whole = study(pair, cache)
    train(whole, tmp_path / "whole", RECIPE)
    spoilt = study(pair, cache)

    def spoil(step: int, loss: float, gates: Gates) -> None:
        if step == 3:
            next(iter(spoilt.group.interaction.parameters())).data.fill_(torch.nan)

    with pytest.raises(ConfigError, match=r"the loss is nan at step 4; .*as after step 2\. Lower"):
        train(spoilt, tmp_path / "cut", RECIPE, on_step=spoil)

    again = study(pair, cache)
    train(again, tmp_path / "cut", RECIPE)
    assert same(weights(whole), weights(again))


def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    pair: tuple[Thinker, ...], cache: StatesCache, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, steps=2, batch=6)

    whole = train(study(pair, cache, opened=0.2), tmp_path / "a", recipe)
    parts = train(study(pair, cache, opened=0.2), tmp_path / "b", replace(recipe, accumulate=3))

    assert [step.loss for step in parts] == pytest.approx([s.loss for s in whole], rel=1e-4)


def test_states_of_peers_are_made_once_for_all_steps_and_runs(
    pair: tuple[Thinker, ...], tmp_path: Path
) -> None:
    members = [counted(thinker) for thinker in pair]
    recipe = replace(RECIPE, steps=10)

    for run in range(2):
        made = study(members, StatesCache(tmp_path / "states"), think_tokens=2)
        train(made, tmp_path / str(run), recipe)

    assert members[0].read == []
    assert sum(members[1].read) == sum(members[1].thought) == len(ROWS)


def test_the_loss_alone_is_that_of_the_answers_tokens_and_the_end(
    pair: tuple[Thinker, ...], cache: StatesCache
) -> None:
    made = study(pair, cache)

    found = evaluate(made, control="alone", batch=5)

    for row, loss in zip(ROWS, found, strict=True):
        tokenizer = pair[0].tokenizer
        prompt, answer = tokenizer.encode(row.messages), tokenizer.encode_text(row.answer)
        tokens = torch.tensor([*prompt, *answer, 1])
        logits = pair[0].network(tokens[None]).logits[0, len(prompt) - 1 : -1]
        nats = torch.nn.functional.cross_entropy(logits, tokens[len(prompt) :], reduction="sum")
        assert loss.nats == pytest.approx(float(nats), rel=1e-4)
        assert loss.n_tokens == len(answer) + 1
    assert mean_nats(found) == pytest.approx(
        sum(loss.nats for loss in found) / sum(loss.n_tokens for loss in found)
    )


def test_gates_that_are_closed_leave_the_loss_as_it_is_alone(
    pair: tuple[Thinker, ...], cache: StatesCache
) -> None:
    made = study(pair, cache)

    assert evaluate(made) == evaluate(made, control="alone")


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"attend_self": True},
        {"think_tokens": 3},
        {"refresh": "token"},
        {"refresh": "every_n", "refresh_every": 2},
    ],
    ids=str,
)
def test_the_loss_is_what_an_engine_says_of_the_answer(
    pair: tuple[Thinker, ...], cache: StatesCache, shape: dict[str, Any]
) -> None:
    rows = [Row((Message("user", prompt),), "oslo red") for prompt in PROMPTS[:3]]
    made = study(pair, cache, rows=rows, opened=0.3, **shape)

    with torch.no_grad():
        nats = answer_nats(made, (0, 1), range(3))
    asked = [ask(i, prompt, continuation="oslo red") for i, prompt in enumerate(PROMPTS[:3])]
    scored, _ = write(engine(made.group), *asked)

    for of_row, completion in zip(nats, scored, strict=True):
        told = [-token.logprob for token in completion.samples[0].logprobs or ()]
        assert of_row[:-1].tolist() == pytest.approx(told, abs=1e-3)


@pytest.mark.parametrize("control", ["shuffled", "zero", "alone"])
def test_controls_change_what_is_attended_to(
    pair: tuple[Thinker, ...], cache: StatesCache, control: Control
) -> None:
    made = study(pair, cache, opened=0.3)

    together, other = evaluate(made), evaluate(made, control=control)

    assert all(a.nats != b.nats for a, b in zip(together, other, strict=True))


@given(n_rows=st.integers(1, 9), batch=st.integers(1, 7), seed=st.integers(0, 3))
def test_every_row_comes_once_before_any_comes_again(n_rows: int, batch: int, seed: int) -> None:
    recipe = Recipe(batch=batch, seed=seed)

    taken = [row for step in range(2 * n_rows) for row in rows_at(n_rows, recipe, step)]

    for begin in range(0, len(taken) - n_rows + 1, n_rows):
        assert sorted(taken[begin : begin + n_rows]) == list(range(n_rows))


def test_a_row_that_is_too_long_for_its_primary_is_named(
    pair: tuple[Thinker, ...], cache: StatesCache
) -> None:
    long = Row((Message("user", "ä" * 300),), "oslo", where="train.jsonl:7")

    with pytest.raises(ConfigError, match=r"^train.jsonl:7: .* for expert 'llama', whose context"):
        study(pair, cache, rows=[*ROWS, long])


def test_a_peer_reads_how_a_prompt_ends_that_is_too_long_for_it_and_it_is_said(
    pair: tuple[Thinker, ...], cache: StatesCache, caplog: pytest.LogCaptureFixture
) -> None:
    members = (pair[0], replace(pair[1], context=30))

    with caplog.at_level(logging.WARNING):
        made = study(members, cache, refresh="token")

    (record,) = caplog.records
    assert "'gemma'" in record.message
    assert "prompts are longer than its context of 30 tokens" in record.message
    heard = made.heard(1, 0, range(len(ROWS)))
    assert max(map(len, heard.readings)) == 30
    assert evaluate(made)


def test_a_peer_is_seen_no_further_than_it_would_have_been(
    pair: tuple[Thinker, ...], cache: StatesCache
) -> None:
    row = Row(ROWS[0].messages, "oslo one two three")
    changed = replace(row, answer="oslo one two green")
    shape: Any = {"refresh": "token", "opened": 0.4}

    (was,) = answer_nats(study(pair, cache, rows=[row], **shape), (0, 1), [0])
    (now,) = answer_nats(study(pair, cache, rows=[changed], **shape), (0, 1), [0])

    shared = len(pair[0].tokenizer.encode_text("oslo one two"))
    torch.testing.assert_close(was[:shared], now[:shared])


def test_primaries_take_turns_and_only_as_many_peers_as_are_active(
    tmp_path_factory: pytest.TempPathFactory, pair: tuple[Thinker, ...], cache: StatesCache
) -> None:
    third = thinkers(tmp_path_factory.mktemp("third"), ("qwen",))
    primaries = ("qwen", "llama")
    made = study((*pair, *third), cache, primaries=primaries, active=2)

    drawn = [made.who(0, turn, 0) for turn in range(20)]

    assert [who[0] for who in drawn] == [2, 0] * 10
    assert {who[1] for who in drawn[::2]} == {0, 1}
    assert all(len(set(who)) == 2 for who in drawn)
    assert drawn == [made.who(0, turn, 0) for turn in range(20)]


def test_a_row_may_say_who_takes_part(
    pair: tuple[Thinker, ...], cache: StatesCache, tmp_path: Path
) -> None:
    rows = [ROWS[0], replace(ROWS[1], experts=("gemma", "llama"))]

    made = study(pair, cache, rows=rows, primaries=("llama", "gemma"))

    assert [made.who(row, 0, 0) for row in range(2)] == [(0, 1), (1, 0)]
    train(made, tmp_path, replace(RECIPE, steps=2))


@pytest.mark.parametrize(
    ("experts", "said"),
    [
        (("llama",), "row 0: names experts .'llama'.; name two or more"),
        (("llama", "llama"), "row 0: names experts"),
        (("gemma", "llama"), "row 0: expert 'gemma' is not trained to write"),
        (("llama", "cy"), "row 0: no expert 'cy'"),
    ],
)
def test_a_row_of_experts_that_cannot_be_is_refused(
    pair: tuple[Thinker, ...], cache: StatesCache, experts: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        study(pair, cache, rows=[replace(ROWS[0], experts=experts)])


def blind(folder: Path, template: str) -> Thinker:
    """A Llama with a template of one's own."""
    save_tiny_model(folder, "llama", 3)
    member = Member("llama", str(folder), str(folder), chat_template=template)
    return load_thinker(member, dtype=torch.float32)


def test_the_end_is_the_one_that_the_template_writes(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}<pad>{{ m.content }}"
        "{% if m.role == 'assistant' %}<pad>{% endif %}{% endfor %}"
    )
    thinker = replace(blind(tmp_path / "llama", template), ends=frozenset({0, 1, 2}))

    assert end_token(thinker, ROWS[0]) == 2
    assert make_lesson(thinker, ROWS[0]).targets[-1] == 2
    assert end_token(replace(thinker, ends=frozenset({1, 5})), ROWS[0]) == 1
    assert end_token(replace(thinker, ends=frozenset[int]()), ROWS[0]) is None


def test_a_primary_learns_from_its_peer_what_it_cannot_know(
    pair: tuple[Thinker, ...], tmp_path: Path
) -> None:
    answers = {"red": "one", "green": "two", "blue": "three"}
    rows = [
        Row((Message("user", f"{before} {colour}"),), answer)
        for before in ("what is", "the answer is", "and")
        for colour, answer in answers.items()
    ]
    members = (blind(tmp_path / "llama", "{{ bos_token }}say "), pair[1])
    made = study(members, StatesCache(tmp_path / "states"), rows=rows, width=32)
    recipe = Recipe(
        steps=100, batch=9, learning_rate=0.005, gate_rate=0.1, warmup_steps=5, dtype="float32"
    )

    train(made, tmp_path, recipe)

    together, shuffled = mean_nats(evaluate(made)), mean_nats(evaluate(made, control="shuffled"))
    # Surer than at 0.66 this primary cannot be; without the colour it would be at 1.03.
    assert together < 0.85
    assert shuffled > together + 1
