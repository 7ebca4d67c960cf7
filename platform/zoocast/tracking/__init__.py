"""MLflow: steps write journals, the driver exports them. Importing this imports neither mlflow nor anything slow."""

from zoocast.provenance import GitState, git_state
from zoocast.tracking.journal import Journal, Status, curves, read_entries, read_journal
from zoocast.tracking.sync import Sync, SyncState, sync_pending

__all__ = [
    "GitState",
    "Journal",
    "Status",
    "Sync",
    "SyncState",
    "curves",
    "git_state",
    "read_entries",
    "read_journal",
    "sync_pending",
]
