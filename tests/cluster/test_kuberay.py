"""KubeRay's manifests: by its schema and Kubernetes' own, the rules that KubeRay's operator adds, and ours.

The schemas are in schemas/; with ``KUBERAY_CRDS`` (a folder with KubeRay's own definitions) those are read instead.
"""

import json
import os
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import referencing
import yaml

SCHEMAS = Path(__file__).parent / "schemas"
ROOT = Path(__file__).parents[2]
FILES = ("raycluster.yaml", "rayjob.yaml")
SIZES = {"m": 1e-3, "": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


# ---------------------------------------------------------------------------------------------------------------- schemas


@pytest.fixture(scope="module")
def validator():
    """``validator(kind)`` of a resource."""
    names = ("kuberay.json", "kubernetes.json")
    schemas = {name: referencing.Resource.from_contents(json.loads((SCHEMAS / name).read_text())) for name in names}
    registry = referencing.Registry().with_resources(schemas.items())
    core = {"PersistentVolumeClaim": "kubernetes.json#/$defs/io.k8s.api.core.v1.PersistentVolumeClaim"}

    def of(kind):
        if "KUBERAY_CRDS" in os.environ and kind not in core:
            return jsonschema.Draft202012Validator(own_definition(Path(os.environ["KUBERAY_CRDS"]), kind))
        schema = {"$ref": core.get(kind, f"kuberay.json#/$defs/{kind}")}
        return jsonschema.Draft202012Validator(schema, registry=registry)

    return of


def own_definition(folder, kind):
    """KubeRay's schema of the kind, closed to unknown fields, as the API server is with strict validation."""
    definition = yaml.load((folder / f"ray.io_{kind.lower()}s.yaml").read_text(), Loader=yaml.CSafeLoader)
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema = version["schema"]["openAPIV3Schema"]
    close(schema)
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own
    return schema


def close(schema):
    """No fields but the known ones, in place."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
        for value in list(schema.values()):
            close(value)
    elif isinstance(schema, list):
        for value in schema:
            close(value)


@pytest.mark.parametrize("name", FILES)
def test_the_schemas_take_it(documents, validator, name):
    for document in documents(name):
        validator(document["kind"]).validate(document)


HEAD = "spec/headGroupSpec/template/spec"
JOB_HEAD = "spec/rayClusterSpec/headGroupSpec/template/spec"


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("raycluster.yaml", "spec/authOptions/mode", "yes"),
        ("raycluster.yaml", "spec/authOption", {"mode": "token"}),
        ("raycluster.yaml", "spec/headGroupSpec", None),
        ("raycluster.yaml", "spec/workerGroupSpecs/0/groupName", None),
        ("raycluster.yaml", "spec/workerGroupSpecs/0/maxReplicas", "8"),
        ("raycluster.yaml", "spec/headGroupSpec/rayStartParams/num-cpus", 0),
        ("raycluster.yaml", f"{HEAD}/containers/0/imagee", "zoocast"),
        ("raycluster.yaml", f"{HEAD}/containers/0/resources/limit", {}),
        ("raycluster.yaml", f"{HEAD}/securityContext/runAsNonRoot", "yes"),
        ("rayjob.yaml", "spec/ttlSecondsAfterFinished", "1h"),
        ("rayjob.yaml", "spec/submitterPodTemplate/spec/containers", None),
        ("rayjob.yaml", f"{JOB_HEAD}/volumes/0/persistentVolumeClaim/name", "zoocast"),
    ],
)
def test_the_schemas_refuse_a_broken_one(documents, change, validator, name, path, value):
    document = documents(name)[-1]
    change(document, path, value)
    with pytest.raises(jsonschema.ValidationError):
        validator(document["kind"]).validate(document)


def test_the_claim_is_checked_as_well(documents, change, validator):
    claim = documents("raycluster.yaml")[0]
    change(claim, "spec/accessMode", ["ReadWriteMany"])
    with pytest.raises(jsonschema.ValidationError, match="accessMode"):
        validator("PersistentVolumeClaim").validate(claim)


# ---------------------------------------------------------------------------------------------------------------- rules


def cluster_of(document):
    """The specification of the cluster in a RayCluster or a RayJob; None when the job selects one that is there."""
    return document["spec"] if document["kind"] == "RayCluster" else document["spec"].get("rayClusterSpec")


def refusals(document):
    """What KubeRay's operator says of a resource that its schema takes."""
    spec, cluster, found = document["spec"], cluster_of(document), []
    if document["kind"] == "RayJob":
        if bool(spec.get("clusterSelector")) == bool(cluster):
            found.append("one of clusterSelector and rayClusterSpec must be set")
        if spec.get("clusterSelector") and spec.get("backoffLimit", 0) > 0:
            found.append("clusterSelector excludes backoffLimit")
        if spec.get("ttlSecondsAfterFinished", 0) > 0 and not spec.get("shutdownAfterJobFinishes"):
            found.append("ttlSecondsAfterFinished needs shutdownAfterJobFinishes")
    if cluster is None:
        return found
    if not re.fullmatch(r"\d+\.\d+\.\d+", cluster.get("rayVersion", "")):
        found.append("a token needs rayVersion")
    v2 = cluster.get("enableInTreeAutoscaling") and cluster.get("autoscalerOptions", {}).get("version") == "v2"
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        name = group.get("groupName", "head")
        if not group.get("minReplicas", 0) <= group.get("replicas", 0) <= group.get("maxReplicas", 0):
            found.append(f"{name}: minReplicas <= replicas <= maxReplicas must hold")
        if "idleTimeoutSeconds" in group and not v2:
            found.append(f"{name}: idleTimeoutSeconds needs the autoscaler's version v2")
        if v2 and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            found.append(f"{name}: the autoscaler's version v2 needs restartPolicy Never")
    return found


def pods(document):
    """Every pod's specification."""
    cluster = cluster_of(document)
    templates = [group["template"] for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]]
    if "submitterPodTemplate" in document["spec"]:
        templates.append(document["spec"]["submitterPodTemplate"])
    return [template["spec"] for template in templates]


def amount(quantity):
    """Kubernetes' quantity as a number."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity).groups()
    return float(number) * SIZES[unit]


def unfit(document):
    """What we would not run."""
    found = []
    if cluster_of(document).get("authOptions", {}).get("mode") != "token":
        found.append("no token is asked for")
    for pod in pods(document):
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        if pod["securityContext"].get("runAsNonRoot") is not True:
            found.append("a pod may run as root")
        for container in pod["containers"]:
            if container["securityContext"].get("allowPrivilegeEscalation") is not False:
                found.append("a container may gain privileges")
            resources = container["resources"]
            for kind in ("cpu", "memory"):
                least, most = resources.get("requests", {}).get(kind), resources.get("limits", {}).get(kind)
                if least is None or most is None or amount(least) > amount(most):
                    found.append(f"{kind} is not requested within a limit")
            secrets = [v for v in container.get("env", ()) if re.search("PASSWORD|TOKEN|SECRET|KEY", v["name"])]
            found += [f"{v['name']} is in the file" for v in secrets if "secretKeyRef" not in v.get("valueFrom", {})]
            if not {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes:
                found.append("a volume is mounted that the pod has not")
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_operator_takes_it(documents, name):
    assert refusals(documents(name)[-1]) == []


@pytest.mark.parametrize(
    ("name", "path", "value", "refusal"),
    [
        ("rayjob.yaml", "spec/shutdownAfterJobFinishes", False, "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"),
        ("rayjob.yaml", "spec/rayClusterSpec", None, "one of clusterSelector and rayClusterSpec must be set"),
        ("rayjob.yaml", "spec/rayClusterSpec/rayVersion", None, "a token needs rayVersion"),
        (
            "rayjob.yaml",
            "spec/rayClusterSpec/workerGroupSpecs/0/minReplicas",
            5,
            "gpu: minReplicas <= replicas <= maxReplicas must hold",
        ),
        (
            "rayjob.yaml",
            "spec/rayClusterSpec/workerGroupSpecs/0/idleTimeoutSeconds",
            60,
            "gpu: idleTimeoutSeconds needs the autoscaler's version v2",
        ),
        ("raycluster.yaml", f"{HEAD}/restartPolicy", "Always", "head: the autoscaler's version v2 needs restartPolicy Never"),
    ],
)
def test_the_operator_refuses_a_broken_one(documents, change, name, path, value, refusal):
    document = documents(name)[-1]
    change(document, path, value)
    assert refusals(document) == [refusal]


def test_a_job_on_a_cluster_that_is_there_has_no_retries(documents, change):
    job = documents("rayjob.yaml")[-1]
    change(job, "spec/rayClusterSpec", None)
    change(job, "spec/clusterSelector", {"ray.io/cluster": "zoocast"})
    assert refusals(job) == ["clusterSelector excludes backoffLimit"]
    change(job, "spec/backoffLimit", 0)
    assert refusals(job) == []


@pytest.mark.parametrize("name", FILES)
def test_it_is_fit_to_run(documents, name):
    assert unfit(documents(name)[-1]) == []


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("spec/authOptions/mode", "disabled", "no token is asked for"),
        (f"{HEAD}/securityContext/runAsNonRoot", None, "a pod may run as root"),
        (f"{HEAD}/containers/0/securityContext/allowPrivilegeEscalation", None, "a container may gain privileges"),
        (f"{HEAD}/containers/0/resources/limits/memory", None, "memory is not requested within a limit"),
        (f"{HEAD}/containers/0/resources/requests/cpu", "2500m", "cpu is not requested within a limit"),
        (f"{HEAD}/containers/0/env/3", {"name": "A_PASSWORD", "value": "abc"}, "A_PASSWORD is in the file"),
        (f"{HEAD}/volumes", [], "a volume is mounted that the pod has not"),
    ],
)
def test_what_is_unfit_is_seen(documents, change, path, value, found):
    document = documents("raycluster.yaml")[-1]
    change(document, path, value)
    assert unfit(document) == [found]


@pytest.mark.parametrize("name", FILES)
def test_versions_are_those_of_the_image(documents, name):
    document = documents(name)[-1]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert cluster_of(document)["rayVersion"] == pinned["ray"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    tags = {container["image"].rpartition(":")[2] for pod in pods(document) for container in pod["containers"]}
    assert tags == {version, f"{version}-cuda"}
