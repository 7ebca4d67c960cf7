"""`pipelines sync` without a server: what it prints, and what its exit code means. With a real one: tests/zoocast/tracking."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from zoocast.cli.app import invoke
from zoocast.cli.runs import RunRecord
from zoocast.tracking import Journal, Sync

RUN, DEAD = "toys.counting-0123abcd", "http://127.0.0.1:9"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A finished run that was meant for a server which does not answer."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sync = Sync(tmp_path, RUN, tmp_path / "runs" / RUN, experiment="toys.counting", uri=DEAD)
    assert sync.close("finished").pending == 4  # head, two statuses, and a run that MLflow does not have
    record = RunRecord(RUN, "toys.counting", "smoke", [], {}, [], "resume", "ui", started=0.0, finished=1.0, exit_code=0)
    record.write(tmp_path)
    return tmp_path


def test_a_run_is_listed_as_waiting_until_some_server_has_it(root, capsys):
    def sync(*args: str) -> tuple[int, str, str]:
        code = invoke(["sync", *args, "--root", str(root)])
        return (code, *capsys.readouterr())

    code, out, err = sync("--tracking-uri", DEAD, "--json")
    waiting = {"run": RUN, "pending": 4, "refused": 0, "problem": "no server answers there"}
    assert (code, json.loads(out)) == (4, {"server": DEAD, "runs": [waiting], "elsewhere": {}})
    assert err == f"{RUN}: 4 entries wait (no server answers there)\n"

    code, _, err = sync()
    assert code == 4
    assert re.search(rf"{RUN}: waits for another server, 127\.0\.0\.1-9-\w+; name it with --tracking-uri\nno run was meant", err)

    code, out, err = sync("toys.counting")  # to the store in force, whatever it was meant for
    assert code == 0
    assert err.endswith(f"{RUN}: MLflow knows all of it\n")
    assert out.split() == ["run", "waiting", "refused", "why", RUN, "0", "0"]
    assert sync()[0] == 0  # MLflow has it, if another one than was meant

    # A page in the middle: MLflow still opens such a store, and finds in it what it looks for.
    store = root / "mlflow.db"
    store.write_bytes(store.read_bytes()[:8192] + bytes(4096) + store.read_bytes()[12288:])
    code, out, err = sync("toys.counting", "--json")
    assert (code, json.loads(out)["runs"][0]["pending"]) == (4, 0)
    assert f"{RUN}: whether MLflow knows all of it cannot be told ({store} is damaged" in err


def test_what_mlflow_refuses_is_told_with_its_reason_and_ends_with_exit_code_4(root, capsys, empty_store):
    shutil.copyfile(empty_store, root / "mlflow.db")
    with Journal(root / "runs" / RUN / "journal.jsonl") as journal:
        journal.artifact("gone.txt")
    assert invoke(["sync", RUN, "--root", str(root)]) == 4
    out, err = capsys.readouterr()
    assert re.search(rf"{RUN}: MLflow refused 1 entries \(refused: artifact gone\.txt: .*gone\.txt is gone\)", err)
    assert "is gone" in " ".join(out.split())


def test_a_password_in_the_uri_is_refused_and_shown_nowhere(root, capsys):
    for uri in ("http://me:a-canary@lab.example", "http://lab.example?token=a-canary"):
        assert invoke(["sync", "--root", str(root), "--tracking-uri", uri]) == 2
        out, err = capsys.readouterr()
        assert "must hold no name or password and no query, only http://lab.example" in err
        assert "canary" not in out + err
    assert not any(b"canary" in path.read_bytes() for path in root.rglob("*") if path.is_file())
