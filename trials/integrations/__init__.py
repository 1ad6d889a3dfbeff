"""The strategies inside other people's scripts: as an Optuna sampler, and as a Ray Tune searcher.

Each module imports its own framework and is imported by nobody else here, so that neither is needed otherwise.
"""
