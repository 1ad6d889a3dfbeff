"""The public benchmarks as domains: parameters against built modules, counts and draws against listing everything."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from benchmarks.search.gpt import GPT, HW_GPT, VOCABULARY, GPTSpace, Perplexity
from benchmarks.search.gpt_domain import GPTDomain
from benchmarks.search.vit import AUTOFORMER, CLASSES, PiT, PiTDomain
from sret_nas.errors import BudgetError

TINY = GPTSpace(embeds=(8, 16), layers=(1, 2), heads=(1, 2, 4), mlp_ratios=(2, 3, 4))
ALL = list(GPTDomain(TINY))
HALF = GPTDomain(TINY, most=float(np.median([TINY.params(network) for network in ALL])))
RNG_SEEDS = range(3)


def size_of(modules: list[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def gpt_modules(network: GPT) -> list[nn.Module]:
    """Returns a GPT as HW-GPT-Bench builds it: heads of 64, output layer not shared, norms with biases in any case."""
    embed, bias = network.embed, network.bias
    modules: list[nn.Module] = [
        nn.Embedding(VOCABULARY, embed), nn.Linear(embed, VOCABULARY, bias=False), nn.LayerNorm(embed)
    ]  # fmt: skip
    for ratio, heads in zip(network.mlp_ratios, network.heads, strict=True):
        hidden = int(ratio * embed)
        modules += [nn.LayerNorm(embed), nn.LayerNorm(embed)]
        modules += [nn.Linear(embed, 3 * 64 * heads, bias=bias), nn.Linear(64 * heads, embed, bias=bias)]
        modules += [nn.Linear(embed, hidden, bias=bias), nn.Linear(hidden, embed, bias=bias)]
    return modules


def vit_block(width: int, ratio: float) -> list[nn.Module]:
    hidden = int(width * ratio)
    attention = [nn.Linear(width, 3 * width), nn.Linear(width, width)]
    return [nn.LayerNorm(width), nn.LayerNorm(width), *attention, nn.Linear(width, hidden), nn.Linear(hidden, width)]


def vit_ends(first: int, last: int) -> list[nn.Module]:
    """Returns a network's two ends, without tokens and positions."""
    return [nn.Conv2d(3, first, 16, 16), nn.LayerNorm(last), nn.Linear(last, CLASSES)]


@pytest.mark.parametrize("size", HW_GPT)
@pytest.mark.parametrize("seed", RNG_SEEDS)
def test_params_of_gpts_are_those_of_the_built_modules(size: str, seed: int) -> None:
    network = GPTDomain(HW_GPT[size]).draw(np.random.default_rng(seed))
    with torch.device("meta"):
        assert HW_GPT[size].params(network) == size_of(gpt_modules(network))


@pytest.mark.parametrize("seed", RNG_SEEDS)
def test_params_of_autoformers_are_those_of_the_built_modules(seed: int) -> None:
    network = GPTDomain(AUTOFORMER).draw(np.random.default_rng(seed))
    with torch.device("meta"):
        blocks = [module for ratio in network.mlp_ratios for module in vit_block(network.embed, ratio)]
        built = size_of(vit_ends(network.embed, network.embed) + blocks)
    assert AUTOFORMER.params(network) == built + (1 + 197) * network.embed  # token; positions of 14 x 14 and the token


@pytest.mark.parametrize("heads", [(2, 2, 2), (2, 4, 8), (4, 8, 8)])
def test_params_of_pits_are_those_of_the_built_modules(heads: tuple[int, ...]) -> None:
    network = PiT(24, 6, (2, 4, 6), heads)
    widths = [24 * number for number in heads]
    with torch.device("meta"):
        modules = vit_ends(widths[0], widths[-1])
        for width, depth in zip(widths, network.depth, strict=True):
            modules += [module for _ in range(depth) for module in vit_block(width, 6)]
        for width, wider in pairwise(widths):
            modules += [nn.Conv2d(width, wider, 3, groups=width), nn.Linear(width, wider)]
        built = size_of(modules)
    assert PiTDomain().costs(network) == (built + (1 + 27 * 27) * widths[0],)


def test_one_network_by_hand() -> None:
    space = GPTSpace((8,), (1,), (1,), (2,), (True,))
    # Outside 2 x 50,254 x 8 + 16, norms 32, attention (8 + 1) x 192 and (64 + 1) x 8, MLP (8 + 1) x 16 and (16 + 1) x 8
    assert space.params(GPT(8, True, (2,), (1,))) == 804_080 + 32 + 1_728 + 520 + 144 + 136


@pytest.mark.parametrize("domain", [GPTDomain(TINY), GPTDomain(AUTOFORMER), PiTDomain()], ids=["gpt", "vit", "pit"])
def test_costs_of_the_chain_are_the_candidates_and_spellings_lead_back(domain: GPTDomain | PiTDomain) -> None:
    rng = np.random.default_rng(0)
    networks = [domain.draw(rng) for _ in range(200)]
    points = [domain.point(network) for network in networks]  # type: ignore[arg-type]
    costs = [domain.costs(network) for network in networks]  # type: ignore[arg-type]
    assert domain.chain.costs(points).tolist() == [list(cost) for cost in costs]
    assert [domain.candidate(point) for point in points] == networks
    assert [domain.decode(domain.encode(network)) for network in networks] == networks  # type: ignore[arg-type]


def test_levels_lead_back_and_have_the_same_params() -> None:
    levels = np.array([TINY.levels(network) for network in ALL])
    assert [TINY.network(tuple(row)) for row in levels.tolist()] == ALL
    assert TINY.params_of_levels(levels).tolist() == [TINY.params(network) for network in ALL]


def test_counts_are_those_of_listing_everything() -> None:
    assert len(set(ALL)) == len(ALL) == TINY.num_networks == 2 * 2 * (9 + 81)
    assert GPTDomain(TINY).count == len(ALL)
    inside = [network for network in ALL if TINY.params(network) <= HALF.bounds[0][1]]
    assert list(HALF) == inside
    assert HALF.count == len(inside) < len(ALL)


def test_excess_is_zero_inside_and_the_share_outside() -> None:
    network = ALL[0]
    params = TINY.params(network)
    assert GPTDomain(TINY, params, params).excess(network) == 0
    assert GPTDomain(TINY, most=params + 1).excess(network) == 0
    assert GPTDomain(TINY, least=1.5 * params).excess(network) == pytest.approx(0.5)
    domain = GPTDomain(TINY, most=min(map(TINY.params, ALL)))
    most_expensive = max(ALL, key=TINY.params)
    assert domain.excess(most_expensive) == pytest.approx(TINY.params(most_expensive) / domain.bounds[0][1] - 1)


def test_a_budget_without_networks_is_refused() -> None:
    with pytest.raises(BudgetError, match="no network of the space has 0 to 10 parameters"):
        GPTDomain(TINY, most=10)


@pytest.mark.parametrize("domain", [HALF, GPTDomain(GPTSpace((8,), (3,), (1, 2, 4), biases=(True,)))])
def test_draws_are_uniform(domain: GPTDomain) -> None:
    rng, number = np.random.default_rng(0), 12 * int(domain.count)
    drawn = Counter(domain.draw(rng) for _ in range(number))
    assert set(drawn) <= set(domain)
    assert chisquare([drawn[network] for network in domain]).pvalue > 0.01


@pytest.mark.slow
def test_stratified_draws_are_uniform_in_strata_that_get_equally_many() -> None:
    rng, strata = np.random.default_rng(0), HALF.strata
    number = 600 * len(strata)
    drawn = Counter(HALF.draw_stratified(rng, number, "params"))
    ends = [(cells.params.min(), cells.params.max()) for cells in strata]
    assert all(high < low for (_, high), (low, _) in pairwise(ends))
    assert len(strata) > 3
    for (low, high), cells in zip(ends, strata, strict=True):
        members = [network for network in HALF if low <= TINY.params(network) <= high]
        assert len(members) == cells.count.sum()
        assert sum(drawn[network] for network in members) == 600
        assert len(members) == 1 or chisquare([drawn[network] for network in members]).pvalue > 0.005


def test_heads_and_ratios_of_uneven_steps_are_counted() -> None:
    uneven = GPTSpace((8,), (2,), (2, 4, 5), (2, 3, 4))
    params = Counter(uneven.params(network) for network in GPTDomain(uneven))
    cells = GPTDomain(uneven).strata
    counted: Counter[int] = Counter()
    for group in cells:
        for cost, count in zip(group.params.tolist(), group.count.tolist(), strict=True):
            counted[cost] += round(count)
    assert counted == params


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Returns random weights in the benchmark's format, for spaces of two layers."""
    torch.manual_seed(0)
    sizes = [(20, 128), *[(128, 128)] * 3, (128, 1)]
    layers = {f"fc{at}": nn.Linear(*size) for at, size in enumerate(sizes, 1)}
    torch.save({f"{n}.{k}": v for n, m in layers.items() for k, v in m.state_dict().items()}, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_the_predictor_is_the_network_that_the_weights_describe(weights: Path) -> None:
    space = GPTSpace((8, 16, 32), (1, 2, 2), (1, 2, 4))
    network = GPT(16, False, (4,), (2,))
    # embed 16 of three; 1 layer of three entries; MLP: the third, absent; heads: the second, absent; bias: no
    one_hot = [0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    levels = np.array([space.levels(network)])
    predictor = Perplexity(space, weights)
    assert predictor.one_hot(levels).tolist() == [one_hot]
    hidden = torch.tensor(one_hot, dtype=torch.float32)
    state = torch.load(weights, weights_only=True)
    for at in range(1, 6):
        hidden = nn.functional.linear(hidden, state[f"fc{at}.weight"], state[f"fc{at}.bias"])
        hidden = hidden.relu() if at < 5 else hidden
    assert predictor(levels).tolist() == pytest.approx(hidden.tolist(), rel=1e-5)
