"""The record of a run: names that stay in the root, a report that lies there, and no passwords."""

import dataclasses
import errno
import json
import os
import re

import psutil
import pytest

from zoocast.cli.runs import RunRecord, find, forget, run_name
from zoocast.cli.views import print_grid
from zoocast.config import digest
from zoocast.errors import ConfigError, IntegrityError
from zoocast.store.files import check_name
from zoocast.store.locks import Locks
from zoocast.store.processes import machine
from zoocast.store.sealed import write_sealed

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


def test_a_grid_that_was_interrupted_goes_on_with_its_own_command(capsys):
    ends = {"rate=1": record(), "rate=2": record(run="study-1", exit_code=1, message="boom", resume="pipelines run study")}
    print_grid({**ends, "rate=3": record(run="study-2", exit_code=130, resume="pipelines run study -S rate=3")}, None)
    told = capsys.readouterr()
    assert told.out == f"{RUN}  rate=1  done\nstudy-1  rate=2  failed\nstudy-2  rate=3  interrupted\n"
    assert told.err == (
        "error: boom\nresume  pipelines run study\n"
        "stopped; finished steps and checkpoints are kept, and the same command goes on\n"
    )


@pytest.mark.parametrize("place", ["/etc/passwd", "../elsewhere/report.html", "steps/../../report.html"])
def test_a_report_that_a_record_places_outside_of_the_root_is_not_read(tmp_path, place):
    with pytest.raises(IntegrityError, match="names a file outside of itself"):
        record(report=place).report_path(tmp_path)
    inside = tmp_path / "steps" / "report-1" / "report.html"
    assert record(report=str(inside)).report_path(tmp_path) == inside


DAMAGED = {
    "empty": ("", "Expecting value"),
    "cut": ('{"run": "cut", "sche', "Unterminated string"),
    "list": ("[1]", "list indices must be integers"),
    "other": (f'{{"run": "{RUN}"}}', f"it is that of '{RUN}'"),
    "deep": ("[" * 100_000, "it is nested too deeply"),
    "steps": ('{"run": "steps", "schema": 1, "steps": 3}', "not iterable"),
}


def test_a_damaged_record_is_a_line_and_the_others_are_shown(tmp_path, command):
    record().write(tmp_path)
    for name, (content, _) in DAMAGED.items():
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "run.json").write_text(content)
    (tmp_path / "runs" / "no-run").mkdir()
    code, out, err = command("status", "--root", str(tmp_path))
    assert (code, err.count("\n")) == (5, len(DAMAGED))
    assert RUN in out
    for name, (_, why) in DAMAGED.items():
        assert re.search(f"error: {tmp_path}/runs/{name}/run.json is not a record of a run .*{why}.*; delete its folder", err)
    code, out, err = command("status", RUN, "--root", str(tmp_path))
    assert (code, err.count("warning: ")) == (0, len(DAMAGED))
    assert command("cache", "ls", "--root", str(tmp_path))[0] == 0
    # Nobody knows what such a run stands on, so nothing is removed.
    assert command("cache", "gc", "--root", str(tmp_path))[0] == 5


def test_a_root_that_cannot_be_read_is_no_empty_one(tmp_path, monkeypatch, command):
    record().write(tmp_path)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)  # these tests may run as root, who may read everything
    for args in (["status"], ["report"], ["cache", "ls"]):
        code, _, err = command(*args, "--root", str(tmp_path))
        assert (code, err) == (4, f"error: cannot read {tmp_path} (Permission denied); choose another --root\n")


def test_an_unknown_run_is_refused_with_the_nearest_and_the_latest_few(tmp_path):
    record(run="other-0123abcd", pipeline="other").write(tmp_path)
    for number in range(400):
        record(run=f"study-{number:08d}", started=float(number)).write(tmp_path)
    with pytest.raises(ConfigError) as error:
        find(tmp_path, "othr-0123abcd")
    assert "did you mean other-0123abcd?" in str(error.value)
    assert "the latest: study-00000399, study-00000398, " in str(error.value)
    assert str(error.value).endswith("and 396 more, see `pipelines status`")
    assert len(str(error.value)) < 400


def test_a_moved_record_speaks_of_the_root_in_which_it_lies(tmp_path, command):
    old, new = tmp_path / "old" / "steps", tmp_path / "new"  # a root may be called like the folder of the steps
    report = old / "steps" / f"report-{'0' * 12}" / "report.html"
    step = {"name": "report", "key": "0" * 12, "directory": str(report.parent)}
    report.parent.mkdir(parents=True)
    write_sealed(report.parent / "done.json", {"name": "report", "key": "0" * 12, "files": {}})
    asked = f"pipelines run study -S a='b c' --root {old} --tracking-uri http://lab"
    record(report=str(report), steps=[{**step, "state": "done"}], resume=asked, ui=f"pipelines ui --root {old}").write(old)
    assert str(old) not in (old / "runs" / RUN / "run.json").read_text()
    old.rename(new)
    found = find(new, None)
    assert found.report_path(new) == new / "steps" / report.parent.name / "report.html"
    assert found.steps[0]["directory"] == str(new / "steps" / report.parent.name)
    assert found.resume == f"pipelines run study -S 'a=b c' --tracking-uri http://lab --root {new}"
    assert found.ui == f"pipelines ui --root {new}"
    # As an older zoocast wrote it.
    path = new / "runs" / RUN / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"report": str(report), "resume": asked}))
    assert (find(new, None).report, find(new, None).resume) == (found.report, found.resume)
    for outcome in ("names its places in the root anew", "was right"):
        code, out, _ = command("cache", "repair", "--root", str(new))
        assert (code, out.splitlines()[0]) == (0, f"{path}: {outcome}")
    assert str(old) not in path.read_text()


def test_a_record_keeps_all_attempts(tmp_path, command):
    step = {"name": "a", "key": "0", "directory": "", "fraction": None, "message": "", "started": 100.0, "finished": 160.0}
    record(started=100.0, finished=160.0, exit_code=130, steps=[{**step, "state": "done"}]).write(tmp_path)
    again = record(started=1000.0, finished=1002.0, steps=[{**step, "state": "cached"}])
    again.go_on(tmp_path)
    again.write(tmp_path)
    found = find(tmp_path, RUN)
    assert (found.started, found.took(), found.state()) == (100.0, 62.0, "done")
    assert [(a["started"], a["ended"], a["exit_code"], a["steps"]) for a in found.attempts] == [
        (100.0, 160.0, 130, {"done": 1}),
        (1000.0, 1002.0, 0, {"cached": 1}),
    ]
    _, out, _ = command("status", RUN, "--root", str(tmp_path))
    assert "took      1:02 in 2 attempts\n" in out
    assert re.search(r"attempt 1 .*, 1:00: interrupted; 1 done\nattempt 2 .*, 2\.0 s: done; 1 cached\n", out)
    shown = json.loads(command("status", RUN, "--root", str(tmp_path), "--json")[1])
    assert (shown["started"], len(shown["attempts"])) == (100.0, 2)


def test_an_attempt_whose_process_died_is_kept_with_the_time_until_it_was_last_heard_of(tmp_path):
    died = record(started=100.0, finished=None, exit_code=None, pid_ticks=1)
    died.write(tmp_path)
    again = record(started=1000.0, finished=1002.0)
    again.go_on(tmp_path)
    assert [attempt["exit_code"] for attempt in again.attempts] == [None, 0]
    assert again.attempts[0]["ended"] > 1.7e9


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
