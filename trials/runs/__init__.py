"""The run directory: the options of a search, and the records of what happened in it."""
