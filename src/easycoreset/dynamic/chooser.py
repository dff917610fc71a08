"""Chooses what each epoch trains on by a dynamic method, and remembers the last choice."""

from collections.abc import Mapping
from typing import Any

from easycoreset.dynamic import EpochChoice, EpochState, Passes, check_choice, check_fraction, load_dynamic_method
from easycoreset.errors import RunError, UsageError, describe_error, quote
from easycoreset.tables import Floats, Ints
from easycoreset.user_modules import is_user_spec


class DynamicChooser:
    """A dynamic method over a pool of samples.

    Args:
        method: `NAME[:key=value]...` of `DYNAMIC_METHODS`, or `package.module:name`.
        labels: [n] labels of the pool.
        fraction: share of the pool that an epoch trains on, for methods that take one.
        seed: of all draws.
        batch_size: samples of a step.

    Raises:
        UsageError: unknown method or option, or a fraction that does not fit.
    """

    def __init__(self, method: str, labels: Ints, fraction: float | None, seed: int, batch_size: int) -> None:
        self.name, self.method = load_dynamic_method(method)
        check_fraction(self.name, self.method, fraction)
        self.labels = labels
        self.fraction = fraction
        self.seed = seed
        self.batch_size = batch_size
        self.previous: EpochChoice | None = None

    def choose(
        self, epoch: int, progress: float, present: Mapping[str, Floats], passes: Passes | None = None
    ) -> EpochChoice:
        """What the epoch trains on; the same arguments give the same choice.

        Raises:
            UsageError: the method returned no rows of the pool, or invalid weights.
        """
        state = EpochState(
            labels=self.labels,
            fraction=self.fraction,
            seed=self.seed,
            epoch=epoch,
            progress=progress,
            batch_size=self.batch_size,
            present=present,
            previous=self.previous,
            passes=passes,
        )
        try:
            choice: Any = self.method(state)
        except (UsageError, RunError):
            raise
        except Exception as error:
            if not is_user_spec(self.name):
                raise
            raise UsageError(f"method {quote(self.name)} failed: {describe_error(error)}") from error
        return check_choice(choice, len(self.labels), self.name)

    def state_dict(self) -> dict[str, Any] | None:
        """The last choice, for a checkpoint."""
        return None if self.previous is None else dict(vars(self.previous))

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Restore the state of a checkpoint."""
        self.previous = None if state is None else EpochChoice(**state)
