"""A finished step is believed when its record is its own and its files are those that it lists, as far as a quick look tells."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from zoocast.errors import IntegrityError
from zoocast.store.files import list_files
from zoocast.store.recorded import SMALL_BYTES, check_file, check_step
from zoocast.store.sealed import write_sealed

KEY, OTHER = "0123456789ab", "ba9876543210"


def finish(root: Path, name: str = "evaluate.tmu", key: str = KEY, scores: str = "0.1025") -> Path:
    folder = root / "steps" / f"{name}-{key}"
    (folder / "model").mkdir(parents=True)
    (folder / "scores.json").write_text(scores)
    (folder / "journal.jsonl").write_text('{"loss": 1}\n')
    (folder / "model" / "weights").write_bytes(b"w" * (SMALL_BYTES + 1))
    write_sealed(folder / "done.json", {"name": name, "key": key, "inputs": {}, "files": list_files(folder)})
    return folder


def exchange(one: Path, other: Path) -> None:
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)


def write_later(path: Path, content: bytes) -> None:
    """As an editor does, some time after the step finished."""
    path.write_bytes(content)
    later = (path.parents[1] / "done.json").stat().st_mtime_ns + 1
    os.utime(path, ns=(later, later))


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda folder, _: (folder / "scores.json").write_text("0.1024"), "scores.json was altered"),
        (lambda folder, _: (folder / "scores.json").unlink(), "scores.json is missing"),
        (lambda folder, other: exchange(folder / "scores.json", other / "scores.json"), "scores.json was altered"),
        (lambda folder, other: exchange(folder / "model", other / "scores.json"), "weights cannot be read"),
        (lambda folder, _: (folder / "journal.jsonl").write_text('{"loss": 2}\n{}\n'), "journal.jsonl was altered"),
        (lambda folder, _: (folder / "model" / "weights").write_bytes(b"w"), "weights has 1 bytes instead of 1048577"),
        (lambda folder, _: write_later(folder / "model" / "weights", b"v" * (SMALL_BYTES + 1)), "weights was altered"),
        (lambda folder, other: shutil.copy(other / "done.json", folder), f"it is the record of rank-{OTHER}"),
        (lambda folder, other: exchange(folder, other), f"it is the record of rank-{OTHER}"),
        (lambda folder, _: (folder / "done.json").write_text("{}"), "it is no JSON object with a digest"),
    ],
)
def test_a_step_that_is_not_what_was_finished_is_refused(
    tmp_path: Path, harm: Callable[[Path, Path], object], problem: str
) -> None:
    folder, other = finish(tmp_path), finish(tmp_path, "rank", OTHER, "0.2025")
    check_step(folder)
    harm(folder, other)
    with pytest.raises(IntegrityError, match=f"{problem}.*: run again with --force evaluate.tmu, or remove {folder} and"):
        check_step(folder)


def test_a_large_file_that_was_written_before_the_record_is_not_read(tmp_path: Path) -> None:
    weights = finish(tmp_path) / "model" / "weights"
    before = weights.stat().st_mtime_ns
    weights.write_bytes(b"v" * (SMALL_BYTES + 1))
    os.utime(weights, ns=(before, before))
    check_step(weights.parents[1])
    with pytest.raises(IntegrityError, match="weights was altered"):  # but by whoever uses it
        check_file(weights)


def test_what_a_late_worker_appended_to_a_journal_is_no_damage(tmp_path: Path) -> None:
    folder = finish(tmp_path)
    with (folder / "journal.jsonl").open("a") as file:
        file.write("{}\n")
    check_step(folder)


def test_of_a_copy_some_files_may_not_have_come_yet(tmp_path: Path) -> None:
    folder = finish(tmp_path)
    (folder / "scores.json").unlink()
    check_step(folder, whole=False)


def test_a_file_is_read_when_it_is_that_of_its_finished_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finish(tmp_path)
    monkeypatch.chdir(folder)
    for path in (folder / "scores.json", Path("scores.json"), folder / "not-there", tmp_path / "elsewhere"):
        assert check_file(path) == path
    (folder / "gates.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"gates\.json is no file of its finished step"):
        check_file(folder / "gates.json")
    Path("scores.json").write_text("0.1024")
    with pytest.raises(IntegrityError, match=r"scores\.json was altered: its SHA-256 is another one"):
        check_file(Path("scores.json"))


def test_a_copy_of_a_result_under_a_name_of_its_own_is_its_owners(tmp_path: Path) -> None:
    mine = Path(shutil.copytree(finish(tmp_path), tmp_path / "mine"))
    check_step(mine)
    (mine / "scores.json").write_text("0.1024")
    assert check_file(mine / "scores.json").exists()
