"""What tests of images may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.trials.data.shaded_images import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a flat image of a shade of its own under `images/`; the shade tells later which image it was."""

    def write_one(name: str, shade: int) -> Path:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (shade, 0, 0)).save(path, "png")
        return path

    return write_one
