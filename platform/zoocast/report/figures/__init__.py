"""Figures from plain arrays: plots as SVG text, pictures as PNG bytes. Nothing here knows torch, a cluster or a server."""

from zoocast.report.figures.curves import gain_curves, horizon_error, learning_curves, mean_interval, result_bars
from zoocast.report.figures.forecasts import rank_histograms, reliability_diagram, spectra
from zoocast.report.figures.graph import dag_drawing
from zoocast.report.figures.matrix import source_matrix
from zoocast.report.figures.pictures import (
    clip_strips,
    gate_pictures,
    listening_picture,
    moving_clips,
    moving_comparison,
    strip_comparison,
)
from zoocast.report.figures.steps import StepView
from zoocast.report.figures.style import LineStyle, line_styles
from zoocast.report.figures.timeline import timeline
from zoocast.report.figures.trials import (
    FieldView,
    TrialView,
    importance_bars,
    level_rates,
    order_of_levels,
    parallel_coordinates,
    search_history,
)
from zoocast.report.figures.verdicts import verdict_matrix

__all__ = [
    "FieldView",
    "LineStyle",
    "StepView",
    "TrialView",
    "clip_strips",
    "dag_drawing",
    "gain_curves",
    "gate_pictures",
    "horizon_error",
    "importance_bars",
    "learning_curves",
    "level_rates",
    "line_styles",
    "listening_picture",
    "mean_interval",
    "moving_clips",
    "moving_comparison",
    "order_of_levels",
    "parallel_coordinates",
    "rank_histograms",
    "reliability_diagram",
    "result_bars",
    "search_history",
    "source_matrix",
    "spectra",
    "strip_comparison",
    "timeline",
    "verdict_matrix",
]
