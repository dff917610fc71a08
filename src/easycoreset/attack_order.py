"""The order of attacks: a weaker one should not break more samples than a stronger one."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


def is_weaker(weak: Sequence[int], strong: Sequence[int]) -> bool:
    """Whether an attack of strength `weak` should break no more than one of strength `strong`; () is unknown.

    A search of thousands of queries without gradients (0, 1) may well break more than one gradient step (1,).

    >>> is_weaker((1,), (2, 20, 1)), is_weaker((0, 1), (1,)), is_weaker((), (1,))
    (True, False, False)
    """
    weaker = () < tuple(weak) < tuple(strong)
    return weaker and (tuple(weak), tuple(strong)) != ((0, 1), (1,))


def find_excess(
    weak: str, strong: str, eps: float, weak_broken: Bools, strong_broken: Bools
) -> tuple[float, bool, str]:
    """By how much a weaker attack breaks more than a stronger one, on the same samples.

    An exception to the order is possible, so only an excess of more than one point and of more than two paired standard
    errors is a problem.

    Args:
        weak: the weaker attack.
        strong: the stronger attack.
        eps: the radius of both.
        weak_broken: [n] whether each sample is misclassified under the weaker one.
        strong_broken: [n] likewise.

    Returns:
        The excess as a share, whether it is within the limits, and what it means otherwise.
    """
    difference = weak_broken.astype(float) - strong_broken.astype(float)
    excess = float(difference.mean())
    error = float(difference.std() / np.sqrt(len(difference)))
    message = (
        f"{weak} breaks {excess:.1%} more than {strong} at eps {eps:.4g}: gradients are masked; try more steps and "
        "restarts, loss=margin, or a black-box attack"
    )
    return excess, excess <= max(0.01, 2 * error), message
