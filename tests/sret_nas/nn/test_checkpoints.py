"""Checkpoints from outside: tensors whose values are not in the file are refused, wherever they are hidden."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from sret_nas.errors import UserError
from sret_nas.nn.checkpoints import read_checkpoint


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(2**40), torch.zeros(2, 3).to_sparse(), torch.zeros(3, device="meta"),
    ],
    ids=["one value a trillion times", "sparse", "without values"],
)  # fmt: skip
@pytest.mark.parametrize(
    "hide", [lambda tensor: tensor, lambda tensor: {"a": [{"weight": tensor}]}, lambda tensor: {"a": (1, tensor)}]
)
def test_a_tensor_that_is_not_stored_is_refused(tensor: torch.Tensor, hide: Any, tmp_path: Path) -> None:
    torch.save(hide(tensor), tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"c\.pt: .* must be a plain tensor with all its values in the file"):
        read_checkpoint(tmp_path / "c.pt")


def test_it_is_named_and_found_in_arguments_too(tmp_path: Path) -> None:
    torch.save({"args": Namespace(weight=torch.zeros(1).expand(9))}, tmp_path / "c.pt")
    with (
        torch.serialization.safe_globals([Namespace]),
        pytest.raises(UserError, match=r"c\.pt: 'weight' must be a plain tensor"),
    ):
        read_checkpoint(tmp_path / "c.pt")


def test_views_and_data_that_hold_themselves_are_read(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    content: dict[str, Any] = {"whole": whole, "turned": whole.T, "row": whole[1], "empty": whole[:0], "none": None}
    content["itself"] = content
    torch.save(content, tmp_path / "c.pt")
    read = read_checkpoint(tmp_path / "c.pt")
    assert read["itself"] is read
    assert all(torch.equal(read[name], content[name]) for name in ("whole", "turned", "row", "empty"))
