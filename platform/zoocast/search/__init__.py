"""The search for settings: a space, a study of trials that Ray Tune runs, and what a report wants to know of it.

`search` is called inside a step, `read_study` by whoever reads the step's folder later. Importing the package imports Optuna, but
not Ray.
"""

from zoocast.search.catalogue import load_space
from zoocast.search.config import SearchConfig
from zoocast.search.run import search
from zoocast.search.space import SearchSpace, When
from zoocast.search.study import Axis, Study, TrialRecord, importance, read_study
from zoocast.search.trial import Train, Trial

__all__ = [
    "Axis",
    "SearchConfig",
    "SearchSpace",
    "Study",
    "Train",
    "Trial",
    "TrialRecord",
    "When",
    "importance",
    "load_space",
    "read_study",
    "search",
]
