"""A whole search with a supernet: trained once, inherited from, killed, resumed, and its finals."""

from __future__ import annotations

import io
import json
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from cli import main
from sret_nas.arch.cost import cost_of
from sret_nas.errors import UserError
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from tests.forked import Forked
from tests.trials.runs.edited_records import edit_records
from trials.data import PreparedData
from trials.report.finals import show_finals
from trials.report.front import show_front
from trials.runs.directory import RECORDS_FILE
from trials.runs.history import read_history
from trials.runs.objectives import best_of, pareto_front
from trials.runs.option_groups import flag
from trials.runs.options import SearchOptions
from trials.search.finalists import EQUAL_COST, finalists
from trials.search.rerun import rerun_trial
from trials.search.run import Run
from trials.search.search import resume_search, start_search
from trials.search.supernet import _processes
from trials.supernet.inherit import extract_for_eval
from trials.training.train import score

pytestmark = pytest.mark.slow

OPTIONS: dict[str, Any] = {
    "space": "smoke",
    "target_classes": 1000,
    "target_channels": 3,
    "params_budget": 300_000,
    "trials": 9,
    "population": 4,
    "seed": 4,
    "max_train_images": 128,
    "max_val_images": 100,
    "max_test_images": 100,
    "image_size": 24,
    "batch_size": 32,
    "supernet_images": 320,
    "train_images": 96,
    "finalists": 2,
    "controls": 1,
    "device": "cpu",
    "precision": "bf16",  # fp32, which is the other default: test_search.py
    "workers": 1,
}
FLAGS = [f"{flag(name)}={value}" for name, value in OPTIONS.items()]


def quiet(width: int = 120) -> Console:
    return Console(file=io.StringIO(), width=width)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def console() -> Console:
    return quiet()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, console: Console) -> Run:
    """Returns an uninterrupted search; read-only for the tests that share it."""
    return start_search(
        SearchOptions.parse(OPTIONS, "search"), tmp_path_factory.mktemp("runs") / "whole", ["test"], console
    )


def events(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / RECORDS_FILE).read_text().splitlines()]


def outcome_of(run_dir: Path) -> list[Any]:
    """Returns all that a search found, to the last bit; how long it took left out."""
    found: list[Any] = []
    for number, trial in sorted(read_history(run_dir).trials.items()):
        finals = {role: final.model_dump(exclude={"seconds"}) for role, final in trial.finals.items()}
        found.append(
            (number, trial.candidate.key, trial.result and (trial.result.error, trial.result.cross_entropy), finals)
        )
    return found


def test_the_supernet_is_on_record_before_any_trial_and_every_trial_inherits(finished: Run) -> None:
    kinds = [event["event"] for event in events(finished.run_dir)]
    assert kinds[:3] == ["header", "supernet", "asked"]
    assert Counter(kinds)["finished"] == 9
    for trial in finished.trials:
        assert trial.result is not None
        assert (trial.result.train_steps, trial.result.train_loss, trial.candidate.depth_schedule) == (0, None, "full")
        assert trial.result.target.params == cost_of(trial.candidate.arch).params <= 300_000


def test_a_trial_s_score_is_that_of_the_extracted_network(finished: Run) -> None:
    supernet, training = Supernet.load(finished.run_dir / "supernet" / "supernet.safetensors")
    assert training["images"] == 320
    data = PreparedData.open(finished.data_dir)
    for trial in finished.trials[:3]:
        assert trial.result is not None
        found = score(
            extract_for_eval(supernet, trial.result.proxy_arch, data, 32, "bf16"), data.val, 32, precision="bf16"
        )
        assert (trial.result.error, trial.result.cross_entropy) == (found.error, found.cross_entropy)


def test_finals_are_trained_on_tested_and_compared_with_networks_of_equal_cost(finished: Run) -> None:
    chosen = finalists(finished)
    front = pareto_front(finished.trials, finished.options.objectives)
    assert len(chosen) == min(2, len(front))
    assert {trial.number for trial in chosen} <= {trial.number for trial in front}
    assert {trial.number for trial in finished.trials if trial.finals} == {trial.number for trial in chosen}
    for trial in chosen:
        tuned, result = trial.finals["fine-tuned"], trial.result
        assert result is not None
        assert (tuned.inherited_error, tuned.inherited_cross_entropy) == (result.error, result.cross_entropy)
        assert (tuned.num_val_images, tuned.num_test_images, tuned.train_images) == (100, 100, 32)
    pairs = [trial for trial in chosen if "from scratch" in trial.finals]
    assert len(pairs) == 1
    found, control = pairs[0].finals["from scratch"], pairs[0].finals["control"]
    assert pairs[0].result is not None
    assert found.inherited_error == pairs[0].result.error
    assert control.inherited_error is not None
    assert found.train_images == control.train_images == 96
    assert found.arch.arch_id == pairs[0].candidate.arch.arch_id != control.arch.arch_id
    assert abs(control.flops / found.flops - 1) <= EQUAL_COST + 1e-9
    assert control.params <= 300_000


def test_best_is_the_finalist_of_least_error_after_training_on_with_its_weights(finished: Run) -> None:
    best = best_of(finished.trials, finished.options.objectives)
    assert best.finals["fine-tuned"].error == min(t.finals["fine-tuned"].error for t in finished.trials if t.finals)
    content = yaml.safe_load((finished.run_dir / "best.yaml").read_text())
    assert content["arch_id"] == best.candidate.arch.arch_id
    assert content["metrics"]["final"]["fine-tuned"]["test_error"] == best.finals["fine-tuned"].test_error
    weights = finished.run_dir / content["provenance"]["proxy_weights"]
    data = PreparedData.open(finished.data_dir)
    proxy = best.result and best.result.proxy_arch
    assert proxy is not None
    (finished.run_dir / "proxy.yaml").write_text(yaml.safe_dump(proxy.to_dict()))
    network = SReT.from_yaml(finished.run_dir / "proxy.yaml", weights=weights)
    assert score(network, data.test, 32, precision="bf16").error == best.finals["fine-tuned"].test_error


def test_it_says_beforehand_what_it_will_do_and_afterwards_what_it_found(finished: Run, console: Console) -> None:
    text = text_of(console)
    assert "Plan: a supernet trained on 320 images at 24 px (" in text
    assert re.search(r"(?<!\d)9 of its networks scored", text)  # too few to recommend
    assert re.search(r"(?<!\d)2 fine-tuned, 1 trained from scratch against as many random ones", text)
    narrow = quiet(80)
    show_front(finished.trials, finished.options, finished.run_dir, 224, narrow)
    assert max(map(len, text_of(narrow).splitlines()[:8])) <= 80
    assert "Was it luck?" in text_of(narrow)
    assert "Of 100 test images" in text_of(narrow)


def test_nothing_is_said_of_luck_where_nothing_was_compared(finished: Run) -> None:
    silent = quiet()
    show_finals([trial for trial in finished.trials if "control" not in trial.finals], silent)
    assert text_of(silent) == ""


@pytest.mark.parametrize(("kill_at", "workers"), [("supernet", 0), ("trial", 1), ("final", 0)])
def test_killed_anywhere_it_resumes_to_the_same_end(finished: Run, tmp_path: Path, kill_at: str, workers: int) -> None:
    """With as many workers as it says, while the whole search has one."""
    run_dir = tmp_path / "killed"
    process = Forked(lambda: main(["search", *FLAGS, f"--workers={workers}", f"--out={run_dir}"]))
    begin = {"supernet": "Training the supernet", "trial": "trial ", "final": "Finals:"}[kill_at]
    for line in process.stdout:
        if line.startswith(begin):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert main(["search", f"--resume={run_dir}", "--workers=0"]) == 0
    assert outcome_of(run_dir) == outcome_of(finished.run_dir)
    kinds = Counter(event["event"] for event in events(run_dir))
    assert (kinds["supernet"], kinds["finished"]) == (1, 9)
    assert kinds["final"] == sum(len(trial.finals) for trial in finished.trials)


def test_a_resumed_search_keeps_the_precision_that_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the processor would choose another; and records that name none are of a version that had fp32."""
    options = {**OPTIONS, "precision": "auto", "no_supernet": True, "strategy": "random", "workers": 0, "trials": 1}
    for name in ("supernet_images", "finalists", "controls"):
        del options[name]
    run_dir = tmp_path / "run"
    monkeypatch.setattr("trials.training.precision.multiplies_bf16", lambda device: True)
    begun = start_search(SearchOptions.parse(options, "search"), run_dir, ["test"], console := quiet())
    assert (begun.history.header["precision"], begun.options.precision) == ("bf16", "auto")
    assert "seed 4; bf16" in text_of(console)
    whole = start_search(SearchOptions.parse({**options, "trials": 2}, "search"), tmp_path / "whole", ["test"], quiet())
    monkeypatch.setattr("trials.training.precision.multiplies_bf16", lambda device: False)
    assert resume_search(run_dir, {"trials": 2}, quiet()).job_context.precision == "bf16"
    assert outcome_of(run_dir) == outcome_of(whole.run_dir)
    edit_records(run_dir / RECORDS_FILE, '"precision": "bf16", ', "")
    assert resume_search(run_dir, {}, quiet()).job_context.precision == "fp32"


def test_a_second_search_uses_the_supernet_of_the_first(finished: Run, tmp_path: Path) -> None:
    file = finished.run_dir / "supernet" / "supernet.safetensors"
    options = {**OPTIONS, "supernet": str(file), "finalists": 0, "controls": 0, "workers": 0}
    del options["supernet_images"]
    run = start_search(SearchOptions.parse(options, "search"), tmp_path / "second", ["test"], quiet())
    assert [row[:3] for row in outcome_of(run.run_dir)] == [row[:3] for row in outcome_of(finished.run_dir)]
    assert not (run.run_dir / "supernet").exists()
    brief = {"supernet": str(finished.run_dir), "trials": 1, "workers": 0, "finalists": 0, "controls": 0}
    brief |= {"train_images": 96, "batch_size": 32, "best_by": "proxy", "params_budget": 300_000}
    told = quiet()
    third = start_search(SearchOptions.parse(brief, "search"), tmp_path / "third", ["test"], told)
    assert (third.space, third.data_dir) == (finished.space, tmp_path / "prepared-data" / run.data_dir.name)
    assert "Supernet: " in text_of(told)
    assert "for smoke at 24 px, on the images of digits" in " ".join(text_of(told).split())
    assert not any(trial.finals for trial in run.trials)
    for change, message in (
        (
            {"space": "sret_tiny"},
            "does not hold all networks of sret_tiny at 24 px: stem width must be at most 12",
        ),
        ({"max_train_images": 64}, "--max-train-images 64 does not go with .*, which was trained with 128: leave out"),
        ({"image_size": 40}, "--image-size 40 does not go with --supernet .*, which was trained with 24: leave out"),
        ({"data": str(tmp_path)}, "--data .* does not go with --supernet .*, which was trained with digits"),
        ({"supernet": str(tmp_path / "none.safetensors")}, "there is no such file"),
        ({"supernet": str(finished.run_dir / "best.yaml")}, "cannot be read as weights"),
    ):
        with pytest.raises(UserError, match=message):
            start_search(
                SearchOptions.parse({**options, "params_budget": None, **change}, "search"),
                tmp_path / "refused",
                ["test"],
                quiet(),
            )
        assert not (tmp_path / "refused").exists()


def test_a_supernet_that_changed_stops_a_resume(finished: Run, tmp_path: Path) -> None:
    file = tmp_path / "supernet.safetensors"
    file.write_bytes((finished.run_dir / "supernet" / "supernet.safetensors").read_bytes())
    options = {**OPTIONS, "supernet": str(file), "finalists": 0, "controls": 0, "trials": 1, "workers": 0}
    del options["supernet_images"]
    run = start_search(SearchOptions.parse(options, "search"), tmp_path / "run", ["test"], quiet())
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="not the supernet that the search was begun with"):
        resume_search(run.run_dir, {"trials": 2}, quiet())
    file.unlink()
    records = (run.run_dir / RECORDS_FILE).read_bytes()
    with pytest.raises(UserError, match=r"no such file \(a resumed search needs its supernet as --supernet says"):
        resume_search(run.run_dir, {}, Console(quiet=True))
    assert (run.run_dir / RECORDS_FILE).read_bytes() == records


def test_a_supernet_that_has_moved_is_named_when_a_search_is_resumed(finished: Run, tmp_path: Path) -> None:
    """Another supernet is refused before anything is recorded, and a search that trained its own takes none."""
    (tmp_path / "here").mkdir()
    here, trained = tmp_path / "here" / "supernet.safetensors", finished.run_dir / "supernet" / "supernet.safetensors"
    here.write_bytes(trained.read_bytes())
    options = {**OPTIONS, "supernet": str(here), "finalists": 1, "controls": 0, "trials": 1, "workers": 0}
    del options["supernet_images"]
    run_dir = start_search(SearchOptions.parse(options, "search"), tmp_path / "run", ["test"], quiet()).run_dir
    (tmp_path / "here").rename(tmp_path / "there")
    other = tmp_path / "other.safetensors"
    other.write_bytes(trained.read_bytes() + b"\0")
    records = (run_dir / RECORDS_FILE).read_bytes()
    for given, message in (
        (str(other), "other.safetensors is not the supernet that the search was begun with"),
        (str(tmp_path / "typo"), "there is no such file"),
        (None, "--supernet cannot change in a resumed search"),
    ):
        with pytest.raises(UserError, match=message):
            resume_search(run_dir, {"trials": 2, "supernet": given}, quiet())
    with pytest.raises(UserError, match=r"a trial needs its supernet as `.*search --resume .* --supernet NEW` says"):
        rerun_trial(run_dir, 0, quiet())
    assert (run_dir / RECORDS_FILE).read_bytes() == records
    for given in ({"trials": 2, "supernet": str(tmp_path / "there")}, {"trials": 3}):
        resumed = resume_search(run_dir, given, quiet())
        assert resumed.options.supernet == str(tmp_path / "there" / "supernet.safetensors")
        assert all(trial.result is not None for trial in resumed.trials)
    console = quiet()
    rerun_trial(run_dir, 0, console)
    assert "Equal to the last bit." in text_of(console)
    with pytest.raises(UserError, match="--supernet cannot change in a resumed search: it was not given"):
        resume_search(finished.run_dir, {"supernet": str(other)}, quiet())


def test_trials_may_train_their_inherited_weights_on(tmp_path: Path) -> None:
    options = {
        **OPTIONS, "trials": 2, "fine_tune_images": 64, "val_images_per_trial": 50, "finalists": 0, "controls": 0,
        "workers": 0,
    }  # fmt: skip
    run = start_search(SearchOptions.parse(options, "search"), tmp_path / "tuned", ["test"], quiet())
    assert [trial.result and (trial.result.train_images, trial.result.train_steps) for trial in run.trials] == [
        (64, 2),
        (64, 2),
    ]
    errors = [trial.result.error for trial in run.trials if trial.result]
    assert all((50 * error) == pytest.approx(round(50 * error)) for error in errors)  # of 50 images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"no_supernet": True, "supernet_images": 10}, "--no-supernet cannot be combined with --supernet-images"),
        ({"no_supernet": True, "finalists": 5}, "--no-supernet cannot be combined with --finalists"),
        (
            {"supernet": "x", "supernet_images": 10},
            "--supernet names a trained supernet, so it cannot be combined with --supernet-images",
        ),
        ({"finalists": 1, "controls": 2}, "--controls must not exceed --finalists, got 2 and 1"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchOptions(**options)


def test_there_are_more_trials_where_they_are_cheap() -> None:
    assert (SearchOptions().trials, SearchOptions(no_supernet=True).trials) == (200, 16)
    assert SearchOptions().load_space().depth_schedules == ("full",)
    assert len(SearchOptions(no_supernet=True).load_space().depth_schedules) == 5


@pytest.mark.parametrize(
    ("given", "asked", "expected"),
    [
        ({}, None, 4),
        ({}, "1", 1),
        ({}, "2", 2),
        ({}, "64", 4),
        ({"workers": 3}, "1", 3),
        ({"threads": 2}, "1", 4),
        ({"workers": 0}, None, 1),
    ],
)
def test_a_supernet_is_trained_with_no_more_threads_than_the_environment_allows(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], asked: str | None, expected: int
) -> None:
    for module in ("trials.machine", "trials.search.supernet", "trials.runs.engine_options"):
        monkeypatch.setattr(f"{module}.num_cores", lambda: 4)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    options = SearchOptions.parse({"space": "smoke", **given}, "search")
    assert _processes(options, num_images=100) == (None, expected)
