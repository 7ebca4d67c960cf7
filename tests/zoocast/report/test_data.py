import csv
import dataclasses
import math

import pytest

from zoocast.errors import ConfigError
from zoocast.report.compare import Comparison, Difference, decimals, percents, signed
from zoocast.report.data import ReportData, cells, table_csv, table_latex, table_markdown, table_rows
from zoocast.report.sections import SectionView

COMPARISON = Comparison(ours=("tmu",), rival=("finetune.a",), ours_words="TMU", rival_words="the best finetune")


def difference(seeds: tuple[float, float] | None, mean: float = -0.004, too_small: str = "") -> Difference:
    return Difference(
        arm="tmu",
        other="finetune.a",
        mean=mean,
        relative=mean / 0.04,
        relative_seeds=seeds and (seeds[0] / 0.04, seeds[1] / 0.04),
        seeds=seeds,
        clips=None,
        both=seeds and (1.5 * seeds[0], 1.5 * seeds[1]),
        count=3 if seeds else 1,
        better=3 if seeds and mean < 0 else 0,
        too_small=too_small,
        chosen=True,
    )


def report(**changes: object) -> ReportData:
    data = ReportData(
        title="t",
        facts={},
        split="test",
        num_clips=8,
        observed=10,
        horizon=10,
        arms=("copy-last", "finetune.a", "tmu"),
        untrained=("copy-last",),
        comparison=COMPARISON,
        scores={
            "strict/mse": {"copy-last": (0.1,), "finetune.a": (0.039, 0.041, 0.04), "tmu": (0.035, 0.037, 0.036)},
            "strict/ssim": {"copy-last": (0.5,), "finetune.a": (0.70, 0.72, 0.71), "tmu": (0.80, 0.82, 0.81)},
            "predrnn/mse": {"copy-last": (102.4,), "finetune.a": (40.1, 41.9, 41.0), "tmu": (36.0, 38.0, 37.0)},
        },
    )
    return dataclasses.replace(data, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seeds", "mean", "verdict", "words"),
    [
        ((-0.006, -0.002), -0.004, "TMU beats the best finetune.", "10.0\N{NO-BREAK SPACE}% lower"),
        ((0.002, 0.006), 0.004, "TMU loses to the best finetune.", "10.0\N{NO-BREAK SPACE}% higher"),
        ((-0.009, 0.001), -0.004, "TMU and the best finetune cannot be told apart.", "higher), contains zero"),
        (None, -0.004, "Too small to compare TMU with the best finetune.", "Nothing follows from that."),
    ],
)
def test_the_headline_says_what_the_interval_allows(
    seeds: tuple[float, float] | None, mean: float, verdict: str, words: str
) -> None:
    headline = report(differences=(difference(seeds, mean),)).headline
    assert headline.startswith(verdict)
    assert words in headline


def test_the_headline_uses_the_words_of_the_comparison() -> None:
    comparison = dataclasses.replace(COMPARISON, ours_words="the meta-adapter", rival_words="plain Adam")

    def headline(seeds: tuple[float, float] | None) -> str:
        return report(differences=(difference(seeds),), comparison=comparison).headline

    assert headline((-0.006, -0.002)).startswith("The meta-adapter beats plain Adam. strict/mse of tmu on the test split is")
    assert "lower than that of plain Adam, finetune.a: 0.03600" in headline((-0.006, -0.002))
    assert headline((-0.006, 0.002)).startswith("The meta-adapter and plain Adam cannot be told apart.")
    assert headline(None).startswith("Too small to compare the meta-adapter with plain Adam.")
    assert "The meta-adapter and plain Adam have no seed in common" in report(comparison=comparison).headline


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (((), ("adam",)), "ours: must name at least one arm, but got none"),
        ((("tmu",), ()), "rival: must name at least one arm, but got none"),
        ((("tmu", "adam"), ("adam",)), "rival: must be other arms than ours, but both name adam"),
    ],
)
def test_a_comparison_is_between_different_arms(sides: tuple[tuple[str, ...], tuple[str, ...]], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Comparison(ours=sides[0], rival=sides[1], ours_words="a", rival_words="b")
    assert str(caught.value) == message


def test_the_headline_holds_the_numbers() -> None:
    headline = report(differences=(difference((-0.006, -0.002)),)).headline
    # means 0.036 and 0.04, differing by 0.004: three digits of the difference are 5 decimals
    assert "0.03600 against 0.04000" in headline
    assert "and lower in 3 of 3 seeds" in headline
    assert headline.endswith(
        "over seeds, −0.00600 to −0.00200 (5.0 to 15.0\N{NO-BREAK SPACE}% lower), lies below zero;"
        " over other test clips as well it is −0.00900 to −0.00300."
    )


def test_an_interval_that_touches_zero_is_open() -> None:
    assert difference((-0.008, 0.0)).verdict == "open"


def test_an_interval_of_no_numbers_is_neither_won_nor_lost() -> None:
    assert difference((math.nan, math.nan)).verdict == "open"


def test_what_is_too_small_to_compare_has_that_verdict_the_reason_and_no_best_value() -> None:
    small = difference((-0.006, -0.002), too_small="There are too few seeds.")
    data = report(differences=(small,))
    assert small.verdict == "small"
    assert data.headline.startswith("Too small to compare TMU with the best finetune. strict/mse of tmu on the test split is")
    assert data.headline.endswith("Nothing follows from that. There are too few seeds.")
    assert not any(cell.best for metric in data.scores for cell in cells(data, metric).values())
    assert table_rows(data)[2] == []
    assert table_markdown(data).startswith("**Too small to compare TMU with the best finetune.**")


def test_a_report_that_compares_nobody_says_so_unless_a_section_has_a_result() -> None:
    assert report(comparison=None).headline == "No comparison. The report names no arms that are to be compared."
    found = SectionView(name="mine", title="Mine", headline="Sources a and b help.")
    assert report(comparison=None, sections=(found,)).headline_parts == ("Sources a and b help.", "")


def test_headlines_of_sections_follow_the_comparison() -> None:
    found = SectionView(name="mine", title="Mine", headline="Source a harms.")
    short, grounds = report(differences=(difference((-0.006, -0.002)),), sections=(found,)).headline_parts
    assert short == "TMU beats the best finetune."
    assert grounds.endswith("−0.00900 to −0.00300. Source a harms.")


def test_a_column_shows_two_digits_of_its_spread() -> None:
    column = cells(report(), "strict/mse")
    # sd of 0.039, 0.041, 0.040 and of 0.035, 0.037, 0.036 is 0.001: two digits of it are 4 decimals
    assert str(column["finetune.a"]) == "0.0400 ± 0.0010"
    assert str(column["copy-last"]) == "0.1000"


def test_the_best_is_lowest_or_highest_as_the_metric_has_it() -> None:
    for metric in ("strict/mse", "strict/ssim", "predrnn/mse"):
        assert [arm for arm, cell in cells(report(), metric).items() if cell.best] == ["tmu"]


@pytest.mark.parametrize(
    ("values", "spreads", "digits"),
    [
        ([0.04], [0.001], 4),
        ([23.456], [0.02], 3),  # 0.020
        ([23.456], [0.00002], 3),  # not more than five digits of the largest value
        ([102.4, 40.0], [], 1),  # without a spread four digits of the largest value
        ([123456.0], [], 0),
        ([0.0], [0.0], 3),
        ([], [], 3),
    ],
)
def test_numbers_show_two_digits_of_the_typical_spread(values: list[float], spreads: list[float], digits: int) -> None:
    assert decimals(values, spreads) == digits


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((-0.093, -0.069), "6.9 to 9.3 % lower"),
        ((0.01, 0.025), "1.0 to 2.5 % higher"),
        ((-0.022, 0.001), "2.2 % lower to 0.1 % higher"),
        ((0.0, 0.001), "0.0 % lower to 0.1 % higher"),
    ],
)
def test_a_relative_interval_says_in_which_direction_it_lies(interval: tuple[float, float], words: str) -> None:
    assert percents(interval).replace("\N{NO-BREAK SPACE}", " ") == words


def test_a_signed_number_has_its_sign_unless_it_rounds_to_zero() -> None:
    assert [signed(v, 2) for v in (1.234, -1.234, 0.001, -0.001)] == ["+1.23", "−1.23", "0.00", "0.00"]


def test_the_terminal_shows_seeds_means_and_deviations_of_a_few_metrics() -> None:
    columns, rows, best = table_rows(report())
    assert columns == ["arm", "seeds", "strict/mse", "strict/ssim", "predrnn/mse"]
    assert rows[0] == ["copy-last", "–", "0.1000", "0.500", "102.40"]
    assert rows[2] == ["tmu", "3", "0.0360 ± 0.0010", "0.810 ± 0.010", "37.00 ± 1.00"]
    assert best == [(2, 2), (2, 3), (2, 4)]


def test_table_in_markdown_names_protocols_and_marks_the_best() -> None:
    lines = table_markdown(report(arms=("copy-last", "finetune.a", "tmu"))).splitlines()
    assert lines[2] == "| arm | seeds | strict/mse ↓ | strict/ssim ↑ | predrnn/mse ↓ |"
    assert lines[-1] == "| tmu | 3 | **0.0360 ± 0.0010** | **0.810 ± 0.010** | **37.00 ± 1.00** |"


def test_an_arm_that_a_metric_lacks_has_an_empty_cell() -> None:
    data = report(scores={"strict/mse": {"tmu": (0.1,)}})
    assert table_rows(data)[1][1] == ["finetune.a", "0", ""]


def test_a_bar_in_a_name_does_not_break_markdown() -> None:
    data = report(arms=("a|b",), scores={"strict/mse": {"a|b": (0.1,)}})
    assert "| a\\|b | 1 |" in table_markdown(data)


def test_the_psnr_of_a_split_without_any_error_is_infinite() -> None:
    column = cells(report(scores={"strict/psnr": {"copy-last": (math.inf,), "tmu": (20.0, 22.0)}}), "strict/psnr")
    assert (str(column["copy-last"]), column["copy-last"].best) == ("∞", True)
    assert str(column["tmu"]) == "21.0 ± 1.4"


def test_the_table_as_csv_has_all_digits_and_a_line_per_arm() -> None:
    lines = list(csv.reader(table_csv(report()).splitlines()))
    assert lines[0][:4] == ["arm", "seeds", "strict/mse mean", "strict/mse sd"]
    assert lines[1][:4] == ["copy-last", "", "0.1", ""]
    assert lines[3][:2] == ["tmu", "3"]
    # sd of 0.035, 0.037, 0.036
    assert [float(v) for v in lines[3][2:4]] == pytest.approx([0.036, 0.001])


def test_the_table_as_latex_escapes_names_and_marks_the_best() -> None:
    lines = table_latex(report(arms=("copy-last", "finetune.a", "tmu"))).splitlines()
    assert lines[1] == r"\begin{tabular}{lrrrr}"
    assert lines[3] == r"arm & seeds & strict/mse $\downarrow$ & strict/ssim $\uparrow$ & predrnn/mse $\downarrow$ \\"
    assert lines[5].startswith("copy-last & -- & $0.1000$ &")
    assert lines[7].startswith(r"tmu & 3 & $\mathbf{0.0360}$ $\pm$ 0.0010 &")
    data = report(arms=("a_b & 5 %",), scores={"strict/mse": {"a_b & 5 %": (0.1,)}})
    assert r"a\_b \& 5 \% & 1 &" in table_latex(data)
