"""Files are whole or not there."""

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoocast.dag import Step, StepContext
from zoocast.errors import ConfigError, InfrastructureError, IntegrityError
from zoocast.store.files import (
    FileInfo,
    check_name,
    human_bytes,
    inside,
    keep_private,
    list_files,
    publish,
    require_free_space,
    sha256_file,
    write_atomically,
)


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


def test_sha256_file_hashes_the_content_of_a_file(tmp_path: Path) -> None:
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
def test_human_bytes_are_given_in_the_largest_fitting_unit(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_the_list_of_files_holds_all_that_was_meant_to_stay(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "x").write_bytes(b"xyz")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "stop").touch()
    (tmp_path / f".a.{'0' * 32}").touch()
    (tmp_path / f".b.{'0' * 32}").mkdir()
    (tmp_path / f".b.{'0' * 32}" / "y").touch()
    assert list_files(tmp_path, skip=("stop",)) == {
        "a": FileInfo(0, hashlib.sha256(b"").hexdigest()),
        "b/c/x": FileInfo(3, hashlib.sha256(b"xyz").hexdigest()),
    }


# ------------------------------------------------------------------------------------------------------------- names and places

PARTS = st.sampled_from(["..", ".", "/", "\\", "a", "Z", "0", "-", "_", " ", "~", "\0", "\n", "é", "a" * 64])
NAMES = st.one_of(st.text(max_size=80), st.lists(PARTS, max_size=8).map("".join), st.from_regex(r"[a-z0-9._-]{1,70}"))


def work(_context: StepContext) -> dict[str, object]:
    return {}


@given(NAMES)
def test_a_name_is_refused_or_stays_in_its_folder(name: str) -> None:
    try:
        step = Step(name, work)
    except ConfigError:
        assert not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name)
        return
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".partial", ".replaced", ".lock"):
            path = Path(folder, f"{step.folder}{suffix}")
            assert path.resolve().parent == Path(folder).resolve()
            write_atomically(path, "as long as file systems allow", durable=False)
            assert os.listdir(folder) == [f"{step.folder}{suffix}"]
            path.unlink()


def test_a_name_of_more_than_64_characters_is_refused() -> None:
    check_name("a run", "a" * 64)
    with pytest.raises(ConfigError, match=r"field: a run's name .* at most 64 characters, but got 'aaa"):
        check_name("a run", "a" * 65, field="field")


@given(st.one_of(NAMES, st.lists(st.one_of(NAMES, PARTS), max_size=5).map("/".join)))
def test_what_a_manifest_names_is_refused_or_lies_in_its_folder(name: str) -> None:
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer, "folder")
        folder.mkdir()
        try:
            path = inside(folder, name)
        except IntegrityError:
            return
        assert Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def test_a_link_does_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder" / "real").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "folder" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "folder" / "round").symlink_to(tmp_path / "folder" / "round")
    (tmp_path / "folder" / "in").symlink_to(tmp_path / "folder" / "real")
    assert inside(tmp_path / "folder", "in") == tmp_path / "folder" / "in"
    for name in ("out", "round/x", "real/../../secret", str(tmp_path / "secret")):
        with pytest.raises(IntegrityError, match="names a file outside of itself"):
            inside(tmp_path / "folder", name)


@pytest.mark.parametrize(("wish", "mode"), [(None, 0o600), ("007", 0o660), ("27", 0o640)])
def test_files_are_their_owners_alone_unless_a_group_is_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: str | None, mode: int
) -> None:
    monkeypatch.delenv("ZOOCAST_UMASK", raising=False)
    if wish is not None:
        monkeypatch.setenv("ZOOCAST_UMASK", wish)
    before = os.umask(0o022)
    try:
        keep_private()
        write_atomically(tmp_path / "note", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "note").stat().st_mode) == mode


@pytest.mark.parametrize("wish", ["", "8", "u=rwx", "1777", "-7"])
def test_a_umask_that_is_no_octal_number_is_refused(monkeypatch: pytest.MonkeyPatch, wish: str) -> None:
    monkeypatch.setenv("ZOOCAST_UMASK", wish)
    with pytest.raises(ConfigError, match="ZOOCAST_UMASK: must be an octal number such as 077 or 007"):
        keep_private()
