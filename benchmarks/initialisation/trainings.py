"""Trains one network from one initialisation, as a trial does, and scores it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.initialisation.setting import Piece, network, recipe
from benchmarks.recorded import Line


def train_and_score(piece: Piece, data_dir: Path) -> Line:
    """Trains and scores one network in this process, on one thread. A training that diverges has no scores."""
    from benchmarks.initialisation.schemes import SCHEMES
    from sret_nas.nn.network import SReT
    from trials.data import PreparedData
    from trials.training.devices import compute_with
    from trials.training.recipe import DivergedError
    from trials.training.train import Training, recalibrate_batch_norm, score

    compute_with(1)
    began = time.process_time()
    data, config = PreparedData.open(data_dir), recipe(piece.images)
    model = SReT(network(piece.network, data))
    SCHEMES[piece.scheme].apply(model, piece.seed)
    training = Training(model, data, config, "full", piece.seed)
    line: Line = asdict(piece)
    try:
        training.run()
    except DivergedError:
        return {**line, "diverged": True}
    recalibrate_batch_norm(model, data.train, config.batch_size)
    val, test = (score(model, part, batch_size=250) for part in (data.val, data.test))
    return {
        **line,
        "train_loss": round(training.report.loss, 5),
        "val_error": val.error, "val_cross_entropy": round(val.cross_entropy, 5),
        "test_error": test.error, "test_cross_entropy": round(test.cross_entropy, 5),
        "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip
