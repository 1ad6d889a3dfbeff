"""Writes the result files of a run directory, which are all derived from the records."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.result_file import write_result
from sret_nas.files import write_atomically
from sret_nas.yaml_files import dump_yaml

from ..engines.results import RetrainResult, TrialResult
from ..program_name import typed_words
from ..runs.best import choose_best
from ..runs.directory import WEIGHTS, weights_file
from ..runs.events import FinalistRole
from ..runs.history import History
from ..runs.objective_texts import known_values
from ..runs.objectives import Objective, error_of, pareto_front
from ..runs.options import SearchOptions
from ..runs.recommendation import Recommendation, Recommendations
from ..runs.trial import Trial
from ..runs.uncertainty import images_of, images_of_trials, predicted_interval
from .depths import depth_points
from .plot import write_front_plot

FRONT_PNG = "front.png"

_COST = r"[\d.]+([KMGT]?-(FLOPs|params)|us|ms|s)"
OURS = re.compile(rf"(trial-\d{{4,}}|(trial-\d{{4,}}|{_COST})-[0-9a-f]{{12}})\.yaml", re.ASCII)
"""Names of files in the folders of networks and of weights that a search writes, and so may delete."""

COLUMNS = (
    "trial", "arch_id", "state", "share", "error", "depth_error", "predicted_error", "predicted_deviation",
    "predicted_low", "predicted_high", "cross_entropy", "test_error", "fine_tuned_error", "flops", "params",
    "latency_us", "measured_latency_us", "depth_schedule", "train_loss", "seconds", "peak_memory_mb", "origin",
    "failure", "architecture",
)  # fmt: skip


def write_outputs(run_dir: Path, history: History, options: SearchOptions) -> None:
    """Writes the result files.

    They are `config.yaml`, `trials.csv` and, once a trial has finished, `pareto/`, `recommended/`, `best.yaml`, and
    beside each file of weights the YAML file of its network.
    """
    header, trials = history.header, history.in_order
    write_atomically(run_dir / "config.yaml", dump_yaml(_configuration(header)))
    write_atomically(run_dir / "trials.csv", _table(trials, history.recommended, options.objectives))
    front = pareto_front(trials, options.objectives)
    if not front:
        return
    known = history.recommended
    _write_proxies(trials, run_dir, header)
    _write_folder(run_dir / "pareto", {_file_name(trial): trial for trial in front}, run_dir, header, known)
    networks = () if known is None else known.networks
    evaluated = {
        recommended_name(network, trial): trial
        for network in networks
        if (trial := history.trials[network.number]).result is not None
    }
    if evaluated:
        _write_folder(run_dir / "recommended", evaluated, run_dir, header, known)
    best, reason = choose_best(trials, options.objectives, options.best_by, known)
    _write_trial(run_dir / "best.yaml", best, run_dir, header, known, chosen_because=reason)


def write_front_picture(run_dir: Path, history: History, options: SearchOptions) -> None:
    """Writes `front.png`, once a trial has finished."""
    trials = history.in_order
    front = pareto_front(trials, options.objectives)
    if front:
        best = choose_best(trials, options.objectives, options.best_by, history.recommended).trial
        write_front_plot(run_dir / FRONT_PNG, trials, front, best, options, history.header, history.recommended)


def _write_folder(
    folder: Path, trials: dict[str, Trial], run_dir: Path, header: dict[str, Any], known: Recommendations | None
) -> None:
    """Writes a file for each trial, by name, and deletes those of trials that are no longer among them.

    Files under other names than ours are the user's, and stay.
    """
    for name, trial in trials.items():
        _write_trial(folder / name, trial, run_dir, header, known)
    for stale in folder.glob("*.yaml"):
        if OURS.fullmatch(stale.name) and stale.name not in trials:
            stale.unlink()


def _write_proxies(trials: Sequence[Trial], run_dir: Path, header: dict[str, Any]) -> None:
    """Writes, beside each file of trained weights, the network that they are of; deletes those without weights."""
    for trial in trials:
        weights = run_dir / weights_file(trial.number)
        if trial.result is not None and weights.is_file():
            provenance = {**_provenance(trial, run_dir, header), "weights": weights.name}
            del provenance["proxy_weights"]
            target = {"arch_id": trial.arch_id, **trial.result.target.model_dump(mode="json")}
            write_result(
                weights.with_suffix(".yaml"), trial.result.proxy_arch, metrics=_metrics(trial, header),
                recipe={"proxy": header["proxy"], "data": header["data"]},
                provenance={**provenance, "target": target},
            )  # fmt: skip
    for file in (run_dir / WEIGHTS).glob("*.yaml"):
        if OURS.fullmatch(file.name) and not file.with_suffix(".safetensors").is_file():
            file.unlink()


def recommended_name(network: Recommendation, trial: Trial) -> str:
    """Returns e.g. `750M-FLOPs-f93dae918da8.yaml`, by the most that the network may cost."""
    return f"{network.label.replace(' ', '-')}-{trial.arch_id}.yaml"


def _configuration(header: dict[str, Any]) -> dict[str, Any]:
    """Returns the header of the records for people to read, with the command as it was typed."""
    kept = {key: value for key, value in header.items() if key not in ("event", "format", "time")}
    return {**kept, "command": " ".join(typed_words(header["command"])), "latency": _latency_summary(header)}


def _latency_summary(header: dict[str, Any]) -> dict[str, Any] | None:
    """Returns setup and accuracy of the latency profile, without the times of parts; None without latency."""
    if header.get("latency") is None:
        return None
    profile = header["latency"]["profile"]
    kept = ("setting", "accuracy", "coefficients", "rounds", "seconds")
    return {"digest": header["latency"]["digest"], **{key: profile[key] for key in kept}}


def front_file(trial: Trial) -> str:
    """Returns the path, in the run directory, of the YAML file of a trial on the front."""
    return f"pareto/{_file_name(trial)}"


def _file_name(trial: Trial) -> str:
    return f"trial-{trial.number:04d}-{trial.arch_id}.yaml"


def _write_trial(
    path: Path, trial: Trial, run_dir: Path, header: dict[str, Any], known: Recommendations | None,
    chosen_because: str | None = None,
) -> None:  # fmt: skip
    result = trial.result
    assert result is not None
    metrics = _metrics(trial, header)
    network = None if known is None else known.of(trial.number)
    if network is not None:
        metrics["predicted_validation_error"] = network.predicted_error
        metrics["predicted_deviation"] = network.deviation
        interval = predicted_interval(network.predicted_error, network.deviation, images_of(result))
        metrics["predicted_interval_on_new_images"] = None if interval is None else list(interval)
    if result.target.latency_us is not None:
        metrics["target_latency"] = _latency(trial, header)
    recipe = {
        "depth_schedule": trial.depth_schedule,
        "proxy": header["proxy"],
        "proxy_cost": result.proxy.model_dump(mode="json"),
        "proxy_architecture": result.proxy_arch.to_dict(),
        "data": header["data"],
        "train_loss": result.train_loss,
        "train_seconds": round(result.train_seconds, 2),
        "supernet": header.get("supernet"),
        "device": result.device,
    }
    provenance = _provenance(trial, run_dir, header)
    if chosen_because is not None:
        provenance["chosen_because"] = chosen_because
    write_result(path, trial.arch, metrics=metrics, recipe=recipe, provenance=provenance)


def _provenance(trial: Trial, run_dir: Path, header: dict[str, Any]) -> dict[str, Any]:
    """Returns where a trial's network comes from, and where its trained proxy weights are."""
    is_kept = trial.test is not None or "fine-tuned" in trial.finals
    has_weights = is_kept and (run_dir / weights_file(trial.number)).is_file()
    return {
        "run": run_dir.name,
        "trial": trial.number,
        "proxy_weights": weights_file(trial.number) if has_weights else None,
        "command": " ".join(typed_words(header["command"])),
        "space": header["space"]["name"],
        "space_digest": header["space_digest"],
        "seed": header["options"]["seed"],
        "versions": header["versions"],
    }


def _metrics(trial: Trial, header: dict[str, Any]) -> dict[str, Any]:
    """Returns the scores of the proxy network, after its own training or with weights of a supernet."""
    result = trial.result
    assert result is not None
    metrics: dict[str, Any] = {
        "validation_error": result.error,
        "validation_cross_entropy": result.cross_entropy,
        **_by_depth(trial, result, header),
        "test_error": None if trial.test is None else trial.test.error,
        "test_cross_entropy": None if trial.test is None else trial.test.cross_entropy,
        "note": "of the proxy network after the proxy run described under recipe, not of full training",
    }
    if "depth_error" in header["options"].get("objectives", ()):
        metrics["validation_depth_error"] = error_of(result, ("depth_error",))
    if trial.finals or result.train_steps == 0:
        metrics["note"] = "of the proxy network with weights inherited from the supernet, not of full training"
    if trial.finals:
        metrics["final"] = {
            role: final.model_dump(mode="json", exclude=_left_out(role, final)) for role, final in trial.finals.items()
        }
    return metrics


def _by_depth(trial: Trial, result: TrialResult, header: dict[str, Any]) -> dict[str, list[float] | list[int]]:
    """Returns the validation error and the FLOPs of each depth; nothing if only the full depth was trained."""
    if "depth_error" not in header["options"].get("objectives", ()) and trial.depth_schedule == "full":
        return {}
    points = depth_points(trial)
    return {
        "validation_error_by_depth": [point.error for point in points] or [result.error],
        "flops_by_depth": [point.flops for point in points] or [result.target.flops],
    }


def _left_out(role: FinalistRole, final: RetrainResult) -> set[str]:
    """Returns the keys that a final has no use for in the file of its trial."""
    known = set() if role == "control" else {"arch"}
    return known if final.error_by_depth else known | {"error_by_depth", "test_error_by_depth"}


def _latency(trial: Trial, header: dict[str, Any]) -> dict[str, Any]:
    """Returns the target's latency in milliseconds: predicted, and measured if it was."""
    result = trial.result
    assert result is not None
    assert result.target.latency_us is not None
    return {
        "predicted_ms": result.target.latency_us / 1000,
        "measured_ms": None if trial.measured_us is None else trial.measured_us / 1000,
        "setting": header["latency"]["profile"]["setting"],
        "prediction": header["latency"]["profile"]["accuracy"],
        "note": "of one pass of the target network in evaluation mode: the minimum of several",
    }


def _table(trials: Sequence[Trial], known: Recommendations | None, objectives: Sequence[Objective]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    images = images_of_trials(trials)
    for trial in trials:
        network = None if known is None else known.of(trial.number)
        predicted = {} if network is None else _predicted(network, images)
        writer.writerow({**_row(trial, objectives), **predicted})
    return text.getvalue()


def _predicted(network: Recommendation, images: float | None) -> dict[str, Any]:
    """Returns the columns of a prediction, with its 95 % interval on new images."""
    low, high = predicted_interval(network.predicted_error, network.deviation, images) or ("", "")
    return {
        "predicted_error": network.predicted_error, "predicted_deviation": network.deviation, "predicted_low": low,
        "predicted_high": high,
    }  # fmt: skip


def _row(trial: Trial, objectives: Sequence[Objective]) -> dict[str, Any]:
    arch: ArchConfig = trial.arch
    row: dict[str, Any] = {
        "trial": trial.number,
        "arch_id": trial.arch_id,
        "depth_schedule": trial.depth_schedule,
        "architecture": arch.summary(),
        "origin": trial.origin,
        "state": "waiting",  # the file is written when nothing runs, and a resumed search goes on with it
    }
    if trial.failure is not None:
        row |= {"state": "failed", "failure": f"{trial.failure.cause}: {trial.failure.message}"}
    if trial.is_stopped:
        row |= {"state": "stopped", **_result_columns(trial.partial[-1], objectives)}
    result = trial.result
    if result is not None:
        row |= {
            "state": "finished",
            **_result_columns(result, objectives),
            "test_error": "" if trial.test is None else trial.test.error,
            **_final_columns(trial),
            "measured_latency_us": "" if trial.measured_us is None else trial.measured_us,
        }
    return row


def _result_columns(result: TrialResult, objectives: Sequence[Objective]) -> dict[str, Any]:
    """Returns the columns of a result, which for a stopped trial is that of its last rung."""
    known = known_values(result, objectives)
    return {
        "share": f"{result.fraction:.4g}",
        **{name: value for name, value in known.items() if name not in ("flops", "params", "latency")},
        "flops": result.target.flops,
        "params": result.target.params,
        "latency_us": "" if result.target.latency_us is None else result.target.latency_us,
        "train_loss": "" if result.train_loss is None else result.train_loss,
        "seconds": round(result.seconds, 2),
        "peak_memory_mb": round(result.peak_memory_mb),
    }


def _final_columns(trial: Trial) -> dict[str, Any]:
    """Returns a finalist's errors after fine-tuning; nothing for other trials."""
    final = trial.finals.get("fine-tuned")
    return {} if final is None else {"fine_tuned_error": final.error, "test_error": final.test_error}
