"""How a storage root is laid out: the names on which drivers, workers, the store and readers of results must agree.

ROOT/steps/NAME-KEY/            a finished step; its done.json was written last
ROOT/steps/NAME-KEY.partial/    an unfinished one, kept so that training resumes
ROOT/locks/NAME-KEY.lock        who is at work on it
ROOT/runs/RUN/                  what the command notes of a run

Control files in an unfinished step's folder carry what a driver and a step have to say to each other: `attempt.json` names the
owner of the folder, `stop` asks for an end, `progress.json` says how far the work is, `error.txt` what ended it. Of done.json the
store itself reads ``name`` and ``key``, ``files``, each with its size and SHA-256, and ``inputs``, the (name, key) of what it was
made from.
"""

from __future__ import annotations

import re

__all__ = [
    "ATTEMPT",
    "CONTROL_FILES",
    "DONE",
    "ERROR",
    "KEY_DIGITS",
    "LOCKS",
    "PARTIAL",
    "PROGRESS",
    "STEPS",
    "STEP_FOLDER",
    "STOP",
    "in_root",
]

STEPS, LOCKS = "steps", "locks"
DONE = "done.json"
ATTEMPT, STOP, PROGRESS, ERROR = "attempt.json", "stop", "progress.json", "error.txt"
# None of them is part of a result: left out of the checksums, and removed when the step is published.
CONTROL_FILES = (ATTEMPT, STOP, PROGRESS, ERROR)
PARTIAL = ".partial"
KEY_DIGITS = 12  # 48 bits: among a million steps two keys are equal with a chance of 1 in 560
STEP_FOLDER = re.compile(rf"([a-z0-9][a-z0-9._-]*)-[0-9a-f]{{{KEY_DIGITS}}}")
"""The name of a finished step's folder; its group is the step's name."""


def in_root(place: str) -> str:
    """The part of a path or address that says where in its root a step's file lies, whatever the root was when it was written.

    As it is given when it is that of no step.
    """
    _, marker, below = place.rpartition(f"/{STEPS}/")
    return f"{STEPS}/{below}" if marker else place
