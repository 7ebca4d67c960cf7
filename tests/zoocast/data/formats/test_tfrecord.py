"""TFRecord without TensorFlow."""

from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from tests.fakes import bair
from zoocast.data.formats.tfrecord import byte_features, crc32c, read_record, records
from zoocast.errors import DataError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    bair.write(tmp_path, train=3, test=0, frames=2)
    return tmp_path / "train" / "traj_0_to_2.tfrecords"


def test_a_checksum_is_that_of_castagnoli():
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's polynomial; the usual check value
    data = np.random.default_rng(0).bytes(20_000)
    for length in (0, 1, 4095, 4096, 4097, 20_000):
        assert crc32c(data[:length]) == google_crc32c.value(data[:length])


def test_every_record_is_found_and_its_pictures_are_what_was_written(path: Path):
    offsets = records(path)
    assert len(offsets) == 3
    found = byte_features(read_record(path, offsets[1]), path)
    # What the arm did are floats.
    assert sorted(found) == sorted(f"{frame}/image_{camera}/encoded" for frame in (0, 1) for camera in ("aux1", "main"))
    assert found["1/image_aux1/encoded"] == bair.picture(1, 1).tobytes()


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_file_that_is_cut_off_is_refused(path: Path, kept: int):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match="download it again"):
        records(path)


def test_a_changed_byte_is_found_by_its_checksum(path: Path):
    data, offsets = bytearray(path.read_bytes()), records(path)
    data[offsets[1] + 500] ^= 1
    path.write_bytes(data)
    read_record(path, offsets[0])
    with pytest.raises(DataError, match=rf"byte {offsets[1]} differs from its checksum"):
        read_record(path, offsets[1])
    data[offsets[1]] ^= 1  # of the length
    path.write_bytes(data)
    with pytest.raises(DataError, match="no TFRecord at byte"):
        records(path)


@pytest.mark.parametrize("payload", [b"\x0a\xff\xff\xff\x7f", b"\x0a" + b"\xff" * 12, b"\x08\x01"])
def test_what_is_no_example_is_refused(payload: bytes):
    with pytest.raises(DataError, match="cannot be read as tf"):
        byte_features(payload, "file")
