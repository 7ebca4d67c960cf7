"""Figures from plain arrays: plots as SVG text, pictures as PNG bytes. Nothing here knows torch, a cluster or a server."""

from zoocast.figures.curves import horizon_error, learning_curves, mean_interval, result_bars
from zoocast.figures.graph import dag_drawing
from zoocast.figures.pictures import gate_pictures, prediction_strip, strip_comparison
from zoocast.figures.search import (
    FieldView,
    TrialView,
    importance_bars,
    level_rates,
    order_of_levels,
    parallel_coordinates,
    search_history,
)
from zoocast.figures.steps import StepView, duration
from zoocast.figures.style import Look, family, looks
from zoocast.figures.timeline import timeline

__all__ = [
    "FieldView",
    "Look",
    "StepView",
    "TrialView",
    "dag_drawing",
    "duration",
    "family",
    "gate_pictures",
    "horizon_error",
    "importance_bars",
    "learning_curves",
    "level_rates",
    "looks",
    "mean_interval",
    "order_of_levels",
    "parallel_coordinates",
    "prediction_strip",
    "result_bars",
    "search_history",
    "strip_comparison",
    "timeline",
]
