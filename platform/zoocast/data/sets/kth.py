"""KTH actions: 25 persons, six actions, four scenes, in grey at 25 frames per second (Schuldt, Laptev, Caputo, ICPR 2004).

    FOLDER/00sequences.txt, FOLDER/**/person01_boxing_d1_uncomp.avi    the original: which frames show somebody, and films
    FOLDER/boxing/person01_boxing_d1_uncomp/image_0001.jpg             predrnn's and OpenSTL's folders: those frames alone

The text numbers frames from 1, both ends included; its ranges may be out of order or touch, and one film is nowhere. What it has
beyond the end of a damaged film is left out, and `plan` says so; damage inside films is looked for by `verify`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from zoocast.config import setting
from zoocast.data.formats.images import open_images
from zoocast.data.formats.trust import reading
from zoocast.data.formats.video import open_video
from zoocast.data.recorded import RecordedClips
from zoocast.data.recordings import Recording, Window
from zoocast.data.sets.releases import tested_twice
from zoocast.data.splits import Split
from zoocast.data.windows import Cut, clips_in
from zoocast.errors import ConfigError, DataError
from zoocast.words import some

__all__ = ["KthConfig"]

TEXT = "00sequences.txt"
LINE = re.compile(r"(person\d\d_[a-z]+_d\d)[ \t]+frames[ \t]+([\d, \t-]+)")
BRIEF = ("jogging", "running")  # whoever does it is soon out of sight: predrnn's clips of it overlap
RELEASES = ("openstl", "predrnn")
# Who trains, validates and tests.
PERSONS: Mapping[str, Mapping[Split, Sequence[int]]] = {
    "strict": {"train": range(1, 15), "validation": range(15, 17), "test": range(17, 26)},
    "icpr": {
        "train": range(11, 19),
        "validation": (19, 20, 21, 23, 24, 25, 1, 4),
        "test": (22, 2, 3, 5, 6, 7, 8, 9, 10),
    },
    "openstl": {"train": range(1, 17), "validation": range(17, 26), "test": range(17, 26)},
    "predrnn": {"train": range(1, 17), "validation": range(17, 26), "test": range(17, 26)},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KthConfig(RecordedClips):
    """Clips of people who move; 10 frames to see and 20 to predict unless told otherwise."""

    kind: ClassVar[str] = "kth"

    protocol: Literal["strict", "openstl", "predrnn", "icpr"] = setting(
        "strict", "whose clips train, validate and test; openstl and predrnn cut them as these do, and not by stride"
    )
    verify: bool = setting(False, "decode all films once, in some minutes, and leave out what is damaged")
    length: int = setting(30, "frames in each clip", at_least=2)
    height: int = setting(128, "of the resized frame, pixels; 0: as it is", at_least=0)
    width: int = setting(128, "of the resized frame, pixels; 0: as it is", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol in RELEASES and self.stride:
            raise ConfigError("stride", f"is {self.stride}, but protocol={self.protocol} has its own; set it to 0")

    def recordings(self) -> tuple[Recording, ...]:
        """The films in the order of their names, each with the runs in which somebody is seen."""
        films = _films(Path(self.path))
        if not films:
            return _pictures(Path(self.path))
        listed = _listed(Path(self.path) / TEXT, films)
        found = []
        for name, path in films.items():
            (film,) = open_video(path, "avi", name=name, group=name[6:8], gray=True, verify=self.verify).recordings
            good = film.runs or (range(film.frames),)
            if runs := _joined([seen for seen in listed[name] if _within(seen, good)]):
                found.append(dataclasses.replace(film, runs=runs, files=(path, Path(self.path) / TEXT)))
        return tuple(found)

    def remarks(self) -> tuple[str, ...]:
        """What every set of recordings tells, what is left out, and what a release's protocol means."""
        said, folder = list(super().remarks()), Path(self.path)
        if films := _films(folder):
            runs = {recording.name: recording.runs for recording in self.recordings()}
            left = [
                f"{name} {seen.start + 1}-{seen.stop}"
                for name, ranges in _listed(folder / TEXT, films).items()
                for seen in ranges
                if not _within(seen, runs.get(name, ()))
            ]
            if left:
                said.append(f"warning: left out, not whole in a damaged film: {some(left)}")
        if self.protocol in RELEASES:
            said.append(tested_twice(self.protocol))
        return tuple(said)

    def windows(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """By person."""
        shares = {
            split: [number for number, recording in enumerate(recordings) if int(recording.group) in persons]
            for split, persons in PERSONS[self.protocol].items()
        }
        if self.protocol not in RELEASES:
            return clips_in(shares, recordings, self.cut)
        return {
            split: [w for n in numbers for w in _from_the_end(n, recordings[n], self.cut)] for split, numbers in shares.items()
        }


def _from_the_end(number: int, recording: Recording, cut: Cut) -> list[Window]:
    """The clips as predrnn-pytorch cuts them: of each run from its last frame backwards."""
    jump = 3 if recording.name.split("_")[1] in BRIEF else cut.span
    return [
        Window(number, start, cut.length, cut.step)
        for run in recording.runs or (range(recording.frames),)
        for start in range(run.stop - cut.span, run.start - 1, -jump)
    ]


def _pictures(folder: Path) -> tuple[Recording, ...]:
    """The releases' folders, in the order of their names."""
    found: list[Recording] = []
    for inner in sorted(folder.glob("*/person*_uncomp"), key=lambda inner: inner.name):
        files, name = sorted(inner.glob("image*.jpg")), inner.name.removesuffix("_uncomp")
        if not files:
            raise DataError(f"{inner} has no image_0001.jpg and so on; download the set again")
        found += open_images(inner, files, name=name, group=name[6:8], gray=True).recordings
    if not found:
        raise DataError(
            f"{folder} has neither films like person01_boxing_d1_uncomp.avi nor folders boxing/person01_boxing_d1_uncomp"
        )
    return tuple(found)


def _films(folder: Path) -> dict[str, Path]:
    """The original's films by their names, in the order of these."""
    return dict(sorted((path.name.removesuffix("_uncomp.avi"), path) for path in folder.rglob("person*_uncomp.avi")))


def _listed(text: Path, films: Iterable[str]) -> dict[str, list[range]]:
    """In which frames of each film somebody is seen: in order, from 0 and without their ends."""
    with reading(text, "KTH's list of sequences"):
        lines = dict(LINE.findall(text.read_text(encoding="latin-1")))
    if absent := sorted(set(films) - lines.keys()):
        raise DataError(f"{text} does not list {some(absent)}; download it again")
    ranges = {name: re.findall(r"(\d+)-(\d+)", lines[name]) for name in films}
    return {
        name: sorted((range(int(first) - 1, int(last)) for first, last in pairs), key=lambda seen: seen.start)
        for name, pairs in ranges.items()
    }


def _within(seen: range, runs: Iterable[range]) -> bool:
    return any(run.start <= seen.start and seen.stop <= run.stop for run in runs)


def _joined(ranges: Sequence[range]) -> tuple[range, ...]:
    """Ranges that touch or overlap as one: the film goes on."""
    joined: list[range] = []
    for run in ranges:
        if joined and run.start <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, max(run.stop, joined[-1].stop))
        else:
            joined.append(run)
    return tuple(joined)
