"""Care of the root: who uses what, whether it is whole, and what goes when nobody uses it."""

import dataclasses
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoocast.dag import Step, StepContext, plan
from zoocast.dag.cache import Garbage, damage, garbage, remove, survey
from zoocast.dag.records import Record, final_path, lock_path, partial_path, publish_step, read_record
from zoocast.errors import IntegrityError
from zoocast.store.files import list_files
from zoocast.store.locks import Locks

TRASH = "0" * 32


def work(_context: StepContext) -> dict[str, Any]:
    return {}


DATA = Step("data", work, {"frames": 20})
BANK = Step("bank", work, {"width": 8}, inputs={"data": DATA})
REPORT = Step("report", work, inputs={"bank": BANK})
OTHER = Step("other", work)


def finish(root: Path, *steps: Step) -> None:
    """Make steps done, as a run would, each with a file of 1000 bytes in a folder."""
    for step in steps:
        partial = partial_path(root, step)
        (partial / "shards").mkdir(parents=True)
        (partial / "shards" / "0.arrow").write_bytes(random.Random(step.key).randbytes(1000))
        (partial / "journal.jsonl").write_text('{"kind":"journal"}\n')
        now = time.time()
        files = list_files(partial)
        publish_step(root, step, Record.of(step, {}, started=now - 2, finished=now, host="h", run="r", files=files))


def paths(items: list[Garbage]) -> list[Path]:
    return sorted(item.path for item in items)


def gone(root: Path, runs: dict[str, set[str]]) -> dict[Path, str]:
    """Remove all that may go; returns what was kept."""
    return remove(root, garbage(survey(root, runs)), lambda: runs, report=lambda _text: None)


def aged(path: Path) -> Path:
    """`path`, made, as if it was written an hour ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("half a")
    os.utime(path, (time.time() - 3600,) * 2)
    return path


# -------------------------------------------------------------------------------------------------------------------- who uses


def test_a_run_uses_the_steps_that_it_names_and_those_they_were_made_from(tmp_path: Path) -> None:
    finish(tmp_path, DATA, BANK, REPORT, OTHER)
    found = {folder.name: folder for folder in survey(tmp_path, {"run": {BANK.folder}}).folders}
    assert {name: folder.runs for name, folder in found.items()} == {
        "data": ("run",),
        "bank": ("run",),
        "report": (),
        "other": (),
    }
    assert (found["data"].needed_by, found["report"].needed_by) == ((BANK.folder,), ())
    on_disk = sum(path.stat().st_size for path in final_path(tmp_path, DATA).rglob("*") if path.is_file())
    assert found["data"].bytes == on_disk > 1000


def test_a_survey_of_an_empty_root_finds_nothing(tmp_path: Path) -> None:
    found = survey(tmp_path / "not-there", {})
    assert (found.folders, found.bytes, garbage(found)) == ((), 0, [])
    assert not (tmp_path / "not-there").exists()


# ------------------------------------------------------------------------------------------------------------------ is it whole


def test_every_flipped_bit_of_a_result_is_found(tmp_path: Path) -> None:
    finish(tmp_path, BANK)
    folder, dice = final_path(tmp_path, BANK), random.Random(0)
    assert damage(folder) == []
    for path in (folder / "shards" / "0.arrow", folder / "done.json"):
        whole = path.read_bytes()
        for _ in range(50):
            flipped = bytearray(whole)
            flipped[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
            path.write_bytes(flipped)
            assert damage(folder), flipped
        path.write_bytes(whole)
    assert damage(folder) == []


def _rename(folder: Path) -> None:
    folder.rename(folder.with_name(OTHER.folder))


def _link(folder: Path) -> None:
    """The same bytes, but they lie elsewhere."""
    (folder / "shards" / "0.arrow").rename(folder.parent / "elsewhere")
    (folder / "shards" / "0.arrow").symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda folder: (folder / "shards" / "0.arrow").unlink(), "shards/0.arrow is missing"),
        (lambda folder: (folder / "shards" / "0.arrow").write_bytes(b""), "shards/0.arrow has 0 bytes instead of 1000"),
        (_link, "shards/0.arrow leads outside of the step's folder"),
        (lambda folder: (folder / "journal.jsonl").write_text("{}"), "journal.jsonl has 2 bytes instead of 19"),
        (lambda folder: (folder / "done.json").write_text("{}"), "cannot be used"),
        (_rename, f"it is the record of {BANK.folder}"),
    ],
    ids=["missing", "truncated", "linked", "cut journal", "no record", "exchanged"],
)
def test_verification_names_the_damaged_file_and_what_is_wrong_with_it(
    tmp_path: Path, harm: Callable[[Path], Any], problem: str
) -> None:
    finish(tmp_path, BANK)
    harm(final_path(tmp_path, BANK))
    (folder,) = survey(tmp_path, {}).folders
    (found,) = damage(folder.path)
    assert problem in found


def test_a_journal_that_grew_after_its_step_finished_is_no_damage(tmp_path: Path) -> None:
    finish(tmp_path, BANK)
    with (final_path(tmp_path, BANK) / "journal.jsonl").open("a") as file:
        file.write("late words of a worker whose driver was killed\n")
    assert damage(final_path(tmp_path, BANK)) == []


def test_a_record_that_was_edited_is_refused(tmp_path: Path) -> None:
    finish(tmp_path, BANK)
    path = final_path(tmp_path, BANK) / "done.json"
    path.write_text(path.read_text().replace('"host": "h"', '"host": "i"'))
    with pytest.raises(IntegrityError, match="does not match its own digest"):
        read_record(path.parent)


# ------------------------------------------------------------------------------------------------------------------ what may go


def test_gc_removes_only_what_no_run_refers_to(tmp_path: Path) -> None:
    finish(tmp_path, DATA, BANK, REPORT, OTHER)
    used = {name: read_record(final_path(tmp_path, step)) for name, step in (("data", DATA), ("bank", BANK))}
    runs = {"run": {BANK.folder}}
    assert garbage(survey(tmp_path, runs), older_than=60) == []
    listed = garbage(survey(tmp_path, runs))
    assert paths(listed) == [final_path(tmp_path, OTHER), final_path(tmp_path, REPORT)]
    assert all(item.bytes > 1000 for item in listed)
    assert gone(tmp_path, runs) == {}
    assert sorted(path.name for path in (tmp_path / "steps").iterdir()) == [BANK.folder, DATA.folder]
    assert used == {name: read_record(final_path(tmp_path, step)) for name, step in (("data", DATA), ("bank", BANK))}
    assert list((tmp_path / "locks").glob("*.lock")) == []


def test_gc_removes_what_killed_processes_left_and_nothing_else(tmp_path: Path) -> None:
    finish(tmp_path, DATA, BANK)
    kept = partial_path(tmp_path, REPORT)
    kept.mkdir()
    (kept / "checkpoint").write_text("a week of work")
    steps = tmp_path / "steps"
    rubble = [
        aged(steps / f"{DATA.folder}.replaced" / "done.json").parent,
        aged(steps / f".{OTHER.folder}.{TRASH}" / "done.json").parent,
        aged(partial_path(tmp_path, BANK) / "checkpoint").parent,
        aged(final_path(tmp_path, DATA) / "shards" / f".0.arrow.{TRASH}"),
        aged(kept / "checkpoints" / f".00000010.{TRASH}" / "state.safetensors").parent,
        aged(tmp_path / "runs" / "run" / f".run.json.{TRASH}"),
        aged(tmp_path / "delivery" / f".run.json.{TRASH}"),
        tmp_path / "locks" / f"{DATA.folder}.lock",
    ]
    dead = dataclasses.replace(Locks("dead").me, pid=2**22 + 1)
    (tmp_path / "locks").mkdir()
    locks = Locks("dead")
    locks.me = dead
    locks.acquire(rubble[-1])
    innocent = [
        aged(steps / "notes.txt"),
        aged(steps / "my-folder" / f".x.{TRASH}"),
        aged(tmp_path / "runs" / "run" / "run.json"),
        final_path(tmp_path, DATA) / "shards" / "0.arrow",
    ]
    fresh = tmp_path / "runs" / "run" / f".new.{TRASH}"
    fresh.write_text("is being written")
    runs = {"run": {REPORT.folder, BANK.folder}}
    assert paths(garbage(survey(tmp_path, runs))) == sorted(rubble)
    assert gone(tmp_path, runs) == {}
    assert [path for path in rubble if path.exists()] == []
    assert all(path.exists() for path in (*innocent, fresh, kept / "checkpoint"))
    assert damage(final_path(tmp_path, DATA)) == []


# ---------------------------------------------------------------------------------------------------------- beside living drivers


def test_gc_keeps_what_a_driver_works_on(tmp_path: Path) -> None:
    partial_path(tmp_path, DATA).mkdir(parents=True)
    (tmp_path / "locks").mkdir()
    with Locks("at-work") as locks:
        assert locks.acquire(lock_path(tmp_path, DATA)) is None
        kept = gone(tmp_path, {})
    assert list(kept) == [partial_path(tmp_path, DATA)]
    assert kept[partial_path(tmp_path, DATA)].startswith("in the hands of run at-work of ")
    assert partial_path(tmp_path, DATA).exists()
    assert gone(tmp_path, {}) == {}
    assert not partial_path(tmp_path, DATA).exists()


def test_gc_watches_a_lock_of_another_machine_before_it_takes_its_holder_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("dag.cache", "store.locks"):
        monkeypatch.setattr(f"zoocast.{module}.STALE_SECONDS", 0.1)
    finish(tmp_path, DATA)
    (tmp_path / "locks").mkdir()
    elsewhere = Locks("elsewhere")
    elsewhere.me = dataclasses.replace(elsewhere.me, machine="another one")
    lock = lock_path(tmp_path, DATA)
    elsewhere.acquire(lock)
    os.utime(lock, (time.time() - 3600,) * 2)  # a clock that is wrong by an hour, or a machine that is gone
    reported: list[str] = []

    def report(text: str) -> None:
        reported.append(text)
        os.utime(lock, (time.time() - 3599,) * 2)  # it lives

    items = garbage(survey(tmp_path, {}))
    assert list(remove(tmp_path, items, dict, report)) == [final_path(tmp_path, DATA)]
    assert reported == [f"waiting 0 s to see whether anybody still works on {DATA.folder}"]
    assert remove(tmp_path, items, dict, reported.append) == {}
    assert not final_path(tmp_path, DATA).exists()


def test_gc_puts_a_step_back_when_a_run_that_needs_it_begins_meanwhile(tmp_path: Path) -> None:
    finish(tmp_path, DATA)
    before = read_record(final_path(tmp_path, DATA))
    items = garbage(survey(tmp_path, {}))
    seen = []

    def begin_a_run() -> dict[str, set[str]]:
        """Another driver writes its run.json, then looks what is there, in the worst moment."""
        seen.append(plan([DATA], tmp_path).steps[0].state)
        with Locks("driver") as locks:
            holder = locks.acquire(lock_path(tmp_path, DATA))
        seen.append(holder.run if holder else None)
        return {"begun": {DATA.folder}}

    kept = remove(tmp_path, items, begin_a_run, report=lambda _text: None)
    # It finds the step gone, but in the hands of gc: it waits, and then finds it done.
    assert seen == ["running", "cache gc"]
    assert kept == {final_path(tmp_path, DATA): "run begun refers to it by now"}
    assert plan([DATA], tmp_path).steps[0].state == "done"
    assert read_record(final_path(tmp_path, DATA)) == before


def test_gc_keeps_a_step_when_a_run_that_may_refer_to_it_cannot_be_read(tmp_path: Path) -> None:
    finish(tmp_path, DATA)

    def damaged_run() -> dict[str, set[str]]:
        raise IntegrityError("run.json is not a record of a run")

    with pytest.raises(IntegrityError, match=r"run\.json"):
        remove(tmp_path, garbage(survey(tmp_path, {})), damaged_run, report=lambda _text: None)
    assert damage(final_path(tmp_path, DATA)) == []
    assert list((tmp_path / "locks").glob("*.lock")) == []
