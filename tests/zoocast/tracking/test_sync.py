"""From journals to MLflow: complete, once, and whatever is killed on the way."""

import io
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.cells import ConvLSTM
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.tracking import Journal, Sync, SyncState, sync_pending
from zoocast.tracking.backend import connect
from zoocast.tracking.entries import Artifact, encode
from zoocast.tracking.server import Server, view_key
from zoocast.tracking.sync import _pause
from zoocast.tracking.ui import study_links

PLATFORM = Path(__file__).parents[3] / "platform"
RUN = "zoo-to-target-0123abcd"


def open_sync(root: Path, run: str = RUN, **options) -> Sync:
    return Sync(root, run, root / "runs" / run, experiment="zoo-to-target", **options)


def step(root: Path, name: str, key: str) -> tuple[Path, Journal]:
    """A step at work: its directory, which still is partial, and its journal."""
    directory = root / "steps" / f"{name}-{key}.partial"
    directory.mkdir(exist_ok=True)
    return directory, Journal(directory / "journal.jsonl")


def done_step(root: Path, name: str = "source-one", key: str = "aaa") -> Path:
    directory, journal = step(root, name, key)
    for i in range(10):
        journal.metrics({"train/loss": 1.0 / (i + 1)}, step=i)
    (directory / "model").mkdir()
    (directory / "model" / "predictor.safetensors").write_bytes(b"weights")
    journal.model("model", name, alias="current", step=9)
    return directory.rename(directory.with_suffix(""))


def until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def seen(root: Path, uri: str | None = None) -> SimpleNamespace:
    """What MLflow shows: parents and children by name, and a client to ask for more."""
    client = connect(uri or f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("zoo-to-target")
    runs = client.search_runs([experiment.experiment_id])
    parents = {run.info.run_name: run for run in runs if "mlflow.parentRunId" not in run.data.tags}
    children = {
        (parent.info.run_name, run.info.run_name): run
        for parent in parents.values()
        for run in runs
        if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert len(parents) + len(children) == len(runs), "a run was made twice, or has no parent"
    return SimpleNamespace(client=client, parents=parents, children=children, experiment=experiment)


def points(view: SimpleNamespace, run, key: str = "train/loss") -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in view.client.get_metric_history(run.info.run_id, key))


def files(view: SimpleNamespace, run, folder: str | None = None) -> list[str]:
    return sorted(file.path for file in view.client.list_artifacts(run.info.run_id, folder))


def test_every_kind_of_entry_arrives_in_mlflow(root, png):
    sync = open_sync(root, tags={"zoocast.git.commit": "c0ffee"})
    sync.journal.params({"preset": "smoke"})
    sync.journal.metrics({"tmu/test_mse": 40.0}, step=0)
    sync.journal.note("| arm | mse |\n|---|---|\n| tmu | 40 |\n")
    (root / "report.html").write_text("<p>report</p>")
    sync.journal.artifact(root / "report.html")

    directory, journal = step(root, "target-tmu", "bbb")
    sync.started("target-tmu", "bbb", directory)
    journal.params({"arm": "tmu", "learning_rate": 1e-3})
    journal.tags({"zoocast.data": "d1"})
    journal.dataset("digits", "0123456789abcdef" * 4, context="training", source="steps/data", profile={"clips": 64})
    for i in range(0, 100, 10):
        journal.metrics({"train/loss": 1 / (i + 1), "val/mse": 50 - i / 10}, step=i)
    journal.image("strips/val", png, step=0)
    journal.image("strips/val", png, step=50)
    (directory / "curves").mkdir()
    (directory / "curves" / "loss.txt").write_text("falling")
    journal.artifact("curves", "figures")
    (directory / "model").mkdir()
    (directory / "model" / "predictor.safetensors").write_bytes(b"weights")
    journal.model("model", "target-tmu", alias="current", step=90)
    final = directory.rename(directory.with_suffix(""))
    sync.finished("target-tmu", "bbb", final)
    sync.finished("data", "ddd", root / "steps" / "data-ddd")  # a step without a journal
    assert sync.close("finished") == SyncState(0, 0, "")

    view = seen(root)
    parent = view.parents[RUN]
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"preset": "smoke"}
    assert parent.data.metrics == {"tmu/test_mse": 40.0}
    assert parent.data.tags["mlflow.note.content"].startswith("| arm | mse |")
    assert parent.data.tags["zoocast.git.commit"] == "c0ffee"
    assert files(view, parent) == ["report.html"]

    assert set(view.children) == {(RUN, "target-tmu"), (RUN, "data")}
    assert view.children[RUN, "data"].info.status == "FINISHED"
    child = view.children[RUN, "target-tmu"]
    assert child.info.status == "FINISHED"
    assert child.data.params == {"arm": "tmu", "learning_rate": "0.001"}
    assert child.data.tags["zoocast.key"] == "bbb"
    assert child.data.tags["zoocast.data"] == "d1"
    assert points(view, child) == [(i, 1 / (i + 1)) for i in range(0, 100, 10)]
    assert files(view, child, "figures/curves") == ["figures/curves/loss.txt"]
    # each picture of a series is a PNG and its thumbnail, under the names that MLflow's page looks for
    images = files(view, child, "images")
    assert [name.partition("+timestamp+")[0] for name in images] == [f"images/strips~val+step+{s}" for s in (0, 0, 0, 0, 50, 50)]
    assert sum(name.endswith(".png") for name in images) == sum(name.endswith("+compressed.webp") for name in images) == 3
    (dataset,) = child.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("digits", "0123456789abcdef")
    assert [(tag.key, tag.value) for tag in dataset.tags] == [("mlflow.data.context", "training")]

    version = view.client.get_model_version_by_alias("target-tmu", "current")
    assert version.tags["zoocast.key"] == "bbb"
    assert [output.model_id for output in child.outputs.model_outputs] == [version.tags["zoocast.model"]]
    weights = Path(version.source.removeprefix("file://")) / "predictor.safetensors"
    assert weights.read_bytes() == b"weights"
    # nothing was written outside of the root, neither by us nor by MLflow
    assert sorted(path.name for path in root.parent.iterdir()) == ["runs"]


def test_a_killed_and_resumed_step_has_each_point_once(root):
    """SIGKILL in the middle of writing, syncing meanwhile, then the same command again: a checkpoint at 30 repeats 30..49."""
    worker = (
        "import os, signal, sys; from pathlib import Path; from zoocast.tracking.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1])); first, last = int(sys.argv[2]), int(sys.argv[3])\n"
        "if first: journal.rewind(first)\n"
        "for step in range(first, last): journal.metrics({'train/loss': 1 / (step + 1)}, step=step)\n"
        'if last == 50: os.write(journal._file, b\'{"kind":"metr\'); os.kill(os.getpid(), signal.SIGKILL)\n'
    )

    def work(first: int, last: int) -> int:
        arguments = [sys.executable, "-c", worker, str(directory / "journal.jsonl"), str(first), str(last)]
        return subprocess.run(arguments, env={**os.environ, "PYTHONPATH": str(PLATFORM)}, check=False).returncode

    directory, _ = step(root, "source-one", "aaa")
    sync = open_sync(root)
    sync.started("source-one", "aaa", directory)
    assert work(0, 50) == -signal.SIGKILL
    until(lambda: sync.state().pending == 0)
    view = seen(root)
    assert view.children[RUN, "source-one"].info.status == "RUNNING"
    sync.finished("source-one", "aaa", directory, "failed")
    sync.close("failed")
    view = seen(root)
    assert view.children[RUN, "source-one"].info.status == "FAILED"
    assert view.parents[RUN].info.status == "FAILED"

    sync = open_sync(root)
    sync.started("source-one", "aaa", directory)
    assert work(30, 80) == 0
    until(lambda: sync.state().pending == 0)
    assert seen(root).children[RUN, "source-one"].info.status == "RUNNING"
    sync.finished("source-one", "aaa", directory.rename(directory.with_suffix("")))
    assert sync.close("finished").pending == 0

    view = seen(root)
    child = view.children[RUN, "source-one"]
    assert child.info.status == view.parents[RUN].info.status == "FINISHED"
    assert points(view, child) == [(i, 1 / (i + 1)) for i in range(80)]
    assert child.data.tags["zoocast.resumed"] == "from step 30"


def test_a_killed_driver_leaves_nothing_running_and_loses_nothing(root):
    directory = done_step(root)
    driver = (
        "import sys, time; from pathlib import Path; from zoocast.tracking import Sync\n"
        f"root = Path(sys.argv[1]); d = Sync(root, {RUN!r}, root / 'runs' / {RUN!r}, experiment='zoo-to-target')\n"
        f"d.started('source-one', 'aaa', Path(sys.argv[2])); d.journal.params({{'preset': 'smoke'}})\n"
        "while d.state().pending: time.sleep(0.05)\n"
        "d.journal.metrics({'late': 1.0}, step=0); print('exported', flush=True); time.sleep(60)\n"
    )
    arguments = [sys.executable, "-c", driver, str(root), str(directory)]
    process = subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": str(PLATFORM)}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"exported\n"
    assert seen(root).children[RUN, "source-one"].info.status == "RUNNING"
    assert sync_pending(root).problem == "it is in the hands of another process"  # its driver is alive
    assert seen(root).children[RUN, "source-one"].info.status == "RUNNING"
    process.kill()
    process.wait()
    process.stdout.close()

    assert sync_pending(root) == SyncState(0, 0, "")
    view = seen(root)
    assert {run.info.status for run in (*view.parents.values(), *view.children.values())} == {"KILLED"}
    assert view.parents[RUN].data.metrics == {"late": 1.0}

    sync = open_sync(root)
    sync.finished("source-one", "aaa", directory)
    sync.close("finished")
    view = seen(root)
    assert {run.info.status for run in (*view.parents.values(), *view.children.values())} == {"FINISHED"}
    assert points(view, view.children[RUN, "source-one"]) == [(i, 1.0 / (i + 1)) for i in range(10)]


def test_exporting_everything_again_changes_nothing(root, png):
    directory, journal = step(root, "source-one", "aaa")
    journal.metrics({"train/loss": math.nan}, step=0)
    journal.metrics({"train/loss": 0.5}, step=1)
    journal.dataset("digits", "d" * 64, context="training")
    journal.image("strips/val", png, step=0)
    (directory / "model").mkdir()
    (directory / "model" / "predictor.json").write_text("{}")
    journal.model("model", "source-one", alias="current")

    def export() -> tuple:
        sync = open_sync(root)
        sync.finished("source-one", "aaa", directory)
        assert sync.close("finished").pending == 0
        view = seen(root)
        child = view.children[RUN, "source-one"]
        versions = [version.version for version in view.client.search_model_versions("name = 'source-one'")]
        (model,) = view.client.search_logged_models([view.experiment.experiment_id])
        assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "source-one", "version": "1"}]
        view.client.delete_logged_model_tag(model.model_id, "mlflow.modelVersions")  # as of one killed before he set it
        steps = [at for at, _ in points(view, child)]
        return child.info.run_id, steps, files(view, child, "images"), versions, len(child.inputs.dataset_inputs)

    first = export()
    assert first[1] == [0, 1]
    shutil.rmtree(root / "delivery")  # what had been exported is forgotten
    assert export() == first


def test_a_finished_step_is_exported_for_every_run_that_uses_it_and_its_model_registered_once(root):
    directory = done_step(root)
    for run in ("zoo-to-target-00000001", "zoo-to-target-00000002"):
        sync = open_sync(root, run)
        sync.finished("source-one", "aaa", directory)
        assert sync.close("finished").pending == 0
    view = seen(root)
    first, second = (view.children[run, "source-one"] for run in sorted(view.parents))
    assert points(view, first) == points(view, second) == [(i, 1.0 / (i + 1)) for i in range(10)]
    (version,) = view.client.search_model_versions("name = 'source-one'")
    assert [o.model_id for o in first.outputs.model_outputs] == [o.model_id for o in second.outputs.model_outputs]
    assert version.run_id == first.info.run_id


def test_an_alias_follows_the_latest_run_and_never_moves_back(root):
    old, new = done_step(root, key="aaa"), done_step(root, key="bbb")
    dead = "http://127.0.0.1:9"
    late = open_sync(root, "zoo-to-target-00000001", uri=dead)
    late.finished("source-one", "aaa", old)
    assert late.close("finished").pending > 0
    sync = open_sync(root, "zoo-to-target-00000002")
    sync.finished("source-one", "bbb", new)
    sync.close("finished")
    assert sync_pending(root, runs=["zoo-to-target-00000001"]).pending == 0
    client = seen(root).client
    assert len(client.search_model_versions("name = 'source-one'")) == 2
    assert client.get_model_version_by_alias("source-one", "current").tags["zoocast.key"] == "bbb"


@pytest.mark.filterwarnings("ignore")  # of MLflow's own imports
def test_a_registered_predictor_is_loaded_by_mlflow_and_predicts_without_any_pickle(root, monkeypatch):
    predictor = Predictor(
        PredictorConfig(cell=ConvLSTM(), hidden_channels=(4,), patch_size=2), FrameShape(channels=1, height=8, width=8)
    )
    directory, journal = step(root, "target-tmu", "aaa")
    save_predictor(predictor, directory / "model")
    journal.model("model", "target-tmu", alias="ready")
    sync = open_sync(root)
    sync.finished("target-tmu", "aaa", directory)
    assert sync.close("finished") == SyncState(0, 0, "")
    moved = root.rename(root.with_name("moved"))
    client = connect(f"sqlite:///{moved}/mlflow.db")
    assert str(client.get_model_version_by_alias("target-tmu", "ready").version) == "1"

    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved}/mlflow.db")
    loaded = mlflow.pyfunc.load_model("models:/target-tmu/1")
    observed = loaded.input_example
    assert (observed.shape, observed.dtype) == ((1, 10, 1, 8, 8), np.float32)
    predicted = loaded.predict(observed, params={"horizon": 3})
    np.testing.assert_array_equal(predicted, predictor.eval().predict(torch.from_numpy(observed), 3).numpy())
    assert loaded.predict(observed).shape == (1, 10, 1, 8, 8)
    with pytest.raises(mlflow.MlflowException, match=r"shape .*\(-1, -1, 1, 8, 8\)"):
        loaded.predict(observed[..., :4])
    assert {path.suffix for path in (moved / "mlartifacts").rglob("*.*")} == {".json", ".safetensors"}


def test_what_another_run_adds_to_a_journal_is_not_exported_for_a_run_that_had_given_up(root):
    directory, journal = step(root, "source-one", "aaa")
    journal.metrics({"train/loss": 1.0}, step=0)
    first = open_sync(root, "zoo-to-target-00000001")
    first.started("source-one", "aaa", directory)
    first.close("killed")
    second = open_sync(root, "zoo-to-target-00000002")
    second.started("source-one", "aaa", directory)
    journal.metrics({"train/loss": 0.5}, step=1)
    second.finished("source-one", "aaa", directory)
    second.close("finished")
    assert sync_pending(root) == SyncState(0, 0, "")
    view = seen(root)
    assert points(view, view.children["zoo-to-target-00000001", "source-one"]) == [(0, 1.0)]
    assert view.children["zoo-to-target-00000001", "source-one"].info.status == "KILLED"
    assert points(view, view.children["zoo-to-target-00000002", "source-one"]) == [(0, 1.0), (1, 0.5)]


def test_a_step_done_all_over_again_replaces_its_child(root):
    directory = done_step(root)
    sync = open_sync(root)
    sync.finished("source-one", "aaa", directory)
    sync.close("finished")
    former = seen(root).children[RUN, "source-one"].info.run_id
    shutil.rmtree(directory)
    directory, journal = step(root, "source-one", "aaa")
    sync = open_sync(root)
    sync.started("source-one", "aaa", directory)
    journal.metrics({"train/loss": 7.0}, step=0)
    sync.finished("source-one", "aaa", directory)
    sync.close("finished")
    view = seen(root)
    assert points(view, view.children[RUN, "source-one"]) == [(0, 7.0)]
    assert view.client.get_run(former).info.lifecycle_stage == "deleted"


def test_another_journal_in_the_file_of_the_former_is_another_attempt(root):
    directory, journal = step(root, "source-one", "aaa")
    sync = open_sync(root)
    sync.started("source-one", "aaa", directory)
    journal.metrics({"train/loss": 1.0}, step=0)
    until(lambda: sync.state().pending == 0)
    os.truncate(journal.path, 0)  # a new file may have the number of the one that was removed
    Journal(journal.path).metrics({"train/loss": 7.0}, step=0)
    sync.finished("source-one", "aaa", directory)
    assert sync.close("finished").pending == 0
    view = seen(root)
    assert points(view, view.children[RUN, "source-one"]) == [(0, 7.0)]


def test_a_run_whose_folder_was_deleted_begins_a_new_page_with_all_its_steps(root):
    directory = done_step(root)
    former = []
    for _ in range(2):
        sync = open_sync(root)
        sync.finished("source-one", "aaa", directory)
        assert sync.close("finished").pending == 0
        view = seen(root)  # it sees what is not in the trash
        assert view.children.keys() == {(RUN, "source-one")}
        assert len(points(view, view.children[RUN, "source-one"])) == 10
        former.append(view.parents[RUN].info.run_id)
        shutil.rmtree(root / "runs" / RUN)
    assert former[0] != former[1]


def test_colleagues_with_the_same_settings_have_a_page_each(root, tmp_path):
    store = f"sqlite:///{root}/mlflow.db"
    for number, place in enumerate((root, tmp_path / "theirs"), start=1):
        (place / "steps").mkdir(parents=True, exist_ok=True)
        sync = open_sync(place, uri=store)
        sync.finished("source-one", "aaa", done_step(place))
        sync.finished("data", "ddd", place / "steps" / "data-ddd")  # a step without a journal
        assert sync.close("finished") == SyncState(0, 0, "")
        client = connect(store)
        runs = client.search_runs([client.get_experiment_by_name("zoo-to-target").experiment_id])
        assert sorted(run.info.run_name for run in runs) == sorted([RUN, "source-one", "data"] * number)


def test_runs_move_to_another_store_and_an_emptied_one_is_filled_again(root, tmp_path):
    directory = done_step(root)
    sync = open_sync(root)
    sync.finished("source-one", "aaa", directory)
    sync.close("finished")
    other = f"sqlite:///{tmp_path}/other/mlflow.db"
    assert sync_pending(root, other) == SyncState(0, 0, "")  # no run was meant for it
    shutil.copytree(root, tmp_path / "other", ignore=shutil.ignore_patterns("steps", "delivery", "runs"))
    (root / "mlflow.db").rename(tmp_path / "away.db")  # somebody tidied up
    for path, uri, runs in ((tmp_path / "other", other, [RUN]), (root, f"sqlite:///{root}/mlflow.db", None)):
        assert sync_pending(root, uri, runs=runs) == SyncState(0, 0, "")
        view = seen(path, uri)
        assert len(points(view, view.children[RUN, "source-one"])) == 10
    with pytest.raises(ConfigError, match=f"nothing is known of a run 'nope' .*known: {RUN}"):
        sync_pending(root, runs=["nope"])


def test_scores_reach_the_page_of_the_training_that_they_are_of_and_its_arms_are_grouped(root):
    trained, journal = step(root, "target.tmu.seed0", "aaa111bbb222")
    journal.params({"arm": "tmu"})
    measured, scores = step(root, "evaluate.tmu", "ccc333ddd444")
    scores.scores(root / "steps" / "target.tmu.seed0-aaa111bbb222", {"test/strict/mse": 0.25, "test/strict/psnr": math.inf})
    scores.scores(root / "steps" / "target.other-000000000000", {"test/strict/mse": 0.5})  # of another pipeline run
    sync = open_sync(root)
    sync.journal.group("test/strict/mse", "arm", "target.")
    sync.finished("target.tmu.seed0", "aaa111bbb222", trained)
    sync.finished("evaluate.tmu", "ccc333ddd444", measured)
    assert sync.close("finished") == SyncState(0, 0, "")
    pages = seen(root)
    assert pages.children[RUN, "target.tmu.seed0"].data.metrics == {"test/strict/mse": 0.25}
    view = json.loads(pages.experiment.tags[f"mlflow.sharedViewState.{view_key(pages.parents[RUN].info.run_id)}"])
    assert view["searchFilter"].endswith(" and tags.zoocast.step LIKE 'target.%'")
    assert view["groupBy"]["groupByKeys"] == [{"mode": "param", "groupByData": "arm"}]
    assert view["orderByKey"] == "metrics.`test/strict/mse`"
    found = pages.client.search_runs([pages.experiment.experiment_id], filter_string=view["searchFilter"])
    assert [run.info.run_name for run in found] == ["target.tmu.seed0"]
    pictures = json.loads(pages.experiment.tags[f"mlflow.sharedViewState.{view_key(pages.parents[RUN].info.run_id, 'pictures')}"])
    assert (pictures["searchFilter"], pictures.get("groupBy")) == (view["searchFilter"], None)
    assert [chart["imageKeys"] for chart in pictures["compareRunCharts"]] == [["val/strip"]]


def test_the_newest_picture_of_a_series_stands_where_mlflows_slider_does(root, png):
    directory, journal = step(root, "source-one", "aaa")
    journal.image("val/strip", png, step=50)
    sync = open_sync(root)
    sync.finished("source-one", "aaa", directory)
    assert sync.close("finished") == SyncState(0, 0, "")
    newest = io.BytesIO()
    Image.new("L", (8, 8), 7).save(newest, "png")
    journal.image("val/strip", newest.getvalue(), step=100)
    assert sync_pending(root).pending == 0
    pages = seen(root)
    first = [f for f in files(pages, pages.children[RUN, "source-one"], "images") if "+step+0+" in f and f.endswith(".png")]
    assert len(first) == 1  # which the next one replaces
    assert next((root / "mlartifacts").rglob(Path(first[0]).name)).read_bytes() == newest.getvalue()


def test_a_store_gets_what_came_while_the_run_was_driven_against_another(root, tmp_path, empty_store):
    directory = done_step(root)
    sync = open_sync(root)
    sync.finished("source-one", "aaa", directory)
    assert sync.close("finished").pending == 0
    other = tmp_path / "other" / "mlflow.db"
    other.parent.mkdir()
    shutil.copyfile(empty_store, other)
    again = open_sync(root, uri=f"sqlite:///{other}")
    again.journal.params({"preset": "smoke"})
    assert again.close("finished").pending == 0
    assert sync_pending(root, runs=[RUN]) == SyncState(0, 0, "")
    assert seen(root).parents[RUN].data.params == {"preset": "smoke"}


def test_entries_that_mlflow_refuses_are_noted_and_hold_up_no_others(root, png):
    directory, journal = step(root, "source-one", "aaa")
    journal.image("strips/val", b"not a picture", step=0)
    journal.artifact("gone.txt")
    journal.model("model", "source/one")  # a registered model must not have a slash in its name
    (directory / "model").mkdir()
    journal.image("strips/val", png, step=1)
    journal.params({"learning_rate": 1e-3})
    sync = open_sync(root)
    sync.finished("source-one", "aaa", directory)
    wrong = b'{"kind":"metrics","time":5,"step":"seven","values":{}}\n'
    with journal.path.open("ab") as file:  # a kill, and a writer who is none of ours
        file.write(b'{"kind":"metr\n' + wrong)
    journal.tags({"last": "one"})
    sync.finished("source-one", "aaa", directory)
    state = sync.close("finished")
    assert (state.pending, state.refused) == (0, 4)
    assert state.problem.startswith("refused: image images/strips-val-00000000.png: ")
    (notes,) = (root / "delivery" / "local").rglob("*.refused")
    assert [line.partition(":")[0] for line in notes.read_text().splitlines()] == [
        "image images/strips-val-00000000.png",
        "artifact gone.txt",
        "model model",
        f"the line at byte {journal.path.read_bytes().index(wrong)} of the journal is no entry",
    ]
    child = seen(root).children[RUN, "source-one"]
    assert len(files(seen(root), child, "images")) == 4
    assert child.data.params == {"learning_rate": "0.001"}
    assert child.data.tags["last"] == "one"
    # What is mended is delivered by the next `sync`, and what is not is refused again.
    (directory / "gone.txt").write_text("found again")
    assert sync_pending(root).refused == 3
    assert "gone.txt" in files(seen(root), child)
    assert len(notes.read_text().splitlines()) == 3


def test_no_file_outside_of_the_root_is_sent_to_mlflow(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("home")
    (elsewhere / "id_rsa").write_text("secret")
    directory, journal = step(root, "source-one", "aaa")
    (directory / "figures").mkdir()
    (directory / "figures" / "a.txt").write_text("a")
    (directory / "linked").mkdir()
    (directory / "linked" / "key").symlink_to(elsewhere / "id_rsa")
    up = os.path.relpath(elsewhere, directory)
    for place in (elsewhere / "id_rsa", elsewhere, f"{up}/id_rsa", "linked", "linked/key", "figures"):
        journal.artifact(place)
    journal.child("one", elsewhere)
    sync = open_sync(root)
    sync.finished("source-one", "aaa", directory)
    state = sync.close("finished")
    assert (state.pending, state.refused) == (0, 6)
    (notes,) = (root / "delivery" / "local").rglob("*.refused")
    assert notes.read_text().count("lies outside of ") == 5
    assert "a part lies in the folder of its step" in notes.read_text()
    view = seen(root)
    assert set(view.children) == {(RUN, "source-one")}
    assert files(view, view.children[RUN, "source-one"]) == ["figures"]
    assert not any(b"secret" in path.read_bytes() for path in (root / "mlartifacts").rglob("*") if path.is_file())


def test_a_file_that_a_journal_names_in_full_is_found_where_its_root_is_now(root, tmp_path):
    sync = open_sync(root)
    (root / "steps" / "report-aaa").mkdir()
    (root / "steps" / "report-aaa" / "table.md").write_text("| arm |")
    run = root / "runs" / RUN
    assert sync.close("finished").pending == 0
    with (run / "journal.jsonl").open("ab") as file:  # as it stood there until version 0.9
        file.write(encode(Artifact(str(root / "steps" / "report-aaa" / "table.md"), "")))
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    assert sync_pending(copy) == SyncState(0, 0, "")
    assert files(seen(copy), seen(copy).parents[RUN]) == ["table.md"]
    assert files(seen(root), seen(root).parents[RUN]) == []


def test_a_journal_that_cannot_be_exported_holds_up_no_other(root):
    stuck, journal = step(root, "source-one", "aaa")
    sync = open_sync(root)
    sync.started("source-one", "aaa", stuck)
    until(lambda: sync.state().pending == 0)
    view = seen(root)
    # a file where the run's folder should be, as a stand-in for storage that takes nothing from this run
    place = root / "mlartifacts" / "zoo-to-target" / view.children[RUN, "source-one"].info.run_id
    place.parent.mkdir(parents=True)
    place.write_text("")
    (stuck / "a.txt").write_text("a")
    journal.artifact("a.txt")
    other, journal = step(root, "source-two", "bbb")
    for i in range(2500):
        journal.metrics({"train/loss": 1.0}, step=i)
    sync.finished("source-one", "aaa", stuck)
    sync.finished("source-two", "bbb", other)
    state = sync.close("finished")
    assert state.pending == 2  # one artifact and one status
    assert "NotADirectoryError" in state.problem or "FileExistsError" in state.problem
    view = seen(root)
    assert len(points(view, view.children[RUN, "source-two"])) == 2500
    assert view.children[RUN, "source-two"].info.status == view.parents[RUN].info.status == "FINISHED"
    place.unlink()
    assert sync_pending(root) == SyncState(0, 0, "")
    view = seen(root)
    assert files(view, view.children[RUN, "source-one"]) == ["a.txt"]


def test_non_finite_values_are_gaps_and_are_named(root):
    directory, journal = step(root, "source-one", "aaa")
    for i, value in enumerate([1.0, math.inf, math.nan, -math.inf]):
        journal.metrics({"train/loss": value}, step=i)
    sync = open_sync(root)
    sync.finished("source-one", "aaa", directory, "failed")
    sync.close("failed")
    view = seen(root)
    child = view.children[RUN, "source-one"]
    assert child.data.tags["zoocast.nonfinite"] == "train/loss was inf at step 1"
    values = [value for _, value in points(view, child)]
    assert values[0] == 1.0
    assert all(math.isnan(value) for value in values[1:])  # not 1.8e308
    assert len(values) == 4


def test_a_child_that_the_user_has_deleted_stays_deleted(root):
    directory, journal = step(root, "source-one", "aaa")
    journal.metrics({"train/loss": 1.0}, step=0)
    sync = open_sync(root)
    sync.started("source-one", "aaa", directory)
    until(lambda: sync.state().pending == 0)
    view = seen(root)
    view.client.delete_run(view.children[RUN, "source-one"].info.run_id)
    journal.metrics({"train/loss": 0.5}, step=1)
    sync.finished("source-one", "aaa", directory)
    sync.close("finished")
    assert sync_pending(root).pending == 0
    assert seen(root).children == {}


def test_a_long_note_is_cut_at_a_line_and_kept_whole_beside(root):
    sync = open_sync(root)
    text = "".join(f"| {i:4} | arm |\n" for i in range(1000))  # 15,000 characters; MLflow would cut in mid-row at 8,000
    sync.journal.note(text)
    sync.close("finished")
    view = seen(root)
    note = view.parents[RUN].data.tags["mlflow.note.content"]
    table, _, remark = note.partition("\n\n")
    assert text.startswith(table + "\n")
    assert len(note) < 8000
    assert "note.md" in remark
    server = Server(f"sqlite:///{root}/mlflow.db", "zoo-to-target", root / "models.lock")
    server.note(view.parents[RUN].info.run_id, "x" * 9000)  # not a line to cut at
    assert seen(root).parents[RUN].data.tags["mlflow.note.content"].startswith("x" * 7900 + "\n\n(cut here")
    assert files(view, view.parents[RUN]) == ["note.md"]


@pytest.fixture
def silent_server(monkeypatch):
    """Takes connections and never answers, as a server does that hangs."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_server_that_never_answers_holds_up_no_driver(root, silent_server):
    directory = done_step(root)
    begin = time.monotonic()
    sync = open_sync(root, uri=f"http://127.0.0.1:{silent_server.getsockname()[1]}")
    sync.finished("source-one", "aaa", directory)
    assert time.monotonic() - begin < 0.5
    begin = time.monotonic()
    state = sync.close("finished", timeout=1.0)
    assert time.monotonic() - begin < 1.5
    # the parent: header, running, finished; the step: header, 10 metrics, model; and two runs that MLflow does not have
    assert state.pending == 3 + 12 + 2
    assert "longer than 1 s" in state.problem or "does not answer" in state.problem
    silent_server.close()  # which ends the call that waits for it
    sync._thread.join(30)
    assert not sync._thread.is_alive()


def test_tries_grow_rarer_up_to_half_a_minute_however_long_a_server_is_away():
    assert [_pause(failures) for failures in (0, 1, 2, 5, 100_000)] == [1, 2, 4, 30, 30]


def test_a_dead_server_is_named_and_tried_once_when_closing(root):
    directory = done_step(root)
    sync = open_sync(root, "zoo-to-target-00000001", uri="http://127.0.0.1:9")
    sync.finished("source-one", "aaa", directory)
    begin = time.monotonic()
    state = sync.close("finished")
    assert time.monotonic() - begin < 10
    assert (state.pending > 0, state.problem) == (True, "no server answers there")
    assert sync_pending(root, "http://127.0.0.1:9").problem == "no server answers there"


def search_step(root: Path, trials: dict[str, str | None]) -> tuple[Path, Journal]:
    """A step at work whose journal names its parts: each has a point, and that status at its end (None: it is at work)."""
    directory, journal = step(root, "search", "sss")
    for number, (name, status) in enumerate(trials.items()):
        (directory / "trials" / name).mkdir(parents=True, exist_ok=True)
        journal.child(name, directory / "trials" / name)
        part = Journal(directory / "trials" / name / "journal.jsonl")
        part.status("running")
        part.params({"adapter.cycle": 100 + number})
        part.metrics({"trial/best_error": 0.1}, step=5)
        if status is not None:
            part.status(status)
    return directory, journal


def trials_seen(root: Path) -> dict[str, SimpleNamespace]:
    """The trials that MLflow shows, all of them children of the one run of the search."""
    client = connect(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("zoo-to-target")
    runs = client.search_runs([experiment.experiment_id])
    (search,) = (run for run in runs if run.info.run_name == "search")
    trials = [run for run in runs if run.info.run_name.startswith("trial-")]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} <= {search.info.run_id}
    names = [run.info.run_name for run in trials]
    assert len(set(names)) == len(names)
    return dict(zip(names, trials, strict=True))


def test_parts_of_a_step_are_runs_below_its_run_with_its_tags(root):
    sync = open_sync(root, tags={"zoocast.preset": "smoke"})
    directory, journal = search_step(root, {"trial-0000": "finished", "trial-0001": None})
    journal.compare("trial/best_error", ["adapter.cycle"])
    sync.started("search", "sss", directory)
    until(lambda: sync.state().pending == 0)
    assert {name: run.info.status for name, run in trials_seen(root).items()} == {
        "trial-0000": "FINISHED",
        "trial-0001": "RUNNING",
    }
    search_step(root, {"trial-0001": "failed", "trial-0002": "finished"})  # logged again, ended, and one more
    sync.finished("search", "sss", directory.rename(directory.with_suffix("")))
    assert sync.close("finished") == SyncState(0, 0, "")
    trials = trials_seen(root)
    assert {name: run.info.status for name, run in trials.items()} == {
        "trial-0000": "FINISHED",
        "trial-0001": "FAILED",
        "trial-0002": "FINISHED",
    }
    first = trials["trial-0000"].data
    assert (first.params, first.metrics) == ({"adapter.cycle": "100"}, {"trial/best_error": 0.1})
    assert (first.tags["zoocast.preset"], first.tags["zoocast.key"]) == ("smoke", "sss/trial-0000")
    (link,) = study_links(root, "http://page").values()
    key = link.partition("viewStateShareKey=")[2]
    client = connect(f"sqlite:///{root}/mlflow.db")
    view = json.loads(client.get_experiment_by_name("zoo-to-target").tags[f"mlflow.sharedViewState.{key}"])
    assert view["searchFilter"] == f"tags.mlflow.parentRunId = '{first.tags['mlflow.parentRunId']}'"
    assert view["orderByKey"] == "metrics.`trial/best_error`"
    settings, bars = view["compareRunCharts"]
    assert (settings["selectedParams"], bars["metricKey"]) == (["adapter.cycle"], "trial/best_error")


def test_parts_that_are_left_behind_end_as_killed_and_go_on_with_their_step(root, empty_store):
    first = open_sync(root)
    directory, _ = search_step(root, {"trial-0000": "finished", "trial-0001": None})
    first.started("search", "sss", directory)
    first.close("killed")
    before = trials_seen(root)
    assert {name: run.info.status for name, run in before.items()} == {"trial-0000": "FINISHED", "trial-0001": "KILLED"}
    # Another run goes on with the step; what it logs is not the first run's.
    shutil.copyfile(empty_store, root / "other.db")
    other = open_sync(root, "zoo-to-target-00000002", uri=f"sqlite:///{root}/other.db")
    other.started("search", "sss", directory)
    Journal(directory / "trials" / "trial-0001" / "journal.jsonl").metrics({"trial/best_error": 0.05}, step=6)
    other.close("killed")
    assert sync_pending(root) == SyncState(0, 0, "")
    assert points_of(root, "trial-0001") == [(5, 0.1)]
    # The first run goes on, too.
    again = open_sync(root)
    again.started("search", "sss", directory)
    search_step(root, {"trial-0001": "finished"})
    again.finished("search", "sss", directory.rename(directory.with_suffix("")))
    assert again.close("finished") == SyncState(0, 0, "")
    after = trials_seen(root)
    assert {name: run.info.run_id for name, run in after.items()} == {name: run.info.run_id for name, run in before.items()}
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    assert points_of(root, "trial-0001") == [(5, 0.1), (6, 0.05)]


def points_of(root: Path, name: str) -> list[tuple[int, float]]:
    client = connect(f"sqlite:///{root}/mlflow.db")
    history = client.get_metric_history(trials_seen(root)[name].info.run_id, "trial/best_error")
    return sorted((metric.step, metric.value) for metric in history)


def test_the_trials_of_a_deleted_search_are_left_alone(root):
    sync = open_sync(root)
    directory, _ = search_step(root, {"trial-0000": None})
    sync.started("search", "sss", directory)
    sync.close("killed")
    trial = trials_seen(root)["trial-0000"]
    client = connect(f"sqlite:///{root}/mlflow.db")
    for run_id in (trial.data.tags["mlflow.parentRunId"], trial.info.run_id):
        client.delete_run(run_id)
    search_step(root, {"trial-0000": "finished", "trial-0001": "finished"})
    sync = open_sync(root)
    sync.finished("search", "sss", directory)
    assert sync.close("finished") == SyncState(0, 0, "")
    assert [run.info.run_name for run in client.search_runs([trial.info.experiment_id])] == [RUN]
