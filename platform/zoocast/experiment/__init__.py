"""What experiments are made of: a target, zoos, arms, their comparison, a report; and searches for settings.

An experiment is a function from a config to steps. It says what is compared with what, and nothing of where results lie:

>>> def steps(config):
...     target = Target(config=config.target, observed=10)
...     zoo = Zoo(target=target, sources={c.name: source_step(c, observed=10) for c in config.sources})
...     arms = [COPY_LAST, zoo.arm("scratch", Scratch(), seeds=3), zoo.arm("tmu", Transfer(), seeds=3)]
...     for name, names in leave_one_out(zoo.sources).items():
...         arms.append(zoo.only(names, scope=name).arm(f"tmu.{name}", Transfer(), seeds=3))
...     against = Comparison(ours=("tmu",), rival=("scratch",), ours_words="TMU", rival_words="training from scratch")
...     return ordered([report_step("which source helps", config, target, arms, against)])

Any training step can be searched, and trained again with what was found; here by `searchspaces/target.py`:

>>> def searched(zoo, training):
...     method = Transfer()
...     trial = zoo.target.train("trial", train_target, zoo.training("tmu", method, training), zoo.inputs(method))
...     found = search_step(trial, SearchConfig(max_iterations=training.iterations), "target", cycle=training.validate_every)
...     return Arm("tmu.searched", [with_found(trial, found)], family="tmu", sources=zoo.gated(method))

Steps are equal when their keys are: the zoos above share their sources and banks, although none knows of the others. Names are
for people, who select steps by them. A step of a user's own fits in wherever one of ours does: `Target.train` takes any function,
`Zoo` any step that leaves a network in ``model/``, `Arm` any trainings.
"""

from zoocast.experiment.continuing import ContinuationConfig
from zoocast.experiment.mapping import Cell, map_step
from zoocast.experiment.parts import (
    COPY_LAST,
    Arm,
    EvaluationConfig,
    Target,
    Zoo,
    choose_step,
    clips_step,
    leave_one_out,
    report_step,
    search_step,
    source_step,
    with_chosen,
    with_found,
)
from zoocast.experiment.tuning import TuningConfig
from zoocast.report.compare import Comparison
from zoocast.report.sections import SourceMatrix

__all__ = [
    "COPY_LAST",
    "Arm",
    "Cell",
    "Comparison",
    "ContinuationConfig",
    "EvaluationConfig",
    "SourceMatrix",
    "Target",
    "TuningConfig",
    "Zoo",
    "choose_step",
    "clips_step",
    "leave_one_out",
    "map_step",
    "report_step",
    "search_step",
    "source_step",
    "with_chosen",
    "with_found",
]
