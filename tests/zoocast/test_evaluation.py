import dataclasses
import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from zoocast.errors import ConfigError, DataError, IntegrityError, ZoocastError
from zoocast.evaluation import (
    Scores,
    check_evaluation,
    copy_last,
    evaluate,
    paired_difference,
    paired_over_both,
    paired_over_clips,
    relative_difference,
    validation_error,
)
from zoocast.frames import FrameShape
from zoocast.metrics import METRICS, FramePairs, Statistics

OBSERVED, HORIZON = 3, 2


@dataclasses.dataclass
class InMemory:
    """A split that lies in memory and remembers what was asked of it."""

    data: Tensor
    asked: list[list[int]] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.data)

    def clips(self, indices: Sequence[int]) -> Tensor:
        self.asked.append(list(indices))
        return self.data[list(indices)]


@pytest.fixture
def split() -> InMemory:
    return InMemory(torch.rand(7, 6, 1, 8, 9, generator=torch.Generator().manual_seed(3)))


def fade(observed: Tensor) -> Tensor:
    """A predictor that is wrong in another way in each frame."""
    return torch.stack([observed[:, -1] * 0.9, observed[:, -2] * 1.2], 1)


def run(split: InMemory, batch_size: int = 3, indices: Sequence[int] | None = None) -> Scores:
    return evaluate(fade, split, observed=OBSERVED, horizon=HORIZON, batch_size=batch_size, indices=indices)


def scores_of(values: Sequence[float]) -> Scores:
    """Scores with the given strict/mse of each clip, one frame long."""
    return Scores(Statistics(len(values), {"strict/mse": (sum(values),)}), dict(enumerate(values)))


def test_every_clip_is_measured_once_and_the_numbers_are_the_metrics(split: InMemory) -> None:
    scores = run(split, batch_size=3)
    assert split.asked == [[0, 1, 2], [3, 4, 5], [6]]
    assert scores.count == 7
    assert scores.names == tuple(METRICS)
    pairs = FramePairs(fade(split.data[:, :OBSERVED]).numpy(), split.data[:, OBSERVED : OBSERVED + HORIZON].numpy())
    for name, metric in METRICS.items():
        expected = metric.per_frame(pairs)
        assert scores.per_frame(name) == pytest.approx([metric.of_mean(v) for v in expected.mean(0)], rel=1e-14)
        assert scores.overall(name) == scores.means()[name] == pytest.approx(metric.of_mean(expected.mean()), rel=1e-14)
    assert list(scores.clip_mse) == list(range(7))
    assert list(scores.clip_mse.values()) == pytest.approx(METRICS["strict/mse"].per_frame(pairs).mean(1).tolist(), rel=1e-14)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_scores_are_the_same_for_every_batch_size(split: InMemory, batch_size: int) -> None:
    assert run(split, batch_size).means() == pytest.approx(run(split, 3).means(), rel=1e-14)


def test_shards_add_up_in_any_order(split: InMemory) -> None:
    whole = run(split)
    total = run(split, 2, indices=range(1, 7, 2)) + run(split, 2, indices=range(0, 7, 2))
    assert total.clip_mse == whole.clip_mse
    assert list(total.clip_mse) == list(whole.clip_mse)
    assert total.means() == pytest.approx(whole.means(), rel=1e-14)
    assert Scores.zero(horizon=HORIZON) + whole == whole


def test_a_clip_cannot_count_twice(split: InMemory) -> None:
    with pytest.raises(ValueError, match="clip 2 is in both"):
        run(split, indices=[1, 2]) + run(split, indices=[2, 3])
    with pytest.raises(ValueError, match="every clip counts once, but the sums hold 2 clips and 1 are different"):
        run(split, indices=[4, 4])


def test_one_protocol_alone_keeps_its_names_and_the_clips(split: InMemory) -> None:
    scores = evaluate(fade, split, observed=OBSERVED, horizon=HORIZON, batch_size=4, protocols=("openstl",))
    assert scores.names == ("openstl/mse", "openstl/mae", "openstl/ssim", "openstl/psnr")
    assert scores.clip_mse == run(split, 4).clip_mse


def test_scores_come_back_from_json_bit_for_bit(split: InMemory) -> None:
    scores = run(split)
    text = json.dumps(scores.to_json(), allow_nan=False)
    assert Scores.from_json(json.loads(text)) == scores


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("sums"),
        lambda d: d["clip_mse"].pop("0"),
        lambda d: d["clip_mse"].update({"0": math.nan}),
        lambda d: d["sums"].update({"strict/mse": "broken"}),
        lambda d: d.update(count=None),
    ],
)
def test_damaged_json_of_scores_is_an_integrity_error(split: InMemory, damage: object) -> None:
    data = run(split).to_json()
    damage(data)  # type: ignore[operator]
    with pytest.raises(IntegrityError, match="scores must"):
        Scores.from_json(data)


def test_prediction_runs_in_inference_mode_with_the_threads_it_found(split: InMemory) -> None:
    threads, seen = torch.get_num_threads(), []

    def predict(observed: Tensor) -> Tensor:
        seen.append((torch.is_inference_mode_enabled(), torch.get_num_threads()))
        return fade(observed)

    evaluate(predict, split, observed=OBSERVED, horizon=HORIZON, batch_size=7)
    assert seen == [(True, threads)]
    assert not torch.is_inference_mode_enabled()


def test_a_prediction_in_bfloat16_is_measured_in_float32() -> None:
    # 0.5 is exact in bfloat16; truth 0.25: squared error 0.0625
    clips = InMemory(torch.full((2, 4, 1, 8, 8), 0.25))

    def predict(observed: Tensor) -> Tensor:
        return torch.full_like(observed[:, :1], 0.5, dtype=torch.bfloat16)

    scores = evaluate(predict, clips, observed=3, horizon=1, batch_size=2)
    assert scores.overall("strict/mse") == 0.0625


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_prediction_that_is_not_finite_names_its_clip(split: InMemory, value: float) -> None:
    def predict(observed: Tensor) -> Tensor:
        out = fade(observed)
        # clip 5 is the third of the second batch
        if torch.equal(observed[-1], split.data[5, :OBSERVED]):
            out[2, 1, 0, 0, 0] = value
        return out

    with pytest.raises(ZoocastError, match=r"prediction for clip 5 .* in frame 2 of the horizon"):
        evaluate(predict, split, observed=OBSERVED, horizon=HORIZON, batch_size=3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("background", [0.0, 1.0])
def test_a_network_that_predicts_no_number_has_the_infinite_validation_error(value: float, background: float) -> None:
    # clipped first, -inf on black and inf on white would score 0, the best that there is
    clips = InMemory(torch.full((5, 5, 1, 8, 8), background))

    def predict(observed: Tensor) -> Tensor:
        out = torch.full_like(observed[:, :HORIZON], background)
        out[-1, 1, 0, 3, 3] = value
        return out

    assert validation_error(predict, clips, observed=OBSERVED, horizon=HORIZON, batch_size=4) == math.inf


def test_the_validation_error_is_strict_mse(split: InMemory) -> None:
    error = validation_error(fade, split, observed=OBSERVED, horizon=HORIZON, batch_size=3)
    assert error == pytest.approx(run(split).overall("strict/mse"), rel=1e-6)


def test_data_that_are_not_finite_are_not_blamed_on_the_network(split: InMemory) -> None:
    split.data[4, 1, 0, 2, 2] = math.nan
    with pytest.raises(DataError, match="clip 4 holds a value that is not finite in its frame 2"):
        run(split)


def test_wrong_shape_of_a_prediction_is_refused(split: InMemory) -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 2, 1, 8, 9\), but got \(3, 3, 1, 8, 9\)"):
        evaluate(copy_last(3), split, observed=OBSERVED, horizon=2, batch_size=3)


def test_geometry_is_checked_without_data() -> None:
    shape = FrameShape(channels=1, height=8, width=8)
    check_evaluation(observed=10, horizon=10, length=20, frames=shape)
    with pytest.raises(ConfigError, match=r"horizon: .* got 10 \+ 11 for clips of 20 frames; use a horizon of at most 10"):
        check_evaluation(observed=10, horizon=11, length=20, frames=shape)
    with pytest.raises(ConfigError, match="observed: must be at least 1, but got 0"):
        check_evaluation(observed=0, horizon=10, length=20, frames=shape)
    with pytest.raises(ConfigError, match="at least 7x7 pixels, but got 1x6x8"):
        check_evaluation(observed=10, horizon=10, length=20, frames=FrameShape(channels=1, height=6, width=8))


def test_evaluations_that_cannot_be_done_are_config_errors(split: InMemory) -> None:
    with pytest.raises(ConfigError, match="clips of 6 frames"):
        evaluate(copy_last(5), split, observed=2, horizon=5, batch_size=3)
    with pytest.raises(ConfigError, match="batch_size: must be at least 1, but got 0"):
        run(split, batch_size=0)
    with pytest.raises(ConfigError, match="no clip to evaluate"):
        run(split, indices=[])


def test_copy_last_repeats_the_last_observed_frame() -> None:
    observed = torch.arange(6.0).reshape(2, 3, 1, 1, 1)
    assert copy_last(4)(observed).flatten(1).tolist() == [[2.0] * 4, [5.0] * 4]


# ---------------------------------------------------------------------------------------------------------------- comparing


def test_paired_difference_is_students_t() -> None:
    # differences 1, 2, 3: mean 2, deviation 1; t(0.975, 2 degrees) = 4.302653 (table), so the half width is 4.302653 / sqrt(3)
    result = paired_difference([11.0, 12.0, 13.0], [10.0, 10.0, 10.0])
    assert result.mean == 2.0
    assert result.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert result.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert (result.count, result.over, result.confidence) == (3, "seeds", 0.95)


def test_paired_difference_of_equal_differences_has_no_width() -> None:
    result = paired_difference([2.0, 3.0], [1.0, 2.0])
    assert (result.mean, result.low, result.high) == (1.0, 1.0, 1.0)


def test_one_pair_has_no_interval() -> None:
    result = paired_difference([1.0], [3.0])
    assert (result.mean, result.low, result.high, result.count) == (-2.0, None, None, 1)


def test_paired_differences_of_unequally_many_values_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="got 0 and 0"):
        paired_difference([], [])


def test_paired_differences_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        paired_difference([1.0, math.nan], [1.0, 2.0])


def test_paired_over_clips_averages_seeds_first() -> None:
    # arm a: clips 2, 4, 6 (means of the two seeds); arm b: 1, 2, 3; differences 1, 2, 3 as above
    result = paired_over_clips([scores_of([1.0, 4.0, 7.0]), scores_of([3.0, 4.0, 5.0])], [scores_of([1.0, 2.0, 3.0])])
    assert (result.mean, result.count, result.over) == (2.0, 3, "clips")
    assert result.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


def test_scores_of_different_clips_are_not_paired() -> None:
    with pytest.raises(ValueError, match="same clips"):
        paired_over_clips([scores_of([1.0, 2.0])], [scores_of([1.0])])
    with pytest.raises(ValueError, match="at least one seed of each arm"):
        paired_over_clips([scores_of([1.0])], [])


def test_a_relative_difference_ends_where_students_t_begins_to_tell() -> None:
    a, b = [9.0, 10.5, 8.8, 9.6], [10.0, 11.0, 10.4, 10.2]
    found = relative_difference(a, b)
    assert found.mean == pytest.approx(37.9 / 41.6 - 1)
    assert found.low is not None
    assert found.high is not None
    # At its ends the scaled difference has an interval that just touches zero.
    assert paired_difference(a, [(1 + found.low) * v for v in b]).low == pytest.approx(0, abs=1e-12)
    assert paired_difference(a, [(1 + found.high) * v for v in b]).high == pytest.approx(0, abs=1e-12)


def test_a_relative_difference_to_what_does_not_vary_is_the_difference_divided() -> None:
    plain, found = (of([1.0, 2.0, 4.0], [5.0, 5.0, 5.0]) for of in (paired_difference, relative_difference))
    assert (found.low, found.high) == pytest.approx((plain.low / 5, plain.high / 5))


def test_a_relative_difference_to_what_may_be_zero_has_no_interval() -> None:
    found = relative_difference([1.0, 2.0], [-1.0, 1.5])
    assert (found.mean, found.low, found.high) == (5.0, None, None)
    assert relative_difference([1.0], [2.0]).low is None


def crossed(differences: np.ndarray) -> tuple[list[Scores], list[Scores]]:
    """Two arms with such differences, (seeds, clips), between them."""
    return [scores_of(row) for row in differences.tolist()], [scores_of(row) for row in np.zeros_like(differences).tolist()]


def test_the_interval_over_seeds_and_clips_is_that_of_the_crossed_design() -> None:
    # Seed means 2, 4 and clip means 1, 3, 5: mean 3, MS_seed = 3 * 2 = 6, MS_clip = 2 * 4 = 8. The rest is 0.5, 0, -0.5 and its
    # negative, so MS_rest = 4 * 0.25 / 2 = 0.5. The variance is (6 + 8 - 0.5) / 6 = 2.25, with
    # 13.5**2 / (36 / 1 + 64 / 2 + 0.25 / 2) = 2.675 degrees of freedom, for which Student's t is 3.4126.
    result = paired_over_both(*crossed(np.array([[0.5, 2.0, 3.5], [1.5, 4.0, 6.5]])))
    assert (result.mean, result.count, result.over) == (3.0, 2, "both")
    assert result.high == pytest.approx(3 + 3.4126 * 1.5, abs=1e-3)


def test_where_clips_do_not_matter_the_interval_over_both_is_the_one_over_seeds() -> None:
    arms = crossed(np.repeat([[1.0], [2.0], [4.0]], 5, axis=1))
    seeds = paired_difference([1.0, 2.0, 4.0], [0.0] * 3)
    both = paired_over_both(*arms)
    assert (both.low, both.high) == pytest.approx((seeds.low, seeds.high))


def test_one_seed_or_one_clip_has_no_interval_over_both() -> None:
    assert paired_over_both(*crossed(np.array([[1.0, 2.0]]))).low is None
    assert paired_over_both(*crossed(np.array([[1.0], [2.0]]))).low is None
    assert paired_over_both(*crossed(np.full((2, 3), 1.5))).low == 1.5
    with pytest.raises(ValueError, match="must be paired, but got 2 and 1"):
        paired_over_both([scores_of([1.0]), scores_of([2.0])], [scores_of([1.0])])


@pytest.mark.parametrize("spread", [(0.3, 3.0, 1.0), (1.0, 0.0, 1.0), (0.0, 3.0, 3.0)])
def test_the_interval_over_both_covers_the_truth_where_that_over_seeds_alone_need_not(spread: tuple[float, float, float]) -> None:
    random = np.random.default_rng(0)
    of_seed, of_clip, of_rest = spread
    trials, covered, by_seeds = 400, 0, 0
    for _ in range(trials):
        shape = (5, 24)
        differences = of_seed * random.normal(size=(5, 1)) + of_clip * random.normal(size=(1, 24))
        differences += of_rest * random.normal(size=shape)
        both = paired_over_both(*crossed(differences))
        seeds = paired_difference(differences.mean(1), [0.0] * 5)
        covered += both.low <= 0 <= both.high
        by_seeds += seeds.low <= 0 <= seeds.high
    assert 0.93 <= covered / trials <= 0.98
    if of_clip:  # other clips are no part of it
        assert by_seeds / trials < 0.8
