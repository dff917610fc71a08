"""Steps run one after the other in this process, where it does not matter where they run."""

from easycoreset.workflow import pools, runner


def use(monkeypatch):
    monkeypatch.setattr(runner, "open_pool", lambda on, workers, default, machine: pools.InlinePool(machine))
