"""The experiment that the options of `compare` describe: a named recipe, or a grid of option values."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from easycoreset.attacks import load_attack
from easycoreset.console import log
from easycoreset.data import Source, open_source
from easycoreset.data.unscored import unscored_table
from easycoreset.errors import UsageError, quote
from easycoreset.experiment import Cell, Experiment, Product
from easycoreset.experiment.declared_contrasts import resolve_contrasts
from easycoreset.members import load_attribute
from easycoreset.models import build_model, choose_model
from easycoreset.models.card import ModelCard, card_for
from easycoreset.objectives import load_objective
from easycoreset.options import CompareOptions, ReadingOptions, field_names, values_of
from easycoreset.options.comparing import FULL
from easycoreset.paths import sha256_of_file
from easycoreset.recipes import RECIPES, full_control
from easycoreset.scoring.needs import check_needs
from easycoreset.selection import load_selector
from easycoreset.selection.published import read_published
from easycoreset.training.initial_weights import PRETRAINED, model_name_in, read_initial_weights
from easycoreset.training.setup import choose_device

# options of `compare` that every cell takes as they are
SHARED = set(field_names(Cell)) & set(field_names(CompareOptions)) - {"epochs", "updates", "main_eps"}


def build_experiment(options: CompareOptions) -> Experiment:
    """The experiment that the options of `compare` describe.

    Raises:
        UsageError: an unknown method, objective or attack, or a contrast that cannot be declared, before anything runs.
    """
    if options.recipe is None:
        experiment = _describe_grid(options)
    else:
        experiment = load_attribute("recipe", RECIPES[options.recipe])(options.data or "digits")
        if options.primary and experiment.primary:
            raise UsageError(
                f"primary: the recipe names one, {quote(experiment.primary)}; got {quote(options.primary)}"
            )
        fingerprint = check_data_and_model(experiment.products[0].base)[0]
        experiment = dataclasses.replace(experiment, fingerprint=fingerprint)
    declares = (*experiment.declares, *options.declare)
    primary = options.primary or experiment.primary
    experiment = dataclasses.replace(experiment, declares=declares, primary=primary)
    resolve_contrasts(experiment)
    return experiment


def _describe_grid(options: CompareOptions) -> Experiment:
    """The experiment that the options of a grid describe."""
    assert options.data is not None
    # with a limit, one radius must be the main one, which is evaluated on all test images
    needs_main_eps = options.main_eps is None and len(options.eps) > 1 and options.limit
    values = {name: getattr(options, name) for name in SHARED}
    base = Cell(**values, main_eps=options.eps[0] if needs_main_eps else options.main_eps)
    base = _resolve(base, options)
    fingerprint, model, images = check_data_and_model(base)
    for spec in base.attacks:
        load_attack(spec, norm=options.norm, eps=options.eps[0])
    has_frontier = len(options.epochs or options.updates) > 1
    if options.contrast == "matched clean" and not has_frontier:
        raise UsageError("contrast 'matched clean' needs several budgets (updates or epochs) for random's frontier")
    default_contrast = "matched clean" if has_frontier else "equal updates"
    contrast = default_contrast if options.contrast == "auto" else options.contrast
    shared = Product(
        base=base,
        methods=(),
        fractions=tuple(options.fractions),
        seeds=options.seeds,
        contrast=contrast,
        objectives=tuple(load_objective(spec)[0] for spec in options.objectives),
        updates=tuple(options.updates),
        epochs=tuple(options.epochs),
    )
    published = [method for method in options.methods if method.startswith("file:")]
    controls = [load_selector(method)[0] for method in options.controls if method != FULL]
    methods = [
        _check_method(method, model, images, base.feature_layer)
        for method in options.methods
        if method not in (FULL, *published)
    ]
    products = [dataclasses.replace(shared, methods=tuple(dict.fromkeys([*methods, *controls])))] if methods else []
    for method in published:
        product = _published_product(method, shared)
        # the controls have the same fraction, but do not depend on the file
        products += [
            product,
            dataclasses.replace(product, base=base, methods=tuple(dict.fromkeys(["random", *controls]))),
        ]
    if FULL in (*options.methods, *options.controls):
        products.append(full_control(shared))
    return Experiment(name="grid", products=tuple(products), fingerprint=fingerprint)


def _resolve(base: Cell, options: CompareOptions) -> Cell:
    """The shared options of the cells, with the model and the digest of the initial weights filled in.

    Both are part of a cell's name. The default model depends on the data and the machine.
    """
    source = _open(base, download=options.download)
    if base.model is None:
        model = model_name_in(base.init) or choose_model(source.shape, choose_device(options.device))
        log.info("model %s is used (--model)", model)
        base = dataclasses.replace(base, model=model)
    if base.init in (None, PRETRAINED):
        return base
    digest = read_initial_weights(base.init, _card(base, source)).digest
    return dataclasses.replace(base, init=str(Path(base.init).absolute()), init_digest=digest)


def _check_method(method: str, model: nn.Module, images: Tensor, feature_layer: str | None) -> str:
    """Check that the scoring runs make the columns and features that a method needs; returns its canonical name."""
    name, selector = load_selector(method)
    check_needs(method, selector, model, images, feature_layer)
    return name


def check_data_and_model(base: Cell) -> tuple[str, nn.Module, Tensor]:
    """Open the data set of cells and build the model once, to find errors before anything runs.

    Returns:
        The fingerprint of the training split, the model, and two images.
    """
    source = _open(base)
    model = build_model(_card(base, source))
    split = source.splits["train"]
    return split.fingerprint, model, next(split.batches(np.arange(2), 2)).x


def _card(base: Cell, source: Source) -> ModelCard:
    name = base.model or choose_model(source.shape, torch.device("cpu"))
    return card_for(name, source)


def _open(base: Cell, *, download: bool = False) -> Source:
    return open_source(base.data, download=download, **values_of(base, ReadingOptions))


def _published_product(method: str, shared: Product) -> Product:
    """The product of a published coreset, whose file determines the fraction."""
    path = Path(method[5:]).resolve()
    table = unscored_table(_open(shared.base))
    fraction = len(read_published(path, table)) / len(table)
    digest = sha256_of_file(path)[:16]
    base = dataclasses.replace(shared.base, method_digest=digest)
    return dataclasses.replace(shared, base=base, methods=(f"file:{path}",), fractions=(fraction,))
