import itertools
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from zoocast.cli.catalogue import configure, load, summaries
from zoocast.cli.options import spread
from zoocast.cli.run import Request
from zoocast.cli.views import causes
from zoocast.tracking.backend import connect

TESTS = Path(__file__).parents[2]
GOLDENS = TESTS / "goldens"
TOY = "toys.counting"
HEAVY = re.compile(r"\| +(ray|torch|mlflow|pandas|matplotlib|pyarrow|numpy)$", re.MULTILINE)


def wait_for(process, text):
    """Read stderr up to a line that holds `text`; returns what was read."""
    seen = ""
    for line in process.stderr:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} was not printed, but {seen!r}")


# ---------------------------------------------------------------------------------------------------------------- help


def test_help_is_instant_and_imports_nothing_heavy(shell):
    taken = []
    for _ in range(3):
        before = os.times()
        done = shell.run("--help")
        after = os.times()
        taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert done.returncode == 0
    assert "zoo-to-target" in done.stdout
    assert min(taken) < 0.5  # CPU seconds: other programs on a busy machine stretch the clock, but hardly these
    for args in (["--help"], ["run", "--help"], ["list"]):
        assert not HEAVY.findall(shell.run(*args, flags=("-X", "importtime")).stderr)


def test_the_help_of_every_command_has_an_example(command):
    _, overview, _ = command("--help")
    names = re.findall(r"^│ (\w+) ", overview, re.MULTILINE)
    assert {"list", "show", "plan", "run", "status", "report", "sync", "ui", "doctor", "import", "cache"} <= set(names)
    for name in names:
        code, text, _ = command(name, "--help")
        assert code == 0
        assert re.search(rf"Examples.*pipelines {name}", text, re.DOTALL), name


def test_no_command_shows_the_help(command):
    assert command()[:2] == command("--help")[:2]


# ---------------------------------------------------------------------------------------------------------------- bad usage


LOOKING = ("status", "report", "sync", "ui", "cache ls", "cache explain x", "cache verify", "cache gc", "cache forget x")
"""Commands that look at a root: a mistyped one is refused, and not made."""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "toys.countin"], "there is no pipeline 'toys.countin'"),
        (["show", "zoo-to-targt"], "did you mean zoo-to-target or zoo-to-seemore?"),
        (["run", "toys.incomplete"], "module toys.incomplete is not a pipeline: it has no PRESETS and no steps"),
        (["rnu"], "Did you mean 'run'?"),
        (["run", TOY, "--presett", "smoke"], "--preset"),
        (
            ["run", TOY, "--preset", "smok"],
            "--preset: there is no preset 'smok'; did you mean smoke? toys.counting has smoke, laptop",
        ),
        (["run", TOY, "-S", "cuont=3"], "cuont: unknown setting; did you mean count?"),
        (["show", "zoo-to-target", "-S", "learning_rate=1"], "did you mean sources.*.training.learning_rate or target.training."),
        (["show", "zoo-to-target", "-S", "training.lr=1"], "training: unknown setting; "),
        (["show", "zoo-to-target", "-S", "target.lerning_rate=1"], "did you mean target.training.learning_rate or sources.*."),
        (["show", "zoo-to-target", "-S", "target.predictor.cell=predrnn++"], "must be one of convlstm, convgru, stlstm, trajgru"),
        (["run", TOY, "-S", "count=3.5"], "count: must be a whole number, but got '3.5'"),
        (["run", TOY, "-S", "powers.cube.exponent=0"], "powers.cube.exponent: must be at least 1, but got 0"),
        (["run", TOY, "-S", "count"], "an override is written FIELD=VALUE, but got 'count'"),
        (["plan", TOY, "--only", "sqare"], "--only: no step matches 'sqare'; did you mean square?"),
        (["plan", TOY, "--force", "reprot"], "--force: no step matches 'reprot'; did you mean report?"),
        (["run", TOY, "--only", "report", "--root", "empty"], "report needs square, which is not finished and not selected"),
        (["status", "nothing", "--root", "empty"], "no run is known under empty"),
        *(([*command.split(), "--root", "empty"], "no run is known under empty") for command in LOOKING),
        (["status", "--root", ""], "it is empty, which names no folder"),
        (["run", TOY, "--tracking-uri", "ftp://x"], "tracking_uri: must be http://SERVER"),
        (["run", TOY, "--root", __file__], "Invalid value for '--root'"),
        (["plan", TOY, "--root", __file__], f"'{__file__}' is a file"),
        (["import", "https://example.org/x.ckpt", "--as", "a"], "CHECKPOINT: 'https://example.org/x.ckpt' is a URL"),
        (["import", "x.ckpt", "--as", "a", "-o", "$HOME/models"], "--output: '$HOME/models' has the variable $HOME"),
        (["plan", TOY, "--root", "$HOME/runs"], "--root: '$HOME/runs' has the variable $HOME"),
        (["import", "x.ckpt", "--as", "a b"], "--as: a source's name is made of"),
        (["import", "x.ckpt", "--as", "a", "--image-size", "big"], "--image-size: is written 64 or 64x96"),
        (["import", "x.ckpt", "--as", "a", "--image-size", "16"], "x.ckpt cannot be read: No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_is_one_line_and_exit_code_2(command, shell, args, message):
    code, out, err = command(*args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (shell.folder / "empty").exists()


def test_a_network_that_this_machine_can_never_hold_is_refused_by_plan(command):
    wide = "predictor.hidden_channels=65536,65536"
    code, out, err = command("plan", "zoo-to-target", "--preset", "smoke", "-S", f"target.{wide}", f"sources.*.{wide}")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert re.search(
        r"^error: step \S+: its network's weights, .* alone take 6\.8 TiB, but this machine has .*; lower predictor", err
    )


def test_a_umask_that_is_no_octal_number_is_refused(shell):
    done = type(shell)(shell.folder, {"ZOOCAST_UMASK": "rwx"}).run("list")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: ZOOCAST_UMASK: must be an octal number such as 077 or 007, but got 'rwx'\n"


def test_a_root_that_cannot_be_written_ends_with_exit_code_4_and_a_remedy(command, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = command("run", TOY, "--root", str(tmp_path / "file" / "below"))
    assert code == 4
    assert err.splitlines()[-1].startswith("error: ")
    assert "use another --root" in err


def test_a_cluster_too_small_is_refused_before_the_run_has_a_page_in_mlflow(shell):
    done = shell.run("run", TOY, "-S", "powers.cube.cpus=4096", "--root", "small")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines()[-1].startswith("error: step cube asks for 4096 CPUs, but the cluster's largest nodes have: ")
    assert not (shell.folder / "small" / "mlflow.db").exists()


def test_several_overrides_may_follow_one_option():
    assert spread(["-S", "a=1", "b=2", "name", "c=3"]) == ["-S", "a=1", "-S", "b=2", "name", "c=3"]
    assert spread(["--set=a=1", "b=2", "--json"]) == ["--set=a=1", "-S", "b=2", "--json"]
    assert spread(["--only", "a=1"]) == ["--only", "a=1"]


# ---------------------------------------------------------------------------------------------------------------- reading


def test_list_shows_the_summaries_of_all_pipelines(command):
    code, out, err = command("list", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [{"name": name, "summary": summary} for name, summary in summaries().items()]
    assert "zoo-to-target" in summaries()


def test_every_pipeline_that_is_listed_can_be_loaded():
    assert {name: load(name).summary for name in summaries()} == dict(summaries())


def test_show_prints_steps_presets_and_settings(command):
    code, out, _ = command("show", TOY, "-S", "powers.*.seconds=0.5", "count=7")
    assert code == 0
    assert "Three numbers, at once." in out
    assert "└─ report   needs square, cube" in out  # both come equally late, so it hangs below what they share
    assert re.search(r"^count +7 +a whole number +how many numbers$", out, re.MULTILINE)
    data = json.loads(command("show", TOY, "--preset", "smoke", "--json")[1])
    assert data["presets"] == {"smoke": "One number, at once.", "laptop": "Three numbers, at once."}
    assert {s["path"]: s["value"] for s in data["settings"]}["count"] == 1
    assert data["steps"][-1] == {"name": "report", "inputs": ["square", "cube"], "holds": "1 CPU"}


def test_show_needs_no_file_of_the_data(command):
    code, out, err = command("show", "zoo-to-target", "--preset", "paper", "--json")
    shown = json.loads(out)
    assert (code, err, shown["steps"]) == (0, "", [])
    assert shown["incomplete"].startswith("sources.mnist-1.data.path: names no file")
    assert {"target.data.path", "sources.mnist-1.data.path"} <= {setting["path"] for setting in shown["settings"]}
    assert "not known yet: sources.mnist-1.data.path" in command("show", "zoo-to-target", "--preset", "paper")[1]
    assert command("plan", "zoo-to-target", "--preset", "paper")[0] == 2


def test_the_version_names_the_commit(command):
    code, out, _ = command("--version")
    assert code == 0
    assert re.fullmatch(r"(zoocast [\d.]+|unknown), .+, Python 3\.\d+\.\S+\n", out)


def test_show_draws_the_seeds_of_an_arm_as_one_and_what_only_they_need(command):
    shown = command("show", "ablation")[1]
    assert re.search(r"─ stage1\.base \(3 seeds\)$", shown, re.MULTILINE)
    assert re.search(r"─ target\.lma \(3 seeds\)$", shown, re.MULTILINE)
    assert ".seed0" not in shown


@pytest.mark.usefixtures("finished")
def test_plan_prints_what_would_run_and_why(command):
    changed = ("-S", "powers.cube.exponent=4")
    data = json.loads(command("plan", TOY, *changed, "--json")[1])
    assert {s["name"]: s["state"] for s in data["steps"]} == {"numbers": "done", "square": "done", "cube": "run", "report": "run"}
    code, out, err = command("plan", TOY, *changed)
    assert code == 0
    assert re.search(r"cube +run +exponent: 3 -> 4$", out, re.MULTILINE)
    assert re.search(r"report +run +input cube: exponent: 3 -> 4$", out, re.MULTILINE)
    assert err == "4 steps: 2 done before, 2 to run\n"


@pytest.mark.usefixtures("finished")
def test_plan_after_another_preset_names_it_in_place_of_all_that_differs(command):
    lines = command("plan", TOY, "--preset", "smoke")[1].splitlines()
    assert len(lines) == 5  # the head, and one for each step
    assert all(line.endswith(" made with preset laptop before") for line in lines[1:])
    data = json.loads(command("plan", TOY, "--preset", "smoke", "--json")[1])
    assert data["steps"][0]["why"] == [": 3 -> 1"]  # the config of this step is the number itself


def test_a_change_that_reaches_a_step_on_two_ways_is_one_cause():
    why = ("input tmu.seed0: input bank: input source: lr: 1 -> 2", "input tmu.seed1: input source: lr: 1 -> 2", "seeds: 2 -> 3")
    assert causes(why) == ["input source: lr: 1 -> 2", "seeds: 2 -> 3"]


@pytest.mark.usefixtures("finished")
def test_status_and_report_find_the_run(command):
    (run,) = json.loads(command("status", "--json")[1])
    assert (run["state"], run["pipeline"], run["exit_code"]) == ("done", TOY, 0)
    assert re.fullmatch(r"toys\.counting-[0-9a-f]{8}", run["run"])
    assert run["argv"][-2:] == ["run", TOY]
    for step in run["steps"]:
        assert (step["state"], step["finished"] >= step["started"] > 0) == ("done", True)
    assert re.search(rf"^{re.escape(run['run'])} +done +4/4 ", command("status")[1], re.MULTILINE)
    assert re.search(r"^square +done ", command("status", TOY)[1], re.MULTILINE)
    data = json.loads(command("report", run["run"], "--json")[1])
    assert data["result"]["rows"] == [["square", 14], ["cube", 36]]  # 1 + 4 + 9 and 1 + 8 + 27
    path = command("report")[1].splitlines()[-1]
    assert path == data["report"]
    assert Path(path).read_text() == "<title>counting</title>"
    assert "did you mean toys.counting-" in command("report", run["run"][:-1])[2]


# ---------------------------------------------------------------------------------------------------------------- running


def test_a_run_shows_progress_on_stderr_and_the_table_on_stdout(finished, shell):
    lines = finished.stdout.splitlines()
    assert lines[:5] == ["cube is larger", "power   sum", "square   14", "cube     36", "  sums are exact"]
    assert re.fullmatch(rf"report  {shell.folder}/runs/steps/report-[0-9a-f]{{12}}/report.html", lines[-2])
    assert lines[-1].endswith("-m pipelines ui")
    assert "4 steps: 4 to run\nstarting Ray on this machine\n" in finished.stderr
    assert re.search(r"^\d\d:\d\d:\d\d square: done in ", finished.stderr, re.MULTILINE)


def test_a_second_run_does_nothing_starts_no_ray_and_is_fast(finished, shell):
    began = time.perf_counter()
    again = shell.run("run", TOY)
    taken = time.perf_counter() - began
    assert again.returncode == 0
    assert again.stdout == finished.stdout
    assert again.stderr == "nothing to do: all 4 steps were done before\n"
    assert taken < 4  # the promise is 10 s, the aim 4
    assert not HEAVY.findall(shell.run("run", TOY, flags=("-X", "importtime")).stderr)


def test_a_pipeline_without_table_and_report_ends_well_and_shows_what_its_last_step_returned(shell, empty_store):
    root = shell.folder / "no-report"
    root.mkdir()
    shutil.copy(empty_store, root / "mlflow.db")
    for done in (shell.run("run", "toys.NoReport", "--root", str(root)) for _ in range(2)):
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith('n=1\nwords={"few": true}\n')
        assert "report  " not in done.stdout
    done = shell.run("report", "--root", str(root), "--json")
    assert json.loads(done.stdout)["result"] == {"n": 1, "words": {"few": True}}
    client = connect(f"sqlite:///{root}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("toys.NoReport").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.usefixtures("finished")
def test_run_with_json_prints_one_document_and_nothing_else(shell):
    done = shell.run("run", TOY, "--json")
    data = json.loads(done.stdout)
    assert (data["state"], data["exit_code"], data["result"]["headline"]) == ("done", 0, "cube is larger")
    assert {step["state"] for step in data["steps"]} == {"cached"}
    assert all(step["started"] for step in data["steps"])


@pytest.mark.usefixtures("finished")
def test_mlflow_has_the_run_with_its_steps_and_report(shell, monkeypatch):
    from zoocast.tracking.backend import connect, locate

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = connect(locate(shell.folder / "runs"))
    experiment = client.get_experiment_by_name(TOY)
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    parent = next(run for name, run in runs.items() if name.startswith(TOY))
    assert {"numbers", "square", "cube", "report", parent.info.run_name} <= set(runs)
    assert runs["square"].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.params["preset"] == "laptop"
    assert parent.data.params["powers.cube.exponent"] == "3"  # the whole configuration
    link, _, table = parent.data.tags["mlflow.note.content"].partition("\n\n")
    place = f"#/experiments/{experiment.experiment_id}/runs/{parent.info.run_id}/artifacts/report.html"
    assert (link, table) == (f"[The report]({place})", "| power | sum |\n")
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["report.html"]


@pytest.mark.usefixtures("finished")
def test_a_failed_step_is_one_line_on_a_terminal_and_the_other_steps_go_on(shell, command):
    """stderr is a terminal here, stdout is not."""
    ours, theirs = pty.openpty()
    with shell.start("run", TOY, "-S", "powers.square.fault=data", "powers.cube.exponent=5", stderr=theirs) as process:
        os.close(theirs)
        shown = read_terminal(ours)
        out = process.stdout.read()
    assert process.returncode == 2
    assert "\x1b[" in shown  # drawn in place
    assert re.search(r"└─.*report", shown)
    assert "error: square: numbers.txt has no numbers; count something first" in shown
    assert "Traceback" not in shown
    assert "\x1b" not in out
    resume = f"-m pipelines run {TOY} -S powers.square.fault=data -S powers.cube.exponent=5"
    assert re.search(r"^3/4|^2/4 steps of", out)
    assert out.splitlines()[-1].startswith("resume  ")
    assert out.splitlines()[-1].endswith(resume)
    plan = json.loads(command("plan", TOY, "-S", "powers.square.fault=data", "powers.cube.exponent=5", "--json")[1])
    assert {s["name"]: s["state"] for s in plan["steps"]}["cube"] == "done"


def read_terminal(descriptor):
    """Everything that is written to the other end of a pseudo-terminal."""
    shown = b""
    while select.select([descriptor], [], [], 120)[0]:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # that is how it ends on Linux when the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(descriptor)
    return shown.decode()


@pytest.mark.usefixtures("finished")
def test_sigterm_to_its_process_group_stops_at_the_next_checkpoint_with_130(shell, command):
    long = ("-S", "powers.square.seconds=100", "powers.cube.seconds=100")
    with shell.start("run", TOY, *long) as process:
        wait_for(process, "square: started")
        running = json.loads(command("status", "--json")[1])[0]
        os.killpg(process.pid, signal.SIGTERM)  # as `timeout` and batch systems do
        out, err = process.communicate(timeout=60)
    assert running["state"] == "running"
    assert process.returncode == 130
    assert "stopping at the next checkpoint; Ctrl-C again stops now" in err
    assert "square: stopped after" in err
    assert "Traceback" not in err
    assert "-S powers.square.seconds=100 -S powers.cube.seconds=100" in out.splitlines()[-1]
    assert json.loads(command("status", "--json")[1])[0]["state"] == "interrupted"
    assert "has no report yet (it is interrupted); finish it with: " in command("report", running["run"])[2]


@pytest.mark.parametrize(("number", "later"), [(signal.SIGINT, 0.0), (signal.SIGTERM, 2.0)])
def test_a_signal_while_ray_starts_is_one_line_with_the_command_to_go_on(shell, number, later):
    with shell.start("run", TOY, "--root", "early") as process:
        wait_for(process, "4 steps: 4 to run")
        time.sleep(later)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith("error: interrupted; what was finished is kept, go on with: ")
    assert err.splitlines()[-1].endswith(f"run {TOY} --root early")


@pytest.mark.usefixtures("finished")
def test_what_ray_prints_about_a_dead_worker_does_not_reach_stdout(shell):
    done = shell.run("run", TOY, "-S", "powers.cube.fault=killed", "--json")
    assert json.loads(done.stdout)["state"] == "done"
    assert "raylet" not in done.stderr


@pytest.mark.usefixtures("finished")
def test_a_second_ctrl_c_stops_now(shell):
    deaf = ("-S", "powers.*.seconds=100", "powers.*.fault=deaf")
    with shell.start("run", TOY, *deaf) as process:
        wait_for(process, "square: started")
        process.send_signal(signal.SIGINT)
        wait_for(process, "Ctrl-C again stops now")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping now" in err


@pytest.mark.usefixtures("finished")
def test_a_killed_run_is_known_to_have_died_and_goes_on(shell, command):
    with shell.start("run", TOY, "-S", "powers.square.seconds=1") as process:
        wait_for(process, "square: started")
        process.kill()
        process.communicate(timeout=60)
    assert json.loads(command("status", "--json")[1])[0]["state"] == "died"
    again = shell.run("run", TOY, "-S", "powers.square.seconds=1")
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, "cube is larger")


def test_the_command_that_resumes_can_be_typed_again(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(TESTS))
    configured = configure(load(TOY), "smoke", ["powers.square.fault=a b"])
    request = Request(configured, tmp_path, "ray:1", "http://x", ("report",), ("sq*",), None, "report")
    assert request.command().endswith(
        f"run {TOY} --preset smoke -S 'powers.square.fault=a b' --only 'sq*' --until report --root {tmp_path}"
        " --tracking-uri http://x --address ray:1"
    )
    # Another selection is another run; the same one is the same.
    whole = Request(configured, tmp_path)
    assert whole.run == Request(configured, tmp_path / "elsewhere").run != request.run


# ---------------------------------------------------------------------------------------------------------------- the others


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sta"], ["status"]),
        (["show", "zoo-to-t"], ["zoo-to-target"]),
        (["run", TOY, "--preset", "s"], ["smoke"]),
        (["run", TOY, "--force", ""], ["numbers", "square", "cube", "report"]),
        (["run", TOY, "-S", "powers.cube.e"], ["powers.cube.exponent="]),
    ],
    ids=" ".join,
)
def test_the_shell_completes_commands_pipelines_presets_steps_and_settings(shell, words, expected):
    completing = {
        "_PIPELINES_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["pipelines", *words]),
        "COMP_CWORD": str(len(words)),
    }
    assert type(shell)(shell.folder, completing).run().stdout.split() == expected


def test_import_writes_a_released_network_as_a_model_of_the_zoo(command, tmp_path):
    from zoocast.nn.predictor import load_predictor

    args = ("import", str(GOLDENS / "predrnn_v2.ckpt"), "--as", "kth", "--image-size", "16", "-o", str(tmp_path), "--json")
    code, out, _ = command(*args)
    data = json.loads(out)
    assert (code, data["directory"]) == (0, str(tmp_path / "kth"))
    assert data["network"] == "stlstm of 8,8 channels, frames 1x16x16, patch size 2"
    assert load_predictor(tmp_path / "kth").config.cell.decouple
    code, _, err = command(*args)
    assert code == 2
    assert "holds something already" in err


def test_import_names_the_option_that_is_missing(command, tmp_path):
    code, _, err = command("import", str(GOLDENS / "predrnn_v2.ckpt"), "--as", "a", "--output", str(tmp_path))
    assert (code, err) == (
        2,
        "error: --image-size: this network has no LayerNorm that tells its frame size; say the shape of its frames\n",
    )


def test_import_reads_either_direction_of_seemore(command, tmp_path):
    from zoocast.nn.predictor import load_predictor

    heads = []
    for direction in ("forward", "reverse"):
        args = ("import", str(GOLDENS / "seemore_stage1.ckpt"), "--as", direction, "--image-size", "16", "-o", str(tmp_path))
        assert command(*args, "--direction", direction)[0] == 0
        heads.append(load_predictor(tmp_path / direction).head.weight)
    assert not heads[0].equal(heads[1])


def test_doctor_finds_a_missing_ray_and_a_missing_server_and_ends_with_exit_code_4(shell):
    done = shell.run("doctor", "--json", "--address", "127.0.0.1:9", "--tracking-uri", "http://127.0.0.1:9")
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 4
    assert list(findings) == ["python", "packages", "cpu", "memory", "disk", "home", "locks", "ray", "mlflow"]
    assert findings["python"]["state"] == "ok"
    assert findings["ray"]["state"] == findings["mlflow"]["state"] == "fail"
    assert "no Ray answers at 127.0.0.1:9" in findings["ray"]["seen"]
    assert "no server answers there" in findings["mlflow"]["seen"]


@pytest.mark.usefixtures("finished")
def test_doctor_finds_a_sound_machine_well(shell):
    done = shell.run("doctor")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    states = {line.split()[1]: line.split()[0] for line in lines if not line.startswith(" ")}
    well = ("python", "disk", "ray", "storage", "tracking", "access", "mlflow")
    assert {name: states[name] for name in well} == dict.fromkeys(well, "ok")


@pytest.mark.usefixtures("finished")
def test_ui_serves_the_comparison_until_ctrl_c(shell):
    import urllib.request

    with shell.start("ui", "--port", "0") as process:
        lines = list(itertools.islice(process.stdout, 2))
        url = lines[0].split()[1]
        with urllib.request.urlopen(f"{url}/health", timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert re.match(rf"comparison  {url}/#/experiments/\d+/runs\?.*compareRunsMode=CHART", lines[1])
    assert process.returncode == 0
