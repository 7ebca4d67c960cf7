"""Which store is meant, and entering it, also for two processes at once."""

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest

from zoocast.errors import ConfigError
from zoocast.tracking.backend import artifact_location, connect, locate, sqlite_file, store_name


@pytest.fixture(autouse=True)
def no_server_from_outside(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_tracking_uri_given_wins_over_the_environment_and_that_over_the_root(tmp_path, monkeypatch):
    assert locate(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000/")
    assert locate(tmp_path) == "http://server:5000"
    assert locate(tmp_path, "https://other/mlflow/") == "https://other/mlflow"


def test_sqlite_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate(Path("runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert locate(Path("runs"), "sqlite:///mine.db") == f"sqlite:///{tmp_path}/mine.db"
    assert sqlite_file("http://server") is None


@pytest.mark.parametrize(
    "uri",
    [
        "runs/mlruns",
        "file:///mlruns",
        "sqlite://",
        "sqlite:///",
        "postgresql://a:secret@db/mlflow",
        "http://",
        "http://[::1",
        "http://host:99999",
    ],
)
def test_a_uri_that_is_no_tracking_server_is_refused_without_showing_a_password(tmp_path, uri):
    with pytest.raises(ConfigError, match="must be http://SERVER") as error:
        locate(tmp_path, uri)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "uri",
    [
        "https://me:secret@lab.example/mlflow",
        "http://secret@lab.example",
        "http://me:a/[secret@lab.example",
        "https://lab.example/mlflow?token=secret",
        "https://lab.example/mlflow#secret",
    ],
)
def test_a_password_in_the_uri_is_refused_with_the_place_where_it_belongs(tmp_path, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match=r"only https?://lab\.example.*; put them into MLFLOW_TRACKING_USERNAME") as error:
        locate(tmp_path)
    assert "secret" not in str(error.value)


def test_each_tracking_server_has_a_folder_name_of_its_own(tmp_path):
    assert store_name(tmp_path, locate(tmp_path)) == "local"
    name = store_name(tmp_path, "https://lab.example:8080/mlflow")
    assert name.startswith("lab.example-8080-")
    assert "/" not in name
    assert name != store_name(tmp_path, "https://lab.example:8080/other")


def test_artifacts_lie_beside_a_sqlite_store_and_where_a_server_says(tmp_path):
    assert artifact_location(f"sqlite:///{tmp_path}/a b/mlflow.db", "zoo") == f"file://{tmp_path}/a%20b/mlartifacts/zoo"
    assert artifact_location("http://server", "zoo") is None


def make_store(folder: Path) -> None:
    os.chdir(folder)
    experiments = connect(f"sqlite:///{folder}/new/mlflow.db").search_experiments()
    os._exit(len(experiments))  # not what pytest does at the end of its process


# Python 3.12 and later warn of forking beside MLflow's idle threads.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_processes_may_make_the_store_at_once(tmp_path, empty_store):
    assert empty_store.exists()  # so MLflow, whose import takes seconds, is there before the fork
    both = [multiprocessing.get_context("fork").Process(target=make_store, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [1, 1]  # the one experiment is MLflow's `Default`
    with sqlite3.connect(tmp_path / "new" / "mlflow.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new"]  # nothing is left in the working directory
