"""What an evaluation step leaves for the report: scores, some predicted clips, and gates; written and read in one place.

`scores.json` holds the scores by seed, `forecasts.json` what forecasts were measured by besides, `kinds.json` the kind of every
clip and `sequences.json` its recording where the data set knows them, `strips.npz` some clips, `listening.npz` whom each training
clip distilled from, `gates.npz` the gates of arms with TMU, `routes.npz` by which errors the clips were routed to their sources.
Nothing is unpickled.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoocast.errors import IntegrityError
from zoocast.evaluation import Scores
from zoocast.evaluation.forecasts import Forecasts
from zoocast.frames import unit_frames
from zoocast.report.data import Gates, Listening, Routes, Strips
from zoocast.store.files import parse_json, write_atomically
from zoocast.store.recorded import check_file

SCORES, FORECASTS, KINDS, SEQUENCES, STRIPS = "scores.json", "forecasts.json", "kinds.json", "sequences.json", "strips.npz"
LISTENING, GATES, ROUTES = "listening.npz", "gates.npz", "routes.npz"


def save_scores(directory: Path, split: str, scores: Mapping[int, Scores]) -> None:
    """Write the scores of an arm's seeds on `split` to ``scores.json``."""
    seeds = {str(seed): value.to_json() for seed, value in scores.items()}
    write_atomically(directory / SCORES, json.dumps({"split": split, "seeds": seeds}))


def read_scores(directory: Path) -> tuple[str, dict[int, Scores]]:
    """The split and the scores by seed. Raises `IntegrityError` when they are missing or damaged."""
    path = directory / SCORES
    try:
        data = parse_json(check_file(path).read_text(encoding="utf-8"))
        return str(data["split"]), {
            int(k): Scores.from_json(v) for k, v in sorted(data["seeds"].items(), key=lambda i: int(i[0]))
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None


def save_forecasts(directory: Path, found: Forecasts) -> None:
    """Write what an arm's forecasts were measured by to ``forecasts.json``."""
    write_atomically(directory / FORECASTS, json.dumps(found.to_json()))


def read_forecasts(directory: Path) -> Forecasts | None:
    """What the forecasts were measured by, or None if that was not asked for. Raises `IntegrityError` when it is damaged."""
    path = check_file(directory / FORECASTS)
    if not path.exists():
        return None
    try:
        return Forecasts.from_json(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, IntegrityError) as error:
        raise _damaged(path, error) from None


def save_kinds(directory: Path, kinds: Sequence[str]) -> None:
    """Write the kind of every clip of the split to ``kinds.json``."""
    write_atomically(directory / KINDS, json.dumps(list(kinds)))


def read_kinds(directory: Path) -> tuple[str, ...]:
    """The kind of every clip; none where the data set has no kinds. Raises `IntegrityError` when they are damaged."""
    path = check_file(directory / KINDS)
    if not path.exists():
        return ()
    try:
        return tuple(str(kind) for kind in parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, error) from None


def save_sequences(directory: Path, sequences: Sequence[int]) -> None:
    """Write the number of every clip's recording to ``sequences.json``."""
    write_atomically(directory / SEQUENCES, json.dumps(list(sequences)))


def read_sequences(directory: Path) -> tuple[int, ...]:
    """Which recording every clip is of; none where that is not known. Raises `IntegrityError` when they are damaged."""
    path = check_file(directory / SEQUENCES)
    if not path.exists():
        return ()
    try:
        return tuple(int(number) for number in parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, error) from None


def save_strips(directory: Path, observed: np.ndarray, truth: np.ndarray, prediction: np.ndarray, clips: Sequence[int]) -> None:
    """Write clips (K, time, C, H, W), float in [0, 1] or uint8, to ``strips.npz`` as uint8, with their indices in the split."""
    # A picture on a screen has 256 levels; float32 would take four times the space for no more to see.
    arrays = {name: _bytes(frames) for name, frames in (("observed", observed), ("truth", truth), ("prediction", prediction))}
    # Without pickles an array of objects is refused here, where it would be made, and not where a report is read.
    np.savez_compressed(directory / STRIPS, allow_pickle=False, clips=np.asarray(clips, dtype=np.int64), **arrays)


def read_strips(directory: Path) -> Strips | None:
    """The clips, or None if the step kept none. Raises `IntegrityError` when they are damaged."""
    found = _load(directory / STRIPS, ("observed", "truth", "prediction", "clips"))
    if found is None:
        return None
    observed, truth, prediction, clips = found
    if observed.ndim != 5 or truth.shape != prediction.shape or not len(observed) == len(truth) == len(clips):
        raise _damaged(directory / STRIPS, f"shapes {observed.shape}, {truth.shape}, {prediction.shape}, {clips.shape}")
    return Strips(observed, truth, prediction, tuple(int(i) for i in clips))


def save_listening(directory: Path, found: Listening) -> None:
    """Write what `read_listening` reads to ``listening.npz``; frames may be float in [0, 1], and are written as uint8."""
    np.savez_compressed(
        directory / LISTENING,
        allow_pickle=False,
        weights=np.asarray(found.weights, dtype=np.float32),
        sources=np.array(found.sources),
        kinds=np.array(found.kinds, dtype=str),
        clips=np.array(list(found.examples), dtype=np.int64),
        frames=np.stack([_bytes(frames) for frames in found.examples.values()]),
    )


def read_listening(directory: Path) -> Listening | None:
    """Whom the training clips listened to, or None if the step kept nothing of it. Raises `IntegrityError` when it is damaged."""
    found = _load(directory / LISTENING, ("weights", "sources", "kinds", "clips", "frames"))
    if found is None:
        return None
    weights, sources, kinds, clips, frames = found
    if weights.ndim != 2 or weights.shape[1] != len(sources) or len(kinds) not in (0, len(weights)) or len(clips) != len(frames):
        raise _damaged(
            directory / LISTENING, f"shapes {weights.shape}, {sources.shape}, {kinds.shape}, {clips.shape}, {frames.shape}"
        )
    examples = {int(clip): clip_frames for clip, clip_frames in zip(clips, frames, strict=True)}
    return Listening(weights, tuple(map(str, sources)), tuple(map(str, kinds)), examples)


def save_gates(directory: Path, gates: np.ndarray, sources: Sequence[str]) -> None:
    """Write gate values (M, T - 1, h, w) of one clip, averaged over channels, to ``gates.npz``."""
    np.savez_compressed(
        directory / GATES, allow_pickle=False, gates=np.asarray(gates, dtype=np.float32), sources=np.array(list(sources))
    )


def read_gates(directory: Path) -> Gates | None:
    """The gates, or None if the step kept none. Raises `IntegrityError` when they are damaged."""
    found = _load(directory / GATES, ("gates", "sources"))
    if found is None:
        return None
    values, sources = found
    if values.ndim != 4 or len(values) != len(sources):
        raise _damaged(directory / GATES, f"shapes {values.shape}, {sources.shape}")
    return Gates(values, tuple(str(s) for s in sources))


def save_routes(directory: Path, errors: np.ndarray, sources: Sequence[str]) -> None:
    """Write to ``routes.npz`` the error (clips, M) by which each clip of the split was routed: to the source with the lowest."""
    np.savez_compressed(
        directory / ROUTES, allow_pickle=False, errors=np.asarray(errors, dtype=np.float32), sources=np.array(list(sources))
    )


def read_routes(directory: Path) -> Routes | None:
    """The errors, or None if the step kept none. Raises `IntegrityError` when they are damaged."""
    found = _load(directory / ROUTES, ("errors", "sources"))
    if found is None:
        return None
    errors, sources = found
    if errors.ndim != 2 or errors.shape[1] != len(sources):
        raise _damaged(directory / ROUTES, f"shapes {errors.shape}, {sources.shape}")
    return Routes(errors, tuple(str(s) for s in sources))


def _bytes(frames: np.ndarray) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.dtype == np.uint8:
        return frames
    return (unit_frames(frames) * 255).round().astype(np.uint8)


def _load(path: Path, names: Sequence[str]) -> list[np.ndarray] | None:
    if not check_file(path).exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]  # reading a member of the archive checks its CRC
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, why: Any) -> IntegrityError:
    return IntegrityError(f"{path} cannot be read ({why}); remove its folder and run the pipeline again")
