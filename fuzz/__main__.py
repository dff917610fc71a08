"""Damaged and hostile files: every kind of file that is read, spoilt at random, given to the command that reads it.

`python -m fuzz --cases 10000 --out results/fuzz.json`: nothing may end in a signal, in an exception that is no message, in
more than 20 seconds or more memory than is allowed; nothing is executed, and nobody is asked over a network.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from fuzz.cases import run


def main() -> None:
    """Run, print the counts, and write them with what made them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="")
    parser.add_argument("--seconds", type=int, default=20, help="after which a case hangs")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = run(given.cases, given.seed, tuple(filter(None, given.kinds.split(","))), shown=True, seconds=given.seconds)
    print(json.dumps({key: found[key] for key in ("cases", "kinds", "counts", "by_kind")}, indent=1))
    if given.out is not None:
        from benchmarks.__main__ import describe

        given.out.write_text(
            json.dumps(
                {**describe(), "command": shlex.join(["python", "-m", "fuzz", *sys.argv[1:]]), **found}, indent=1
            )
            + "\n"
        )
    sys.exit(bool(found["wrong"]))


if __name__ == "__main__":
    main()
