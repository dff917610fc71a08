"""The flags of `compare` that are short for others: `--STEP.OPTION V`, `--OPTION +V`, and `--vary` given repeatedly."""

import re
from collections.abc import Sequence

STEP_FLAG = re.compile(r"--([a-z]+\.[a-z_-]+)")
SEVERAL = ("--vary", "--extend")  # flags that may be repeated


def expand_grid_flags(tokens: Sequence[str]) -> list[str]:
    """Write `--STEP.OPTION V` as part of `--vary`, and `--OPTION +V` as part of `--extend`.

    >>> expand_grid_flags(["compare", "--score.epochs", "30", "--vary", "lr=0.1,0.2", "--seeds", "+3-4", "--quiet"])
    ['compare', '--quiet', '--vary', 'score.epochs=30;lr=0.1,0.2', '--extend', 'seeds=3-4']
    """
    command = next((token for token in tokens if not token.startswith("-")), "")
    if command != "compare":
        return list(tokens)
    kept: list[str] = []
    folded: dict[str, list[str]] = {flag: [] for flag in SEVERAL}
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        flag, equals, value = token.partition("=")
        takes_next = not equals and bool(rest) and not rest[0].startswith("--")
        if not equals and takes_next:
            value = rest[0]
        step = STEP_FLAG.fullmatch(flag)
        name = step[1] if step else flag.removeprefix("--").replace("-", "_")
        if step and value:
            folded["--vary"].append(f"{name}={value}")
        elif flag in SEVERAL and value:
            folded[flag].append(value)
        elif flag.startswith("--") and value.startswith("+") and len(value) > 1:
            folded["--extend"].append(f"{name}={value[1:]}")
        else:
            kept.append(token)
            continue
        rest = rest[1:] if takes_next else rest
    return kept + [part for flag, parts in folded.items() if parts for part in (flag, ";".join(parts))]
