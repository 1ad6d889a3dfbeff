"""What is run: data, recipes, training, the evaluation of one architecture, strategies, engines, records, reports.

Read `evaluate.py` first (one architecture, end to end), then `search.py` (many).
"""
