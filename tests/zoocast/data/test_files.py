import gzip
import struct

import numpy as np
import pytest

from zoocast.data import files
from zoocast.data.files import Images, NpyArray, NpzSequences, inspect, sha256
from zoocast.errors import DataError
from zoocast.frames import FrameShape

SHAPE = FrameShape(channels=1, height=6, width=6)


def test_formats_are_recognised_by_content_not_by_name(npy, npz, idx):
    assert isinstance(inspect(npy(name="a.npy").rename(npy().with_name("a.bin"))), NpyArray)
    assert isinstance(inspect(npz(name="b.npz").rename(npz().with_name("b.npy"))), NpzSequences)
    assert isinstance(inspect(idx(name="c.npz")), Images)
    assert isinstance(inspect(idx(name="d.txt", packed=True)), Images)


def test_an_npy_is_read_in_every_layout_that_its_axes_allow(npy, tmp_path):
    clips_time, time_clips = inspect(npy(count=10, length=4)).readings()
    assert (time_clips.layout, time_clips.count, time_clips.length) == ("TNHW", 10, 4)
    assert (clips_time.layout, clips_time.count, clips_time.length) == ("NTHW", 4, 10)
    for file in (time_clips, clips_time):
        assert (file.shape, file.dtype) == (SHAPE, np.uint8)
    # Clip i, frame t is filled with 10 i + t.
    with time_clips.opened(tmp_path / "scratch") as read:
        assert read(7).shape == (4, 1, 6, 6)
        np.testing.assert_array_equal(read(7)[:, 0, 0, 0], [70, 71, 72, 73])
    with clips_time.opened(tmp_path / "scratch") as read:
        np.testing.assert_array_equal(read(2)[:, 0, 0, 0], [2, 12, 22, 32, 42, 52, 62, 72, 82, 92])
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("compressed", [True, False])
def test_npz_sequences_are_input_and_output_joined(npz, tmp_path, compressed):
    file = inspect(npz(count=10, half=2, compressed=compressed))
    assert (file.count, file.length, file.shape, file.dtype) == (10, 4, SHAPE, np.float32)
    with file.opened(tmp_path / "scratch") as read:
        # Clip 3 has frames 12 to 15 of 4 per clip; frame k is filled with k / 255.
        np.testing.assert_array_equal(read(3)[:, 0, 0, 0], np.arange(12, 16, dtype=np.float32) / 255)
    assert not (tmp_path / "scratch").exists()


def test_npz_clips_may_lie_anywhere(npz, tmp_path):
    # Clip 0 sees frames 30 and 31 and goes on at 5; clip 1 sees 0 to 2, then 39.
    clips = np.array([[[30, 2], [0, 3]], [[5, 1], [39, 1]]], np.int32)
    file = inspect(npz(clips=clips))
    assert (file.count, file.length) == (2, 3)
    with file.opened(tmp_path / "scratch") as read:
        np.testing.assert_allclose(read(0)[:, 0, 0, 0] * 255, [30, 31, 5], rtol=1e-6)
        np.testing.assert_allclose(read(1)[:, 0, 0, 0] * 255, [0, 1, 2, 39], rtol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
def test_idx_images_are_read(idx, packed):
    file = inspect(idx(count=20, size=4, packed=packed))
    assert (file.count, file.height, file.width) == (20, 4, 4)
    np.testing.assert_array_equal(file.read()[:, 3, 3], np.arange(1, 21))


def test_a_header_written_by_python_2_is_read(tmp_path):
    # The file of 2015 has shape (20L, ...); numpy warns about it, and warnings are errors here.
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (2L, 3L, 4L, 4L), }"
    header += b" " * (118 - 1 - len(header)) + b"\n"
    path = tmp_path / "old.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(range(96)))
    file = inspect(path)
    assert file.axes == (2, 3, 4, 4)
    with file.readings()[1].opened(tmp_path / "scratch") as read:
        assert read(1)[0, 0, 0, 0] == 16


def test_sha256_is_of_the_content(npy):
    one, same, other = npy(name="a.npy"), npy(name="b.npy"), npy(name="c.npy", length=5)
    assert sha256(one) == sha256(same) != sha256(other)


# ------------------------------------------------------------------------------------------------------------------- damage


def refused(path, message):
    with pytest.raises(DataError, match=message) as raised:
        inspect(path)
    assert str(path) in str(raised.value)


def test_what_is_no_data_file_is_named(tmp_path):
    refused(tmp_path / "none.npy", "does not exist")
    refused(tmp_path, "cannot be read")
    for content, message in [
        (b"", "no known format, it begins with b''"),
        (b"<!DOCTYPE html>", "looks like a web page"),
        (b"hello world", "no known format"),
        (b"\x80\x04\x95 pickle", "no known format"),
        (b"PK\x03\x04 and nothing more", "cannot be read"),
        (b"\x1f\x8b and nothing more", "cannot be read"),
        (b"\x93NUMPY", "cannot be read"),
        (b"\x93NUMPY\x01\x00\xff\x00{", "cannot be read"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "its header is longer"),
        (b"\x00\x00\x08\x03", "where idx images begin"),
        (gzip.compress(b"\x93NUMPY something"), "where idx images begin"),
    ]:
        (tmp_path / "file").write_bytes(content)
        refused(tmp_path / "file", message)


def test_a_cut_npy_is_found_by_its_header(npy):
    path = npy()
    path.write_bytes(path.read_bytes()[:-1])
    # 4 * 10 * 6 * 6 = 1440 bytes after a header of 128.
    refused(path, r"uint8 \[4, 10, 6, 6\] needs 1568 bytes, but there are 1567")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4, 4), np.complex64), "holds complex64; expected uint8"),
        (np.array([[{"a": 1}]], object), "holds object"),
        (np.zeros((2, 3, 4), np.uint8), r"has shape \[2, 3, 4\]; expected the axes clips, time"),
        (np.zeros((0, 3, 4, 4), np.uint8), "has shape"),
    ],
)
def test_arrays_of_another_kind_are_named(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    refused(tmp_path / "x.npy", message)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dims": np.array([[1, 8, 8]])}, r"dims \[\[1, 8, 8\]\]; expected"),
        ({"dims": np.array([[1, 6, 6], [1, 1, 1]])}, "dims"),
        ({"input_raw_data": np.zeros((40, 36), np.float32)}, r"input_raw_data is \[40, 36\]"),
        ({"input_raw_data": np.zeros((40, 0, 6, 6), np.float32)}, r"input_raw_data is \[40, 0, 6, 6\]"),
        ({"input_raw_data": np.zeros((40, 1, 6, 6), "U1")}, "holds <U1"),
        ({"input_raw_data": np.zeros((39, 1, 6, 6), np.float32)}, "points beyond the 39 frames"),
        ({"clips": np.zeros((2, 10), np.int32)}, r"clips is int32 \[2, 10\]"),
        ({"clips": np.zeros((2, 10, 2), np.float32)}, "clips is float32"),
        ({"clips": np.full((2, 10, 2), -1, np.int32)}, "points beyond"),
        ({"clips": np.array([[[{}, 1]]], object)}, "clips holds object"),
    ],
)
def test_npz_parts_that_do_not_fit_are_named(npz, changed, message):
    refused(npz(**changed), message)


def test_an_npz_of_something_else_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", data=np.zeros(3), label=np.zeros(3))
    refused(tmp_path / "x.npz", r"has no clips\.npy, only data\.npy, label\.npy; expected")


def test_a_cut_npz_is_named(npz):
    path = npz()
    path.write_bytes(path.read_bytes()[:-40])
    refused(path, "cannot be read")


@pytest.mark.parametrize("compressed", [True, False])
def test_a_flipped_bit_in_an_npz_is_found_by_its_checksum(npz, tmp_path, compressed):
    path = npz(compressed=compressed, count=40)
    data = bytearray(path.read_bytes())
    # In the middle of input_raw_data, the first and by far the largest member.
    data[len(data) // 4 if compressed else len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged"), inspect(path).opened(tmp_path / "scratch") as read:
        read(0)
    assert not (tmp_path / "scratch").exists()


def test_idx_files_that_break_their_promise_are_named(idx, tmp_path):
    refused(idx(cut=1), "promises 20 images of 4x4 pixels, 320 bytes, but at most 319 bytes follow")
    # A packed file shows its length only when it is read.
    with pytest.raises(DataError, match="320 bytes, but 319 bytes follow"):
        inspect(idx(cut=1, packed=True)).read()
    longer = idx()
    longer.write_bytes(longer.read_bytes() + b"x")
    with pytest.raises(DataError, match="but more follow"):
        inspect(longer).read()
    cut = idx(packed=True)
    cut.write_bytes(cut.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        inspect(cut).read()
    (tmp_path / "huge").write_bytes(struct.pack(">IIII", 0x803, 2**32 - 1, 2**16, 2**16) + bytes(100))
    refused(tmp_path / "huge", "promises 4294967295 images")
    (tmp_path / "labels").write_bytes(struct.pack(">II", 0x801, 9) + bytes(9))
    refused(tmp_path / "labels", "holds labels; expected the images")
    (tmp_path / "empty").write_bytes(struct.pack(">IIII", 0x803, 0, 28, 28))
    refused(tmp_path / "empty", "holds 0 images")


# ------------------------------------------------------------------------------------------------------------------- sizes


def test_a_header_that_promises_more_than_there_can_be_costs_no_memory(tmp_path, npz, monkeypatch):
    import tracemalloc
    import zipfile

    def header(shape, dtype="<i8", fortran=False, version=1):
        text = f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}".ljust(117) + "\n"
        return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text.encode()

    def swollen(member, start, size):
        # As whoever wrote `start` and then zeros: deflate packs a GiB of them into a MiB.
        path = tmp_path / "swollen.npz"
        with zipfile.ZipFile(npz()) as good, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for name in good.namelist():
                if name != member:
                    out.writestr(name, good.read(name))
            with out.open(member, "w", force_zip64=True) as stream:
                stream.write(start)
                for _ in range(size // 2**20):
                    stream.write(bytes(2**20))
                stream.write(bytes(size % 2**20))
        return path

    monkeypatch.setattr(files, "MOST_CLIPS", 10_000)
    tracemalloc.start()
    # 2 * 1,000,000 * 2 numbers of 8 bytes: 32 MB of table in 32 kB of archive.
    refused(
        swollen("clips.npy", header((2, 1_000_000, 2)), 32_000_000), r"clips is int64 \[2, 1000000, 2\].* more than 10,000 clips"
    )
    refused(swollen("dims.npy", header((4_000_000,)), 32_000_000), r"dims is int64 \[4000000\]")
    refused(swollen("dims.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**25), 2**25), "header is longer than 10000 bytes")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6

    (tmp_path / "negative.npy").write_bytes(header((-1, 3, 4, -4), "|u1") + bytes(48))
    refused(tmp_path / "negative.npy", r"\[-1, 3, 4, -4\] needs")


def test_images_that_swell_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "swollen.gz"
    path.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 40_000, 28, 28) + bytes(40_000 * 784)))
    monkeypatch.setattr(files, "MOST_IMAGE_BYTES", 31_000_000)  # 40,000 * 784 = 31,360,000
    with pytest.raises(DataError, match=r"promises 40,000 images of 28x28, 29\.9 MiB; at most 29\.6 MiB are read"):
        inspect(path).read()
    monkeypatch.setattr(files, "MOST_IMAGE_BYTES", 32_000_000)
    assert inspect(path).read().shape == (40_000, 28, 28)


def test_an_archive_packed_in_a_way_that_python_cannot_read_is_named(npz):
    path = npz()
    data = bytearray(path.read_bytes())
    # The method of compression of the first member, at byte 8 of its header and at byte 10 of its entry in the directory.
    for at, place in ((0, 8), (data.index(b"PK\x01\x02"), 10)):
        data[at + place] = 99
    path.write_bytes(data)
    refused(path, "cannot be read")
