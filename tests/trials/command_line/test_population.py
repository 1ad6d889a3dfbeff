"""What the help says of `--population` is what strategies do with it."""

from __future__ import annotations

import pytest

from cli import main
from tests import REPOSITORY
from trials.strategies.additive import AdditiveStrategy
from trials.strategies.additive_settings import AdditiveSettings
from trials.strategies.conformance import middle, pretended
from trials.strategies.create import create_strategy

FEWEST, MOST = AdditiveSettings().min_labels, AdditiveSettings().max_start


def test_help_and_docs_name_the_bounds_of_additive(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert f"with additive at least {FEWEST} and at most {MOST}; random and stratified, which never learn" in printed
    docs = " ".join((REPOSITORY / "docs" / "integrations.md").read_text().split())
    assert f"With `additive` it is at least {FEWEST} and at most {MOST}." in docs


@pytest.mark.slow
@pytest.mark.parametrize(("population", "start"), [(2, FEWEST), (9, 9), (50, MOST)])
def test_additive_starts_with_a_design_within_these_bounds(population: int, start: int) -> None:
    strategy = create_strategy("additive", middle(), ("error", "flops"), seed=0, population=population)
    assert isinstance(strategy, AdditiveStrategy)
    origins = []
    while not origins or origins[-1] == "design":
        candidate = strategy.ask()
        assert candidate is not None
        origins.append(strategy.origin)
        strategy.tell(candidate, pretended(candidate))
    assert len(origins) == start + 1
