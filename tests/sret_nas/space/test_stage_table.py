"""Tables of a stage's distinct choices, and their costs in bulk."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.bulk_cost import bulk_cost
from sret_nas.arch.cost import cost_of
from sret_nas.space import stage_table
from sret_nas.space.search_space import SearchSpace, shipped_spaces
from sret_nas.space.stage_table import StageTable
from tests.sret_nas.space.spelled_spaces import SMOKE


class TestStageTables:
    @pytest.mark.parametrize("name", sorted(shipped_spaces()))
    def test_rows_are_their_stages(self, name: str) -> None:
        rng = random.Random(0)
        for table in SearchSpace.load(name).stage_tables:
            rows = [rng.randrange(len(table)) for _ in range(30)]
            for row in rows:
                stage = table.stage(row)
                assert stage == stage.canonical(table.num_tokens)
                assert table.row_of(stage) == row
                for column in ("width", "blocks", "recursions", "mlp_hidden", "num_nlls"):
                    assert getattr(table.columns, column)[row] == getattr(stage, column)
                assert table.columns.groups[row, : stage.recursions].tolist() == list(stage.groups)

    @pytest.mark.parametrize("name", sorted(shipped_spaces()))
    def test_bulk_cost_equals_the_cost_of_each(self, name: str) -> None:
        space, rng = SearchSpace.load(name), np.random.default_rng(0)
        picks = np.stack([rng.integers(len(table), size=40) for table in space.stage_tables], axis=1)
        networks = [space.network(rows) for rows in picks.tolist()]
        columns = [
            type(table.columns)(**{key: value[picks[:, stage]] for key, value in vars(table.columns).items()})
            for stage, table in enumerate(space.stage_tables)
        ]
        stem_width = np.array([arch.stem.width for arch in networks])
        flops, params = bulk_cost(
            columns, networks[0].stem, space.image_size, space.channels, space.classes, stem_width
        )
        assert flops.tolist() == [cost_of(arch).flops for arch in networks]
        assert params.tolist() == [cost_of(arch).params for arch in networks]

    def test_stages_are_made_once_but_a_large_table_does_not_keep_them_all(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stage_table, "MAX_KEPT_STAGES", 2)
        table = StageTable(SMOKE.stages[0], SMOKE.num_tokens[0])
        first, second, third = (table.stage(row) for row in range(3))
        assert table.stage(0) is first
        assert table.stage(1) is second
        assert table.stage(2) is not third
        assert table.stage(2) == third

    def test_row_of_a_stranger(self) -> None:
        table = SMOKE.stage_tables[0]
        member = table.stage(0)
        assert table.row_of(member.model_copy(update={"blocks": 3})) is None
        longer = member.model_copy(update={"recursions": 5, "groups": (4, 1, 1, 1, 1)})
        assert table.row_of(longer) is None

    def test_the_stem_is_half_as_wide_as_the_first_stage_but_never_without_a_channel(self) -> None:
        stage = {
            "width": [1, 2, 3, 4, 5], "heads": [1], "blocks": [1], "recursions": [1], "groups": [[1]],
            "loop": ["internal"], "nll": ["none"], "nll_ratio": [1.0], "mlp_ratio": [1.0],
        }  # fmt: skip
        space = SearchSpace.from_dict({"name": "narrow", "stages": [stage]})
        stems = {(arch.stages[0].width, arch.stem.width) for arch in (space.network([row]) for row in range(5))}
        assert stems == {(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)}

    def test_a_rich_stage_is_tabled(self) -> None:
        """A stage of 1e5 spellings; its distinct rows follow from one factor per dimension, all of them independent."""
        stage = {
            "width": list(range(40, 90, 2)), "heads": [1, 2], "blocks": list(range(2, 22)), "recursions": [2],
            "loop": ["internal", "external"], "groups": [[8, 2], [4, 1], [1]], "nll": ["every", "none"],
            "nll_ratio": [1.0], "mlp_ratio": [1.0, 1.0001, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0001],
        }  # fmt: skip
        space = SearchSpace.from_dict({"name": "rich", "stages": [stage]})
        assert space.stages[0].num_spellings == 25 * 2 * 20 * 2 * 3 * 2 * 8
        assert space.num_networks == 25 * 2 * 20 * 2 * 3 * 2 * 6  # 1.0001 and 4.0001 are 1 and 4 at these widths
