"""The Bayesian model that predicts accuracy as a sum of effects."""
