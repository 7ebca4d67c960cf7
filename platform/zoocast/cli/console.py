"""How a run looks: a live tree of steps on a terminal, a few dated lines elsewhere, and tables for either.

Progress goes to stderr, data to stdout. Both renderers draw the same `Board`; neither knows what a step computes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from zoocast.cli.board import Board, Row, arms_of, tree_parents
from zoocast.cli.streams import fitting, unguarded
from zoocast.words import duration

__all__ = ["Display", "LiveTree", "PlainLines", "branches", "display_for", "print_sentence", "print_table", "progress_line"]

# State: (sign, sign where only ASCII can be shown, style, words).
STYLES: Mapping[str, tuple[str, str, str, str]] = {
    "cached": ("✓", "=", "green dim", "done before"),
    "waiting": ("·", ".", "dim", ""),
    "running": ("▸", ">", "bold cyan", "running"),
    "elsewhere": ("▹", "~", "yellow", "another run does it"),
    "done": ("✓", "+", "green", "done"),
    "failed": ("✗", "x", "bold red", "failed"),
    "skipped": ("○", "o", "yellow", "not run"),
    "interrupted": ("■", "#", "yellow", "stopped"),
}
# What Ctrl-C does or has done, by how often it was pressed.
HINTS = (
    "Ctrl-C stops at the next checkpoint",
    "stopping at the next checkpoint; Ctrl-C again stops now",
    "stopping now",
)
# What the live tree gives up first when the terminal is too low for every step.
LEAST_INTERESTING = ("cached", "done", "waiting", "skipped")
# By which of its seeds an arm is drawn.
FIRST_OF_ARM = ("failed", "running", "interrupted", "elsewhere", "skipped", "waiting", "done", "cached")
BAR, CLOCK = 12, 12  # columns of the progress bar, or what stands in its place, and of the longest time: 12:34:56 left
FEWEST_COLUMNS = 3  # of a table that has more: an arm, its seeds and one metric
LONGEST_WORD = 24  # of prose in a table; a path is longer, and may be cut anywhere
# Seconds between two lines about one step: a log is read as a whole, afterwards.
PROGRESS_EVERY = 10.0


class Display(Protocol):
    """Shows a board while it changes; used as a context manager around the run."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def changed(self, row: Row) -> None:
        """A row of the board has another state or progress than before."""

    def stopping(self, level: int) -> None:
        """The user has asked to stop, `level` times. Called from a signal handler."""


def display_for(board: Board, title: str) -> Display:
    """The live tree when stderr is a terminal that can draw it, plain lines otherwise."""
    console = Console(file=unguarded(sys.stderr), highlight=False)
    # A dumb terminal (an editor's shell) cannot move its cursor up to draw again.
    if sys.stderr.isatty() and not console.is_dumb_terminal:
        return LiveTree(board, title, console)
    return PlainLines(board)


# ---------------------------------------------------------------------------------------------------------------- plain lines


class PlainLines:
    """Dated lines for logs: a step begins, ends, and every ten seconds how far it is."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._printed: dict[str, float] = {}
        # What was so from the beginning, such as steps done before, is no news and gets no line.
        self._states: dict[str, str] = {name: row.state for name, row in board.rows.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stderr.flush()

    def stopping(self, level: int) -> None:
        """Write it past Python's buffers, which the handler may have caught in the middle of a write."""
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"{_dated(HINTS[min(level, 2)])}\n".encode())

    def changed(self, row: Row) -> None:
        """Print what is new; progress of one step at most every `PROGRESS_EVERY` seconds."""
        now = self.board.clock()
        if self._states.get(row.name) != row.state:
            self._states[row.name] = row.state
            self._printed[row.name] = now
            self._print(f"{row.name}: {_words(row, now)}")
        elif row.state == "running" and now - self._printed[row.name] >= PROGRESS_EVERY:
            self._printed[row.name] = now
            left = self.board.left()
            self._print(f"{row.name}: {_words(row, now)}{f'; whole run: {left}' if left else ''}")

    def _print(self, text: str) -> None:
        print(_dated(text), file=sys.stderr, flush=True)


def _dated(text: str) -> str:
    return f"{time.strftime('%H:%M:%S')} {text}"


def _words(row: Row, now: float) -> str:
    if row.state == "running" and row.fraction is None:
        return "started"
    parts = [f"{row.fraction:.0%}" if row.state == "running" and row.fraction is not None else STYLES[row.state][3]]
    if row.state == "running" and row.left(now) is not None:
        parts.append(f"{duration(row.left(now))} left")
    elif row.finished is not None:
        parts[0] += f" in {duration(row.elapsed(now))}" if row.state == "done" else f" after {duration(row.elapsed(now))}"
    return ", ".join([*parts, *([row.message] if row.message else [])])


# ---------------------------------------------------------------------------------------------------------------- live tree


class LiveTree:
    """The tree of steps, redrawn in place four times a second; the seeds of an arm share a line."""

    def __init__(self, board: Board, title: str, console: Console) -> None:
        self.board = board
        self.title = title
        self.hint = HINTS[0]
        self.console = console
        self._arms = arms_of(board.rows.values())
        arm_of = {row.name: arm for arm, rows in self._arms.items() for row in rows}
        inputs = {arm: [arm_of.get(parent, parent) for row in rows for parent in row.parents] for arm, rows in self._arms.items()}
        above = tree_parents(inputs)
        # In the order in which the tree is read.
        self._above = {arm: above[arm] for arm in branches(inputs)}
        # stdout is left alone: it is data, and may be a file or a pipe.
        self._live = Live(
            get_renderable=lambda: self, console=console, refresh_per_second=4, redirect_stdout=False, transient=False
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # The last drawing stays on the screen, where Ctrl-C stops nothing any more.
        self.hint = ""
        self._live.stop()

    def stopping(self, level: int) -> None:
        """The next redraw shows it; to draw here could wait for ever for the drawing that the handler interrupted."""
        self.hint = HINTS[min(level, 2)]

    def changed(self, row: Row) -> None:
        """Nothing to do: the next redraw reads the board."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Title, overall line with its hint (two lines where it is long) and the cursor's line take four; one is kept free.
        height = max(console.size.height - 5, 3) if self._live.is_started else len(self._arms)
        shown = _that_fit({arm: _first(self._arms[arm]) for arm in self._above}, self._above, height)
        hidden = [row for arm, rows in self._arms.items() if arm not in shown for row in rows]
        yield Text(fitting(self.title, sys.stderr), style="bold")
        now = self.board.clock()
        drawn = branches({arm: () if above is None else (above,) for arm, above in shown.items()}, ascii_only=options.ascii_only)
        lines = [_cells(arm, branch, self._arms[arm], now, options.ascii_only) for arm, branch in drawn.items()]
        # What a step says has the room that is left; it must not make the other columns narrower.
        room = options.max_width - max((head.cell_len for head, *_ in lines), default=0) - BAR - CLOCK - 3
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        # As wide as the progress bar, so that what is behind it stays in its place when a step begins.
        table.add_column(no_wrap=True, width=BAR)
        table.add_column(no_wrap=True, justify="right", style="dim", width=CLOCK)
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim", max_width=max(room, 1))
        for line in lines:
            table.add_row(*line)
        yield table
        if hidden:
            yield Text(f"   and {len(hidden)} more: {_tally(hidden)}", style="dim")
        yield self._overall()

    def _overall(self) -> Text:
        board = self.board
        steps = f"{board.count('done', 'cached')} of {len(board.rows)} steps"
        parts = [part for part in (steps, duration(board.elapsed()), board.left()) if part]
        return Text.assemble((", " if self.console.options.ascii_only else " · ").join(parts), (f"  {self.hint}", "dim"))


def _cells(name: str, branch: str, rows: Sequence[Row], now: float, ascii_only: bool) -> tuple[Any, ...]:
    """The cells of the line of a step, or of the arm `name` whose seeds are `rows`."""
    row = _first(rows)
    left, elapsed = row.left(now), row.elapsed(now)
    middle: Any = Text(STYLES[row.state][3], style=STYLES[row.state][2])
    if len(rows) > 1:
        middle = _marks(rows, ascii_only)
        # Which seeds run at once is the cluster's business: an arm tells how long they took together, and no end.
        left, elapsed = None, sum(row.elapsed(now) or 0.0 for row in rows) or None
    elif row.state == "running" and row.fraction is not None:
        middle = ProgressBar(total=1.0, completed=row.fraction, width=BAR, complete_style="cyan", finished_style="green")
    head = Text.assemble((branch, "dim"), (f"{_sign(row, ascii_only)} {name}", STYLES[row.state][2]))
    clock = f"{duration(left)} left" if left is not None else duration(elapsed)
    return head, middle, clock, Text(fitting(row.message.partition("\n")[0], sys.stderr))


def _sign(row: Row, ascii_only: bool) -> str:
    return STYLES[row.state][1 if ascii_only else 0]


def _marks(rows: Sequence[Row], ascii_only: bool) -> Text:
    """How far each seed of an arm is, in as many words as have room: shares of those that run, signs, or how many are done."""
    signs = [_sign(row, ascii_only) for row in rows]
    shares = [
        f"{row.fraction:.0%}" if row.state == "running" and row.fraction is not None else sign
        for row, sign in zip(rows, signs, strict=True)
    ]
    for marks, between in ((shares, " "), (signs, " "), (signs, "")):
        if len(between.join(marks)) <= BAR:
            return Text(between).join(Text(mark, style=STYLES[row.state][2]) for mark, row in zip(marks, rows, strict=True))
    return Text(f"{sum(row.state in ('done', 'cached') for row in rows)} of {len(rows)}")


def _first(rows: Sequence[Row]) -> Row:
    """The row by which an arm is drawn: one that failed, else the one that has come furthest of those that run."""
    return min(rows, key=lambda row: (FIRST_OF_ARM.index(row.state), -(row.fraction or 0.0)))


def _that_fit(rows: Mapping[str, Row], above: Mapping[str, str | None], height: int) -> dict[str, str | None]:
    """What to show in `height` lines, and below what: without the least interesting rows, but with all that is above one shown.

    `rows` and `above`, by name, list each row after the one that it hangs below.
    """
    if len(rows) <= height:
        return dict(above)
    interest = {name: _interest(row) for name, row in rows.items()}
    depth: dict[str | None, int] = {None: 0}
    for name, parent in above.items():
        depth[name] = depth[parent] + 1
    for name in reversed(interest):
        if (parent := above[name]) is not None:
            interest[parent] = max(interest[parent], interest[name])
    # One more than is too many: the line "and N more" takes a place itself. Of equals the deepest goes first, so what is above
    # one that is shown is always shown too.
    by_interest = sorted(rows, key=lambda name: (interest[name], -depth[name]))
    dropped = set(by_interest[: len(rows) - height + 1])
    return {name: parent for name, parent in above.items() if name not in dropped}


def _interest(row: Row) -> int:
    return LEAST_INTERESTING.index(row.state) if row.state in LEAST_INTERESTING else len(LEAST_INTERESTING)


def _tally(rows: Iterable[Row]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        words = STYLES[row.state][3] or row.state
        counts[words] = counts.get(words, 0) + 1
    return ", ".join(f"{count} {words}" for words, count in counts.items())


def branches(parents: Mapping[str, Sequence[str]], *, ascii_only: bool = False) -> dict[str, str]:
    """The lines of a tree to print before each step's name; the steps come out in an order in which the tree can be read.

    `parents` gives each step's inputs and lists every step after its inputs.
    """
    above = tree_parents(parents)
    below: dict[str | None, list[str]] = {}
    for name, parent in above.items():
        below.setdefault(parent, []).append(name)
    last, more, bar, gap = ("`- ", "|- ", "|  ", "   ") if ascii_only else ("└─ ", "├─ ", "│  ", "   ")
    out: dict[str, str] = {}

    def draw(name: str | None, indent: str) -> None:
        children = below.get(name, [])
        for child in children:
            final = child == children[-1]
            out[child] = indent + (last if final else more)
            draw(child, indent + (gap if final else bar))

    draw(None, "")
    return out


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[float, str], None]]:
    """Shows how far work without steps is, on stderr: in one line of a terminal, elsewhere now and then in one more."""
    live, began, shown = sys.stderr.isatty(), time.monotonic(), 0.0
    out = unguarded(sys.stderr) if live else sys.stderr

    def show(fraction: float, words: str) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - max(shown, began) < (0.1 if live else PROGRESS_EVERY):
            return
        shown = now
        text = fitting(f"{fraction:4.0%}  {words}", sys.stderr)
        print(f"\r\x1b[K{text}" if live else text, end="" if live else "\n", file=out, flush=True)

    try:
        yield show
    finally:
        if live and shown:
            print("\r\x1b[K", end="", file=out, flush=True)


# ------------------------------------------------------------------------------------------------------------ tables on stdout


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "", bold: Container[tuple[int, int]] = ()
) -> None:
    """A table on stdout: drawn on a terminal, aligned plain text anywhere else, so that it can be cut and searched.

    On a terminal that is too narrow columns are left out, the last ones first, before a name or a number would be cut; where too
    few have a place, the cells of each row stand below one another.

    Args:
        bold: the cells, by row and column, that stand out on a terminal.
    """
    columns = [fitting(column, sys.stdout) for column in columns]
    cells = [[fitting(_cell(value), sys.stdout) for value in row] for row in rows]
    if not sys.stdout.isatty():
        print(aligned(columns, cells, title), flush=True)
        return
    numeric = _numeric(cells, len(columns))
    least = [_least(column, [row[i] for row in cells], prose=not numeric[i] and i > 0) for i, column in enumerate(columns)]
    console = Console(file=unguarded(sys.stdout), highlight=False)
    shown = _shown(least, console.width)
    if title:
        console.print(Text(fitting(title, sys.stdout), style="italic"))
    if shown < min(len(columns), FEWEST_COLUMNS):
        for i, row in enumerate(cells):
            console.print(Text(row[0], style="underline"))
            for j, cell in enumerate(row[1:], 1):
                if cell:
                    console.print(Text(f"  {columns[j]}  {cell}", style=_bold(bold, i, j)))
        return
    table = Table(header_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column, is_number, width in list(zip(columns, numeric, least, strict=True))[:shown]:
        table.add_column(Text(column), justify="right" if is_number else "left", overflow="fold", min_width=width)
    for i, row in enumerate(cells):
        table.add_row(*(Text(cell, style=_bold(bold, i, j)) for j, cell in enumerate(row[:shown])))
    console.print(table)
    if shown < len(columns):
        console.print(Text(f"  too narrow for: {', '.join(columns[shown:])}", style="dim"))


def _bold(cells: Container[tuple[int, int]], row: int, column: int) -> str:
    return "bold" if (row, column) in cells else ""


def print_sentence(text: str) -> None:
    """A sentence on stdout, which a terminal shows without cutting its words."""
    if sys.stdout.isatty():
        Console(file=unguarded(sys.stdout), highlight=False).print(Text(fitting(text, sys.stdout)))
    else:
        print(text, flush=True)


def _least(head: str, cells: Sequence[str], *, prose: bool) -> int:
    """The width below which a column would be cut: of prose, which may go on in the next line, that of its longest word."""
    texts = [word for text in (head, *cells) for word in text.split()] if prose else [head, *cells]
    longest = max(map(cell_len, texts), default=0)
    return min(longest, LONGEST_WORD) if prose else longest


def _shown(least: Sequence[int], width: int) -> int:
    """How many columns, from the first on, have room in `width`; at least one."""
    # Between two columns our tables have three blanks.
    room = itertools.accumulate(least, lambda before, column: before + 3 + column)
    return max(sum(needed <= width for needed in room), 1)


def aligned(columns: Sequence[str], cells: Sequence[Sequence[str]], title: str = "") -> str:
    """Columns in fixed places, numbers to the right, no trailing blanks."""
    widths = [max(len(row[i]) for row in [columns, *cells]) for i in range(len(columns))]
    numeric = _numeric(cells, len(columns))
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in [columns, *cells]
    ]
    return "\n".join(([title] if title else []) + lines)


def _numeric(cells: Sequence[Sequence[str]], num_columns: int) -> list[bool]:
    """Whether every filled cell of a column begins like a number (``41.2 ± 0.3`` counts); a lone dash fills none."""
    filled = [[row[i] for row in cells if row[i] not in ("", "-", "–")] for i in range(num_columns)]
    return [bool(column) and all(cell.lstrip("+-")[:1].isdigit() for cell in column) for column in filled]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
