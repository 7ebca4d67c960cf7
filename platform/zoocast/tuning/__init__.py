"""The search for settings: a space, a study of trials that Ray Tune runs, and what a report wants to know of it.

`search` is called inside a step, `read_study` by whoever reads the step's folder later. Importing the package imports Optuna, but
not Ray.
"""

from zoocast.tuning.config import SearchConfig
from zoocast.tuning.search import search
from zoocast.tuning.space import SearchSpace, When
from zoocast.tuning.study import Axis, HistoryPoint, Study, TrialRecord, importance, read_study
from zoocast.tuning.trial import Train, Trial

__all__ = [
    "Axis",
    "HistoryPoint",
    "SearchConfig",
    "SearchSpace",
    "Study",
    "Train",
    "Trial",
    "TrialRecord",
    "When",
    "importance",
    "read_study",
    "search",
]
