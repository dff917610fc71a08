"""Steps run one after the other in this process, where it does not matter where they run."""

import warnings

from easycoreset import EasycoresetWarning
from easycoreset.workflow import pools, runner


class QuietPool(pools.InlinePool):
    """Shows no warnings, as workers do not."""

    def submit(self, step):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EasycoresetWarning)
            return super().submit(step)


def use(monkeypatch, always):
    """Run steps in this process: always, or where nothing is said of workers or a cluster."""
    original = pools.open_pool

    def open_pool(options, default, machine, steps):
        here = always or (options.on is None and options.workers is None)
        return QuietPool(machine) if here else original(options, default, machine, steps)

    monkeypatch.setattr(runner, "open_pool", open_pool)
