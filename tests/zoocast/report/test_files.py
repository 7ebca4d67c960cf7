import json
from pathlib import Path

import numpy as np
import pytest

from zoocast.errors import IntegrityError
from zoocast.evaluation import Scores
from zoocast.metrics import Statistics
from zoocast.report.data import Listening
from zoocast.report.files import (
    read_gates,
    read_kinds,
    read_listening,
    read_scores,
    read_strips,
    save_gates,
    save_kinds,
    save_listening,
    save_scores,
    save_strips,
)

SCORES = Scores(Statistics(2, {"strict/mse": (0.1, 0.3)}), {0: 0.1, 7: 0.3})


def strips(directory: Path) -> None:
    frames = np.linspace(0, 1, 2 * 3 * 4 * 5).reshape(2, 3, 1, 4, 5)
    save_strips(directory, frames, frames[:, :2], frames[:, 1:], (4, 9))


def test_scores_come_back_bit_for_bit_in_the_order_of_seeds(tmp_path: Path) -> None:
    save_scores(tmp_path, "test", {10: SCORES, 2: SCORES})
    split, scores = read_scores(tmp_path)
    assert split == "test"
    assert list(scores) == [2, 10]
    assert scores[2] == SCORES


def test_predicted_clips_come_back_as_uint8(tmp_path: Path) -> None:
    strips(tmp_path)
    found = read_strips(tmp_path)
    assert found is not None
    assert found.clips == (4, 9)
    assert found.observed.dtype == np.uint8
    # 0.5 * 255 = 127.5; the frames' first and last values are 0 and 1
    assert (found.observed.min(), found.observed.max()) == (0, 255)
    assert (found.truth.shape, found.prediction.shape) == ((2, 2, 1, 4, 5), (2, 2, 1, 4, 5))


def test_gates_come_back_with_their_sources(tmp_path: Path) -> None:
    gates = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    save_gates(tmp_path, gates, ["one-digit", "zwei"])
    found = read_gates(tmp_path)
    assert found is not None
    np.testing.assert_array_equal(found.values, gates)
    assert found.sources == ("one-digit", "zwei")


def test_whom_clips_listened_to_comes_back(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 1, 4, 5)).astype(np.uint8)
    kept = Listening(np.float32([[2, 0], [0.5, 1.5]]), ("one", "zwei"), ("move", "turn"), {1: frames[0], 0: frames[1]})
    assert read_listening(tmp_path) is None
    save_listening(tmp_path, kept)
    found = read_listening(tmp_path)
    assert found is not None
    assert (found.sources, found.kinds, list(found.examples)) == (kept.sources, kept.kinds, [1, 0])
    np.testing.assert_array_equal(found.weights, kept.weights)
    np.testing.assert_array_equal(found.examples[0], frames[1])
    save_listening(tmp_path, kept._replace(kinds=("move",)))
    with pytest.raises(IntegrityError, match=r"listening\.npz cannot be read \(shapes \(2, 2\), \(2,\), \(1,\)"):
        read_listening(tmp_path)


def test_kinds_of_clips_come_back_in_their_order(tmp_path: Path) -> None:
    save_kinds(tmp_path, ["move", "turn", "move"])
    assert read_kinds(tmp_path) == ("move", "turn", "move")
    (tmp_path / "kinds.json").write_text("7")
    with pytest.raises(IntegrityError, match=r"kinds\.json cannot be read"):
        read_kinds(tmp_path)


def test_an_evaluation_without_kinds_clips_or_gates_has_none(tmp_path: Path) -> None:
    assert read_kinds(tmp_path) == ()
    assert read_strips(tmp_path) is None
    assert read_gates(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"split": "test"}', '{"split": "test", "seeds": {"a": 1}}', '{"split": "test", "seeds": []}']
)
def test_damaged_scores_name_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"scores\.json|scores must hold"):
        read_scores(tmp_path)


def test_missing_scores_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"scores\.json cannot be read"):
        read_scores(tmp_path)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    strips(tmp_path)
    path = tmp_path / "strips.npz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(IntegrityError, match=r"strips\.npz"):
        read_strips(tmp_path)


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    strips(tmp_path)
    path = tmp_path / "strips.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 1  # inside a compressed array, whose zip member has a checksum
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"strips\.npz"):
        read_strips(tmp_path)


def test_an_archive_with_a_pickled_array_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "gates.npz", gates=np.array([{"a": 1}], dtype=object), sources=np.array(["a"]))
    with pytest.raises(IntegrityError, match="allow_pickle"):
        read_gates(tmp_path)


def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "gates.npz", gates=np.zeros((2, 3, 4, 5)), sources=np.array(["only one"]))
    with pytest.raises(IntegrityError, match=r"shapes \(2, 3, 4, 5\)"):
        read_gates(tmp_path)
    frames = np.zeros((2, 3, 1, 4, 4), np.uint8)
    save_strips(tmp_path, frames, frames, frames[:, :2], (0, 1))
    with pytest.raises(IntegrityError, match="shapes"):
        read_strips(tmp_path)


def test_scores_are_plain_json(tmp_path: Path) -> None:
    save_scores(tmp_path, "test", {0: SCORES})
    assert json.loads((tmp_path / "scores.json").read_text())["seeds"]["0"]["count"] == 2
