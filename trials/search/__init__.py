"""The search itself, from options to results."""
