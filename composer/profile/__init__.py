"""Labelled cases asked of experts, for routers to learn from: who is right where, and at what cost.

cases.jsonl -> read_cases -> profile -> OutcomeTable -> save_table
                               |     -> AggregatorScores -> save_scores
                            journal.jsonl: every outcome as it comes, so that a run goes on
"""

from composer.profile.annotating import Annotating
from composer.profile.asking import Progress
from composer.profile.cases import Case, read_cases
from composer.profile.examples import with_examples
from composer.profile.run import Profile, profile

__all__ = ["Annotating", "Case", "Profile", "Progress", "profile", "read_cases", "with_examples"]
