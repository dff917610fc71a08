"""Named experiments."""

from easycoreset.experiment import Cell, Experiment, Product


def digits() -> Experiment:
    """The demo: bundled digits, standard training at 10 and 50%, TRADES at 30%, 3 seeds, PGD-10.

    Every method trains for the same number of updates; the settings were fixed from random's rows.
    """
    base = Cell(data="digits", model="digits-cnn", scoring_epochs=15, attack=("pgd:steps=10",), eps=(0.05, 0.1, 0.2))
    methods = ("easycore", "easycore:per_class=true", "random", "hardest")
    standard = Product(base=base, methods=methods, fractions=(0.1, 0.5), updates=(200,), seeds=3)
    trades = Product(base=base, methods=("easycore", "random"), fractions=(0.3,), updates=(200,), seeds=3,
                     objectives=("trades:eps=0.1:steps=5",))  # fmt: skip
    return Experiment(name="digits", products=(standard, trades))
