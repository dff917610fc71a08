"""On a device that is not the CPU: nothing is left behind, and no training step makes the host wait."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

ROUNDED = {  # what follows the sign of gradients that are almost 0, steps to a boundary, and float16
    "trades": 5e-3,
    "boundary": 1e-3,
    "features_adv.npy": 1e-3,
}
STEPS = 18  # of an epoch, and batches of an exact pass


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch has no devices written in Python",
)
def test_everything_runs_on_another_device_without_waiting(tmp_path):
    child = Path(__file__).parents[1] / "support" / "pretend.py"
    ran = subprocess.run([sys.executable, child, tmp_path], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["refused"] == 2 and list(found["noticed"].values()) == [2]  # the device is strict, and it counts
    for name, apart in found["apart"].items():  # scores and weights are the CPU's
        assert apart < ROUNDED.get(name, 1e-5), (name, apart)
    for attack, outcome in found["outcomes"].items():
        assert not outcome["changed"] and outcome["broken"] > outcome["clean"], (attack, outcome)
    for attack, waits in found["attacks"].items():
        assert sum(waits.values()) <= 1, (attack, waits)
    assert sum(found["first epoch"].values()) <= 1, found["first epoch"]  # of nine more steps
    for name, waits in (*found["waits"].items(), ("exact", found["exact"])):
        assert waits and max(waits.values()) < STEPS, (name, waits)
