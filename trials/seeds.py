"""Seeds derived from text, such as several numbers."""

from __future__ import annotations

import hashlib


def seed_from(text: str) -> int:
    """Returns a 64-bit seed: the first bytes of the text's SHA-256, so that similar texts give unrelated seeds."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
