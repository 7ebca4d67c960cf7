"""Building the stored bank of one source: Ray actors run it frozen and write files, the driver writes the manifest last.

Every file is a function of the recipe alone, so any number of actors, restarts and kills gives the same bytes. An actor holds one
record batch at a time. A note beside each finished file lets a later attempt keep it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoocast.arrow import MANIFEST, Manifest, Shard, shard_name, write_manifest, write_shard
from zoocast.bank.config import BankConfig
from zoocast.bank.frozen import FrozenSource, fixed_feed, load_frozen, run_source
from zoocast.bank.recipe import Recipe, column_name, frames_column, make_recipe, read_bank
from zoocast.config import digest, dump, load
from zoocast.dag import Resources
from zoocast.dag.placement import fits, nodes_of
from zoocast.data.splits import Split
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, InfrastructureError, IntegrityError, Interrupted, StepFailed, ZoocastError
from zoocast.store.address import root_of
from zoocast.store.files import human_bytes, keep_private, parse_json, require_free_space, sha256_file, write_atomically
from zoocast.store.root import Root

__all__ = ["build_bank"]

NOTE = ".json"


class _Job(NamedTuple):
    """One file to write: what is kept of `rows` clips of a split."""

    file: str
    split: Split
    start: int
    rows: int


def _jobs(recipe: Recipe) -> list[_Job]:
    layout = recipe.layout
    return [
        _Job(shard_name(layout, split, start), split, start, min(layout.shard_rows, recipe.clips[split] - start))
        for split in recipe.config.splits
        for start in range(0, recipe.clips[split], layout.shard_rows)
    ]


class _Task(NamedTuple):
    """What every actor gets: whose bank is built from what, and where."""

    recipe: Recipe
    name: str
    source: Path
    clips: Path
    target_depth: int
    directory: Path


# ------------------------------------------------------------------------------------------------------------------ one actor


class _Builder:
    """What runs in each actor: loads the source from its folder once, and writes one file at a time."""

    def __init__(self, task: _Task, threads: int, device: str, sender: Root) -> None:
        keep_private()
        torch.set_num_threads(threads)
        # The actor may run on another machine, where the same storage root and its files lie at other paths.
        self.root = sender.here()
        task = task._replace(
            clips=self.root.localize(task.clips, sender),
            directory=self.root.localize(task.directory, sender),
            source=self.root.localize(task.source, sender),
        )
        self.task, self.recipe, self.layout, self.device = task, task.recipe, task.recipe.layout, torch.device(device)
        self.store = ClipStore.open(task.clips)
        self.splits = {split: self.store.split(split) for split in self.recipe.config.splits}

    @functools.cached_property
    def source(self) -> FrozenSource:
        """The network. Loaded late: Ray hides what a constructor raises."""
        name, recipe = self.task.name, self.recipe
        # The driver's recipe said what the files shall hold; another source here would fill them with something else.
        now = make_recipe(recipe.config, name, self.task.source, self.store, recipe.observed, self.task.target_depth)
        if now != recipe:
            raise StepFailed(f"source {name} or the clips changed while its bank was being built; run again")
        return load_frozen(self.task.source, self.store.shape, recipe.refs, self.device)

    def ready(self) -> None:
        """Answers once the source is loaded."""
        assert self.source

    def build(self, job: _Job) -> Shard:
        """Write one file, or keep the one that an earlier attempt finished."""
        path = self.task.directory / job.file
        # An earlier attempt may have finished this very file on another machine.
        self.root.pull(path, lambda file: file.endswith((job.file, job.file + NOTE)))
        # A note says what was written, not what a crash or a disk made of it since: the bytes decide.
        if (kept := _noted(path, self.recipe)) is not None and sha256_file(path) == kept.sha256:
            return kept
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shard = write_shard(path.parent, self.layout, job.split, job.start, self._batches(job))
            # Not durable: a note that is lost costs doing one file again.
            note = {"recipe": digest(self.recipe), "shard": dump(shard)}
            write_atomically(_note(path), json.dumps(note), durable=False)
        except OSError as error:
            raise InfrastructureError(
                f"cannot write bank file {path} ({error.strerror or error}); free some space and run again; finished files stay"
            ) from None
        self.root.push(path)
        return shard

    def _batches(self, job: _Job) -> Iterator[dict[str, Tensor]]:
        """The record batches of a file, in one buffer that is filled again and again."""
        # `write_shard` has written a record batch before it asks for the next, so one buffer serves all of a file.
        config, rows = self.recipe.config, self.layout.batch_rows
        buffer = {c.name: torch.empty(rows, *c.shape, dtype=getattr(torch, c.dtype)) for c in self.layout.columns}
        for start in range(job.start, job.start + job.rows, rows):
            count = min(rows, job.start + job.rows - start)
            # Cut by the layout, not by what is at hand: how many clips are in a batch can change a convolution's last bits.
            for first in range(start, start + count, config.batch_size):
                last = min(first + config.batch_size, start + count)
                self._fill({name: t[first - start : last - start] for name, t in buffer.items()}, job, first, last)
            yield {name: t[:count] for name, t in buffer.items()}

    def _fill(self, out: dict[str, Tensor], job: _Job, first: int, last: int) -> None:
        """What is kept of the clips `first` to `last - 1`."""
        clips = self.splits[job.split].clips(range(first, last)).to(self.device)
        feed = fixed_feed(self.recipe.config, len(clips), self.recipe.observed, clips.shape[1])
        for reverse in self.recipe.directions:
            run = run_source(self.source, clips.flip(1) if reverse else clips, feed)
            for ref, memory in run.memories.items():
                what = f"memory {ref.memory} of source {self.task.name}, layer {ref.layer}"
                self._keep(out[column_name(ref, reverse)], memory, job, what)
            if self.recipe.frames is not None:
                self._keep(out[frames_column(reverse)], run.frames, job, f"a frame predicted by source {self.task.name}")

    def _keep(self, stored: Tensor, made: Tensor, job: _Job, what: str) -> None:
        # Rounds to the bank's precision, from whichever device the source runs on.
        stored.copy_(made)
        if bool(torch.isfinite(stored).all()):
            return
        largest = float(made.abs().max())
        # Finite before it was rounded: then the precision is to blame, not the source.
        if largest < float("inf"):
            raise ConfigError(
                "dtype",
                f"{what} reaches {largest:.3g}, which {self.recipe.config.dtype} cannot hold; use bfloat16 or float32",
            )
        raise StepFailed(f"{what} is not finite for clips of {job.split}; train that source again with a lower learning rate")


def _note(path: Path) -> Path:
    return path.with_name(path.name + NOTE)


def _noted(path: Path, recipe: Recipe) -> Shard | None:
    """What an earlier attempt at the same bank noted about this file, if the file still has that size."""
    try:
        note: Any = parse_json(_note(path).read_bytes())
        shard = load(Shard, note["shard"])
        return shard if note["recipe"] == digest(recipe) and path.stat().st_size == shard.bytes else None
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return None


# ----------------------------------------------------------------------------------------------------------------- the driver


def build_bank(
    config: BankConfig,
    *,
    name: str,
    source: Path,
    clips: Path,
    observed: int,
    target_depth: int,
    directory: Path,
    num_actors: int,
    cpus_per_actor: int = 1,
    gpus_per_actor: float = 0.0,
    max_failures: int = 3,
    progress: Callable[[float, str], None] = lambda _fraction, _message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Manifest:
    """Compute what the bank keeps of one frozen source for all clips of its splits and store it in `directory`.

    Ray must be running. What an earlier attempt at the same bank left in `directory` is kept, anything else there replaced.

    Args:
        config: which memories, how fed, in which precision.
        name: of the source, for messages; no part of what is stored.
        source: folder with its network as `save_predictor` writes it.
        clips: folder of the target's clip store.
        observed: frames of a clip that a free-running source sees.
        target_depth: layers of the network that will distil, for the layer map.
        directory: absolute; visible to every node, or in a storage root that carries it there. It holds nothing but this bank.
        num_actors: how many processes run the source at the same time; each takes its resources as soon as the cluster has them.
        cpus_per_actor: CPUs, and threads, of each.
        gpus_per_actor: GPUs of each; the source runs there.
        max_failures: deaths of each actor that are survived.
        progress: called with the fraction that is done and a message, which is first of all the size.
        should_stop: called about twice a second.

    Raises:
        ConfigError: a bank that cannot be stored, or a source that the target cannot distil from; before any work starts.
        InfrastructureError: too little disk space, before any work starts; a cluster too small; actors that keep dying.
        IntegrityError: the source or the clips are damaged.
        Interrupted: `should_stop` returned True; finished files are kept.
    """
    if config.mode != "stored":
        raise ConfigError("mode", f"a bank with mode={config.mode} is not built; it runs its sources during training")
    if num_actors < 1:
        raise ConfigError("num_actors", f"must be at least 1, but got {num_actors}")
    recipe = make_recipe(config, name, source, ClipStore.open(clips), observed, target_depth)
    if (finished := _finished(directory, name, recipe)) is not None:
        # A kill behind the manifest leaves notes, which would become part of the step.
        _sweep(directory, {directory / shard.file for shard in finished.shards})
        return finished
    jobs, row_bytes = _jobs(recipe), recipe.layout.row_bytes
    # By the notes here alone: what other machines hold is asked for file by file.
    missing = sum(job.rows * row_bytes for job in jobs if _noted(directory / job.file, recipe) is None)
    what = f"source {name}, {sum(recipe.clips.values())} clips, {config.dtype}, {config.policy}"
    size = f"{human_bytes(recipe.payload_bytes)} of memories ({what})"
    progress(0.0, size)
    require_free_space(directory, missing, f"the memory bank, {size},")
    directory.mkdir(parents=True, exist_ok=True)
    # Ray would wait for ever for a node that large.
    _require_cluster(cpus_per_actor, gpus_per_actor)
    device, root = "cuda" if gpus_per_actor else "cpu", root_of(directory)
    task = _Task(recipe, name, source, clips, target_depth, directory)
    arguments = (task, cpus_per_actor, device, root)
    resources = {"num_cpus": cpus_per_actor, "num_gpus": gpus_per_actor}
    shards = _run(arguments, resources, max_failures, jobs, min(num_actors, len(jobs)), progress, should_stop)
    # Without the settings that came later and are not in use: a bank keeps the digest that it had before them.
    manifest = Manifest(layout=recipe.layout, recipe=dump(recipe, added=False), shards=tuple(shards[job] for job in jobs))
    # The files that other machines have written are wanted where the bank is read, not here.
    root.pull(directory, lambda file: file.endswith(f".arrow{NOTE}"))
    # Strangers go before the manifest, for behind it the bank counts as finished and nobody sweeps; notes stay until then, so
    # that a crash in between costs no work.
    _sweep(directory, {directory / job.file for job in jobs} | {_note(directory / job.file) for job in jobs})
    write_manifest(directory, manifest)
    _sweep(directory, {directory / job.file for job in jobs})
    return manifest


def _finished(directory: Path, name: str, recipe: Recipe) -> Manifest | None:
    """The manifest of this very bank if it is there and whole; any other is removed."""
    try:
        manifest, built = read_bank(directory, name)
        if built == recipe and all(sha256_file(directory / s.file) == s.sha256 for s in manifest.shards):
            return manifest
    except (IntegrityError, ConfigError, OSError):
        pass
    # First of all: a manifest beside files that are about to be replaced would vouch for the wrong ones.
    (directory / MANIFEST).unlink(missing_ok=True)
    return None


def _sweep(directory: Path, keep: set[Path]) -> None:
    """Remove the files of other banks and of attempts that were killed."""
    for path in directory.glob("*.arrow*"):  # hidden ones, notes and half-written files among them
        if path not in keep and path.is_file():
            path.unlink(missing_ok=True)


def _require_cluster(cpus: float, gpus: float) -> None:
    import ray

    nodes, each = nodes_of(ray.nodes()), Resources(cpus, gpus)
    if not fits(nodes, [each]):
        have = "; ".join(map(str, nodes))
        raise InfrastructureError(
            f"building the bank needs a node with {each} for each actor, but the nodes have {have}; ask for less, or add a node"
        )


def _run(
    arguments: tuple[Any, ...],
    resources: dict[str, float],
    max_failures: int,
    jobs: Sequence[_Job],
    num_actors: int,
    progress: Callable[[float, str], None],
    should_stop: Callable[[], bool],
) -> dict[_Job, Shard]:
    """Hand out the jobs one at a time to whichever actor is ready; actors that the cluster has no room for are not waited for."""
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    # A file is written under another name first, so doing a job again after a death does no harm.
    builder = ray.remote(_Builder).options(**resources, max_restarts=max_failures, max_task_retries=max_failures)
    actors = [builder.remote(*arguments) for _ in range(num_actors)]
    waiting: dict[Any, tuple[Any, _Job | None]] = {actor.ready.remote(): (actor, None) for actor in actors}
    # One job at a time: an actor that comes late, or dies, holds nothing up but its own file.
    todo = list(reversed(jobs))
    done: dict[_Job, Shard] = {}
    rows, total = 0, sum(job.rows for job in jobs)
    try:
        while len(done) < len(jobs):
            # What is finished has its note; files that actors are still writing are lost with these, in the `finally` below.
            if should_stop():
                raise Interrupted(f"the bank was stopped with {len(done)} of {len(jobs)} files done, which are kept")
            for reference in ray.wait(list(waiting), timeout=0.5)[0]:
                actor, job = waiting.pop(reference)
                result = ray.get(reference)
                if job is not None:
                    done[job] = result
                    rows += job.rows
                    progress(rows / total, f"{len(done)}/{len(jobs)} files")
                if todo:
                    job = todo.pop()
                    waiting[actor.build.remote(job)] = actor, job
    except RayTaskError as error:
        # Ray wraps what an actor raised; users are shown the error itself.
        if isinstance(error.cause, ZoocastError):
            raise error.cause from None
        raise
    except RayActorError as error:
        raise InfrastructureError(f"an actor that builds the bank died {max_failures + 1} times; last: {error}") from None
    finally:
        for actor in actors:
            # At once, not when Python forgets the handles: actors hold, or still wait for, resources that the next step wants.
            ray.kill(actor)
    return done
