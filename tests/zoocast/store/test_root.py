"""What every sort of root does alike: each test runs on a folder and on an object store, as one machine and as two."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from zoocast.errors import IntegrityError
from zoocast.store.address import address, local, open_root, root_of
from zoocast.store.files import temporary_name
from zoocast.store.root import Root

STEP = "train-0123456789ab"

On = Callable[[str], Root]


@pytest.fixture(params=["folder", "bucket"])
def on(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> On:
    """``on(machine)``: one root, as the machine of that name opens it."""
    text = f"{request.getfixturevalue('store')}/{tmp_path.name}" if request.param == "bucket" else str(tmp_path / "root")

    def open_on(machine: str) -> Root:
        monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path / machine))
        root = open_root(text)
        for folder in ("steps", "locks"):
            (root.folder / folder).mkdir(parents=True, exist_ok=True)
        return root

    return open_on


def partial(root: Root) -> Path:
    return root.folder / "steps" / f"{STEP}.partial"


def begin(root: Root, *files: str) -> Path:
    """Begin the step or go on with it, as a driver does, and leave `files` in its folder."""
    partial(root).mkdir(exist_ok=True)
    root.write_note(partial(root) / "attempt.json", json.dumps({"token": "t", "work": "w"}))
    root.pull(partial(root))
    for file in files:
        (partial(root) / file).parent.mkdir(parents=True, exist_ok=True)
        (partial(root) / file).write_text(file)
    return partial(root)


def finish(root: Root, *files: str) -> None:
    directory = begin(root, *files)
    root.push(directory)
    root.publish(STEP, {"name": "train", "key": STEP[-12:], "inputs": {}, "files": root.checksums(directory)})


def test_a_control_file_is_read_where_it_was_not_written(on: On) -> None:
    writer, reader = on("a"), on("b")
    assert reader.read_note(partial(reader) / "stop") is None
    begin(writer)
    writer.write_note(partial(writer) / "stop", "token")
    assert reader.read_note(partial(reader) / "stop") == "token"
    writer.remove_notes(partial(writer))
    assert reader.read_note(partial(reader) / "stop") is None


def test_another_machine_goes_on_with_what_was_pushed(on: On) -> None:
    first, second = on("a"), on("b")
    first.push(begin(first, "checkpoint", "deep/journal.jsonl"))
    directory = begin(second)
    assert (directory / "checkpoint").read_text() == "checkpoint"
    assert (directory / "deep/journal.jsonl").exists()
    assert not second.know(STEP)


def test_a_published_step_is_known_and_fetched_everywhere_with_its_record(on: On) -> None:
    first, second = on("a"), on("b")
    with pytest.raises(IntegrityError, match=r"has no done\.json"):
        second.fetch(STEP)
    finish(first, "model/weights")
    assert second.know(STEP)
    final = second.fetch(STEP)
    assert (final / "model/weights").read_text() == "model/weights"
    record = json.loads((final / "done.json").read_text())
    assert list(record["files"]) == ["model/weights"]
    assert not partial(first).exists()
    assert {path.name for path in final.iterdir()} == {"done.json", "model"}


def test_what_killed_writers_left_is_no_part_of_a_result(on: On) -> None:
    root = on("a")
    half = temporary_name(begin(root, "deep/whole") / "deep" / "half")
    (half / "removed").mkdir(parents=True)
    temporary_name(half.parent / "file").touch()
    finish(root)
    assert {path.name for path in root.fetch(STEP).rglob("*")} == {"done.json", "deep", "whole"}


def test_a_new_result_replaces_the_old_one_whole(on: On) -> None:
    root = on("a")
    finish(root, "old")
    finish(root, "new")
    assert {path.name for path in root.fetch(STEP).iterdir()} == {"done.json", "new"}
    assert {path.name for path in (root.folder / "steps").iterdir()} == {STEP}


def test_forgotten_work_is_gone_on_every_machine(on: On) -> None:
    first, second = on("a"), on("b")
    first.push(begin(first, "checkpoint"))
    second.forget(STEP)
    second.forget(STEP)  # nothing is left, which is what was asked for
    assert second.read_note(partial(second) / "attempt.json") is None
    assert not partial(second).exists()


def test_a_lock_says_on_every_machine_who_holds_it(on: On) -> None:
    first, second = on("a"), on("b")
    with first.locks("one") as mine, second.locks("two") as theirs:
        assert mine.acquire(first.folder / "locks" / f"{STEP}.lock") is None
        holder = theirs.acquire(second.folder / "locks" / f"{STEP}.lock")
        assert holder is not None
        assert (holder.run, holder.pid) == ("one", os.getpid())
        held = second.holders([STEP, "other-0123456789ab"])
        assert {step: holder.run for step, holder in held.items()} == {STEP: "one"}
    assert second.holders([STEP]) == {}


def test_a_shared_file_reaches_the_machines_that_gather_it(on: On) -> None:
    first, second = on("a"), on("b")
    for root, run in ((first, "x"), (second, "y")):
        path = root.folder / "runs" / run / "run.json"
        path.parent.mkdir(parents=True)
        root.write_shared(path, run)
    second.gather(second.folder / "runs")
    assert [path.read_text() for path in sorted(second.folder.glob("runs/*/run.json"))] == ["x", "y"]


def test_an_address_leads_to_the_file_on_every_machine(on: On) -> None:
    first, second = on("a"), on("b")
    finish(first, "report.html")
    known = address(first.folder / "steps" / STEP / "report.html")
    for path in (second.local(known), local(known)):
        assert path.read_text() == "report.html"
        assert path.is_relative_to(second.folder)
    with pytest.raises(IntegrityError, match="outside of itself"):
        second.local("/etc/passwd")


def test_wanted_files_come_with_those_which_they_name(on: On) -> None:
    first, second = on("a"), on("b")
    directory = begin(first, "picture", "bank")
    (directory / "journal.jsonl").write_text("picture")
    first.push(directory)
    second.pull_with_named(
        partial(second), lambda file: file == "journal.jsonl", lambda found: found["journal.jsonl"].decode().__eq__
    )
    assert {"journal.jsonl", "picture"} <= {path.name for path in partial(second).iterdir()}


def test_the_root_of_whatever_lies_in_it_is_found(on: On) -> None:
    root = on("a")
    assert root_of(partial(root) / "checkpoints" / "1") == root
    assert open_root(root.folder) == root
    assert root.here() == root
