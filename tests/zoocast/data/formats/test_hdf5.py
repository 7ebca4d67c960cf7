"""HDF5 that is what it says, and HDF5 that is not."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from zoocast.data.formats.hdf5 import dataset, opened
from zoocast.errors import DataError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "radar.h5"


def test_datasets_are_found_in_their_groups(path: Path):
    with h5py.File(path, "w") as file:
        file["dataset1/data1/data"] = np.arange(6, dtype=np.uint8).reshape(2, 3)
        file["id"] = np.array([b"S1", b"S2"])
        file["alias"] = h5py.SoftLink("/dataset1/data1/data")
    with opened(path) as file:
        assert dataset(file, "dataset1/data1/data")[1].tolist() == dataset(file, "alias")[1].tolist() == [3, 4, 5]
        assert dataset(file, "id", text=True)[1] == b"S2"
        with pytest.raises(DataError, match="dataset1 is a group; expected a dataset"):
            dataset(file, "dataset1")
        with pytest.raises(DataError, match=r"vil is not there; expected a dataset, and found alias, dataset1, id"):
            dataset(file, "vil")


def test_what_is_no_hdf5_or_cut_short_is_named(path: Path):
    with pytest.raises(DataError, match="does not exist"), opened(path):
        pass
    path.write_bytes(b"<html>Not found</html>")
    with pytest.raises(DataError, match="is no HDF5 file, it begins with b'<html>No'"), opened(path):
        pass
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((100, 100))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"cannot be read as HDF5 .*truncated.*download it again"), opened(path):
        pass


def test_a_damaged_chunk_is_an_error_in_words_when_it_is_read(path: Path):
    with h5py.File(path, "w") as file:
        values = np.random.default_rng(0).integers(0, 255, (4, 32, 32), np.uint8)
        chunked = file.create_dataset("data", data=values, chunks=(1, 32, 32), compression="gzip", fletcher32=True)
        offset = chunked.id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 20 : offset + 40] = bytes(20)
    path.write_bytes(content)
    with opened(path) as file:
        assert dataset(file, "data")[1].tolist() == values[1].tolist()
    with pytest.raises(DataError, match="cannot be read as HDF5"), opened(path) as file:
        dataset(file, "data")[2]


def test_nothing_leads_to_other_files(path: Path, tmp_path: Path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["data"] = np.zeros((2, 3))
    with h5py.File(path, "w") as file:
        file["group/far"] = h5py.ExternalLink("other.h5", "/data")
    with pytest.raises(DataError, match=r"group/far is a link to another file, which is not followed"), opened(path):
        pass
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout(shape=(2, 3), dtype="f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", shape=(2, 3))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("outside", shape=(2, 3), dtype="f8", external=[("/etc/passwd", 0, 48)])
    with opened(path) as file:
        for name in ("virtual", "outside"):
            with pytest.raises(DataError, match=f"{name} is made of parts in other files"):
                dataset(file, name)


def test_objects_and_absurd_shapes_are_refused_before_anything_is_read(path: Path):
    with h5py.File(path, "w") as file:
        file.create_dataset("ragged", shape=(3,), dtype=h5py.vlen_dtype(np.uint8))
        file["records"] = np.zeros(3, [("a", "f4")])
        file.create_dataset("huge", shape=(10**6, 1000, 1000), dtype="f4", chunks=(1, 1000, 1000))
        file.create_dataset("lump", shape=(1000, 10**6), dtype="u1", chunks=(1000, 10**6), compression="gzip")
    with opened(path) as file:
        for name, problem in (
            ("ragged", "holds objects, which are never unpickled"),
            ("records", "holds .*; expected whole numbers or floats"),
            ("huge", r"promises float32 \[1000000, 1000, 1000\], .* but only 0 B are stored"),
            ("lump", "packed in chunks of .*h5repack"),
        ):
            with pytest.raises(DataError, match=problem):
                dataset(file, name)
