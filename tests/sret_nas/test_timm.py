"""SReTs as models of timm: by name, by architecture, from a directory, and in a script written against timm."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import group_parameters, list_models
from timm.optim import create_optimizer_v2
from torchvision.models.feature_extraction import create_feature_extractor

import sret_nas.timm
from sret_nas import PRESETS, SReT, UserError
from sret_nas.arch.config import ArchConfig
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, write_model
from sret_nas.yaml_files import dump_yaml
from tests.counted_spaces import space_of

torch.set_num_threads(1)

ARCH = space_of(
    {"width": [8], "heads": [2], "blocks": [2], "recursions": [2], "groups": [[4, 2]], "nll": ["every"]},
    {"width": [16], "heads": [2], "recursions": [3], "nll": ["last"]},
).network([0, 0])
INFO = ModelInfo(preprocessing=Preprocessing(image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3))


def images(count: int = 2, size: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def model(**given: object) -> SReT:
    torch.manual_seed(0)
    created = timm.create_model("sret", arch=ARCH.to_dict(), **given)
    assert isinstance(created, SReT)
    return created.eval()


def test_every_preset_and_any_architecture_are_registered() -> None:
    assert {*PRESETS, "sret"} == set(sret_nas.timm.MODELS)
    assert {*PRESETS, "sret"} <= set(list_models())
    assert timm.create_model("sret_t", img_size=32, num_classes=5).arch.stages == PRESETS["sret_t"].stages


def test_a_network_with_class_tokens_has_two_heads_and_its_own_first_layer() -> None:
    stages = [{**ARCH.to_dict()["stages"][0], "groups": [1, 1]}]
    stem = {"kind": "patch", "strides": [2, 2, 2]}
    arch = {**ARCH.to_dict(), "stages": stages, "stem": stem, "head": "distillation_token", "image_size": 32}
    created = timm.create_model("sret", arch=arch, in_chans=1)
    cfg = created.default_cfg
    assert (cfg["first_conv"], cfg["classifier"]) == ("stem.proj", ("head", "head_dist"))
    assert created(images(channels=1)).shape == (2, 10)
    features = timm.create_model("sret", arch=arch, num_classes=0).eval()
    assert features(images()).shape == (2, 8)
    assert timm.create_model("deit_tiny_x2", img_size=32, num_classes=5).default_cfg["classifier"] == "head"


def test_an_architecture_comes_as_data_or_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text(dump_yaml({"architecture": ARCH.to_dict()}))
    assert timm.create_model("sret", arch=str(tmp_path / "best.yaml")).arch == model().arch == ARCH
    with pytest.raises(UserError, match="needs an architecture"):
        timm.create_model("sret")
    for size in ((32, 64), [32, 64]):
        with pytest.raises(UserError, match="must be square"):
            model(img_size=size)
    assert model(img_size=[64, 64]).arch.image_size == model(img_size=(64, 64)).arch.image_size == 64


def test_the_factory_s_arguments_change_what_they_name() -> None:
    changed = model(num_classes=7, in_chans=1, img_size=64, drop_path_rate=0.3, drop_rate=0.2)
    assert (changed.arch.classes, changed.arch.channels, changed.arch.image_size) == (7, 1, 64)
    assert (changed.arch.drop_path, changed.drop_rate) == (0.3, 0.2)
    assert changed(images(size=64, channels=1)).shape == (2, 7)
    assert changed.pretrained_cfg["first_conv"] == "stem.convs.0"


def test_without_classes_it_gives_what_the_head_sees_and_without_pooling_features() -> None:
    assert model(num_classes=0)(images()).shape == (2, 16)
    bare = model(num_classes=0, global_pool="")
    assert torch.equal(bare(images()), bare.forward_features(images()))


def test_logits_are_the_head_of_the_features() -> None:
    network = model()
    features = network.forward_features(images())
    assert torch.equal(network.forward_head(features), network(images()))
    assert torch.equal(network.get_classifier()(network.forward_head(features, pre_logits=True)), network(images()))


def test_features_of_stages_have_the_channels_and_reductions_that_are_said() -> None:
    extractor = timm.create_model("sret", arch=ARCH.to_dict(), features_only=True, out_indices=(0, -1)).eval()
    found = extractor(images())
    assert [tuple(features.shape[1:]) for features in found] == [
        (channels, 32 // reduction, 32 // reduction)
        for channels, reduction in zip(
            extractor.feature_info.channels(), extractor.feature_info.reduction(), strict=True
        )
    ]


def test_intermediates_are_those_of_a_whole_pass() -> None:
    network = model()
    last, found = network.forward_intermediates(images())
    assert torch.equal(last, network.forward_features(images()))
    assert torch.equal(found[-1], last)
    only = network.forward_intermediates(images(), [0], intermediates_only=True, stop_early=True)
    assert len(only) == 1
    assert torch.equal(only[0], found[0])
    assert torch.equal(network.forward_intermediates(images(), 1, intermediates_only=True)[0], last)
    for wrong in ([2], [-3], []):
        with pytest.raises(UserError, match="stages 0 to 1"):
            network.forward_intermediates(images(), wrong)
    with pytest.raises(UserError, match="output_fmt"):
        network.forward_intermediates(images(), output_fmt="NLC")
    assert network.prune_intermediate_layers([0]) == [0]
    assert network(images()).shape == (2, 16)


def test_a_head_is_replaced_by_one_for_other_classes() -> None:
    network = model()
    network.reset_classifier(3)
    assert network(images()).shape == (2, 3)
    assert (network.num_classes, network.current_arch.classes) == (3, 3)
    with pytest.raises(UserError, match="global_pool"):
        network.reset_classifier(3, "max")


def test_another_input_size_gives_what_a_network_of_that_size_gives() -> None:
    network = model()
    logits = network(images(size=64))  # the embedding is resized in the pass
    network.set_input_size(64)
    assert torch.allclose(network(images(size=64)), logits, atol=1e-6)
    fresh = SReT(ArchConfig.from_dict({**ARCH.to_dict(), "image_size": 64}, "test")).eval()
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(images(size=64)), network(images(size=64)))


def test_checkpointed_blocks_have_the_same_gradients() -> None:
    def gradients(enable: bool) -> list[torch.Tensor]:
        network = model(drop_path_rate=0.2).train()
        network.set_grad_checkpointing(enable)
        torch.manual_seed(1)
        network(images(4)).sum().backward()
        return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]

    plain, checkpointed = gradients(False), gradients(True)
    assert len(plain) == len(list(model().parameters()))
    assert all(torch.equal(one, other) for one, other in zip(plain, checkpointed, strict=True))


def test_learning_rates_decay_by_layer_and_vectors_are_not_decayed() -> None:
    network = model()
    optimizer = create_optimizer_v2(network, opt="adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.5)
    scale_of, decay_of = {}, {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = next(name for name, other in network.named_parameters() if other is parameter)
            scale_of[name], decay_of[name] = group["lr_scale"], group["weight_decay"]
    order = ["stem.convs.0.weight", "stages.0.blocks.0.mlp.fc1.weight", "stages.0.blocks.1.mlp.fc1.weight",
             "pools.0.weight", "stages.1.blocks.0.mlp.fc1.weight", "head.weight"]  # fmt: skip
    scales = [scale_of[name] for name in order]
    assert scales == sorted(scales)
    assert scales[-1] == 1.0
    assert len(set(scales)) >= 5
    assert scale_of["stages.0.nlls.1.0.mlp.fc1.weight"] == scale_of["stages.0.blocks.1.mlp.fc1.weight"]
    assert (decay_of["pos_embed"], decay_of["head.bias"], decay_of["head.weight"]) == (0.0, 0.0, 0.05)
    layers = group_parameters(network, network.group_matcher(coarse=True), reverse=True)
    assert len(set(layers.values())) < len(set(scale_of.values()))


@pytest.mark.slow
def test_features_are_extracted_from_a_traced_graph() -> None:
    network = model()
    with pytest.warns(UserWarning, match="to specify output nodes"):
        extractor = create_feature_extractor(network, {"stages.1.blocks.0.mlp.fc2": "mlp", "head": "logits"})
    found = extractor.eval()(images())
    assert torch.equal(found["logits"], network(images()))
    assert found["mlp"].shape == (2, 4, 16)
    assert torch.equal(torch.fx.symbolic_trace(network)(images(5)), network(images(5)))


@pytest.mark.slow
def test_torch_export_gives_the_same_logits() -> None:
    network = model()
    program = torch.export.export(network, (images(),))
    assert torch.allclose(program.module()(images()), network(images()), atol=1e-6)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "model"
    torch.manual_seed(1)
    write_model(directory, SReT(ARCH), INFO)
    return directory


def test_timm_loads_a_model_directory_with_its_weights_and_preprocessing(directory: Path) -> None:
    loaded = timm.create_model(f"local-dir:{directory}", pretrained=True).eval()
    assert torch.equal(loaded(images()), SReT.from_pretrained(directory).eval()(images()))
    config = timm.data.resolve_model_data_config(loaded)
    found = tuple(map(tuple, (config["mean"], config["std"], config["input_size"])))
    assert found == ((0.5,) * 3, (0.25,) * 3, (3, 32, 32))


def test_timm_adapts_a_model_directory_to_other_classes_channels_and_sizes(directory: Path) -> None:
    changed = timm.create_model(
        f"local-dir:{directory}", pretrained=True, num_classes=3, in_chans=1, img_size=64
    ).eval()
    assert changed(images(size=64, channels=1)).shape == (2, 3)
    original = SReT.from_pretrained(directory)
    assert torch.equal(changed.stages[0].blocks[0].mlp.fc1.weight, original.stages[0].blocks[0].mlp.fc1.weight)  # type: ignore[union-attr, index]
    assert changed.pos_embed.shape[-1] == 2 * original.pos_embed.shape[-1]


def test_what_timm_saves_for_the_hub_is_what_we_write(directory: Path, tmp_path: Path) -> None:
    loaded = timm.create_model(f"local-dir:{directory}", pretrained=True)
    timm.models.save_for_hf(loaded, str(tmp_path / "saved"), safe_serialization=True)
    ours, theirs = (json.loads((path / "config.json").read_text()) for path in (directory, tmp_path / "saved"))
    for key in ("architecture", "num_classes", "num_features", "global_pool"):
        assert ours[key] == theirs[key], key
    assert ours["model_args"].items() <= theirs["model_args"].items()
    for key, value in theirs["pretrained_cfg"].items():
        if key in ours["pretrained_cfg"]:
            assert ours["pretrained_cfg"][key] == value, key
    again = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    assert torch.equal(again(images()), loaded.eval()(images()))


SCRIPT = textwrap.dedent(
    """
    import argparse
    from timm.data import create_dataset, create_loader, resolve_data_config
    from timm.models import create_model
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--model")
    parser.add_argument("--model-kwargs", nargs="*", default=[])
    parser.add_argument("--out")
    given = parser.parse_args()
    kwargs = dict(pair.split("=", 1) for pair in given.model_kwargs)
    model = create_model(given.model, num_classes=2, **kwargs)
    config = resolve_data_config({}, model=model)
    loader = create_loader(create_dataset("", given.data), config["input_size"], batch_size=4, is_training=True,
                           use_prefetcher=False, num_workers=0, mean=config["mean"], std=config["std"])
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, layer_decay=0.9)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=1)
    for images, labels in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    scheduler.step(1)
    torch.save({"state_dict": model.state_dict()}, given.out)
    """
)
"""A training script as users of timm write them: it knows nothing of this package."""


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_script_written_against_timm_trains_our_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(4):
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "best.yaml").write_text(dump_yaml({"architecture": ARCH.to_dict()}))
    out = tmp_path / "last.pt"
    arguments = [str(tmp_path / "images"), "--model", "sret", "--model-kwargs", f"arch={tmp_path / 'best.yaml'}"]
    assert sret_nas.timm.main(["train", str(tmp_path / "train.py"), *arguments, "--out", str(out)]) == 0
    trained = timm.create_model("sret", arch=ARCH.to_dict(), num_classes=2, checkpoint_path=str(out))
    state = torch.load(out, weights_only=True)["state_dict"]
    assert torch.equal(trained.head.weight, state["head.weight"])


def test_a_script_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert sret_nas.timm.main(["train", str(tmp_path / "train.py")]) == 2
    assert "there is no such file; give the path of your copy of timm's train.py" in capsys.readouterr().err
    assert sret_nas.timm.main(["fit", "train.py"]) == 2
    assert capsys.readouterr().err.startswith("usage: ")
