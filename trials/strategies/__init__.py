"""What proposes the next candidate, and which trials go on: see `strategy.py`, then `create.py`.

A strategy only ever proposes candidates that lie inside the budget and that it has not proposed before.
It is a pure function of its seed and of what it was told, in order: that is what makes a search resumable by replay.
"""
