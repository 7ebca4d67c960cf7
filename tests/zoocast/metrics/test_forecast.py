import numpy as np
import pytest

from zoocast.errors import ConfigError, IntegrityError
from zoocast.frames import FrameShape
from zoocast.metrics.contingency import SCORES, tables
from zoocast.metrics.forecast import BASELINES, ForecastConfig, Quantity, Sums, along, measure, measure_ensemble, summary

RAIN = Quantity(unit="mm/h", factor=40.0)


def clips(seed: int, count: int = 3) -> np.ndarray:
    """(count, 2, 1, 16, 16) of 0 to 1, as float32 of bytes."""
    values = np.random.default_rng(seed).gamma(0.5, 60.0, (count, 2, 1, 16, 16)).clip(0, 255).astype(np.uint8)
    return values.astype(np.float32) / 255


def test_a_byte_that_is_the_threshold_is_an_event() -> None:
    every = (np.arange(256, dtype=np.uint8).astype(np.float32) / 255).reshape(1, 1, 1, 16, 16)
    config = ForecastConfig(convention="sevir", pooling=(), windows=())
    found = measure(every, every, config, BASELINES["sevir"]).values["tables"]
    assert found[0, :, 0, 0].tolist() == [256 - t for t in (16, 74, 133, 160, 181, 219)]


def test_thresholds_are_in_units() -> None:
    config = ForecastConfig(convention="units", thresholds=(4.0, 20.0), pooling=(), windows=())
    forecast, truth = clips(0), clips(1)
    found = measure(forecast, truth, config, RAIN).values["tables"][0]
    assert (found == tables(40.0 * forecast[:, :, 0], 40.0 * truth[:, :, 0], (4.0, 20.0))).all()


def test_hko_compares_rain_of_reflectivities_and_takes_the_mean_over_lead_times() -> None:
    forecast, truth = clips(0), clips(1)
    dbz = BASELINES["hko"]
    config = ForecastConfig(convention="hko", pooling=(), windows=())
    sums = measure(forecast, truth, config, dbz)
    # 2 mm/h are 10 log10(58.53) + 15.6 log10(2) = 22.37 dBZ, and (22.37 + 10) / 70 of the brightest pixel.
    by_lead = SCORES["csi"](tables(forecast[:, :, 0], truth[:, :, 0], (0.46243,))[0])
    assert along(sums, "csi")[1] == pytest.approx(by_lead)
    assert summary(sums, config)["CSI at 2"] == pytest.approx(by_lead.mean())
    with pytest.raises(ConfigError, match=r"hko is for clips in dBZ or mm/h, but these are in K"):
        config.levels(Quantity(unit="K"))
    # B-MAE by its definition: weights by the truth's rain, errors of 0 to 1, sums over pixels, the mean over clips.
    rain = 10 ** ((70 * truth.astype(float) - 10 - 10 * np.log10(58.53)) / 15.6)
    weights = np.select([rain >= 30, rain >= 10, rain >= 5, rain >= 2], [30, 10, 5, 2], 1)
    expected = (weights * abs(forecast.astype(float) - truth)).sum((2, 3, 4)).mean()
    assert summary(sums, config)["B-MAE"] == pytest.approx(expected)


def test_sevir_counts_all_lead_times_together_and_earthformer_takes_the_same_mean_over_thresholds() -> None:
    forecast, truth = clips(0), clips(1)
    found = []
    for convention in ("sevir", "earthformer"):
        config = ForecastConfig(convention=convention, pooling=(4,), windows=(5,))
        sums = measure(forecast, truth, config, BASELINES[convention])
        found.append(summary(sums, config))
    assert found[0] == found[1]
    together = SCORES["csi"](sums.values["tables"][0].sum(1))
    assert found[0]["CSI at 133"] == together[2]
    assert found[0]["CSI, mean over thresholds"] == pytest.approx(together.mean())
    assert found[0]["CSI, max of 4x4, mean over thresholds"] > found[0]["CSI, mean over thresholds"]


def test_sums_of_parts_are_those_of_the_whole_and_survive_json() -> None:
    config = ForecastConfig(convention="hko", latitudes=(-40.0, 40.0))
    climatology = clips(3)[0, 0, 0]

    def of(part: slice) -> Sums:
        return measure(clips(0)[part], clips(1)[part], config, RAIN, climatology=climatology)

    whole, parts = of(slice(None)), of(slice(1)) + of(slice(1, None))
    assert summary(parts, config) == pytest.approx(summary(whole, config), nan_ok=True)
    assert {k: v.tolist() for k, v in Sums.from_json(whole.to_json()).values.items()} == whole.to_json()
    with pytest.raises(IntegrityError, match="must be finite"):
        Sums.from_json({"clips": float("nan")})


def test_errors_of_weather_and_of_ensembles_are_in_units() -> None:
    kelvin = Quantity(unit="K", offset=200.0, factor=100.0)
    config = ForecastConfig(convention="units", latitudes=(0.0, 0.0), pooling=(), windows=())
    truth = clips(1)
    sums = measure(truth + np.float32(0), truth, config, kelvin, climatology=np.zeros((16, 16)))
    assert summary(sums, config, "K")["ACC"] == pytest.approx(1.0)
    off = measure((truth * 0 + 0.5), truth * 0 + np.float32(0.25), config, kelvin, climatology=np.ones((16, 16)))
    assert summary(off, config, "K")["weighted RMSE, K"] == pytest.approx(25.0)
    members = np.stack([truth * 0 + np.float32(v) for v in (0.25, 0.5)])
    both = measure_ensemble(members, truth * 0 + np.float32(0.25), config, kelvin)
    # Mean distance 0.125, less half of the one pair's 0.25: 0; the spread is 0.03125 * 3 / 2 and the error 0.125^2.
    assert summary(both, config, "K")["fair CRPS, K"] == pytest.approx(0.0, abs=1e-12)
    assert summary(both, config, "K")["spread over skill"] == pytest.approx(3**0.5)


def test_missing_truth_changes_nothing_that_is_measured_elsewhere() -> None:
    config = ForecastConfig(convention="hko", pooling=(), windows=())
    forecast, truth = clips(0), clips(1)
    truth[:, :, :, :8] = np.nan
    found = measure(forecast, truth, config, BASELINES["hko"]).values
    half = measure(forecast[..., 8:, :], truth[..., 8:, :], config, BASELINES["hko"]).values
    assert (found["tables"] == half["tables"]).all()
    assert found["balanced"] == pytest.approx(half["balanced"])
    assert not found["whole"].any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"thresholds": (1.0,)}, "convention: is none, so that nothing else here is used"),
        ({"convention": "units", "thresholds": (2.0, 1.0)}, "thresholds: must grow, but got 2, 1"),
        ({"convention": "units", "latitudes": (1.0,)}, "latitudes: must be those of the first and the last row, but got 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ForecastConfig(**settings)


def test_what_frames_are_too_small_for_is_refused() -> None:
    frames = FrameShape(channels=1, height=12, width=20)
    with pytest.raises(ConfigError, match="pooling: must be at most 12, the shorter side of a frame, but got 16"):
        ForecastConfig(convention="sevir").check(frames)
    with pytest.raises(ConfigError, match="channel: must be below 1"):
        ForecastConfig(convention="sevir", channel=1).check(frames)
    with pytest.raises(ConfigError, match="lpips: needs frames of 1 or 3 channels and at least 32x32 pixels"):
        ForecastConfig(convention="sevir", pooling=(4,), windows=(5,), lpips="a.pth").check(frames)
