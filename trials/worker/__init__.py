"""Runs jobs in a worker. Read `evaluate.py` first: the evaluation of one architecture, end to end."""
