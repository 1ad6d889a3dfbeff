"""The run directory: options, records, objectives, what is copied elsewhere."""
