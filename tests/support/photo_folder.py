"""A folder of photographs with known faults, made of CIFAR-10: wrong labels, copies, leaks and broken files."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from easycoreset.data import Source

CLASSES = {0: 620, 2: 475, 3: 395, 5: 290, 8: 110}  # CIFAR-10's number -> training images: uneven
TEST_IMAGES = 100  # a class
WRONG = 0.05  # of the labels
COPIES = NEAR_COPIES = 15
LEAKS = 8
BROKEN = 3


@dataclass
class PhotoFolder:
    """What is wrong in it, by sample id (path below the folder).

    Attributes:
        wrong: wrongly labelled -> the right class.
        copies: exact copy -> original.
        near_copies: changed copy -> original.
        leaks: training image -> test image.
        broken: files that are no images.
    """

    wrong: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    near_copies: dict[str, str] = field(default_factory=dict)
    leaks: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def make_photo_folder(root: Path, cifar: Source, seed: int = 0, share: float = 1.0) -> PhotoFolder:
    """Write `train/CLASS/` and `test/CLASS/` below `root`; `share` of all numbers, for a small folder."""
    rng = np.random.default_rng(seed)
    faults = PhotoFolder()
    names = {k: cifar.class_names[k] for k in CLASSES}
    images = {part: split.images.pixels.numpy() for part, split in cifar.splits.items()}  # pyright: ignore
    written: dict[str, np.ndarray] = {}
    for part, split in cifar.splits.items():
        for k, count in CLASSES.items():
            count = round(share * (count if part == "train" else TEST_IMAGES))
            for row in rng.permutation(np.flatnonzero(split.labels == k))[:count]:
                label = k
                name = f"IMG_{rng.integers(10**6):06d}_{row}.png"
                if part == "train" and rng.random() < WRONG:
                    label = int(rng.choice([other for other in CLASSES if other != k]))
                    faults.wrong[f"train/{names[label]}/{name}"] = names[k]
                file = root / part / names[label] / name
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[part][row]).save(file)
                written[f"{part}/{names[label]}/{name}"] = images[part][row]
    train = [path for path in written if path.startswith("train/") and path not in faults.wrong]
    chosen = [str(path) for path in rng.choice(train, round(share * COPIES) + round(share * NEAR_COPIES), False)]
    copied = chosen[: round(share * COPIES)]
    for path in copied:
        copy = path.replace(".png", rng.choice([" copy.png", " (1).png", "_Kopie.png"]))
        (root / copy).write_bytes((root / path).read_bytes())
        faults.copies[copy] = path
    for number, path in enumerate(chosen[len(copied) :]):
        near = str(Path(path).parent / f"DSC_{number:04d}.jpg")
        _change(Image.fromarray(written[path]), number % 3).save(root / near, quality=int(rng.integers(70, 95)))
        faults.near_copies[near] = path
    test = [path for path in written if path.startswith("test/")]
    for number, path in enumerate(rng.choice(test, round(share * LEAKS), False).tolist()):
        suffix = (".png", ".jpg")[number % 2]
        leak = f"train/{Path(path).parent.name}/photo{number}{suffix}"
        Image.fromarray(written[path]).save(root / leak, **({"quality": 85} if suffix == ".jpg" else {}))
        faults.leaks[leak] = path
    for number in range(round(share * BROKEN)):
        broken = f"train/{names[0]}/broken{number}.jpg"
        (root / broken).write_bytes((b"", b"\xff\xd8\xff\xe0 no more", b"not an image")[number % 3])
        faults.broken.append(broken)
    (root / "train" / names[0] / "Thumbs.db").write_bytes(b"thumbs")
    return faults


def _change(image: Image.Image, kind: int) -> Image.Image:
    """Another size, a border cut off, or brighter."""
    if kind == 0:
        return image.resize((48, 48), Image.Resampling.BICUBIC)
    if kind == 1:
        return image.crop((1, 1, 31, 31)).resize((32, 32), Image.Resampling.BICUBIC)
    return ImageEnhance.Brightness(image).enhance(1.15)
