"""A disk that is full at any write: the error is ours and names the place, nothing half-written counts, and the work goes on."""

from __future__ import annotations

import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.disk import disk
from tests.faults.training import attempt, contents, made, pipeline
from tests.zoocast.test_arrow import make_layout, reader, write_tensors
from zoocast.cli.runs import RunRecord, path_of
from zoocast.cli.runs import read as read_run
from zoocast.dag import Step
from zoocast.dag.records import final_path, read_record
from zoocast.errors import InfrastructureError, IntegrityError
from zoocast.tracking.outbox import Outbox, Stream

CLIPS, MODEL = pipeline(iterations=1, every=1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with clips and a model, made without any fault."""
    return made(tmp_path_factory.mktemp("undisturbed"), CLIPS, MODEL)


def fresh(root: Path, undisturbed: Path, step: Step) -> Path:
    """A root in which `step` is still to be done."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "steps").mkdir(parents=True)
    for parent in step.inputs.values():
        (root / "steps" / parent.folder).symlink_to(final_path(undisturbed, parent))
    return root


@pytest.mark.parametrize("step", [CLIPS, MODEL], ids=lambda step: step.name)
def test_a_step_survives_a_full_disk_at_every_write(tmp_path: Path, undisturbed: Path, step: Step) -> None:
    root, failed = tmp_path / "root", 0
    while True:
        fresh(root, undisturbed, step)
        with disk(fails_at=failed + 1) as it:
            error = attempt(root, step)
        if not it.failed:
            break
        failed += 1
        if error is not None:
            assert isinstance(error, InfrastructureError), (it.operations[failed - 1], error)
            assert re.search(rf"cannot .*{root}.*(No space left on device|the disk took)", str(error)), error
        else:  # work goes on without a note of how far it is
            assert "progress.json" in it.operations[failed - 1]
        if final_path(root, step).exists():  # the very last flush failed
            assert read_record(final_path(root, step)).key == step.key
        assert not list((root / "locks").glob("*.lock"))
        with disk():
            assert final_path(root, step).exists() or attempt(root, step) is None
        assert contents(final_path(root, step)) == contents(final_path(undisturbed, step)), it.operations[failed - 1]
    assert failed > 20


@pytest.mark.parametrize("step", [CLIPS, MODEL], ids=lambda step: step.name)
def test_a_step_survives_files_that_cannot_grow(tmp_path: Path, undisturbed: Path, step: Step) -> None:
    """What libraries write by themselves (Arrow, safetensors) meets a limit of the system instead."""
    sizes = sorted({p.stat().st_size for p in final_path(undisturbed, step).rglob("*") if p.is_file()})
    for limit in {0, *(size - 1 for size in sizes if size > 1)}:
        fresh(tmp_path / "root", undisturbed, step)
        error = limited(limit, lambda: attempt(tmp_path / "root", step))
        assert isinstance(error, InfrastructureError)
        assert str(tmp_path / "root") in str(error)
        assert not final_path(tmp_path / "root", step).exists()
        assert attempt(tmp_path / "root", step) is None
        assert contents(final_path(tmp_path / "root", step)) == contents(final_path(undisturbed, step))


def limited(size: int, work: Callable[[], Any]) -> Any:
    """What `work` returns while no file may grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        return work()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_bank_survives_a_full_disk(tmp_path: Path) -> None:
    write_tensors(tmp_path / "whole", make_layout())
    expected = contents(tmp_path / "whole")
    sizes = [p.stat().st_size for p in (tmp_path / "whole").iterdir()]
    torn = [lambda size=size: limited(size - 1, lambda: write_tensors(tmp_path / "torn", make_layout())) for size in (1, *sizes)]
    with disk() as it:
        write_tensors(tmp_path / "counted", make_layout())
    for n in range(1, len(it.operations) + 1):

        def failing(n: int = n) -> None:
            with disk(fails_at=n):
                write_tensors(tmp_path / "torn", make_layout())

        torn.append(failing)
    for fault in torn:
        shutil.rmtree(tmp_path / "torn", ignore_errors=True)
        with pytest.raises((InfrastructureError, OSError)):
            fault()
        assert not list((tmp_path / "torn").glob(".*"))
        try:
            reader(tmp_path / "torn")
        except IntegrityError:
            pass
        else:  # the flush behind the very last rename failed
            assert contents(tmp_path / "torn") == expected
        write_tensors(tmp_path / "torn", make_layout())
        assert contents(tmp_path / "torn") == expected


def test_what_the_driver_keeps_survives_a_full_disk_at_every_write(tmp_path: Path) -> None:
    def write_all(root: Path) -> None:
        run = RunRecord("toy-1", "toy", "smoke", [], {}, [], "", "", started=1.0)
        run.write(root)
        outbox = Outbox(root, "toy-1", "toy", "store", streams=[])
        outbox.put(Stream("step", "aaa", "steps/step-aaa", {}))
        outbox.mark("store", complete=False)

    with disk() as it:
        write_all(tmp_path / "counted")
    for n in range(1, len(it.operations) + 1):
        root = tmp_path / str(n)
        with disk(fails_at=n), pytest.raises(InfrastructureError, match=r"cannot write .*No space left"):
            write_all(root)
        assert not path_of(root, "toy-1").exists() or read_run(path_of(root, "toy-1")).run == "toy-1"
        write_all(root)
        assert read_run(path_of(root, "toy-1")).run == "toy-1"
        assert [stream.key for stream in (Outbox.load(root, "toy-1") or Outbox(root, "", "", "")).streams] == ["aaa"]
