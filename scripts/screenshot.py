# SPDX-License-Identifier: Apache-2.0
"""Takes the screenshot of a report.

    python scripts/screenshot.py OUT/report.html docs/report.png [--width 1280] [--height 1500]

Requires Chromium. The page is loaded in a frame of the given width, since the window of a browser has a minimum width.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FRAME = '<body style="margin:0"><iframe src="{page}" style="border:0;width:{width}px;height:{height}px;display:block">'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1500)
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("Chromium must be installed; it is not. On Debian: apt-get install chromium", file=sys.stderr)
        return 2
    if not options.report.is_file():
        print(f"{options.report} must be a report; there is no such file.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder, "frame.html")
        page = options.report.resolve().as_uri()
        frame.write_text(FRAME.format(page=page, width=options.width, height=options.height))
        subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars",
                f"--user-data-dir={folder}/profile", "--virtual-time-budget=10000",
                f"--window-size={options.width},{options.height}", f"--screenshot={options.picture.resolve()}",
                frame.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )  # fmt: skip
    print(f"{options.picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
