"""The first ten minutes on a GPU: whether everything is right there, and how fast it is; one JSON.

`python -m benchmarks first_minutes [--tiny] [--data cifar10:DIR] [--minutes 9] [--out FILE]`: the file is written after
each part, and no part begins after `--minutes`. `--tiny` tries every part in a minute or two, also without a GPU.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_rightness import everything, kill_and_resume, rightness, waits
from benchmarks.gpu_speed import grids, speed
from benchmarks.probe import Probe
from easycoreset.doctor import diagnose

RATES = "rates"  # the key under which `benchmarks.hour` finds images a second

PARTS = {
    "rightness": rightness,
    "waits": waits,
    "kill and resume": kill_and_resume,
    "speed": speed,
    "grids": grids,
    "everything": everything,
}


def rates_of(found: dict[str, Any]) -> dict[str, float]:
    """The rates that an estimate of a grid needs, of the parts that were run."""

    def best(prefix: str, suffix: str = "") -> float:
        rows = {name: row["images_per_second"] for name, row in found.items() if name.startswith(prefix)}
        return max((rate for name, rate in rows.items() if name.endswith(suffix)), default=0.0)

    rates = {
        "training": best("training 128"),
        "ascent": best("bare pass 250", "bf16"),
        "pgd": best("pgd-20", "bf16"),
        "exact": best("exact pass", "bf16"),
        "float32": best("bare pass", "fp32"),
    }
    return {name: rate for name, rate in rates.items() if rate}


def main(arguments: list[str] | None = None) -> int:
    """Run the parts in order; returns 1 if one fails or does not hold."""
    from benchmarks.__main__ import describe

    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/first_minutes.json"))
    given = parser.parse_args(arguments)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        probe = Probe(given.data, given.tiny, Path(folder))
        name = torch.cuda.get_device_name() if probe.device.type == "cuda" else "CPU"
        result: dict[str, Any] = {**describe(), "device": name, "data": given.data, "tiny": given.tiny}
        result |= {"doctor": diagnose(), "seconds": {}}
        for part, work in PARTS.items():
            began = time.monotonic()
            if began - start > 60 * given.minutes:
                result[part] = {"left_out": "no time"}
            else:
                try:
                    result[part] = work(probe)
                except Exception as error:  # the other parts still tell
                    result[part] = {"failed": f"{type(error).__name__}: {error}", "holds": False}
                result["seconds"][part] = round(time.monotonic() - began, 1)
            result[RATES] = rates_of(result.get("speed", {}) if "failed" not in result.get("speed", {}) else {})
            given.out.write_text(json.dumps(result, indent=1) + "\n")
            print(part, json.dumps(result[part]), flush=True)
    return int(any(not result[part].get("holds", True) for part in PARTS))


if __name__ == "__main__":
    sys.exit(main())
