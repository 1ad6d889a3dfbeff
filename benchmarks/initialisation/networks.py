"""Trains networks of `sret_tiny` from several initialisations: is what two small networks say true of a space?"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.initialisation.plan import ALL_TORCH_SCALED, FINALISTS, TORCH_SCALED
from benchmarks.recorded import Line
from benchmarks.recursion.train_table import NUM_VAL, PROXY, networks_of_table
from trials.data import DataConfig, PreparedData, prepare

NETWORKS = (17, 24, 1, 3, 6, 9, 12, 13, 20, 18, 10, 5, 14, 0)
"""Numbers in the table of `benchmarks/recursion`: the first two are those that its second training moved most."""
LARGE = (17, 3, 12, 18)
"""Those of at least 700 MFLOPs in which PyTorch's defaults were worst against the old rule; with network 24, those in
which PyTorch's convolutions are tried with scaled outputs."""
OTHERS = (2, 41, 29, 25, 47, 32)
"""Others, evenly spread over the logarithm of FLOPs, by which no rule was chosen: they are trained for longer."""
SHORT, LONG = PROXY.training.images, 100_000
PLAN = [
    *((number, 0, scheme, SHORT) for number in NETWORKS for scheme in FINALISTS),
    *((number, 0, TORCH_SCALED, SHORT) for number in NETWORKS),
    *((number, 0, ALL_TORCH_SCALED, SHORT) for number in (*LARGE, 24)),
    *((number, 1, scheme, LONG) for number in OTHERS for scheme in ("torch", TORCH_SCALED)),
]
"""Number, seed, scheme and training images of each training."""


def prepared(source: str, directory: Path) -> PreparedData:
    """Prepares CIFAR-10 as for the table of `benchmarks/recursion`."""
    config = DataConfig(source=source, image_size=PROXY.image_size, max_val=NUM_VAL)
    return prepare(config, directory.absolute())


def train_and_score(number: int, seed: int, scheme: str, images: int, data_dir: Path) -> Line:
    """Trains a network's proxy in this process, on one thread, and scores it on the validation part."""
    from benchmarks.initialisation.schemes import SCHEMES
    from sret_nas.arch.cost import cost_of
    from sret_nas.nn.network import SReT
    from trials.training.devices import compute_with
    from trials.training.recipe import proxy_arch
    from trials.training.train import Training, recalibrate_batch_norm, score

    compute_with(1)
    began = time.process_time()
    data, target = PreparedData.open(data_dir), networks_of_table(60)[number]
    recipe = PROXY.training.model_copy(update={"images": images})
    network = SReT(proxy_arch(target, PROXY, channels=data.channels, classes=data.num_classes))
    SCHEMES[scheme].apply(network, seed)
    training = Training(network, data, recipe, "full", seed)
    training.run()
    recalibrate_batch_norm(network, data.train, recipe.batch_size)
    val = score(network, data.val, batch_size=250)
    return {
        "number": number, "seed": seed, "scheme": scheme, "images": images, "flops": cost_of(target).flops,
        "train_loss": round(training.report.loss, 4), "val_cross_entropy": round(val.cross_entropy, 4),
        "val_error": val.error, "cpu_seconds": round(time.process_time() - began),
    }  # fmt: skip
