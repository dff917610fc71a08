"""Named experiments, whose settings were fixed before any method was run."""

import dataclasses

from easycoreset.experiment import Cell, Experiment, Product
from easycoreset.options.comparing import BALANCED, FULL

RECIPES = {
    "digits": "easycoreset.recipes:digits",
    "cifar10-quick": "easycoreset.recipes:cifar10_quick",
    "cifar100-quick": "easycoreset.recipes:cifar100_quick",
    "cifar10-objectives": "easycoreset.recipes:cifar10_objectives",
    "cifar10-trades": "easycoreset.recipes:cifar10_trades",
    "cifar10-main": "easycoreset.recipes:cifar10_main",
    "cifar100-main": "easycoreset.recipes:cifar100_main",
    "cifar10-paper": "easycoreset.recipes:cifar10_paper",
    "cifar100-paper": "easycoreset.recipes:cifar100_paper",
    "imagenet-paper": "easycoreset.recipes:imagenet_paper",
}
EASY = ("easycore", "easycore:per_class=true", "easiest:by=loss")
PAPER_METHODS = (
    "random",
    BALANCED,
    "easycore",
    "easycore:per_class=true",
    "easiest:by=loss",
    "hardest:by=el2n",
    "hardest:by=forgetting",
    "hardest:by=grand",
    "herding",
    "ccs",
    "moderate",
)
PIXEL_EPS = tuple(n / 255 for n in (1, 2, 4, 8))


def digits(data: str = "digits") -> Experiment:
    """The demo: bundled digits, standard training at 10 and 50%, TRADES at 30%, 3 seeds, PGD-10."""
    base = Cell(data=data, model="digits-cnn", attack=("pgd:steps=10",), eps=(0.05, 0.1, 0.2))
    methods = ("easycore", "easycore:per_class=true", "random", BALANCED, "hardest")
    standard = Product(
        base=base, methods=methods, fractions=(0.1, 0.5), updates=(200,), seeds=3, contrast="equal updates"
    )
    trades = Product(
        base=base,
        methods=("easycore", "random"),
        fractions=(0.3,),
        updates=(200,),
        seeds=3,
        objectives=("trades:eps=0.1:steps=5",),
        contrast="equal updates",
    )
    return Experiment(name="digits", products=(standard, full_control(standard), trades, full_control(trades)))


def full_control(product: Product) -> Product:
    """The control of a product: training on all data with the same budgets."""
    return dataclasses.replace(product, methods=(FULL,), fractions=(1.0,), contrast=None)


def cifar10_quick(data: str) -> Experiment:
    """CIFAR-10 on two CPU cores: thin ResNet, keep 50%, standard training at three budgets for random, and TRADES."""
    base = Cell(data=data, model="thin-resnet", schedule="onecycle", attack=("pgd",), eps=PIXEL_EPS, limit=2000)
    standard = with_main_eps(base, 2 / 255)
    robust = with_main_eps(base, 8 / 255)
    return Experiment(
        name="cifar10-quick",
        products=(
            Product(
                base=standard,
                methods=("random",),
                fractions=(0.5,),
                updates=(600, 1200, 2400),
                seeds=5,
                contrast="matched clean",
            ),
            Product(base=standard, methods=EASY, fractions=(0.5,), updates=(2400,), seeds=5, contrast="matched clean"),
            Product(
                base=robust,
                methods=("random", "easycore"),
                fractions=(0.5,),
                updates=(1000,),
                seeds=3,
                objectives=("trades:steps=5",),
                contrast="equal updates",
            ),
            Product(
                base=standard, methods=(FULL,), fractions=(1.0,), updates=(2400,), seeds=5, contrast="matched clean"
            ),
        ),
    )


def cifar100_quick(data: str) -> Experiment:
    """The standard part of `cifar10-quick` on CIFAR-100, with 3 seeds instead of 5."""
    quick = cifar10_quick(data)
    return Experiment(
        name="cifar100-quick", products=tuple(dataclasses.replace(product, seeds=3) for product in quick.products[:2])
    )


def cifar10_main(data: str) -> Experiment:
    """The main table on CIFAR-10: 50% kept, thin ResNet, ten seeds of standard training and five of TRADES, also APGD.

    PGD-20 is the attack of the table and of its contrasts, as in `cifar10-quick`. APGD attacks 500 images too, and
    AutoAttack 200 for the first seed. The primary contrast is EasyCore against random at the same clean accuracy.
    """
    standard = main_products(data, budgets=(600, 1200, 2400), seeds=10)
    robust = Product(
        base=with_main_eps(main_base(data), 8 / 255),
        methods=("random", "easycore", "easiest:by=loss"),
        fractions=(0.5,),
        updates=(1000,),
        seeds=5,
        objectives=("trades:steps=5",),
        first_seed=("autoattack@200",),
    )
    return Experiment(
        name="cifar10-main",
        products=(*standard, robust, full_control(robust)),
        primary=PRIMARY,
        declares=(*DECLARES, "easycore vs random for trades:steps=5", "easycore vs full for trades:steps=5"),
    )


def cifar100_main(data: str) -> Experiment:
    """The standard part of `cifar10-main` on CIFAR-100, five seeds, and random at 3,600 updates too.

    Training on the easy half costs no clean accuracy there: random at up to 2,400 updates does not reach it.
    """
    products = main_products(data, budgets=(600, 1200, 2400, 3600), seeds=5)
    return Experiment(name="cifar100-main", products=products, primary=PRIMARY, declares=DECLARES)


PRIMARY = "easycore vs random at matched clean for standard"
DECLARES = (
    "easiest:loss vs random at matched clean for standard",
    "easycore:per_class=true vs random at matched clean for standard",
    "easycore vs full at equal updates for standard",
    "easiest:loss vs easycore at matched clean for standard",
)


def main_base(data: str) -> Cell:
    """The settings that all cells of the main tables share."""
    return Cell(
        data=data,
        model="thin-resnet",
        schedule="onecycle",
        attack=("pgd",),
        eps=PIXEL_EPS,
        limit=2000,
        strong=("apgd@500",),
    )


def main_products(data: str, budgets: tuple[int, ...], seeds: int) -> tuple[Product, ...]:
    """Standard training on half the data: random at every budget, the methods and controls at 2,400 updates."""
    base = with_main_eps(main_base(data), 2 / 255)
    random = Product(
        base=base, methods=("random",), fractions=(0.5,), updates=budgets, seeds=seeds, first_seed=("autoattack@200",)
    )
    methods = dataclasses.replace(random, methods=(*EASY, BALANCED), updates=(2400,))
    return random, methods, full_control(methods)


def cifar10_objectives(data: str) -> Experiment:
    """Every objective on CIFAR-10, a short training of a thin ResNet, PGD-20 and AutoAttack on 200 images."""
    base = Cell(data=data, model="thin-resnet", attack=("pgd", "autoattack"), eps=(8 / 255,), limit=200)
    objectives = ("standard", "trades:steps=5", "pgd-at:steps=5", "mart:steps=5", "fgsm-rs")
    product = Product(base=base, methods=(FULL,), fractions=(1.0,), updates=(800,), seeds=1, objectives=objectives)
    return Experiment(name="cifar10-objectives", products=(product,))


def cifar10_trades(data: str) -> Experiment:
    """ResNet-18 trained by TRADES on all of CIFAR-10, 30 epochs, under PGD-20 and AutoAttack: one cell, one GPU."""
    base = Cell(data=data, model="resnet18", attack=("pgd", "autoattack"), eps=(8 / 255,), limit=1000)
    product = Product(base=base, methods=(FULL,), fractions=(1.0,), epochs=(30,), seeds=1, objectives=("trades",))
    return Experiment(name="cifar10-trades", products=(product,))


def cifar10_paper(data: str) -> Experiment:
    """The paper's setting on one GPU: ResNet-18, 30 epochs of one-cycle, keep 50, 30 and 70%, 3 seeds, TRADES."""
    base = Cell(data=data, model="resnet18", schedule="onecycle", scoring_epochs=30, eps=PIXEL_EPS)
    return paper_experiment("cifar10-paper", base, seeds=3, standard=2 / 255, robust=8 / 255)


def cifar100_paper(data: str) -> Experiment:
    """`cifar10-paper` on CIFAR-100."""
    base = Cell(data=data, model="resnet18", schedule="onecycle", scoring_epochs=30, eps=PIXEL_EPS)
    return paper_experiment("cifar100-paper", base, seeds=3, standard=2 / 255, robust=8 / 255)


def imagenet_paper(data: str) -> Experiment:
    """`cifar10-paper` on an ImageNet folder: torchvision's ResNet-18 at 224 pixels, one seed, TRADES at eps 4/255."""
    eps = tuple(n / 255 for n in (0.5, 1, 2, 4))
    base = Cell(
        data=data,
        image_size=224,
        model="torchvision:resnet18",
        schedule="onecycle",
        scoring_epochs=30,
        batch_size=256,
        weight_decay=1e-4,
        eps=eps,
        limit=5000,
    )
    return paper_experiment("imagenet-paper", base, seeds=1, standard=1 / 255, robust=4 / 255)


def paper_experiment(name: str, base: Cell, *, seeds: int, standard: float, robust: float) -> Experiment:
    """The paper's table: every method at three fractions, and some of them with TRADES.

    All cells are attacked by PGD-20, and those of the first seed also by AutoAttack. The methods by EL2N, forgetting
    and GraNd keep the hardest samples, as in their papers. The middle fraction comes first.

    Args:
        name: the name of the experiment.
        base: the settings that all cells share.
        seeds: the number of seeds of each cell.
        standard: main eps for standard training.
        robust: main eps for TRADES.
    """
    plain = Product(
        base=with_main_eps(base, standard),
        methods=PAPER_METHODS,
        fractions=(0.5, 0.3, 0.7),
        epochs=(30,),
        seeds=seeds,
        first_seed=("autoattack@512",),
        contrast="equal updates",
    )
    adversarial = dataclasses.replace(
        plain, base=with_main_eps(base, robust), methods=("random", BALANCED, "easycore"), objectives=("trades",)
    )
    products = (plain, adversarial, full_control(plain), full_control(adversarial))
    return Experiment(name=name, products=products, primary="easycore vs random for standard keeping 0.5")


def with_main_eps(base: Cell, eps: float) -> Cell:
    """A cell with another main eps."""
    return dataclasses.replace(base, main_eps=eps)
