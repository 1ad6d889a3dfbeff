"""What a GPU makes of trainings, inference and searches."""
