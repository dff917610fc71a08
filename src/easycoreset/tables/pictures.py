"""Where the pictures of a table's samples lie: within the data set's folder, and of the data that the table is of."""

from collections.abc import Sequence
from pathlib import Path

from easycoreset.decoding import open_picture, say_broken
from easycoreset.errors import UsageError, quote
from easycoreset.spelling import is_manifest, picture_files
from easycoreset.tables.fingerprint import Ints, fingerprint


def find_pictures(data: str, sample_ids: Sequence[str], labels: Ints, known: str | None) -> list[Path]:
    """The files of an image folder's or a manifest's samples, of all of them; nothing is decoded for this.

    Args:
        data: the folder or the manifest.
        sample_ids: of the table.
        labels: [N] of the table.
        known: the fingerprint of the table's data; None where it is not known, and not looked at.

    Raises:
        UsageError: a folder's id that is no path within it, a picture that is gone, or another fingerprint.
    """
    root = Path(data)
    if not is_manifest(data):
        check_ids(sample_ids)
    files = picture_files(data, sample_ids)
    missing = [name for name, file in zip(sample_ids, files, strict=True) if not file.is_file()]
    if missing:
        raise UsageError(
            f"data: {root} lacks {len(missing)} of {len(sample_ids)} samples (first: {quote(missing[0])}); "
            "--data says where the data set lies now"
        )
    found = fingerprint(sample_ids, labels, (str(file.stat().st_size).encode() for file in files))
    if known not in (None, found):
        raise UsageError(
            f"data: {root} is other data: pictures of other sizes (fingerprint {found[:12]} against {str(known)[:12]})"
        )
    return files


def check_ids(sample_ids: Sequence[str]) -> None:
    """Refuse ids that are no path within a folder, and one that is there twice.

    Raises:
        UsageError: the id is named.
    """
    for name in sample_ids:
        parts = name.split("/")
        if len(parts) < 2 or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise UsageError(f"sample ids must be paths within the data folder, as class/name.png; got {quote(name)}")
    if len(set(sample_ids)) != len(sample_ids):
        raise UsageError("sample ids must be named once each, to be files")


def require_pictures(files: Sequence[Path]) -> None:
    """Refuse a file that is no picture, whatever it is called: nothing else is handed on as one.

    Raises:
        UsageError: the file is named, with what is wrong with it.
    """
    for file in files:
        try:
            with open_picture(file):
                pass
        except Exception as error:  # PIL raises almost anything on broken files
            raise UsageError(f"data: {quote(str(file))} is no picture ({say_broken(error)})") from None
