"""The trials of a search: data, training, strategies, engines, records and reports.

Read `worker/evaluate.py` first (one architecture, end to end), then `search/search.py` (many).
"""
