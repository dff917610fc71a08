"""What a worker does: run one step, unless another process holds it; a failure is returned as a message."""

import contextlib
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from easycoreset.console import log
from easycoreset.devices import describe_gpu_error, is_device_loss
from easycoreset.errors import OtherRunError, UsageError
from easycoreset.file_lists import STATE_MARK, FileList, is_content
from easycoreset.files import make_folder, process_name, write_json
from easycoreset.locks import open_lock
from easycoreset.members import load_attribute
from easycoreset.options import Device
from easycoreset.paths import is_plain_file, is_within
from easycoreset.plan_folders import STEP_RECORD
from easycoreset.records import read_record
from easycoreset.reporting import FILE_LIST_NAME as PAGE_RECORD
from easycoreset.run_folders import PLAN_RECORD, discard_step
from easycoreset.workflow.steps import KINDS, Step, is_done, with_inputs


@dataclass(frozen=True)
class Machine:
    """Where and how steps are run; it does not change their results.

    Attributes:
        out: the plan's folder.
        device: device of the models.
        num_workers: processes that decode images if the folder is too large for memory.
        threads: CPU threads of a step; None for the command's own default.
    """

    out: Path
    device: Device = "auto"
    num_workers: int = 2
    threads: int | None = 1


class Report(NamedTuple):
    """How a step ended: done, busy (another process holds it) or failed; `lost_device` if its GPU failed."""

    status: str
    reason: str = ""
    lost_device: bool = False


def run_step(step: Step, machine: Machine) -> Report:
    """Run one step, unless another process holds it; what fails is returned as a message."""
    with lock_step(step, machine.out) as acquired:
        if not acquired:
            return Report("busy")
        try:
            _call(step, machine)
        except (Exception, SystemExit) as error:  # a user's own selector or model may raise anything
            said = describe_gpu_error(error) if isinstance(error, Exception) else ""
            reason = said or f"{type(error).__name__}: {error}".replace("\n", " ")
            return Report("failed", reason, lost_device=isinstance(error, Exception) and is_device_loss(error))
    return Report("done")


@contextlib.contextmanager
def lock_step(step: Step, out: Path) -> Iterator[bool]:
    """Lock a step against other processes; yields False if another process holds it."""
    with FileList(out, PLAN_RECORD).active() as file_list:
        file = out / "locks" / step.name
        file_list.require_no_links(file)
        make_folder(file.parent)
        lock = open_lock(file)
        try:
            if lock.created:
                file_list.add(file, STATE_MARK)
            if lock.is_exclusive and not is_complete(step, out):
                os.lseek(lock.descriptor, 0, os.SEEK_END)
                os.write(lock.descriptor, f"{process_name()}\n".encode())  # a line for each start, naming the process
            yield lock.is_exclusive
        finally:
            os.close(lock.descriptor)


def is_complete(step: Step, out: Path) -> bool:
    """Whether a step is done and nothing that other steps take was discarded."""
    return is_done(step, out) and (step.folder(out) / KINDS[step.kind].output).exists()


def _call(step: Step, machine: Machine) -> None:
    """Call the step's command; weights that were discarded, and what an older version left, are computed again."""
    if is_complete(step, machine.out):
        return
    kind = KINDS[step.kind]
    folder = step.folder(machine.out)
    command: Any = load_attribute("step", kind.call)
    arguments = step.arguments(machine.out) | {
        "device": machine.device,
        "num_workers": machine.num_workers,
        "threads": machine.threads,
        "out": folder,
    }
    started = time.monotonic()
    try:
        command(**arguments, overwrite=is_done(step, machine.out))
    except OtherRunError as error:
        log.info("%s; it is computed again", error)
        discard_step(folder, kind.record, PAGE_RECORD)
        command(**arguments)
    with FileList(folder, kind.record).active() as file_list:
        seconds = round(time.monotonic() - started, 2)
        write_json(folder / STEP_RECORD, describe_step(step, file_list, seconds))


def describe_step(step: Step, file_list: FileList, seconds: float) -> dict[str, Any]:
    """What the plan keeps of a finished step: what it is, what it took, and the sizes of the files that it wrote."""
    paths = {name: file_list.folder / name for name, marks in file_list.entries().items() if is_content(marks)}
    return {
        "kind": step.kind,
        "title": step.title,
        "inputs": {name: value.key for name, value in step.inputs.items()},
        "seconds": seconds,
        "host": platform.node(),
        "files": {n: p.stat().st_size for n, p in paths.items() if n != STEP_RECORD and is_plain_file(p)},
    }


def find_damage(step: Step, out: Path) -> str:
    """What is wrong with the files of a finished step; empty if nothing is, or if weights were discarded."""
    folder = step.folder(out)
    try:
        files = read_record(folder / STEP_RECORD)["files"]
    except UsageError as error:
        return str(error)
    for name, size in files.items():
        if not is_within(name):
            return f"{STEP_RECORD} names a file elsewhere"
        kind = KINDS[step.kind]
        discardable = name.startswith(tuple(path for path in (kind.output, *kind.weights) if path))
        if not (folder / name).exists() and not discardable:
            return f"{name} is missing"
        if (folder / name).exists() and (folder / name).stat().st_size != size:
            return f"{name} was changed since"
    return ""


def delete_damaged(targets: Sequence[Step], out: Path) -> None:
    """Delete finished steps whose files were damaged, so that they are computed again."""
    for step in with_inputs(targets):
        if is_done(step, out) and (damage := find_damage(step, out)):
            log.warning("%s is corrupt and is computed again: %s: %s", step.title, step.folder(out), damage)
            discard_step(step.folder(out), KINDS[step.kind].record, PAGE_RECORD)
