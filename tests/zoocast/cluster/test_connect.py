"""A Ray of our own, quiet and quick, and the error when there is none."""

import concurrent.futures
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from zoocast.cluster import connect as cluster
from zoocast.cluster.connect import ENVIRONMENT, LONGEST_TEMPORARY_DIRECTORY, connect, source_roots
from zoocast.errors import ConfigError, InfrastructureError


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# What a driver sees of a Ray of its own, in one process for all tests, since starting a Ray takes seconds.
DRIVER = """
import json, os, pathlib, signal, sys
import psutil
from zoocast.cluster.connect import connect, resources

def environment():
    import zoocast
    from zoocast.cluster.connect import source_roots

    variables = {name: os.getenv(name) for name in ("OMP_NUM_THREADS", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "RAY_AUTH_MODE")}
    return {**variables, "zoocast": zoocast.__file__, "roots": set(source_roots()) <= set(sys.path)}

before = dict(os.environ)
signal.signal(signal.SIGTERM, signal.default_int_handler)
with connect("local", num_cpus=1) as summary:
    import ray
    from ray._private.worker import global_worker

    seen = {
        "sigterm_kept": signal.getsignal(signal.SIGTERM) is signal.default_int_handler,
        "summary": str(summary),
        "same": resources() == summary,
        "commands": [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)],
        "dashboard_importable": sys.modules.get("ray.dashboard.optional_deps", "not imported") is not None,
        "worker": ray.get(ray.remote(environment).remote()),
    }
    token = (pathlib.Path.home() / ".ray" / "auth_token").read_bytes()
    session = pathlib.Path(global_worker.node.get_session_dir_path())
    files = [p for p in session.rglob("*") if p.is_file()]
    seen["files"] = len(files)
    seen["files_with_token"] = [str(p) for p in files if token in p.read_bytes()]
seen["still_connected"] = ray.is_initialized()
seen["session_left"] = session.exists()
seen["environment_changed"] = [n for n in ("PYTHONPATH", "RAY_CHDIR_TO_TRIAL_DIR") if os.environ.get(n) != before.get(n)]
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What `DRIVER` has seen, `home` where it ran, and `out` and `err`, all that it printed."""
    home = tmp_path_factory.mktemp("home")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    here = kept | {"HOME": str(home), "PYTHONPATH": os.pathsep.join(source_roots())}
    done = subprocess.run([sys.executable, "-c", DRIVER], env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(**json.loads(done.stdout.splitlines()[-1]), home=home, out=done.stdout, err=done.stderr)


def test_a_local_ray_starts_without_the_agents_of_a_dashboard(local_ray: SimpleNamespace) -> None:
    agents = [c for c in local_ray.commands if "--dashboard_agent_command=" in c]  # the node's process, which starts the agent
    assert len(agents) == 1
    assert "--minimal" in agents[0]
    assert local_ray.dashboard_importable


def test_a_local_ray_gives_workers_our_code_and_one_thread_and_prints_nothing(local_ray: SimpleNamespace) -> None:
    import zoocast

    assert local_ray.sigterm_kept  # Ray would put a handler of its own there
    assert local_ray.summary == "Ray at local: 1 node, 1 CPUs"
    assert local_ray.same
    assert local_ray.worker == {
        "OMP_NUM_THREADS": "1",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "RAY_AUTH_MODE": "token",
        "zoocast": zoocast.__file__,
        "roots": True,
    }
    assert not local_ray.still_connected
    assert not local_ray.session_left
    assert local_ray.environment_changed == []
    assert (local_ray.out.count("\n"), local_ray.err) == (1, "")


def test_a_local_ray_asks_for_the_token_and_writes_it_nowhere(local_ray: SimpleNamespace) -> None:
    assert local_ray.worker["RAY_AUTH_MODE"] == "token"
    assert local_ray.files > 5
    assert local_ray.files_with_token == []
    assert (local_ray.home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("address", ["127.0.0.1:FREE", "nowhere.invalid:6379", "127.0.0.1:99999", "x"])
def test_an_address_without_a_ray_is_an_error_at_once_with_the_remedy(address: str) -> None:
    address = address.replace("FREE", str(free_port()))
    remedy = "start it, correct --address or RAY_ADDRESS, or use --address local"
    with pytest.raises(InfrastructureError, match=rf"no Ray answers at {address} \(.+\); {remedy}"), connect(address):
        pass


def test_the_address_in_ray_address_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "not an address")
    with pytest.raises(InfrastructureError, match="no Ray answers at not an address"), connect():
        pass


@pytest.mark.parametrize(
    ("address", "other"),
    [("http://me:secret@127.0.0.1:8265", "`pipelines submit`"), ("ray://127.0.0.1:10001", "other clients of Ray")],
)
def test_an_address_for_another_command_is_refused(monkeypatch: pytest.MonkeyPatch, address: str, other: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(ConfigError, match=f"RAY_ADDRESS: a run connects to .* address, which is for {other}; give"),
        connect(),
    ):
        pass


def test_without_a_home_rays_token_is_in_our_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nonexistent/token")  # of a cluster, on another machine
    monkeypatch.setenv("HOME", "/dev/null/home")
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        path = Path(cluster._make_token()["RAY_AUTH_TOKEN_PATH"])
        assert path.parent == cluster.private_folder()
        assert (len(path.read_text()), path.stat().st_mode & 0o777) == (64, 0o600)


def test_ray_gets_a_token_that_only_its_user_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoocast.cluster import connect as cluster

    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with concurrent.futures.ThreadPoolExecutor(8) as drivers:  # who comes second keeps the first one's
        for made in [drivers.submit(cluster._make_token) for _ in range(8)]:
            made.result()
    (file,) = (tmp_path / ".ray").iterdir()
    token = file.read_text()
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert (file.name, file.stat().st_mode & 0o777) == ("auth_token", 0o600)
    cluster._make_token()
    assert file.read_text() == token


def test_workers_of_a_job_begin_in_its_folder_with_our_settings_less_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("platform/zoocast", "pipelines"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "source_roots", lambda: [f"{tmp_path}/platform", str(tmp_path), "/site-packages"])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv(
        "RAY_JOB_CONFIG_JSON_ENV_VAR",
        json.dumps({"runtime_env": {"working_dir": "gcs://code.zip", "env_vars": {"OMP_NUM_THREADS": "4"}}}),
    )
    given = cluster._for_workers()
    assert given["PYTHONPATH"] == "platform:."  # another node has the folder elsewhere
    assert {*given, "OMP_NUM_THREADS"} == {*ENVIRONMENT, "PYTHONPATH"}
    assert "OMP_NUM_THREADS" not in given
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR")
    assert cluster._for_workers() == ENVIRONMENT | {"PYTHONPATH": f"{tmp_path}/platform:{tmp_path}:/site-packages"}


def test_source_roots_hold_the_packages() -> None:
    roots = [Path(root) for root in source_roots()]
    assert any((root / "zoocast" / "cluster" / "connect.py").is_file() for root in roots)
    assert any((root / "pipelines" / "__init__.py").is_file() for root in roots)
    assert not any(root.name == "zoocast" for root in roots)


def test_a_long_temporary_directory_does_not_break_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/t" * LONGEST_TEMPORARY_DIRECTORY)
    short = cluster._private_directory()
    # What Ray appends, at its longest, as of 2.60: a process id may have seven digits.
    tail = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1"
    assert len(short + tail) <= 107
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert cluster._private_directory() == short


def test_a_temporary_directory_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/proc/x")
    with pytest.raises(
        InfrastructureError, match=r"no folder for Ray's sockets and logs: /proc/x.* cannot be written \(.*\); set RAY_TMPDIR"
    ):
        cluster.private_folder()
    monkeypatch.chdir("/tmp")
    monkeypatch.setenv("RAY_TMPDIR", os.path.relpath(tmp_path, "/tmp"))  # Ray takes none that is relative
    assert cluster.private_folder().is_absolute()


def test_ray_keeps_its_sockets_and_logs_where_nobody_else_can_go(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoocast.cluster import connect as cluster

    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        folder = Path(cluster._private_directory()).parent
        assert (folder.parent, folder.stat().st_mode & 0o777) == (Path(short), 0o700)
        folder.chmod(0o755)
        with pytest.raises(InfrastructureError, match=f"{folder}.* is not a folder of yours alone; remove it"):
            cluster._private_directory()
        folder.rmdir()
        folder.symlink_to(short)
        with pytest.raises(InfrastructureError, match="is not a folder of yours alone"):
            cluster._private_directory()
