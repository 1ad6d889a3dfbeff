"""Adapters of the strategies to other frameworks: an Optuna sampler and a Ray Tune searcher.

No other module imports these, so that the frameworks are needed only by their users.
"""
