"""The runner of every plan: runs the steps that are missing, in order of importance, and only once each."""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

from easycoreset.console import format_duration, is_output_shown, log
from easycoreset.errors import GridError, RunError, UsageError
from easycoreset.options import Device, RunnerOptions
from easycoreset.progress import progress
from easycoreset.workflow.estimate import measure_costs
from easycoreset.workflow.forecast import Forecast
from easycoreset.workflow.pools import InlinePool, Pool, check_objects, check_pool, count_workers, open_pool
from easycoreset.workflow.steps import Step, missing_steps, with_inputs
from easycoreset.workflow.worker import Machine, Report

MAX_DEATHS = 2  # a step fails when its worker has died so often while no other step ran
BUSY_SECONDS = 1.0  # wait before a step that another process holds is tried again


@dataclass
class RunState:
    """The steps of one start and their state.

    Attributes:
        deadline: when to stop, in seconds of the monotonic clock.
        waiting: steps that are not started, in order of importance.
        not_before: the earliest time at which a step that another process holds is tried again.
        deaths: for steps that ran when a worker died, how often that happened while no other step ran.
        failed: failed steps with the reason, by key.
        unfinished: keys of the steps that wait or run.
    """

    deadline: float = float("inf")
    waiting: list[Step] = field(default_factory=list[Step])
    not_before: dict[str, float] = field(default_factory=dict[str, float])
    deaths: dict[str, int] = field(default_factory=dict[str, int])
    failed: dict[str, tuple[Step, str]] = field(default_factory=dict[str, tuple[Step, str]])
    unfinished: set[str] = field(default_factory=set[str])

    def fail(self, step: Step, reason: str) -> None:
        """Count a step as failed."""
        self.failed[step.key] = (step, reason)
        self.unfinished.discard(step.key)


def run_steps(
    targets: Sequence[Step],
    options: RunnerOptions,
    machine: Machine,
    on_done: Callable[[Step], Any] = lambda step: None,
    workers: int = 2,
) -> None:
    """Run the steps that are not done, and what they need; several processes may do so in one folder.

    Args:
        targets: the steps, in order of importance.
        options: where the steps run, and for how long.
        machine: the folder and the device.
        on_done: called after each step; what it returns is shown above the progress bar.
        workers: the number of steps that run at once on a CPU unless `options` says; 0 for this process.

    Raises:
        GridError: some steps failed; the others are done.
    """
    out = machine.out
    steps = with_inputs(targets)
    missing = missing_steps(targets, out)
    if not missing:
        log.info("nothing is missing: all %d steps are done", len(steps))
        return
    minutes = float("inf") if options.minutes is None else options.minutes
    keys = {step.key for step in missing}
    state = RunState(time.monotonic() + 60 * minutes, missing, unfinished=keys)
    with contextlib.closing(open_pool(options, workers, machine, missing)) as pool:
        if isinstance(pool, InlinePool):  # the steps show their own progress
            pool.forecast = _forecast(missing, machine)
            about = format_duration(pool.forecast.seconds)
            in_all = f", about {about} in all on an idle machine" if pool.forecast.seconds else ""
            log.info("%d of %d steps are missing%s", len(missing), len(steps), in_all)
            _run(state, pool, on_done)
        else:
            with progress("steps", len(steps), len(steps) - len(missing)) as bar:
                _run(state, pool, lambda step: bar.advance(1, step.title, above=on_done(step)))
    if state.failed:
        raise GridError(_describe_failures(state, len(steps)))
    if state.waiting:
        message = "time is up: %d of %d steps are left; the same command resumes"
        log.warning(message, len(state.waiting), len(steps))


def _forecast(missing: Sequence[Step], machine: Machine) -> Forecast:
    """Forecast how long the steps will take, unless output is hidden."""
    if not is_output_shown():
        return Forecast({})
    try:
        costs = measure_costs(missing, machine.out, machine.device, machine.threads)
    except (UsageError, RunError) as error:  # the step itself will say so
        log.info("how long the steps take is not known: %s", error)
        return Forecast({})
    return Forecast({key: cost.seconds for key, cost in costs.items()})


def check_runner(options: RunnerOptions, device: Device, targets: Sequence[Step]) -> None:
    """Check where the steps run, before a folder is written: that a cluster answers, where one is named and needed.

    Raises:
        UsageError: Ray is not installed, no cluster answers, or workers share a GPU that is not there.
    """
    check_objects(options, with_inputs(targets))
    if options.on is None:
        count_workers(options, 1, device)
    if options.on is not None and missing_steps(targets, options.out):
        check_pool(options.on)


def _run(state: RunState, pool: Pool, advance: Callable[[Step], None]) -> None:
    """Submit steps until none is left or the time is up."""
    running = dict[Future[Any], Step]()
    while (state.waiting or running) and time.monotonic() < state.deadline:
        while (step := _next_step(state, list(running.values()), pool.size)) is not None:
            try:
                running[pool.submit(step)] = step
            except BrokenProcessPool:  # a worker died between two steps; running ones are handled below
                state.waiting.insert(0, step)
                if not running:
                    pool.restart_workers()
                break
        if not running:
            time.sleep(0.1)
            continue
        for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
            try:
                report = pool.result(future)
            except BrokenProcessPool:
                _count_death(state, list(running.values()))
                running.clear()
                pool.restart_workers()
                break
            _handle_report(state, running.pop(future), report, advance)
    state.waiting += running.values()


def _handle_report(state: RunState, step: Step, report: Report, advance: Callable[[Step], None]) -> None:
    if report.status == "done":
        state.unfinished.discard(step.key)
        advance(step)
    elif report.status == "failed":
        state.fail(step, report.reason)
    else:  # another process holds it
        state.waiting.insert(0, step)
        state.not_before[step.key] = time.monotonic() + BUSY_SECONDS


def _count_death(state: RunState, running: Sequence[Step]) -> None:
    """Queue the steps that ran when a worker died; each is then run alone, to find out which one kills its worker."""
    ran_alone = len(running) == 1
    for step in running:
        state.deaths[step.key] = state.deaths.get(step.key, 0) + ran_alone
        if state.deaths[step.key] >= MAX_DEATHS:
            state.fail(step, "its worker process died")
        else:
            state.waiting.insert(0, step)
            log.warning("a worker process died; retrying %s", step.title)


def _next_step(state: RunState, running: Sequence[Step], workers: int) -> Step | None:
    """Take the most important step that can run now; None if there is none, or if no worker is free.

    A step waits for its inputs, and one that another process holds for some time. A step whose worker may have died
    because of it runs alone.
    """
    if len(running) >= workers or any(step.key in state.deaths for step in running):
        return None
    now = time.monotonic()
    position = 0
    while position < len(state.waiting):
        step = state.waiting[position]
        keys = [other.key for other in step.steps.values()]
        if broken := next((key for key in keys if key in state.failed), None):
            state.fail(state.waiting.pop(position), f"its input failed: {state.failed[broken][0].title}")
        elif (
            any(key in state.unfinished for key in keys)
            or now < state.not_before.get(step.key, 0.0)
            or (step.key in state.deaths and running)
        ):
            position += 1
        else:
            return state.waiting.pop(position)
    return None


def _describe_failures(state: RunState, total: int) -> str:
    step, reason = next(iter(state.failed.values()))
    return f"{len(state.failed)} of {total} steps failed; the first: {step.title}: {reason}; run again to retry them"
