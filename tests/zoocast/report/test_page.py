import dataclasses
import io
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from zoocast.report.data import ReportData
from zoocast.report.gather import write_report
from zoocast.report.illustrations import illustrations
from zoocast.report.page import compose, inline_svg
from zoocast.report.sections import Illustration

CHROMIUM = Path("/usr/bin/chromium")
VOID = {"meta", "img", "input", "br", "link"}
MINIMAL = ReportData(
    title="t", facts={}, split="test", num_clips=1, observed=1, horizon=1, arms=("tmu",), scores={"strict/mse": {"tmu": (0.1,)}}
)


class Page(HTMLParser):
    """Elements with their attributes and whether every one that was opened was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def data(run: Any) -> ReportData:
    return run.report(title='Zoo <script>alert("x")</script> & co')


@pytest.fixture(scope="module")
def drawn(data: ReportData) -> list[Illustration]:
    return illustrations(data)


@pytest.fixture(scope="module")
def text(data: ReportData, drawn: list[Illustration]) -> str:
    return compose(data, drawn)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_every_element_is_closed(page: Page) -> None:
    assert page.open == []


def test_ids_are_unique_and_references_have_a_target(text: str, page: Page) -> None:
    ids = Counter(a["id"] for _, a in page.elements if "id" in a)
    assert max(ids.values()) == 1
    wanted = {a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")}
    wanted |= {a["xlink:href"][1:] for _, a in page.elements if "xlink:href" in a}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", text)) | {
        a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a
    }
    wanted |= {a["for"] for a in page.all("label")}
    assert wanted <= set(ids)


def test_the_page_asks_nobody_for_anything(text: str, page: Page) -> None:
    assert not page.all("script")
    assert not page.all("link")
    assert all(a["src"].startswith("data:image/png;base64,") for a in page.all("img"))
    # a link to a file beside the page is followed when a person asks for it, and to nowhere else
    assert all(re.fullmatch(r"#.+|figures/[\w.-]+|table\.(csv|tex|md)", a["href"]) for _, a in page.elements if "href" in a)
    assert "@import" not in text
    assert {a.get("content", "") for a in page.all("meta")} >= {"default-src 'none'; img-src data:; style-src 'unsafe-inline'"}


def test_text_is_escaped(text: str, page: Page) -> None:
    assert "<script" not in text
    assert '<script>alert("x")</script>' in "".join(page.texts)
    assert "digits <b>&</b> co" in page.texts  # a setting's value


def test_headings_form_an_outline(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_every_figure_is_described_and_numbered(drawn: list[Illustration], page: Page) -> None:
    described = [a["alt"] for a in page.all("img") if not a["alt"].startswith("Animation")] + [
        a["aria-label"] for a in page.all("div") if a.get("role") == "img"
    ]
    assert sorted(described) == sorted(f.description for f in drawn)
    numbers = [t for t in page.texts if re.fullmatch(r"Figure \d+\.", t)]
    assert numbers == [f"Figure {i}." for i in range(1, len(drawn) + 1)]


def test_every_link_to_a_file_has_one(data: ReportData, page: Page, tmp_path: Path) -> None:
    write_report(data, tmp_path)
    linked = {a["href"] for a in page.all("a") if not a["href"].startswith("#")}
    assert len(linked) == 3 + len([f for f in tmp_path.glob("figures/*") if "animation" not in f.name])
    assert [name for name in linked if not (tmp_path / name).is_file()] == []


def test_each_clip_is_shown_in_motion_with_its_errors(data: ReportData, drawn: list[Illustration], page: Page) -> None:
    clips = [f for f in drawn if f.section == "predictions"]
    moving = [a for a in page.all("img") if a["alt"].startswith("Animation of clip")]
    assert len(moving) == len(clips) == 3
    for figure in clips:
        with Image.open(io.BytesIO(figure.animation)) as picture:
            assert picture.n_frames == data.observed + data.horizon
        assert len(figure.animation) < 300_000


def test_captions_say_split_clips_and_seeds(drawn: list[Illustration]) -> None:
    captions = {f.name: f.caption for f in drawn}
    assert "12 clips of the test split" in captions["results"]
    assert "frames 11 to 20 are predicted from 10 observed ones" in captions["horizon"]
    assert "first seed" in captions["prediction-clip-1"]
    # conftest's WEIGHTS: three of the four clips are slow
    assert captions["listening-tmu"].endswith(
        "of 3 clips of kind slow 2 to two-digits, 1 to one-digit; of 1 clip of kind fast 0 to two-digits, 1 to one-digit."
    )


def test_every_metric_stands_under_its_protocol(page: Page) -> None:
    groups = [a["colspan"] for a in page.all("th") if "colspan" in a][:3]
    assert groups == ["4", "3", "4"]  # strict, predrnn, openstl
    assert {"strict", "predrnn", "openstl"} <= set(page.texts)
    assert any(a.get("title", "").startswith("predrnn/psnr: dB") for a in page.all("th"))


def test_one_value_per_column_is_bold(text: str) -> None:
    table = text[text.index('aria-labelledby="table-1"') : text.index("</table>")]
    assert table.count("<td") - table.count("<b>") == 6 * 12 - 11  # 6 arms; seeds and 11 metrics
    assert table.count("<b>") == 11


def test_the_same_data_give_the_same_page(data: ReportData, text: str) -> None:
    assert compose(data) == text


def test_a_report_of_almost_nothing_is_a_page() -> None:
    page = Page(compose(MINIMAL))
    assert page.open == []
    assert "One seed per arm." in " ".join(page.texts)
    assert not [a for a in page.all("h2") if a["id"] in ("gates", "predictions", "pipeline")]


@pytest.fixture(scope="module")
def found(searched: Any) -> ReportData:
    return searched.report()


def test_words_of_a_comparison_are_escaped(found: ReportData) -> None:
    assert found.comparison is not None
    words = dataclasses.replace(found.comparison, ours_words="<b>", rival_words="<i>")
    text = compose(dataclasses.replace(found, comparison=words), [])
    assert "each training and &lt;b&gt;" in text
    assert "<i>" not in text
    assert "<b>beats" not in text


@pytest.fixture(scope="module")
def found_text(found: ReportData) -> str:
    return compose(found)


def test_a_search_has_sections_figures_and_descriptions(found: ReportData, found_text: str) -> None:
    page = Page(found_text)
    assert page.open == []
    sections = [a["id"] for a in page.all("h2")]
    assert sections[:5] == ["results", "search", "learning", "rates", "horizon"]
    figures = {f.name: f for f in illustrations(found)}
    assert (
        "of each trial (8 whole budget, 7 stopped early, 1 failed) on the validation split" in figures["search-history"].caption
    )
    assert "Trial 9: failed." in figures["search-history"].description
    assert "estimated from the 8 trials that used their whole budget and no others" in figures["search-importance"].caption
    assert figures["search-importance"].caption.endswith("trials have it or it never varied: adapter.chain_ratio.")
    assert "Dotted: forward.adapter, reverse.adapter" in figures["rates-paper, seed 0"].caption
    assert "Initial rate: 0.0001. Last rates: forward.cells.0 1e-05" in figures["rates-paper, seed 0"].description


def test_the_best_settings_stand_beside_their_errors(found: ReportData, found_text: str) -> None:
    assert found.search is not None
    table = found_text[found_text.index('aria-labelledby="table-3"') :]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', table[: table.index("</table>")])
    shown = {re.sub("<.*?>", "", name): re.findall(r"<td>(.*?)</td>", cells) for name, cells in rows}
    best = found.search.trials[found.search.ranking[0]]
    assert best.error is not None
    assert shown["error"][0] == f"{best.error:.5f}"
    assert shown["adapter.initial_rate"] == [
        f"{found.search.trials[n].params['adapter.initial_rate']:.4g}" for n in (*found.search.ranking[:3], 0)
    ]
    assert shown["settings"] == ["searched"] * 3 + ["given"]
    assert shown["adapter.chain_ratio"][-1] == "2"
    assert "–" in shown["adapter.chain_ratio"]


def test_tags_rows_and_protocols_follow_the_comparison(found_text: str) -> None:
    page = Page(found_text)
    assert "plain Adam" in page.texts
    assert "best finetune" not in found_text
    ours = re.findall(r'<tr class="ours"><th scope="row"><span[^>]*></span>([^<]+)', found_text)
    assert ours == ["searched.1", "searched.2"]
    assert "chose the weights of each training and the searched meta-adapter; the test split" in found_text


def test_the_protocols_name_the_rival_where_it_was_chosen(text: str) -> None:
    assert "The validation split chose the weights of each training and the best finetune; the test split was read once" in text


@pytest.mark.parametrize("verdict", ["won", "lost", "open"])
def test_the_verdict_has_its_colour(data: ReportData, verdict: str) -> None:
    ends = {"won": (-2.0, -1.0), "lost": (1.0, 2.0), "open": (-1.0, 1.0)}[verdict]
    differences = tuple(dataclasses.replace(d, seeds=ends) for d in data.differences)
    page = Page(compose(dataclasses.replace(data, differences=differences), []))
    assert f"verdict {verdict}" in [a.get("class") for a in page.all("div")]


def test_an_inlined_figure_follows_the_page() -> None:
    svg = (
        '<?xml version="1.0"?><svg width="72pt" height="36pt" viewBox="0 0 72 36"><style type="text/css">*{}</style>'
        '<g id="axes_1" style="fill: #1f2329"><use xlink:href="#m1" clip-path="url(#p1)"/></g></svg>'
    )
    inlined = inline_svg(svg, "my.figure")
    assert inlined.startswith("<svg style=")
    assert "max-width:96px" in inlined  # 72 points are an inch of 96 pixels
    assert 'id="my-figure-axes_1"' in inlined
    assert 'xlink:href="#my-figure-m1"' in inlined
    assert "url(#my-figure-p1)" in inlined
    assert "currentColor" in inlined
    assert "<style" not in inlined


# ---------------------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    flags = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=str(CHROMIUM), headless=True, args=["--headless", *(f"--{flag}" for flag in flags.split())]
        )
        yield chromium
        chromium.close()


@pytest.mark.browser
def test_the_page_in_a_browser(browser: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(text)
    for width, scheme in ((1280, "light"), (390, "dark")):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab = context.new_page()
        requests: list[str] = []
        problems: list[str] = []
        tab.on("request", lambda request, seen=requests: seen.append(request.url))
        tab.on("console", lambda message, seen=problems: seen.append(message.text))
        tab.on("pageerror", lambda error, seen=problems: seen.append(str(error)))
        tab.goto(path.as_uri())
        assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
        assert problems == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert (
            tab.evaluate("getComputedStyle(document.body).backgroundColor")
            == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
        )
        if width == 1280:
            assert tab.evaluate("(e => e.scrollWidth - e.clientWidth)(document.querySelector('[aria-label=\"Table 1\"]'))") <= 1
        choose_second_clip(tab)
        context.close()


@pytest.mark.browser
def test_a_search_in_a_browser(browser: Any, found_text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(found_text)
    for width, scheme in ((1280, "light"), (390, "dark")):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab = context.new_page()
        tab.goto(path.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        plots = tab.locator("section[aria-labelledby=search] svg, section[aria-labelledby=rates] svg")
        assert plots.count() == 5
        assert all(plots.nth(i).bounding_box()["height"] > 150 for i in range(5))
        context.close()


def choose_second_clip(tab: Any) -> None:
    figures = tab.locator(".clips figure")
    assert [figures.nth(i).is_visible() for i in range(3)] == [True, False, False]
    tab.get_by_text("clip 1", exact=True).click()
    assert [figures.nth(i).is_visible() for i in range(3)] == [False, True, False]
    tab.emulate_media(media="print")
    assert [figures.nth(i).is_visible() for i in range(3)] == [True, True, True]
