"""Every call that zoocast makes to MLflow, each so that repeating it changes nothing.

Runs and model versions are found again by tags, points by their (key, step, time, value), files by their names. That is what lets
an export stop anywhere and begin again: it may repeat its last call, and need not know whether that one had arrived.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from zoocast.provenance import user_name
from zoocast.store.locks import exclusive
from zoocast.tracking import entries
from zoocast.tracking.backend import artifact_location, connect
from zoocast.tracking.entries import Status
from zoocast.tracking.pyfunc import describe_model

__all__ = [
    "JOURNAL",
    "KEY",
    "PARENT",
    "RUN",
    "STEP",
    "VALIDATION_ERROR",
    "Point",
    "Refused",
    "Server",
    "children",
    "http_status",
    "is_refusal",
    "view_key",
]

T = TypeVar("T")

RUN, STEP, KEY, JOURNAL = "zoocast.run", "zoocast.step", "zoocast.key", "zoocast.journal"
PARENT, VERSIONS = "mlflow.parentRunId", "mlflow.modelVersions"
VALIDATION_ERROR = "val/mse"  # by which the steps of a run are ordered
PICTURES = "val/strip"  # the series of pictures that each training keeps
MAX_METRICS, MAX_TAGS = 1000, 100  # per call, MLflow's limits
MAX_NOTE = 7900  # characters of mlflow.note.content; MLflow would cut at 8000 without a word
DIGEST = 16  # of the 36 characters that MLflow takes; the page shows all of them
THUMBNAIL = 1024  # pixels of the longer side


class Point(NamedTuple):
    """One value of a metric; `time` in milliseconds since the epoch."""

    key: str
    step: int
    value: float
    time: int


class Refused(Exception):
    """A file that is gone, or is not what its entry says: it cannot be exported, now or later."""


def is_refusal(error: Exception) -> bool:
    """Whether this will never be taken, as opposed to a server that is slow, gone, full or locked."""
    # By attributes, not classes: importing MLflow's exceptions here would cost its import of seconds.
    if isinstance(error, Refused) or getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE":
        return True
    # Bad request, too large, not processable. 401 and 403 are none of them: somebody can set the permission right.
    return getattr(error, "response", None) is not None and http_status(error) in (400, 413, 422)


def http_status(error: Exception) -> int | None:
    """What a server answered, where an answer was the error."""
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code)
    return int(error.get_http_status_code()) if hasattr(error, "get_http_status_code") else None


def children(run_id: str, metric: str) -> dict[str, Any]:
    """MLflow's search for the children of a run, the lowest `metric` first."""
    return {"searchFilter": f"tags.{PARENT} = '{run_id}'", "orderByKey": f"metrics.`{metric}`", "orderByAsc": "true"}


def view_key(run_id: str, what: str = "") -> str:
    """The name of the prepared comparison of a run's children, or of another view of them, their `what`."""
    return "-".join(filter(None, ("zoocast", run_id[:12], what)))


class Server:
    """An MLflow store with one experiment open. Every method may raise whatever MLflow raises."""

    def __init__(self, uri: str, experiment: str, lock: Path) -> None:
        self.client = connect(uri)
        self.experiment_id = self._experiment(uri, experiment)
        self._lock = lock

    def _experiment(self, uri: str, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, artifact_location=artifact_location(uri, name)))
            except Exception as error:
                # Another driver made it between the search and the call.
                if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)
        if found.lifecycle_stage == "deleted":
            # MLflow takes no runs for an experiment in its trash, and keeps the name occupied.
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def answers(self) -> bool:
        """Whether the server is there at all."""
        try:
            self.client.get_experiment(self.experiment_id)
        except Exception:  # MLflow raises all kinds of things; any of them is a no
            return False
        return True

    # ------------------------------------------------------------------------------------------------------------ runs

    def run(self, tags: Mapping[str, str], name: str, started: int | None) -> str:
        """The id of the run with these tags of `zoocast`, made now when there is none.

        One below the same parent that has another journal (the step was done all over again) is discarded. Without a parent
        the journal decides: colleagues who run the same pipeline with the same settings have pages of their own.
        """
        same = " and ".join(f"tags.`{k}` = '{tags[k]}'" for k in (RUN, KEY, PARENT if PARENT in tags else JOURNAL))
        for found in self.client.search_runs([self.experiment_id], filter_string=same, order_by=["attributes.start_time"]):
            if found.data.tags.get(JOURNAL) == tags[JOURNAL]:
                return str(found.info.run_id)
            self.discard(found.info.run_id)
        # The search tags are set by the call that creates the run: a kill in between cannot leave a run that is not found again.
        all_tags = {"mlflow.user": user_name(), "mlflow.source.name": "zoocast", "mlflow.source.type": "JOB", **tags}
        made = self.client.create_run(self.experiment_id, run_name=name, tags=all_tags, start_time=started)
        return str(made.info.run_id)

    def discard(self, run_id: str) -> None:
        """Move a run to MLflow's trash, where it can be restored; who may not do that leaves it where it is."""
        with _ignoring("PERMISSION_DENIED"):
            self.client.delete_run(run_id)

    def presence(self, run_id: str) -> Literal["active", "deleted", "missing"]:
        """Whether the run is there: a user may have moved it to the trash, or begun with an empty store."""
        try:
            return "active" if self.client.get_run(run_id).info.lifecycle_stage == "active" else "deleted"
        except Exception as error:
            if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
                return "missing"
            raise

    def status(self, run_id: str, status: Status, time: int | None) -> None:
        """Set the run's status; `time`, in ms, is when it ended."""
        if status == "running":
            self.client.update_run(run_id, status="RUNNING")
        else:
            self.client.set_terminated(run_id, status=status.upper(), end_time=time)

    def share_view(self, run_id: str, metric: str, params: Sequence[str] = ()) -> None:
        """Prepare the comparison of this run's children, under the key `view_key`: all of them, where a plain link shows ten.

        Args:
            metric: what they are ordered by.
            params: those whose parallel coordinates are drawn first, with the metric as the last (MLflow leaves out a run that
                lacks one of them), and then bars of the metric alone.
        """
        view = _view(run_id, metric)
        if params:
            view |= _first(
                "All trials",
                {"type": "PARALLEL", "showAllRuns": True, "selectedParams": list(params), "selectedMetrics": [metric]},
                {"type": "BAR", "metricKey": metric},
            )
        self._share(view_key(run_id), view)

    def _share(self, key: str, view: Mapping[str, Any]) -> None:
        # Undocumented (seen in MLflow 3.17): the page opens a view from the experiment tag of this name, as plain JSON.
        self.client.set_experiment_tag(self.experiment_id, f"mlflow.sharedViewState.{key}", json.dumps(view))

    def share_groups(self, run_id: str, metric: str, param: str, steps: str) -> None:
        """Prepare, instead of `share_view`, the comparison of this run's `steps` with one group for each value of `param`.

        And beside it, as their "pictures", the same steps without groups: MLflow draws no picture of a group.

        Args:
            metric: what they are ordered by, and whose bars are drawn first.
            steps: how the names of the compared steps begin.
        """
        view = _view(run_id, metric)
        view["searchFilter"] += f" and tags.{STEP} LIKE '{steps}%'"
        strips = {"type": "IMAGE", "imageKeys": [PICTURES], "step": 0, "showRunParams": False}
        pictures = _first("All pictures", strips, height=1200)  # there is a picture for each run
        self._share(view_key(run_id, "pictures"), view | pictures)
        groups = {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": param}]}
        bars = _first(f"All by {param}", {"type": "BAR", "metricKey": metric})
        self._share(view_key(run_id), view | bars | {"groupBy": groups})

    # ---------------------------------------------------------------------------------------------------------- logging

    def log(self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Points, params and tags, in as few calls as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(p.key, p.value, p.time, p.step) for p in points]
        for chunk in _slices([Param(k, v) for k, v in params.items()], MAX_TAGS):
            self.client.log_batch(run_id, params=chunk)
        for chunk in _slices([RunTag(k, v) for k, v in tags.items()], MAX_TAGS):
            self.client.log_batch(run_id, tags=chunk)
        for chunk in _slices(metrics, MAX_METRICS):
            self.client.log_batch(run_id, metrics=chunk)

    def note(self, run_id: str, text: str) -> None:
        """The run's description; a long one is cut at a line, and kept whole as the artifact note.md."""
        text = text.replace("](artifact:", f"](#/experiments/{self.experiment_id}/runs/{run_id}/artifacts/")
        charts = f"#/experiments/{self.experiment_id}/runs?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey="
        text = text.replace("](view:", f"]({charts}{view_key(run_id)}-")
        if len(text) > MAX_NOTE:
            self.client.log_text(run_id, text, "note.md")
            cut = text[:MAX_NOTE]
            text = (cut.rpartition("\n")[0] or cut) + "\n\n(cut here; the whole text is the artifact note.md)"
        self.client.set_tag(run_id, "mlflow.note.content", text)

    def image(self, run_id: str, key: str, step: int, time: int, file: Path) -> None:
        """A PNG of the series `key`, under the names by which MLflow's page finds series of images.

        The newest also stands at step 0, where the page's sliders do: with no picture there it would show none at first.
        """
        from PIL import Image

        with tempfile.TemporaryDirectory(prefix="zoocast-") as folder:
            full, small = Path(folder, "full"), Path(folder, "small")
            if file.is_dir():
                raise Refused(f"{file} is a folder, not a picture")
            shutil.copyfile(file, full)
            try:
                image = Image.open(full)
                image.load()
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise Refused(f"{file} is not a picture: {error}") from None
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            image.convert("RGB").save(small, "webp", quality=90)
            # The newest always has the same name, so that the next one replaces it; of two at step 0 the page shows the later.
            for at, when in ((step, time), (0, 0)) if step else ((step, time),):
                # log_image() draws a new random name each time, and a second export would show each picture twice.
                same = uuid.uuid5(uuid.NAMESPACE_URL, f"{key}+{at}+{when}")
                name = f"{key.replace('/', '~')}+step+{at}+timestamp+{when}+{same}"
                full, small = full.rename(Path(folder, f"{name}.png")), small.rename(Path(folder, f"{name}+compressed.webp"))
                self.client.log_artifact(run_id, str(full), "images")
                self.client.log_artifact(run_id, str(small), "images")
        # The page looks for pictures only in runs with this tag.
        self.client.set_tag(run_id, "mlflow.loggedImages", "True")

    def artifact(self, run_id: str, path: Path, folder: str) -> None:
        """A file, or all files of a directory under the directory's name."""
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), f"{folder}/{path.name}" if folder else path.name)
        else:
            self.client.log_artifact(run_id, str(path), folder or None)

    def dataset(self, run_id: str, entry: entries.Dataset) -> None:
        """A data set input."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=entry.name,
            digest=entry.digest[:DIGEST],
            source_type="local",
            source=json.dumps({"uri": entry.source}),
            profile=json.dumps(entry.profile) if entry.profile else None,
        )
        self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", entry.context)])])

    # ------------------------------------------------------------------------------------------------------------ models

    def model(self, run_id: str, entry: entries.Model, directory: Path, key: str, used: int) -> None:
        """The registered model version of the step `key`, made once however many runs share the step, and linked to this run.

        Args:
            used: when the pipeline run that uses it began, in ms; an alias never moves back to an earlier run's model.
        """
        from mlflow.entities import LoggedModelOutput

        # MLflow has no "create unless it exists" for versions: without the lock two runs that share the step make two.
        with exclusive(self._lock):
            version = self._version(entry.name, key)
            if version is None:
                version = self._register(run_id, entry.name, directory, key)
            model_id = version.tags["zoocast.model"]
            self._link(model_id, version)
            # Logging an output again would add it again.
            outputs = self.client.get_run(run_id).outputs
            if model_id not in [o.model_id for o in (outputs.model_outputs if outputs else ())]:
                self.client.log_outputs(run_id, [LoggedModelOutput(model_id, entry.step)])
            if entry.alias is not None:
                self._point(entry.name, entry.alias, version, used)

    def _version(self, name: str, key: str) -> Any:
        found = self.client.search_model_versions(f"name = '{name}' and tags.`{KEY}` = '{key}'")
        return found[0] if found else None

    def _register(self, run_id: str, name: str, directory: Path, key: str) -> Any:
        found = self.client.search_logged_models(
            [self.experiment_id], filter_string=f"tags.`{KEY}` = '{key}' and name = '{name}'"
        )
        if found:
            model = found[0]
        else:
            model = self.client.create_logged_model(self.experiment_id, name=name, source_run_id=run_id, tags={KEY: key})
        # Also when the model was found: the attempt that made it may have died before its files had arrived.
        self.client.log_model_artifacts(model.model_id, str(directory))
        with tempfile.TemporaryDirectory(prefix="zoocast-") as folder:
            if describe_model(directory, Path(folder), model.model_id):
                self.client.log_model_artifacts(model.model_id, folder)
        self.client.finalize_logged_model(model.model_id, "READY")
        with _ignoring("RESOURCE_ALREADY_EXISTS"):
            self.client.create_registered_model(name)
        # A source like models:/ID would be looked up on the process-wide tracking server, which is not always this one.
        tags = {KEY: key, "zoocast.model": model.model_id}
        return self.client.create_model_version(
            name, source=model.artifact_location, run_id=run_id, tags=tags, model_id=model.model_id
        )

    def _link(self, model_id: str, version: Any) -> None:
        """Have the model's page find its version. A server sets this tag by itself; the client on a SQLite store does not."""
        # Also for a version that was found: who made it may have died before this.
        if VERSIONS not in self.client.get_logged_model(model_id).tags:
            versions = json.dumps([{"name": version.name, "version": str(version.version)}])
            self.client.set_logged_model_tags(model_id, {VERSIONS: versions})

    def _point(self, name: str, alias: str, version: Any, used: int) -> None:
        tag = f"zoocast.{alias}.since"
        holder = None
        with _ignoring("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
            holder = self.client.get_model_version_by_alias(name, alias)
        # A late export of an older run must not move it back. Of one run's models, as of several seeds, the first keeps it.
        if holder is None or int(holder.tags.get(tag, 0)) < used:
            self.client.set_model_version_tag(name, version.version, tag, str(used))
            self.client.set_registered_model_alias(name, alias, version.version)


def _view(run_id: str, metric: str) -> dict[str, Any]:
    """MLflow's view of all children of a run, the lowest `metric` first."""
    return {**children(run_id, metric), "orderByAsc": True, "runsHiddenMode": "SHOW_ALL", "hideEmptyCharts": True}


def _first(name: str, *charts: Mapping[str, Any], height: int = 400) -> dict[str, Any]:
    """The part of a view that has these charts first, each as wide as the page. MLflow sorts sections by their names."""
    section = {"uuid": "zoocast-first", "name": name, "display": True, "columns": 1, "cardHeight": height}
    common = {"metricSectionId": section["uuid"], "deleted": False, "isGenerated": False}
    return {
        "compareRunSections": [section],
        "compareRunCharts": [{"uuid": f"zoocast-{i}", **common, **chart} for i, chart in enumerate(charts)],
    }


def _slices(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))


@contextlib.contextmanager
def _ignoring(*codes: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if getattr(error, "error_code", None) not in codes:
            raise
