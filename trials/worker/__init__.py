"""What a worker does with a job. Read `evaluate.py` first: one architecture, end to end."""
