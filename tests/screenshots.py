"""Pictures of pages as people see them: three widths, light and dark.

Run as ``python -m tests.screenshots FOLDER PAGE.html ...``; a page's name may be followed by a node
to click, as in ``page.html@a3.h0``.
"""

import base64
import json
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__" and "tests.graphs" not in sys.modules:
    # A package of this name may be installed; the tests have none, so this folder is named.
    import types

    package = types.ModuleType("tests")
    package.__path__ = [str(Path(__file__).parent)]
    sys.modules["tests"] = package

from tests.graphs import chromium

SIZES = {1400: 900, 900: 900, 375: 780}


def shots(browser, page, folder, click=None):
    """One picture for each width and colour scheme."""
    for scheme in ("light", "dark"):
        feature = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.call("Emulation.setEmulatedMedia", features=feature)
        for width, height in SIZES.items():
            size = {"width": width, "height": height, "deviceScaleFactor": 1}
            browser.call("Emulation.setDeviceMetricsOverride", mobile=width < 500, **size)
            browser.open(page)
            if click:
                node = f"document.querySelector({json.dumps(f'[data-name={json.dumps(click)}]')})"
                browser.run(f"{node}.dispatchEvent(new MouseEvent('click'))")
            taken = browser.call("Page.captureScreenshot", format="png")
            name = f"{page.stem}{'-' + click if click else ''}-{width}-{scheme}.png"
            (folder / name).write_bytes(base64.b64decode(taken["data"]))


def main(folder, pages):
    """Take all pictures; say what the pages complained of."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        browser = chromium.Browser(Path(profile))
        try:
            for given in pages:
                name, _, click = given.partition("@")
                shots(browser, Path(name).resolve(), Path(folder), click or None)
                print(name, browser.complaints())  # noqa: T201
        finally:
            browser.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
