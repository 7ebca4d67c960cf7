import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from zoocast.errors import IntegrityError
from zoocast.store.sealed import read_sealed, write_sealed

DATA = {"schema": 1, "name": "größe", "values": [1, 2.5, None], "nested": {"b": True, "a": "x"}}


def parse(data: dict[str, Any]) -> dict[str, Any]:
    if data["schema"] != 1:
        raise ValueError(f"it has schema {data['schema']}, this zoocast reads 1")
    return {name: value for name, value in data.items() if name != "digest"}


def read(path: Path) -> dict[str, Any]:
    return read_sealed(path, parse, remedy="make it again")


def test_what_was_written_is_read_with_its_digest_and_equal_data_have_equal_digests(tmp_path: Path) -> None:
    digest = write_sealed(tmp_path / "a.json", DATA)
    assert read(tmp_path / "a.json") == DATA
    assert json.loads((tmp_path / "a.json").read_text())["digest"] == digest
    assert write_sealed(tmp_path / "b.json", dict(reversed(DATA.items()))) == digest
    assert write_sealed(tmp_path / "b.json", {**DATA, "name": "grosse"}) != digest


def test_a_digest_does_not_depend_on_line_breaks(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", DATA)
    (tmp_path / "a.json").write_text(json.dumps(json.loads((tmp_path / "a.json").read_text())))
    assert read(tmp_path / "a.json") == DATA


def test_a_record_that_was_sealed_with_spaces_in_its_canonical_form_is_read(tmp_path: Path) -> None:
    # What the first roots were written with; the digest is that of {"b": [1, 2.5], "schema": 1}.
    digest = "98cc5ff7669d4df46138c8f108f33c475b9346094302a75065001d34308d7fb2"
    (tmp_path / "a.json").write_text(f'{{"schema": 1, "b": [1, 2.5], "digest": "{digest}"}}')
    assert read(tmp_path / "a.json") == {"schema": 1, "b": [1, 2.5]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        ("", "not JSON"),
        ('{"schema": 1', "not JSON"),
        ("[1]", "no JSON object with a digest"),
        ("{}", "no JSON object with a digest"),
        ('{"schema": 1, "digest": "0"}', "it does not match its own digest"),
        (b"\xff\xfe{", "not JSON"),
        ("[" * 100_000 + "]" * 100_000, "it is nested too deeply"),
        ('{"schema": NaN, "digest": "0"}', "it holds NaN"),
        ('{"schema": ' + "1" * 10_000 + "}", "not JSON .Exceeds the limit"),
    ],
)
def test_a_file_that_is_not_sealed_is_refused_with_the_remedy(content: str | bytes | None, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(IntegrityError, match=rf"a\.json cannot be used: .*{why}.*; make it again"):
        read(path)


def test_a_file_larger_than_any_such_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(IntegrityError, match=r"it has 1\.0 TiB, where at most 64\.0 MiB are read; make it again"):
        read(path)


def test_every_truncation_and_every_flipped_bit_of_a_sealed_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, {**DATA, "name": "plain"})  # an escape such as \\u00f6 says the same in capitals
    whole = path.read_bytes()
    for length in range(len(whole) - 1):  # without its last line break it says the same
        path.write_bytes(whole[:length])
        with pytest.raises(IntegrityError):
            read(path)
    for place, bit in itertools.product(range(len(whole) - 1), range(8)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        with pytest.raises(IntegrityError):
            read(path)


@pytest.mark.parametrize(("data", "why"), [({"schema": 2}, "it has schema 2"), ({"name": "x"}, "no 'schema'")])
def test_a_sealed_file_of_another_version_is_refused_in_the_words_of_its_reader(
    data: dict[str, Any], why: str, tmp_path: Path
) -> None:
    write_sealed(tmp_path / "a.json", data)
    with pytest.raises(IntegrityError, match=rf"{why}.*; make it again"):
        read(tmp_path / "a.json")


def test_a_link_to_a_sealed_file_is_refused_where_the_reader_does_not_allow_it(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", DATA)
    (tmp_path / "b.json").symlink_to("a.json")
    with pytest.raises(IntegrityError, match="symbolic link"):
        read(tmp_path / "b.json")
    assert read_sealed(tmp_path / "b.json", parse, remedy="", follow_links=True) == DATA
