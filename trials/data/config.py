"""Which images the proxy runs see, and how they are cut into training, validation and test part."""

from __future__ import annotations

from dataclasses import dataclass

from sret_nas.errors import ConfigError, describe

DIGITS = "digits"
"""The source that needs no files: scikit-learn's handwritten digits."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A data set and its split; part of the recipe, plain values only. Raises `ConfigError` for values out of range.

    Given a `root`, `source` is the name of a torchvision set whose files lie there (nothing is downloaded).
    Without one it is `digits` or the path of an image folder; `./digits` is a folder of that name.
    """

    source: str = DIGITS
    root: str | None = None
    image_size: int = 32
    """Side in pixels to which every image is brought: its largest centred square, resized with antialiasing."""
    val_fraction: float = 0.2
    """Share of each class that becomes the validation part, where the source has none of its own."""
    test_fraction: float = 0.2
    """Share of each class that becomes the test part, where the source has none of its own."""
    split_seed: int = 0
    """Decides which image falls into which part; no other seed does, so runs with other seeds are comparable."""
    max_train: int | None = None
    """At most so many training images, in the classes' own proportions; a larger limit adds to a smaller one's."""
    max_val: int | None = None
    max_test: int | None = None
    flip: bool | None = None
    """Whether a mirrored image keeps its class. None: as is known of the source, and yes for an image folder."""

    def __post_init__(self) -> None:
        _require(isinstance(self.source, str) and self.source != "", "source", "a name or a folder", self.source)
        _require(self.root is None or isinstance(self.root, str), "root", "a folder", self.root)
        _require(_is_int(self.image_size, 8, 4096), "image_size", "a whole number from 8 to 4096", self.image_size)
        _require(_is_int(self.split_seed, 0), "split_seed", "a whole number of at least 0", self.split_seed)
        _require(self.flip is None or isinstance(self.flip, bool), "flip", "true, false or null", self.flip)
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            _require(is_number and 0 < value < 1, name, "a number between 0 and 1", value)
        total = self.val_fraction + self.test_fraction
        _require(total < 1, "val_fraction + test_fraction", "less than 1, so that something is left to train on", total)
        for name in ("max_train", "max_val", "max_test"):
            value = getattr(self, name)
            _require(value is None or _is_int(value, 2), name, "a whole number of at least 2, or null", value)

    @property
    def is_folder(self) -> bool:
        return self.root is None and self.source != DIGITS


def _is_int(value: object, low: int, high: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _require(holds: bool, key: str, rule: str, value: object) -> None:
    if not holds:
        raise ConfigError("data", key, f"must be {rule}, got {describe(value)}")
