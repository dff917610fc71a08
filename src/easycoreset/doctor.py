"""A report on this machine: versions, devices, threads, installed extras and training speed."""

import importlib.util
import os
import time
from typing import Any

import torch

from easycoreset.documents import DataTable, Section
from easycoreset.models.thin_resnet import thin_resnet
from easycoreset.versions import versions

OPTIONAL = {
    "pandas": "pandas",
    "ray": "ray",
    "hf": "datasets",
    "timm": "timm",
    "lightning": "lightning",
    "track": "mlflow",
    "cleanlab": "cleanlab",
    "fiftyone": "fiftyone",
    "onnx": "onnx",
}


def diagnose() -> dict[str, Any]:
    """Describe this machine and measure its speed, in about three seconds."""
    gpu_names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": versions(),
        "devices": {"cpu": os.cpu_count(), "cuda": gpu_names, "mps": torch.backends.mps.is_available()},
        "threads": torch.get_num_threads(),
        "extras": {extra: importlib.util.find_spec(module) is not None for extra, module in OPTIONAL.items()},
        "speed": {device: measure_speed(torch.device(device)) for device in ["cpu", *(["cuda"] if gpu_names else [])]},
    }


def measure_speed(device: torch.device, seconds: float = 1.0) -> dict[str, float]:
    """Time training steps of thin-resnet on batches of 128 images of 32x32 with one CPU thread: images per second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = thin_resnet(3, 10).to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        x = torch.rand(128, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
        y = torch.randint(10, (128,), device=device)

        def train_step() -> None:
            model.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()

        for _ in range(3):
            train_step()
        n_steps = 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            train_step()
            n_steps += 1
            if device.type == "cuda":
                torch.cuda.synchronize()
        return {"thin_resnet_images_per_second": round(128 * n_steps / (time.perf_counter() - start), 1)}
    finally:
        torch.set_num_threads(threads)


def describe_diagnosis(diagnosis: dict[str, Any]) -> Section:
    """A diagnosis as a table."""
    rows = [
        ["" if number else part, name, value]
        for part, facts in diagnosis.items()
        for number, (name, value) in enumerate(_flatten_facts(facts))
    ]
    return Section("Diagnosis", tables=[DataTable("", ["part", "what", "found"], rows)], brief=True)


def _flatten_facts(facts: Any, name: str = "") -> list[tuple[str, str]]:
    """Name and value of every fact, including nested ones, as text."""
    if isinstance(facts, dict):
        return [pair for key, value in facts.items() for pair in _flatten_facts(value, f"{name} {key}".strip())]
    if isinstance(facts, list):
        facts = ", ".join(map(str, facts)) or None
    words = {True: "yes", False: "no", None: "none"}
    return [(name, words[facts] if facts is None or isinstance(facts, bool) else str(facts))]
