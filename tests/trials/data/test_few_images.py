"""What a class with too few images costs, in the words of what its owner can do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sret_nas.errors import UserError
from trials.data.config import DataConfig
from trials.data.whole_images import WholeImages


def test_no_smaller_fractions_are_advised_which_no_option_sets(tmp_path: Path) -> None:
    for name in ("a1", "a2", "a3", "a4", "b1", "b2"):
        path = tmp_path / "images" / name[0] / f"{name[1]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    with pytest.raises(UserError, match=r"class 'b' .* got 2; add images to the class, or remove it$"):
        WholeImages.find(DataConfig(source=str(tmp_path / "images")))
