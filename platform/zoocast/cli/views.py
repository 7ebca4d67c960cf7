"""What the reading commands print: the same facts as JSON for programs and as text for people."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoocast.cli.board import tree_parents
from zoocast.cli.catalogue import Configured
from zoocast.cli.console import branches, print_sentence, print_table
from zoocast.cli.streams import fitting
from zoocast.config import settings
from zoocast.dag.step import GROUP
from zoocast.errors import IntegrityError
from zoocast.store.files import parse_json
from zoocast.store.recorded import check_file
from zoocast.words import duration, moment

if TYPE_CHECKING:
    from zoocast.cli.runs import RunRecord
    from zoocast.cluster.jobs import Job
    from zoocast.cluster.preflight import Finding
    from zoocast.dag import Plan, Step

TABLE = ("headline", "columns", "rows", "notes")  # what there is in the result of a report

__all__ = ["print_json", "print_result", "print_run", "print_runs", "print_show", "read_result", "read_table", "show_data"]


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    # Where a character cannot be shown as it is, JSON has an escape of its own for it.
    if fitting(text.replace("\n", ""), sys.stdout) != text.replace("\n", ""):
        text = json.dumps(data, indent=1)
    # At once: in the log of a job, other processes' lines must not come between.
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------------------------------------------------------- show


def show_data(configured: Configured) -> dict[str, Any]:
    """Everything that `show` prints."""
    pipeline = configured.pipeline
    return {
        "name": pipeline.name,
        "summary": pipeline.summary,
        "description": pipeline.description,
        "presets": pipeline.preset_docs(),
        "preset": configured.preset,
        "steps": [
            {
                "name": step.name,
                "inputs": [parent.name for parent in step.inputs.values()],
                "holds": ", ".join(str(demand) for demand in step.demands),
            }
            for step in configured.steps
        ],
        "incomplete": configured.incomplete,
        "settings": [dict(s._asdict(), value=s.value) for s in settings(configured.config)],
    }


def print_show(configured: Configured) -> None:
    """`show` for people."""
    data = show_data(configured)
    print(f"{data['name']}: {data['summary']}\n")
    print(f"{data['description']}\n\nPresets (--preset)")
    for name, doc in data["presets"].items():
        print(
            textwrap.indent(f"{name}{' (shown below)' if name == data['preset'] else ''}\n{textwrap.indent(doc, '    ')}", "  ")
        )
    print("\nSteps")
    for line in _drawn(configured.steps):
        print(f"  {line}")
    print(f"  not known yet: {configured.incomplete}\n" if configured.incomplete else "")
    rows = [[s["path"], _value(s["value"]), s["type"], s["help"]] for s in data["settings"]]
    print_table(["setting (-S)", "value", "type", "what it is"], rows)


def _drawn(steps: Sequence[Step]) -> Iterator[str]:
    """The tree of steps, the seeds of an arm as one, each with the inputs that its place in the tree does not show."""
    drawn_as = _names_with_seeds_as_one(steps)
    counts = Counter(drawn_as.values())
    parents: dict[str, list[str]] = {}
    above: dict[str, set[str]] = {}
    for step in steps:
        name = drawn_as[step.name]
        parents[name] = list(dict.fromkeys(drawn_as[parent.name] for parent in step.inputs.values()))
        above[name] = {a for parent in parents[name] for a in (parent, *above[parent])}
    hangs = tree_parents(parents)
    for name, branch in branches(parents, ascii_only=not _unicode()).items():
        shown, place = {name}, hangs[name]
        while place is not None:
            shown.add(place)
            place = hangs[place]
        # Inputs that some other input needs itself are implied by it.
        others = [p for p in parents[name] if p not in shown and not any(p in above[q] for q in parents[name])]
        many = f" ({counts[name]} seeds)" if counts[name] > 1 else ""
        yield f"{branch}{name}{many}" + (f"   needs {', '.join(others)}" if others else "")


def _names_with_seeds_as_one(steps: Sequence[Step]) -> dict[str, str]:
    """For each step the name under which it is drawn: what the members of a group ``seeds`` share in theirs, else its own.

    What such members differ in among their own inputs exists once for each seed as well, as stage 1 does for stage 2.
    """
    drawn_as = {step.name: step.name for step in steps}

    def join(members: Iterable[Step]) -> None:
        # By name: an input that all members share is one step, and is drawn under its own name.
        alike = list({step.name: step for step in members}.values())
        parts = zip(*(step.name.split(".") for step in alike), strict=False)
        shared = ".".join(part for part, *others in itertools.takewhile(lambda same: len(set(same)) == 1, parts))
        if len(alike) < 2 or not shared:
            return
        drawn_as.update(dict.fromkeys((step.name for step in alike), shared))
        for name in alike[0].inputs:
            join(step.inputs[name] for step in alike if name in step.inputs)

    for step in steps:
        join(parent for name, parent in step.inputs.items() if name.startswith(f"seeds{GROUP}"))
    return drawn_as


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return (
        {None: "none", True: "true", False: "false"}.get(value, str(value))
        if value is None or isinstance(value, bool)
        else str(value)
    )


def _unicode() -> bool:
    return "utf" in (sys.stdout.encoding or "").lower()


# ---------------------------------------------------------------------------------------------------------------- plan and doctor


def print_plan(plan: Plan, other_presets: Mapping[str, str]) -> None:
    """What each step would do, as the tree of steps, and why.

    Where the nearest result of a step is in a folder of `other_presets`, that preset is named in place of all that differs.
    """
    lines = branches(
        {p.step.name: [parent.name for parent in p.step.inputs.values()] for p in plan.steps}, ascii_only=not _unicode()
    )
    by_name = {p.step.name: p for p in plan.steps}
    rows = []
    for name, branch in lines.items():
        planned = by_name[name]
        preset = other_presets.get(planned.nearest or "")
        why = (f"made with preset {preset} before",) if preset else planned.why
        first, *more = causes(why) or [""]
        seconds = duration(planned.record.seconds) if planned.record else ""
        rows.append([branch + name, planned.state, seconds, first])
        rows += [["", "", "", why] for why in more]
    print_table(["step", "state", "took", "why"], rows)
    for line in notes(plan):
        print(line)


def notes(plan: Plan) -> list[str]:
    """What people should know of the steps before they run, such as how a file of theirs is read."""
    return [f"{planned.step.name}: {note}" for planned in plan.steps for note in planned.step.notes]


def causes(why: Iterable[str]) -> list[str]:
    """The reasons with only their origin, each once: a change far up reaches a late step on many ways."""
    # "input a: input b: setting changed" and "input c: input b: setting changed" are one cause, at b.
    return list(dict.fromkeys(re.sub(r"^(?:input \S+: )*(?=input \S+: )", "", reason) for reason in why))


def print_findings(findings: Iterable[Finding], *, as_json: bool) -> list[Finding]:
    """Each finding as it becomes known, or all as JSON at the end."""
    seen = []
    for finding in findings:
        seen.append(finding)
        if not as_json:
            print(f"{finding.state:<5} {finding.check:<9} {finding.seen}", flush=True)
            if finding.remedy:
                print(f"{'':<15} {finding.remedy}", flush=True)
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in seen])
    return seen


# ---------------------------------------------------------------------------------------------------------------- status


def record_data(record: RunRecord) -> dict[str, Any]:
    """A run as JSON, with the state that follows from whether its process lives."""
    return {"state": record.state(), **dataclasses.asdict(record)}


def print_runs(records: Sequence[RunRecord]) -> None:
    """One line per run, the latest first."""
    rows = [
        [r.run, r.state(), _steps_done(r.steps), moment(r.started), duration(r.took()), r.message.partition("\n")[0]]
        for r in records
    ]
    print_table(["run", "state", "steps", "started", "took", "message"], rows)


def print_run(record: RunRecord) -> None:
    """One run and its steps."""
    facts = {
        "run": record.run,
        "state": record.state(),
        "started": f"{moment(record.started)} by process {record.pid} on {record.host}",
        "took": duration(record.took()) + (f" in {len(record.attempts)} attempts" if len(record.attempts) > 1 else ""),
        "settings": " ".join([f"--preset {record.preset}", *(f"-S {item}" for item in record.overrides)]),
        "message": record.message,
        "report": record.report,
        "resume": record.resume if record.exit_code != 0 else None,
    }
    for name, value in facts.items():
        if value:
            print(f"{name:<9} {value}")
    for number, attempt in enumerate(record.attempts if len(record.attempts) > 1 else (), start=1):
        print(f"{f'attempt {number}':<10}{_attempt(attempt, last=number == len(record.attempts))}")
    print()
    rows = [
        [
            s["name"],
            s["state"],
            f"{s['fraction']:.0%}" if s["state"] == "running" and s["fraction"] else "",
            duration(_step_took(s)),
            s["message"].partition("\n")[0],
        ]
        for s in record.steps
    ]
    print_table(["step", "state", "", "took", "message"], rows)


def _attempt(attempt: Mapping[str, Any], *, last: bool) -> str:
    """When it was, what became of the steps in it, and how it ended."""
    from zoocast.cli.runs import ENDINGS

    code = attempt["exit_code"]
    ending = ("not ended" if last else "died") if code is None else ENDINGS.get(code, f"failed with exit code {code}")
    what = ", ".join(f"{count} {state}" for state, count in attempt["steps"].items())
    return f"{moment(attempt['started'])}, {duration(attempt['ended'] - attempt['started'])}: {ending}; {what}"


def _steps_done(steps: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(step['state'] in ('done', 'cached') for step in steps)}/{len(steps)}"


def _step_took(step: Mapping[str, Any]) -> float | None:
    return step["finished"] - step["started"] if step["finished"] and step["started"] else None


def print_jobs(jobs: Sequence[Job]) -> None:
    """One line per job, the latest first. One that is not of ours shows its command instead of a root."""
    rows = [
        [
            job.id,
            job.state,
            job.exit_code,
            moment(job.started) if job.started else "",
            duration(job.took()),
            job.root or job.entrypoint,
        ]
        for job in jobs
    ]
    print_table(["job", "state", "exit", "started", "took", "root"], rows)


# ---------------------------------------------------------------------------------------------------------------- result


def read_result(record: RunRecord, root: Path) -> dict[str, Any] | None:
    """The table that the last step left beside its page, else what it returned; None as long as it is not done.

    Raises:
        IntegrityError: the table is damaged.
    """
    table = read_table(record.report_path(root).parent) if record.report else None
    return table or record.result


def read_table(directory: Path) -> dict[str, Any] | None:
    """The table that a step left in `directory`; None when it left none. Raises `IntegrityError` when it is damaged."""
    path = directory / "result.json"
    if not path.is_file():
        return None
    try:
        result = parse_json(check_file(path).read_text(encoding="utf-8"))
        if not {"columns", "rows"} & set(result):  # a file of a pipeline of the user's own, which may be anything
            return None
        # Checked before it is drawn, for it may be damaged.
        if all(len(row) == len(result["columns"]) for row in result["rows"]):
            return {key: result[key] for key in TABLE} | {"best": [[int(row), int(at)] for row, at in result.get("best", ())]}
        raise ValueError("a row has not as many cells as there are columns")
    except (OSError, ValueError, KeyError, TypeError) as error:
        step = directory.name.rpartition("-")[0]
        raise IntegrityError(f"{path} cannot be read ({error}); make it again with `--force {step}`") from error


def print_result(result: Mapping[str, Any]) -> None:
    """The result table with its headline and notes; of another result one line for each thing that it says."""
    if not set(TABLE) <= set(result):
        for name, value in result.items():
            print(f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
        return
    best = {tuple(cell) for cell in result.get("best", ())}  # a grid's table has none, nor has one of an older zoocast
    print_table([_headed(column) for column in result["columns"]], result["rows"], result["headline"], bold=best)
    for note in result["notes"]:
        print_sentence(f"  {note}")


def _headed(column: str) -> str:
    """A metric with the arrow that stands behind it on the report's page as well; any other column as it is."""
    if "/" not in column:  # no metric, so no numpy
        return column
    from zoocast.metrics import METRICS

    metric = METRICS.get(column.rpartition(" ")[2])
    return f"{column} {metric.arrow}" if metric else column


# ------------------------------------------------------------------------------------------------------------ the end of a run


def run_data(record: RunRecord, root: Path) -> dict[str, Any]:
    """The end of a run as JSON."""
    return {**record_data(record), "result": read_result(record, root)}


def print_grid(ends: Mapping[str, RunRecord], table: Mapping[str, Any] | None) -> None:
    """The end of a grid: one line for each run, with the way to go on where it is not done, and the table over all."""
    for label, record in ends.items():
        print(f"{record.run}  {label}  {record.state()}")
        if record.exit_code == 130:  # it ended the whole grid, and what goes on with one run leaves the others out
            print("stopped; finished steps and checkpoints are kept, and the same command goes on", file=sys.stderr)
        elif record.exit_code:
            print(f"error: {record.message}\nresume  {record.resume}", file=sys.stderr)
    if table:
        print()
        print_result(table)


def print_end(data: Mapping[str, Any]) -> None:
    """The last lines of a run: errors on stderr; the table, where things are, and how to go on, on stdout.

    Args:
        data: as `run_data` gives it.
    """
    for step in data["steps"]:
        if step["state"] == "failed":
            print(f"error: {step['name']}: {step['message']}", file=sys.stderr)
    if data["exit_code"] == 130:
        print("stopped; finished steps and checkpoints are kept", file=sys.stderr)
    if data["result"]:
        print_result(data["result"])
        print()
    else:
        print(f"{_steps_done(data['steps'])} steps of {data['run']} are done", flush=True)
    if data["report"]:
        print(f"report  {data['report']}", flush=True)
    print(f"runs    {data['ui']}", flush=True)
    if data["exit_code"]:
        print(f"resume  {data['resume']}", flush=True)
