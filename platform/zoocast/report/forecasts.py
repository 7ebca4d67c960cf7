"""The report's section for those who forecast: scores of events, and how blurred and how sure of themselves predictions are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zoocast.evaluation.forecasts import Forecasts
from zoocast.metrics.forecast import along
from zoocast.report.compare import decimals_of, mean_and_spread
from zoocast.report.figures import LineStyle, horizon_error, rank_histograms, reliability_diagram, spectra
from zoocast.report.sections import Illustration, SectionView

__all__ = ["forecast_section"]

NAME = "forecast"


def forecast_section(
    measured: Mapping[str, Forecasts], styles: Mapping[str, LineStyle], *, split: str, observed: int
) -> SectionView:
    """The table of all scores by arm, CSI along the horizon, spectra, and of ensembles reliability and ranks.

    Args:
        measured: what each arm's evaluation left.
        styles: how arms are drawn.
        split: that was measured.
        observed: frames before the first predicted one.
    """
    first = next(iter(measured.values()))
    scores = {arm: found.scores() for arm, found in measured.items()}
    names = dict.fromkeys(name for found in scores.values() for name in found)
    ensembles = {arm: found for arm, found in measured.items() if found.ensemble is not None}
    unit = f" {first.unit}" if first.unit else ""
    events = {f"at least {threshold:g}{unit}": row for row, threshold in enumerate(first.config.events)}
    over = "the mean of the lead times' scores" if first.config.convention == "hko" else "of all lead times' counts together"
    in_unit = f", in {first.unit}" if unit else ""
    of_ensembles = "; those of an ensemble take an arm's seeds as its members" if ensembles else ""
    return SectionView(
        name=NAME,
        title="Forecast",
        caption=f"Scores of forecasts on the {split} split, in the convention {first.config.convention}: mean ± standard"
        f" deviation over seeds{of_ensembles}. Events are values of at least a threshold{in_unit}; their scores"
        f" are {over}, and a mean over thresholds leaves out those where there is none. Power and the bias are right at 1.",
        columns=("score", *measured),
        rows=tuple((name, *(_cell(found.get(name, ()), name, scores) for found in scores.values())) for name in names),
        figures=tuple(
            figure
            for figure in (
                _csi(measured, styles, events, observed) if events else None,
                _spectra(measured, styles),
                _reliability(ensembles, styles, events) if events and ensembles else None,
                _ranks(ensembles, styles) if ensembles else None,
            )
            if figure is not None
        ),
    )


def _cell(values: tuple[float, ...], name: str, scores: Mapping[str, Mapping[str, tuple[float, ...]]]) -> str:
    known = [v for v in values if np.isfinite(v)]
    if not known:
        return "–"
    groups = [[v for v in found.get(name, ()) if np.isfinite(v)] for found in scores.values()]
    return mean_and_spread(known, decimals_of([group for group in groups if group]))


def _csi(
    measured: Mapping[str, Forecasts], styles: Mapping[str, LineStyle], events: Mapping[str, int], observed: int
) -> Illustration | None:
    by_arm = {arm: np.array([along(sums, "csi") for sums in found.seeds.values()]) for arm, found in measured.items()}
    # An event that came in no frame has no score, and no panel.
    panels = {
        event: {arm: values[:, row] for arm, values in by_arm.items() if np.isfinite(values[:, row]).all()}
        for event, row in events.items()
    }
    drawn = {event: arms for event, arms in panels.items() if arms}
    if not drawn:
        return None
    last = {event: {arm: float(v[:, -1].mean()) for arm, v in arms.items()} for event, arms in drawn.items()}
    return Illustration(
        "forecast-csi",
        NAME,
        horizon_error(drawn, styles, first=observed + 1),
        "Critical success index (hits among all that was forecast or came) of each predicted frame, by pixel: higher is better."
        " Mean over seeds; the band spans all seeds.",
        "Line plots of CSI for each predicted frame. Last frame. "
        + " ".join(f"{event}: {', '.join(f'{a} {v:.3g}' for a, v in arms.items())}." for event, arms in last.items()),
    )


def _spectra(measured: Mapping[str, Forecasts], styles: Mapping[str, LineStyle]) -> Illustration:
    """Of the last frame of the horizon, where predictions are the most blurred."""
    means: dict[str, np.ndarray] = {}
    for arm, found in measured.items():
        power = np.sum([sums.values["power"][:, -1] for sums in found.seeds.values()], axis=0)
        frames = sum(float(sums.values["whole"][-1]) for sums in found.seeds.values())
        means[arm] = power / max(frames, 1.0)
    truth = next(iter(means.values()))[1]
    finest = {arm: power[0, -1] / power[1, -1] if power[1, -1] else np.nan for arm, power in means.items()}
    return Illustration(
        "forecast-spectra",
        NAME,
        spectra({arm: power[0] for arm, power in means.items()}, truth, styles),
        "Power of the last predicted frame at each wave number, mean over clips and seeds, in values of 0 to 1. A line that falls"
        " below the truth's on the right lacks fine structure: the prediction is blurred.",
        "Line plot of spectra. Power at the finest wave over the truth's: "
        + ", ".join(f"{arm} {ratio:.3g}" for arm, ratio in finest.items())
        + ".",
    )


def _reliability(ensembles: Mapping[str, Forecasts], styles: Mapping[str, LineStyle], events: Mapping[str, int]) -> Illustration:
    panels: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {event: {} for event in events}
    for arm, found in ensembles.items():
        assert found.ensemble is not None
        for event, row in events.items():
            given, came = found.ensemble.values["reliability"][row].T
            if not came.any():  # there is nothing to be reliable about
                continue
            seen = given > 0
            panels[event][arm] = np.linspace(0, 1, len(given))[seen], came[seen] / given[seen]
    drawn = {event: arms for event, arms in panels.items() if arms}
    return Illustration(
        "forecast-reliability",
        NAME,
        reliability_diagram(drawn, styles),
        "Reliability of the seeds of an arm as an ensemble: of the pixels where a part of the members forecast the event, the"
        " part where it came, over all lead times. On the diagonal probabilities are right, below it too high.",
        "Reliability diagrams. Where all members forecast the event it came in: "
        + " ".join(
            f"{event}: {', '.join(f'{arm} {came[-1]:.3g}' for arm, (given, came) in arms.items() if given[-1] == 1)}."
            for event, arms in drawn.items()
        ),
    )


def _ranks(ensembles: Mapping[str, Forecasts], styles: Mapping[str, LineStyle]) -> Illustration:
    histograms = {arm: found.ensemble.values["ranks"] for arm, found in ensembles.items() if found.ensemble is not None}
    return Illustration(
        "forecast-ranks",
        NAME,
        rank_histograms(histograms, styles),
        "Rank of the truth among the seeds of an arm, over all pixels and lead times. Flat (the line) where the truth is like one"
        " more member; high at both ends where the members are too much alike.",
        "Rank histograms, in shares. "
        + " ".join(f"{arm}: {', '.join(f'{v:.2g}' for v in counts / counts.sum())}." for arm, counts in histograms.items()),
    )
