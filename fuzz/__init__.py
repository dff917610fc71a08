"""`python -m fuzz`: damaged and hostile files, given to the commands that read them."""

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before anything imports NumPy or torch: many cases, each of which is small
