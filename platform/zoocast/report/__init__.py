"""The report of a run: what was measured, as one self-contained HTML page, a table for the terminal, and figures.

`gather` reads the folders of finished steps, `write_report` leaves the page, the figures and the table in the report's folder.
"""

from zoocast.report.data import (
    Comparison,
    Difference,
    Gates,
    Rates,
    ReportData,
    Search,
    Strips,
    table_markdown,
    table_rows,
)
from zoocast.report.files import read_scores, save_gates, save_scores, save_strips
from zoocast.report.gather import gather, write_report
from zoocast.report.illustrations import Illustration, illustrations
from zoocast.report.page import compose

__all__ = [
    "Comparison",
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
