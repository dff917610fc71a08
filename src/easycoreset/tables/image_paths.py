"""Find the image files of a table's samples in the data set's folder, and check that they belong to the table."""

from collections.abc import Sequence
from pathlib import Path

from easycoreset.data_specs import image_file_paths, is_manifest
from easycoreset.errors import UsageError, quote
from easycoreset.image_decoding import describe_read_error, open_image
from easycoreset.tables.fingerprint import Ints, fingerprint


def find_image_files(
    data: str, sample_ids: Sequence[str], labels: Ints, expected_fingerprint: str | None
) -> list[Path]:
    """The file of every sample of an image folder or a manifest; no image is decoded.

    Args:
        data: the folder or the manifest.
        sample_ids: sample ids of the table.
        labels: [N] labels of the table.
        expected_fingerprint: fingerprint of the table's data; None if it is not known, then it is not checked.

    Raises:
        UsageError: a sample id that is not a path within the folder, a missing image, or another fingerprint.
    """
    root = Path(data)
    if not is_manifest(data):
        check_ids(sample_ids)
    files = image_file_paths(data, sample_ids)
    missing = [name for name, file in zip(sample_ids, files, strict=True) if not file.is_file()]
    if missing:
        raise UsageError(
            f"data: {root} lacks {len(missing)} of {len(sample_ids)} samples (first: {quote(missing[0])}); "
            "--data gives its current location"
        )
    current = fingerprint(sample_ids, labels, (str(file.stat().st_size).encode() for file in files))
    if expected_fingerprint not in (None, current):
        raise UsageError(
            f"data: {root} is other data: images of other sizes (fingerprint {current[:12]}, "
            f"not {str(expected_fingerprint)[:12]})"
        )
    return files


def check_ids(sample_ids: Sequence[str]) -> None:
    """Refuse sample ids that are not paths within a folder, and repeated ones.

    Raises:
        UsageError: the message names the id.
    """
    for name in sample_ids:
        parts = name.split("/")
        if len(parts) < 2 or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise UsageError(f"sample ids must be paths within the data folder, as class/name.png; got {quote(name)}")
    if len(set(sample_ids)) != len(sample_ids):
        raise UsageError("sample ids must be unique, to name files")


def require_images(files: Sequence[Path]) -> None:
    """Refuse files that are not images, whatever their names, before they are passed on as images.

    Raises:
        UsageError: the message names the file and the reason.
    """
    for file in files:
        try:
            with open_image(file):
                pass
        except Exception as error:  # PIL raises almost any exception on damaged files
            raise UsageError(f"data: {quote(str(file))} is not an image ({describe_read_error(error)})") from None
