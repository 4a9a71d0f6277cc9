"""What tests of image readers share."""

import hashlib
from pathlib import Path


def fingerprint(folder: Path) -> dict[str, str]:
    """Names, contents and times of all files below a folder."""
    return {
        str(file.relative_to(folder)): f"{file.stat().st_mtime_ns} "
        + (hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "folder")
        for file in sorted(folder.rglob("*"))
    }
