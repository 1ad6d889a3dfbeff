"""The files for clusters: valid as far as can be known without a cloud, and at one with each other and the package."""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests import REPOSITORY
from trials.command_line import search

DEPLOY = REPOSITORY / "deploy"
GUIDE = (REPOSITORY / "docs" / "cluster.md").read_text()

RAY_JOB = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata", "preRunningDeadlineSeconds",
    "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig",
    "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
}  # fmt: skip
RAY_CLUSTER = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
    "headServiceAnnotations", "historyServerOptions", "managedBy", "networkPolicy", "rayVersion", "suspend",
    "tlsOptions", "upgradeStrategy", "workerGroupSpecs",
}  # fmt: skip
HEAD_GROUP = {
    "enableIngress", "headService", "ingressOptions", "labels", "rayStartParams", "resources", "serviceType", "template"
}  # fmt: skip
WORKER_GROUP = {
    "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "priority",
    "rayStartParams", "replicas", "resources", "scaleStrategy", "suspend", "template",
}  # fmt: skip
"""Fields of the custom resource RayJob, version v1, as KubeRay 1.7 defines them."""


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
    return loaded


def searches() -> list[list[str]]:
    """Every search that is written anywhere, as arguments."""
    job = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
    texts = [*GUIDE.replace("\\\n", " ").splitlines(), job["spec"]["entrypoint"]]
    texts += re.findall(r"# .*?(sret-nas search .*)", (DEPLOY / "rayjob.yaml").read_text())
    found = (re.search(r"(?:python cli\.py|sret-nas) (search .*)", text) for text in texts)
    return [shlex.split(match[1]) for match in found if match is not None]


def test_the_cluster_is_one_that_ray_up_takes(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["available_node_types"]["trials"]["max_workers"] == cluster["max_workers"] == 8
    with pytest.raises(Exception, match="idle_minutes"):
        validate_config({**prepared, "idle_minutes": 1})


def test_a_machine_for_trials_is_there_from_the_beginning(cluster: dict[str, Any], job: dict[str, Any]) -> None:
    """A search is refused where no machine has room for a trial; the heads are the driver's."""
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    assert types["trials"]["min_workers"] >= 1
    assert types["trials"]["resources"]["GPU"] == 1
    spec = job["spec"]["rayClusterSpec"]
    start = spec["headGroupSpec"]["rayStartParams"]
    assert (start["num-cpus"], start["num-gpus"]) == ("0", "0")
    (workers,) = spec["workerGroupSpecs"]
    assert workers["minReplicas"] >= 1
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_job_has_no_field_that_kuberay_does_not_know(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"], set(job)) == (
        "ray.io/v1", "RayJob", {"apiVersion", "kind", "metadata", "spec"}
    )  # fmt: skip
    spec = job["spec"]
    assert spec.keys() <= RAY_JOB
    assert spec["rayClusterSpec"].keys() <= RAY_CLUSTER
    assert spec["rayClusterSpec"]["headGroupSpec"].keys() <= HEAD_GROUP
    for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
        assert {"groupName", "maxReplicas", "minReplicas", "template"} <= group.keys() <= WORKER_GROUP
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_job_writes_into_the_volume(job: dict[str, Any]) -> None:
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (volume,) = pod["volumes"]
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert mount["name"] == volume["name"]
    (search, *_) = [words for words in searches() if "/runs/first" in words and "--out" in words]
    assert search[search.index("--out") + 1].startswith(mount["mountPath"])
    assert volume["persistentVolumeClaim"]["claimName"] in GUIDE


def test_versions_are_the_same_everywhere(cluster: dict[str, Any], job: dict[str, Any]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    image = (DEPLOY / "Dockerfile").read_text().split("FROM ")[1].split()[0]
    assert cluster["docker"]["image"] == image
    ray, python = re.fullmatch(r"rayproject/ray:(\d+\.\d+\.\d+)-py(\d+)-gpu", image).groups()  # type: ignore[union-attr]
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray
    least = re.search(r"ray\[.*\]>=(\d+)\.(\d+)", project["optional-dependencies"]["ray"][0])
    assert least is not None
    assert tuple(map(int, ray.split(".")))[:2] >= (int(least[1]), int(least[2]))
    assert int(python) >= int(project["requires-python"].removeprefix(">=").replace(".", ""))
    tag = f"sret-nas:{project['version']}"
    pods = [job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    images = {container["image"] for pod in pods for container in pod["template"]["spec"]["containers"]}
    assert images == {f"REGISTRY/{tag}"}
    assert f"-t REGISTRY/{tag} ." in (DEPLOY / "Dockerfile").read_text()


def test_ports_are_those_that_are_written(cluster: dict[str, Any], job: dict[str, Any]) -> None:
    port = re.search(r"--port=(\d+)", " ".join(cluster["head_start_ray_commands"]))
    assert port is not None
    assert f"$RAY_HEAD_IP:{port[1]}" in " ".join(cluster["worker_start_ray_commands"])
    assert set(re.findall(r"ray start .*?(?:--port=|HEAD:)(\d+)", GUIDE)) == {port[1]}
    (head,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    ports = {named["name"]: str(named["containerPort"]) for named in head["ports"]}
    assert ports["gcs-server"] == port[1]
    assert set(re.findall(r"http://127\.0\.0\.1:(\d+)", GUIDE)) == {ports["dashboard"]}


def test_files_that_are_named_are_there() -> None:
    named = re.findall(r"deploy/([\w.-]+)", GUIDE)
    assert sorted(set(named)) == ["Dockerfile", "ray-cluster.yaml", "rayjob.yaml"]
    for name in named:
        assert (DEPLOY / name).is_file()


def test_every_search_is_one_that_the_command_line_takes() -> None:
    parser = argparse.ArgumentParser()
    search.add_command(parser.add_subparsers())
    found = searches()
    assert len(found) == 6
    for words in found:
        _, unknown = parser.parse_known_args(words)
        assert unknown == []
