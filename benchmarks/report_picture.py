"""A picture of a search's report, as a browser shows it: the README's second picture.

    python -m benchmarks.report_picture RUN

RUN is the run directory of the first command. Needs Chromium or Chrome. Writes results/first_command_report.png: the
head of the page without what was asked, whose times and folders are those of one machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parent / "results" / "first_command_report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 1100, 1515
HIDDEN = "<style>#asked, #asked + .facts, .facts + pre { display: none }</style></head>"
COLOURS = 256
"""Colours of the picture: text and plots need few, and the file is small."""


def main() -> None:
    if len(sys.argv) != 2 or not (report := Path(sys.argv[1]) / "report.html").is_file():
        sys.exit("name the run directory of a search, which holds report.html")
    browser = next((found for name in BROWSERS if (found := shutil.which(name)) is not None), None)
    if browser is None:
        sys.exit(f"needs a browser: one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "report.png"
        page = Path(folder) / "report.html"
        page.write_text(report.read_text(encoding="utf-8").replace("</head>", HIDDEN, 1), encoding="utf-8")
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000",
            f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}", page.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        Image.open(picture).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
