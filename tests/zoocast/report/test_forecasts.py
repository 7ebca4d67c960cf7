"""The section on forecasts, of an ensemble that copies and one that fades."""

import numpy as np
import pytest

from zoocast.evaluation.forecasts import Forecasts
from zoocast.metrics.forecast import ForecastConfig, Quantity, measure, measure_ensemble
from zoocast.report.figures import line_styles
from zoocast.report.files import read_forecasts, save_forecasts
from zoocast.report.forecasts import forecast_section
from zoocast.report.sections import SectionView

CONFIG = ForecastConfig(convention="units", thresholds=(10.0, 30.0, 99.0), pooling=(4,), windows=(3,))
RAIN = Quantity(unit="mm/h", factor=40.0)


def forecasts(noise: float, seeds: int) -> Forecasts:
    random = np.random.default_rng(0)
    truth = random.random((4, 3, 1, 16, 16), np.float32)
    members = np.stack([truth + noise * random.normal(size=truth.shape) for _ in range(seeds)]).astype(np.float32)
    sums = {seed: measure(member, truth, CONFIG, RAIN) for seed, member in enumerate(members)}
    return Forecasts(CONFIG, RAIN, sums, measure_ensemble(members, truth, CONFIG, RAIN) if seeds > 1 else None)


@pytest.fixture(scope="module")
def arms() -> dict[str, Forecasts]:
    return {"copy-last": forecasts(0.5, 1), "tmu": forecasts(0.1, 3)}


@pytest.fixture(scope="module")
def section(arms: dict[str, Forecasts]) -> SectionView:
    return forecast_section(arms, line_styles(arms), split="test", observed=5)


def test_the_table_has_every_score_of_every_arm_and_a_dash_where_there_is_none(
    section: SectionView, arms: dict[str, Forecasts]
) -> None:
    assert section.columns == ("score", "copy-last", "tmu")
    rows = {name: cells for name, *cells in section.rows}
    mean = np.mean(arms["tmu"].scores()["CSI at 10"])
    assert rows["CSI at 10"][1].startswith(f"{mean:.2f}")
    assert "±" in rows["CSI at 10"][1]
    assert rows["CSI at 99"] == ["–", "–"]  # it never came, and nobody forecast it
    assert rows["fair CRPS, mm/h"][0] == "–"  # one seed is no ensemble
    assert "in mm/h" in section.caption


def test_figures_are_drawn_of_what_was_measured(section: SectionView) -> None:
    names = [figure.name for figure in section.figures]
    assert names == ["forecast-csi", "forecast-spectra", "forecast-reliability", "forecast-ranks"]
    assert "at least 30 mm/h" in section.figures[0].description
    assert "at least 99 mm/h" not in section.figures[0].description


def test_what_an_evaluation_leaves_is_read_back(tmp_path, arms: dict[str, Forecasts]) -> None:
    assert read_forecasts(tmp_path) is None
    save_forecasts(tmp_path, arms["tmu"])
    found = read_forecasts(tmp_path)
    assert found is not None
    assert found.to_json() == arms["tmu"].to_json()
