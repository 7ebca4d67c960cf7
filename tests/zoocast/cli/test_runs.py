"""The record of a run: names that stay in the root, a report that lies there, and no passwords."""

import dataclasses
import json

import psutil
import pytest

from zoocast.cli.runs import RunRecord, find, forget, run_name
from zoocast.config import digest
from zoocast.errors import ConfigError, IntegrityError
from zoocast.store.files import check_name
from zoocast.store.locks import Locks
from zoocast.store.processes import machine

RUN = "study-0123abcd"


def record(**changed):
    known = {"run": RUN, "pipeline": "study", "preset": "smoke", "overrides": [], "config": None, "argv": []}
    return RunRecord(**known | {"resume": "", "ui": "", "started": 1.0, "finished": 2.0, "exit_code": 0} | changed)


@pytest.mark.parametrize(
    ("module", "fit"),
    [
        ("zoo-to-target", "zoo-to-target"),
        ("MyLab.study", "mylab.study"),
        ("KTH_study", "kth_study"),
        ("labor.größe", "labor.groe"),
        ("実験.study", "study"),
        ("実験", "run"),
        ("../study", "study"),
        ("a.b" * 40, ("a.b" * 40)[:55]),
        ("", "run"),
    ],
)
def test_the_run_of_any_module_has_a_name_that_can_be_a_folders(module, fit):
    name = run_name(module, "key", [])
    assert name.rpartition("-")[0] == fit
    check_name("a run", name)
    assert name != run_name(module, "another key", [])
    # The very name of an earlier version: runs that are there go on.
    assert run_name("zoo-to-target", "key", []) == "zoo-to-target-" + digest(["key", []])[:8]


def test_modules_whose_names_become_alike_have_runs_of_their_own():
    assert len({run_name(module, "key", []) for module in ("mylab.study", "MyLab.study", "MYLAB.study")}) == 3


@pytest.mark.parametrize("place", ["/etc/passwd", "../elsewhere/report.html", "steps/../../report.html"])
def test_a_report_that_a_record_places_outside_of_the_root_is_not_read(tmp_path, place):
    with pytest.raises(IntegrityError, match="names a file outside of itself"):
        record(report=place).report_path(tmp_path)
    inside = tmp_path / "steps" / "report-1" / "report.html"
    assert record(report=str(inside)).report_path(tmp_path) == inside


def test_a_record_in_another_runs_folder_is_an_error(tmp_path):
    record().write(tmp_path)
    (tmp_path / "runs" / RUN).rename(tmp_path / "runs" / "other")
    with pytest.raises(IntegrityError, match=f"is not a record of a run .it is that of '{RUN}'."):
        find(tmp_path, None)


@pytest.mark.parametrize("password", ["secret", "se@cret", "se%40cret", "a:secret"])
def test_a_runs_record_holds_no_passwords(tmp_path, password):
    uri = f"http://me:{password}@lab.example:5000/mlflow"
    record(argv=["run", "--tracking-uri", uri], resume=f"run --tracking-uri {uri}", ui=f"ui --tracking-uri={uri}").write(tmp_path)
    written = json.loads((tmp_path / "runs" / RUN / "run.json").read_text())
    plain = "http://lab.example:5000/mlflow"
    assert (written["argv"][-1], written["resume"]) == (plain, f"run --tracking-uri {plain}")
    assert written["ui"] == f"ui --tracking-uri={plain}"


def test_a_run_lives_as_long_as_its_process_whatever_the_clock_says(monkeypatch):
    going_on = record(finished=None)
    monkeypatch.setattr(psutil, "boot_time", lambda: 1.0)
    assert going_on.state() == "running"
    boot, _, rest = machine().partition(" ")
    for changed, state in (
        ({"pid_ticks": going_on.pid_ticks + 1}, "died"),  # its id was given to another process
        ({"machine": f"before {rest}"}, "died"),  # this machine was started anew since
        ({"machine": f"before {rest}", "host": "elsewhere"}, "unknown"),
        ({"machine": f"{boot} pid:[1]"}, "unknown"),  # another container of the same name
    ):
        assert dataclasses.replace(going_on, **changed).state() == state


def test_a_record_of_an_older_version_is_read(tmp_path):
    record(finished=None).write(tmp_path)
    path = tmp_path / "runs" / RUN / "run.json"
    old = json.loads(path.read_text())
    del old["machine"], old["pid_ticks"]
    path.write_text(json.dumps(old | {"pid_started": 1.7e9}))
    assert find(tmp_path, RUN).state() == "unknown"  # its process id may have been used again
    path.write_text(json.dumps(old | {"pid_started": 1.7e9, "pid": 2**22 + 1}))
    assert find(tmp_path, RUN).state() == "died"


def test_a_run_that_is_going_on_is_not_forgotten(tmp_path):
    going_on = record(finished=None)
    going_on.write(tmp_path)
    with pytest.raises(ConfigError, match="is going on; stop it first"):
        forget(tmp_path, going_on)
    far_away = dataclasses.replace(going_on, host="elsewhere", machine="elsewhere")
    (tmp_path / "locks").mkdir()
    with Locks(RUN) as locks:
        locks.acquire(tmp_path / "locks" / "step.lock")
        with pytest.raises(ConfigError, match="is going on; stop it first"):
            forget(tmp_path, far_away)
    forget(tmp_path, far_away)
    assert list((tmp_path / "runs").iterdir()) == []
