"""What decoding changes in the whole process while it lasts."""

from __future__ import annotations

import warnings

from PIL import Image

from trials.data.decode import without_warnings


def test_the_last_thread_out_restores_what_the_first_one_in_changed() -> None:
    bound, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    first, second = without_warnings(), without_warnings()
    first.__enter__()
    silent = list(warnings.filters)
    second.__enter__()
    first.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS is None
    assert list(warnings.filters) == silent != filters
    second.__exit__(None, None, None)
    assert bound == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters
