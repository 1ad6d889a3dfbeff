"""Stems, residuals and heads to choose from: dimensions, counts, and what they are written as."""

from __future__ import annotations

from pathlib import Path

import pytest

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.space.search_space import SearchSpace
from sret_nas.yaml_files import dump_yaml
from tests.sret_nas.space.spelled_spaces import SMOKE, changed


def test_heads_to_choose_from_survive_yaml(tmp_path: Path) -> None:
    data = changed("head", value=["average", "distillation_token"])
    data["stages"][-1]["groups"] = [[1], [2]]
    space = SearchSpace.from_dict(data)
    (tmp_path / "space.yaml").write_text(dump_yaml(space.to_dict()))
    again = SearchSpace.load(tmp_path / "space.yaml")
    assert (again, again.digest, again.to_dict()) == (space, space.digest, data)
    assert space.dimensions()["head"] == ("average", "distillation_token")
    assert space.num_networks == 3 * 2 * (2 * 2 + 2)  # groups of 2 with the average alone
    with_tokens = space.network([0, 0, 0], head="distillation_token")
    assert space.encode(with_tokens)["head"] == "distillation_token"
    values = {**space.encode(with_tokens), "stage3.groups": "2"}
    assert space.decode(values) is None
    assert space.decode({**values, "head": "average"}) is not None
    one = SearchSpace.from_dict({**data, "head": ["average"]})
    assert (one.head, "head" in one.to_dict(), "head" in one.dimensions()) == (("average",), False, False)


def test_digests_do_not_depend_on_variants_that_came_later() -> None:
    """Supernets and profiles of latency are kept by them."""
    assert SearchSpace.load("sret_tiny").digest == "24340c0c8f34"
    assert not {"residual", "head"} & SMOKE.to_dict().keys()


@pytest.mark.parametrize("key", ["kind", "norm"])
def test_a_list_of_one_is_the_value_itself(key: str) -> None:
    one, listed = ({"kind": "conv", "norm": "layer"}, {"kind": ["conv"], "norm": ["layer"]})
    alone, of_one = (SearchSpace.from_dict(changed("stem", value=stem)) for stem in (one, one | {key: listed[key]}))
    assert of_one == alone
    assert (of_one.digest, of_one.to_dict()["stem"].get("norm")) == (alone.digest, "layer")
    assert not [name for name in of_one.dimensions() if name.startswith("stem")]


def test_residuals_to_choose_from_survive_yaml(tmp_path: Path) -> None:
    space = SearchSpace.from_dict(changed("residual", value=["plain", "path"]))
    assert space.to_dict()["residual"] == ["plain", "path"]
    (tmp_path / "space.yaml").write_text(dump_yaml(space.to_dict()))
    again = SearchSpace.load(tmp_path / "space.yaml")
    assert (again, again.digest) == (space, space.digest)
    assert space.dimensions()["residual"] == ("plain", "path")
    assert space.num_networks == 2 * SMOKE.num_networks
    one = SearchSpace.from_dict(changed("residual", value=["plain"]))
    assert one == SearchSpace.from_dict(changed("residual", value="plain"))
    assert one.to_dict()["residual"] == "plain"
    assert "residual" not in one.dimensions()
    assert SearchSpace.from_dict(changed("residual", value=["path"])).digest == SMOKE.digest
    stranger = ArchConfig.from_dict({**space.network([0, 0, 0]).to_dict(), "residual": "branch"})
    assert not space.contains(stranger)
    with pytest.raises(UserError, match="residual must be one of plain, path, got 'branch'"):
        space.decode({**space.encode(space.network([0, 0, 0])), "residual": "branch"})


def test_stems_to_choose_from_survive_yaml(tmp_path: Path) -> None:
    stem = {"width": [8, 12], "kind": ["conv", "patch"], "norm": ["none", "batch"]}
    space = SearchSpace.from_dict(changed("stem", value=stem))
    assert space.to_dict()["stem"] == stem | {"strides": [2, 2, 2]}
    (tmp_path / "space.yaml").write_text(dump_yaml(space.to_dict()))
    again = SearchSpace.load(tmp_path / "space.yaml")
    assert (again, again.digest) == (space, space.digest)
    assert again.digest != SMOKE.digest
    assert {name: values for name, values in space.dimensions().items() if name.startswith("stem")} == {
        f"stem.{name}": tuple(values) for name, values in stem.items()
    }
    assert space.num_networks == 5 * SMOKE.num_networks  # two widths with two norms, and patches


def test_a_stem_that_is_not_listed_is_not_in_the_space() -> None:
    space = SearchSpace.from_dict(changed("stem", value={"width": [8], "kind": ["conv", "patch"]}))
    member = space.network([0, 0, 0])
    for stem in (
        {"width": 9},
        {"width": 8, "norm": "layer"},
        {"width": 8, "strides": [2, 2, 1]},
        {"width": 8, "kind": "patch", "strides": [2, 2, 1]},
    ):
        stranger = ArchConfig.from_dict({**member.to_dict(), "stem": stem})
        assert not space.contains(stranger)
        with pytest.raises(UserError, match="is not in this search space"):
            space.encode(stranger)
    patches = ArchConfig.from_dict({**member.to_dict(), "stem": {"width": 77, "kind": "patch", "norm": "none"}})
    assert space.encode(patches)["stem.kind"] == "patch"
