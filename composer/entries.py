"""What experts.yaml may hold: one frozen model per kind of entry, and their JSON Schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from composer.credentials import REFERENCE
from composer.types import Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from composer.types import Float32Array

    Float64Array = NDArray[np.float64]

NAME = r"[A-Za-z0-9._-]+"
"""What the name of an expert or a composition is made of."""

Engine = Literal["vllm", "latent", "openai", "scripted", "recorded"]
# YAML's true would otherwise pass for 1, and 2.0 for 2.
Count = Annotated[int, Field(strict=True, ge=1)]
Amount = Annotated[float, Field(ge=0)]
Flag = Annotated[bool, Field(strict=True)]


class Entry(BaseModel):
    """Base of all entries: frozen; an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Price(Entry):
    """What an expert's tokens cost."""

    input_usd_per_mtok: Amount = 0.0
    """US dollars for a million prompt tokens."""
    output_usd_per_mtok: Amount = 0.0
    """US dollars for a million generated tokens."""

    def cost_usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """US dollars for this many tokens, measured or expected."""
        return (
            prompt_tokens * self.input_usd_per_mtok + completion_tokens * self.output_usd_per_mtok
        ) / 1e6


class SamplingDefaults(Entry):
    """How an expert draws tokens where a request does not say; a key left out is not said here."""

    temperature: Amount | None = None
    """0: always the likeliest token."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the probability mass that tokens are drawn from."""
    max_tokens: Count | None = None
    """Tokens of an answer, at most."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] | None = None
    """Texts that end an answer; they are not part of it."""
    seed: Annotated[int, Field(strict=True)] | None = None
    """Makes drawing repeatable."""
    n: Count | None = None
    """Texts for each request."""

    def to_sampling(self) -> Sampling:
        """The same as the value that travels with requests."""
        return Sampling(self.temperature, self.top_p, self.max_tokens, self.stop, self.seed, self.n)


class Expert(Entry):
    """One model that can be asked, and what routers may know of it."""

    name: SkipJsonSchema[str]
    """Its key in the file."""
    engine: Engine = "vllm"
    """What runs it: vllm (weights on this machine), latent (experts of this file that attend to
    one another), openai (an HTTP endpoint), or, for tests and replays, scripted and recorded."""
    runner: Literal["inline", "ray"] | None = None
    """Where the engine lives: in this process, or in one of its own. Left out: ray for vllm and
    latent, inline for the others."""
    source: str | None = None
    """The model: a hub id, a folder or file, or "package:NAME[/FILE]" in an installed package. Of
    engine latent: the folder that `composer latent fit` has saved."""
    members: tuple[str, ...] = ()
    """Experts of this file that think together (engine latent); the first one writes, unless
    another is named when the group is asked. Routers choose among them, and never the group."""
    engine_args: dict[str, Any] = {}
    """The engine's own arguments under its own names, passed through."""
    description: str = ""
    """What it is good at, in a sentence or two. Routers and judges read it."""
    categories: tuple[str, ...] = ()
    """Kinds of query that it should get."""
    skills: tuple[str, ...] = ()
    """What it can do, in a word or two each."""
    examples: tuple[str, ...] = ()
    """Queries that it should get, in users' words: retrieval compares new queries with these."""
    params_b: Annotated[float, Field(gt=0)] | None = None
    """Billions of parameters."""
    price: Price = Price()
    """What its tokens cost."""
    sampling: SamplingDefaults = SamplingDefaults()
    """How it draws tokens where a request does not say."""
    chat_template: str | None = None
    """Jinja2 text that turns messages into a prompt. Left out: the model's own."""
    base: str | None = None
    """The expert whose weights a LoRA expert adapts; the two share one engine."""
    adapter: str | None = None
    """The LoRA adapter: a folder, a hub id or "package:NAME/FOLDER"."""
    base_url: str | None = None
    """The endpoint up to and with /v1 (engine openai)."""
    model: str | None = None
    """The endpoint's own name for the model (engine openai)."""
    api_key: Annotated[str, Field(json_schema_extra={"pattern": f"^({REFERENCE})$"})] | None = None
    """Where the key is: "os.environ/NAME" or "${NAME}", never the key itself (engine openai)."""
    trust_remote_code: Flag = False
    """Let the model's repository run its own code on this machine."""
    pinned: Flag = False
    """Never unload it to make room for another."""
    replicas: Count = 1
    """Copies of it that may be up side by side when more is asked than one of them answers in a
    batch; on several machines, say. For an adapter, say it of its base."""

    @property
    def resolved_runner(self) -> Literal["inline", "ray"]:
        """Where the engine lives, the default filled in."""
        return self.runner or ("ray" if self.engine in ("vllm", "latent") else "inline")


class RouterConfig(Entry):
    """Which router scores the experts: a new one by `name`, or a saved one by `from`.

    All other keys are the router's own settings.
    """

    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
        json_schema_extra={"oneOf": [{"required": ["name"]}, {"required": ["from"]}]},
    )

    name: str | None = None
    """A kind of router; it learns from the experts' entries alone."""
    from_: str | None = Field(default=None, validation_alias="from", serialization_alias="from")
    """Folder of a fitted and saved router; `package:NAME/folder` is one in an installed package."""

    @property
    def settings(self) -> dict[str, Any]:
        """The router's own settings."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _has_one_origin(self) -> RouterConfig:
        if (self.name is None) == (self.from_ is None):
            raise ValueError("needs either 'name' or 'from'; give exactly one of them")
        return self


class AggregatorConfig(Entry):
    """Which aggregator makes one answer of the experts' words.

    All other keys are the aggregator's own settings.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    """A kind of aggregator: best, vote, synthesis, ..."""

    @property
    def settings(self) -> dict[str, Any]:
        """The aggregator's own settings."""
        return dict(self.model_extra or {})


class ChooseRule(Entry):
    """How experts are chosen from a router's scores.

    An expert's utility is quality - cost_weight * cost_usd - load_weight * seconds to load, where
    quality is in [0, 1] and cost_usd is what this one query is expected to cost.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"threshold": {"type": "null"}, "abstain": {"const": False}}},
                {
                    "required": ["threshold"],
                    "properties": {"threshold": {"type": "number"}},
                    "anyOf": [
                        {"required": ["fallback"], "properties": {"fallback": {"type": "string"}}},
                        {"required": ["abstain"], "properties": {"abstain": {"const": True}}},
                    ],
                },
            ]
        }
    )

    k: Count = 1
    """How many experts are asked."""
    cost_weight: Amount = 0.0
    """Quality that a user gives up to save one US dollar on a query: at 100, an expert that costs
    $0.001 more must be better by 0.1."""
    load_weight: Amount = 0.0
    """Quality that a user gives up to save one second of loading."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """Least predicted quality; below it the query goes to `fallback`, or `abstain` refuses it."""
    fallback: str | None = None
    """The expert that takes what no other is good enough for."""
    abstain: Flag = False
    """Refuse a query of which no expert reaches `threshold`; a `fallback` that can be asked takes
    it before."""

    def utility(
        self,
        quality: Float32Array,
        cost_usd: Float32Array | None = None,
        load_s: Float32Array | None = None,
    ) -> Float64Array:
        """Utilities [..., m] of qualities and costs [..., m] and seconds [m]; NaN: unknown."""
        utility = quality.astype("float64")
        if cost_usd is not None and self.cost_weight:
            utility -= self.cost_weight * cost_usd.astype("float64")
        if load_s is not None and self.load_weight:
            utility -= self.load_weight * load_s.astype("float64")
        return utility

    @model_validator(mode="after")
    def _threshold_matters(self) -> ChooseRule:
        if self.threshold is not None and self.fallback is None and not self.abstain:
            raise ValueError(
                "has a 'threshold' that changes nothing; name a 'fallback' or set 'abstain: true'"
            )
        if self.abstain and self.threshold is None:
            raise ValueError("has 'abstain' and nothing to measure by; set a 'threshold'")
        return self


class Composition(Entry):
    """A name that callers ask: a router, a rule of choice, and an aggregator."""

    router: RouterConfig
    """Who scores the experts."""
    choose: ChooseRule = ChooseRule()
    """How experts are chosen from the scores."""
    aggregator: AggregatorConfig = AggregatorConfig(name="best")
    """What makes one answer of theirs."""
