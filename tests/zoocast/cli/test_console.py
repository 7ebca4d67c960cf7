import io
import re
import sys

import pytest
from rich.console import Console

from zoocast.cli.board import Board, Row, arms_of, tree_parents
from zoocast.cli.console import LiveTree, PlainLines, aligned, branches, print_table
from zoocast.cli.views import print_result
from zoocast.dag import Finished, Outcome, Progress, RunResult, Started, Waiting


class Clock:
    """Time that passes when a test lets it."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def diamond(clock, num_cpus=2.0, **rows):
    """data -> left, right -> report; `rows` gives further fields of a row."""
    parents = {"data": (), "left": ("data",), "right": ("data",), "report": ("left", "right")}
    made = [Row(name, parents=p, kind=name, **rows.get(name, {})) for name, p in parents.items()]
    return Board(made, num_cpus=num_cpus, clock=clock)


def finish(board, name, seconds, state="done", error=""):
    board.apply(Started(name, "", board.clock() - seconds))
    return board.apply(Finished(name, state, seconds, error, ""))


# ---------------------------------------------------------------------------------------------------------------- the board


def test_a_running_steps_own_estimate_counts_down_to_zero(clock):
    board = diamond(clock)
    board.apply(Started("data", "", clock()))
    row = board.apply(Progress("data", 0.25, "epoch 1", 30.0))
    clock.now += 10
    assert (row.left(clock()), row.elapsed(clock())) == (20.0, 10.0)
    clock.now += 25  # late: it should have ended five seconds ago
    assert row.left(clock()) == 0.0


def test_a_run_takes_as_long_as_its_longest_chain_or_its_shared_work(clock):
    known = {"left": {"earlier_seconds": 60.0}, "right": {"earlier_seconds": 100.0}, "report": {"earlier_seconds": 20.0}}
    board = diamond(clock, num_cpus=2.0, **known)
    finish(board, "data", 5.0)
    # Two CPUs: the chain right, report takes 120 s; the work is (60 + 100 + 20) / 2 = 90 s.
    assert board.left() == "about 2:00 left"
    board.num_cpus = 1.0  # one CPU: all three, one after the other
    assert board.left() == "about 3:00 left"
    board.apply(Started("right", "", clock()))
    board.apply(Progress("right", 0.9, "", 10.0))  # its own estimate counts more than history: 60 + 10 + 20
    assert board.left() == "about 1:30 left"


def test_steps_of_unknown_length_make_the_estimate_a_lower_bound_and_take_as_long_as_others_of_their_kind(clock):
    board = diamond(clock, left={"earlier_seconds": 30.0})
    finish(board, "data", 5.0)
    assert board.left() == "at least 30 s left"
    board.rows["right"].kind = "left"
    finish(board, "left", 40.0)  # 40 s for the same kind now count more than nothing; the report stays unknown
    assert board.left() == "at least 40 s left"


def arm(names="target.tmu.seed{}", seeds=3, **fields):
    return [Row(names.format(seed), parents=("data",), kind="train", **fields) for seed in range(seeds)]


def test_steps_that_have_not_begun_take_as_long_as_the_one_of_their_kind_that_runs_is_about_to(clock):
    board = Board([Row("data", state="cached"), *arm()], clock=clock)
    assert board.left() == ""
    board.apply(Started("target.tmu.seed0", "", clock()))
    clock.now += 10
    board.apply(Progress("target.tmu.seed0", 0.1, "", 90.0))
    assert board.left() == "about 4:50 left"  # 90 s, and twice 100 s
    board.num_cpus = 3.0
    assert board.left() == "about 1:40 left"


def test_without_kin_a_training_takes_as_long_as_the_pace_of_another_kind_of_training_tells(clock):
    board = Board(
        [Row("source", kind="pretrain", iterations=100), *arm(iterations=50), Row("report", kind="report")], clock=clock
    )
    board.apply(Started("source", "", clock()))
    clock.now += 10
    board.apply(Progress("source", 0.1, "", 90.0))
    assert board.left() == "at least 4:00 left"  # 90 s, and three times 50 iterations of a second; of the report nothing is known


def test_a_resumed_run_takes_what_its_kin_took_before_until_something_of_that_kind_runs(clock):
    board = Board([*arm(), *arm("old{}", 1, state="cached", started=0.0, finished=60.0)], clock=clock)
    assert board.left() == "about 3:00 left"
    finish(board, "target.tmu.seed0", 20.0)
    assert board.left() == "about 40 s left"


def test_a_killed_step_took_the_time_from_its_start_and_its_name_is_not_said_twice(clock, tmp_path):
    board = diamond(clock)
    board.apply(Started("left", "", clock()))
    clock.now += 75
    board.apply(Finished("left", "interrupted", 0.0, "step left was killed", ""))
    board.settle(RunResult({"left": Outcome("left", "", "interrupted", tmp_path, error="step left was killed")}, stopped=True))
    row = board.rows["left"]
    assert (row.elapsed(clock()), row.message) == (75.0, "was killed")


def test_a_lost_and_repeated_step_starts_its_clock_anew(clock):
    board = diamond(clock)
    board.apply(Started("data", "", clock()))
    board.apply(Progress("data", 0.5, "half", 3.0))
    clock.now += 7
    row = board.apply(Started("data", "", clock()))
    assert (row.fraction, row.message, row.elapsed(clock() + 1)) == (None, "", 1.0)


# ---------------------------------------------------------------------------------------------------------------- the tree


def test_a_step_hangs_below_the_input_that_comes_last_or_what_the_last_ones_share():
    parents = {
        "clips": (),
        "a": ("clips",),
        "b": ("clips",),
        "join": ("a", "b"),
        "after": ("join",),
        "alone": (),
        "all": ("after", "alone"),
    }
    assert tree_parents(parents) == {
        "clips": None, "a": "clips", "b": "clips", "join": "clips", "after": "join", "alone": None, "all": "after",
    }  # fmt: skip


def test_an_early_input_beside_a_late_one_does_not_move_a_step_in_the_tree():
    parents = {"target": (), "data": (), "source": ("data",), "finetune": ("target", "source")}
    assert tree_parents(parents)["finetune"] == "source"


def test_the_tree_leaves_out_inputs_outside_the_selection():
    assert tree_parents({"b": ("a",), "c": ("b",)}) == {"b": None, "c": "b"}


def test_branches_are_drawn_in_reading_order():
    parents = {"data": (), "left": ("data",), "deep": ("left",), "right": ("data",), "end": ()}
    assert [f"{line}{name}" for name, line in branches(parents).items()] == [
        "├─ data",
        "│  ├─ left",
        "│  │  └─ deep",
        "│  └─ right",
        "└─ end",
    ]
    assert branches(parents, ascii_only=True)["deep"] == "|  |  `- "


# ---------------------------------------------------------------------------------------------------------------- plain lines


def test_plain_lines_report_changes_and_progress_every_ten_seconds(clock, capsys):
    board = diamond(clock, left={"state": "cached"})
    with PlainLines(board) as display:
        display.changed(board.apply(Started("data", "", clock())))
        for second in range(25):
            clock.now += 1
            display.changed(board.apply(Progress("data", second / 25, f"step {second}", 25.0 - second)))
        display.changed(finish(board, "data", 25.0))
        display.changed(board.apply(Waiting("right", "run x of ann")))
        display.changed(board.apply(Finished("left", "cached", 0.0, "", "")))
        display.changed(board.apply(Finished("right", "failed", 0.0, "step right: no such file", "")))
        display.changed(board.apply(Finished("report", "skipped", 0.0, "needs right, which is not there", "")))
    out, err = capsys.readouterr()
    assert out == ""
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in err.splitlines()] == [
        "data: started",
        # Ten and twenty seconds after the start; the fraction printed last is 9/25 and 19/25.
        "data: 36%, 16 s left, step 9; whole run: at least 16 s left",
        "data: 76%, 6.0 s left, step 19; whole run: at least 6.0 s left",
        "data: done in 25 s",
        "right: another run does it, run x of ann",
        "right: failed, no such file",
        "report: not run, needs right, which is not there",
    ]


# ---------------------------------------------------------------------------------------------------------------- live tree


class Ascii(io.StringIO):
    encoding = "ascii"


def drawn(board, width=80, height=24, file=None):
    """The live tree as text, as if in mid-run on a terminal of this size."""
    file = file or io.StringIO()
    terminal = Console(file=file, width=width, height=height, force_terminal=True, color_system=None, legacy_windows=False)
    with LiveTree(board, "title", terminal):
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "").rstrip("\n").splitlines()


def test_the_live_tree_shows_progress_times_and_what_ctrl_c_does(clock):
    board = diamond(clock, right={"earlier_seconds": 90.0}, report={"earlier_seconds": 5.0})
    finish(board, "data", 3.0)
    board.apply(Started("left", "", clock()))
    board.apply(Progress("left", 0.5, "iteration 500/1000, loss 0.02", 8.0))
    clock.now += 5
    lines = [line.rstrip() for line in drawn(board)]
    assert lines[0] == "title"
    assert re.fullmatch(r"└─ ✓ data +done +3\.0 s", lines[1])
    assert re.fullmatch(r"   ├─ ▸ left +━+╸?╺?━* +3\.0 s left iteration 500/1000, loss 0\.02", lines[2])
    assert re.fullmatch(r"   ├─ · right", lines[3])
    # 90 + 5 s for the chain through the step that has not begun.
    assert lines[-1] == "1 of 4 steps · 5.0 s · about 1:35 left  Ctrl-C stops at the next checkpoint"


def test_a_low_terminal_shows_running_and_failed_steps_first(clock):
    rows = [Row(f"old{i}", state="cached") for i in range(20)] + [Row(f"next{i}") for i in range(20)]
    board = Board([*rows, Row("busy", state="running"), Row("bad", state="failed")], clock=clock)
    lines = drawn(board, height=10)
    assert len(lines) <= 10
    text = "\n".join(lines)
    assert "busy" in text
    assert "bad" in text
    # Five lines are left for steps, one of them for the tally: 42 - 4 steps are hidden, the 20 old ones first.
    assert "and 38 more: 20 done before, 18 waiting" in text


def test_a_low_terminal_keeps_what_is_above_a_running_step(clock):
    rows = []
    for i in range(8):
        rows += [Row(f"data{i}", state="done"), Row(f"source{i}", state="done", parents=(f"data{i}",))]
    rows += [Row("train", state="running", parents=("source5",)), Row("evaluate", parents=("source2",))]
    assert [re.sub(" +(done|running)? *$", "", line) for line in drawn(Board(rows, clock=clock), height=11)][1:-1] == [
        "├─ ✓ data2",
        "│  └─ ✓ source2",
        "└─ ✓ data5",
        "   └─ ✓ source5",
        "      └─ ▸ train",
        "   and 13 more: 12 done, 1 waiting",
    ]


def test_seeds_of_an_arm_share_a_line_with_a_mark_for_each(clock):
    rows = [
        Row("data", state="done"),
        *arm(seeds=4),
        *arm("target.scratch.seed{}", 1),
        *arm("many.seed{}", 12),
        *arm("more.seed{}", 17),
    ]
    board = Board([*rows, Row("evaluate.tmu", parents=tuple(f"target.tmu.seed{i}" for i in range(4)))], clock=clock)
    finish(board, "target.tmu.seed0", 60.0)
    for seed, fraction in ((1, 0.43), (2, 0.1)):
        board.apply(Started(f"target.tmu.seed{seed}", "", clock()))
        board.apply(Progress(f"target.tmu.seed{seed}", fraction, f"val 0.0{seed}, 43/100", 10.0))
    clock.now += 5
    assert [re.sub("  +", "  ", line.rstrip()) for line in drawn(board, width=90)][1:-1] == [
        "└─ ✓ data  done",
        "  ├─ ▸ target.tmu  ✓ 43% 10% ·  1:10 val 0.01, 43/100",
        "  │  └─ · evaluate.tmu",
        "  ├─ · target.scratch.seed0",
        "  ├─ · many  ············",
        "  └─ · more  0 of 17",
    ]
    board.apply(Finished("target.tmu.seed2", "failed", 5.0, "the loss is not finite", ""))
    assert re.search(r"x target\.tmu +\+ 43% x \. +1:10 +the loss", "\n".join(drawn(board, file=Ascii())))


def test_steps_that_look_like_seeds_of_another_step_are_lines_of_their_own():
    names = ["tmu", "tmu.seed0", "tmu.seed1", "a.seedling", "a.seed1", ".seed0", ".seed1"]
    assert list(arms_of([Row(name) for name in names])) == names


def test_a_long_message_leaves_names_and_times_whole(clock):
    board = Board([Row("source.of-a-long-name-that-matters")], clock=clock)
    board.apply(Started("source.of-a-long-name-that-matters", "", clock()))
    board.apply(Progress("source.of-a-long-name-that-matters", 0.5, "a long story " * 20, 3720.0))
    assert re.search(r"▸ source\.of-a-long-name-that-matters .* 1:02:00 left a lo.*…$", drawn(board)[1])


def test_no_line_is_wider_than_the_terminal(clock):
    board = diamond(clock)
    board.apply(Started("left", "", clock()))
    board.apply(Progress("left", 0.5, "a long story " * 20, 8.0))
    assert max(map(len, drawn(board, width=60))) <= 60


def test_ctrl_c_is_shown_at_the_live_trees_next_redraw(clock):
    file = io.StringIO()
    display = LiveTree(diamond(clock), "title", Console(file=file, width=120, force_terminal=True, color_system=None))
    display.stopping(1)
    display.console.print(display)
    display.stopping(3)
    display.console.print(display)
    assert "stopping at the next checkpoint; Ctrl-C again stops now" in file.getvalue()
    assert "stopping now" in file.getvalue().splitlines()[-1]


# ---------------------------------------------------------------------------------------------------------------- tables


def test_tables_align_numbers_to_the_right_and_text_to_the_left():
    text = aligned(["arm", "MSE", "note"], [["scratch", "46.7 ± 0.3", ""], ["copy", "–", ""], ["tmu", "4.1", "best"]], "TMU won")
    assert text.splitlines() == [
        "TMU won",
        "arm             MSE  note",
        "scratch  46.7 ± 0.3",
        "copy              –",
        "tmu             4.1  best",
    ]


class Terminal(io.StringIO):
    """A terminal of a given width, as far as rich and our tables ask for it."""

    def isatty(self):
        return True


ARMS = [["finetune.digits-1", "3", "0.0462 ± 0.0012", "0.3036"], ["tmu", "3", "0.0445 ± 0.0009", "0.3015"]]


@pytest.mark.parametrize(("width", "left_out"), [(25, 0), (42, 0), (43, 1), (58, 1), (59, 0), (80, 0)])
def test_a_narrow_terminal_cuts_no_name_and_no_number(width, left_out, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(["arm", "seeds", "strict/mse ↓", "strict/ssim ↑"], ARMS, "A headline of several words")
    text = re.sub(r"\x1b\[[0-9;]*m", "", sys.stdout.getvalue())
    assert max(len(line) for line in text.splitlines()) <= width
    # Below 43 the cells of a row stand below one another.
    assert set(" ".join(cell for row in ARMS for cell in row[: 4 - left_out]).split()) <= set(text.split())
    assert ("too narrow for: strict/ssim ↑" in text) == bool(left_out)


def test_the_best_of_each_metric_is_bold_on_a_terminal_and_arrows_say_which_way(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    columns = ["arm", "seeds", "validation strict/mse", "strict/ssim"]
    print_result(
        {"columns": columns, "rows": [*ARMS, ["copy", "–", "–", ""]], "headline": "", "notes": [], "best": [(0, 3), (1, 2)]}
    )
    shown = sys.stdout.getvalue()
    assert "validation strict/mse ↓" in shown
    assert "strict/ssim ↑" in shown
    assert [re.sub(r"\x1b\[[0-9;]*m", "", cell).strip() for cell in re.findall(r"\x1b\[1m([ 0-9.±]+)\x1b", shown)][-2:] == [
        "0.3036",
        "0.0445 ± 0.0009",
    ]
