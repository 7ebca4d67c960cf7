"""Times, names, long lists, URLs and findings as people read them: the same in the terminal, in records and on the page."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Sequence
from typing import Literal

__all__ = ["Finding", "duration", "moment", "redacted", "some", "visible"]

# What a terminal or a page obeys and does not show: control characters, those that turn the direction of writing, separators of
# lines, what has no width, and halves of characters, of which Python makes bytes that are no UTF-8.
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of a doctor's report; `remedy` is empty when all is well."""

    check: str
    state: Literal["ok", "warn", "fail"]
    seen: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.seen}; {self.remedy}" if self.remedy else self.seen


def duration(seconds: float | None) -> str:
    """Seconds for people: ``85 ms``, ``4.2 s``, ``42 s``, ``12:30`` or ``1:02:03``; empty when unknown.

    From a minute on it is a clock's form, which fits into a line of the terminal and stands like that at the axis of a figure.
    """
    if seconds is None:
        return ""
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    # Limits are those at which the shorter form would round up to the next one: 9.96 s is 10 s, 59.6 s is 1:00.
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)  # rounded first, or 3599.6 s would be 59:60
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def moment(seconds: float) -> str:
    """Seconds since the epoch as local date and time: ``2026-11-30 16:45:00``."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def redacted(text: str) -> str:
    """`text` with every URL in it as anybody may read it: without name and password, query and fragment."""
    return re.sub(r"://[^\s'\"]*", lambda url: _public(url.group()), text)


def _public(url: str) -> str:
    secret, _, place = url.rpartition("@")
    # A password may hold all signs, and so may a token: where the host begins is not to be told, so nothing is shown.
    if "?" in secret or "#" in secret:
        return "://..."
    return re.split("[?#]", f"://{place}" if secret else url, maxsplit=1)[0]


def some(names: Sequence[str], most: int = 4) -> str:
    """At most `most` of the names, and how many more there are: ``a, b and 3 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def visible(text: str, keep: str = "") -> str:
    """`text` with every character that acts on a terminal or page without being seen as ``\\u001b``, but for those in `keep`.

    Names of tensors, fields, runs and files come from other people's files.
    """
    return UNSEEN.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text)
