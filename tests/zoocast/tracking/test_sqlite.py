"""The SQLite store: whole whatever is killed, and at home where its folder lies now."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from zoocast.errors import ConfigError, InfrastructureError
from zoocast.tracking import sqlite
from zoocast.tracking.backend import connect, relocate

# Python 3.12 and later warn of forking beside MLflow's idle threads.
FORKING = "ignore:This process .* is multi-threaded:DeprecationWarning"


def killed_after(seconds: float, work, *arguments) -> None:
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def umask_007():
    former = os.umask(0o007)
    yield
    os.umask(former)


@pytest.mark.filterwarnings(FORKING)
@pytest.mark.usefixtures("umask_007")
def test_a_kill_at_any_moment_leaves_no_store_or_a_whole_one_and_the_next_command_makes_it(tmp_path, empty_store):
    assert empty_store.exists()  # so MLflow, whose import takes seconds, is there before the fork
    file = tmp_path / "root" / "mlflow.db"
    for delay in (0.1, 0.4, 0.8, 1.2):
        killed_after(delay, connect, f"sqlite:///{file}")
        assert not file.exists() or sqlite._is_whole(file)
    assert [experiment.name for experiment in connect(f"sqlite:///{file}").search_experiments()] == ["Default"]
    assert sorted(path.name for path in file.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    # The group of a shared root can deliver as well; SQLite gives its journal the mode of the database.
    assert (mode(file), mode(file.with_name("mlflow.db.lock"))) == (0o660, 0o660)


def half_made(file: Path) -> None:
    """A store in the middle of a migration, as older versions left it."""
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER, name VARCHAR, artifact_location VARCHAR)")
        database.execute("CREATE TABLE _alembic_tmp_experiments (experiment_id INTEGER)")
    database.close()


def test_a_half_made_store_is_kept_under_another_name_and_made_again(tmp_path, capsys):
    file = tmp_path / "mlflow.db"
    half_made(file)
    file.with_name("mlflow.db.half-made-1").write_bytes(b"an earlier one")
    assert [e.name for e in connect(f"sqlite:///{file}").search_experiments()] == ["Default"]
    assert f"{file} was left half-made and is kept as mlflow.db.half-made-2; it is made again" in capsys.readouterr().err
    kept = {path.name for path in tmp_path.iterdir()} - {"mlflow.db", "mlflow.db.lock"}
    assert kept == {"mlflow.db.half-made-1", "mlflow.db.half-made-2"}
    assert file.with_name("mlflow.db.half-made-1").read_bytes() == b"an earlier one"


def test_what_is_left_of_a_removed_store_does_not_poison_the_new_one(tmp_path):
    (tmp_path / "mlflow.db-wal").write_bytes(b"pages of another file")
    sqlite._set_aside(tmp_path / "mlflow.db")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db.half-made-1-wal"]


@pytest.mark.parametrize(
    "tables", ["", "CREATE TABLE experiments (name TEXT)", "CREATE TABLE _alembic_tmp_experiments (name TEXT)"]
)
def test_a_store_without_any_content_is_half_made(tmp_path, tables):
    file = tmp_path / "mlflow.db"
    file.touch()
    with sqlite3.connect(file) as database:
        database.execute(tables)
    database.close()
    assert not sqlite._is_whole(file)


def test_a_store_of_another_version_of_mlflow_is_left_as_it_is(tmp_path, empty_store):
    file = tmp_path / "mlflow.db"
    shutil.copyfile(empty_store, file)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = '1b5f0d9ad7c1'")
        database.execute("UPDATE experiments SET artifact_location = 'file:///elsewhere'")
    database.close()
    before = file.read_bytes()
    with pytest.raises(InfrastructureError, match=r"another version of MLflow; `mlflow db upgrade sqlite:///.*mlflow\.db`"):
        connect(f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path):
    file = tmp_path / "mine.db"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE photos (name TEXT)")
    database.close()
    with pytest.raises(ConfigError, match=r"tracking_uri: .*mine\.db is a database of another program"):
        connect(f"sqlite:///{file}")
    assert sqlite3.connect(file).execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]


def test_a_damaged_store_is_named_with_the_way_out(tmp_path):
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"no database, only bytes " * 100)
    with pytest.raises(InfrastructureError, match=r"mlflow\.db is damaged \(file is not a database\); move it away"):
        connect(f"sqlite:///{file}")


@pytest.fixture
def store(tmp_path, empty_store):
    """A root with a run that has an artifact, and an experiment whose files lie elsewhere on purpose."""
    root = tmp_path / "a b" / "root"
    root.mkdir(parents=True)
    shutil.copyfile(empty_store, root / "mlflow.db")
    client = connect(f"sqlite:///{root}/mlflow.db")
    experiment = client.create_experiment("zoo", artifact_location=(root / sqlite.ARTIFACTS / "zoo").as_uri())
    client.create_experiment("mine", artifact_location="file:///elsewhere/mlartifacts/other")
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "first", "first.txt")
    return root, run


def artifacts(root: Path, run: str) -> list[str]:
    return [file.path for file in connect(f"sqlite:///{root}/mlflow.db").list_artifacts(run)]


def test_a_moved_store_lists_its_old_files_and_writes_new_ones_beside_it(store, tmp_path, capsys):
    root, run = store
    moved = root.rename(tmp_path / "moved")
    assert artifacts(moved, run) == ["first.txt"]
    assert f"{moved}/mlflow.db was moved or copied: MLflow's files are looked for in" in capsys.readouterr().err
    client = connect(f"sqlite:///{moved}/mlflow.db")
    client.log_text(run, "second", "second.txt")
    assert sorted(artifacts(moved, run)) == ["first.txt", "second.txt"]
    assert not root.exists()
    assert client.get_experiment_by_name("mine").artifact_location == "file:///elsewhere/mlartifacts/other"
    assert capsys.readouterr().err == ""  # said once


def test_a_copied_store_and_its_original_serve_their_own_files(store, tmp_path):
    root, run = store
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    connect(f"sqlite:///{copy}/mlflow.db").log_text(run, "of the copy", "copy.txt")
    connect(f"sqlite:///{root}/mlflow.db").log_text(run, "of the original", "original.txt")
    assert sorted(artifacts(root, run)) == ["first.txt", "original.txt"]
    assert sorted(artifacts(copy, run)) == ["copy.txt", "first.txt"]


def test_another_name_of_the_same_folder_is_no_move(store, tmp_path, capsys):
    root, run = store
    (tmp_path / "link").symlink_to(root)
    relocate(tmp_path / "link")
    assert artifacts(tmp_path / "link", run) == ["first.txt"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("before", "after"), [(0o640, 0o660), (0o644, 0o664), (0o600, 0o600), (0o660, 0o660)])
def test_who_may_read_the_store_may_write_it_as_far_as_the_umask_does(tmp_path, before, after):
    file = tmp_path / "mlflow.db"
    file.touch()
    file.chmod(before)
    former = os.umask(0o007)
    try:
        sqlite._share(file)
    finally:
        os.umask(former)
    assert mode(file) == after
