"""One holder per lock, and none that outlives its process."""

import dataclasses
import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from zoocast.store import locks as module
from zoocast.store.flock import locks_known
from zoocast.store.locks import Holder, Locks, exclusive, read_holder

NOW, BOOT = time.time(), psutil.boot_time()


def test_a_lock_is_held_by_one_and_free_after_release(tmp_path: Path) -> None:
    path = tmp_path / "step.lock"
    with Locks("first") as first, Locks("second") as second:
        assert first.acquire(path) is None
        holder = second.acquire(path)
        assert holder is not None
        assert (holder.run, holder.pid) == ("first", os.getpid())
        assert f"run first of {holder.user} on {holder.host}, process {os.getpid()}, since " in str(holder)
        second.release(path)  # not its own: nothing happens
        assert path.exists()
        first.release(path)
        assert second.acquire(path) is None
    assert not path.exists()


@pytest.mark.parametrize("attempt", range(10))
def test_of_many_that_find_a_dead_holder_exactly_one_wins(tmp_path: Path, attempt: int) -> None:
    path = tmp_path / "step.lock"
    path.write_text(json.dumps(dataclasses.asdict(dead_holder())))
    locks = [Locks(f"run{attempt}.{i}") for i in range(16)]
    won: list[str] = []
    gate = threading.Barrier(len(locks))

    def try_it(one: Locks) -> None:
        gate.wait()
        if one.acquire(path) is None:
            won.append(one.me.run)

    threads = [threading.Thread(target=try_it, args=(one,)) for one in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    holder = read_holder(path)
    assert holder is not None
    assert won == [holder.run]


def test_a_dead_lock_that_another_one_removes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it happens where no guard keeps two contenders apart."""
    path = tmp_path / "step.lock"
    path.write_text(json.dumps(dataclasses.asdict(dead_holder())))
    modified = module._modified
    looks = iter([False, True])

    def faster(looked_at: Path) -> int | None:
        found = modified(looked_at)
        if next(looks, False):
            looked_at.unlink()
        return found

    monkeypatch.setattr(module, "_modified", faster)
    with Locks("slow") as locks:
        assert locks.acquire(path) is None


def dead_holder() -> Holder:
    """A holder on this machine whose process has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return dataclasses.replace(Holder.this_process("dead"), pid=process.pid)


def test_the_lock_of_a_dead_process_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "step.lock"
    path.write_text(json.dumps(dataclasses.asdict(dead_holder())))
    with Locks("next") as locks:
        assert locks.acquire(path) is None
    assert not path.exists()


def test_a_process_id_that_was_used_again_does_not_hold_the_lock() -> None:
    me = Holder.this_process("run")
    assert not me.is_gone()
    assert dataclasses.replace(me, ticks=me.ticks - 1).is_gone()


def test_a_clock_that_is_set_makes_no_holder_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # psutil works out the birth of a process from the boot's time, which the kernel moves with the clock.
    me = Holder.this_process("run")
    for moved in (-3600.0, 1.0, 3600.0):
        monkeypatch.setattr(psutil, "boot_time", lambda moved=moved: BOOT + moved)
        monkeypatch.setattr(time, "time", lambda moved=moved: NOW + moved)
        assert not me.is_gone()
        path = tmp_path / f"{moved}.lock"
        with Locks("first") as first, Locks("second") as second:
            assert first.acquire(path) is None
            assert second.acquire(path) is not None


def test_the_holder_in_a_lock_of_an_older_version_is_read_and_waited_for(tmp_path: Path) -> None:
    old = dataclasses.asdict(Holder.this_process("old")) | {"process_started": 1.7e9}
    del old["ticks"]
    path = tmp_path / "step.lock"
    path.write_text(json.dumps(old))
    with Locks("new") as locks:
        holder = locks.acquire(path)
    assert holder is not None
    assert (holder.run, holder.is_gone()) == ("old", False)
    assert dataclasses.replace(holder, pid=dead_holder().pid).is_gone()


def test_a_zombie_process_holds_no_lock() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, but nobody has collected it
    assert dataclasses.replace(Holder.this_process("run"), pid=process.pid).is_gone()
    process.wait()


def test_the_lock_of_another_machine_is_taken_over_when_its_heart_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "step.lock"
    elsewhere = dataclasses.replace(Holder.this_process("far"), host="far", machine="far away", pid=1)
    path.write_text(json.dumps(dataclasses.asdict(elsewhere)))
    os.utime(path, (1, 1))  # its clock may be decades behind: only the change of the time counts
    with Locks("here") as locks:
        assert locks.acquire(path) == elsewhere
        os.utime(path, (2, 2))
        assert locks.acquire(path) == elsewhere
        monkeypatch.setattr(module, "STALE_SECONDS", 0.0)
        assert locks.acquire(path) is None


def test_the_heart_beats_while_a_lock_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.01)
    path = tmp_path / "step.lock"
    with Locks("run") as locks:
        locks.acquire(path)
        os.utime(path, (1, 1))
        beaten = threading.Event()
        for _ in range(500):
            if path.stat().st_mtime > 1:
                break
            beaten.wait(0.01)
        assert path.stat().st_mtime > 1


def test_a_lock_that_is_not_yet_written_counts_as_held(tmp_path: Path) -> None:
    path = tmp_path / "step.lock"
    path.touch()
    with Locks("run") as locks:
        holder = locks.acquire(path)
    assert holder is not None
    assert holder.host == "?"


def test_an_exclusive_lock_is_held_once_and_freed_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.lock"
    with exclusive(path) as held, exclusive(path, wait=False) as second:
        assert (held, second) == (True, False)
    with exclusive(path, wait=False) as free:
        assert free


@pytest.mark.parametrize(("refused", "known"), [(("flock",), "fcntl"), (("flock", "fcntl"), "none")])
def test_an_exclusive_lock_is_held_once_where_the_file_system_knows_no_flock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...], known: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    for name in refused:  # as Lustre without -o flock does, and as file systems without any locks
        monkeypatch.setattr(fcntl, name, refuse)
    assert locks_known(tmp_path / "new" / "root") == known
    path, inside, most = tmp_path / "a.lock", set[int](), []

    def work(number: int) -> None:
        with exclusive(path):
            inside.add(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    with exclusive(path) as held, exclusive(path, wait=False) as second:
        assert (held, second) == (True, False)
    assert not path.with_name("a.lock.held").exists()
