"""What the command does, from Python: `zoocast.run`, and its results as tables of pandas, `zoocast.runs` and `zoocast.scores`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoocast.cli.catalogue import DEFAULT_PRESET, configure, load
from zoocast.cli.options import RUNS
from zoocast.cli.runs import RunRecord, find, read_all, require_root
from zoocast.config import as_text
from zoocast.errors import ConfigError, Interrupted, StepFailed
from zoocast.store.address import local, open_root

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["run", "runs", "scores"]

EVALUATE = "evaluate."
"""What the names of steps begin with that leave scores, before the name of the arm."""


def run(
    pipeline: str,
    settings: Mapping[str, Any] | None = None,
    *,
    preset: str = DEFAULT_PRESET,
    root: str | Path = RUNS,
    address: str | None = None,
    tracking_uri: str | None = None,
    force: Sequence[str] = (),
) -> RunRecord:
    """Run a pipeline, as ``pipelines run`` does: the same settings are the same run and the same steps, done once.

    >>> import zoocast
    >>> record = zoocast.run("zoo-to-target", {"seeds": 1, "target.training.learning_rate": 3e-4}, preset="smoke")
    >>> record.run, record.result["headline"], record.report_path(Path("runs"))

    Progress goes to stderr. Interrupted, it may be called again and goes on.

    Args:
        pipeline: a name of ``pipelines list``, or a module of your own (``mylab.study``).
        settings: values by their dotted paths, as ``-S`` takes them; those of ``pipelines show``.
        preset: the size of the work: smoke, laptop or paper.
        root: where results are kept, a folder or the URL of an object store.
        address: a Ray cluster; left out, one is started on this machine.
        tracking_uri: an MLflow server; left out, MLFLOW_TRACKING_URI or SQLite under the root.
        force: steps that are done again, ``*`` matches.

    Raises:
        ConfigError: there is no such pipeline, preset or setting, or settings cannot work together.
        StepFailed: a step failed; what was finished is kept.
        Interrupted: it was stopped; what was finished is kept.
    """
    from zoocast.cli.run import Request, execute

    overrides = [f"{path}={as_text(value)}" for path, value in (settings or {}).items()]
    request = Request(configure(load(pipeline), preset, overrides), open_root(root).folder, address, tracking_uri, tuple(force))
    record = execute(request)
    if record.exit_code:
        error = Interrupted if record.exit_code == Interrupted.exit_code else StepFailed
        raise error(f"{record.run}: {record.message or record.state()}; go on with: {record.resume}")
    return record


def runs(root: str | Path = RUNS) -> DataFrame:
    """All runs known under `root`, the latest first, a row each with the run's name as index.

    Columns: ``pipeline``, ``preset``, ``state`` (running, done, failed, interrupted, died, unknown), ``started`` (local time),
    ``seconds`` (of all attempts together), ``settings`` (as typed, ``field=value``), ``headline`` of the report and ``message``
    of a failure; the last two empty where there is none.

    Raises:
        ConfigError: nothing was ever run there.
    """
    import pandas

    folder = open_root(root).folder
    require_root(folder)
    rows = [
        {
            "run": record.run,
            "pipeline": record.pipeline,
            "preset": record.preset,
            "state": record.state(),
            "started": pandas.Timestamp.fromtimestamp(record.started),
            "seconds": record.took(),
            "settings": " ".join(record.overrides),
            "headline": str((record.result or {}).get("headline", "")),
            "message": record.message,
        }
        for record in read_all(folder)
    ]
    return pandas.DataFrame(rows).set_index("run")


def scores(run: str | RunRecord | None = None, root: str | Path = RUNS) -> DataFrame:
    """Every score of a run, a row for each arm, seed, metric and predicted frame.

    >>> table = zoocast.scores("zoo-to-target")
    >>> table[table.metric == "strict/mse"].groupby("arm").value.mean()  # as in the report, if all seeds count alike

    Columns: ``arm``; ``seed``, 0 for a baseline without training; ``split`` and its number of ``clips``; ``metric`` with its
    protocol (``strict/mse``: mean over pixels, values of 0 to 1); ``frame``, from 1 on; ``value``, the mean over clips.

    Args:
        run: its name, a pipeline for its latest run, what `zoocast.run` gave, or nothing for the latest run of all.
        root: where the runs are, a folder or the URL of an object store.

    Raises:
        ConfigError: there is no such run, or it has evaluated nothing yet.
        IntegrityError: a result is damaged.
    """
    import pandas

    from zoocast.report.files import read_scores

    record = run if isinstance(run, RunRecord) else find(open_root(root).folder, run)
    rows = []
    for step in record.steps:
        if not step["name"].startswith(EVALUATE) or step["state"] not in ("done", "cached"):
            continue
        split, by_seed = read_scores(local(step["directory"]))
        arm = step["name"].removeprefix(EVALUATE)
        rows += [
            (arm, seed, split, found.count, metric, frame, value)
            for seed, found in by_seed.items()
            for metric in found.names
            for frame, value in enumerate(found.per_frame(metric), start=1)
        ]
    if not rows:
        raise ConfigError(
            "run", f"{record.run} has evaluated nothing yet (it is {record.state()}); finish it with: {record.resume}"
        )
    return pandas.DataFrame(rows, columns=["arm", "seed", "split", "clips", "metric", "frame", "value"])
