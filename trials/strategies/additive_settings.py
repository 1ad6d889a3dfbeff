"""The tuned constants of the additive strategy, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass

from sret_nas.surrogate.model import MAX_FOR_VARIANCES

from .improvement import MAX_STEPS


@dataclass(frozen=True)
class AdditiveSettings:
    """How the additive strategy designs, models and chooses. The defaults are what every search uses."""

    max_start: int = 12
    """Candidates of the design, at most; from there on a model knows better."""
    min_labels: int = 6
    """Results below which nothing is modelled."""

    batch: int = 4
    """Proposals chosen at once, before the models are fitted anew, at least; so many because that usually runs."""
    labels_per_proposal: int = 50
    """Labels for which one more proposal is chosen at once: what a label teaches gets less with their number, and a
    model's cost does not. From 250 labels on that is more than `batch`."""
    candidates_per_proposal: int = 4
    """Front candidates required per proposal in batches larger than `batch`."""
    variations: int = 8
    """Variations of each of the best networks that are drawn where too few of those are left."""
    max_variation_rounds: int = 4
    """How often such variations are drawn for one batch."""

    front_draws: int = 1
    """Posterior draws whose fronts are searched, beside the mean's."""
    draws: int = 32
    """Posterior draws that improvement is averaged over."""
    temper: float = 0.4
    """How far draws lie from the posterior's mean, over how far they should: full draws explored too long
    (benchmarks/NOTES.md)."""
    max_from_front: int = 800
    """Networks of one front that improvement is computed for."""
    max_improvement_steps: int = MAX_STEPS
    """Labelled points that improvement looks at whether or not they are on the front."""

    max_labels: int = 2000
    """Labels that models are fitted to: of more, half are the last ones, and half are spread over those before. A fit
    takes memory as their number and time as its square, or cube."""
    refit_growth: float = 1.05
    """How many times the labels of the last time there must be for variances to be fitted, and models judged, anew."""
    refit_growth_of_many: float = 1.25
    """The same from `MAX_FOR_VARIANCES` labels on, of which variances see only so many."""
    min_standard_errors: float = 2.0
    """Standard errors by which slopes must predict what was left out better than effects alone: of noisy labels, more
    effects learn more noise."""

    bucket_width: float = 0.0015
    """The width of cost buckets where one cost matters."""
    bucket_widths_of_two: tuple[float, float] = (0.05, 0.1)
    """The widths of those of two costs; buckets that are narrow in both would be too many."""
    bucket_width_of_rich_stages: float = 0.008
    """The same as `bucket_width` where a stage has more than `MAX_CHOICES_LISTED` choices. Those are put into cells as
    wide as buckets, and pairs of buckets and cells are what planning takes its time for: it grows with the inverse
    square of the width."""
    min_buckets: int = 100
    """Buckets of one cost that a window with two sides is cut into, at least."""

    max_value: float = 1e100
    """What larger values are taken for, so that their squares can be summed."""

    def batch_of(self, num_labels: int) -> int:
        """Returns the number of proposals that are chosen at once where so many labels are known."""
        return max(self.batch, num_labels // self.labels_per_proposal)

    def is_refit_due(self, num_labels: int, judged_at: int) -> bool:
        """Whether variances are to be fitted anew, and models judged, after they were last at `judged_at` labels."""
        growth = self.refit_growth if num_labels <= MAX_FOR_VARIANCES else self.refit_growth_of_many
        return num_labels >= growth * judged_at
