"""Standardised features of points, which are never written out: most raw ones are 0."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.sparse import csr_array

from sret_nas.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class CentredFeatures:
    """Features (n, columns): those of the trend, then those of the effects, less `mean` and divided by `norm`.

    Attributes:
        trend: The columns of the trend as they are, shape (n, trend columns).
        effects: `EffectTerms.sparse`, shape (n, effect columns); None for a model without effects.
        mean: Means of the effect columns.
        norm: What they are divided by.
    """

    trend: FloatArray
    effects: csr_array | None
    mean: FloatArray
    norm: FloatArray

    def __len__(self) -> int:
        return len(self.trend)

    def __matmul__(self, weights: FloatArray) -> FloatArray:
        """Returns the product with weights of shape (columns,) or (columns, k)."""
        width = self.trend.shape[1]
        product: FloatArray = self.trend @ weights[:width]
        if self.effects is not None:
            scaled = (weights[width:].T / self.norm).T
            product = product + self.effects @ scaled - self.mean @ scaled
        return product

    def squares(self, prior: FloatArray) -> FloatArray:
        """Returns the variance of each point's value for independent weights of variances `prior`, shape (n,)."""
        width = self.trend.shape[1]
        total: FloatArray = self.trend**2 @ prior[:width]
        if self.effects is not None:
            scaled, summed = prior[width:] / self.norm**2, self.effects.copy()
            summed.sum_duplicates()
            squared = csr_array((summed.data**2, summed.indices, summed.indptr), shape=summed.shape)
            total = total + squared @ scaled - 2 * (summed @ (scaled * self.mean)) + scaled @ self.mean**2
        return total

    def gram(self, prior: FloatArray) -> FloatArray:
        """Returns the covariance of the points' values for independent weights of variances `prior`, shape (n, n)."""
        width = self.trend.shape[1]
        total: FloatArray = (self.trend * prior[:width]) @ self.trend.T
        if self.effects is not None:
            scaled = prior[width:] / self.norm**2
            own = self.effects @ (scaled * self.mean)
            total = total + self.effects @ (self.effects.toarray() * scaled).T
            total += scaled @ self.mean**2 - own[:, None] - own
        return total
