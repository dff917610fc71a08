"""How long the steps that are left will take, corrected by those that are done."""

from collections.abc import Mapping

from easycoreset.console import format_duration
from easycoreset.workflow.steps import Step

MIN_SECONDS = 1.0  # the finished steps correct the forecast once so many seconds were expected for them


class Forecast:
    """The expected seconds of the missing steps.

    Args:
        expected: the key of each missing step -> seconds, as timed steps say; empty where nothing is known.
    """

    def __init__(self, expected: Mapping[str, float]) -> None:
        self._left = dict(expected)
        self._total = len(expected)
        self._expected = self._spent = 0.0  # of the steps that are done

    @property
    def seconds(self) -> float:
        """The seconds of the steps that are left."""
        correction = self._spent / self._expected if self._expected >= MIN_SECONDS else 1.0
        return correction * sum(self._left.values())

    def describe(self, step: Step) -> str:
        """The number of the step, the number of all steps and the time left, as text; empty where nothing is known."""
        if step.key not in self._left:
            return ""
        number = self._total - len(self._left) + 1
        return f" ({number} of {self._total}, about {format_duration(self.seconds)} left)"

    def end(self, step: Step, seconds: float | None) -> None:
        """Count a step as ended after some seconds; None if it was not done, which does not correct the forecast."""
        expected = self._left.pop(step.key, 0.0)
        if seconds is not None and expected:
            self._expected += expected
            self._spent += seconds
