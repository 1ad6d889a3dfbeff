"""What may vary: a search space, and the space as a chain of stages whose costs add."""
