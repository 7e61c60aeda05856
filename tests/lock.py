"""`requirements.lock` from what pip says of the files that it would install.

    pip install --dry-run --ignore-installed --no-deps -r constraints.txt --report report.json
    python -P tests/lock.py report.json ... > requirements.lock

The versions are those of constraints.txt; the hashes are of files for the platform that pip ran on.
Of several reports every hash of a version is listed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HEAD = "# Made by 'make lock': the files of constraints.txt that pip installs on this machine."


def lines(reports: Iterable[Any]) -> Iterator[str]:
    """The lines of the lock file.

    >>> item = {"metadata": {"name": "X_y", "version": "1.0+cpu"}}
    >>> item["download_info"] = {"archive_info": {"hashes": {"sha256": "ab"}}}
    >>> list(lines([{"install": [item]}]))[1]
    'x-y==1.0 --hash=sha256:ab'
    """
    found: dict[str, list[str]] = {}
    for report in reports:
        for item in report["install"]:
            name = item["metadata"]["name"].lower().replace("_", "-")
            # A local version, such as of a build for CPUs, is another file of the same one.
            version = item["metadata"]["version"].partition("+")[0]
            sha256 = item["download_info"]["archive_info"]["hashes"]["sha256"]
            hashes = found.setdefault(f"{name}=={version}", [])
            if sha256 not in hashes:
                hashes.append(sha256)
    yield HEAD
    for pinned, hashes in sorted(found.items()):
        yield " ".join([pinned, *(f"--hash=sha256:{sha256}" for sha256 in hashes)])


if __name__ == "__main__":
    read = (json.loads(Path(name).read_bytes()) for name in sys.argv[1:])
    sys.stdout.write("\n".join(lines(read)) + "\n")
