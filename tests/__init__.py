"""Tests mirror the packages: a test of `trials/runs/records.py` is `tests/trials/runs/test_records.py`."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
