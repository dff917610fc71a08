"""A case: a file of some kind is spoilt, and the command that reads it runs on it in a process of its own."""

import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzz import mutate
from fuzz.materials import KINDS, Kind

MEMORY = 3 * 2**30  # bytes of address space that a case may take beyond what the process had before
WRONG = ("signal", "raw exception", "hang", "memory", "executed", "network", "several lines", "unusable")


@dataclass(frozen=True)
class Outcome:
    """How a case ended, and what was said."""

    end: str
    said: str = ""


def make_materials(folder: Path) -> None:
    """Let another process make one file of every kind, by the commands themselves: this one only ever forks."""
    code = "import sys; from pathlib import Path; from fuzz.materials import make; make(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True, timeout=600)


def run_case(kind: Kind, materials: Path, seed: int, seconds: int = 20) -> Outcome:
    """Spoil a copy of a file, and give it to its command in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        work = Path(name)
        for part in kind.needs:
            source = materials / part
            (work / part).parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, work / part, symlinks=True, copy_function=_link)
            else:
                shutil.copy(source, work / part)
        (work / kind.file).unlink()
        shutil.copy(materials / kind.file, work / kind.file)

        def spoil_and_read() -> int:
            from easycoreset.cli import main

            mutate.spoil(work / kind.file, random.Random(seed))
            return main(list(kind.command))

        return run_in_child(spoil_and_read, work, work / "said.txt", seconds)


def run_in_child(act: Callable[[], int], work: Path, said: Path, seconds: int) -> Outcome:
    """Do something in a process of its own, in the folder `work`, that may take so many seconds and writes to `said`."""
    child = os.fork()
    if not child:
        _in_child(act, work, said, seconds)
    return _wait(child, said)


def _link(source: str, place: str) -> None:
    """The same file, but for lists and locks, which are written in their place; all else is replaced as a whole."""
    (shutil.copy if Path(source).name.startswith(".") else os.link)(source, place)


def _in_child(act: Callable[[], int], work: Path, said: Path, seconds: int) -> None:
    """Act, and end; the exit code tells what happened."""
    code = 70
    try:
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0), os.dup2(null, 1), os.dup2(out, 2)
        os.chdir(work)
        signal.alarm(seconds)
        status = Path("/proc/self/status").read_text().splitlines()
        now = next(int(line.split()[1]) for line in status if line.startswith("VmSize:")) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        watched: list[str] = []
        sys.addaudithook(lambda event, given: watched.append(f"{event} {given}") if event in WATCHED else None)
        code = act()
        if watched:
            os.write(2, f"{watched}\n".encode())
            code = 71 if any(event.startswith("socket.") for event in watched) else 72
    except MemoryError:
        code = 73
    except BaseException as error:
        os.write(2, f"raw {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


WATCHED = ("socket.connect", "socket.getaddrinfo", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
ENDS = {70: "raw exception", 71: "network", 72: "executed", 73: "memory", 74: "unusable"}


def _wait(child: int, said: Path) -> Outcome:
    _, status = os.waitpid(child, 0)
    text = said.read_text(errors="replace") if said.exists() else ""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Outcome("hang" if number == signal.SIGALRM else "signal", f"{signal.Signals(number).name} {text[-300:]}")
    code = os.WEXITSTATUS(status)
    if code in ENDS:
        return Outcome(ENDS[code], text[-600:])
    if "(a bug;" in text or "Traceback" in text:
        return Outcome("memory" if "MemoryError" in text else "raw exception", text[-600:])
    last = [line for line in text.splitlines() if line.startswith("easycoreset ")]
    if code and (len(last) != 1 or len(text) > 20_000):
        return Outcome("several lines", text[-600:])
    return Outcome("message" if code else "done", last[0] if last else "")


def run(
    cases: int, seed: int, kinds: tuple[str, ...] = (), shown: bool = False, seconds: int = 20
) -> dict[str, object]:
    """Do so many cases, over all kinds in turn.

    Returns:
        `counts`: how they ended; `by_kind`: those that ended wrong; `wrong`: an example of each.
    """
    counts = Counter[str]()
    by_kind = dict[str, Counter[str]]()
    wrong = list[dict[str, object]]()
    with tempfile.TemporaryDirectory(prefix="fuzz-materials-") as name:
        materials = Path(name)
        make_materials(materials)
        chosen = [kind for kind in KINDS if (materials / kind.file).exists() and (not kinds or kind.name in kinds)]
        warm_up()
        started = time.monotonic()
        for number in range(cases):
            kind = chosen[number % len(chosen)]
            outcome = run_case(kind, materials, case_seed(seed, number), seconds)
            counts[outcome.end] += 1
            if outcome.end in WRONG:
                own = by_kind.setdefault(kind.name, Counter())
                own[outcome.end] += 1
                if own[outcome.end] == 1:
                    wrong.append({"kind": kind.name, "case": number, "end": outcome.end, "said": outcome.said})
                if shown:
                    print(f"{kind.name} case {number}: {outcome.end}: {outcome.said[-400:]}", flush=True)
            if shown and number % 500 == 499:
                print(f"{number + 1} cases, {time.monotonic() - started:.0f} s: {dict(counts)}", flush=True)
    return {
        "cases": cases,
        "seed": seed,
        "kinds": len(chosen),
        "counts": dict(counts),
        "by_kind": {kind: dict(ends) for kind, ends in by_kind.items()},
        "wrong": wrong,
    }


def run_again(cases: list[tuple[str, int, int]]) -> list[Outcome]:
    """Do single cases, named by kind, seed and number; a kind of file that is no longer read ends well."""
    kinds = {kind.name: kind for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="fuzz-materials-") as name:
        make_materials(Path(name))
        warm_up()
        return [
            run_case(kinds[kind], Path(name), case_seed(seed, number)) if kind in kinds else Outcome("done", "")
            for kind, seed, number in cases
        ]


def case_seed(seed: int, number: int) -> int:
    """Of the mutation: another one for every case of every run."""
    return seed * 1_000_000 + number


def warm_up() -> None:
    """Import now what the cases would import each: this process computes nothing, so that it may fork."""
    import datasets  # noqa: F401
    import torch

    import easycoreset.cli
    import easycoreset.evaluation
    import easycoreset.exporting.folder
    import easycoreset.predicting
    import easycoreset.reporting
    import easycoreset.workflow.analyzing
    import easycoreset.workflow.comparing
    import easycoreset.workflow.running  # noqa: F401

    torch.set_num_threads(1)
    try:
        from easycoreset.versions import source_commit
    except ImportError:  # of version 0.1, whose counts are compared
        from easycoreset.files import source_commit
    source_commit()  # asks git, and the next uname, once
    platform.platform()
