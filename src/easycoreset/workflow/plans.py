"""Plans of named steps, as `run` and `analyze` write them: run what is missing, then sum it up in one file."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from easycoreset.console import log
from easycoreset.errors import UsageError
from easycoreset.files import write_json
from easycoreset.members import load_attribute
from easycoreset.options import ComputeOptions, RunnerOptions
from easycoreset.plan_folders import STEPS_FOLDER
from easycoreset.run_folders import open_plan_folder
from easycoreset.versions import command_line, versions
from easycoreset.workflow.runner import check_runner, run_steps
from easycoreset.workflow.starts import add_start, completion_record, update_record
from easycoreset.workflow.steps import Step, is_done
from easycoreset.workflow.worker import Machine, delete_damaged

Steps = Mapping[str, Step]  # name -> step


class Summary(dict[str, Any]):
    """What a plan sums up to, as its file holds it; a notebook shows it in brief.

    Attributes:
        out: the folder of the plan, from which `report` writes its page.
    """

    def __init__(self, values: Mapping[str, Any], out: Path) -> None:
        super().__init__(values)
        self.out = out

    def __repr__(self) -> str:
        """Its names, in one line."""
        return f"summary in {self.out}: {', '.join(self)}"

    def _repr_html_(self) -> str:
        return load_attribute("result", "easycoreset.reporting.notebook:show_folder")(self.out)


def run_plan(
    command: str,
    steps: Steps,
    options: Any,
    summary_file: str,
    summarise: Callable[[Path], dict[str, Any]],
    on_done: Callable[[Step], Any] = lambda step: None,
    links: Mapping[str, tuple[str, str] | None] | None = None,
) -> Summary | None:
    """Run the steps of a plan that are missing, and write its summary.

    Args:
        command: the command that writes the plan.
        steps: its steps by name, in order of importance.
        options: the command's options: where the steps run, the folder and the machine.
        summary_file: name of the file of the summary.
        summarise: makes the summary from the plan's folder, once all steps are done.
        on_done: called after each step.
        links: path in the folder -> (name of a step, path within its folder), where people find the results; None to
            remove a link of another start.

    Returns:
        The summary; None if the time limit was reached first.

    Raises:
        GridError: some steps failed; the others are done.
    """
    assert isinstance(options, RunnerOptions)
    assert isinstance(options, ComputeOptions)
    out = options.out
    targets = list(steps.values())
    check_runner(options, options.device, targets)
    names = (STEPS_FOLDER, "locks", summary_file)
    with open_plan_folder(out, command, overwrite=options.overwrite, output_names=names) as folder:
        if folder.is_exclusive:
            delete_damaged(targets, out)
            folder.allow_others()
        for link in links or {}:
            _check_link(out, link)
        start = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command_line": command_line(),
            "versions": versions(),
            "name": command,
            "cells": len(targets),
            "done": sum(is_done(step, out) for step in targets),
            "seeds": [options.seed],
            "rows": [],
            "declared": [],
        }
        named = {name: step.name for name, step in steps.items()}
        update_record(out, lambda r: r | {"status": "running", "steps": named, "starts": add_start(r, start)})
        threads = options.threads if options.workers is None and options.on is None else 1
        machine = Machine(out, options.device, options.num_workers, threads)
        try:
            run_steps(targets, options, machine, on_done, workers=0)
        finally:
            for link, place in (links or {}).items():
                if place is None:
                    (out / link).unlink(missing_ok=True)
                elif is_done(steps[place[0]], out):
                    _link(out / link, steps[place[0]].folder(out) / place[1])
        if not all(is_done(step, out) for step in targets):
            return None
        summary = summarise(out)
        write_json(out / summary_file, summary)
        update_record(out, lambda record: record | completion_record(**summary))
        return Summary(summary, out)


def _check_link(out: Path, name: str) -> None:
    """Refuse a path that is taken by something else than our link to a step, or that leads through a link.

    Raises:
        UsageError: it is taken.
    """
    path = out / name
    for parent in [out / parent for parent in Path(name).parents if parent.name]:
        if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
            raise UsageError(f"out: {parent} is in the way: links to steps are written there; move it")
    steps = (out / STEPS_FOLDER).resolve()
    ours = path.is_symlink() and steps in Path(os.path.abspath(path.parent.resolve() / os.readlink(path))).parents
    if os.path.lexists(path) and not ours:
        raise UsageError(f"out: {path} is in the way: a link to a step is written there; move it")


def _link(path: Path, target: Path) -> None:
    """Let a link in the plan's folder point to a step; where links are not possible, there is none."""
    relative = os.path.relpath(target, path.parent)
    if path.is_symlink() and os.readlink(path) == relative:
        return
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.link")
    try:
        os.symlink(relative, temporary)
        os.replace(temporary, path)
    except OSError as error:
        log.info("%s: no link can be made here (%s); see %s", path, error.strerror, target)
