import dataclasses
from collections.abc import Sequence

from zoocast.evaluation import Scores
from zoocast.metrics import Statistics
from zoocast.report.compare import Difference, difference
from zoocast.report.subsets import by_kind, on_last_frames

KINDS = ("move", "turn", "move", "turn")


def scores(move: float, turn: float, frames: Sequence[float]) -> Scores:
    """Scores of two clips of each kind that have such errors, and the sums over the four of each frame."""
    clips = dict(enumerate((move - 1, turn + 1, move + 1, turn - 1)))
    return Scores(Statistics(4, {"strict/mse": tuple(frames)}), clips)


MEASURED = {
    "copy-last": {0: scores(20.0, 40.0, [120.0, 120.0, 120.0, 120.0])},
    "a": {k: scores(10.0 + k, 20.0, [40.0, 60.0, 60.0, 80.0 + k]) for k in range(3)},
    "tmu": {k: scores(8.0 + k, 20.0 + k, [40.0, 60.0, 60.0, 40.0 + k]) for k in range(3)},
}


def decisive(**changes: object) -> Difference:
    found = difference(MEASURED, "tmu", "a")
    assert found is not None
    return dataclasses.replace(found, chosen=True, **changes)  # type: ignore[arg-type]


def test_every_arm_has_its_error_on_each_kind_of_clip_and_so_has_the_comparison() -> None:
    view = by_kind(MEASURED, KINDS, "test", decisive(), untrained=("copy-last",))
    assert view.columns == ("arm", "move, 2 clips", "turn, 2 clips")
    # both kinds of tmu vary by 1 between seeds: two digits of that
    assert view.rows[:3] == (
        ("copy-last", "20.0", "40.0"),
        ("a", "11.0 ± 1.0", "20.0 ± 0.0"),
        ("tmu", "9.0 ± 1.0", "21.0 ± 1.0"),
    )
    # tmu is lower by 2 in each seed of the one kind; of the other the differences are 0, 1, 2, and half of their interval is
    # 4.303 / sqrt(3) = 2.484
    assert view.rows[3:] == (
        ("tmu minus a", "−2.00", "+1.00"),
        ("its 95 % interval over seeds", "−2.00 to −2.00", "−1.48 to +3.48"),
        ("relative", "−18.2\N{NO-BREAK SPACE}%", "+5.0\N{NO-BREAK SPACE}%"),
        ("lower in seeds", "3 of 3", "0 of 3"),
    )
    (sentence,) = view.sentences
    assert sentence.startswith("strict/mse of tmu, compared with a, by kind of clip: move: 18.2")
    assert "turn: 5.0" in sentence


def test_where_nothing_can_be_concluded_kinds_are_shown_and_not_compared() -> None:
    for nothing in (None, decisive(too_small="There are too few seeds.")):
        view = by_kind(MEASURED, KINDS, "test", nothing, untrained=("copy-last",))
        assert [row[0] for row in view.rows] == list(MEASURED)
        assert view.sentences == ()
        assert on_last_frames(MEASURED, nothing) == ""


def test_the_last_third_of_the_horizon_is_compared_by_itself() -> None:
    # Two of four frames, whose sums are 60 and 80 + k in a, 60 and 40 + k in tmu: over seeds 141 and 101, or 40 / 141 less.
    sentence = on_last_frames(MEASURED, decisive()).replace("\N{NO-BREAK SPACE}", " ")
    assert sentence.startswith("On the last 2 of 4 predicted frames strict/mse of tmu, compared with a, is 28.4 % lower (95 %")
    assert sentence.endswith("lower in 3 of 3 seeds).")
    one = {arm: {k: scores(8.0, 20.0, [60.0]) for k in range(3)} for arm in ("a", "tmu")}
    assert on_last_frames(one, decisive()) == ""
