"""Seeds made of several numbers."""

from __future__ import annotations

import hashlib


def seed_from(text: str) -> int:
    """Returns a seed of 64 bits; those of texts that differ in a digit have nothing in common."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
