"""Pipelines as jobs of a Ray cluster, through Ray's job API: submit, follow, list and cancel, from a machine outside of it.

A job is `python -m pipelines run ... --address auto --json` on the head, in the folder that was sent. What it prints is one
file there; from the JSON at its end we know what came out, so that `submit` ends as `run` does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TextIO

import zoocast
from zoocast.cluster.connect import environment
from zoocast.cluster.package import Package, pack, select
from zoocast.errors import ConfigError, InfrastructureError, Interrupted, did_you_mean
from zoocast.provenance import SENT_COMMIT, git_state, program
from zoocast.store.files import as_json, human_bytes
from zoocast.store.objects import holds_secret

__all__ = ["Job", "Jobs", "Log", "Submission"]

ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # in Ray's own order
CONNECT_SECONDS, ANSWER_SECONDS, WORK_SECONDS = 5.0, 5.0, 60.0  # the last for all requests but the first
POLL_SECONDS = 1.0
SILENT_SECONDS = 60.0  # a head that is busy, or restarted with its memory, comes back
STOP_SECONDS = 300  # from SIGTERM, after which steps end at their next checkpoint, to SIGKILL; Ray's default is 3
TOKEN = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the cluster's token (or RAY_AUTH_TOKEN to itself)"
STATES = {"PENDING": "waiting", "RUNNING": "running", "SUCCEEDED": "done", "FAILED": "failed", "STOPPED": "stopped"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """What `submit` was asked for. Everything in it can be read by whoever reaches the cluster.

    Raises:
        ConfigError: the root is not one that every node sees, or a URL holds a password.
    """

    run: str
    what: tuple[str, ...]  # the pipeline with its settings, as `run` takes them
    root: str
    tracking_uri: str | None = None
    force: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.match(r"/|[a-z][a-z0-9+.-]*://", self.root):
            raise ConfigError(
                "--root",
                f"must be a place that every node sees, such as /mnt/shared/zoocast or s3://LAB/zoocast, but got {self.root!r}",
            )
        for name, _, value in (part.partition("=") for part in self.what):
            if "://" in value:
                refuse_password(name, value, "let the nodes have it by their own configuration")
        refuse_password("--root", self.root, "let the nodes have it by their own configuration")
        refuse_password(
            "--tracking-uri", self.tracking_uri, "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where Ray is started"
        )

    def entrypoint(self) -> str:
        """The command of the job."""
        # By module: the `pipelines` script is only there where the package is installed, and the code may have just been sent.
        return shlex.join(
            ["python", "-m", "pipelines", "run", *self._arguments(), *self._forced(), "--address", "auto", "--json"]
        )

    def command(self, address: str) -> str:
        """The command that does what is left of it; `--force` is left out, or it would begin anew."""
        return shlex.join([*program(), "submit", *self._arguments(), "--address", address])

    def _arguments(self) -> list[str]:
        tracking = ["--tracking-uri", self.tracking_uri] if self.tracking_uri else []
        return [*self.what, "--root", self.root, *tracking]

    def _forced(self) -> list[str]:
        return [part for pattern in self.force for part in ("--force", pattern)]


def refuse_password(option: str, url: str | None, remedy: str) -> None:
    """Raise `ConfigError` when `url` holds one: whoever reaches the cluster can read what a job was started with."""
    if url and holds_secret(option, url):
        raise ConfigError(option, f"a name or password in a URL could be read by everyone who reaches the cluster; {remedy}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the cluster knows it. Times are seconds since the epoch; the last four are empty for a job that is not of ours."""

    id: str
    state: str
    entrypoint: str
    message: str = ""
    exit_code: int | None = None
    started: float | None = None
    finished: float | None = None
    run: str = ""
    root: str = ""
    code: str = ""
    command: str = ""

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed", "stopped")

    def took(self) -> float | None:
        """Seconds, so far or in all; None before it began."""
        return (self.finished or time.time()) - self.started if self.started else None

    def ending(self) -> int:
        """The exit code of `run`.

        Raises:
            InfrastructureError: the job's process did not end by itself.
        """
        if self.state == "stopped":
            return Interrupted.exit_code
        if self.exit_code is None or self.exit_code < 0:  # negative: the signal, as Python's subprocess has it
            how = (
                f"was killed by signal {-self.exit_code}"
                if self.exit_code
                else f"was lost ({self.message.partition(chr(10))[0]})"
            )
            again = f"; go on with: {self.command}" if self.command else ""
            raise InfrastructureError(f"the process of job {self.id} {how}{again}")
        return self.exit_code


class Log:
    """What a job prints, as it comes: lines go to `stream`; the JSON document of a run's end is kept as `result` instead."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.result: dict[str, Any] | None = None
        self._read = 0
        self._held: list[str] = []

    def take(self, text: str, *, whole: bool) -> None:
        """Go on with `text`, which is the log from its beginning; `whole` when no more will come."""
        end = len(text) if whole else text.rfind("\n") + 1  # the rest of a line that is being written comes next time
        for line in text[self._read : end].splitlines(keepends=True):
            self._take_line(line)
        self._read = max(self._read, end)
        if whole:
            self._let_go()
        self.stream.flush()

    def _take_line(self, line: str) -> None:
        # `--json` prints one document with indents of one: a lone brace, names, more that is indented, and a lone brace.
        begins = line == "{\n"
        goes_on = line.rstrip() == "}" or line.startswith(' "' if len(self._held) == 1 else " ")
        if self._held and not goes_on:
            self._let_go()
        if not self._held and not begins:
            self.stream.write(line)
            return
        self._held.append(line)
        if line.rstrip() == "}":
            document = _document("".join(self._held))
            if document is None:  # something else that printed braces
                self._let_go()
            else:
                self.result = document
                self._held.clear()

    def _let_go(self) -> None:
        self.stream.writelines(self._held)
        self._held.clear()


def _document(text: str) -> dict[str, Any] | None:
    """The end of a run that `text` holds, if it does."""
    data = as_json(text)
    return data if data and {"run", "steps", "exit_code"} <= data.keys() else None


class Jobs:
    """The job API of the cluster at `address`."""

    def __init__(self, address: str, client: Any) -> None:
        self.address = address
        self._client = client

    @classmethod
    def connect(cls, given: str | None) -> Self:
        """The cluster at the address `given`, else in Ray's environment variables.

        Raises:
            ConfigError: no address, or one of another of Ray's services.
            InfrastructureError: no job API answers there, or it asks for a token; or a package of `zoocast[cluster]` is missing.
        """
        address = locate(given)
        client = _client_class()  # before Ray is imported, so that it can say which package is missing
        from ray.exceptions import AuthenticationError

        try:
            with environment({ADDRESSES[0]: address}):  # which Ray would prefer to the argument
                return cls(address, client(address))
        except AuthenticationError as error:  # there is no token to show; a wrong one is the client's RuntimeError
            raise InfrastructureError(f"{str(error).partition('. ')[0]}; {TOKEN}") from None
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            raise InfrastructureError(
                f"what answers at {address} is no Ray job API ({str(error).partition(chr(10))[0]}); it is the dashboard of the"
                " cluster's head, http://HEAD:8265"
            ) from None

    def all(self) -> list[Job]:
        """Every submitted job that the cluster remembers, the latest first."""
        # Ray lists every driver that connected as a job; only submitted ones have an id, a log and an end.
        details = [one for one in self._client.list_jobs() if one.submission_id]
        return sorted((_job(one) for one in details), key=lambda job: job.started or 0, reverse=True)

    def find(self, job_id: str) -> Job:
        """The job with this id. Raises `ConfigError` when there is none; the message names the nearest."""
        known = {job.id: job for job in self.all()}
        if job_id in known:
            return known[job_id]
        hint = did_you_mean(job_id, known)
        raise ConfigError("", f"{self.address} knows no job {job_id!r}; {hint}`pipelines jobs` lists them")

    def send(self, submission: Submission, folder: Path) -> Job:
        """Start the job with the code in `folder`, or find that it runs already; either is printed.

        Raises:
            ConfigError: the folder is nothing to send, or the same run is at work with other code or options.
        """
        selection = select(folder)
        for line in selection.left_out():
            print(line, file=sys.stderr)
        with _folder_to_pack_in() as temporary:
            package = pack(selection, Path(temporary, "code.zip"))
            print(f"{len(selection.files)} files of {folder}: {human_bytes(package.num_bytes)} to send", file=sys.stderr)
            while True:
                # Ray refuses an id that there is already, so of two that submit the same run at once only one starts it.
                known = self.all()
                running = self._at_work(known, submission, package)
                if running is not None:
                    print(f"{submission.run} is at work already, as job {running.id}", file=sys.stderr)
                    return running
                number = 1 + max((_number(job.id, submission.run) for job in known), default=0)
                with contextlib.suppress(_Taken):  # by another submit at the same moment, perhaps of this very run: look again
                    job = self._start(submission, f"{submission.run}-{number}", package, _variables(folder))
                    print(f"job {job.id} at {self.address}", file=sys.stderr)
                    return job

    def _at_work(self, known: Iterable[Job], submission: Submission, package: Package) -> Job | None:
        for job in known:
            if job.ended or (job.run, job.root) != (submission.run, submission.root):
                continue
            # The same command on the same files is the same work: join it. Anything else would be two drivers on one run.
            if (job.entrypoint, job.code) == (submission.entrypoint(), package.digest):
                return job
            other = "code" if job.code != package.digest else "options"
            raise ConfigError(
                "",
                f"{submission.run} is at work already, as job {job.id} with other {other}; follow it with:"
                f" {self.hint('logs', '-f', job.id)}, or stop it first with: {self.hint('cancel', job.id)}",
            )
        return None

    def _start(self, submission: Submission, job_id: str, package: Package, variables: Mapping[str, str]) -> Job:
        self._client.submit_job(
            entrypoint=submission.entrypoint(),
            submission_id=job_id,
            runtime_env={"working_dir": str(package.path), "env_vars": dict(variables)},
            metadata={  # by which another machine, or a later `submit`, knows the job again
                "zoocast.run": submission.run,
                "zoocast.root": submission.root,
                "zoocast.code": package.digest,
                "zoocast.command": submission.command(self.address),
            },
        )
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """The job now."""
        return _job(self._client.get_job_info(job_id))

    def read(self, job: Job, log: Log) -> None:
        """Pass on what the job has printed so far."""
        log.take(self._client.get_job_logs(job.id), whole=True)  # no more will be read, whether or not the job goes on

    def follow(self, job: Job, log: Log) -> Job:
        """Pass on what the job prints until it ends; returns how it ended.

        Raises:
            InfrastructureError: the cluster has been silent for `SILENT_SECONDS`, or knows the job no more.
        """
        return self._watch(job, lambda job: log.take(self._client.get_job_logs(job.id), whole=job.ended))

    def cancel(self, job: Job) -> Job:
        """Stop the job and wait until it has ended; its steps write checkpoints first.

        Raises:
            InfrastructureError: the cluster has been silent for `SILENT_SECONDS`, or has not stopped the job in time.
        """
        self._client.stop_job(job.id)
        # After the first of the two Ray kills it.
        return self._watch(job, lambda _job: None, STOP_SECONDS + SILENT_SECONDS)

    def _watch(self, job: Job, look: Callable[[Job], None], seconds: float = math.inf) -> Job:
        """Ask for the job, and `look` at it, until it has ended or `seconds` are over; the last answer."""
        answered = time.monotonic()
        until = answered + seconds
        while True:
            began = time.monotonic()
            try:
                job = self.get(job.id)  # before the log, which is then whole when the job has ended
                look(job)
                if job.ended:
                    return job
                answered = time.monotonic()  # any answer counts: a job may print nothing for hours
            except InfrastructureError as error:
                forgotten = isinstance(error, _Forgotten)
                if forgotten or time.monotonic() - answered > SILENT_SECONDS:
                    again = job.command or self.hint("jobs")
                    when = "" if forgotten else "when the cluster is back, "
                    # `submit` joins a job that is at work still, and does what is left where it is not.
                    raise InfrastructureError(f"{error}; {when}go on with: {again}") from None
            if time.monotonic() > until:
                look_at_it = self.hint("logs", "-f", job.id)
                raise InfrastructureError(
                    f"job {job.id} was told to stop and is {job.state} still; look at it with: {look_at_it}"
                )
            # The log comes whole each time; however long it grows, asking for it takes a fifth of the time at most.
            time.sleep(max(POLL_SECONDS, 4 * (time.monotonic() - began)))

    def hint(self, *arguments: str) -> str:
        """A command to type against this cluster."""
        return shlex.join([*program(), *arguments, "--address", self.address])


@contextlib.contextmanager
def _folder_to_pack_in() -> Iterator[str]:
    try:
        with tempfile.TemporaryDirectory() as temporary:
            yield temporary
    except OSError as error:  # of the disk: what comes from the network is `InfrastructureError` by now
        raise InfrastructureError(
            f"cannot write the package to send ({error.strerror or error}); free some space, or set TMPDIR to a folder of yours"
        ) from None


def locate(given: str | None) -> str:
    """The address of the job API.

    Raises:
        ConfigError: there is none, or it is not one of HTTP.
    """
    source, address = next(
        ((name, value) for name, value in [("--address", given), *((n, os.environ.get(n)) for n in ADDRESSES)] if value),
        ("--address", ""),
    )
    if not re.match(r"https?://[^/]", address):
        got = f", but got {address!r}; ray:// and HOST:6379 are for other clients of Ray" if address else ""
        raise ConfigError(source, f"jobs are submitted to the head's dashboard, http://HEAD:8265{got}")
    refuse_password(source, address, "Ray takes a token, by RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH")
    return address.rstrip("/")


def _job(details: Any) -> Job:
    ours = details.metadata or {}
    return Job(
        id=details.submission_id,
        state=STATES[details.status.value],
        entrypoint=details.entrypoint,
        message=details.message or "",
        exit_code=details.driver_exit_code,
        started=details.start_time / 1000 if details.start_time else None,
        finished=details.end_time / 1000 if details.end_time else None,
        run=ours.get("zoocast.run", ""),
        root=ours.get("zoocast.root", ""),
        code=ours.get("zoocast.code", ""),
        command=ours.get("zoocast.command", ""),
    )


def _variables(folder: Path) -> dict[str, str]:
    """The environment of the job, for all to read. The job itself sets the rest of what workers need when it connects."""
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
    if Path(zoocast.__file__).is_relative_to(folder.resolve()):  # else the nodes' own zoocast is at work
        state = git_state()
        variables[SENT_COMMIT] = state["commit"] + ("+" if state["dirty"] else "")
    return variables


def _number(job_id: str, run: str) -> int:
    """N of ``RUN-N``, the N-th job of the run; 0 for any other id."""
    found = re.fullmatch(rf"{re.escape(run)}-(\d+)", job_id)
    return int(found[1]) if found else 0


class _Taken(Exception):
    """The id of a job is in use."""


class _Forgotten(InfrastructureError):
    """The cluster knows no job with this id: its head was lost, and another one has begun anew."""


def _client_class() -> Any:
    """Ray's client, made to fail soon and in our words.

    Raises:
        InfrastructureError: a package that it needs is not installed.
    """
    try:
        import aiohttp  # noqa: F401  Ray does without at import, and stumbles over it later
        import pathspec  # noqa: F401
        import pydantic  # noqa: F401
        import requests
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise InfrastructureError(f"{error.name} is not installed; clusters need pip install 'zoocast[cluster]'") from None

    logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.WARNING)  # else Ray prints every upload

    # Ray's client waits without end for a head that does not answer, and raises what it got as RuntimeError with a traceback.
    class Client(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, *, data: bytes | None = None, json_data: Any = None) -> Any:
            # The version is asked for first, while it connects: what does not answer this soon is no job API.
            patience = (CONNECT_SECONDS, ANSWER_SECONDS if endpoint == "/api/version" else WORK_SECONDS)
            try:
                return super()._do_request(method, endpoint, data=data, json_data=json_data, timeout=patience)
            except AuthenticationError:
                raise InfrastructureError(f"{self._address} wants the cluster's token; {TOKEN}") from None
            except requests.RequestException as error:
                why = type(error).__name__
                if isinstance(error, requests.ReadTimeout):
                    why = f"it takes connections and says nothing for {patience[1]:g} s, so it hangs or is stopped"
                raise InfrastructureError(
                    f"no Ray job API answers at {self._address} ({why}); correct --address (http://HEAD:8265),"
                    " or start the head with `ray start --head --dashboard-host ADDRESS`"
                ) from None

        def _raise_error(self, r: Any) -> None:
            if "already exists" in r.text:  # Ray's words are the only sign of it: its exception ends in the head's answer
                raise _Taken
            lines = r.text.strip().splitlines() or [""]
            if re.match("Job .* does not exist", r.text):
                raise _Forgotten(f"{self._address} does not know the job (a head that starts anew has forgotten its jobs)")
            raise InfrastructureError(f"{self._address} answers {r.status_code}: {lines[-1]}")

    return Client
