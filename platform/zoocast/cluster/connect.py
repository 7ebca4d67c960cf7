"""Where work runs: a Ray of our own on this machine, or a cluster that is already there.

All settings that Ray needs to start fast, stay quiet, and give every process only the threads it was given are made here, once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import secrets
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zoocast.cluster.sessions import sweep_sessions
from zoocast.dag import StopSignal
from zoocast.dag.head import promptly, silence
from zoocast.errors import ConfigError, InfrastructureError
from zoocast.store.files import UMASK

__all__ = [
    "LOCAL",
    "ClusterSummary",
    "address_of",
    "connect",
    "environment",
    "private_folder",
    "resources",
    "source_roots",
]

LOCAL = "local"
ANSWER_SECONDS, CONNECT_SECONDS = 5.0, 60.0
CONNECT_ATTEMPTS = "1"  # the port has answered by then; Ray would make twenty, and write of each on the terminal
TOKEN_FILE = Path(".ray", "auth_token")  # under the home, where Ray looks for it
OBJECT_STORE_BYTES = 200 * 2**20  # steps exchange paths, not tensors
LONGEST_TEMPORARY_DIRECTORY = 40  # a socket's path may have 107 bytes, of which Ray's own names take up to 66

# Read by Ray's processes when they start. What Ray does by default stands beside a setting where it is the reason for it.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # else every report after the first takes two seconds
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # else a relative path means another place in a trial than in the driver
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more per worker group; a lost node is a failure like any other
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",  # workers wait for a busy cluster; after 60 seconds it is no failure
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what Ray prints about a dead worker goes to stdout, which is data
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # trials have journals
    "RAY_AIR_NEW_OUTPUT": "0",  # the old one can be silent
    "RAY_task_oom_retries": "2",  # for ever by default
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's own future default; without it Ray warns
    "OMP_NUM_THREADS": "1",  # a step or a training worker takes more when it was given more CPUs
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# Read by the driver alone: without a head Ray ends it after a minute, perhaps before MLflow has got how it ended.
DRIVER = {"RAY_gcs_rpc_server_reconnect_timeout_s": "120"}


@dataclasses.dataclass(frozen=True)
class ClusterSummary:
    """What the connected cluster has in all."""

    address: str
    num_nodes: int
    num_cpus: float
    num_gpus: float
    given_by: str = ""  # the variable that named the address, if the caller did not

    @property
    def is_ours(self) -> bool:
        """Whether `connect` started it, so that this machine is all of it."""
        return self.address == LOCAL

    def __str__(self) -> str:
        gpus = f", {self.num_gpus:g} GPUs" if self.num_gpus else ""
        by = f" ({self.given_by})" if self.given_by else ""
        return (
            f"Ray at {self.address}{by}: {self.num_nodes} node{'s' if self.num_nodes > 1 else ''}, {self.num_cpus:g} CPUs{gpus}"
        )


@contextlib.contextmanager
def connect(address: str | None = None, num_cpus: int | None = None) -> Iterator[ClusterSummary]:
    """Connect to Ray for the length of the block.

    Args:
        address: ``local`` for a Ray of our own, or a cluster's address. None: RAY_ADDRESS, else ``local``. Never a Ray that
            merely happens to run on this machine.
        num_cpus: how many CPUs a local Ray may use; None for all.

    Raises:
        ConfigError: the address is one of another of Ray's services.
        InfrastructureError: there is no Ray at the address, it wants another token, or it cannot be started.
    """
    given, address = address, address_of(address)
    if "://" in address:
        kind = address.partition("://")[0]  # the rest may hold a password
        whose = "`pipelines submit`" if kind.startswith("http") else "other clients of Ray"
        raise ConfigError(
            "--address" if given else "RAY_ADDRESS",
            f"a run connects to the head itself, HOST:6379, but got a {kind}:// address, which is for {whose};"
            f" give --address HOST:6379, or --address {LOCAL} for a Ray on this machine",
        )
    # A local Ray's processes inherit our environment; those of a cluster get theirs by `_arguments`.
    settings = ENVIRONMENT | DRIVER | {"PYTHONPATH": _python_path()}
    if address == LOCAL:
        settings |= _make_token()
    else:
        settings["RAY_gcs_server_port_wait_time_s"] = CONNECT_ATTEMPTS
        if address != "auto":  # which is no address: Ray itself looks for the one that runs on this machine
            why = silence(address, ANSWER_SECONDS)
            if why:
                raise _no_ray(address, why)
    with environment(settings):
        import ray  # only here: commands that start nothing should not pay for its import

        try:
            wish = _start(address, num_cpus)
            if wish.level:
                raise KeyboardInterrupt
            yield dataclasses.replace(resources(address), given_by="" if given or address == LOCAL else "RAY_ADDRESS")
        finally:
            with _Uninterrupted().on_signals():  # dropped: what they would end is at its end
                if address == LOCAL:
                    _end_local()
                else:
                    with contextlib.suppress(TimeoutError):  # said already, by what found that the cluster hangs
                        promptly(ray.shutdown, ANSWER_SECONDS)


def _end_local() -> None:
    """End a Ray of our own, and remove what it leaves of its session, but after an error, which its logs may explain."""
    import ray

    node = ray._private.worker._global_node
    ray.shutdown()
    if node is not None and sys.exc_info()[0] is None:
        shutil.rmtree(node.get_session_dir_path(), ignore_errors=True)


def _start(address: str, num_cpus: int | None) -> StopSignal:
    """Connect; returns the wish to stop that came meanwhile."""
    import ray

    no_dashboard = _no_dashboard() if address == LOCAL else contextlib.nullcontext()
    with _sigterm_blocked(), _Uninterrupted().on_signals() as wish, no_dashboard, _as_our_child():
        try:
            if address not in (LOCAL, "auto"):
                _require_raylet(address)
            if address == LOCAL:
                sweep_sessions(Path(_private_directory()))
                ray.init(**_arguments(address, num_cpus))
            else:
                promptly(lambda: ray.init(**_arguments(address, num_cpus)), CONNECT_SECONDS)
        except ray.exceptions.AuthenticationError:
            raise _other_token(address) from None
        except TimeoutError:
            raise _no_ray(address, f"it answers, but lets nobody in for {CONNECT_SECONDS:g} s") from None
        except Exception as error:  # of Ray's own code, which raises even bare ones where its processes do not come up
            raise _no_ray(address, error) from None
    return wish


def address_of(given: str | None) -> str:
    """Where `connect` with this argument looks for Ray; ``local`` for one of our own."""
    return given or os.environ.get("RAY_ADDRESS") or LOCAL


def _arguments(address: str, num_cpus: int | None) -> dict[str, Any]:
    # Without the logs of workers, which Ray would print among our own lines; what they report is in their steps' journals.
    common = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        return common | {
            "num_cpus": num_cpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": _private_directory(),
        }
    return common | {"runtime_env": {"env_vars": _for_workers()}}


def _for_workers() -> dict[str, str]:
    """The environment of a cluster's workers, less what the job that we are in has set: Ray refuses what comes twice."""
    # Ray passes to the driver of a job what it was submitted with in this variable; elsewhere it is missing.
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("runtime_env", {})
    # A job's folder has a path of its own on each node, where workers begin in it. Else all nodes have the code at the same path.
    python_path = _python_path(Path.cwd() if "working_dir" in job else None)
    given = job.get("env_vars", {})
    wanted = ENVIRONMENT | ({"PYTHONPATH": python_path} if python_path else {})
    # Which people may read a file of the root must not depend on the node that writes it.
    wanted |= {name: os.environ[name] for name in (UMASK,) if name in os.environ}
    return {name: value for name, value in wanted.items() if name not in given}


class _Uninterrupted(StopSignal):
    """Keeps Ctrl-C and SIGTERM until Ray has started or ended: a process that leaves it half-way may die by SIGSEGV.

    The second one is not kept, for Ray may hang.
    """

    def request(self) -> None:
        super().request()
        if self.level > 1:
            raise KeyboardInterrupt
        with contextlib.suppress(OSError):  # past Python's buffers, which the handler may have caught in the middle of a write
            os.write(2, b"stopping as soon as Ray lets go; again stops now\n")


@contextlib.contextmanager
def _sigterm_blocked() -> Iterator[None]:
    """Let SIGTERM wait: while Ray starts it prints a stack trace of it, until our handler is set again."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _as_our_child() -> Iterator[None]:
    """Let Ray leave our handler of SIGTERM alone, and start its processes in sessions of their own; it has no setting for either.

    Its handler ends the process with exit code 15 and no word. And a signal to our process group, as `timeout`, batch systems and
    closed terminals send it, would end Ray before steps have saved a checkpoint. Its processes still end with ours, however that
    ends: the kernel sees to it.
    """
    from ray._private import services, utils

    rays = utils.set_sigterm_handler, services.ConsolePopen

    def start(*args: Any, preexec_fn: Callable[[], None], **options: Any) -> Any:
        def prepare() -> None:
            preexec_fn()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # by which Ray ends it

        return rays[1](*args, preexec_fn=prepare, start_new_session=True, **options)

    utils.set_sigterm_handler = lambda _handler: None
    services.ConsolePopen = start
    try:
        yield
    finally:
        utils.set_sigterm_handler, services.ConsolePopen = rays


@contextlib.contextmanager
def _no_dashboard() -> Iterator[None]:
    """Let Ray start as if the extra `cluster` were not installed: its agents, which serve no one here, take twice as long.

    Ray asks by an import whether they can run, and knows no setting. None in `sys.modules` makes an import fail.
    """
    name = "ray.dashboard.optional_deps"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


def _make_token() -> dict[str, str]:
    """Make Ray's token for this user, whom a Ray of our own will ask for it. Ray would, too, but readable by everyone.

    Returns:
        What tells Ray where it is: in the home, or in our own folder where the home cannot be written or is filled by others.
    """
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    # One that cannot be read is that of a cluster, meant for another machine or another time.
    if "RAY_AUTH_TOKEN" in os.environ or (given and os.access(given, os.R_OK)):
        return {}
    try:
        path = Path.home() / TOKEN_FILE
        _write_token(path)
    except (OSError, RuntimeError):  # the latter where nobody knows the home
        path = private_folder() / TOKEN_FILE.name
        try:
            _write_token(path)
        except OSError as error:
            raise InfrastructureError(
                f"cannot write Ray's token to {path} ({error.strerror}); set RAY_AUTH_TOKEN_PATH to a file that holds one"
            ) from None
    return {"RAY_AUTH_TOKEN_PATH": str(path)}


def _write_token(path: Path) -> None:
    """Make the token unless there is one. Raises `OSError` where it can be neither read nor written."""
    if path.exists():
        path.read_bytes()
        return
    # Written under a name of its own and linked, which fails where a token is: nobody reads half of one, and none is replaced.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    # The mode is given on creation: between writing and a later chmod others could read it.
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    with contextlib.suppress(FileExistsError):  # another process was quicker, and its Ray may use its token already
        os.link(temporary, path)
    temporary.unlink()


def _require_raylet(address: str) -> None:
    """Ask Ray's process on this node too: `ray.init` talks to it, and waits for it without letting Python do anything else.

    Raises:
        InfrastructureError: it says nothing; of several, all of them.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.util import get_node_ip_address

    try:
        nodes = promptly(lambda: GcsClient(address=address).get_all_node_info(timeout=ANSWER_SECONDS), ANSWER_SECONDS)
    except TimeoutError:
        raise _no_ray(address, f"it takes calls and answers none for {ANSWER_SECONDS:g} s, so it hangs") from None
    here = [
        f"{node.node_manager_address}:{node.node_manager_port}"
        for node in nodes.values()
        # `state` 0 is alive.
        if node.state == 0 and node.node_manager_address in (get_node_ip_address(), "127.0.0.1")
    ]
    silent = {raylet: why for raylet in here if (why := silence(raylet, ANSWER_SECONDS))}
    if here and len(silent) == len(here):
        raise _no_ray(address, f"of Ray's process on this node, at {here[0]}: {silent[here[0]]}")


def _no_ray(address: str, error: Exception | str) -> InfrastructureError:
    # Ray raises a plain ConnectionError, with gRPC's refusal as its cause.
    if isinstance(error, Exception) and "InvalidAuthToken" in str(error.__cause__):
        return _other_token(address)
    first = str(error).strip().splitlines()
    reason = first[0] if first else type(error).__name__
    if address == LOCAL:
        return InfrastructureError(f"Ray did not start on this machine: {reason}; see its logs under {_private_directory()}")
    remedy = f"start it, correct --address or RAY_ADDRESS, or use --address {LOCAL}"
    return InfrastructureError(f"no Ray answers at {address} ({reason}); {remedy}")


def private_folder() -> Path:
    """A folder of this user's alone for what lasts as long as processes do: RAY_TMPDIR/zoocast-UID, or one in TMPDIR or /tmp.

    Raises:
        InfrastructureError: it cannot be made; or what bears its name belongs to somebody else, or is open to others.
    """
    name = f"zoocast-{os.getuid()}"
    try:
        folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()).absolute() / name
        if len(os.fsencode(folder / "ray")) > LONGEST_TEMPORARY_DIRECTORY:
            folder = Path("/tmp", name)
        # Made or found, it is then looked at: in a common /tmp anybody may have made a folder, or a link, of this name before us.
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
        status = folder.lstat()  # of the link itself, if it is one
    except OSError as error:
        # Of `gettempdir` the error is a sentence, and has no name of a file.
        why = f"{error.filename} cannot be written ({error.strerror})" if error.filename else str(error.strerror or error)
        raise InfrastructureError(
            f"there is no folder for Ray's sockets and logs: {why}; set RAY_TMPDIR to a short path of yours"
        ) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise InfrastructureError(
            f"{folder}, where Ray is to keep its sockets and logs, is not a folder of yours alone;"
            " remove it, or set RAY_TMPDIR to a short path of yours"
        )
    return folder


def _private_directory() -> str:
    """Where Ray keeps its sessions; by itself it lets everyone on the machine write there."""
    return str(private_folder() / "ray")


def _other_token(address: str) -> InfrastructureError:
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    unread = f" (RAY_AUTH_TOKEN_PATH names {given}, which cannot be read)" if given and not os.access(given, os.R_OK) else ""
    return InfrastructureError(
        f"Ray at {address} asks for a token and did not get the right one{unread}; set RAY_AUTH_MODE=token, and put the cluster's"
        " token into ~/.ray/auth_token, or into a file named by RAY_AUTH_TOKEN_PATH"
    )


def source_roots() -> list[str]:
    """The folders from which this process imports zoocast and its neighbours; workers import from the same ones."""
    roots: dict[str, None] = {}
    for package in ("zoocast", "pipelines", "searchspaces"):
        spec = importlib.util.find_spec(package)  # which finds it without importing it
        for location in (spec.submodule_search_locations or []) if spec else []:
            roots[str(Path(location).absolute().parent)] = None
    return list(roots)


def _python_path(folder: Path | None = None) -> str:
    """Where this process imports from; with `folder`, what of it is inside, relative to it."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = list(dict.fromkeys(Path(p).absolute() for p in [*source_roots(), *(p for p in given if p)]))
    if folder is not None:
        paths = [path.relative_to(folder) for path in paths if path.is_relative_to(folder)]
    return os.pathsep.join(map(str, paths))


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have `values` in the environment inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def resources(address: str = LOCAL) -> ClusterSummary:
    """What the connected cluster has in all."""
    import ray

    alive = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    return ClusterSummary(address, len(alive), sum(n.get("CPU", 0) for n in alive), sum(n.get("GPU", 0) for n in alive))
