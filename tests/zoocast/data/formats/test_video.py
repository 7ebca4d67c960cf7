"""Videos."""

from pathlib import Path

import av
import numpy as np
import pytest

from tests.fakes.films import film, write_video
from zoocast.data.formats import open_recordings
from zoocast.errors import DataError

FRAMES = film(60, 48, 96)
FORMS = [
    ("a.avi", "mpeg4", {}),
    ("open.avi", "mpeg4", {"bf": "2"}),
    ("open.mp4", "mpeg4", {"bf": "2"}),
    ("h264.mp4", "libx264", {"g": "15"}),
    ("h264.avi", "libx264", {"g": "15"}),
    ("ffv1.mkv", "ffv1", {}),
    ("raw.avi", "rawvideo", {}),
    ("mpeg.mpg", "mpeg1video", {}),
]


def decoded(path: Path, pixels: str = "gray") -> np.ndarray:
    """All frames, from the first to the last."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format=pixels) for frame in container.decode(video=0)])


@pytest.mark.parametrize(("name", "codec", "options"), FORMS)
def test_any_piece_is_what_decoding_from_the_start_gives(tmp_path: Path, name: str, codec: str, options: dict[str, str]):
    write_video(tmp_path / name, FRAMES, codec, **options)
    whole = decoded(tmp_path / name)
    opened = open_recordings(tmp_path / name, gray=True)
    (recording,) = opened.recordings
    assert (recording.frames, len(whole), str(recording.shape)) == (60, 60, "1x48x96")
    assert opened.remarks == (f"{name}: 60 frames of 1x48x96 ({'h264' if codec == 'libx264' else codec}, decoded to grey)",)
    # What is nearest to each of the frames that were written, for codecs lose something.
    apart = np.square(whole[:, None].astype(float) - FRAMES[None, ..., 0]).mean((2, 3))
    assert np.abs(apart.argmin(1) - np.arange(60)).max() <= 1
    for start, stop in ((40, 50), (45, 55), (3, 8), (30, 31), (0, 60), (59, 60), (13, 27), (20, 34)):
        np.testing.assert_array_equal(recording.read(start, stop)[:, 0], whole[start:stop])


def test_decoding_begins_near_what_is_asked_for(tmp_path: Path):
    from zoocast.data.formats import video

    write_video(tmp_path / "a.mp4", FRAMES, "libx264", g="15")
    (recording,) = open_recordings(tmp_path / "a.mp4").recordings
    opened, _ = video._scanned(tmp_path / "a.mp4", video.stamp(tmp_path / "a.mp4"), "mov", False)
    assert [number for number, _ in opened.keys] == [0, 15, 30, 45]
    decoder = video._decoder(opened)
    recording.read(50, 52)
    assert [number for number, _ in decoder.kept] == [50, 51]
    assert [next(video._decoded(opened, *key)).pts for key in opened.keys] == [0, 15 * 512, 30 * 512, 45 * 512]


def test_colours_stay_and_grey_is_asked_for(tmp_path: Path):
    write_video(tmp_path / "a.mkv", film(5, channels=3), "ffv1")
    (recording,) = open_recordings(tmp_path / "a.mkv").recordings
    np.testing.assert_array_equal(recording.read(1, 4), decoded(tmp_path / "a.mkv", "rgb24")[1:4].transpose(0, 3, 1, 2))


def test_videos_in_folders_are_recordings_of_the_group_of_their_folder(tmp_path: Path):
    for name in ("boxing/person2.avi", "boxing/person10.avi", "walking/person2.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_video(tmp_path / name, film(5))
    opened = open_recordings(tmp_path)
    assert [(r.name, r.group) for r in opened.recordings] == [
        ("boxing/person2", "boxing"),
        ("boxing/person10", "boxing"),
        ("walking/person2", "walking"),
    ]


def test_of_many_files_a_few_are_told(tmp_path: Path):
    content = tmp_path / "0.avi"
    write_video(content, FRAMES, "ffv1", g="1")
    for number in range(9):
        (tmp_path / f"{number}.avi").write_bytes(content.read_bytes()[: -1 if number else None])
        (tmp_path / f"{number}.txt").write_text("by hand")
    remarks = open_recordings(tmp_path).remarks
    assert remarks[0] == "left out, of no known format: 0.txt, 1.txt, 2.txt, 3.txt and 5 more"
    assert [remark.partition(":")[0] for remark in remarks[1:6]] == [f"{number}.avi" for number in range(5)]
    assert remarks[6] == "and 4 more like these"


def test_uneven_times_are_told(tmp_path: Path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number, frame in zip((0, 1, 2, 6, 7), film(5).repeat(3, -1), strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    assert "warning: a.mp4: frames follow one another after 40 to 160 ms, not evenly" in open_recordings(tmp_path).remarks


def test_a_video_cut_short_gives_what_is_there(tmp_path: Path):
    write_video(tmp_path / "a.avi", FRAMES, "ffv1", g="1")
    whole, content = decoded(tmp_path / "a.avi"), (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(content[: len(content) // 2])
    opened = open_recordings(tmp_path / "a.avi", gray=True)
    (recording,) = opened.recordings
    assert 20 < recording.frames < 30
    assert opened.remarks[1] == f"warning: a.avi is cut short or damaged: its first {recording.frames} of 60 frames are read"
    np.testing.assert_array_equal(recording.read(0, recording.frames)[:, 0], whole[: recording.frames])


def test_damage_in_the_middle_is_an_error_in_words_or_left_out(tmp_path: Path):
    path = tmp_path / "a.mp4"
    write_video(path, FRAMES, "libx264", g="15")
    whole = decoded(path)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for at, size in packets[20:24]:
        content[at : at + size] = b"\xff" * size
    path.write_bytes(content)
    (recording,) = open_recordings(path, gray=True).recordings
    with pytest.raises(DataError, match=r"a.mp4.*damaged"):
        recording.read(15, 30)
    opened = open_recordings(path, gray=True, verify=True)
    (recording,) = opened.recordings
    first, second = recording.runs
    assert (first.start, second) == (0, range(30, 60))
    assert 15 <= first.stop <= 20
    assert f"warning: a.mp4: {30 - first.stop} of 60 frames are damaged and left out" in opened.remarks
    for run in recording.runs:
        np.testing.assert_array_equal(recording.read(run.start, run.stop)[:, 0], whole[run.start : run.stop])


@pytest.mark.parametrize("kept", [0, 300])
def test_what_is_no_video_is_refused(tmp_path: Path, kept: int):
    write_video(tmp_path / "a.mp4", film(5))
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[:kept] or b"\x00\x00\x00\x20ftypisom" + bytes(range(200)))
    with pytest.raises(DataError, match=r"a.mp4 cannot be read as a video .*download it again"):
        open_recordings(tmp_path / "a.mp4")


def test_lists_of_other_files_are_not_followed(tmp_path: Path):
    write_video(tmp_path / "a.mkv", film(5))
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\na.mkv\n#EXT-X-ENDLIST\n")
    with pytest.raises(DataError, match=r"list.m3u8 has no known format"):
        open_recordings(tmp_path / "list.m3u8")
