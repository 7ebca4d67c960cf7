"""A driver in a process of its own, so that tests can kill it: one step that searches the bottom of a valley.

    python study_script.py ROOT NUM_TRIALS SECONDS_PER_ITERATION MAX_CONCURRENT

A trial's error after i iterations is (x - 0.3)^2 + 1/i; every call and every iteration is noted in files. While ROOT/hold exists,
trials wait before their next iteration until they are asked to stop. Prints each event.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any, Literal

from optuna.distributions import CategoricalDistribution, FloatDistribution

from zoocast.cluster.connect import connect
from zoocast.config import setting
from zoocast.dag import Event, Finished, Kind, Resources, Started, Step, StepContext, StopSignal, run
from zoocast.errors import Interrupted
from zoocast.search import SearchConfig, SearchSpace, Trial, When, search
from zoocast.tracking import Sync

HOLD = "hold"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValleyConfig:
    """Where in the valley."""

    x: float = 1.0
    shape: Literal["plain", "steep"] = "plain"
    slope: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class WalkConfig:
    """One training; what is searched."""

    valley: ValleyConfig = ValleyConfig()
    iterations: int = 10
    seconds: float = setting(0.0, identity=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """The step's config."""

    search: SearchConfig
    walk: WalkConfig


SPACE = SearchSpace(
    fields={
        "valley.x": FloatDistribution(-1.0, 1.0),
        "valley.shape": CategoricalDistribution(("plain", "steep")),
        "valley.slope": When("valley.shape", ("steep",), FloatDistribution(1.0, 2.0)),
    },
    points=({"valley.x": 0.9, "valley.shape": "plain"},),
)


def walk(trial: Trial) -> dict[str, Any]:
    """The training: goes on from the iteration in its checkpoint."""
    config: WalkConfig = trial.context.config
    folder = trial.context.directory
    with (folder / "calls").open("a") as file:
        file.write("x")
    checkpoint = folder / "checkpoint"
    begin = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for i in range(begin + 1, config.iterations + 1):
        time.sleep(config.seconds)
        while (folder.parents[3] / HOLD).exists() and not trial.context.should_stop():
            time.sleep(0.05)
        with (folder / "iterations").open("a") as file:
            file.write(f"{i}\n")
        trial.context.check_fence()
        checkpoint.write_text(str(i))
        slope = config.valley.slope if config.valley.shape == "steep" else 1.0
        trial.report(i, slope * (config.valley.x - 0.3) ** 2 + 1 / i)
        if trial.context.should_stop():
            raise Interrupted(f"stopped at {i}")
    return {"begin": begin, "x": config.valley.x}


def find(context: StepContext) -> dict[str, Any]:
    """The step."""
    study = search(context, context.config.search, SPACE, context.config.walk, walk, kind=Kind("walk", 1), cycle=2)
    best = study.best()[0]
    return {"best": best.id, "error": best.best_error}


def step(num_trials: int, seconds: float, max_concurrent: int | None) -> Step:
    config = SearchConfig(
        num_trials=num_trials, max_iterations=10, num_startup=3, reduction_factor=2, max_concurrent=max_concurrent
    )
    return Step(
        "search",
        find,
        StudyConfig(search=config, walk=WalkConfig(seconds=seconds)),
        resources=Resources(0),
        launches=(config.resources,),
        salt=SPACE.digest,
    )


def main() -> int:
    root, num_trials, seconds, max_concurrent = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    the_step = step(num_trials, seconds, max_concurrent)
    sync = Sync(root, f"study-{num_trials}", root / "runs" / "study", experiment="study", tags={"zoocast.preset": "test"})

    def tell(event: Event) -> None:
        print(json.dumps(event.to_json()), flush=True)
        if isinstance(event, Started):
            sync.started(event.name, the_step.key, Path(event.directory))
        elif isinstance(event, Finished):
            status = {"done": "finished", "cached": "finished", "interrupted": "killed"}.get(event.state, "failed")
            sync.finished(event.name, the_step.key, Path(event.directory), status)  # type: ignore[arg-type]

    stop = StopSignal()
    with connect(num_cpus=2), stop.on_signals():
        result = run([the_step], root, run_id="test", on_event=tell, stop=stop)
    state = sync.close("finished" if result.exit_code == 0 else "killed", 60)
    outcome = result.outcomes["search"]
    print(json.dumps({"event": "end", "error": outcome.error, "result": dict(outcome.result), "pending": state.pending}))
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
