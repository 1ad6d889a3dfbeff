"""Images that are much longer than wide: memory for a row of their pixels, enlarged, would have no bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from sret_nas.nn.model_directory import Preprocessing
from trials.data.image_files import to_array
from trials.training.augmentation import evaluation_transform


def _square(longer: int, is_wide: bool) -> Image.Image:
    """Returns an image of one pixel times `longer`, grey in the middle and black elsewhere."""
    pixels = np.zeros((1, longer), np.uint8)
    pixels[0, longer // 2 - 8 : longer // 2 + 8] = 128
    return Image.fromarray(pixels if is_wide else pixels.T)


@pytest.mark.parametrize("is_wide", [True, False])
@pytest.mark.parametrize("mode", ["to_array", "evaluation"])
class TestThinImages:
    def test_their_far_ends_are_never_resized(self, is_wide: bool, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """65,535 x 1 pixels would be 14.7 million x 224, which take 13 GB."""
        sizes = []
        resize = Image.Image.resize

        def measured(self: Image.Image, size: tuple[int, int], *arguments: Any, **others: Any) -> Image.Image:
            sizes.append(size[0] * size[1])
            if sizes[-1] > 2**25:
                pytest.fail(f"{size} pixels were made")
            return resize(self, size, *arguments, **others)

        monkeypatch.setattr(Image.Image, "resize", measured)
        preprocessing = Preprocessing(image_size=224, mean=(0.0,), std=(1.0,))
        transform = evaluation_transform(preprocessing)
        image = _square(65_535, is_wide)
        array = to_array(image, preprocessing) if mode == "to_array" else transform(image).numpy()
        assert array.shape == (1, 224, 224)
        np.testing.assert_allclose(array, 128 / 255, atol=1e-6)
        assert sizes

    @pytest.mark.parametrize("length", [3000, 3001])
    def test_the_middle_is_where_it_was(self, is_wide: bool, mode: str, length: int) -> None:
        """Black up to the middle and white from there: of an odd number of pixels, the one in the middle is grey."""
        pixels = np.full((1, length), 255, np.uint8)
        pixels[0, : length // 2] = 0
        if length % 2:
            pixels[0, length // 2] = 128
        image = Image.fromarray(pixels if is_wide else pixels.T)
        preprocessing = Preprocessing(image_size=224, mean=(0.0,), std=(1.0,))
        array = (
            to_array(image, preprocessing) if mode == "to_array" else evaluation_transform(preprocessing)(image).numpy()
        )
        line = array[0, 0] if is_wide else array[0, :, 0]
        np.testing.assert_allclose(line + line[::-1], 1, atol=0.02)

    def test_others_are_as_they_were(self, is_wide: bool, mode: str) -> None:
        image = _square(400, is_wide)
        preprocessing = Preprocessing(image_size=224, mean=(0.0,), std=(1.0,))
        array = (
            to_array(image, preprocessing) if mode == "to_array" else evaluation_transform(preprocessing)(image).numpy()
        )
        whole = image.resize((89_600, 224) if is_wide else (224, 89_600), Image.Resampling.BICUBIC)
        left = (89_600 - 224) // 2
        box = (left, 0, left + 224, 224) if is_wide else (0, left, 224, left + 224)
        np.testing.assert_array_equal(array[0], np.asarray(whole.crop(box), np.float32) / 255)
