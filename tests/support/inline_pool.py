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


def use(monkeypatch):
    monkeypatch.setattr(runner, "open_pool", lambda on, workers, default, machine: QuietPool(machine))
