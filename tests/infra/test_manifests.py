"""What can be known about infra/ without Docker and Kubernetes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
INFRA = ROOT / "infra"
RAYJOB: dict[str, Any] = yaml.safe_load((INFRA / "rayjob.yaml").read_text())
SPEC: dict[str, Any] = RAYJOB["spec"]
CLUSTER: dict[str, Any] = SPEC["rayClusterSpec"]
[RAY_VERSION] = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
MEMORY_UNITS = {"Mi": 2**20, "Gi": 2**30}


def ray_groups() -> list[dict[str, Any]]:
    return [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


def ray_pods() -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in ray_groups()]


def containers(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [container for pod in pods for container in pod["containers"]]


ALL_PODS = [*ray_pods(), SPEC["submitterPodTemplate"]["spec"]]


def size(quantity: str) -> int:
    return int(quantity[:-2]) * MEMORY_UNITS[quantity[-2:]]


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, arguments), comments dropped and continued lines joined."""
    lines = [line for line in (INFRA / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    split = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(instruction, " ".join(arguments.split())) for instruction, arguments in split]


def test_the_job_is_a_rayjob_of_our_ray() -> None:
    assert (RAYJOB["apiVersion"], RAYJOB["kind"]) == ("ray.io/v1", "RayJob")
    assert CLUSTER["rayVersion"] == RAY_VERSION


def test_the_cluster_goes_when_the_job_is_done() -> None:
    assert SPEC["shutdownAfterJobFinishes"] is True
    assert SPEC["ttlSecondsAfterFinished"] > 0


def test_ray_asks_for_a_token_and_no_file_holds_one() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token"}
    for file in INFRA.iterdir():
        assert not re.search(r"RAY_AUTH_TOKEN['\"]?\s*[:=]\s*\S", file.read_text()), file


def test_nothing_listens_everywhere() -> None:
    for file in INFRA.iterdir():
        assert "0.0.0.0" not in file.read_text(), file  # noqa: S104
    assert all("dashboard-host" not in group["rayStartParams"] for group in ray_groups())


def test_the_entrypoint_is_a_command_we_have() -> None:
    from pipeline.cli import commands
    from pipeline.config import load_config

    program, command, *arguments = shlex.split(SPEC["entrypoint"])
    assert program == "pipeline"
    context = commands.commands[command].make_context(command, arguments)
    assert context.params["stage"] == "all"
    assert context.params["as_json"] is True
    in_image = "/home/ray/lm-pipeline/"
    file = str(context.params["config_file"])
    assert file.startswith(in_image)
    config = load_config(ROOT / file.removeprefix(in_image), context.params["overrides"])
    assert config.runtime.store == "/data/runs"
    assert config.runtime.workers == sum(group["replicas"] for group in CLUSTER["workerGroupSpecs"])


def test_the_head_runs_no_tasks() -> None:
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_ray_start_parameters_are_strings() -> None:
    """The custom resource holds a map of strings; a bare number is refused by the API server."""
    for group in ray_groups():
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@pytest.mark.parametrize("pod", ALL_PODS, ids=lambda pod: pod["containers"][0]["name"])
def test_no_container_may_become_more_than_it_is(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize("container", containers(ALL_PODS), ids=lambda container: container["name"])
def test_every_container_says_what_it_needs(container: dict[str, Any]) -> None:
    for kind in ("requests", "limits"):
        assert container["resources"][kind].keys() >= {"cpu", "memory"}
    assert size(container["resources"]["requests"]["memory"]) <= size(container["resources"]["limits"]["memory"])


def test_all_containers_run_the_same_image() -> None:
    assert len({container["image"] for container in containers(ALL_PODS)}) == 1


@pytest.mark.parametrize("group", ray_groups(), ids=lambda group: group.get("groupName", "head"))
def test_the_object_store_fits_into_shared_memory_and_the_pod(group: dict[str, Any]) -> None:
    pod = group["template"]["spec"]
    [container] = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    shared_memory = mounts["/dev/shm"]["emptyDir"]  # noqa: S108
    assert shared_memory["medium"] == "Memory"
    limit = size(container["resources"]["limits"]["memory"])
    assert int(group["rayStartParams"]["object-store-memory"]) < size(shared_memory["sizeLimit"]) < limit / 2


def test_head_and_workers_share_the_store() -> None:
    claim = yaml.safe_load((INFRA / "store.yaml").read_text())
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in ray_pods():
        names = {
            volume["name"]
            for volume in pod["volumes"]
            if volume.get("persistentVolumeClaim") == {"claimName": claim["metadata"]["name"]}
        }
        assert {"/data"} == {m["mountPath"] for m in pod["containers"][0]["volumeMounts"] if m["name"] in names}


def test_nobody_is_told_what_runs_here() -> None:
    for container in containers(ray_pods()):
        assert {(e["name"], e["value"]) for e in container["env"]} >= {
            ("RAY_USAGE_STATS_ENABLED", "0"),
            ("MLFLOW_DISABLE_TELEMETRY", "true"),
        }
    settings = dict(pair.split("=") for name, value in dockerfile() if name == "ENV" for pair in value.split())
    assert settings == {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}


def test_the_image_starts_from_our_ray() -> None:
    instructions = dockerfile()
    assert instructions[0] == ("ARG", "ACCELERATOR=cpu")
    assert instructions[1] == ("FROM", f"rayproject/ray:{RAY_VERSION}-py311-${{ACCELERATOR}}")
    assert {name for name, _ in instructions} <= {"ARG", "FROM", "USER", "WORKDIR", "COPY", "RUN", "ENV"}


def test_the_image_runs_as_the_user_of_the_manifest() -> None:
    users = [value for name, value in dockerfile() if name == "USER"]
    assert users == [str(pod["securityContext"]["runAsUser"]) for pod in ray_pods()[:1]]
    assert "sudo" not in (INFRA / "Dockerfile").read_text()


def test_the_image_keeps_no_cache_and_takes_the_pins() -> None:
    installs = [value for name, value in dockerfile() if name == "RUN" and "pip install" in value]
    assert len(installs) == 2
    assert all("--no-cache-dir" in install for install in installs)
    assert "-c constraints.txt" in installs[0]
    assert "--no-deps" in installs[1]


def copied() -> Iterator[str]:
    for name, value in dockerfile():
        if name == "COPY":
            yield from [word for word in value.split() if not word.startswith("--")][:-1]


def test_what_the_image_copies_exists_and_nothing_else_is_sent_to_the_builder() -> None:
    sources = set(copied())
    assert all((ROOT / source).exists() for source in sources), sources
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == sources
    assert {"pipeline", "components", "lm_pipeline.py", "pyproject.toml", "constraints.txt"} <= sources
