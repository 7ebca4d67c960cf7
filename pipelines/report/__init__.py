"""The report of a run: what was measured, as one self-contained HTML page, a table for the terminal, and figures.

`gather` reads the folders of finished steps, `write_report` leaves the page, the figures and the table in the report's folder.
"""

from pipelines.report.data import (
    Contest,
    Difference,
    Gates,
    Rates,
    ReportData,
    Search,
    Strips,
    table_markdown,
    table_rows,
)
from pipelines.report.figures import Illustration, illustrations
from pipelines.report.files import read_scores, save_gates, save_scores, save_strips
from pipelines.report.gather import gather, write_report
from pipelines.report.page import compose

__all__ = [
    "Contest",
    "Difference",
    "Gates",
    "Illustration",
    "Rates",
    "ReportData",
    "Search",
    "Strips",
    "compose",
    "gather",
    "illustrations",
    "read_scores",
    "save_gates",
    "save_scores",
    "save_strips",
    "table_markdown",
    "table_rows",
    "write_report",
]
