"""The keys of all steps of all pipelines at preset smoke, and every kind of step with its version, as they were last agreed on.

A key that changes makes everybody's finished work run again, so it must change on purpose. To agree on new ones, run this and
commit `keys.json`:

    python -m tests.pipelines.test_keys
"""

import importlib
import json
import pkgutil
from pathlib import Path

import zoocast
from zoocast.cli.catalogue import configure, load, summaries

GOLDEN = Path(__file__).with_name("keys.json")
COMMAND = "python -m tests.pipelines.test_keys"


def keys() -> dict[str, dict[str, str]]:
    """Every step of every pipeline at preset smoke: name -> kind, version and key."""
    return {
        name: {step.name: f"{step.kind.name} {step.kind.version} {step.key}" for step in configure(load(name), "smoke").steps}
        for name in summaries()
    }


def kinds() -> dict[str, int]:
    """Every kind of step that the library knows, with its version."""
    found = {}
    for module in pkgutil.walk_packages(zoocast.__path__, "zoocast."):
        for value in vars(importlib.import_module(module.name)).values():
            if (kind := getattr(value, "step_kind", None)) is not None and hasattr(kind, "version"):
                found[kind.name] = kind.version
    return dict(sorted(found.items()))


def now() -> dict[str, object]:
    return {"kinds": kinds(), "pipelines": keys()}


def test_kinds_of_steps_and_their_versions_are_those_that_were_agreed_on():
    agreed = json.loads(GOLDEN.read_text())["kinds"]
    assert kinds() == agreed, (
        "A kind of step is new, has gone, or has another version. A kind that is renamed, or a raised version, makes every result"
        f" of that kind run again. Undo it, or if that is meant, say so in the CHANGELOG and run `{COMMAND}`."
    )


def test_keys_of_steps_are_those_that_were_agreed_on():
    agreed, found = json.loads(GOLDEN.read_text())["pipelines"], keys()
    changed = [
        f"{pipeline}: {step}: {agreed.get(pipeline, {}).get(step, 'not there')} -> {found.get(pipeline, {}).get(step, 'gone')}"
        for pipeline in {**found, **agreed}
        for step in {**found.get(pipeline, {}), **agreed.get(pipeline, {})}
        if agreed.get(pipeline, {}).get(step) != found.get(pipeline, {}).get(step)
    ]
    assert not changed, (
        "\n".join(["Steps have other keys than were agreed on, so that finished work would run again:", *changed])
        + "\nThe first of a pipeline is the cause, and what hangs on it follows."
        "\nIf the results are the same as before, undo what changed the key: a field that earlier configs do not have, or one"
        "\nthat only says where or how work runs and should be declared with setting(..., identity=False)."
        "\nIf the same config now gives other results, the key must change: raise the version of the step's kind,"
        f'\n@step_kind("...", version=N). Then, or if a new setting or step is meant, run `{COMMAND}` and commit {GOLDEN.name}.'
    )


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(now(), indent=1) + "\n")
