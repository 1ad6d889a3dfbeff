"""The run directory: what a search was asked to do, and what is remembered of it."""
