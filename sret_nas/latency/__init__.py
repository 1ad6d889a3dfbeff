"""Latency as one more cost that adds: profiles, tables, fits, and the networks that are fast enough."""
