"""The tuned constants of the additive strategy, and the reason for each."""

from __future__ import annotations

from dataclasses import dataclass, field

from sret_nas.surrogate.ensemble import EnsembleSettings
from sret_nas.surrogate.model import MAX_FOR_VARIANCES

from .improvement import MAX_STEPS


@dataclass(frozen=True)
class AdditiveSettings:
    """Constants of the additive strategy's design, models and choices. Every search uses the defaults."""

    max_start: int = 12
    """Maximum size of the initial design; with more labels the model proposes better candidates."""
    min_labels: int = 6
    """Number of labels (results) from which on models are fitted."""

    batch: int = 4
    """Minimum number of proposals per fit; about as many trials usually run at once."""
    batch_of_table: int = 1
    """The same where networks are listed: all are described once, so that a fit and a choice take some 10 ms."""
    labels_per_proposal: int = 50
    """Labels per proposal in larger batches: more labels make a fit more expensive, and each label less informative.
    From 250 labels on this gives more than `batch`."""
    candidates_per_proposal: int = 4
    """Front candidates required per proposal in batches larger than `batch`."""
    max_neighbours: int = 600
    """Neighbours of the observed front among the candidates."""
    neighbours_of_best: int = 8
    """Neighbours drawn of each Pareto-optimal network if too few of these are open."""
    max_neighbour_rounds: int = 4
    """Maximum rounds of such neighbours per batch."""

    draws: int = 32
    """Posterior draws that improvement is averaged over."""
    ensemble: EnsembleSettings = field(default_factory=EnsembleSettings)
    """How the models' draws are made."""
    max_shortlist: int = 300
    """Candidates whose values are drawn together; of more, those that gain most by themselves."""
    draws_of_shortlist: int = 8
    """Draws that this gain is averaged over."""
    spare: int = 4
    """Candidates chosen beyond a batch, for those that turn out to have been asked before under another point."""
    flat_share: float = 0.5
    """Share of the size prior above which candidates are also drawn at random, spread over cost."""
    max_from_front: int = 800
    """Maximum number of candidates from one front."""
    max_improvement_steps: int = MAX_STEPS
    """Number of labelled points up to which improvement uses all, on the front or not."""

    max_labels: int = 2000
    """Maximum number of labels in a fit. Beyond it, half are the latest and half are spread over the earlier ones. The
    memory of a fit grows linearly with them, and its time with the square or cube."""
    refit_growth: float = 1.05
    """Growth of the number of labels after which variances are fitted and models compared again."""
    refit_growth_of_many: float = 1.25
    """The same beyond `MAX_FOR_VARIANCES` labels, of which the variances use only that number."""

    bucket_width: float = 0.0015
    """Relative width of cost buckets for one cost."""
    bucket_widths_of_two: tuple[float, float] = (0.05, 0.1)
    """The widths for two costs; narrower ones would give too many buckets."""
    bucket_width_of_rich_stages: float = 0.008
    """The width for one cost if a stage has more than `MAX_CHOICES_LISTED` choices. These are grouped into cells as
    wide as a bucket. The time grows with the pairs of buckets and cells, so with the inverse square of the width."""
    min_buckets: int = 100
    """Minimum number of buckets in a window that is bounded on both sides."""

    max_value: float = 1e100
    """Larger values are replaced by this one, whose square can be summed."""

    def batch_of(self, num_labels: int, *, is_listed: bool) -> int:
        """Returns the number of proposals per fit with `num_labels` labels, of listed networks or of a whole space."""
        return max(self.batch_of_table if is_listed else self.batch, num_labels // self.labels_per_proposal)

    def is_refit_due(self, num_labels: int, judged_at: int) -> bool:
        """Returns whether to fit variances and compare models again, which was last done at `judged_at` labels."""
        growth = self.refit_growth if num_labels <= MAX_FOR_VARIANCES else self.refit_growth_of_many
        return num_labels >= growth * judged_at
