"""How long the steps that are left will take, corrected by those that are done."""

from collections.abc import Mapping

from easycoreset.console import format_duration
from easycoreset.workflow.steps import Step

MIN_SECONDS = 1.0  # expected of the steps that are done, from which on they correct the rest


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
        """Which step it is of how many, and how long all that are left take; empty where nothing is known."""
        if step.key not in self._left:
            return ""
        number = self._total - len(self._left) + 1
        return f" ({number} of {self._total}, about {format_duration(self.seconds)} left)"

    def end(self, step: Step, seconds: float | None) -> None:
        """Count a step as ended after some seconds; None where it was not done, which says nothing of the others."""
        expected = self._left.pop(step.key, 0.0)
        if seconds is not None and expected:
            self._expected += expected
            self._spent += seconds
