"""A Ray of our own, quiet and quick, and clear words when there is none."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from zoocast.cluster import connect as cluster
from zoocast.cluster.connect import ENVIRONMENT, LONGEST_TEMPORARY_DIRECTORY, connect, resources, source_roots
from zoocast.errors import InfrastructureError


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def environment() -> dict[str, object]:
    """What a worker sees."""
    import zoocast

    return {
        "threads": os.environ["OMP_NUM_THREADS"],
        "health": os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"],
        "zoocast": zoocast.__file__,
        "roots": set(source_roots()) <= set(sys.path),
    }


def test_a_local_ray_starts_without_the_agents_of_a_dashboard() -> None:
    with connect("local", num_cpus=1):
        commands = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    agents = [c for c in commands if "--dashboard_agent_command=" in c]  # the node's own process, which starts the agent
    assert len(agents) == 1
    assert "--minimal" in agents[0]
    assert sys.modules.get("ray.dashboard.optional_deps", "not imported") is not None


def test_a_local_ray_gives_workers_our_code_and_one_thread(capfd: pytest.CaptureFixture[str]) -> None:
    import ray

    import zoocast

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    before = os.environ.get("PYTHONPATH")
    at_sigterm = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with connect("local", num_cpus=1) as summary:
        assert signal.signal(signal.SIGTERM, at_sigterm) is signal.default_int_handler  # Ray has left us ours
        assert str(summary) == "Ray at local: 1 node, 1 CPUs"
        assert resources() == summary
        found = ray.get(ray.remote(environment).remote())
    assert found == {"threads": "1", "health": "0.2", "zoocast": zoocast.__file__, "roots": True}
    assert not ray.is_initialized()
    assert os.environ.get("PYTHONPATH") == before
    assert "RAY_CHDIR_TO_TRIAL_DIR" not in os.environ
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "address", [f"127.0.0.1:{free_port()}", "nowhere.invalid:6379", "ray://127.0.0.1", "127.0.0.1:99999", "x"]
)
def test_no_ray_at_an_address_is_told_at_once_with_the_remedy(address: str) -> None:
    remedy = "start it, correct --address or RAY_ADDRESS, or use --address local"
    with pytest.raises(InfrastructureError, match=rf"no Ray answers at {address} \(.+\); {remedy}"), connect(address):
        pass


def test_an_address_in_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "not an address")
    with pytest.raises(InfrastructureError, match="no Ray answers at not an address"), connect():
        pass


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


def test_a_local_ray_asks_for_the_token_and_writes_it_nowhere(tmp_path: Path) -> None:
    script = (
        "import os, pathlib; from zoocast.cluster.connect import connect\n"
        "with connect('local', num_cpus=1):\n"
        "    import ray; from ray._private.worker import global_worker\n"
        "    print(ray.get(ray.remote(os.getenv).remote('RAY_AUTH_MODE')))\n"
        "    token = (pathlib.Path.home() / '.ray' / 'auth_token').read_bytes()\n"
        "    logs = pathlib.Path(global_worker.node.get_session_dir_path())\n"
        "    files = [p for p in logs.rglob('*') if p.is_file()]\n"
        "    print(len(files) > 5, [p for p in files if token in p.read_bytes()])\n"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    here = kept | {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(source_roots())}
    done = subprocess.run([sys.executable, "-c", script], env=here, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["token", "True []"]
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


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
    told = cluster._for_workers()
    assert told["PYTHONPATH"] == "platform:."  # another node has the folder elsewhere
    assert {*told, "OMP_NUM_THREADS"} == {*ENVIRONMENT, "PYTHONPATH"}
    assert "OMP_NUM_THREADS" not in told
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR")
    assert cluster._for_workers() == ENVIRONMENT | {"PYTHONPATH": f"{tmp_path}/platform:{tmp_path}:/site-packages"}


def test_source_roots_hold_the_packages() -> None:
    roots = [Path(root) for root in source_roots()]
    assert any((root / "zoocast" / "cluster.py").is_file() for root in roots)
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
