"""Weights files: they are read back bit for bit, and anything else is refused in one line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import ConfigError, UserError
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, write_model
from sret_nas.nn.network import SReT
from sret_nas.nn.position_embedding import resized_state
from sret_nas.nn.supernet import Supernet
from sret_nas.nn.weight_shapes import network_shapes
from sret_nas.space.supernet_shape import bounding_shape
from sret_nas.yaml_files import dump_yaml
from tests.counted_spaces import space_of

torch.set_num_threads(1)

SPACE = space_of(
    {"width": [8, 12], "heads": [2], "recursions": [2], "groups": [[4, 2]], "nll": ["every"]}, {"width": [16]}
)
TRAINING: dict[str, Any] = {"seed": 3, "config": {"draws": "stratified", "rate": 2e-3, "depths": [1, 2]}}


def network() -> SReT:
    """Returns a network after a little training, so that its BatchNorm statistics differ from a new network's."""
    torch.manual_seed(0)
    network = SReT(SPACE.network([0, 0])).train()
    network(torch.randn(4, 3, 32, 32))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network


def supernet() -> Supernet:
    torch.manual_seed(0)
    return Supernet(bounding_shape(SPACE))


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in module.state_dict().items()}


def header_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def rewritten(path: Path, *, header: dict[str, Any] | None = None, **tensors: Tensor | None) -> None:
    """Rewrites a file with parts of its header replaced, and tensors replaced, added or (None) removed."""
    content: dict[str, Tensor | None] = {**safetensors.torch.load_file(path), **tensors}
    kept = {name: tensor for name, tensor in content.items() if tensor is not None}
    changes = {name: json.dumps(value) for name, value in (header or {}).items()}
    safetensors.torch.save_file(kept, path, header_of(path) | changes)


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    network().save(tmp_path / "network.safetensors")
    return tmp_path / "network.safetensors"


@pytest.fixture
def supernet_file(tmp_path: Path) -> Path:
    supernet().save(tmp_path / "supernet.safetensors", TRAINING)
    return tmp_path / "supernet.safetensors"


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


def assert_equal_states(ours: nn.Module, theirs: nn.Module) -> None:
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, tensor in ours.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name


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


Load = Callable[[Path], object]


class TestSavedByOthers:
    """Weights that safetensors, timm or Hugging Face saved: without our header, but with a description beside them."""

    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
    def test_the_description_beside_them_is_the_truth(self, tmp_path: Path, prefix: str) -> None:
        own = network()
        state = {f"{prefix}{name}": tensor for name, tensor in own.state_dict().items()}
        safetensors.torch.save_file(state, tmp_path / "mine.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match="it has no 'architecture' in its header"):
            SReT.load(tmp_path / "mine.safetensors")
        (tmp_path / "other.yaml").write_text(dump_yaml(own.arch.to_dict()))
        read = SReT.from_yaml(tmp_path / "other.yaml", tmp_path / "mine.safetensors")
        (tmp_path / "other.yaml").rename(tmp_path / "mine.yaml")
        for same in (read, SReT.load(tmp_path / "mine.safetensors")):
            assert_equal_states(same, own)

    def test_a_model_directory_with_them_is_read(self, tmp_path: Path) -> None:
        own = network()
        write_model(
            tmp_path / "m", own, ModelInfo(preprocessing=Preprocessing(image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3))
        )
        weights = tmp_path / "m" / "model.safetensors"
        safetensors.torch.save_file(own.state_dict(), weights)
        assert_equal_states(SReT.from_pretrained(tmp_path / "m"), own)
        safetensors.torch.save_file({**own.state_dict(), "head.bias": torch.zeros(7)}, weights)
        with pytest.raises(UserError, match=r"head\.bias must have the shape \(\d+,\), got \(7,\)"):
            SReT.from_pretrained(tmp_path / "m")

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "_forward_module.module."])
    def test_a_wrapped_state_dict_is_loaded(self, prefix: str) -> None:
        own, other = network(), SReT(network().arch)
        other.load_state_dict({f"{prefix}{name}": tensor for name, tensor in own.state_dict().items()})
        assert_equal_states(other, own)

    @pytest.mark.parametrize("value", [None, 5, b"x", ["a"]])
    def test_what_is_no_path_is_refused(self, value: Any) -> None:
        for read in (SReT.from_pretrained, SReT.load, SReT.from_yaml):
            with pytest.raises(UserError, match="must be a path, got"):
                read(value)


class TestRefuses:
    @pytest.mark.parametrize("load", [SReT.load, Supernet.load])
    def test_a_missing_file_or_a_folder(self, tmp_path: Path, load: Load) -> None:
        with pytest.raises(UserError, match=r"^\S+: there is no such file$"):
            load(tmp_path / "none.safetensors")
        with pytest.raises(UserError, match=r"^\S+: cannot be read: it is a folder, not a file$"):
            load(tmp_path)

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
    def test_a_torn_file(self, network_file: Path, supernet_file: Path, share: float) -> None:
        cases: tuple[tuple[Path, Load], ...] = ((network_file, SReT.load), (supernet_file, Supernet.load))
        for path, load in cases:
            content = path.read_bytes()
            path.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(UserError, match=rf"^{path}: cannot be read as weights: \S"):
                load(path)

    @pytest.mark.parametrize("content", [b"stages:\n- width: 8\n", b"\x80\x02}q\x00.", b"\xff" * 64, b"PK\x03\x04" * 9])
    def test_a_file_of_another_kind(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "w").write_bytes(content)
        with pytest.raises(UserError, match=r"/w: cannot be read as weights: \S"):
            SReT.load(tmp_path / "w")

    def test_each_others_files(self, network_file: Path, supernet_file: Path) -> None:
        with pytest.raises(
            UserError,
            match=r"/supernet\.\w+: does not hold a network's weights: it holds a supernet, which `search --s",
        ):
            SReT.load(supernet_file)
        with pytest.raises(
            UserError,
            match=r"/network\.safetensors: does not hold a supernet: it holds a single network's weights, which `ev",
        ):
            Supernet.load(network_file)

    @pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
    def test_weights_of_other_programs(self, tmp_path: Path, metadata: dict[str, str] | None) -> None:
        safetensors.torch.save_file({"weight": torch.zeros(3)}, tmp_path / "w", metadata)
        with pytest.raises(UserError, match=r"not hold a network's weights: it has no 'architecture' in its header$"):
            SReT.load(tmp_path / "w")

    def test_a_header_that_is_no_json(self, tmp_path: Path) -> None:
        safetensors.torch.save_file(tensors_of(network()), tmp_path / "w", {"architecture": "{"})
        with pytest.raises(UserError, match="/w: cannot be read as weights: "):
            SReT.load(tmp_path / "w")

    def test_a_supernet_that_tells_nothing_of_its_training(self, tmp_path: Path) -> None:
        header = {"extent": json.dumps(bounding_shape(SPACE).model_dump(mode="json"))}
        safetensors.torch.save_file(tensors_of(supernet()), tmp_path / "w", header)
        with pytest.raises(UserError, match="does not hold a supernet: it has no 'training' in its header"):
            Supernet.load(tmp_path / "w")

    def test_an_impossible_architecture(self, network_file: Path) -> None:
        data = network().arch.to_dict()
        data["stages"][0]["heads"] = 3
        rewritten(network_file, header={"architecture": data})
        with pytest.raises(ConfigError, match=r"architecture: stages\[0\]: heads must divide width"):
            SReT.load(network_file)

    def test_an_impossible_shape(self, supernet_file: Path) -> None:
        data = bounding_shape(SPACE).model_dump(mode="json")
        data["stages"][0]["widths"] = [12, 8]
        rewritten(supernet_file, header={"extent": data})
        with pytest.raises(ConfigError, match=r"extent: stages\[0\]\.widths: must ascend, got \[12, 8\]"):
            Supernet.load(supernet_file)

    @pytest.mark.parametrize(
        ("tensors", "problem"),
        [
            ({"head.weight": torch.zeros(10, 9)}, r"head\.weight must have the shape \(10, 16\), got \(10, 9\)"),
            ({"head.weight": None}, r"head\.weight is missing; it must have the shape \(10, 16\)"),
            ({"tail.weight": torch.zeros(1)}, r"tail\.weight is not part of what is described"),
        ],
    )
    def test_other_tensors_than_the_header_tells_of(
        self, network_file: Path, supernet_file: Path, tensors: dict[str, Any], problem: str
    ) -> None:
        cases: tuple[tuple[Path, Load], ...] = ((network_file, SReT.load), (supernet_file, Supernet.load))
        for path, load in cases:
            rewritten(path, **tensors)
            with pytest.raises(UserError, match=rf"^{path}: {problem}$"):
                load(path)

    def test_a_shape_beyond_all_memory(self, supernet_file: Path) -> None:
        data = bounding_shape(SPACE).model_dump(mode="json")
        data["stages"][0]["mlp_hidden"] = 10**12
        rewritten(supernet_file, header={"extent": data})
        with pytest.raises(UserError, match=r"fc1\.weight must have the shape \(1000000000000, 12\), got \(12, 12\)"):
            Supernet.load(supernet_file)

    def test_weights_of_an_architecture_that_was_swapped(self, network_file: Path) -> None:
        other: ArchConfig = SPACE.network([1, 0])
        rewritten(network_file, header={"architecture": other.to_dict()})
        with pytest.raises(UserError, match=r"must have the shape \("):
            SReT.load(network_file)

    def test_a_header_that_claims_much_more_than_the_file_has(self, supernet_file: Path, network_file: Path) -> None:
        shape = bounding_shape(SPACE).model_dump(mode="json")
        for stage in shape["stages"]:
            stage |= {"widths": list(range(1, 8193)), "blocks": 128}
        rewritten(supernet_file, header={"extent": shape})
        arch = network().arch.to_dict()
        arch["stages"][0] |= {"width": 8192, "heads": 1, "blocks": 128}
        rewritten(network_file, header={"architecture": arch})
        cases: tuple[tuple[Path, Load], ...] = ((network_file, SReT.load), (supernet_file, Supernet.load))
        for path, load in cases:
            started = time.process_time()
            with pytest.raises(UserError, match=r"must have the shape \(1, 8192, \d, \d\), got"):
                load(path)
            assert time.process_time() - started < 1

    def test_permutations_of_more_numbers_than_weights(self, tmp_path: Path) -> None:
        stage = {
            "width": 1,
            "heads": 1,
            "blocks": 4,
            "recursions": 16,
            "groups": [2] * 16,
            "mlp_ratio": 1.0,
            "nll": "none",
        }
        arch = ArchConfig.from_dict({"stages": [stage], "stem": {"width": 1, "strides": [1, 1, 1]}, "image_size": 200})
        tensors = {name: torch.zeros(shape) for name, shape in network_shapes(arch)}
        tensors |= {name: tensor.long() for name, tensor in tensors.items() if name.endswith("num_batches_tracked")}
        safetensors.torch.save_file(tensors, tmp_path / "w", {"architecture": json.dumps(arch.to_dict())})
        with pytest.raises(UserError, match=r"stages\[0\] permutes 40,000 tokens in 60 places, which makes 2,400,000"):
            SReT.load(tmp_path / "w")

    @pytest.mark.parametrize(
        ("tensor", "problem"),
        [
            (torch.full((10, 16), float("nan")), "holds numbers that are not finite: its training diverged"),
            (torch.full((10, 16), float("inf")), "holds numbers that are not finite: its training diverged"),
            (torch.zeros(10, 16, dtype=torch.int64), "must be of type F64, F32, F16, BF16, got I64"),
            (torch.zeros(10, 16, dtype=torch.float64), "must be of the type F32 of pos_embed, got F64"),
        ],
    )
    def test_weights_of_no_use(self, network_file: Path, supernet_file: Path, tensor: Tensor, problem: str) -> None:
        cases: tuple[tuple[Path, Load], ...] = ((network_file, SReT.load), (supernet_file, Supernet.load))
        for path, load in cases:
            rewritten(path, **{"head.weight": tensor})
            with pytest.raises(UserError, match=rf"^{path}: head\.weight {problem}$"):
                load(path)


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
