"""One holder per lock in an object store, and none that outlives its process."""

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoocast.dag import lock as module
from zoocast.dag.claims import Claims, holders
from zoocast.dag.lock import Holder
from zoocast.store.bucket import Mirror, open_mirror


@pytest.fixture
def mirror(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path))
    return open_mirror(f"{store}/{tmp_path.name}")


@pytest.fixture
def path(mirror: Mirror) -> Path:
    return mirror.root / "locks" / "train-0123456789ab.lock"


def claim(mirror: Mirror, path: Path, holder: Holder) -> None:
    mirror.write(f"{mirror.name(path)}/{holder.token}", json.dumps(dataclasses.asdict(holder)))


def test_a_lock_is_held_by_one_and_free_after_release(mirror: Mirror, path: Path) -> None:
    with Claims("first", mirror) as first, Claims("second", mirror) as second:
        assert first.acquire(path) is None
        holder = second.acquire(path)
        assert holder is not None
        assert holder.run == "first"
        assert {lock: holder.run for lock, holder in holders(mirror).items()} == {path.name: "first"}
        second.release(path)  # not its own: nothing happens
        assert second.acquire(path) is not None
        first.release(path)
        assert second.acquire(path) is None
    assert holders(mirror) == {}


def test_of_many_that_come_at_once_never_two_hold_the_lock(mirror: Mirror, path: Path) -> None:
    for attempt in range(3):
        claims = [Claims(f"run{attempt}.{i}", mirror) for i in range(6)]
        won: list[Claims] = []
        gate = threading.Barrier(len(claims))

        def try_it(one: Claims, gate: threading.Barrier = gate, won: list[Claims] = won) -> None:
            gate.wait()
            if one.acquire(path) is None:
                won.append(one)

        threads = [threading.Thread(target=try_it, args=(one,)) for one in claims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) <= 1
        # Those that met each other have taken their claims back, so that the next one to come wins.
        assert len(holders(mirror)) == len(won)
        for winner in won:
            winner.release(path)
        assert claims[0].acquire(path) is None
        claims[0].release(path)


def test_the_claims_of_the_dead_are_removed(mirror: Mirror, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    here = dataclasses.replace(Holder.this_process("dead"), pid=process.pid)
    elsewhere = dataclasses.replace(Holder.this_process("frozen"), machine="another")
    claims = Claims("mine", mirror)
    claim(mirror, path, here)
    assert claims.acquire(path) is None
    claims.release(path)
    claim(mirror, path, elsewhere)
    holder = claims.acquire(path)
    assert holder is not None
    assert holder.run == "frozen"
    monkeypatch.setattr(module, "STALE_SECONDS", 0.0)
    assert claims.acquire(path) is None
    assert list(holders(mirror)) == [path.name]


def test_a_held_claim_is_refreshed_and_one_that_was_taken_away_is_not_put_back(
    mirror: Mirror, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.01)
    beats = threading.Semaphore(0)
    refresh = Claims._refresh

    def beat(self: Claims, path: Path) -> None:
        refresh(self, path)
        beats.release()

    monkeypatch.setattr(Claims, "_refresh", beat)
    with Claims("mine", mirror) as claims:
        assert claims.acquire(path) is None
        written = next(iter(mirror.objects("locks").values()))
        for _ in waits(lambda: next(iter(mirror.objects("locks").values())) > written):
            assert beats.acquire(timeout=30)
        mirror.remove(f"{mirror.name(path)}/{claims.me.token}")
        for _ in range(3):
            assert beats.acquire(timeout=30)
        assert holders(mirror) == {}


def waits(done: object) -> Iterator[None]:
    while not done():  # type: ignore[operator]
        yield
