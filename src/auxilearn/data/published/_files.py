"""The files of a published data set: which must be there, where to get them, and whether they are whole."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from auxilearn._checks import explain
from auxilearn.errors import InputError


@final
@dataclass(frozen=True)
class PublishedFile:
    """A file or folder that a reader opens.

    Attributes:
        path: Where it lies, relative to the folder of the data set, with forward slashes.
        source: Where to get it: an address.
        md5: The checksum that its publisher, or a reader of theirs, states; None if nobody does, or it is a folder.
        of: What was downloaded, if the path is a part of it, e.g. an archive's name.
    """

    path: str
    source: str
    md5: str | None = None
    of: str | None = None


def require_files(folder: Path, files: Iterable[PublishedFile], *, data: str) -> None:
    """Refuse a folder in which something is missing.

    Args:
        folder: The folder of the data set; it is only looked at.
        files: What must be there.
        data: The data set's name, for the message.

    Raises:
        InputError: With the first missing file, where to get it, and its checksum if one is known.

    Example:
        >>> import tempfile
        >>> wanted = [PublishedFile("train/label", "https://example.org/nyuv2.zip")]
        >>> require_files(Path(tempfile.mkdtemp()), wanted, data="NYUv2")
        Traceback (most recent call last):
            ...
        auxilearn.errors.InputError: NYUv2 must be ... `train/label` ... https://example.org/nyuv2.zip...
    """
    for file in files:
        if not (folder / file.path).exists():
            rule = f"{data} must be in its published layout below `{folder}`."
            part = f", a part of `{file.of}`" if file.of else ""
            checksum = f" (MD5 {file.md5})" if file.md5 else ""
            finding = f"`{file.path}`{part}, is not there." if part else f"`{file.path}` is not there."
            cure = f"Get it from {file.source}{checksum}, or pass the folder that holds it."
            raise InputError(explain(rule, finding, cure))


def verify_files(folder: Path, files: Iterable[PublishedFile], *, data: str) -> tuple[str, ...]:
    """Compare checksums, which takes a look at every byte.

    Args:
        folder: The folder of the data set.
        files: What must be there.
        data: The data set's name, for the message.

    Returns:
        The paths whose checksum is right. Files without a known checksum are only required to be there.

    Raises:
        InputError: If a file is missing, or is not what was published.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.bin").write_bytes(b"")
        >>> verify_files(folder, [PublishedFile("a.bin", "", "d41d8cd98f00b204e9800998ecf8427e")], data="Mine")
        ('a.bin',)
    """
    wanted = tuple(files)
    require_files(folder, wanted, data=data)
    right: list[str] = []
    for file in wanted:
        if file.md5 is None:
            continue
        found = _md5(folder / file.path)
        if found != file.md5:
            rule = f"`{file.path}` of {data} must be the published file, with MD5 {file.md5}."
            raise InputError(explain(rule, f"It has {found}.", f"Get it anew from {file.source}."))
        right.append(file.path)
    return tuple(right)


def _md5(file: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
