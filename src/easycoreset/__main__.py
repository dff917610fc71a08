"""`python -m easycoreset`."""

import sys

from easycoreset.cli import main

if __name__ == "__main__":
    sys.exit(main())
