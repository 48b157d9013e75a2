# SPDX-License-Identifier: Apache-2.0
"""Why a container does not start or was ended, and what helps: the reasons that Kubernetes and Argo give.

Source: the reasons are those of the kubelet (ErrImagePull, ImagePullBackOff, CreateContainerConfigError, OOMKilled,
Evicted), of the scheduler (Unschedulable) and of a deadline (DeadlineExceeded).
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """A reason that is known.

    Attributes:
        pattern: How it is named in messages.
        fault: What it means, as the rest of a sentence that begins with the step.
        remedy: What helps; {node}, {namespace} and {image} stand for the step's.
    """

    pattern: re.Pattern[str]
    fault: str
    remedy: str


def _reason(pattern: str, fault: str, remedy: str) -> Reason:
    return Reason(re.compile(pattern), fault, remedy)


REASONS = (
    _reason(
        r"\b(ImagePullBackOff|ErrImagePull|ErrImageNeverPull|InvalidImageName|ImageInspectError|RegistryUnavailable)\b",
        "its image cannot be pulled",
        "Push the image, or give the service account a pull secret: docs/how-to/kubeflow.md, The image",
    ),
    _reason(
        r"\b(Unschedulable|FailedScheduling)\b|nodes are available",
        "no machine of the cluster has room for it",
        "Lower kubeflow.resources.{node} (or default), or add a machine that has as much",
    ),
    _reason(
        r"\bOOMKilled\b|\bexit (code|status):? 137\b|signal: killed",
        "it ran out of memory",
        "Raise kubeflow.resources.{node}.memory and submit again; finished steps come from the cache",
    ),
    _reason(
        r"\bDeadlineExceeded\b|deadline exceeded|exceeded its deadline|active on the node longer than",
        "it was ended at its deadline",
        "Raise the cluster's deadline (activeDeadlineSeconds), or give kubeflow.resources.{node} more cores",
    ),
    _reason(
        r"\bEvicted\b|\bPreempt(ed|ing)\b|node was low on resource",
        "it was evicted for want of memory or disk",
        "Request what it uses in kubeflow.resources.{node}, and set kubeflow.retries",
    ),
    _reason(
        r"\bCreateContainerConfigError\b|secret \S+ not found|runAsNonRoot",
        "its container cannot be set up: a secret, a volume or the image's user does not fit",
        "Create kubeflow.secret in namespace {namespace}, and use an image whose user is a number other than 0",
    ),
    _reason(
        r"exec format error",
        "its image is of another processor architecture",
        "Build the image for the cluster's machines: make image ARGS=--platform=linux/amd64",
    ),
    _reason(
        r"\b(CreateContainerError|RunContainerError|StartError|CrashLoopBackOff)\b",
        "its container cannot be started",
        "Build the image with make image: an image of the step has the command python",
    ),
    _reason(
        r"\b(FailedMount|FailedAttachVolume)\b|unbound immediate PersistentVolumeClaims|persistentvolumeclaim \S+ not",
        "its volume cannot be mounted",
        "Create kubeflow.volume.claim in namespace {namespace}, with ReadWriteMany",
    ),
)


def find_reason(text: str | None) -> Reason | None:
    """Find the known reason that a message names."""
    return next((reason for reason in REASONS if text and reason.pattern.search(text)), None)
