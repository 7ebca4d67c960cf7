"""Files are whole or not there."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from zoocast.errors import InfrastructureError
from zoocast.storage import human_bytes, publish, require_free_space, sha256_file, write_atomically


@pytest.mark.parametrize("durable", [True, False])
def test_write_atomically_replaces_and_leaves_nothing_else(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "note"
    write_atomically(path, "old", durable=durable)
    write_atomically(path, b"new", durable=durable)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["note"]


def test_write_atomically_obeys_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "note", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "note").stat().st_mode) == 0o640  # 0o666 without the umask's bits


def test_a_failed_write_keeps_the_old_file_and_leaves_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.mkdir()  # a file cannot replace a directory
    (path / "inside").touch()
    with pytest.raises(InfrastructureError, match=rf"cannot write {path} \(.*directory.*--root"):
        write_atomically(path, "new")
    assert os.listdir(tmp_path) == ["note"]


def test_publish_makes_a_directory_appear_under_its_final_name(tmp_path: Path) -> None:
    partial = tmp_path / "x.partial"
    (partial / "deep").mkdir(parents=True)
    (partial / "deep" / "file").write_text("1")
    publish(partial, tmp_path / "x")
    assert (tmp_path / "x" / "deep" / "file").read_text() == "1"
    assert not partial.exists()


def test_publish_never_replaces_a_result(tmp_path: Path) -> None:
    for name in ("x.partial", "x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with pytest.raises(InfrastructureError, match="not empty"):
        publish(tmp_path / "x.partial", tmp_path / "x")
    assert (tmp_path / "x" / "file").read_text() == "x"


def test_sha256_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "data").write_bytes(data)
    assert sha256_file(tmp_path / "data") == hashlib.sha256(data).hexdigest()


def test_require_free_space_says_what_needs_how_much_where(tmp_path: Path) -> None:
    require_free_space(tmp_path / "not" / "yet" / "there", 1, "the bank")
    # 2**60 bytes = 1 EiB = 1,048,576 TiB: more than any disk here.
    with pytest.raises(InfrastructureError, match=r"the bank needs 1048576\.0 TiB, but only .* are free at ") as raised:
        require_free_space(tmp_path / "not" / "yet" / "there", 2**60, "the bank")
    assert str(tmp_path) in str(raised.value)
    assert "--root" in str(raised.value)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB"), (2**50, "1024.0 TiB")]
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text
