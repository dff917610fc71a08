"""Steps: one unit of work each, which writes one folder; a step is data, named by what determines its result."""

import dataclasses
import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from easycoreset.attacks import ATTACKS
from easycoreset.dynamic import DYNAMIC_METHODS, load_dynamic_method
from easycoreset.hardness import CHEAP, HARDNESS
from easycoreset.members import Table, find_member, split_spec
from easycoreset.objectives import OBJECTIVES
from easycoreset.options import (
    AuditOptions,
    CarryOptions,
    ChooseOptions,
    EvaluateOptions,
    MeasureOptions,
    ScoreOptions,
    TrainOptions,
)
from easycoreset.options.evaluating import BEST_FOLDER
from easycoreset.plan_folders import STEP_RECORD, step_folder
from easycoreset.python_objects import kept_objects
from easycoreset.selection import SELECTORS
from easycoreset.user_modules import code_digest, is_user_spec

MEMBERS: dict[str, Table] = {  # options that name members
    "method": SELECTORS,
    "dynamic": DYNAMIC_METHODS,
    "objective": OBJECTIVES,
    "attack": ATTACKS,
    "hardness": HARDNESS,
}


class External(NamedTuple):
    """An input from outside of the plan: a data set, or a file.

    Attributes:
        value: what the option is given.
        key: what identifies its content.
    """

    value: str
    key: str


@dataclass(frozen=True)
class Kind:
    """What a step of one kind calls, and what it needs of the steps that are its inputs.

    Attributes:
        call: `module:function` of the command.
        options: the command's options.
        record: the file name of the command's record.
        takes: option -> (path within the input's folder that it is given, path that must exist there).
        output: path of the output that other steps take; it may be missing, because weights were discarded or only a
            part of the folder was copied.
        weights: paths that `--discard-weights` deletes.
        counted: options that count in the key although they are neutral in a single command.
        of_machine: options that do not change results, which a plan passes on.
        value_before_option: option that was added later -> the value that all earlier steps had; it does not count in
            the key.
        version: raised when the result of the same options changes.
    """

    call: str
    options: Any
    record: str = "run.json"
    takes: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    output: str = ""
    weights: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    of_machine: tuple[str, ...] = ()
    value_before_option: Mapping[str, Any] = field(default_factory=dict[str, Any])
    version: int = 1


KINDS = {
    "score": Kind(
        "easycoreset.scoring:score",
        ScoreOptions,
        output="checkpoints",
        weights=("checkpoints",),
        of_machine=("scoring_batch_size",),
    ),
    "measure": Kind("easycoreset.scoring:measure", MeasureOptions, takes={"scores": ("", "checkpoints")}),
    "select": Kind(
        "easycoreset.workflow.choosing:choose_coreset",
        ChooseOptions,
        takes={"scores": ("", "scores.parquet"), "measured": ("", "run.json")},
        output="coreset.parquet",
    ),
    "carry": Kind("easycoreset.scoring.carrying:carry_scores", CarryOptions, output="scores.parquet"),
    "train": Kind(
        "easycoreset.training:train",
        TrainOptions,
        takes={"coreset": ("coreset.parquet", "coreset.parquet")},
        output="model.safetensors",
        weights=("model.safetensors", BEST_FOLDER),
    ),
    "evaluate": Kind(
        "easycoreset.evaluation:evaluate",
        EvaluateOptions,
        record="evaluation.json",
        takes={"weights": ("", "model.safetensors"), "surrogate": ("", "model.safetensors")},
        counted=("margins", "corruptions", "certify"),
        of_machine=("batch_size",),
        value_before_option={"attack_precision": "fp32"},
    ),
    "audit": Kind("easycoreset.auditing:audit", AuditOptions, takes={"scores": ("", "scores.parquet")}, version=4),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One call of a command, as data. Two steps of the same key are the same step.

    Attributes:
        kind: the name of the step's kind.
        options: the command's options; those that are left out, or neutral, do not count in the key.
        inputs: option -> the step, the data set or the file that it takes.
        title: a description for messages.
    """

    kind: str
    options: Mapping[str, Any]
    inputs: Mapping[str, "Step | External"]
    title: str

    @cached_property
    def key(self) -> str:
        """16 hex digits: the hash of the options off their defaults, of the inputs' keys, versions and users' code."""
        kind = KINDS[self.kind]
        defaults = result_defaults(kind.options) | dict.fromkeys(kind.counted, ())
        given = {name: value for name, value in self.options.items() if name in defaults}
        uncounted = {name: (default, kind.value_before_option.get(name, default)) for name, default in defaults.items()}
        options = {name: value for name, value in given.items() if value not in uncounted[name]}
        specs = [(name, spec) for name in MEMBERS for spec in _as_tuple(self.options.get(name) or ())]
        if self.kind == "train":
            specs = [part for name, spec in specs for part in ([(name, spec)] if name != "method" else _dynamic(spec))]
        if self.kind == "score" and CHEAP in (self.options.get("hardness") or (CHEAP,)):
            specs += [("hardness", name) for name in HARDNESS]
        own = [spec for _, spec in specs] + [m for m in [self.options.get("model")] if m is not None]
        inputs = {name: value.key for name, value in self.inputs.items()}
        identity = [self.kind, kind.version, options, inputs, _versions(tuple(specs)), _code(tuple(own))]
        return hash_json(identity)

    @property
    def name(self) -> str:
        """The name of its folder and of its lock."""
        return f"{self.kind}-{self.key}"

    def folder(self, out: Path) -> Path:
        """Its folder in a plan's folder."""
        return step_folder(out, self.kind, self.key)

    @property
    def steps(self) -> dict[str, "Step"]:
        """The inputs that are steps, by option."""
        return {name: value for name, value in self.inputs.items() if isinstance(value, Step)}

    def arguments(self, out: Path) -> dict[str, Any]:
        """The options of the command, with the inputs."""
        takes = KINDS[self.kind].takes
        paths = {name: step.folder(out) / takes[name][0] for name, step in self.steps.items()}
        values = {name: value.value for name, value in self.inputs.items() if isinstance(value, External)}
        return {**self.options, **paths, **values}

    def __getstate__(self) -> dict[str, Any]:
        return {**{item.name: getattr(self, item.name) for item in dataclasses.fields(self)}, "key": self.key}


def spell_command(step: Step, **places: Any) -> str:
    """The command line that does what a step does.

    Args:
        step: a step of a kind that is a command.
        places: the values of `out` and of the inputs that are steps.
    """
    defaults = result_defaults(KINDS[step.kind].options)
    outside = {name: value.value for name, value in step.inputs.items() if isinstance(value, External)}
    given = {name: value for name, value in step.options.items() if value not in (None, defaults.get(name))}
    words = ["easycoreset", step.kind]
    for name, value in {**outside, **given, **places}.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, ",".join(map(str, _parts(value)))]
    return shlex.join(words)


def objects_of(steps: Sequence[Step]) -> dict[str, Any]:
    """The objects in memory that steps name in their options and inputs, by their spellings."""
    kept = kept_objects()
    named: set[str] = set()
    for step in steps if kept else ():
        inputs = [value.value for value in step.inputs.values() if isinstance(value, External)]
        values = [part for value in (*step.options.values(), *inputs) for part in _parts(value)]
        named |= {":".join(str(part).split(":")[:2]) for part in values}
    return {name: value for name, value in kept.items() if name in named}


def hash_json(value: Any) -> str:
    """16 hex digits of the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def check_options(step: Step) -> None:
    """Check the options of a step as its command would.

    Raises:
        UsageError: they do not fit together.
    """
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in step.options.items()}
    values.pop("seed", None)  # checked once for all seeds
    _check_options(step.kind, tuple(sorted(values.items())), tuple(name for name in step.inputs if name != "data"))


@cache
def _check_options(kind: str, values: tuple[tuple[str, Any], ...], inputs: tuple[str, ...]) -> None:
    nowhere = Path(os.devnull) / "step"
    KINDS[kind].options(**dict(values), **dict.fromkeys(inputs, nowhere), data="digits", out=nowhere / "out")


def is_done(step: Step, out: Path) -> bool:
    """Whether a step has finished: its record of the plan is written last."""
    return (step.folder(out) / STEP_RECORD).exists()


def lacking_inputs(step: Step, out: Path) -> list[Step]:
    """The inputs of a step that are not there: not computed yet, or discarded."""
    takes = KINDS[step.kind].takes
    return [
        other
        for name, other in step.steps.items()
        if not (other.folder(out) / takes[name][1]).exists() or not is_done(other, out)
    ]


def with_inputs(targets: Sequence[Step]) -> list[Step]:
    """The steps and all their inputs, each once and after its inputs."""
    ordered: dict[str, Step] = {}

    def visit(step: Step) -> Iterator[Step]:
        for other in step.steps.values():
            yield from visit(other)
        yield step

    for target in targets:
        if target.key not in ordered:
            for step in visit(target):
                ordered.setdefault(step.key, step)
    return list(ordered.values())


def missing_steps(targets: Sequence[Step], out: Path) -> list[Step]:
    """The steps that must run so that the targets are done: also inputs whose weights were discarded."""
    needed: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.key not in needed:
            needed[step.key] = step
            for other in lacking_inputs(step, out):
                visit(other)

    for step in targets:
        if not is_done(step, out):
            visit(step)
    return [step for step in with_inputs(targets) if step.key in needed]


@cache
def result_defaults(options: Any) -> dict[str, Any]:
    """The defaults of the options that determine a result; None for those without a default."""
    fields = (item for item in dataclasses.fields(options) if not item.metadata.get("neutral"))
    return {item.name: None if item.default is dataclasses.MISSING else item.default for item in fields}


@cache
def _versions(specs: tuple[tuple[str, str], ...]) -> dict[str, int]:
    """The versions above 1 of members, by spelling."""
    found = {
        spec: getattr(find_member(kind, split_spec(spec)[0], MEMBERS[kind]), "version", 1)
        for kind, spec in specs
        if not spec.startswith("file:") and spec != CHEAP
    }
    return {spec: version for spec, version in found.items() if version > 1}


def forget_code() -> None:
    """Forget the code of users' modules, which may have changed since the last plan of this process."""
    _code.cache_clear()
    _versions.cache_clear()


@cache
def _code(specs: tuple[str, ...]) -> str:
    return code_digest(spec for spec in specs if is_user_spec(spec))


def _dynamic(spec: str) -> list[tuple[str, str]]:
    """The dynamic method that training names, and the static one that it uses."""
    static: str | None = getattr(load_dynamic_method(spec)[1], "method", None)
    return [("dynamic", spec), *([] if static is None else [("method", static.replace("/", ":"))])]


def _parts(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _as_tuple(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
