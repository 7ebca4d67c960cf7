"""Whether the cluster, the root and the tracking server are fit for a run, found out before any of its work begins.

`run` refuses what fails, with all reasons together; `doctor` shows everything. Every node is asked once, all at the same time; a
Ray of our own is this machine, which is examined without a task.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import sys
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zoocast.cluster import probe
from zoocast.cluster.connect import ClusterSummary
from zoocast.dag import Step
from zoocast.dag.placement import nodes_of, require_room
from zoocast.errors import InfrastructureError, last_line
from zoocast.store.address import address, open_root
from zoocast.store.files import human_bytes
from zoocast.tracking.backend import locate, sqlite_file
from zoocast.words import Finding, some

__all__ = ["Answer", "Finding", "access", "at_least", "clock", "disk", "on_cluster", "require_fit", "token", "versions"]

GIB = 1024**3
DISK = (1 * GIB, 5 * GIB)  # the laptop preset needs under 1 GiB; five times that is comfort
SKEW_SECONDS = (30.0, 2.0)
ANSWER_SECONDS = 20.0  # a node's first process may start slowly; one that needs longer is of no use
HERE = "this machine"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What `probe.examine` found on one node, asked at `asked` and answered at `answered`, in seconds of this machine's clock."""

    node_id: str
    node: str
    asked: float
    answered: float
    versions: dict[str, str]
    code: str
    place: str
    storage: str
    tracking: str
    authentication: str
    open_token: str
    clock: float

    @property
    def skew(self) -> float:
        """By how many seconds the node's clock is off at least: what the way of the question and the answer cannot explain."""
        # A sound clock, read on the node in between, shows a time between the two that we read here.
        return max(self.asked - self.clock, self.clock - self.answered, 0.0)


def require_fit(cluster: ClusterSummary, root: Path, tracking_uri: str | None, steps: Sequence[Step]) -> None:
    """Say what is doubtful about running `steps` on the connected cluster, one line each on stderr.

    Raises:
        InfrastructureError: with everything that keeps the steps from running.
    """
    failed = []  # all of them are collected, so that a user mends everything at once
    for finding in [disk(root, steps), *on_cluster(cluster, root, tracking_uri, steps)]:
        if finding.state == "warn":
            print(f"warning: {finding}", file=sys.stderr)
        elif finding.state == "fail":
            failed.append(str(finding))
    if len(failed) > 1:
        failed.insert(0, f"{len(failed)} things keep this run from starting")
    if failed:
        raise InfrastructureError("\n  ".join(failed))


def disk(root: Path, steps: Iterable[Step] = ()) -> Finding:
    """Whether there is room for what `steps` are to write, and some more.

    Clips are known before; banks and checkpoints are not, and those steps check for themselves when they begin.
    """
    place = root.absolute()
    while not os.path.exists(place):  # a new root is made later, in the first folder above it that there is
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("disk", "fail", f"{root} cannot be written (looked at {place})", "give a folder of yours with --root")
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:  # of a network, when its server is away
        return Finding("disk", "fail", f"{place} does not answer ({error.strerror})", "give another folder with --root")
    expected = sum(step.estimated_bytes for step in steps)
    clips = f" for {human_bytes(expected)} of clips and all else" if expected else ""
    seen = f"{human_bytes(free)} free under {root}{clips}"
    remedy = "free space there, or use --root on a larger disk"
    return at_least("disk", free, (DISK[0] + expected, DISK[1] + expected), seen, remedy)


def at_least(check: str, value: float, limits: tuple[int, int], seen: str, remedy: str) -> Finding:
    """Below the first of `limits`, in bytes, is a failure, below the second a warning."""
    fail, warn = limits
    if value < fail:
        return Finding(check, "fail", f"{seen}, at least {human_bytes(fail)} are needed", remedy)
    if value < warn:
        return Finding(check, "warn", seen, remedy)
    return Finding(check, "ok", seen)


def on_cluster(cluster: ClusterSummary, root: Path, tracking_uri: str | None, steps: Sequence[Step] = ()) -> Iterator[Finding]:
    """What is found about the connected cluster and its way to the root and the tracking server."""
    import ray

    uri = locate(root, tracking_uri)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if steps:
        yield _room(nodes, steps)
    with _exchange(root.absolute()) as exchange:
        asked, found = time.time(), probe.examine(HERE, address(exchange.folder), exchange.nonce, _server(uri))
        here = Answer(HERE, HERE, asked, time.time(), **found)
        answers = [here]
        if not cluster.is_ours:
            answers, silent = _ask(nodes, exchange, _server(uri))
            yield _nodes(answers, silent)
            yield versions(here, answers)
            yield _code(here, answers)
        yield exchange.compare(answers)
    # The driver counts as well: it sends what the nodes' journals hold, and need not be on any of them.
    yield _tracking(uri, len(nodes), [here, *answers])
    if not cluster.is_ours:
        yield clock(answers)
    yield access(answers)
    yield token(answers)


# ------------------------------------------------------------------------------------------------------------------ the nodes


def _ask(nodes: Sequence[dict[str, Any]], exchange: _Exchange, server: tuple[str, int] | None) -> tuple[list[Answer], list[str]]:
    """Examine every node, all at the same time; returns the answers, and which nodes gave none and why."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # No CPU, so that a node which works for others answers too; no retries, for a node that fails is what we want to know.
    examine = ray.remote(num_cpus=0, max_retries=0)(probe.examine)
    asked = time.time()
    questions = {}
    for node in nodes:
        only_there = examine.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        questions[only_there.remote(node["NodeID"], address(exchange.folder), exchange.nonce, server)] = (
            node["NodeID"],
            _name(node),
        )
    answers, silent = [], []
    waiting = list(questions)
    until = time.monotonic() + ANSWER_SECONDS
    while waiting and time.monotonic() < until:
        ready, waiting = ray.wait(waiting, timeout=max(until - time.monotonic(), 0))
        answered = time.time()  # before `ray.get`, whose time would widen what `skew` must allow for
        for ref in ready:
            try:
                answers.append(Answer(*questions[ref], asked, answered, **ray.get(ref)))
            except TypeError:  # its fields are not those of `Answer`
                silent.append(f"{questions[ref][1]} (it has another zoocast, which answers otherwise)")
            except ray.exceptions.RayError as error:  # it has no zoocast, or its process died
                silent.append(f"{questions[ref][1]} ({last_line(error)})")
    for ref in waiting:
        ray.cancel(ref, force=True)  # else it would still run when the node comes to itself
        silent.append(f"{questions[ref][1]} (no answer in {ANSWER_SECONDS:.0f} s)")
    return sorted(answers, key=lambda a: a.node), sorted(silent)


def _name(node: dict[str, Any]) -> str:
    name, address, host = node["NodeName"], node["NodeManagerAddress"], node["NodeManagerHostname"]
    return f"{host} ({address})" if name == address else name


def _nodes(answers: Sequence[Answer], silent: Sequence[str]) -> Finding:
    if silent:
        remedy = "look at Ray's logs there, or take such nodes out of the cluster with `ray stop`"
        return Finding("nodes", "fail", f"no answer from {some(silent)}", remedy)
    seconds = max((a.answered - a.asked for a in answers), default=0.0)
    return Finding("nodes", "ok", f"all answered within {seconds:.1f} s: {some([a.node for a in answers])}")


def _room(nodes: Sequence[dict[str, Any]], steps: Sequence[Step]) -> Finding:
    try:
        require_room(nodes_of(nodes), steps)
    except InfrastructureError as error:  # says itself what to do
        return Finding("resources", "fail", str(error))
    return Finding("resources", "ok", f"each of {len(steps)} steps has room")


def versions(here: Answer, answers: Sequence[Answer]) -> Finding:
    wrong = []
    for package, version in here.versions.items():  # those of this process, for what it pickles is read there
        others: dict[str, list[str]] = {}
        for answer in answers:
            others.setdefault(answer.versions.get(package, "unknown"), []).append(answer.node)
        wrong += [f"{package} {version} here, {v} on {some(n)}" for v, n in others.items() if v != version]
    if wrong:
        return Finding("versions", "fail", "; ".join(wrong), "install the same on every node: pip install -c constraints.txt .")
    return Finding("versions", "ok", ", ".join(f"{p} {v}" for p, v in here.versions.items()) + " on every node")


def _code(here: Answer, answers: Sequence[Answer]) -> Finding:
    wrong = [f"{a.code} on {a.node} ({a.place or 'no zoocast there'})" for a in answers if a.code != here.code]
    if wrong:
        seen = f"zoocast's source files differ: {here.code} here ({here.place}), {some(wrong)}"
        return Finding("code", "fail", seen, "bring the same files to every node, or send yours along with `pipelines submit`")
    return Finding("code", "ok", f"the same source files on every node ({here.code})")


def clock(answers: Sequence[Answer]) -> Finding:
    """Whether the nodes' clocks agree with ours. Locks and results do not depend on it; the times of records and MLflow do."""
    worst = max(answers, key=lambda a: a.skew, default=None)
    if worst is None or worst.skew < SKEW_SECONDS[1]:
        return Finding("clock", "ok", f"no clock is off by {SKEW_SECONDS[1]:g} s or more")
    seen = f"the clock of {worst.node} is off by {worst.skew:.1f} s or more, so times in records and MLflow will not fit together"
    return Finding("clock", "fail" if worst.skew > SKEW_SECONDS[0] else "warn", seen, "run a time service (chrony, ntpd) there")


# ------------------------------------------------------------------------------------------------------------------ the root


@dataclasses.dataclass(frozen=True)
class _Exchange:
    """A folder under the root in which this machine writes a nonce, and every node that finds it writes it again."""

    root: Path
    folder: Path
    nonce: str
    problem: str

    def compare(self, answers: Sequence[Answer]) -> Finding:
        """Whether every node wrote where this machine reads."""
        if self.problem:  # nodes were asked all the same, for their versions, but their view of the root means nothing
            return Finding(
                "storage", "fail", f"cannot write under {address(self.root)} ({self.problem})", "choose another --root"
            )
        wrong = [f"{a.node} {a.storage}" for a in answers if a.storage]
        wrong += [f"{a.node} writes what does not arrive here" for a in answers if not a.storage and not self._echoed(a)]
        if wrong:
            remedy = "give a folder that all nodes share (--root /mnt/...), or an object store (--root s3://BUCKET/FOLDER)"
            return Finding("storage", "fail", f"{address(self.root)} is not the same everywhere: {some(wrong)}", remedy)
        return Finding("storage", "ok", f"{address(self.root)} is written and read{' by every node' if len(answers) > 1 else ''}")

    def _echoed(self, answer: Answer) -> bool:
        return open_root(self.root).read_note(self.folder / answer.node_id) == self.nonce


@contextlib.contextmanager
def _exchange(root: Path) -> Iterator[_Exchange]:
    """Names that no one has asked for before: a network file system may remember for a while that a file was not there."""
    folder, nonce, problem = root / f".preflight.{secrets.token_hex(16)}", secrets.token_hex(16), ""
    existed = os.path.exists(root)
    try:
        folder.mkdir(parents=True)
        open_root(root).write_note(folder / "driver", nonce)
    except OSError as error:
        problem = error.strerror or str(error)
    except InfrastructureError as error:  # an object store
        problem = str(error)
    try:
        yield _Exchange(root, folder, nonce, problem)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not problem:
            open_root(root).remove_notes(folder)
        if not existed:  # `doctor`, and a run that is refused, leave no root behind
            with contextlib.suppress(OSError):  # somebody else works in it by now
                root.rmdir()


# ------------------------------------------------------------------------------------------------- tracking server and token


def _server(uri: str) -> tuple[str, int] | None:
    parts = urllib.parse.urlsplit(uri)
    return (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)) if parts.hostname else None


def _tracking(uri: str, num_nodes: int, answers: Sequence[Answer]) -> Finding:
    file = sqlite_file(uri)
    if file is not None and num_nodes > 1:
        return Finding(
            "tracking",
            "fail",
            f"{file} is a SQLite store, which is for one machine, and the cluster has {num_nodes} nodes",
            "start a server (`mlflow server --host HOST --port 5000`, see cluster/README.md) and give --tracking-uri http://HOST:5000",
        )
    if file is not None:
        return Finding("tracking", "ok", f"SQLite at {file}")
    # On a Ray of our own this machine is there twice, as the driver and as the only node.
    wrong = list(dict.fromkeys(f"{a.node} ({a.tracking})" for a in answers if a.tracking))
    if wrong:
        remedy = "start it, or correct --tracking-uri; training does not wait for it, and what is logged is delivered later"
        # No failure: journals lie beside the work and are exported when the server is back.
        return Finding("tracking", "warn", f"{uri} is not reached from {some(wrong)}", remedy)
    return Finding("tracking", "ok", f"{uri} takes connections")


def access(answers: Sequence[Answer]) -> Finding:
    """Ray listens on all interfaces, and runs what anyone sends who is not asked for a token."""
    free = [a.node for a in answers if a.authentication != "token"]
    if free:
        seen = f"Ray asks for no token on {some(free)}: whoever reaches its ports can run anything there"
        return Finding("access", "warn", seen, "start Ray on every node with RAY_AUTH_MODE=token and the same token")
    return Finding("access", "ok", "Ray asks for a token")


def token(answers: Sequence[Answer]) -> Finding:
    files = list(dict.fromkeys(a.open_token for a in answers if a.open_token))
    if files:
        nodes = [a.node for a in answers if a.open_token]
        return Finding("token", "warn", f"others can read Ray's token on {some(nodes)}", f"chmod 600 {' '.join(files)}")
    return Finding("token", "ok", "no one else can read Ray's token")
