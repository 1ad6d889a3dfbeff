"""Studies of the smoke space with a cheap stand-in for training."""

from __future__ import annotations

import textwrap
from typing import Any, get_args

import optuna

from sret_nas import ArchConfig, Budget, SearchSpace, cost_of
from trials.integrations.optuna_sampler import StrategySampler, architecture
from trials.strategies.strategy import StrategyName

SMOKE = SearchSpace.load("smoke")
NAMES = get_args(StrategyName)
BUDGET = Budget(flops_max=10**9)


def error_of(arch: ArchConfig) -> float:
    """Returns a cheap stand-in for training."""
    return 1000 / cost_of(arch).params


def create_study(sampler: StrategySampler) -> optuna.Study:
    return optuna.create_study(directions=["minimize"] * len(sampler.spec.objectives), sampler=sampler)


def values_of(arch: ArchConfig) -> tuple[float, float]:
    return error_of(arch), float(cost_of(arch).flops)


def succeed(trial: optuna.Trial) -> tuple[float, float]:
    arch, _ = architecture(trial)
    return values_of(arch)


def usage(module: Any) -> str:
    """Returns the lines of code that a module's docstring shows."""
    blocks = [part for part in module.__doc__.split("\n\n") if part.startswith("    ")]
    assert len(blocks) == 1
    return textwrap.dedent(blocks[0])
