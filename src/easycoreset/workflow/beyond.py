"""Evaluations of a cell beyond the ball: on corrupted images, and of certified radii."""

from collections.abc import Mapping
from typing import Any

from easycoreset.corruptions.stored import is_stored
from easycoreset.errors import require
from easycoreset.evaluation.certificates import load_smoothing, plan_certificates
from easycoreset.evaluation.corrupted import plan_corruptions
from easycoreset.models import user_factory
from easycoreset.plan_folders import CHECKPOINT, SPLIT
from easycoreset.workflow.inputs import Data
from easycoreset.workflow.steps import Step

ALL_PASSES = {"all": 50, "stored": 75, "one": 5}  # corruptions at their severities


def plan_beyond(
    values: Mapping[str, Any], trained: Step, data: Data, model: str, main_eps: float, facts: str
) -> tuple[Step, ...]:
    """The evaluations that `corruptions` and `certify` ask for, one for each number of images.

    Raises:
        UsageError: an unknown corruption, a wrong certificate, or images that do not fit.
    """
    steps: list[Step] = []
    for option in ("corruptions", "certify"):
        by_images: dict[int | None, list[str]] = {}
        for spec, images in (split_images(option, text) for text in values[option]):
            by_images.setdefault(images or values["limit"], []).append(spec)
        for images, specs in by_images.items():
            steps.append(_evaluation(option, tuple(specs), images, values, trained, data, model, main_eps, facts))
    return tuple(steps)


def _evaluation(
    option: str,
    specs: tuple[str, ...],
    images: int | None,
    values: Mapping[str, Any],
    trained: Step,
    data: Data,
    model: str,
    main_eps: float,
    facts: str,
) -> Step:
    if option == "certify":
        plan_certificates(specs, 0)
        specs = tuple(load_smoothing(spec, 0)[0] for spec in specs)
    else:
        split = data.source.splits["test" if values.get(SPLIT, "test") == "test" else "train"]
        plan_corruptions(specs, split, data.source.shape, 0)
    what = "corrupted images" if option == "corruptions" else "certified radii"
    cheap = {"attack": ("fgsm",), "attack_precision": "fp32", "norm": values["norm"], "eps": (main_eps,)}  # not read
    return Step(
        kind="evaluate",
        options={
            **data.reading,
            **cheap,
            "model": user_factory(model),
            "limit": images,
            **{name.partition(".")[2]: values[name] for name in (SPLIT, CHECKPOINT) if name in values},
            "checks": "quick",
            option: specs,
        },
        inputs={"data": data.external, "weights": trained},
        title=f"{what} for {facts}",
    )


def passes_beyond(options: Mapping[str, Any]) -> int:
    """Forward passes per image of an evaluation's corruptions and certificates, at most."""
    smoothings = [load_smoothing(spec, 0)[1] for spec in options.get("certify", ())]
    corruptions = options.get("corruptions", ())
    kinds = ["stored" if is_stored(s) else "all" if s == "all" else "one" for s in corruptions]
    return sum(s.n0 + s.n for s in smoothings) + sum(ALL_PASSES[kind] for kind in kinds)


def split_images(option: str, spec: str) -> tuple[str, int | None]:
    """Split `NAME[@IMAGES]` into the name and the number of images.

    >>> split_images("strong", "apgd@500"), split_images("corruptions", "all")
    (('apgd', 500), ('all', None))

    Raises:
        UsageError: IMAGES is not a whole number of at least 1.
    """
    name, separator, images = spec.rpartition("@")
    if not separator:
        return spec, None
    require(images.isdecimal() and int(images) >= 1, option, "NAME or NAME@IMAGES with IMAGES >= 1", spec)
    return name, int(images)
