"""Figures from plain arrays: plots as SVG text, pictures as PNG bytes. Nothing here knows torch, a cluster or a server."""

from zoocast.figures.curves import horizon_error, learning_curves, mean_interval, result_bars
from zoocast.figures.graph import dag_drawing
from zoocast.figures.pictures import gate_pictures, prediction_strip, strip_comparison
from zoocast.figures.steps import StepView, duration
from zoocast.figures.style import Look, family, looks
from zoocast.figures.timeline import timeline

__all__ = [
    "Look",
    "StepView",
    "dag_drawing",
    "duration",
    "family",
    "gate_pictures",
    "horizon_error",
    "learning_curves",
    "looks",
    "mean_interval",
    "prediction_strip",
    "result_bars",
    "strip_comparison",
    "timeline",
]
