"""Output for people: progress, tables, pictures, and the files of a run directory."""
