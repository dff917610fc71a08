"""What every picture of a data set looks like: perceptual hash, size, brightness, information and sharpness."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from easycoreset.data import Split, has_image_files
from easycoreset.data.images import FileImages, ImageRows, MemoryImages
from easycoreset.data_specs import image_file_paths
from easycoreset.image_decoding import decode_reduced, find_white_value, read_size
from easycoreset.progress import progress

SIDE = 128  # pictures are reduced to so many pixels on the shorter side before they are measured
GREY_SIDE = 16  # pixels of the grey thumbnail
CHUNK = 256  # pictures that are read at a time
WHITE_SAMPLE = 200  # files from which the white level of all is found

ReadPicture = Callable[[int], tuple[Image.Image, tuple[int, int]]]  # row -> RGB picture, its original width and height


@dataclass(frozen=True)
class PictureFacts:
    """Facts of N pictures.

    Attributes:
        hash: [N] uint64, the perceptual hash (of the lowest frequencies of a discrete cosine transform).
        thumbnail: [N, 256] float16, the grey picture at 16 x 16, minus its mean, with norm 1; 0 if it has one colour.
        width: [N] pixels.
        height: [N] pixels.
        darkest: [N] the 5th percentile of the luminance, in [0, 1].
        brightest: [N] the 99th percentile of the luminance, in [0, 1].
        entropy: [N] bits of the histogram of grey values, in [0, 8].
        sharpness: [N] variance of the Laplacian over variance of the grey values; 0 where it is of one colour.
    """

    hash: npt.NDArray[np.uint64]
    thumbnail: npt.NDArray[np.float16]
    width: npt.NDArray[np.int64]
    height: npt.NDArray[np.int64]
    darkest: npt.NDArray[np.float32]
    brightest: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]
    sharpness: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.hash)


def join_facts(parts: list[PictureFacts]) -> PictureFacts:
    """The facts of several parts, one after the other."""
    return PictureFacts(
        **{item.name: np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(PictureFacts)}
    )


def look_at_pictures(data: str, split: Split) -> PictureFacts:
    """Measure all pictures of a split: image files at their original size, others as the model gets them."""
    read = open_pictures(data, split)
    columns: dict[str, list] = {item.name: [] for item in fields(PictureFacts)}
    with progress(f"looking at the pictures of {split.name}", len(split)) as bar, ThreadPoolExecutor(4) as pool:
        for start in range(0, len(split), CHUNK):
            rows = range(start, min(start + CHUNK, len(split)))
            for facts in pool.map(lambda row: measure_picture(*read(row)), rows):
                for name, value in facts.items():
                    columns[name].append(value)
            bar.advance(len(rows))
    types = {"hash": np.uint64, "thumbnail": np.float16, "width": np.int64, "height": np.int64}
    return PictureFacts(**{name: np.array(values, types.get(name, np.float32)) for name, values in columns.items()})


def measure_picture(picture: Image.Image, size: tuple[int, int]) -> dict[str, object]:
    """The facts of one picture, whose original width and height are `size`."""
    grey = picture.convert("L")
    values = np.asarray(grey, np.float64) / 255
    counts = np.bincount(np.asarray(grey).ravel(), minlength=256)
    shares = counts[counts > 0] / counts.sum()
    small = np.asarray(grey.resize((GREY_SIDE, GREY_SIDE), Image.Resampling.BOX), np.float64).ravel()
    small -= small.mean()
    variance = values.var()
    bits = imagehash.phash(picture).hash.ravel()
    return {
        "hash": np.packbits(bits).view(np.uint64)[0],
        "thumbnail": small / max(np.linalg.norm(small), 1e-9),
        "width": size[0],
        "height": size[1],
        "darkest": np.percentile(values, 5),
        "brightest": np.percentile(values, 99),
        "entropy": -np.sum(shares * np.log2(shares)),
        "sharpness": ndimage.laplace(values).var() / variance if variance > 1e-9 else 0.0,
    }


def open_pictures(data: str, split: Split) -> ReadPicture:
    """A function that reads one picture of a split."""
    images = split.images
    if has_image_files(data):
        files = image_file_paths(data, split.sample_ids)
        white = find_white_value(files[:: len(files) // WHITE_SAMPLE + 1])
        return lambda row: (decode_reduced(files[row], SIDE, white), read_size(files[row]))

    def read(row: int) -> tuple[Image.Image, tuple[int, int]]:
        if isinstance(images, MemoryImages):
            pixels = images.image(row)
        else:
            whole, place = (images.whole, int(images.rows[row])) if isinstance(images, ImageRows) else (images, row)
            assert isinstance(whole, FileImages)
            pixels = whole[place]
            if isinstance(pixels, str):
                raise ValueError(pixels)
        array = pixels.numpy() if pixels.is_floating_point() is False else pixels.mul(255).round().byte().numpy()
        picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).convert("RGB")
        return picture, picture.size

    return read
