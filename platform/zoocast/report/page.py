"""One self-contained HTML page: inline style, inline SVG, pictures as data; no script and no request to anywhere.

A content security policy in the page forbids requests, so that a name from a configuration can never turn into one.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby

from zoocast.config import Setting
from zoocast.metrics import METRICS
from zoocast.report.css import CSS
from zoocast.report.data import HEADLINE_METRIC, Cell, ReportData, Search, cells, decimals, is_trained, seeds_of, signed
from zoocast.report.figures import TrialView, family
from zoocast.report.figures.style import GRID, INK, MUTED, PAPER
from zoocast.report.figures.trials import STATES
from zoocast.report.illustrations import Illustration, illustrations

__all__ = ["compose", "inline_svg"]

_SECTIONS = {
    "results": "Results",
    "search": "Search",
    "learning": "Learning curves",
    "rates": "Learning rates",
    "horizon": "Error along the horizon",
    "predictions": "Predictions",
    "gates": "Transfer gates",
    "pipeline": "Pipeline",
}
_PROTOCOLS = {
    "strict": "Floats clipped to [0, 1]; MSE and MAE are means per pixel; SSIM with data range 1; PSNR with peak 1.",
    "predrnn": "As predrnn-pytorch counts: clipped to [0, 1]; MSE summed over a frame's pixels; SSIM and PSNR on 8-bit frames.",
    "openstl": "As OpenSTL counts: MSE and MAE before clipping, summed over a frame's pixels; SSIM and PSNR on floats after"
    " clipping, SSIM with the data range 2 that the scikit-image of its day assumed.",
}
_ARROWS = {"lower": ("↓", "lower is better"), "higher": ("↑", "higher is better")}


def compose(data: ReportData, figures: Sequence[Illustration] | None = None) -> str:
    """The page for `data`; `figures` are its illustrations where they are made already. All text is escaped."""
    numbered = list(enumerate(illustrations(data) if figures is None else figures, start=1))
    sections = [("results", _results(data, _figures(numbered, "results")))]
    for section in list(_SECTIONS)[1:]:
        body = _clips(numbered) if section == "predictions" else _figures(numbered, section)
        if section == "search" and data.search is not None:
            body = _search_table(data, data.search) + body
        sections.append((section, body))
    titles = {
        **_SECTIONS,
        "configuration": "Configuration",
        "environment": "Environment",
        "protocols": "Protocols",
    }
    sections += [("configuration", _settings(data)), ("environment", _environment(data)), ("protocols", _protocols(data))]
    shown = [(name, body) for name, body in sections if body]
    links = "".join(f'<li><a href="#{name}">{titles[name]}</a></li>' for name, _ in shown)
    bodies = "".join(f'<section aria-labelledby="{n}"><h2 id="{n}">{titles[n]}</h2>{body}</section>\n' for n, body in shown)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="generator" content="zoocast">\n'
        f"<title>{escape(data.title)}</title>\n<style>{CSS}{_clip_rules(numbered)}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#results">Skip to the results</a>\n<div class="page">\n{_header(data)}'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n{bodies}</main>\n</div>\n</body>\n</html>\n'
    )


def _header(data: ReportData) -> str:
    several = seeds_of(data)
    facts = {
        **data.facts,
        "clips": f"{data.num_clips} of the {data.split} split",
        "frames": f"{data.observed} observed, {data.horizon} predicted",
        "seeds": str(several),
    }
    listed = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    verdict = data.decisive.verdict if data.decisive else "open"
    short, grounds = data.headline_parts
    notes = "".join(f"<p>{escape(note)}</p>" for note in data.notes)
    return (
        f'<header>\n<h1>{escape(data.title)}</h1>\n<dl class="facts">{listed}</dl>\n'
        f'<div class="verdict {verdict}"><strong>{escape(short)}</strong><p>{escape(grounds)}</p>{notes}</div>\n</header>\n'
    )


# ---------------------------------------------------------------------------------------------------------------- tables


def _results(data: ReportData, figures: str) -> str:
    return _score_table(data) + figures + _difference_table(data)


def _score_table(data: ReportData) -> str:
    metrics = [m for m in METRICS if m in data.scores]
    groups = [(name, list(group)) for name, group in groupby(metrics, key=lambda m: METRICS[m].protocol)]
    firsts = {group[0] for _, group in groups}
    columns = {m: cells(data, m) for m in metrics}
    several = seeds_of(data) > 1
    spread = "Mean over seeds, below it the standard deviation between seeds." if several else "One seed per arm."
    above = "".join(
        f'<th scope="colgroup" colspan="{len(group)}" class="first"><span>{escape(name)}</span></th>' for name, group in groups
    )
    heads = "".join(_metric_head(m, m in firsts) for m in metrics)
    rows = "".join(_score_row(data, arm, [(columns[m].get(arm), m in firsts) for m in metrics]) for arm in data.arms)
    return (
        f'<p class="caption" id="table-1"><b>Table 1.</b> Scores on the {data.num_clips} clips of the {escape(data.split)} split,'
        f" over all {data.horizon} predicted frames. {spread} Best of each column in bold."
        ' Columns are grouped by <a href="#protocols">protocol</a>.</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Table 1"><table class="results" aria-labelledby="table-1">'
        f'<thead><tr><th rowspan="2" scope="col" class="name">arm</th><th rowspan="2" scope="col">seeds</th>{above}</tr>'
        f"<tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _metric_head(metric: str, first: bool) -> str:
    arrow, words = _ARROWS[METRICS[metric].better]
    name = escape(metric.partition("/")[2].upper())
    return (
        f'<th scope="col"{" class=first" * first} title="{escape(metric)}: {escape(METRICS[metric].unit)}">'
        f'{name} <span aria-hidden="true">{arrow}</span><span class="unseen">, {words}</span></th>'
    )


def _score_row(data: ReportData, arm: str, row: Iterable[tuple[Cell | None, bool]]) -> str:
    ours = family(arm) == data.comparison.ours
    chosen = data.decisive is not None and data.decisive.other == arm
    tag = _rival_tag(data) if chosen else ""
    count = max((len(arms[arm]) for arms in data.scores.values() if arm in arms), default=0)
    shown = "".join(_score_cell(cell, first) for cell, first in row)
    return (
        f'<tr{" class=ours" * ours}><th scope="row">{_swatch(data, arm)}{escape(arm)}{tag}</th>'
        f"<td>{count if is_trained(arm) else '–'}</td>{shown}</tr>"
    )


def _score_cell(cell: Cell | None, first: bool) -> str:
    opening = f"<td{' class=first' * first}>"
    if cell is None:
        return f"{opening}–</td>"
    mean = f"<b>{cell.mean}</b>" if cell.best else cell.mean
    return f'{opening}{mean}<span class="spread">{"±" + cell.spread if cell.spread else ""}</span></td>'


def _difference_table(data: ReportData) -> str:
    if not data.differences:
        return ""
    ours = data.differences[0].arm
    digits = decimals([d.mean for d in data.differences], [abs(d.mean) / 10 for d in data.differences])
    rows = []
    for d in data.differences:
        tag = _rival_tag(data) if d.chosen else ""
        word = {"won": "better", "lost": "worse", "open": "open"}[d.verdict]
        rows.append(
            f'<tr><th scope="row">{_swatch(data, d.other)}{escape(d.other)}{tag}</th><td>{signed(d.mean, digits)}</td>'
            f'<td>{signed(100 * d.relative, 1)}\N{NO-BREAK SPACE}%</td><td class="first">{_interval(d.seeds, digits)}</td>'
            f"<td>{d.count}</td>"
            f'<td class="first">{_interval(d.clips, digits)}</td><td class="first {d.verdict}-text">{word}</td></tr>'
        )
    return (
        f'<p class="caption" id="table-2"><b>Table 2.</b> {escape(ours)} minus each other arm in {HEADLINE_METRIC} on the'
        f" {escape(data.split)} split: below zero, {escape(ours)} is better. Intervals are 95 %, by Student’s t of paired"
        " differences: over seeds, which says what training again would give, and over test clips, which says what other clips"
        " would give with these weights. The last column follows the interval over seeds.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Table 2"><table class="results" aria-labelledby="table-2">'
        '<thead><tr><th rowspan="2" scope="col" class="name">compared with</th><th rowspan="2" scope="col">difference</th>'
        '<th rowspan="2" scope="col">relative</th><th colspan="2" scope="colgroup" class="first"><span>over seeds</span></th>'
        '<th scope="colgroup" class="first"><span>over clips</span></th><th rowspan="2" scope="col">verdict</th></tr>'
        '<tr><th scope="col" class="first">interval</th><th scope="col">seeds</th>'
        '<th scope="col" class="first">interval</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _search_table(data: ReportData, search: Search) -> str:
    """Settings of the best three trials, and of those whose settings were given, beside their errors."""
    trials = {t.number: t for t in search.trials}
    shown = [trials[n] for n in dict.fromkeys((*search.ranking[:3], *range(search.num_given)))]
    number = 2 + bool(data.differences)
    heads = "".join(f'<th scope="col">trial {t.number}</th>' for t in shown)
    errors = [t.error for t in shown if t.error is not None]
    digits = decimals(errors, [(max(errors) - min(errors)) / 10])
    rows = {
        "error": [f"{t.error:.{digits}f}" if t.error is not None else "–" for t in shown],
        "ended": [STATES[t.state] for t in shown],
        "iterations": [str(t.iterations) for t in shown],
        "settings": ["given" if t.number < search.num_given else "searched" for t in shown],
        **{f"<code>{escape(f.name)}</code>": [_setting(t, f.name) for t in shown] for f in search.fields},
    }
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{escape(v)}</td>" for v in values)}</tr>' for name, values in rows.items()
    )
    return (
        f'<p class="caption" id="table-{number}"><b>Table {number}.</b> The settings of the best trials, best first, and of those'
        " whose settings were given to the search; above them the lowest error on the validation split.</p>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table {number}"><table class="results"'
        f' aria-labelledby="table-{number}"><thead><tr><th scope="col" class="name">setting</th>{heads}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _setting(trial: TrialView, field: str) -> str:
    value = trial.params.get(field, "–")
    return f"{value:.4g}" if isinstance(value, float) else _value(value)


def _interval(ends: tuple[float, float] | None, digits: int) -> str:
    return f"{signed(ends[0], digits)} to {signed(ends[1], digits)}" if ends else "–"


def _rival_tag(data: ReportData) -> str:
    return f'<span class="tag">{escape(data.comparison.rival_words.removeprefix("the "))}</span>'


def _swatch(data: ReportData, arm: str) -> str:
    return f'<span class="swatch" style="background:{data.styles[arm].color}"></span>'


# ---------------------------------------------------------------------------------------------------------------- figures


def _figures(numbered: Sequence[tuple[int, Illustration]], section: str) -> str:
    return "".join(_figure(number, item) for number, item in numbered if item.section == section)


def _figure(number: int, item: Illustration, extra: str = "") -> str:
    description = escape(item.description)
    if isinstance(item.image, str):
        image = f'<div class="plot" role="img" aria-label="{description}">{inline_svg(item.image, item.name)}</div>'
    else:
        width = int.from_bytes(item.image[16:20], "big")  # of the PNG's header
        data = base64.b64encode(item.image).decode()
        style = f"width:100%;max-width:{width}px;min-width:{min(width, 620)}px"
        tag = f'<img style="{style}" src="data:image/png;base64,{data}" alt="{description}">'
        image = f'<div class="picture"><div class="sheet">{tag}</div></div>'
    return (
        f'<figure{extra}><div class="scroll" tabindex="0" role="region" aria-label="Figure {number}">{image}</div>'
        f"<figcaption><b>Figure {number}.</b> {escape(item.caption)}</figcaption></figure>"
    )


def _clips(numbered: Sequence[tuple[int, Illustration]]) -> str:
    """The clips one at a time, chosen by radio buttons that the style sheet reads; without it, or printed, all of them."""
    pictures = [(number, item) for number, item in numbered if item.section == "predictions"]
    if len(pictures) < 2:
        return "".join(_figure(number, item) for number, item in pictures)
    buttons = "".join(
        f'<input type="radio" name="clip" id="choose-{number}"{" checked" * (index == 0)}>'
        f'<label for="choose-{number}">{escape(item.name.removeprefix("prediction-").replace("-", " "))}</label>'
        for index, (number, item) in enumerate(pictures)
    )
    figures = "".join(_figure(number, item, f' id="figure-{number}"') for number, item in pictures)
    return f'<fieldset class="clips"><legend class="unseen">Which clip is shown</legend>{buttons}{figures}</fieldset>'


def _clip_rules(numbered: Sequence[tuple[int, Illustration]]) -> str:
    pictures = [number for number, item in numbered if item.section == "predictions"]
    if len(pictures) < 2:
        return ""
    hidden = ", ".join(f"#choose-{n}:not(:checked) ~ #figure-{n}" for n in pictures)
    return f"@media screen {{ {hidden} {{ display: none; }} }}\n"


def inline_svg(svg: str, prefix: str) -> str:
    """An SVG file as a part of a page: its ids made unique, its greys replaced by the page's, its size by the page's width."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    name = re.sub(r"[^A-Za-z0-9_-]", "-", prefix)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    for plain, themed in ((INK, "currentColor"), (MUTED, "var(--muted)"), (GRID, "var(--grid)"), (PAPER, "var(--paper)")):
        svg = svg.replace(plain, themed)
    width, height = (float(v) for v in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    pixels = width * 4 / 3
    size = f'style="width:100%;max-width:{pixels:.0f}px;min-width:{min(pixels, 600):.0f}px;aspect-ratio:{width:g}/{height:g}"'
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"|height="[\d.]+pt" width="[\d.]+pt"', size, svg, count=1).strip()


# ---------------------------------------------------------------------------------------------------------------- the rest


def _settings(data: ReportData) -> str:
    def rows(items: Iterable[Setting]) -> Iterator[str]:
        for item in items:
            yield (
                f'<tr><th scope="row"><code>{escape(item.path)}</code></th><td><code>{escape(_value(item.value))}</code></td>'
                f"<td class=meaning>{escape(item.help)}</td></tr>"
            )

    paths = {item.path for item in data.settings}

    def group_of(item: Setting) -> str:
        """Settings of one source of several stand together, apart from the next source's."""
        owner = ".".join(item.path.split(".")[:2])
        return owner if f"{owner}.name" in paths else item.path.split(".")[0]

    out = []
    for group, grouped in groupby(data.settings, key=group_of):
        items = list(grouped)
        out.append(
            f'<details><summary><code>{escape(group)}</code><span class="count">{len(items)}'
            f" setting{'s' * (len(items) != 1)}</span></summary>"
            '<div class="scroll"><table class="settings"><thead><tr><th scope="col">setting</th><th scope="col">value</th>'
            f'<th scope="col" class="meaning">meaning</th></tr></thead><tbody>{"".join(rows(items))}</tbody>'
            "</table></div></details>"
        )
    return "".join(out)


def _value(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(_value(v) for v in value) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _environment(data: ReportData) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in data.environment.items())
    return f'<div class="scroll"><table class="settings"><tbody>{rows}</tbody></table></div>' if rows else ""


def _protocols(data: ReportData) -> str:
    used = list(dict.fromkeys(METRICS[m].protocol for m in METRICS if m in data.scores))
    items = "".join(f"<dt>{escape(p)}</dt><dd>{escape(_PROTOCOLS[p])}</dd>" for p in used)
    sides = ((data.comparison.rival, data.comparison.rival_words), (data.comparison.ours, data.comparison.ours_words))
    chosen = "".join(f" and {escape(words)}" for kind, words in sides if sum(family(arm) == kind for arm in data.arms) > 1)
    common = (
        "Every number is a mean over all predicted frames of all clips of the split; no clip is left out. The validation split"
        f" chose the weights of each training{chosen}; the test split was read once, for this report. The same"
        " frames give other numbers under another protocol, so compare within a group of columns only."
    )
    return f'<p>{common}</p><dl class="protocols">{items}</dl>'
