# ruff: noqa: E501 - the table of wrong inputs holds whole messages
"""Search spaces with something wrong, or too much of it: what is said."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from sret_nas.errors import ConfigError
from sret_nas.space.choices import MAX_SPELLINGS, STAGE_DIMENSIONS
from sret_nas.space.search_space import SearchSpace
from tests.sret_nas.space.spelled_spaces import SMOKE, changed, every_spelling

WRONG = [
    (("stages", 0, "width"), 64, "stages[0].width: must be a list of choices, got 64; a single choice is a list of one: [64]"),
    (("stages", 0, "nll"), "every", "stages[0].nll: must be a list of choices, got 'every'; a single choice is a list of one: ['every']"),
    (("stages", 0, "heads"), [2, 5], "stages[0].heads[1]: 5 is in no legal network: heads must divide width, and widths are [24]"),
    (("stages", 0, "width"), [24, 25], "stages[0].width[1]: 25 is in no legal network: heads must divide width and ratio * width be at least 1, and heads are [2], nll_ratio [1.0], mlp_ratio [2.0]"),
    (("stages", 0, "mlp_ratio"), [2.0, 0.01], "stages[0].mlp_ratio[1]: 0.01 is in no legal network: mlp_ratio * width must be at least 1, and widths are [24]"),
    (("stages", 0, "nll_ratio"), [0.01], "stages[0].nll_ratio[0]: 0.01 is in no legal network: nll_ratio * width must be at least 1, and widths are [24]"),
    (("stages", 0, "groups"), [4, 1], "stages[0].groups[0]: must be a schedule, one number per recursion, got 4; [4] repeats it (and 1 more)"),
    (("stages", 0, "groups"), [[4], [4, 4]], "stages[0].groups: must list every schedule once, got [4] and [4, 4], which mean the same because the last number is repeated"),
    (("stages", 0, "groups"), [[4, 1], [2], [4, 1]], "stages[0].groups: must list every choice once, got [4, 1] twice"),
    (("stages", 0, "groups"), [[0]], "stages[0].groups[0][0]: must be greater than or equal to 1, got 0"),
    (("stages", 0, "blocks"), [1, 2, 2], "stages[0].blocks: must list every choice once, got 2 twice"),
    (("stages", 0, "mlp_ratio"), [2, 2.0], "stages[0].mlp_ratio: must list every choice once, got 2.0 twice"),
    (("stages", 0, "mlp_ratio"), [], "stages[0].mlp_ratio: must have at least 1 item, got 0"),
    (("stages", 0, "loop"), ["inner"], "stages[0].loop[0]: must be 'internal' or 'external', got 'inner'"),
    (("stages", 1, "recursions"), [0], "stages[1].recursions[0]: must be greater than or equal to 1, got 0"),
    (("stages", 1, "recursions"), [True], "stages[1].recursions[0]: must be a whole number, got True"),
    (("stages", 1, "dropout"), [0.1], "stages[1].dropout: unknown key (known here: width, heads, blocks, recursions, groups, loop, nll, nll_ratio, mlp_ratio, permute, inverse, permute_single)"),
    (("stages",), [], "stages: must have at least 1 item, got 0"),
    (("stem", "width"), 32, "stem.width: must be a list of choices, got 32; a single choice is a list of one: [32]"),
    (("stem", "width"), [32, 32], "stem.width: must list every choice once, got 32 twice"),
    (("stem", "strides"), [2, 2, 3], "stem: strides of 3x3 convolutions must be 1 or 2, got [2, 2, 3]; a stem of kind patch may have 4"),
    (("stem",), {"kind": ["conv", "patch"], "strides": [2, 2, 3]}, "stem: strides of 3x3 convolutions must be 1 or 2, got [2, 2, 3]; a stem of kind patch may have 4"),
    (("stem",), {"kind": "patch", "strides": [2, 2, 3]}, "stem.strides[2]: must be 1, 2 or 4, got 3"),
    (("stem", "strides"), [2, 2, "2"], "stem.strides[2]: must be 1, 2 or 4, got '2'"),
    (("stem", "strides"), [2, 2, 4], "stem: strides of 3x3 convolutions must be 1 or 2, got [2, 2, 4]; a stem of kind patch may have 4"),
    (("stem",), {"kind": "patch", "norm": "none"}, "stem: a stem of kind patch has no norm, got none"),
    (("stem",), {"kind": "patch", "width": [8]}, "stem: a stem of kind patch has no width, got [8]"),
    (("stem",), {"kind": ["patch"], "norm": ["layer", "none"]}, "stem: a stem of kind patch has no norm, got ['layer', 'none']"),
    (("stem",), {"kind": ["patch", "conv"], "strides": [4, 2, 2]}, "stem: strides of 3x3 convolutions must be 1 or 2, got [4, 2, 2]; a stem of kind patch may have 4"),
    (("stem", "kind"), "conf", "stem.kind: must be 'conv' or 'patch', got 'conf'"),
    (("stem", "kind"), 3, "stem.kind: must be 'conv' or 'patch', got 3"),
    (("stem", "kind"), ["conv", "conf"], "stem.kind[1]: must be 'conv' or 'patch', got 'conf'"),
    (("stem", "kind"), [["conv"]], "stem.kind[0]: must be 'conv' or 'patch', got ['conv']"),
    (("stem", "kind"), ["conv", "patch", "conv"], "stem.kind: must list every choice once, got conv twice"),
    (("stem", "norm"), [], "stem.norm: must have at least 1 item, got 0"),
    (("stem", "norm"), None, "stem.norm: must be 'batch', 'layer' or 'none', got None"),
    (("stages", 0, "permute"), True, "stages[0].permute: must be a list of choices, got True; a single choice is a list of one: [True]"),
    (("stages", 0, "permute"), [False, False], "stages[0].permute: must list every choice once, got false twice"),
    (("residual",), ["plain", "plane"], "residual[1]: must be 'path', 'branch' or 'plain', got 'plane'"),
    (("residual",), "plane", "residual: must be 'path', 'branch' or 'plain', got 'plane'"),
    (("residual",), ["plain", "path", "plain"], "residual: must list every choice once, got plain twice"),
    (("residual",), [], "residual: must have at least 1 item, got 0"),
    (("head",), "token", "head: must be 'average', 'class_token' or 'distillation_token', got 'token'"),
    (("head",), ["average", "token"], "head[1]: must be 'average', 'class_token' or 'distillation_token', got 'token'"),
    (("head",), ["average", "average"], "head: must list every choice once, got average twice"),
    (("head",), [], "head: must have at least 1 item, got 0"),
    (("depth_schedules",), ["deep"], "depth_schedules[0]: must be 'full', 'joint', 'sandwich', 'random' or 'growing', got 'deep'"),
    (("depth_schedules",), ["full", "full"], "depth_schedules: must list every choice once, got full twice"),
    (("drop_path",), 1, "drop_path: must be less than 1, got 1"),
    (("drop_path",), "0.1", "drop_path: must be a number, got '0.1'"),
    (("image_size",), "224", "image_size: must be a whole number, got '224'"),
    (("image_size",), "1e2", "image_size: must be a whole number, got '1e2', which is text in YAML: write 100"),
    (("image_size",), "1e-2", "image_size: must be a whole number, got '1e-2'"),
    (("image_size",), "1e999", "image_size: must be a whole number, got '1e999'"),
    (("drop_path",), "1E-5", "drop_path: must be a number, got '1E-5', which is text in YAML: write 0.00001"),
    (("drop_path",), "nine", "drop_path: must be a number, got 'nine'"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[message[:50] for _, _, message in WRONG])
def test_what_is_wrong_is_explained(path: tuple[str | int, ...], value: Any, message: str) -> None:
    data = changed(*path, value=value)
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(data, "mine.yaml")
    assert re.sub(r" \(and \d+ more\)$", "", str(caught.value)) == "mine.yaml: " + re.sub(
        r" \(and \d+ more\)$", "", message
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": [[1], [2, 1]]}, "head class_token needs attention over all tokens in the last stage, groups: [[1]], got [[1], [2, 1]]"),
        ({"inverse": [True, False], "permute_single": [True]}, "head class_token needs tokens that keep their places in the last stage, got permute_single: true and inverse: false"),
    ],
)  # fmt: skip
def test_class_tokens_need_a_last_stage_that_sees_all_tokens(changes: dict[str, Any], message: str) -> None:
    data = SMOKE.to_dict()
    data["stages"][-1] |= changes
    data["head"] = "class_token"
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(data, "mine.yaml")
    assert str(caught.value) == f"mine.yaml: {message}"


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": [[2, 1], [1000]]},
        {"recursions": [2], "groups": [[1, 2]]},
        {"recursions": [2, 3], "groups": [[1]], "permute": [True], "inverse": [False], "permute_single": [True]},
    ],
)
def test_class_tokens_beside_the_average_need_some_last_stage_that_sees_all_tokens(changes: dict[str, Any]) -> None:
    data = SMOKE.to_dict()
    data["stages"][-1] |= changes
    data["head"] = ["average", "class_token"]
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(data, "mine.yaml")
    assert str(caught.value) == (
        "mine.yaml: head[1]: class_token is in no legal network: it needs attention over all tokens, in their places, "
        f"in the last stage, such as groups: [1], got {data['stages'][-1]['groups']}"
    )
    data["stages"][-1] |= {"recursions": [1, 2], "groups": [[1, 2]]}
    with_some = SearchSpace.from_dict(data)
    heads = {(arch.head, arch.stages[-1].recursions) for arch in every_spelling(with_some) if arch is not None}
    assert heads == {("average", 1), ("average", 2), ("class_token", 1)}


def test_a_stage_too_rich_to_be_tabled() -> None:
    stage = SMOKE.to_dict()["stages"][0] | {
        "width": list(range(2, 2002, 2)), "blocks": list(range(1, 129)), "recursions": [1, 2, 3, 4]
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(changed("stages", 0, value=stage), "mine.yaml")
    assert str(caught.value) == (
        f"mine.yaml: stages[0]: a stage must spell at most {MAX_SPELLINGS:,} combinations, got {1000 * 128 * 4 * 2:,}; "
        "list fewer values"
    )


def test_two_stages_with_too_many_pairs_of_widths() -> None:
    """Counting goes through all pairs, and takes memory for each."""
    stages = [SMOKE.to_dict()["stages"][0] | {"width": list(range(8, 8 * (most + 1), 8))} for most in (101, 100)]
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(SMOKE.to_dict() | {"stages": stages}, "mine.yaml")
    assert str(caught.value) == (
        "mine.yaml: stages[0] and stages[1] must have at most 10,000 pairs of widths, got 101 x 100; list fewer widths"
    )
    stages[0]["width"] = stages[1]["width"]
    assert SearchSpace.from_dict(SMOKE.to_dict() | {"stages": stages}).stages[0].width[-1] == 800


def test_stages_too_rich_together() -> None:
    stage = SMOKE.to_dict()["stages"][0] | {"width": list(range(2, 602, 2)), "blocks": list(range(1, 129))}
    spelled = SearchSpace.from_dict(SMOKE.to_dict() | {"stages": [stage]}).stages[0].num_spellings
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(SMOKE.to_dict() | {"stages": [stage] * 8}, "mine.yaml")
    assert str(caught.value) == (
        f"mine.yaml: the stages must spell at most {MAX_SPELLINGS:,} combinations together, got {8 * spelled:,}; "
        "list fewer values"
    )


@pytest.mark.parametrize("key", ["name", "stages"])
def test_what_is_missing(key: str) -> None:
    data = SMOKE.to_dict()
    del data[key]
    with pytest.raises(ConfigError, match=f"^mine.yaml: {key}: is missing$"):
        SearchSpace.from_dict(data, "mine.yaml")


@pytest.mark.parametrize("key", STAGE_DIMENSIONS)
def test_every_key_of_a_stage_is_required(key: str) -> None:
    data = copy.deepcopy(SMOKE.to_dict())
    del data["stages"][1][key]
    with pytest.raises(ConfigError, match=rf"^mine.yaml: stages\[1\].{key}: is missing$"):
        SearchSpace.from_dict(data, "mine.yaml")
