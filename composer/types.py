"""What travels between the parts: frozen values, no behaviour beyond reading themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]

Role = Literal["system", "user", "assistant"]
Purpose = Literal["propose", "aggregate", "judge", "annotate", "verify"]
AnswerType = Literal["choice", "number", "yes_no", "text", "json", "code"]
FailureKind = Literal["timeout", "unavailable", "refused", "too_long", "bad_output", "cancelled"]
RequestId = str


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message in OpenAI's form."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an engine draws tokens, in the engines' own words. None: not said here."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    n: int | None = None

    def over(self, defaults: Sampling) -> Sampling:
        """This sampling, with what it leaves open taken from `defaults`."""
        return Sampling(
            temperature=self.temperature if self.temperature is not None else defaults.temperature,
            top_p=self.top_p if self.top_p is not None else defaults.top_p,
            max_tokens=self.max_tokens if self.max_tokens is not None else defaults.max_tokens,
            stop=self.stop if self.stop is not None else defaults.stop,
            seed=self.seed if self.seed is not None else defaults.seed,
            n=self.n if self.n is not None else defaults.n,
        )


DEFAULT_SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=256, stop=(), n=1)
"""What holds where neither the request nor the expert says otherwise: greedy, 256 tokens."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question put to a composition."""

    id: str
    messages: tuple[Message, ...]
    category: str | None = None
    """Known only where the caller knows it; evaluation hides it from routers unless asked."""
    answer_type: AnswerType | None = None
    """How a typed answer is read from an expert's text; None: the aggregator's own setting."""
    sampling: Sampling = Sampling()
    """How its answer is drawn, where the aggregator leaves that open; over the expert's own."""

    @property
    def text(self) -> str:
        """The last user message: what routers embed."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of one expert."""

    id: RequestId
    """Stable: query id + path in the flow. Unique among all that a pool runs at one time."""
    expert: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    logprobs: int | None = None
    """How many alternatives a token to return log-probabilities for; None: none at all."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema that the text must meet."""
    continuation: str | None = None
    """Score this text after the messages and generate nothing."""
    peers: tuple[str, ...] = ()
    """Other experts that one engine holds. With `mix` attend `expert` is a group, and these are
    its members that take part, the one that writes first; empty: all of them."""
    mix: Literal["attend", "average"] | None = None
    weights: tuple[float, ...] = ()
    """What `expert`, then each of `peers`, counts before an average's first token; 0: nothing.

    Only ratios matter. Empty: all alike.
    """
    final: bool = False
    """The text is the answer in the making, and is streamed."""
    purpose: Purpose = "propose"
    deadline_s: float | None = None
    """Seconds from acceptance by the pool (waiting and loading count); None: the pool's default."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One generated token, its log-probability (nats) and the alternatives asked for."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One text of the n that a request asked for."""

    text: str
    finish_reason: str
    completion_tokens: int
    logprobs: tuple[TokenLogprob, ...] | None = None
    answer: str | None = None
    """The typed answer where it is already extracted, as in recorded data; extractors use it."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What an expert said to one request."""

    request_id: RequestId
    expert: str
    samples: tuple[Sample, ...]
    prompt_tokens: int
    queued_s: float = 0.0
    loading_s: float = 0.0
    generating_s: float = 0.0
    cost_usd: float = 0.0
    attempts: int = 1
    runner: str | None = None
    """How its runner came to hold the expert: resident, reused, warm or fresh; None: inline."""
    peers: tuple[str, ...] = ()
    """Other experts that wrote it together with this one."""

    @property
    def text(self) -> str:
        """The first sample's text."""
        return self.samples[0].text

    @property
    def completion_tokens(self) -> int:
        """Tokens generated, over all samples."""
        return sum(sample.completion_tokens for sample in self.samples)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an expert said nothing usable to one request."""

    request_id: RequestId
    expert: str
    kind: FailureKind
    message: str
    retryable: bool = False
    """Worth trying again on a fresh runner; the pool has already done so when it hands this out."""
    attempts: int = 1


Outcome = Completion | Failure


@dataclass(frozen=True, slots=True)
class Ask:
    """What a flow yields: new requests, and when to be resumed.

    `all`: when every unanswered request of the flow has its outcome, sent in the order asked.
    `any`: as soon as at least one has, sent in the order that was cheapest for the driver.
    """

    requests: tuple[Request, ...] = ()
    wait: Literal["all", "any"] = "all"


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of text of a streamed request."""

    request_id: RequestId
    expert: str
    text: str


@dataclass(frozen=True, slots=True)
class Restart:
    """Drop the text streamed so far: the answer begins anew."""

    request_id: RequestId
    reason: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """What an annotating flow found out about a query, for the router that asked for it."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a router scored one expert for one query as it did."""

    reason: str
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Scores:
    """What a router thinks of every expert for every query."""

    experts: tuple[str, ...]
    """Column names, m of them."""
    quality: Float32Array
    """Predicted quality [n, m] float32 in [0, 1]; NaN: unknown."""
    why: Callable[[int, int], Evidence]
    """Evidence of (query row, expert column), made when asked for."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One expert picked for a query, and why."""

    expert: str
    quality: float | None
    """Predicted quality in [0, 1]; None: unknown to the router."""
    utility: float | None
    """What the choice maximised: quality - cost_weight * cost - load_weight * seconds to load."""
    why: Callable[[], Evidence] = field(repr=False, compare=False)
    """Makes the evidence: a batch of thousands is seldom asked for it."""

    @property
    def evidence(self) -> Evidence:
        """Why the router scored it so; made each time it is asked for."""
        return self.why()


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The smallest change of one weight that makes another expert the first choice."""

    weight: Literal["cost_weight", "part"]
    """What changes: the rule's weight of cost, or how much one part counts in all experts."""
    part: str | None
    """Which part of the raw scores; None: it is the weight of cost."""
    now: float
    """In quality per US dollar; of a part 1, the factor on what it adds."""
    side: Literal["above", "below"]
    turn: float
    """The weight has to be on that side of this value; 0 itself will do, since none is below."""
    expert: str
    """The first choice then."""

    @property
    def text(self) -> str:
        """One sentence."""
        if self.weight == "cost_weight":
            value = f"{self.side} {self.turn:.4g}" if self.turn else "of 0"
            return f"{self.expert!r} is first with a cost_weight {value} instead of {self.now:.4g}"
        than = f"{'more' if self.side == 'above' else 'less'} than {self.turn:.3g} times as much"
        count = f"counts {than}" if self.turn else "does not count"
        return f"{self.expert!r} is first if {self.part!r} {count}"


def no_counterfactuals() -> tuple[Counterfactual, ...]:
    """Where no weight decided."""
    return ()


@dataclass(frozen=True, slots=True)
class Selection:
    """The experts picked for one query, best first, and whom to fall back on.

    Without choices the query is refused, and `reason` says why and what would help.
    """

    query_id: str
    router: str
    choices: tuple[Choice, ...]
    ranking: tuple[str, ...]
    """All experts that may be asked, best first; starts with the choices. Empty: refused."""
    experts: tuple[str, ...]
    """Column names of `quality`."""
    quality: Sequence[float]
    """Every expert's predicted quality: one float32 row; NaN: unknown."""
    reason: str
    shortfall: str | None = None
    """Said when fewer experts were picked than asked for."""
    margin: float | None = None
    """Utility of the first choice less that of the best other expert; None: one is unknown.

    Below 0 where utility did not decide: a fallback, or what was left of a joint budget.
    """
    what_if: Callable[[], tuple[Counterfactual, ...]] = field(
        default=no_counterfactuals, repr=False, compare=False
    )
    """What would make another expert the first choice, found when asked for."""


@dataclass(frozen=True, slots=True)
class Span:
    """One timed step of a query's life, in `time.perf_counter()` seconds of the driver."""

    name: str
    start_s: float
    end_s: float
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a composition says to a query, and all that led to it."""

    query_id: str
    text: str
    expert: str
    """Who wrote the text."""
    aggregator: str
    finish_reason: str
    reason: str
    """How the text came about, in one line."""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The aggregator's own evidence: a tally, the proposers, ..."""
    selection: Selection | None = None
    completions: tuple[Completion, ...] = ()
    failures: tuple[Failure, ...] = ()
    asked: tuple[str, ...] = ()
    """Experts of which an outcome came, in the order in which the first ones did."""
    saved: tuple[str, ...] = ()
    """Experts that were chosen and of which no outcome was needed, best first."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    trace: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """One expert of a latent group."""

    expert: str
    source: str
    """Its model as experts.yaml names it; of a LoRA expert that of its base."""
    model_path: str | None = None
    """The model's folder on disk, once the source is resolved."""
    adapter: str | None = None
    """Its LoRA adapter as experts.yaml names it; a folder on disk, once resolved."""
    chat_template: str | None = None
    """Jinja2 text; None: the model's own."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine to be loaded by a backend: the pool's unit of residency.

    A base model and the LoRA adapters on it are one engine; so are the experts of a latent group.
    """

    key: str
    """Identifies engine, source, arguments and adapters; also the key of measured figures."""
    engine: str
    """Which backend: a name in `composer.backends.BACKENDS`."""
    runner: Literal["inline", "ray"]
    experts: tuple[str, ...]
    """Names of the experts that it serves."""
    source: str | None = None
    """The model as experts.yaml names it; None: the backend needs none."""
    model_path: str | None = None
    """The model's folder on disk, once the source is resolved; of a group that of its first."""
    engine_args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The backend's own arguments, passed through."""
    adapters: Mapping[str, str] = field(default_factory=dict[str, str])
    """Expert name -> folder of its LoRA adapter."""
    members: tuple[Member, ...] = ()
    """The experts that a latent group consists of; `source` is then what was trained for them."""
    chat_template: str | None = None
    """Jinja2 text; None: the model's own."""
    trust_remote_code: bool = False
    replica: int = 0
    """Which of several copies of it that are up side by side, from 0."""

    @property
    def copy_key(self) -> str:
        """Identifies this copy; figures that are measured hold for all copies, under `key`."""
        return f"{self.key}/{self.replica}" if self.replica else self.key


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can be asked for beyond text."""

    logprobs: bool = False
    schema: bool = False
    continuation: bool = False
    n: bool = True
    peers: bool = False
    adapters: bool = False
    sleep: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading an engine took, as its runner measured it."""

    seconds: float
    memory_bytes: int
    """The runner's whole process tree after the load; 0: it uses none of the pool's budget."""
    peak_bytes: int
