"""Known faults of what is installed, as the database of advisories tells them.

    python -P tests/audit.py

It asks through pip-audit. Where that is not installed, or the database cannot be reached, it says
so: then nothing is known, which is not the same as nothing to be known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

from tasks.errors import counted

ASK = ("-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--skip-editable")
SHOWN = 5


def faults(report: Any) -> list[str]:
    """A line for every advisory in a report of pip-audit.

    >>> faults({"dependencies": [{"name": "x", "version": "1", "vulns": [
    ...     {"id": "CVE-1", "fix_versions": ["2"]}]}, {"name": "y", "version": "3", "vulns": []}]})
    ['x 1: CVE-1, mended in 2']
    """
    return [
        f"{each['name']} {each['version']}: {fault['id']}, mended in "
        f"{', '.join(fault['fix_versions']) or 'no version yet'}"
        for each in report["dependencies"]
        for fault in each.get("vulns", ())
    ]


def looked_up(report: Any) -> tuple[int, list[str]]:
    """How many packages the database knows, and the names of the others, about which it says
    nothing: neither that they have faults nor that they have none.

    >>> looked_up({"dependencies": [{"name": "x", "version": "1", "vulns": []},
    ...     {"name": "y", "skip_reason": "not on the index"}]})
    (1, ['y'])
    """
    packages = report["dependencies"]
    missing = [each["name"] for each in packages if "skip_reason" in each]
    return len(packages) - len(missing), missing


def main() -> int:
    """Print the advisories; 1 where there are any."""
    if find_spec("pip_audit") is None:
        return _cannot("pip-audit, which asks for them, is not installed (pip install pip-audit)")
    done = subprocess.run([sys.executable, *ASK], capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
        lines, (found, missing) = faults(report), looked_up(report)
    except (ValueError, LookupError, TypeError):
        why = done.stderr.strip().splitlines() or ["it says nothing"]
        return _cannot(f"pip-audit got no answer: {why[-1][:200]}")
    if missing and not found:
        return _cannot(
            f"the database that pip-audit asked knows none of {counted(len(missing), 'package')}"
        )
    about = f"{counted(len(lines), 'known fault')} of {counted(found, 'package')}"
    if missing:
        few = ", ".join(missing[:SHOWN]) + ", ..." * (len(missing) > SHOWN)
        about += f"; nothing is known of {len(missing)} more ({few})"
    sys.stdout.write("\n".join([about, *lines]) + "\n")
    return 1 if lines else 0


def _cannot(why: str) -> int:
    sys.stdout.write(f"known faults cannot be listed here: {why}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
