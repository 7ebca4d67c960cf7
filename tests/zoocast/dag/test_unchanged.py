"""A step whose inputs are changed under its hands has made its result of who knows what."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoocast.dag import StepContext
from zoocast.dag.worker import execute
from zoocast.errors import IntegrityError


def rewrite(folder: Path) -> None:
    (folder / "deep" / "data").write_text("1")  # the very same bytes, but who wrote them, and what was there in between?


def replace(folder: Path) -> None:
    times = (folder / "done.json").stat()
    (folder / "other").write_text("{}")
    os.utime(folder / "other", ns=(times.st_atime_ns, times.st_mtime_ns))
    (folder / "other").rename(folder / "done.json")


def remove(folder: Path) -> None:
    (folder / "deep" / "data").unlink()


def add(folder: Path) -> None:
    (folder / "deep" / "more").touch()


def work(context: StepContext) -> dict[str, Any]:
    """Reads its input, and does to it what its config says."""
    assert (context.inputs["data"] / "deep" / "data").read_text() == "1"
    if context.config is not None:
        context.config(context.inputs["data"])
    return {}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "done.json").write_text("{}")
    (tmp_path / "data" / "deep" / "data").write_text("1")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("change", "named"), [(rewrite, "deep/data"), (replace, "done.json"), (remove, "deep/data"), (add, "deep/more")]
)
def test_a_changed_input_is_named_and_spoils_the_result(
    tmp_path: Path, data: Path, change: Callable[[Path], None], named: str
) -> None:
    report = execute(work, StepContext.standalone(tmp_path / "step", change, {"data": data}))
    assert isinstance(report.error, IntegrityError)
    assert f"its input {data / named} was changed while it ran" in str(report.error)


def test_a_step_that_only_reads_its_inputs_keeps_its_result(tmp_path: Path, data: Path) -> None:
    assert execute(work, StepContext.standalone(tmp_path / "step", None, {"data": data})).error is None
