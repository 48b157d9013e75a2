# SPDX-License-Identifier: Apache-2.0
"""The image's user: Kubernetes accepts it where runAsNonRoot is set, and a step needs no more rights than it has.

Containers run under runc, as those of a pod do.
"""

import subprocess
from pathlib import Path

import pytest

from learn2compress.kubeflow.checks import registry
from learn2compress.kubeflow.spec.compile import compile_pipeline
from learn2compress.schemas.config import load_config
from learn2compress.schemas.errors import ClusterError

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
USER = "\nUSER 10001\n"
WRITABLE = {"/home/learn2compress", "/tmp", "/minio", "/s3", "/gcs"}


def refusal(user: str) -> str | None:
    """Returns why a kubelet does not start a pod with runAsNonRoot whose image has this user.

    Source: verifyRunAsNonRoot in pkg/kubelet/kuberuntime/security_context.go of kubernetes/kubernetes, and
    getImageUser in kuberuntime_image.go.
    """
    name = user.partition(":")[0]
    if name and not name.isdecimal():
        return f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
    if int(name or 0) == 0:
        return "container has runAsNonRoot and image will run as root"
    return None


@pytest.fixture
def examine(images, monkeypatch):
    """Runs doctor's check of an image on what the image's registry would describe."""

    def run(image):
        facts = registry.ImageFacts(200, (registry.PLATFORM,), images.config(image).get("User", ""))
        monkeypatch.setattr(registry, "look_up_image", lambda *_: facts)
        return registry.check_image(image)

    return run


def writable_folders(images, image) -> set[str]:
    """The folders of a container in which its user may make files, without those of the machine."""
    rights = ("--network", "none", "--cap-drop", "all")
    search = ["find", "/", "-xdev", "-type", "d", "-writable", "-print"]
    done = subprocess.run([*images.command(*rights), image, *search], capture_output=True, text=True)
    return set(done.stdout.split())


def test_image_has_a_user_that_runs_where_root_is_forbidden(images, local_image, examine):
    assert refusal(images.config(local_image)["User"]) is None
    assert examine(local_image).endswith("user 10001")


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("root", "\nUSER root\n", "non-numeric user"),
        ("zero", "\nUSER 0:0\n", "will run as root"),
        ("named", "\nUSER learn2compress\n", "non-numeric user"),
        ("none", "\n", "will run as root"),
    ],
)
def test_image_with_another_user_is_refused_by_kubernetes_and_by_doctor(images, examine, name, line, reason):
    image = images.build(name, (USER, line))

    assert reason in refusal(images.config(image).get("User", ""))
    with pytest.raises(ClusterError, match="must have a user that is a number other than 0"):
        examine(image)


def test_user_may_write_its_home_and_the_launchers_folders_alone(images, local_image):
    assert writable_folders(images, local_image) == WRITABLE


@pytest.mark.parametrize(
    ("name", "changes", "lost"),
    [
        ("closed", [("chmod 1777", "chmod 755")], {"/minio", "/s3", "/gcs"}),
        (
            "homeless",
            [("--create-home", "--no-create-home"), ("WORKDIR /home/learn2compress", "WORKDIR /")],
            {"/home/learn2compress"},
        ),
    ],
)
def test_folder_that_the_containerfile_does_not_provide_is_missed(images, name, changes, lost):
    assert writable_folders(images, images.build(name, *changes)) == WRITABLE - lost


def test_container_has_no_privilege(images, local_image):
    status = "id -u; grep -E '^(NoNewPrivs|CapEff|CapBnd):' /proc/self/status; touch /x /opt/x /home/learn2compress/x"

    done = subprocess.run([*images.strict_command(), local_image, "sh", "-c", status], capture_output=True, text=True)

    uid, *rights = done.stdout.split()
    assert uid == "10001"
    assert dict(zip(rights[::2], (int(value, 16) for value in rights[1::2]), strict=True)) == {
        "CapBnd:": 0, "CapEff:": 0, "NoNewPrivs:": 1,
    }  # fmt: skip
    assert done.stderr.count("Read-only file system") == 3


def test_step_runs_without_privilege_and_writes_only_what_the_launcher_takes(images, local_image, load, tmp_path):
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(compile_pipeline(load_config(ROOT / "examples" / "digits" / "config.yaml"), local_image))
    emulator = load("emulator").Emulator(
        tmp_path / "store", tmp_path / "pods", container=images.strict_command(), version="2.17"
    )

    made = emulator.run(pipeline, {"limit": 100, "teacher_path": "s3://b/t", "teacher_sha256": "x"}, only=1)

    examples = made["ImageExampleGen"]["examples"]
    assert examples["metadata"]["images"] == 200.0
    assert examples["uri"].startswith("minio://bucket/runs/")
    stored = tmp_path / "store" / examples["uri"].removeprefix("minio://")
    assert (stored / "manifest.json").is_file()
    assert "Permission denied" not in emulator.logs["ImageExampleGen"]
    assert "Read-only file system" not in emulator.logs["ImageExampleGen"]


def test_step_that_fails_without_privilege_says_why(images, local_image):
    step = ["python", "-m", "learn2compress.kubeflow.entrypoint", "--node", "Pruner"]

    done = subprocess.run([*images.strict_command(), local_image, *step], capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("learn2compress: step: the step's arguments must be those")
