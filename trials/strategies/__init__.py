"""Search strategies, which propose the next candidate, and early stopping. Read `strategy.py`, then `create.py`.

A strategy proposes only candidates inside the budget, each once. Its proposals depend only on its seed and the sequence
of calls of `ask` and `tell`, so a search can be resumed by replay.
"""
