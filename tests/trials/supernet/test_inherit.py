"""Scores with cached features equal scores without, bit for bit."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.nn.supernet import Supernet
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from trials.data import DataConfig, PreparedData, prepare
from trials.supernet.inherit import FeatureCache, SubnetScorer, extract_for_eval
from trials.training.train import first_images, merge_scores, score

SPACE = SearchSpace.load("smoke").model_copy(update={"image_size": 32, "channels": 1, "classes": 10})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    torch.set_num_threads(1)
    return prepare(DataConfig(image_size=32, max_train=64, max_val=50), tmp_path_factory.mktemp("data"), None)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(bounding_shape(SPACE))
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return supernet


@pytest.fixture(scope="module")
def networks() -> list[ArchConfig]:
    """Returns all twelve networks, in an order that repeats first stages."""
    members = list(FeasibleSet(SPACE, Budget()))
    return [members[at] for at in np.random.default_rng(0).permutation(len(members))]


@pytest.mark.slow
def test_kept_features_change_no_bit_of_any_score(
    data: PreparedData, supernet: Supernet, networks: list[ArchConfig]
) -> None:
    scorer = SubnetScorer(supernet, data, batch_size=16)
    kept = [scorer.score(arch) for arch in networks]
    alone = [score(extract_for_eval(supernet, arch, data, 16), data.val, 16) for arch in networks]
    assert kept == alone
    assert len({each.cross_entropy for each in alone}) == len(networks)  # or equality would say little


@pytest.mark.slow
def test_features_are_not_shared_by_networks_with_other_stems_residuals_or_heads(data: PreparedData) -> None:
    stem = {"kind": ["conv", "patch"], "norm": ["batch", "layer"]}
    variants = {"stem": stem, "residual": ["path", "plain"], "head": ["average", "class_token"]}
    space = SearchSpace.from_dict({**SPACE.to_dict(), **variants})
    torch.manual_seed(0)
    supernet = Supernet(bounding_shape(space))
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    networks = [space.network([0, 0, 0], *one) for one in product(space.stem.stems, space.residual, space.head)]
    scorer = SubnetScorer(supernet, data, batch_size=16)
    kept = [scorer.score(arch) for arch in networks]
    assert kept == [score(extract_for_eval(supernet, arch, data, 16), data.val, 16) for arch in networks]
    assert len({each.cross_entropy for each in kept}) == len(networks) == 12


@pytest.mark.slow
def test_what_was_computed_once_is_not_computed_again(
    data: PreparedData, supernet: Supernet, networks: list[ArchConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = SubnetScorer(supernet, data, batch_size=50)
    ran: list[int] = []
    extract = Supernet.extract

    def counted(self: Supernet, arch: ArchConfig) -> object:
        network = extract(self, arch)
        network.embed = lambda images, run=network.embed: ran.append(-1) or run(images)  # type: ignore[method-assign,misc]
        run_stage = network.run_stage
        network.run_stage = lambda at, *given: ran.append(at) or run_stage(at, *given)  # type: ignore[func-returns-value,method-assign]
        return network

    monkeypatch.setattr(Supernet, "extract", counted)
    for arch in networks:
        scorer.score(arch)
    beginnings = [len({arch.canonical().stages[:number] for arch in networks}) for number in (1, 2)]
    assert [ran.count(at) for at in (-1, 0, 1, 2)] == [1, *beginnings, len(networks)]


def test_fewer_images_are_the_first_ones(data: PreparedData, supernet: Supernet, networks: list[ArchConfig]) -> None:
    few = SubnetScorer(supernet, data, batch_size=16, num_images=20).score(networks[0])
    assert few == score(extract_for_eval(supernet, networks[0], data, 16), first_images(data.val, 20), 16)


@pytest.mark.slow
def test_images_in_parts_score_as_all_of_them(
    data: PreparedData, supernet: Supernet, networks: list[ArchConfig]
) -> None:
    scorer = SubnetScorer(supernet, data, batch_size=16)
    for arch in networks[:3]:
        whole = scorer.score(arch)
        first = scorer.score(arch, 0, 5)
        second = merge_scores(first, scorer.part(0, 5), scorer.score(arch, 5, 20), scorer.part(5, 20))
        assert first == score(extract_for_eval(supernet, arch, data, 16), first_images(data.val, 5), 16)
        found = merge_scores(second, scorer.part(0, 20), scorer.score(arch, 20, 50), scorer.part(20, 50))
        assert found.error == whole.error
        assert found.cross_entropy == pytest.approx(whole.cross_entropy, rel=1e-6)
    assert scorer.num_images == 50


@pytest.mark.slow
def test_a_scorer_without_memory_scores_alike(
    data: PreparedData, supernet: Supernet, networks: list[ArchConfig]
) -> None:
    with_memory, without = (SubnetScorer(supernet, data, 16, cache_bytes=number) for number in (2**28, 0))
    assert [with_memory.score(arch) for arch in networks[:4]] == [without.score(arch) for arch in networks[:4]]


def test_features_that_do_not_fit_push_out_those_used_longest_ago() -> None:
    cache = FeatureCache(max_bytes=3 * 40)
    for name in "abc":
        cache.put(name, [torch.zeros(10)])
    assert cache.get("a") is not None
    cache.put("d", [torch.zeros(5), torch.zeros(5)])
    assert [name for name in "abcd" if cache.get(name) is not None] == ["a", "c", "d"]
    cache.put("too large", [torch.zeros(31)])
    assert cache.get("too large") is None
    assert len(cache) == 3
