"""Jobs on a real cluster of two nodes with a token, started as the README says; and what is refused before one is needed."""

from __future__ import annotations

import http.server
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
import ray

from zoocast.cli.app import invoke
from zoocast.cluster import jobs
from zoocast.cluster.jobs import Job, Jobs, Log, Submission, locate
from zoocast.errors import ConfigError, InfrastructureError

if TYPE_CHECKING:
    from tests.shell import Shell

    ShellIn = Callable[[Path, dict[str, str]], Shell]

REPOSITORY = Path(__file__).parents[3]
HERE = REPOSITORY / "tests"
PATIENCE = 90.0
NO_MLFLOW = ("--tracking-uri", "http://127.0.0.1:9")  # nobody is there: what it should know waits


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


def wait_until(what: str, condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE:g} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables of a client of a cluster with two nodes of one CPU each. Its nodes do not see the sources of the tests."""
    import ray

    folder = tmp_path_factory.mktemp("cluster")
    short = Path("/tmp") / f"zj{os.getpid()}"  # a socket's path may have 107 bytes
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    node = kept | auth | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}
    port, dashboard, *agents = free_ports(4)
    ip = ray.util.get_node_ip_address()
    common = ["--block", "--num-cpus=1", "--object-store-memory=100000000"]
    head = ["--head", f"--node-ip-address={ip}", f"--port={port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    commands = [
        ["ray", "start", *own, *common, f"--temp-dir={short}/{number}", f"--dashboard-agent-listen-port={agents[number]}"]
        for number, own in enumerate([head, [f"--address={ip}:{port}"]])
    ]
    processes = []

    def answers() -> bool:
        with socket.socket() as one:
            assert processes[-1].poll() is None, (folder / "0.log").read_text()
            return one.connect_ex(("127.0.0.1", dashboard)) == 0

    try:
        for number, command in enumerate(commands):
            with (folder / f"{number}.log").open("w") as log:
                processes.append(
                    subprocess.Popen(command, env=node, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
                )
            wait_until("the dashboard answers", answers)
        yield auth | {"RAY_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in reversed(processes):
            process.wait(30)
        shutil.rmtree(short, ignore_errors=True)


@pytest.fixture(scope="module")
def lab(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory, shell_in: ShellIn) -> Shell:
    """A shell in a copy of this repository's code, with the toy pipelines beside it and a secret among them."""
    folder = tmp_path_factory.mktemp("lab")
    for source in (*(REPOSITORY / name for name in ("platform", "pipelines", "searchspaces")), HERE / "toys"):
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".env").write_text("PASSWORD=canary")
    return shell_in(folder, cluster)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both nodes see."""
    return tmp_path_factory.mktemp("shared")


# ---------------------------------------------------------------------------------------------------------------- on a cluster


def test_a_job_is_left_rejoined_cancelled_and_goes_on(lab: Shell, root: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    command = ("submit", "toys.meeting", "-S", f"folder={tmp_path}", "--root", str(root), *NO_MLFLOW)

    sent = lab.run(*command, "--detach")
    assert sent.returncode == 0, sent.stderr
    job_id = sent.stdout.strip()
    assert job_id.startswith("toys.meeting-")
    assert job_id.endswith("-1")
    assert "left out, since they look like secrets (rename what the job needs): .env\n" in sent.stderr
    wait_until("both steps run, so on two nodes", lambda: {"left", "right"} <= {path.name for path in tmp_path.iterdir()})

    # The same command again joins what runs; Ctrl-C leaves it there.
    with lab.start(*command) as follower:
        seen = "".join(iter(lambda: line if "started" not in (line := follower.stderr.readline()) else "", ""))
        follower.send_signal(signal.SIGINT)
        out, rest = follower.communicate(timeout=PATIENCE)
    assert (follower.returncode, out) == (130, "")
    assert f"at work already, as job {job_id}" in seen
    assert f"left {job_id} to itself; it goes on\nrejoin  " in rest
    assert f" logs -f {job_id} --address {lab.variables['RAY_ADDRESS']}\nstop    " in rest

    # With another option or other code it is another job, which must not meet this one.
    other = lab.run(*command, "--force", "left")
    assert (other.returncode, other.stdout) == (2, "")
    assert f"is at work already, as job {job_id} with other options; follow it with: " in other.stderr

    stopped = lab.run("cancel", job_id)
    assert stopped.returncode == 0
    assert f"{job_id} is stopped; finished steps and checkpoints are kept" in stopped.stderr
    assert " submit toys.meeting -S " in stopped.stdout
    (record,) = (json.loads(path.read_text()) for path in root.glob("runs/*/run.json"))
    assert record["exit_code"] == 130
    assert {step["name"]: step["state"] for step in record["steps"]} == {
        "left": "interrupted",
        "right": "interrupted",
        "report": "skipped",
    }

    for name in ("left", "right"):
        (tmp_path / name).unlink()
    gate.touch()
    done = lab.run(*command, "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["job"] == job_id.removesuffix("1") + "2"
    assert data["result"]["rows"] == [["left", 1], ["right", 1]]
    assert "submit toys.meeting" in data["resume"]
    assert "right: done in " in done.stderr
    assert '"rows"' not in done.stderr
    both = [json.loads(path.read_text())["result"] for path in root.glob("steps/*/done.json") if path.parent.name[0] in "lr"]
    both = [result for result in both if "node" in result]
    assert len({result["node"] for result in both}) == 2
    for result in both:
        assert all("/_ray_pkg_" in file for file in result["code"])
        assert "PASSWORD" not in result["environment"]
        assert result["environment"]["RAY_CHDIR_TO_TRIAL_DIR"] == "0"
        assert result["environment"]["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] == "1"

    # From anywhere, later: the log with the table, and the list.
    shown = lab.run("logs", data["job"])
    assert shown.returncode == 0
    assert "right: done in " in shown.stdout
    assert shown.stdout.index("right: done in ") < shown.stdout.index("power") < shown.stdout.index("report  ")
    listed = json.loads(lab.run("jobs", "--json").stdout)
    assert [(job["id"], job["state"], job["exit_code"]) for job in listed] == [
        (data["job"], "done", 0),
        (job_id, "stopped", None),
    ]


def test_a_failing_step_ends_submit_as_it_ends_run(lab: Shell, root: Path) -> None:
    settings = ("-S", "powers.cube.fault=data", "--until", "cube")
    done = lab.run("submit", "toys.counting", *settings, "--root", str(root), *NO_MLFLOW)
    assert done.returncode == 2
    assert "error: cube: numbers.txt has no numbers; count something first\n" in done.stderr
    assert done.stdout.startswith("1/2 steps of toys.counting-")
    assert " submit toys.counting -S powers.cube.fault=data --until cube --root " in done.stdout.splitlines()[-1]


def test_the_job_api_answers_nobody_without_the_token(cluster: dict[str, str], tmp_path: Path, shell_in: ShellIn) -> None:
    head = cluster["RAY_ADDRESS"]
    (tmp_path / "wrong").write_text("x" * 64)
    with_token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "wrong")}
    for variables, problem in (
        ({}, f"{head} wants the cluster's token"),
        (with_token, f"{head} wants the cluster's token"),
        (with_token | {"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "RAY_AUTH_TOKEN_PATH is set but file cannot be opened"),
    ):
        done = shell_in(tmp_path, {"RAY_ADDRESS": head, **variables}).run("jobs")
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr.startswith(f"error: {problem}")
        assert "; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the cluster's token" in done.stderr


def test_a_job_that_is_not_there_is_an_error_with_the_nearest(lab: Shell) -> None:
    done = lab.run("logs", "toys.meeting-nothing-1")
    assert done.returncode == 2
    assert "knows no job 'toys.meeting-nothing-1'; " in done.stderr
    assert "`pipelines jobs` lists them" in done.stderr


# ------------------------------------------------------------------------------------------------------------ before a cluster


@pytest.mark.parametrize(
    ("given", "variables", "message"),
    [
        (None, {}, "--address: jobs are submitted to the head's dashboard, http://HEAD:8265"),
        ("10.0.0.1:6379", {}, "--address: .*but got '10.0.0.1:6379'; ray:// and HOST:6379 are for other clients of Ray"),
        ("http://[::1:8265", {}, "--address: is no URL"),
        (None, {"RAY_ADDRESS": "ray://head:10001"}, "RAY_ADDRESS: .*but got 'ray://head:10001'"),
        ("http://me:secret@head:8265", {}, "--address: a name or password in a URL could be read by everyone"),
    ],
)
def test_an_address_that_is_not_the_dashboards_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str | None, variables: dict[str, str], message: str
) -> None:
    for name in jobs.ADDRESSES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message) as caught:
        locate(given)
    assert "secret" not in str(caught.value)


def test_the_address_given_goes_before_rays_variables_and_these_in_rays_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://two:1")
    assert locate(None) == "http://two:1"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://one:1/")
    assert locate(None) == "http://one:1"
    assert locate("https://given") == "https://given"


def test_an_address_without_a_job_api_is_an_error_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ANSWER_SECONDS", 0.2)
    (port,) = free_ports(1)
    with pytest.raises(InfrastructureError, match=rf"no Ray job API answers at http://127.0.0.1:{port} \(ConnectionError\)"):
        Jobs.connect(f"http://127.0.0.1:{port}")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the call and never answers
        port = silent.getsockname()[1]
        hangs = r"\(it takes connections and says nothing for 0.2 s, so it hangs or is stopped\)"
        with pytest.raises(InfrastructureError, match=rf"no Ray job API answers at http://127.0.0.1:{port} {hangs}"):
            Jobs.connect(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("root", ["", "runs", "../runs", "~/runs"])
def test_a_root_that_nodes_cannot_share_is_refused(root: str) -> None:
    with pytest.raises(ConfigError, match="--root: must be a place that every node sees, such as"):
        Submission(run="r", what=("r",), root=root)


@pytest.mark.parametrize(
    ("root", "uri"),
    [
        ("/mnt/x", "http://me:secret@mlflow:5000"),
        ("s3://key:secret@lab/x", None),
        ("/x", "https://token@host/"),
        ("/x", "https://host/?access_token=secret"),
        ("s3://lab/x?region=a&sig=secret", None),
    ],
)
def test_a_password_is_refused(root: str, uri: str | None) -> None:
    with pytest.raises(ConfigError, match="could be read by everyone who reaches the cluster; ") as caught:
        Submission(run="r", what=("r",), root=root, tracking_uri=uri)
    assert "secret" not in str(caught.value)


def test_a_password_in_a_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"target\.data\.path: a name or password in a URL could be read by everyone") as caught:
        Submission(run="r", what=("r", "-S", "target.data.path=s3://key:secret@lab/x"), root="/x")
    assert "secret" not in str(caught.value)


def test_the_job_runs_what_was_asked_for() -> None:
    submission = Submission(
        run="a-1", what=("a", "-S", "x=1 2"), root="s3://lab/x", tracking_uri="http://mlflow:5000", force=("report",)
    )
    where = "--root s3://lab/x --tracking-uri http://mlflow:5000"
    assert submission.entrypoint() == f"python -m pipelines run a -S 'x=1 2' {where} --force report --address auto --json"
    assert submission.command("http://head:8265").endswith(f" submit a -S 'x=1 2' {where} --address http://head:8265")


@pytest.mark.parametrize(
    ("state", "code", "ending"), [("done", 0, 0), ("failed", 5, 5), ("failed", 130, 130), ("stopped", None, 130)]
)
def test_a_job_ends_with_the_exit_code_of_its_run(state: str, code: int | None, ending: int) -> None:
    assert Job(id="a-1", state=state, entrypoint="", exit_code=code).ending() == ending


@pytest.mark.parametrize(("code", "message"), [(None, "was lost [(]no room[)]"), (-9, "was killed by signal 9")])
def test_a_job_whose_process_did_not_end_by_itself_is_infrastructure(code: int | None, message: str) -> None:
    job = Job(id="a-1", state="failed", entrypoint="", exit_code=code, message="no room\ntraceback", command="pipelines submit a")
    with pytest.raises(InfrastructureError, match=f"the process of job a-1 {message}; go on with: pipelines submit a"):
        job.ending()


def test_a_log_keeps_the_end_of_the_run_from_the_lines_for_people() -> None:
    document = json.dumps({"run": "a", "steps": [], "exit_code": 0, "text": "}\n{"}, indent=1) + "\n"
    text = f"begins\n{{\nno JSON\n}}\n{json.dumps({'other': 1}, indent=1)}\n{{\n{document}goodbye\nhalf a l"
    stream = io.StringIO()
    log = Log(stream)
    for end in range(0, len(text), 7):  # as it grows
        log.take(text[:end], whole=False)
    log.take(text + "ine", whole=True)
    assert stream.getvalue() == 'begins\n{\nno JSON\n}\n{\n "other": 1\n}\n{\ngoodbye\nhalf a line'
    assert log.result == {"run": "a", "steps": [], "exit_code": 0, "text": "}\n{"}


def test_lines_after_a_lone_brace_are_shown_at_once() -> None:
    stream = io.StringIO()
    log = Log(stream)
    log.take("{\nstep 1\n", whole=False)
    assert stream.getvalue() == "{\nstep 1\n"


class HeadOfJobs(http.server.BaseHTTPRequestHandler):
    """A dashboard with one job that runs on whatever it is told, until it is forgotten."""

    details: ClassVar = {
        "type": "SUBMISSION",
        "submission_id": "a-1",
        "job_id": None,
        "status": "RUNNING",
        "entrypoint": "",
        "metadata": {"zoocast.run": "a", "zoocast.command": "pipelines submit a"},
    }
    forgotten = False

    def do_GET(self) -> None:
        version = {"ray_version": ray.__version__, "ray_commit": "", "session_name": "", "version": "4"}
        if self.path == "/api/version":
            return self.answer(200, json.dumps(version))
        if self.forgotten:
            return self.answer(404, "Job a-1 does not exist")
        return self.answer(200, json.dumps({"logs": ""} if self.path.endswith("/logs") else self.details))

    def do_POST(self) -> None:
        self.answer(200, json.dumps({"stopped": True}))

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def one_job(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Jobs, http.server.HTTPServer]]:
    for name in ("SILENT_SECONDS", "POLL_SECONDS", "STOP_SECONDS"):
        monkeypatch.setattr(jobs, name, 0.1)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), HeadOfJobs) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Jobs.connect(f"http://127.0.0.1:{server.server_port}"), server
        server.shutdown()


def test_a_job_that_does_not_stop_is_not_waited_for_for_ever(one_job: tuple[Jobs, http.server.HTTPServer]) -> None:
    known, _ = one_job
    with pytest.raises(
        InfrastructureError, match=r"job a-1 was told to stop and is running still; look at it with: .* logs -f a-1"
    ):
        known.cancel(known.get("a-1"))


def test_a_job_whose_head_is_lost_is_submitted_again_and_not_rejoined(
    one_job: tuple[Jobs, http.server.HTTPServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    known, server = one_job
    job = known.get("a-1")
    monkeypatch.setattr(HeadOfJobs, "forgotten", True)
    with pytest.raises(
        InfrastructureError, match=r"does not know the job \(.*has forgotten its jobs\); go on with: pipelines submit a$"
    ):
        known.follow(job, Log(io.StringIO()))
    server.server_close()
    with pytest.raises(
        InfrastructureError, match=r"no Ray job API answers .*; when the cluster is back, go on with: pipelines submit a$"
    ):
        known.follow(job, Log(io.StringIO()))


def test_without_the_packages_for_clusters_the_error_names_the_extra() -> None:
    program = """
        import sys

        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "aiohttp":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Missing())
        from zoocast.cli.app import invoke
        sys.exit(invoke(["jobs", "--address", "http://127.0.0.1:1"]))
    """
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY / 'platform'}:{REPOSITORY}"}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True)
    assert done.returncode == 4
    assert done.stderr == "error: aiohttp is not installed; clusters need pip install 'zoocast[cluster]'\n"


def test_a_wrong_setting_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    address = ("--address", "http://127.0.0.1:1")
    assert invoke(["submit", "toys.counting", "-S", "cuont=3", "--root", "/x", *address]) == 2
    assert capsys.readouterr().err == "error: cuont: unknown setting; did you mean count? CountingConfig has count, powers\n"


def test_data_that_only_the_cluster_sees_are_left_to_the_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    (port,) = free_ports(1)
    assert invoke(["submit", "toys.elsewhere", "--root", "/x", "--address", f"http://127.0.0.1:{port}"]) == 4
    data, note, error = capsys.readouterr().err.splitlines()
    assert data == "/mnt/shared/frames.npy cannot be read: No such file or directory"
    assert note == "this is left to the job, which may see what this machine does not"
    assert error.startswith("error: no Ray job API answers at")
