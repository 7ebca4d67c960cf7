"""One self-contained HTML page: plain values for the template `page.html.j2`, which escapes all of them.

Only figures pass unescaped: SVG that matplotlib wrote, which escapes its text itself.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from zoocast.config import Setting
from zoocast.metrics import METRICS, PSNR_CAP
from zoocast.report.compare import HEADLINE_METRIC, MIN_ITERATIONS, MIN_SEEDS, decimals, interval_ends, percents, signed
from zoocast.report.data import ReportData, Search, cells, seeds_in_words, seeds_of
from zoocast.report.figures import TrialView
from zoocast.report.figures.style import GRID, INK, MUTED, PAPER
from zoocast.report.figures.trials import STATES
from zoocast.report.illustrations import illustrations
from zoocast.report.sections import Illustration
from zoocast.words import visible

__all__ = ["compose", "environment", "inline_svg"]

WIDEST = 1088
"""CSS pixels of a figure on a wide screen. On a narrow one it keeps that size and is scrolled: shrunk, nobody could read it."""

_PSNR_OF_FRAMES = (
    f"PSNR is the mean over frames of each one's, a frame without error counted as {PSNR_CAP:g}\N{NO-BREAK SPACE}dB, where that"
    " code has infinity."
)
_PROTOCOLS = {
    "strict": "Floats clipped to [0, 1]; MSE and MAE are means per pixel; SSIM with data range 1; PSNR with peak 1, of the mean"
    " squared error over all clips and frames, so that a frame without error lifts no mean of decibels.",
    "predrnn": "As predrnn-pytorch counts: clipped to [0, 1]; MSE summed over a frame's pixels; SSIM and PSNR on 8-bit frames."
    f" {_PSNR_OF_FRAMES}",
    "openstl": "As OpenSTL counts: MSE and MAE before clipping, summed over a frame's pixels; SSIM and PSNR on floats after"
    f" clipping, SSIM with the data range 2 that the scikit-image of its day assumed. {_PSNR_OF_FRAMES}",
}


class _Figure(NamedTuple):
    """A figure with its number: SVG as markup, or a PNG in base64 with its width in pixels; and its file, below ``figures/``."""

    number: int
    caption: str
    description: str
    label: str
    file: str
    svg: Markup | None = None
    png: str = ""
    width: int = 0
    animation: str = ""


class _Table(NamedTuple):
    """A simple table: the first cell of a row is its name, which is set as code if it is one of `codes`."""

    number: int
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    codes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class _Section:
    """A part of the page under a heading; `content` is what only the template's macro for this section reads."""

    name: str
    title: str
    figures: Sequence[_Figure] = ()
    tables: Sequence[_Table] = ()
    sentences: Sequence[str] = ()
    content: Any = None

    @property
    def kind(self) -> str:
        """Clips, where there are several, are shown one at a time; all other sections have their figures below one another."""
        return "clips" if self.name == "predictions" and len(self.figures) > 1 else "plain"


def compose(data: ReportData, figures: Sequence[Illustration] | None = None) -> str:
    """The page for `data`; `figures` are its illustrations where they are made already."""
    # Table 1 holds the scores and table 2 the differences, if there are any; further tables are numbered as they come.
    numbers = itertools.count(1 + bool(data.scores) + bool(data.differences))
    # A list, since the template goes through it for the style, the links and the page itself.
    sections = [s for s in _sections(data, illustrations(data) if figures is None else figures, numbers) if s is not None]
    several = seeds_of(data)
    short, grounds = data.headline_parts
    clips, frames = f"{data.num_clips} of the {data.split} split", f"{data.observed} observed, {data.horizon} predicted"
    sides = ((c.rival, c.rival_words), (c.ours, c.ours_words)) if (c := data.comparison) else ()
    return environment().get_template("page.html.j2").render(
        data=data,
        facts={**data.facts, "clips": clips, "frames": frames, **({"seeds": str(several)} if several else {})},
        short=short,
        grounds=[sentence for sentence in (grounds, *data.notes) if sentence],
        verdict=data.decisive.verdict if data.decisive else "open",
        seeds=several,
        sections=sections,
        colors={arm: style.color for arm, style in data.styles.items()},
        ours=data.comparison.ours if data.comparison else (),
        rival=data.decisive.other if data.decisive else None,
        # The page says how one arm was chosen to stand for a side; a side of one arm had no choice.
        chosen=[words for arms, words in sides if len(arms) > 1],
        widest=WIDEST,
        score_table=_scores(data),
        difference_table=_differences(data),
    )  # fmt: skip


def environment() -> jinja2.Environment:
    """What all pages are made with: it finds the templates, and escapes whatever they show."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("zoocast.report", ""),
        autoescape=True,
        # Escaping is for HTML alone; names come from other people's files.
        finalize=lambda value: visible(value, keep="\n\t") if type(value) is str else value,
        undefined=jinja2.StrictUndefined,  # a misspelt name is an error and not an empty place on the page
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["without_article"] = lambda words: words.removeprefix("the ")
    return made


def _sections(data: ReportData, drawn: Sequence[Illustration], numbers: Iterator[int]) -> Iterator[_Section | None]:
    """The page from top to bottom; None for a part that has nothing to show."""
    figures: dict[str, list[_Figure]] = {}
    for number, item in enumerate(drawn, start=1):
        figures.setdefault(item.section, []).append(_figure(number, item))

    def pictures(name: str, title: str, sentence: str = "") -> _Section | None:
        return _Section(name, title, figures[name], sentences=[sentence] if sentence else ()) if name in figures else None

    # A map's arms have targets of their own, so that no table holds all of them: its sections are the results.
    yield _Section("results", "Results", figures.get("results", ())) if data.scores else None
    for view in data.sections:
        tables = [_Table(next(numbers), view.caption, view.columns, view.rows)] if view.rows else []
        yield _Section(view.name, view.title, figures.get(view.name, ()), tables, view.sentences)
    if data.command or data.made:
        tables = [_Table(next(numbers), *made) for made in data.made]
        yield _Section("made", "How this was made", tables=tables, content=data.command)
    if data.search is not None:
        yield _Section("search", "Search", figures.get("search", ()), [_search(data.search, next(numbers))])
    yield pictures("learning", "Learning curves")
    yield pictures("rates", "Learning rates")
    yield pictures("horizon", "Error along the horizon", data.last_frames)
    yield pictures("predictions", "Predictions")
    yield pictures("listening", "Whom each clip listened to")
    yield pictures("gates", "Transfer gates")
    yield pictures("pipeline", "Pipeline")
    yield _Section("configuration", "Configuration", content=_settings(data)) if data.settings else None
    yield _Section("environment", "Environment", content=data.environment) if data.environment else None
    used = dict.fromkeys(METRICS[m].protocol for m in METRICS if m in data.scores)
    yield _Section("protocols", "Protocols", content={p: _PROTOCOLS[p] for p in used}) if used else None


# ---------------------------------------------------------------------------------------------------------------- tables


def _scores(data: ReportData) -> dict[str, Any]:
    """Protocols with their metrics, and for each arm its seeds and cells; a cell knows whether it opens a protocol's group."""
    metrics = [m for m in METRICS if m in data.scores]
    # `groupby` joins neighbours only; METRICS has those of one protocol beside each other.
    groups = [(name, list(group)) for name, group in groupby(metrics, key=lambda m: METRICS[m].protocol)]
    firsts = {group[0] for _, group in groups}
    columns = {m: cells(data, m) for m in metrics}
    return {
        "protocols": [(name, [_head(m) for m in group]) for name, group in groups],
        "rows": [(a, seeds_in_words(data, a), [(columns[m].get(a), m in firsts) for m in metrics]) for a in data.arms],
    }


def _head(metric: str) -> dict[str, str]:
    known, name = METRICS[metric], metric.partition("/")[2].upper()
    return {"name": name, "arrow": known.arrow, "better": known.better, "title": f"{metric}: {known.unit}"}


def _differences(data: ReportData) -> dict[str, Any] | None:
    if not data.differences:
        return None
    # A tenth of each mean in place of a spread, of which `decimals` shows two digits: that is three of the typical mean.
    digits = decimals([d.mean for d in data.differences], [abs(d.mean) / 10 for d in data.differences])
    rows = [
        {
            "other": d.other,
            "mean": signed(d.mean, digits),
            "relative": f"{signed(100 * d.relative, 1)}\N{NO-BREAK SPACE}%",
            "percents": percents(d.relative_seeds) if d.relative_seeds else "",
            "intervals": [interval_ends(ends, digits) if ends else "–" for ends in (d.seeds, d.clips, d.both, d.blocks)],
            "better": f"{d.better} of {d.count}",
            "verdict": d.verdict,
        }
        for d in data.differences
    ]
    return {
        "number": 2,
        "arm": data.differences[0].arm,
        "metric": HEADLINE_METRIC,
        "rows": rows,
        "small": any(d.verdict == "small" for d in data.differences),
        "min_seeds": MIN_SEEDS,
        "min_iterations": MIN_ITERATIONS,
    }


def _search(search: Search, number: int) -> _Table:
    """Settings of the best three trials, and of those whose settings were given, beside their errors."""
    trials = {t.number: t for t in search.trials}
    # A given trial may be among the best as well; the dict keeps one of it, and the order.
    shown = [trials[n] for n in dict.fromkeys((*search.ranking[:3], *range(search.num_given)))]
    errors = [t.error for t in shown if t.error is not None]
    digits = decimals(errors, [(max(errors) - min(errors)) / 10])
    rows = [
        ("error", *(f"{t.error:.{digits}f}" if t.error is not None else "–" for t in shown)),
        ("ended", *(STATES[t.state] for t in shown)),
        ("iterations", *(str(t.iterations) for t in shown)),
        ("settings", *("given" if t.number < search.num_given else "searched" for t in shown)),
        *((f.name, *(_setting(t, f.name) for t in shown)) for f in search.fields),
    ]
    caption = (
        "The settings of the best trials, best first, and of those whose settings were given to the search; above them the lowest"
        " error on the validation split."
    )
    return _Table(number, caption, ("setting", *(f"trial {t.number}" for t in shown)), rows, [f.name for f in search.fields])


def _setting(trial: TrialView, field: str) -> str:
    value = trial.params.get(field, "–")
    return f"{value:.4g}" if isinstance(value, float) else _value(value)


def _settings(data: ReportData) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Path, value and meaning of every setting, in groups under their names."""
    paths = {item.path for item in data.settings}

    def group_of(item: Setting) -> str:
        """Settings of one source of several stand together, apart from the next source's."""
        owner = ".".join(item.path.split(".")[:2])  # one source has a setting for its name, `target.training` has none
        return owner if f"{owner}.name" in paths else item.path.split(".")[0]

    grouped = groupby(data.settings, key=group_of)
    return [(group, [(item.path, _value(item.value), item.help) for item in items]) for group, items in grouped]


def _value(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(_value(v) for v in value) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------------------------------------------- figures


def _figure(number: int, item: Illustration) -> _Figure:
    label = item.name.removeprefix("prediction-").replace("-", " ")
    figure = _Figure(number, item.caption, item.description, label, item.file)
    if isinstance(item.image, str):
        return figure._replace(svg=Markup(inline_svg(item.image, item.name)))
    width = int.from_bytes(item.image[16:20], "big")  # these bytes of a PNG are its width
    return figure._replace(png=_base64(item.image), width=width, animation=_base64(item.animation))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def inline_svg(svg: str, prefix: str) -> str:
    """An SVG file as a part of a page: its ids made unique, its greys replaced by the page's, its size by the page's width."""
    svg = svg[svg.index("<svg") :]
    # matplotlib's style sheet is for `*`, and would change every line of the page.
    svg = re.sub(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    name = re.sub(r"[^A-Za-z0-9_-]", "-", prefix)
    # Ids are the same in figures of the same parts, and the page's first would serve all of them.
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    # Only these four: arms have the same colours in light and dark mode.
    for plain, themed in ((INK, "currentColor"), (MUTED, "var(--muted)"), (GRID, "var(--grid)"), (PAPER, "var(--paper)")):
        svg = svg.replace(plain, themed)
    width, height = (float(v) for v in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    pixels = width * 4 / 3  # 72 points or 96 CSS pixels to the inch
    size = f'style="width:100%;max-width:{pixels:.0f}px;min-width:{min(pixels, WIDEST):.0f}px;aspect-ratio:{width:g}/{height:g}"'
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"|height="[\d.]+pt" width="[\d.]+pt"', size, svg, count=1).strip()
