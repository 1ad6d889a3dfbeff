"""What is timed for a profile of latency: parts that are a network's own, in order."""

from __future__ import annotations

import pytest
import torch

from sret_nas.latency.table import parts_of
from sret_nas.nn.layers import Block
from sret_nas.nn.network import SReT
from sret_nas.nn.part_timing import AttentionPart, HeadPart, MLPPart, PoolPart, StemPart, time_network, time_part
from tests.latency_profiles import SMALL
from tests.sret_nas.latency.small_networks import NETWORKS, parts_in_order

torch.set_num_threads(1)

CPU = torch.device("cpu")


def assembled(network: SReT) -> list[torch.nn.Module]:
    """Returns the network's parts in order, with the network's own layers in them."""
    modules: list[torch.nn.Module] = []
    queue: list[torch.nn.Module] = []
    for stage in network.stages:
        for block, recursion in stage.config.applications():  # type: ignore[union-attr,operator]
            queue.append(stage.blocks[block])  # type: ignore[index,arg-type]
            nll = stage.config.nll_after(recursion)  # type: ignore[union-attr,operator]
            queue += [] if nll is None else [stage.nlls[block][nll]]  # type: ignore[index,list-item]
    pools = iter(network.pools)
    for part in parts_in_order(network.arch):
        if part.kind == "stem":
            stem = StemPart(part.side, *part.sizes)
            stem.stem, stem.pos_embed = network.stem, network.pos_embed
            modules.append(stem)
        elif part.kind == "attention":
            block = queue[0]
            assert isinstance(block, Block)
            attention = AttentionPart(part.side, *part.sizes)
            attention.block = block
            modules.append(attention)
        elif part.kind == "mlp":
            owner, mlp = queue.pop(0), MLPPart(part.side, *part.sizes)
            is_block = isinstance(owner, Block)
            mlp.norm, mlp.mlp = owner.norm2 if is_block else owner.norm, owner.mlp  # type: ignore[assignment]
            mlp.coefficients = torch.nn.Parameter(owner.coefficients[-2:].detach())  # type: ignore[index]
            modules.append(mlp)
        elif part.kind == "pool":
            pool = PoolPart(part.side, *part.sizes)
            pool.conv = next(pools)  # type: ignore[assignment]
            modules.append(pool)
        else:
            head = HeadPart(part.side, *part.sizes)
            head.norm, head.head = network.norm, network.head
            modules.append(head)
    return modules


@pytest.mark.parametrize("number", range(0, 1024, 150))
def test_the_parts_in_a_row_are_the_network(number: int) -> None:
    """Nothing of a pass is left out, and nothing is timed twice. Attention's permutation is the network's own."""
    network = SReT(NETWORKS[number]).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    permutations = [
        network.stages[stage].get_buffer(f"permutation_{block}_{recursion}")
        for stage, block, recursion in network.permuted_applications()
    ]
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        values, parts = images, assembled(network)
        for part in parts:
            if isinstance(part, AttentionPart) and part.permuted:
                part.permutation = permutations.pop(0)
            values = part.eval()(values)
        torch.testing.assert_close(values, network(images))
    assert permutations == []


def test_every_part_of_a_space_can_be_timed_and_nothing_random_is_touched() -> None:
    generator = torch.get_rng_state()
    for part in parts_of(SMALL):
        seconds = time_part(part, 2, CPU, samples=2, passes=2)
        assert len(seconds) == 2
        assert 0 < min(seconds) < 10
    assert len(time_network(NETWORKS[0], 1, CPU, samples=3)) == 3
    assert torch.equal(torch.get_rng_state(), generator)
