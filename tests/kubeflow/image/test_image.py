# SPDX-License-Identifier: Apache-2.0
"""The image: built by `make image`, and a step of the compiled pipeline run in it, without privileges and offline.

LEARN2COMPRESS_IMAGE_ARGS holds the builder's arguments that a machine requires, as `--network host --build-arg BASE=…`.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from learn2compress.kubeflow.spec.compile import compile_pipeline
from learn2compress.schemas.config import load_config

ROOT = Path(__file__).resolve().parents[3]
NAME = "localhost/learn2compress:test"
NO_REGISTRY = r"no such host|i/o timeout|connection refused|network is unreachable|pinging container registry"
PODMAN = ["podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]
RUN = [*PODMAN, "run", "--rm", "--network", "none", "--cap-drop", "all", "--ulimit", "nofile=4096:4096"]
RUN += ["--ulimit", "nproc=4096:4096"]

needs_podman = pytest.mark.skipif(
    not all(map(shutil.which, ("podman", "buildah", "runc"))), reason="needs podman, buildah and runc"
)


def test_containerfile_ends_as_a_user_who_is_a_number():
    """Pods with runAsNonRoot require it: Kubernetes cannot determine whether a name is root's."""
    lines = (ROOT / "kubeflow" / "Containerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]

    assert users
    assert users[-1].isdecimal()
    assert int(users[-1]) != 0


@pytest.fixture(scope="module")
def image():
    """The built image."""
    arguments = os.environ.get("LEARN2COMPRESS_IMAGE_ARGS", "")
    command = ["make", "-C", str(ROOT), "image", f"IMAGE={NAME}", f"ARGS={arguments}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "BUILDER": "buildah"})
    if done.returncode and re.search(NO_REGISTRY, done.stderr):
        pytest.skip("the base image cannot be pulled here; LEARN2COMPRESS_IMAGE_ARGS may name another")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return NAME


def inside(image, *command):
    done = subprocess.run([*RUN, image, *command], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@needs_podman
def test_image_runs_without_privileges_and_build_tools(image):
    assert inside(image, "id", "-u")[1] == "10001\n"
    for tool in ("pip", "uv", "gcc", "g++", "cc", "pytest", "ruff"):
        assert inside(image, "sh", "-c", f"command -v {tool}")[0] != 0, tool
    assert inside(image, "learn2compress", "--version")[1].startswith("learn2compress ")
    assert inside(image, "sh", "-c", "touch /opt/venv/x")[0] != 0


@pytest.mark.slow
@needs_podman
def test_entrypoint_runs_without_root_and_new_privileges(image):
    strict = [*RUN, "--user", "10001", "--security-opt", "no-new-privileges", "--read-only", "--tmpfs", "/tmp"]
    step = ["python", "-m", "learn2compress.kubeflow.entrypoint", "--node", "Pruner"]

    done = subprocess.run([*strict, image, *step], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("learn2compress: step: the step's arguments must be those")
    for folder in ("/minio", "/s3", "/gcs"):  # where the launcher, as the same user, puts copies of artifacts
        assert inside(image, "sh", "-c", f"touch {folder}/x")[0] == 0


@pytest.mark.slow
@needs_podman
def test_step_runs_in_the_image_without_network(image, load, tmp_path):
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(compile_pipeline(load_config(ROOT / "examples" / "digits" / "config.yaml"), image))
    emulator = load("emulator").Emulator(tmp_path / "store", tmp_path / "pods", container=RUN)

    made = emulator.run(pipeline, {"limit": 100, "teacher_path": "s3://b/t", "teacher_sha256": "x"}, only=1)

    examples = made["ImageExampleGen"]["examples"]
    assert examples["metadata"]["images"] == 200.0
    stored = tmp_path / "store" / examples["uri"].removeprefix("minio://")
    assert (stored / "manifest.json").is_file()
