"""A pool that computes cells one after the other in this process, where it does not matter where they are computed."""

from concurrent.futures import Future

from easycoreset.experiment import scheduler, worker


class InlinePool:
    size = 1

    def __init__(self, setting):
        self.setting = setting

    def submit(self, task):
        future = Future()
        future.set_result(worker.run_task(task, self.setting))
        return future

    def result(self, future):
        return future.result()

    def close(self):
        pass


def use(monkeypatch):
    monkeypatch.setattr(scheduler, "open_pool", lambda on, workers, setting: InlinePool(setting))
    monkeypatch.setattr(worker, "silence", lambda: None)
