"""The best networks at every cost, of any score that adds over stages."""
