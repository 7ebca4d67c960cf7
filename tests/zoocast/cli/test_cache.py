"""`pipelines cache` on a copy of the toy's root."""

import json
import shutil

import pytest

from zoocast.config import digest

TOY = "toys.counting"


@pytest.fixture
def root(finished_root, tmp_path):
    """A root with one finished run of the toy."""
    shutil.copytree(finished_root, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def cache(command, root):
    """``cache NAME ...`` on `root`, with --json: arguments -> (exit code, what it printed, stderr)."""

    def run(name, *args):
        code, out, err = command("cache", name, *args, "--root", str(root), "--json")
        return code, json.loads(out), err

    return run


def folders(root):
    return {path.name.rpartition("-")[0]: path for path in (root / "steps").iterdir()}


def test_ls_shows_which_runs_and_steps_use_a_folder(command, cache, root):
    code, found, _ = cache("ls")
    steps = {folder["step"]: folder for folder in found["folders"]}
    assert (code, set(steps), found["leftovers"]) == (0, {"numbers", "square", "cube", "report"}, [])
    assert all(len(folder["runs"]) == 1 and folder["runs"][0].startswith(f"{TOY}-") for folder in steps.values())
    assert steps["numbers"]["needed_by"] == sorted(steps[name]["folder"] for name in ("square", "cube"))
    assert found["bytes"] == sum(path.stat().st_size for path in root.glob("steps/**/*") if path.is_file())
    (run,) = json.loads(command("status", "--root", str(root), "--json")[1])
    assert sorted(run["needs"]) == sorted(folder["folder"] for folder in steps.values())
    code, out, err = command("cache", "ls", "--root", str(root))
    assert (code, len(out.splitlines())) == (0, 5)
    assert err.endswith("in 4 folders, 0 of which no run refers to\n")


def test_explain_shows_what_made_a_step_and_why_it_would_run_again(command, cache, root):
    code, out, _ = command("cache", "explain", "square", "--root", str(root), "--for", TOY, "-S", "powers.square.exponent=4")
    assert code == 0
    for words in ("square-", "kind       toys.counting:raise_to, version 1", "setting    exponent = 2", "made of it report-"):
        assert words in out
    assert out.splitlines()[-2:] == [out.splitlines()[-2], "  exponent: 2 -> 4"]
    assert "in toys.counting: would run" in out.splitlines()[-2]
    _, found, _ = cache("explain", "*", "--for", TOY)
    assert {step["state"] for step in found["plan"]} == {"done"}
    assert {f["record"]["name"] for f in found["folders"]} == {"numbers", "square", "cube", "report"}
    code, _, err = command("cache", "explain", "sqare", "--root", str(root))
    assert code == 2
    assert "no folder under" in err
    assert "did you mean square?" in err


def test_verify_finds_damage_and_its_remedy_mends_it(command, cache, root):
    assert cache("verify")[:2] == (0, {"verified": 4, "bytes": cache("ls")[1]["bytes"], "damaged": []})
    page = folders(root)["report"] / "report.html"
    page.write_text(page.read_text().replace("counting", "cheating"))
    record = folders(root)["cube"] / "done.json"
    record.write_text(record.read_text().replace("27", "28"))
    code, found, err = cache("verify")
    assert code == 5
    damaged = {item["folder"]: item for item in found["damaged"]}
    assert damaged[str(page.parent)]["problems"] == ["report.html was altered: its SHA-256 is another one"]
    assert damaged[str(page.parent)]["remedy"].endswith(f"run {TOY} --root {root} --force report")
    assert "does not match its own digest" in damaged[str(record.parent)]["problems"][0]
    assert damaged[str(record.parent)]["remedy"].startswith("remove the folder, then: ")
    assert err.endswith("4 folders read, 2 damaged\n")
    assert cache("verify", "square")[:1] == (0,)
    code, out, _ = command("cache", "verify", "report", "--root", str(root))
    assert (code, out.count("remedy: ")) == (5, 1)


def test_verify_reads_the_checkpoints_of_unfinished_steps(cache, root):
    checkpoint = root / "steps" / f"lost-{'0' * 12}.partial" / "checkpoints" / "00000005"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.safetensors").write_bytes(b"weights")
    record = {"sha256": "0"}
    (checkpoint / "state.json").write_text(json.dumps({**record, "digest": digest(record)}))
    code, found, _ = cache("verify", "lost")
    assert code == 5
    assert "does not match its checksum" in found["damaged"][0]["problems"][0]


def test_gc_shows_first_and_removes_only_with_yes(command, cache, root):
    run = cache("ls")[1]["folders"][0]["runs"][0]
    assert cache("gc")[1]["items"] == []
    code, _, err = command("cache", "forget", TOY, "--root", str(root))
    assert (code, f"did you mean {run}?" in err) == (2, True)
    for yes in ((), ("--yes",)):
        code, _, err = command("cache", "forget", run, "--root", str(root), *yes)
        assert code == 0
        assert "no other run refers to 4 of its 4 steps" in err
        assert (root / "runs" / run).exists() == (root / "delivery" / f"{run}.json").exists() == (not yes)
    _, found, err = cache("gc")
    assert ("4 things" in err, "would be removed; --yes does it" in err) == (True, True)
    assert len(folders(root)) == 4
    assert cache("gc", "--older-than", "1", "--yes")[1]["items"] == []
    _, removed, _ = cache("gc", "--yes")
    assert (removed["bytes"], removed["removed"]) == (found["bytes"], True)
    assert folders(root) == {}
    assert command("cache", "gc", "--root", str(root))[2] == "nothing to remove\n"
