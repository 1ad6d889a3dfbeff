"""Loads a table of SReT-Bench: the standard library is all it needs, so copy it beside the files if you like."""

import gzip
import json


def load(path):
    """Returns how a table was made, and its lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        first, *lines = map(json.loads, file)
    return first["header"], lines
