"""`pipelines cache`: what lies under the root and who uses it, whether it is still whole, and the removal of what nobody uses.

A folder is in use as long as the record of a run (`run.json`) names it or a step that was made from it.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoocast.cli.catalogue import DEFAULT_PRESET, configure, load
from zoocast.cli.options import RUNS, AsJson, Command, Commands, Overrides, Preset, Root, examples
from zoocast.errors import ConfigError, IntegrityError, did_you_mean
from zoocast.store.address import address, open_root
from zoocast.store.files import human_bytes
from zoocast.store.folder import FolderRoot
from zoocast.words import duration, moment

if TYPE_CHECKING:
    from zoocast.cli.runs import RunRecord
    from zoocast.dag import PlannedStep
    from zoocast.dag.cache import Cache, Folder

__all__ = ["app"]

DAY = 86400.0

app = typer.Typer(
    cls=Commands,
    epilog=examples("pipelines cache ls", "pipelines cache explain 'bank.*'", "pipelines cache verify", "pipelines cache gc"),
    rich_markup_mode="rich",
)
Yes = Annotated[bool, typer.Option("--yes", help="do it; else it is only shown what would be done")]


@app.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """What is kept under the root: who uses it, is it whole, what may go."""
    if context.invoked_subcommand is None:
        print(context.get_help())


# --------------------------------------------------------------------------------------------------------------------- listing


@app.command("ls", cls=Command, epilog=examples("pipelines cache ls", "pipelines cache ls --root /data/runs --json"))
def list_(root: Root = RUNS, as_json: AsJson = False) -> None:
    """Every step's folder, the largest first: size, age, the runs and steps that use it; and what killed processes left."""
    from zoocast.cli.console import print_table
    from zoocast.cli.views import print_json
    from zoocast.dag.cache import garbage

    found = _survey(root)
    # Whole folders that no run uses are in the table already; these are temporary files and half-removed folders.
    left = [item for item in garbage(found) if not item.unused]
    if as_json:
        print_json(
            {
                "root": str(found.root),
                "bytes": found.bytes,
                "folders": [_facts(folder) for folder in found.folders],
                "leftovers": [{"path": str(item.path), "why": item.why, "bytes": item.bytes} for item in left],
            }
        )
        return
    rows = [
        [f.path.name, f.state, human_bytes(f.bytes), _age(f.modified), _several(f.runs), len(f.needed_by) or ""]
        for f in found.folders
    ]
    print_table(["folder", "state", "size", "age", "runs", "steps made from it"], rows)
    if left:
        print()
        print_table(["left behind", "size", "what it is"], [[_under(root, i.path), human_bytes(i.bytes), i.why] for i in left])
    unused = sum(not folder.runs for folder in found.folders)
    print(
        f"{human_bytes(found.bytes)} in {len(found.folders)} folders, {unused} of which no run refers to"
        + (f"; {len(left)} leftovers" if left else ""),
        file=sys.stderr,
    )


def _survey(root: Path, *, strict: bool = False) -> Cache:
    from zoocast.dag.cache import survey

    return survey(root, _runs(root, strict=strict))


def _runs(root: Path, *, strict: bool = False) -> dict[str, set[str]]:
    """For each run the folders that it stands on; of one with a damaged record, a line on stderr.

    Raises:
        ConfigError: there is no root, or it is an object store.
        IntegrityError: a record is damaged, and `strict` says that no run may be left out.
    """
    from zoocast.cli.runs import read_all, require_root, survey

    if not isinstance(open_root(root), FolderRoot):
        raise ConfigError(
            "--root",
            f"{address(root)} is an object store, whose copies on a machine make room by themselves (ZOOCAST_CACHE_GB) and are"
            " checked when they come; `pipelines cache` looks after folders",
        )
    require_root(root)
    # Nobody knows what a run whose record cannot be read stands on.
    if strict and (damaged := survey(root)[1]):
        raise damaged[0]
    return {record.run: {*record.needs, *(f"{s['name']}-{s['key']}" for s in record.steps)} for record in read_all(root)}


def _facts(folder: Folder) -> dict[str, Any]:
    """A folder as JSON; its record is `done.json` there."""
    return {
        "folder": folder.path.name,
        "step": folder.name,
        "state": folder.state,
        "bytes": folder.bytes,
        "modified": folder.modified,
        "runs": list(folder.runs),
        "needed_by": list(folder.needed_by),
    }


def _age(since: float) -> str:
    seconds = time.time() - since
    for length, unit in ((DAY, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "now"


def _several(names: Sequence[str]) -> str:
    return "" if not names else names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _under(root: Path, path: Path) -> str:
    return str(path.relative_to(root.absolute()))


def _matching(found: Cache, patterns: Iterable[str]) -> list[Folder]:
    """The folders that any of `patterns` names: a step, its NAME-KEY, or its folder. All when there are none."""
    patterns = list(patterns)
    if not patterns:
        return list(found.folders)
    return [f for f in found.folders if any(fnmatch.fnmatchcase(n, p) for n in (f.name, f.step, f.path.name) for p in patterns)]


def _require(matching: Sequence[object], found: Cache, patterns: Iterable[str]) -> None:
    if not matching:
        named = " ".join(patterns)
        near = did_you_mean(named, dict.fromkeys(f.name for f in found.folders))
        raise ConfigError("STEP", f"no folder under {found.root} is called {named!r}; {near}`pipelines cache ls` lists them")


# ------------------------------------------------------------------------------------------------------------------ explaining


@app.command(
    cls=Command,
    epilog=examples(
        "pipelines cache explain 'bank.*'",
        "pipelines cache explain 'target.tmu.*' --for zoo-to-target --preset smoke -S target.training.learning_rate=3e-4",
    ),
)
def explain(
    step: Annotated[str, typer.Argument(metavar="STEP", help="a step, its NAME-KEY, or its folder (`*` matches)")],
    pipeline: Annotated[
        str | None, typer.Option("--for", metavar="NAME", help="a pipeline: would it run the step again, and why")
    ] = None,
    preset: Preset = DEFAULT_PRESET,
    overrides: Overrides = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """What made a step's folder, from what, and who uses it; with --for why a pipeline would make it again."""
    from zoocast.cli.views import print_json

    found = _survey(root)
    folders = _matching(found, [step])
    planned = _planned(step, pipeline, preset or DEFAULT_PRESET, overrides or (), root) if pipeline else []
    _require([*folders, *planned], found, [step])
    if as_json:
        records = [dict(_facts(f), record=dataclasses.asdict(f.record) if f.record else None) for f in folders]
        print_json({"folders": records, "plan": [p.to_json() for p in planned]})
        return
    for folder in folders:
        print("\n".join(_explanation(folder)))
    for the_step in planned:
        words = {"done": "is done", "resume": "would go on", "running": "is in the hands of another run", "blocked": "is blocked"}
        print(f"{the_step.step.folder} in {pipeline}: {words.get(the_step.state, 'would run')}")
        for why in the_step.why:
            print(f"  {why}")


def _planned(step: str, pipeline: str, preset: str, overrides: Sequence[str], root: Path) -> list[PlannedStep]:
    from zoocast.dag import plan

    configured = configure(load(pipeline), preset, overrides)
    steps = plan(configured.steps, root.absolute()).steps
    return [p for p in steps if any(fnmatch.fnmatchcase(name, step) for name in (p.step.name, p.step.folder))]


def _explanation(folder: Folder) -> Iterator[str]:
    def line(name: str, value: str) -> str:
        return f"  {name:<10} {value}"

    yield f"{folder.path.name}: {folder.state}, {human_bytes(folder.bytes)}, last written {moment(folder.modified)}"
    yield line("folder", str(folder.path))
    record = folder.record
    if record is not None:
        yield line("kind", f"{record.kind}, version {record.version}")
        yield line("took", f"{duration(record.seconds)} on {record.host}, until {moment(record.finished)}, for run {record.run}")
        yield line("with", ", ".join(f"{name} {version}" for name, version in record.versions.items()))
        yield line("files", f"{len(record.files)}, {human_bytes(sum(f.bytes for f in record.files.values()))}")
        for name, (parent, key) in record.inputs.items():
            yield line("input", f"{parent}-{key}" + (f" as {name}" if name != parent else ""))
        if record.salt:
            yield line("data", record.salt)
        for path, value in _leaves(record.config):
            yield line("setting", f"{path} = {json.dumps(value)}" if path else json.dumps(value))
    yield line("runs", ", ".join(folder.runs) or "none refers to it: `pipelines cache gc` removes it")
    yield line("made of it", ", ".join(folder.needed_by) or "no other step")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The single settings of a config in its canonical form."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            if name != "__type__":
                yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{number}" if path else str(number))
    else:
        yield path, value


# ------------------------------------------------------------------------------------------------------------------- verifying


@app.command(cls=Command, epilog=examples("pipelines cache verify", "pipelines cache verify 'bank.*' 'data.*' --json"))
def verify(
    steps: Annotated[
        list[str] | None, typer.Argument(metavar="[STEP]...", help="only these: steps, NAME-KEYs or folders (`*` matches)")
    ] = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> int:
    """Compare every byte of results and checkpoints with their checksums. Exit code 5 if anything is damaged."""
    from zoocast.cli.runs import read_all
    from zoocast.cli.views import print_json

    found = _survey(root)
    folders = [f for f in _matching(found, steps or ()) if f.state in ("finished", "unfinished", "damaged")]
    if steps:
        _require(folders, found, steps)
    resumes = {record.run: record for record in read_all(root)}
    damaged = []
    for number, folder in enumerate(folders, start=1):
        problems = _checkpoint_damage(folder) if folder.state == "unfinished" else _step_damage(folder)
        verdict = "DAMAGED" if problems else "whole"
        # As each is read: large banks take minutes, and stdout is kept for the verdict.
        print(f"{number}/{len(folders)}  {folder.path.name}  {human_bytes(folder.bytes)}  {verdict}", file=sys.stderr, flush=True)
        if problems:
            remedy = _remedy(folder, resumes[folder.runs[0]] if folder.runs else None)
            damaged.append({"folder": str(folder.path), "problems": problems, "remedy": remedy})
    if as_json:
        print_json({"verified": len(folders), "bytes": sum(f.bytes for f in folders), "damaged": damaged})
    for item in damaged if not as_json else ():
        print(f"{item['folder']}")
        for problem in item["problems"]:
            print(f"  {problem}")
        print(f"  remedy: {item['remedy']}")
    print(f"{len(folders)} folders read, {len(damaged)} damaged", file=sys.stderr)
    return IntegrityError.exit_code if damaged else 0


def _step_damage(folder: Folder) -> list[str]:
    from zoocast.dag.cache import damage

    return damage(folder.path)


def _checkpoint_damage(folder: Folder) -> list[str]:
    """What is wrong with the checkpoints of a step that is not finished; nothing else in it is read again."""
    # As training finds them: `state.json` is written last, and what lacks it is no checkpoint.
    states = sorted(folder.path.glob("**/checkpoints/[0-9]*/state.json"))
    if not states:
        return []
    from zoocast.training.checkpoint import read_checked  # imports torch

    problems = []
    for state in states:
        try:
            read_checked(state.parent)
        except IntegrityError as error:
            problems.append(str(error))
    return problems


def _remedy(folder: Folder, run: RunRecord | None) -> str:
    if run is None:
        return "no run refers to it: pipelines cache gc --yes"
    if folder.state == "finished":
        return f"{run.resume} --force {folder.name}"
    return f"remove {'that checkpoint' if folder.state == 'unfinished' else 'the folder'}, then: {run.resume}"


# ------------------------------------------------------------------------------------------------------------------- repairing


@app.command(cls=Command, epilog=examples("pipelines cache repair --root /data/moved"))
def repair(root: Root = RUNS) -> None:
    """After a root was moved or copied: write down where it is now, which every command works out for itself until then."""
    from zoocast.cli.runs import path_of, read_all
    from zoocast.tracking.backend import relocate

    _runs(root)  # raises for what is no folder with runs
    for record in read_all(root):
        path = path_of(root, record.run)
        before = path.read_text(encoding="utf-8")
        # One that is going on, here or elsewhere, is written by its own process.
        if record.state() not in ("running", "unknown"):
            record.write(root)
        print(f"{path}: {'was right' if path.read_text(encoding='utf-8') == before else 'names its places in the root anew'}")
    relocate(root)  # says itself what it does
    print("MLflow's store under the root names its files by where they are")


# -------------------------------------------------------------------------------------------------------------------- removing


@app.command(
    cls=Command,
    epilog=examples(
        "pipelines cache gc                      what would go, and how much that is",
        "pipelines cache gc --older-than 30 --yes",
    ),
)
def gc(
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="DAYS", min=0, help="keep what was written in the last DAYS days")
    ] = 0.0,
    yes: Yes = False,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Remove steps that no run refers to, and what killed processes left; nothing that is in use or being worked on."""
    from zoocast.cli.console import print_table
    from zoocast.cli.views import print_json
    from zoocast.dag.cache import garbage, remove

    found = _survey(root, strict=True)
    items = garbage(found, older_than=older_than * DAY)
    # The runs as a function: they are read again after a folder is hidden, for a run may have begun meanwhile.
    kept = remove(found.root, items, lambda: _runs(root, strict=True), lambda text: print(text, file=sys.stderr)) if yes else {}
    gone = [item for item in items if item.path not in kept]
    size = sum(item.bytes for item in gone)
    if as_json:
        listed = [{"path": str(i.path), "why": i.why, "bytes": i.bytes, "kept": kept.get(i.path)} for i in items]
        print_json({"root": str(found.root), "removed": yes, "bytes": size, "items": listed})
    elif items:
        rows = [[_under(root, i.path), human_bytes(i.bytes), f"kept: {kept[i.path]}" if i.path in kept else i.why] for i in items]
        print_table(["what", "size", "why"], rows)
    many = f"{len(gone)} thing{'s' if len(gone) != 1 else ''}, {human_bytes(size)}"
    outcome = "removed" if yes else "would be removed; --yes does it"
    print(f"{many}, {outcome}" if items else "nothing to remove", file=sys.stderr)


@app.command(cls=Command, epilog=examples("pipelines cache forget zoo-to-target-0123abcd --yes", "pipelines cache gc --yes"))
def forget(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a run from `pipelines status`")], yes: Yes = False, root: Root = RUNS
) -> None:
    """Forget a run, so that `gc` may remove its steps. What MLflow has of it stays there."""
    from zoocast.cli.runs import find, forget
    from zoocast.tracking.outbox import Outbox

    record = find(root, run)
    # `find` takes a pipeline's name for its latest run; what is forgotten must be named in full.
    if record.run != run:
        raise ConfigError("RUN", f"must be the whole name of one run, but got {run!r}; did you mean {record.run}?")
    users = _runs(root)
    alone = [step for step in users[run] if not any(step in steps for other, steps in users.items() if other != run)]
    outbox = Outbox.load(root, run)
    if outbox is not None and not outbox.is_complete(outbox.store):
        print("MLflow does not know all of this run yet; `pipelines sync` sends it", file=sys.stderr)
    if yes:
        if outbox is not None:
            outbox.forget()
        forget(root, record)
    outcome = "was forgotten; `pipelines cache gc` shows what may go now" if yes else "would be forgotten; --yes does it"
    print(f"{run} {outcome}; no other run refers to {len(alone)} of its {len(users[run])} steps", file=sys.stderr)
