"""The files for clusters: valid as far as can be known without a cloud, and at one with each other and the package."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sret_nas import __version__
from tests import REPOSITORY
from tests.trials.ray_private import prepare_config, validate_config
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
    """Returns every search that is written anywhere, as arguments."""
    job = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
    texts = [*GUIDE.replace("\\\n", " ").splitlines(), job["spec"]["entrypoint"]]
    texts += (DEPLOY / "slurm.sh").read_text().splitlines()
    texts += re.findall(r"# .*?(sret-nas search .*)", (DEPLOY / "rayjob.yaml").read_text())
    found = (re.search(r"(?:python cli\.py|sret-nas) (search .*?)(?: &)?$", text) for text in texts)
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
    least = re.search(r"ray\[.*\]>=(\d+)\.(\d+)", " ".join(project["optional-dependencies"]["ray"]))
    assert least is not None
    assert tuple(map(int, ray.split(".")))[:2] >= (int(least[1]), int(least[2]))
    assert int(python) >= int(project["requires-python"].removeprefix(">=").replace(".", ""))
    tag = f"sret-nas:{__version__}"
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
    assert sorted(set(named)) == [
        "Dockerfile", "constraints.txt", "network-policy.yaml", "ray-cluster.yaml", "rayjob.yaml", "slurm.sh"
    ]  # fmt: skip
    for name in named:
        assert (DEPLOY / name).is_file()


def test_every_search_is_one_that_the_command_line_takes() -> None:
    parser = argparse.ArgumentParser()
    search.add_command(parser.add_subparsers())
    found = searches()
    assert len(found) == 8
    for words in found:
        _, unknown = parser.parse_known_args(words)
        assert unknown == []


LABELS = {"app.kubernetes.io/name": "sret-nas"}


def templates(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns all pods that the job makes."""
    spec = job["spec"]["rayClusterSpec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [job["spec"]["submitterPodTemplate"], *(group["template"] for group in groups)]


def test_tokens_are_asked_for_everywhere(cluster: dict[str, Any], job: dict[str, Any]) -> None:
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    aws = GUIDE.partition("## AWS")[2].partition("## Kubernetes")[0]
    begin = aws.index("ray up ")
    assert 0 < aws.index("export RAY_AUTH_MODE=token") < aws.index("ray get-auth-token --generate") < begin


def test_the_dashboard_is_not_on_all_interfaces(cluster: dict[str, Any], job: dict[str, Any]) -> None:
    assert "--dashboard-host=127.0.0.1" in " ".join(cluster["head_start_ray_commands"])
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["dashboard-host"] == "$(POD_IP)"
    (container,) = head["template"]["spec"]["containers"]
    assert {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}} in container["env"]
    ports = {named["containerPort"] for named in container["ports"]}
    assert {container[probe]["tcpSocket"]["port"] for probe in ("readinessProbe", "livenessProbe")} == ports
    for path in DEPLOY.glob("*.yaml"):
        assert "0.0.0.0" not in path.read_text(), path


def test_pods_have_no_privileges_and_limits(job: dict[str, Any]) -> None:
    found = templates(job)
    assert len(found) == 3
    for template in found:
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 1000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        for kind in ("requests", "limits"):
            assert container["resources"][kind].keys() >= {"cpu", "memory", "ephemeral-storage"}
    assert (DEPLOY / "Dockerfile").read_text().rstrip().endswith("USER 1000")


def test_the_network_lets_in_only_the_job_and_kuberay(job: dict[str, Any]) -> None:
    policy = yaml.safe_load((DEPLOY / "network-policy.yaml").read_text())
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    spec = policy["spec"]
    assert spec["podSelector"] == {"matchLabels": LABELS}
    assert [template["metadata"]["labels"] for template in templates(job)] == [LABELS] * 3
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    among_themselves, operator = spec["ingress"]
    assert among_themselves == {"from": [{"podSelector": {"matchLabels": LABELS}}]}
    (peer,) = operator["from"]
    assert peer["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]
    assert all("to" in rule or rule["ports"] for rule in spec["egress"])
    assert GUIDE.index("apply -f deploy/network-policy.yaml") < GUIDE.index("apply -f deploy/rayjob.yaml")


def test_dependencies_are_pinned(cluster: dict[str, Any]) -> None:
    pins = [Requirement(line) for line in (DEPLOY / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    pinned = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert all(str(pin.specifier).startswith("==") for pin in pins)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["storage"], *(name for name in extras["ray"] if "psutil" in name)]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    install = "-c /home/ray/sret-nas/deploy/constraints.txt psutil '/home/ray/sret-nas[storage]'"
    assert any(install in command for command in cluster["setup_commands"])
    assert install in (DEPLOY / "Dockerfile").read_text()


def test_what_git_ignores_and_what_is_secret_stays_here(cluster: dict[str, Any]) -> None:
    """And the history, results and images; names of folders in the root leave no package of the same name out."""
    ignored = (REPOSITORY / ".gitignore").read_text().split()
    rsync = set(cluster["rsync_exclude"])
    docker = {line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if not line.startswith("#")}
    for pattern in ignored:
        name = pattern.strip("/")
        assert name in {entry.lstrip("/") for entry in rsync}
        assert docker & {name, f"**/{name}"}
    for name in (".git", ".env", "runs", "images", "data", "prepared-data"):
        assert name in docker
        assert rsync & {name, f"/{name}"}
    packages = {path.name for path in (REPOSITORY / "trials").iterdir() if path.is_dir()} - {"__pycache__"}
    assert not packages & rsync
    assert not {f"**/{name}" for name in packages} & docker


SEARCH_ON_SLURM = """#!/bin/bash
echo "$@" >> "$CALLS"
trap 'exit 130' TERM
if [ "$2" = --resume ]; then exit 0; fi
mkdir -p "$RUN" && echo header > "$RUN/records.jsonl"
until (( 0x$(sed -n 's/^SigCgt:[[:space:]]*//p' /proc/$PPID/status) & 0x4000 )); do :; done
kill -TERM "$PPID"
while :; do read -t 0.01 <> <(:); done
"""
"""Stands for `sret-nas`: a search whose job's time is over as soon as the script handles the signal that says so."""


def test_a_slurm_job_is_queued_again_until_its_search_has_ended(tmp_path: Path) -> None:
    for name, script in (("sret-nas", SEARCH_ON_SLURM), ("scontrol", '#!/bin/bash\necho scontrol "$@" >> "$CALLS"\n')):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    calls, run = tmp_path / "calls", tmp_path / "run"
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), "RUN": str(run), "SLURM_JOB_ID": "17"
    }  # fmt: skip
    job = ["bash", str(DEPLOY / "slurm.sh")]
    assert [subprocess.run(job, env=environment, check=False, timeout=60).returncode for _ in range(2)] == [130, 0]
    first, queued, second = calls.read_text().splitlines()
    assert first == f"search --flops-budget 1G --data path/to/images --out {run} --workers 8"
    assert queued == "scontrol requeue 17"
    assert second == f"search --resume {run} --workers 8"
