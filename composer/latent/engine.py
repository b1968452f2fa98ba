"""The engine of a group: takes in requests, and writes all their texts a token a step."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from composer.errors import ConfigError
from composer.latent.batches import Batch, Event, Run, Who
from composer.latent.decoding import Cohort
from composer.latent.group import Group
from composer.latent.reading import Reading, in_steps, read_answer, read_prompt
from composer.latent.writing import Writing
from composer.types import Completion, Failure, Request, RequestId, Sample, TokenLogprob

logger = logging.getLogger(__name__)


class LatentEngine:
    """Writes the texts of requests; used from one thread only.

    What is asked together begins together, and is one batch to its end; what comes later is a
    batch of its own beside it. Each step writes one token of every text of every batch.
    """

    def __init__(
        self,
        group: Group,
        primaries: Sequence[str],
        *,
        max_texts: int = 32,
        context: int | None = None,
    ) -> None:
        """Store what is needed.

        Args:
            group: The experts, loaded.
            primaries: Names of those that may write; the first does where nobody is named.
            max_texts: How many are written at one time; a request of more begins alone.
            context: Tokens of the primary, prompt and text; None: as many as it was made for.
        """
        self._group = group
        self._primaries = tuple(primaries)
        self._max_texts = max_texts
        self._context = context
        self._numbers = {thinker.name: i for i, thinker in enumerate(group.thinkers)}
        self._waiting: list[Run] = []
        self._batches: list[Batch] = []
        self._is_cut_said = False

    def add(self, request: Request, *, stream: bool) -> Failure | None:
        """Take in a request; a failure here is its outcome."""
        if (reason := self._unusable(request)) is not None:
            return Failure(request.id, request.expert, "refused", reason)
        who = self._who(request)
        try:
            prompts = {
                expert: read_prompt(self._group.thinkers[expert].tokenizer, request.messages)
                for expert in who
            }
        except ConfigError as exc:
            return Failure(request.id, request.expert, "refused", str(exc))
        thinker = self._group.thinkers[who[0]]
        limit = min(self._context or thinker.context, thinker.context)
        scored = thinker.tokenizer.encode_text(request.continuation or "")
        room = limit - len(prompts[who[0]]) - len(scored)
        if room <= 0:
            reason = f"the prompt has {limit - room} tokens and the context is {limit}; shorten it"
            return Failure(request.id, request.expert, "too_long", reason)
        self._tell_of_cut(who, prompts)
        run = Run(request, who, prompts, stream=stream)
        if request.continuation is None:
            run.writings = [
                Writing(request, i, prompts[who[0]], thinker.tokenizer, thinker.ends, room)
                for i in range(request.sampling.n or 1)
            ]
        self._waiting.append(run)
        return None

    def abort(self, ids: Sequence[RequestId]) -> None:
        """Forget these requests; ids that are not running are ignored."""
        gone = set(ids)
        self._waiting = [run for run in self._waiting if run.request.id not in gone]
        for batch in self._batches:
            batch.keep([w for w in batch.writings if w.request.id not in gone])
        self._batches = [batch for batch in self._batches if batch.writings]

    def step(self) -> list[Event]:
        """Advance every running request by a token and return what came of it."""
        events: list[Event] = []
        begun = self._begin(events)
        for batch in self._batches:
            texts = [w.text for w in batch.writings]
            scores = batch.cohort.step([w.tokens[-1] for w in batch.writings], texts)
            events.extend(batch.take(scores))
        for batch, scores in begun:
            events.extend(batch.take(scores))
        self._batches.extend(batch for batch, _ in begun)
        self._batches = [batch for batch in self._batches if batch.writings]
        return events

    def close(self) -> None:
        """Let go of the experts and their memory."""
        self._waiting.clear()
        self._batches.clear()
        del self._group
        gc.collect()

    def _begin(self, events: list[Event]) -> list[tuple[Batch, Tensor]]:
        """New batches of what waits, as far as there is room, and their first scores."""
        n_texts = sum(len(batch.writings) for batch in self._batches)
        taken: dict[Who, list[Run]] = {}
        while self._waiting:
            run = self._waiting[0]
            if n_texts and n_texts + len(run.writings) > self._max_texts:
                break
            self._waiting.pop(0)
            if run.writings:
                n_texts += len(run.writings)
                taken.setdefault(run.who, []).append(run)
            else:
                events.append(self._scored(run))
        begun: list[tuple[Batch, Tensor]] = []
        for who, runs in taken.items():
            prompts = {e: [run.prompts[e] for run in runs for _ in run.writings] for e in who}
            cohort = Cohort(self._group, who[0], prompts)
            begun.append((Batch(cohort, runs), cohort.begin()))
        return begun

    @torch.no_grad()
    def _scored(self, run: Run) -> Completion:
        """The text that a request gives, with the log-probability of each of its tokens."""
        group, settings, (primary, *peers) = self._group, self._group.settings, run.who
        text = run.request.continuation or ""
        thinker = group.thinkers[primary]
        prompt = run.prompts[primary]
        reading = read_answer(thinker.tokenizer, prompt, text)
        heard = [
            group.listen(peer, [run.prompts[peer]])
            if settings.refresh == "prompt"
            else group.hear(
                peer,
                [
                    in_steps(
                        read_answer(group.thinkers[peer].tokenizer, run.prompts[peer], text),
                        reading,
                        len(prompt),
                        settings,
                    )
                ],
            )
            for peer in peers
        ]
        tokens = reading.tokens[len(prompt) :]
        keep = len(tokens) + 1
        scores = group.logits(primary, [reading], group.memories(heard, thinker.device), keep)
        logprobs = scores[0, :-1].float().log_softmax(-1)
        told = tuple(
            TokenLogprob(thinker.tokenizer.token_text(token), float(logprobs[i, token]))
            for i, token in enumerate(tokens)
        )
        return run.completion((Sample(text, "scored", len(tokens), told),))

    def _unusable(self, request: Request) -> str | None:
        """Why the group cannot do what a request asks; None: it can."""
        if request.schema is not None:
            return "a mixture of thoughts cannot be held to a schema; leave it out"
        if request.mix == "average" or request.weights:
            return "a mixture of thoughts attends to its peers; ask for mix 'attend', no weights"
        if strangers := [name for name in request.peers if name not in self._numbers]:
            return f"{strangers[0]!r} is none of the group's experts {sorted(self._numbers)}"
        if len(set(request.peers)) < len(request.peers):
            return "an expert is named twice among those that take part; name each once"
        if len(request.peers) == 1:
            return "a primary needs a peer to attend to; name one more, or nobody for all"
        writer = self._group.thinkers[self._who(request)[0]].name
        if writer not in self._primaries:
            return f"{writer!r} was not trained to write; name one of {list(self._primaries)} first"
        return None

    def _who(self, request: Request) -> Who:
        """Those that a request names; nobody: the first that may write, and all others."""
        if request.peers:
            return tuple(self._numbers[name] for name in request.peers)
        first = self._numbers[self._primaries[0]]
        return (first, *(number for number in self._numbers.values() if number != first))

    def _tell_of_cut(self, who: Who, prompts: dict[int, Reading]) -> None:
        """Say once that a peer does not read a whole prompt."""
        for peer in who[1:]:
            thinker = self._group.thinkers[peer]
            if not self._is_cut_said and len(prompts[peer]) > thinker.context:
                self._is_cut_said = True
                logger.warning(
                    "%r reads only the last %d of a prompt's %d tokens, which is its context",
                    thinker.name, thinker.context, len(prompts[peer]),
                )  # fmt: skip
