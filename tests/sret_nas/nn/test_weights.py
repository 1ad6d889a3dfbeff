"""Weights files are read back bit for bit: alone, with a description, for other classes, and without numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, write_model
from sret_nas.nn.network import SReT
from sret_nas.nn.position_embedding import resized_state
from sret_nas.nn.supernet import Supernet
from sret_nas.yaml_files import dump_yaml
from tests.sret_nas.nn.small_weights import SPACE, TRAINING, assert_equal_states, header_of, network, supernet

torch.set_num_threads(1)


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_of_a_network(self, tmp_path: Path, dtype: torch.dtype) -> None:
        saved = network().to(dtype).eval()
        saved.save(tmp_path / "n.safetensors")
        loaded = SReT.load(tmp_path / "n.safetensors")
        assert loaded.arch == saved.arch
        assert_equal_states(loaded, saved)
        images = torch.randn(2, 3, 32, 32, dtype=dtype)
        assert torch.equal(loaded.eval()(images), saved(images))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_of_a_supernet(self, tmp_path: Path, dtype: torch.dtype) -> None:
        saved = supernet().to(dtype)
        saved.save(tmp_path / "s.safetensors", TRAINING)
        loaded, training = Supernet.load(tmp_path / "s.safetensors")
        assert training == TRAINING
        assert loaded.shape == saved.shape
        assert_equal_states(loaded, saved)
        images, arch = torch.randn(2, 3, 32, 32, dtype=dtype), SPACE.network([1, 0])
        assert torch.equal(loaded.eval()(images, arch), saved.eval()(images, arch))

    def test_what_is_loaded_can_be_trained(self, network_file: Path, supernet_file: Path) -> None:
        alone, (shared, _) = SReT.load(network_file), Supernet.load(supernet_file)
        images = torch.randn(2, 3, 32, 32)
        alone(images).square().sum().backward()
        shared(images, SPACE.network([0, 0])).square().sum().backward()
        assert all(parameter.grad is not None for parameter in alone.parameters())
        assert shared.head.weight.grad is not None
        assert shared.head.weight.grad.any()

    def test_loaded_weights_are_not_the_files_memory(self, network_file: Path) -> None:
        loaded, content = SReT.load(network_file), network_file.read_bytes()
        with torch.no_grad():
            loaded.head.weight.zero_()
        assert network_file.read_bytes() == content
        assert SReT.load(network_file).head.weight.any()

    def test_loading_draws_no_random_numbers(self, network_file: Path, supernet_file: Path) -> None:
        before = torch.get_rng_state()
        SReT.load(network_file)
        Supernet.load(supernet_file)
        assert torch.equal(torch.get_rng_state(), before)

    def test_header_is_json_for_other_readers(self, network_file: Path, supernet_file: Path) -> None:
        assert json.loads(header_of(network_file)["architecture"]) == network().arch.to_dict()
        assert json.loads(header_of(supernet_file)["training"]) == TRAINING


class TestFromYAML:
    def test_with_the_weights_of_the_same_network(self, tmp_path: Path, network_file: Path) -> None:
        (tmp_path / "best.yaml").write_text(dump_yaml({"architecture": network().arch.to_dict()}))
        loaded = SReT.from_yaml(tmp_path / "best.yaml", weights=network_file)
        assert_equal_states(loaded, network())

    def test_with_the_weights_of_another_network(self, tmp_path: Path, network_file: Path) -> None:
        other = SPACE.network([1, 0])
        (tmp_path / "best.yaml").write_text(dump_yaml(other.to_dict()))
        with pytest.raises(UserError) as caught:
            SReT.from_yaml(tmp_path / "best.yaml", weights=str(network_file))
        assert str(caught.value) == (
            f"{network_file} holds the weights of {network().arch.arch_id}, and {tmp_path / 'best.yaml'} describes "
            f"{other.arch_id}, which differs in stage 1 width (8 and 12); only classes and image size may: "
            "SReT.load builds theirs"
        )

    def test_for_other_classes_and_images_all_weights_are_kept_but_the_head_s(
        self, tmp_path: Path, network_file: Path
    ) -> None:
        (tmp_path / "best.yaml").write_text(dump_yaml({"architecture": network().arch.to_dict()}))
        changes: dict[str, Any] = {"classes": 3, "image_size": 64, "drop_path": 0.25}
        torch.manual_seed(5)
        loaded = SReT.from_yaml(tmp_path / "best.yaml", weights=network_file, **changes)
        assert (loaded.arch.classes, loaded.arch.image_size, loaded.arch.drop_path) == (3, 64, 0.25)
        expected = resized_state(network().state_dict(), loaded.arch)
        assert loaded.pos_embed.shape[2] == 2 * network().pos_embed.shape[2]
        for name, tensor in loaded.state_dict().items():
            if not name.startswith("head."):
                assert torch.equal(tensor, expected[name]), name
        assert loaded(torch.randn(2, 3, 64, 64)).shape == (2, 3)

    def test_with_the_weights_in_a_model_directory(self, tmp_path: Path) -> None:
        info = ModelInfo(preprocessing=Preprocessing(image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3))
        write_model(tmp_path / "model", network(), info)
        loaded = SReT.from_yaml(tmp_path / "model" / "architecture.yaml", weights=tmp_path / "model")
        assert_equal_states(loaded, network())


class TestSave:
    def test_paths_may_be_text(self, tmp_path: Path) -> None:
        network().save(f"{tmp_path}/n.safetensors")
        assert_equal_states(SReT.load(f"{tmp_path}/n.safetensors"), network())
        supernet().save(f"{tmp_path}/s.safetensors", TRAINING)
        assert Supernet.load(f"{tmp_path}/s.safetensors")[1] == TRAINING

    def test_a_replaced_head_is_read_again(self, tmp_path: Path) -> None:
        changed = network().eval()
        changed.head = nn.Linear(16, 7)
        changed.save(tmp_path / "n")
        loaded = SReT.load(tmp_path / "n").eval()
        images = torch.randn(2, 3, 32, 32)
        assert loaded.arch.classes == 7
        assert torch.equal(loaded(images), changed(images))

    @pytest.mark.parametrize("head", [nn.Identity(), nn.Linear(16, 7, bias=False), nn.Sequential(nn.Linear(16, 10))])
    def test_what_load_could_not_read_is_not_written(self, tmp_path: Path, head: nn.Module) -> None:
        changed = network()
        changed.head = head
        with pytest.raises(UserError, match=r"^the network to be saved: head\.(weight|bias) is missing"):
            changed.save(tmp_path / "n")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("path", [None, 3, b"n"])
    def test_what_is_no_path_is_refused(self, path: Any) -> None:
        for use in (network().save, Supernet.load, SReT.load):
            with pytest.raises(UserError, match=r"^the file of weights must be a path, got "):
                use(path)

    def test_the_home_folder_is_no_folder_called_tilde(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        network().save("~/n.safetensors")
        assert (tmp_path / "n.safetensors").is_file()
        assert SReT.load("~/n.safetensors").arch == network().arch

    def test_other_permutations_are_not_lost_silently(self, tmp_path: Path) -> None:
        changed = network()
        stage, block, recursion = changed.permuted_applications()[0]
        changed.set_permutations({(stage, block, recursion): range(changed.arch.num_tokens[stage])})
        with pytest.raises(UserError, match="was replaced by `set_permutations`"):
            changed.save(tmp_path / "n")


class TestWithoutNumbers:
    def test_a_network_of_the_meta_device_takes_over_weights(self) -> None:
        whole, images = network().eval(), torch.randn(2, 3, 32, 32)
        with torch.device("meta"):
            taken = SReT(whole.arch)
        taken.load_state_dict(whole.state_dict(), assign=True)
        assert torch.equal(taken.eval()(images), whole(images))
        assert not any(buffer.is_meta for buffer in taken.buffers())

    @pytest.mark.parametrize("begin", ["meta", "cpu"])
    def test_to_empty_keeps_permutations(self, begin: str) -> None:
        whole, images = network().eval(), torch.randn(2, 3, 32, 32)
        with torch.device(begin):
            emptied = SReT(whole.arch)
        wrapped = nn.Sequential(emptied).to_empty(device="cpu")
        wrapped[0].load_state_dict(whole.state_dict())
        assert torch.equal(wrapped.eval()(images), whole(images))

    def test_weights_given_with_the_call(self) -> None:
        whole, images = network().eval(), torch.randn(2, 3, 32, 32)
        with torch.device("meta"):
            bare = SReT(whole.arch).eval()
        assert torch.equal(torch.func.functional_call(bare, whole.state_dict(), (images,)), whole(images))
