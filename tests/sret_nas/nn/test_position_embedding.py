from __future__ import annotations

import torch

from sret_nas.nn.position_embedding import resize_position_embedding


def test_resizing_is_keys_cubic_convolution_along_each_side() -> None:
    """Keys (1981) with a = -3/4; pixel centres lie at i + 1/2. Away from the border, where the edge is repeated."""

    def kernel(distance: float) -> float:
        d, a = abs(distance), -0.75
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    row = torch.randn(8, generator=torch.Generator().manual_seed(0))
    resized = resize_position_embedding(row.expand(1, 2, 8, 8), 16, 16)
    for pixel in range(4, 12):
        centre = (pixel + 0.5) / 2 - 0.5
        expected = sum(kernel(centre - place) * value.item() for place, value in enumerate(row))
        torch.testing.assert_close(resized[..., pixel], torch.full((1, 2, 16), expected))
        transposed = resize_position_embedding(row.expand(1, 2, 8, 8).transpose(2, 3), 16, 16)
        torch.testing.assert_close(transposed[:, :, pixel], torch.full((1, 2, 16), expected))
