"""Where jobs run, what travels to workers and back, and what is tried again."""
