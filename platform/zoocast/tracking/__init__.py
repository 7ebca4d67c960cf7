"""MLflow: steps write journals, the driver delivers them. Importing this imports neither mlflow nor anything slow."""

from zoocast.provenance import GitState, git_state
from zoocast.tracking.journal import Journal, Status, curves, read_journal
from zoocast.tracking.sync import Delivered, Delivery, deliver_pending

__all__ = [
    "Delivered",
    "Delivery",
    "GitState",
    "Journal",
    "Status",
    "curves",
    "deliver_pending",
    "git_state",
    "read_journal",
]
