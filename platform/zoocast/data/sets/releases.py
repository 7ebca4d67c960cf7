"""What the protocols of the literature's releases have in common."""

from __future__ import annotations

__all__ = ["tested_twice"]


def tested_twice(protocol: str) -> str:
    """The remark on a protocol that chooses its weights by the clips on which it reports."""
    return f"warning: {protocol} has no validation split of its own: the clips of its test validate, too; see protocol=strict"
