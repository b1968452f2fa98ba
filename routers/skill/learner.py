"""Routes by skills: what a query takes, and which expert has shown it.

    raw score = overall competency + local_weight * mean over the query's skills of how far the
                expert stands out at each (shrunk towards nothing where few outcomes tell)

Source: Symbolic-MoE (arXiv 2503.05641), code github.com/dinobby/Symbolic-MoE at d6c2e0d. There an
expert's profile is a sum of +1 and -1 a skill, and a query's score the sum over its skills, by the
expert's share of all sums. `mode: code` is the released code's formula, `paper` the paper's (as
a secondary source gives it: the power 1 instead of 2, and a softmax over the product).

Deviations, in every mode:
- A skill that no recorded query has counts as the nearest that one has, unless their cosine is
  below a floor; there any nearest one counts.
- A query without skills is scored by overall competency; there three experts are drawn at random.
- Experts are scored, not drawn: the k best are distinct. There they are drawn with replacement, so
  that one may answer twice; several samples of an expert are a matter of the aggregator.
- Without an annotator, skills are words: a query's strongest ones, and those nearest in meaning.

Of `mode: additive`, the default:
- Profiles are means less the expert's overall mean, with `shrinkage` outcomes more: neither a skill
  with two outcomes nor one with thousands decides by itself.
- Overall competency is one term more, not a factor, so that a score is a sum of parts.
- How much the skills count is fitted on held-out rows, and so is how much of them a known category
  replaces, which is a skill of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from composer.errors import ConfigError
from routers.learning import Lesson, cross_fit
from routers.settings import check_choice, check_number
from routers.skill.annotator import infer_skills
from routers.skill.model import SkillModel, category_codes, learn_model
from routers.skill.profiles import Mode, Skilled
from routers.skill.space import learn_space
from routers.skill.terms import Terms, fit_category_weight, fit_local_weight

if TYPE_CHECKING:
    from composer.protocols import Encoder, Flow, RouterNeed
    from composer.types import Annotation, Query
    from routers.learning import Arrays, Training
    from routers.skill.space import SkillSpace


class SkillLearner:
    """Learns every expert's profile of skills.

    Args:
        encoder: Embeds skills as it embeds queries.
        annotator: The expert that is asked for a query's skills; None: they are words of its text.
        samples: How often it is asked; skills named more than once count.
        constrained: Whether its replies are held to a JSON schema, which its engine must know.
        mode: See the module.
        vocabulary: Most words and pairs of words that can be skills.
        n_keywords: A query's strongest words that count.
        n_nearest: Words nearest to a query in meaning that count, whether or not it has them.
        floor: Least cosine of what is near; None: 0.2 of a query and a word, 0.4 of two skills.
        shrinkage: Outcomes as usual that are added to each skill's (`additive`).
        local_weight: How much skills count (`additive`); None: fitted on held-out rows.
        category_weight: Share of the skills' say that a known category has, in [0, 1]
            (`additive`); None: fitted on held-out rows.

    Raises:
        ConfigError: A setting is none of its choices, or out of its range.
    """

    name = "skill"

    def __init__(
        self,
        encoder: Encoder,
        *,
        annotator: str | None = None,
        samples: int = 5,
        constrained: bool = False,
        mode: Mode = "additive",
        vocabulary: int = 2000,
        n_keywords: int = 20,
        n_nearest: int = 10,
        floor: float | None = None,
        shrinkage: float = 5.0,
        local_weight: float | None = None,
        category_weight: float | None = None,
    ) -> None:
        if annotator is not None and not (isinstance(annotator, str) and annotator):  # pyright: ignore[reportUnnecessaryIsInstance] - settings come from files
            raise ConfigError(
                f"router 'skill': 'annotator' is {annotator!r}; name an expert, or leave it out"
            )
        if type(constrained) is not bool:
            raise ConfigError(
                f"router 'skill': 'constrained' is {constrained!r}; give true or false"
            )
        check_choice(self.name, "mode", mode, get_args(Mode))
        check_number(self.name, "samples", samples, least=1, whole=True)
        check_number(self.name, "vocabulary", vocabulary, least=1, whole=True)
        check_number(self.name, "n_keywords", n_keywords, whole=True)
        check_number(self.name, "n_nearest", n_nearest, whole=True)
        check_number(self.name, "floor", floor, least=-1, most=1, optional=True)
        check_number(self.name, "shrinkage", shrinkage)
        check_number(self.name, "local_weight", local_weight, optional=True)
        check_number(self.name, "category_weight", category_weight, most=1, optional=True)
        self._encoder = encoder
        self._annotator = annotator
        self._given: dict[str, Any] = {
            "annotator": annotator,
            "samples": samples,
            "constrained": constrained,
            "mode": mode,
            "vocabulary": vocabulary,
            "n_keywords": n_keywords,
            "n_nearest": n_nearest,
            "floor": floor,
            "shrinkage": shrinkage,
            "local_weight": local_weight,
            "category_weight": category_weight,
        }
        needs: set[RouterNeed] = set() if annotator is None else {"annotations"}
        self.needs: frozenset[RouterNeed] = frozenset(needs)

    @property
    def given(self) -> Mapping[str, Any]:
        """See `Learner.given`."""
        return self._given

    def annotate(self, query: Query, experts: Sequence[str]) -> Flow[Annotation] | None:
        """See `Learner.annotate`; the annotator need not be one of the experts."""
        if self._annotator is None:
            return None
        given = self._given
        return infer_skills(
            query, self._annotator, samples=given["samples"], constrained=given["constrained"]
        )

    def fit(self, training: Training) -> Lesson:
        """See `Learner.fit`.

        Raises:
            ConfigError: Skills are to come from annotations, and none has any.
        """
        given = self._given
        space = learn_space(
            training.batch,
            self._encoder,
            by_annotation=self._annotator is not None,
            **{key: given[key] for key in ("vocabulary", "n_keywords", "n_nearest", "floor")},
        )
        if self._annotator is not None and not space.terms:
            raise ConfigError(
                "router 'skill': no recorded query is annotated with skills; record them "
                "(composer profile --annotate skill), or leave 'annotator' out"
            )
        learn = _Profiler(given | {"floor": space.floor}, space, training)
        if given["mode"] != "additive":
            return Lesson(learn(training), *cross_fit(learn, training))
        terms = learn.held_out_terms(training)
        target = 2 * training.score.astype(np.float64) - 1
        local, category = given["local_weight"], given["category_weight"]
        if local is None:
            local = fit_local_weight(terms, target, training.weights)
        if category is None:
            category = fit_category_weight(terms, local, target, training.weights)
        model = learn(training)
        chosen = {**model.settings, "local_weight": local, "category_weight": category}
        return Lesson(
            replace(model, settings=chosen),
            terms.hidden(local).astype(np.float32),
            terms.known(local, category).astype(np.float32),
        )

    def restore(self, meta: Mapping[str, Any], arrays: Arrays) -> SkillModel:
        """See `Learner.restore`."""
        return SkillModel.restore(meta, arrays, self._encoder)


class _Profiler:
    """Learns models of some rows of one training, whose skills are looked up once."""

    def __init__(self, settings: Mapping[str, Any], space: SkillSpace, training: Training) -> None:
        self._settings = settings
        self._space = space
        self._categories = tuple(name for name in training.categories if name)
        self._row = {query_id: row for row, query_id in enumerate(training.batch.ids)}
        self._skilled = space.skilled(training.batch)
        codes = category_codes(training.batch, self._categories)[:, None]
        self._in_category = Skilled(np.maximum(codes, 0), (codes >= 0).astype(np.float64))

    def __call__(self, part: Training) -> SkillModel:
        """The model of some rows."""
        rows = np.array([self._row[query_id] for query_id in part.batch.ids], np.int64)
        return learn_model(
            self._settings,
            part.names,
            self._space,
            self._categories,
            self._skilled.rows(rows),
            self._in_category.rows(rows),
            part.score,
            part.prior,
        )

    def held_out_terms(self, training: Training) -> Terms:
        """The terms of every row, by a model of the other folds."""
        terms = Terms.unknown(*training.score.shape)
        for fold in np.unique(training.folds):
            is_held = training.folds == fold
            if is_held.all():
                break
            model = self(training.rows(~is_held))
            batch, is_known = training.batch.rows(is_held), model.profiles.is_known
            if self._space.idf is None:
                skilled = self._space.skilled(batch, is_known)
            else:
                skilled = self._skilled.rows(is_held).known(is_known)
            terms.put(is_held, model.terms(batch, skilled))
        return terms
