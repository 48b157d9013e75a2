# SPDX-License-Identifier: Apache-2.0
"""Which settings may differ from run to run of one compiled pipeline, and what stands for "not set" there.

They go by the names that the nodes' parameters have (`distill_epochs`). A parameter of a Kubeflow pipeline always has a
value, so -1 stands for a limit that is not set; the step's entrypoint leaves such a parameter out again.
"""

from learn2compress.schemas.errors import ConfigError
from learn2compress.storage.addresses import is_remote

UNSET = -1

DESCRIPTIONS = {
    "data_path": "the examples: s3://, gs:// or minio:// address, path on the mounted volume, or the word digits",
    "data_digest": "SHA-256 of the examples; or any text that changes when they do, and the step finds the SHA-256",
    "teacher_path": "the teacher: s3://, gs:// or minio:// address, or path on the mounted volume",
    "teacher_sha256": "SHA-256 of the teacher; or any text that changes when it does, and the step finds the SHA-256",
    "limit": "examples to take of each part of the data; -1: all",
    "seed": "of every random number",
    "distill_epochs": "epochs of distillation",
    "distill_learning_rate": "peak learning rate of distillation",
    "prune_sparsity": "share of zeros in the pruned kernels",
    "prune_epochs": "epochs of fine-tuning while the sparsity rises",
    "quantize_epochs": "epochs of quantization-aware training",
    "select_max_size": "largest file in bytes; -1: no limit",
    "select_max_latency_ms": "longest latency in milliseconds; -1: no limit",
    "select_max_macs": "most multiply-accumulates; -1: no limit",
    "select_min_accuracy": "lowest accuracy on the validation split; -1: no limit",
    "select_max_accuracy_drop": "largest drop of accuracy below the teacher; -1: no limit",
    "select_objective": "accuracy, accuracy_strict, size, latency or knee",
}

OPTIONAL = frozenset(
    {
        "limit",
        "select_max_size",
        "select_max_latency_ms",
        "select_max_macs",
        "select_min_accuracy",
        "select_max_accuracy_drop",
    }
)

LOCATIONS = (
    *("data_path", "teacher_path", "data_unlabeled", "distill_init"),
    *("teacher_tokenizer", "teacher_vocabulary"),
)
"""Parameters that name a file or a folder, which a step fetches before its node runs."""


def is_on_volume(location: str, mount: str | None) -> bool:
    """Whether a location is on the volume that every step sees."""
    return mount is not None and f"{location}/".startswith(f"{mount.rstrip('/')}/")


def check_root(root: str | None) -> str:
    """Take a pipeline root that every pod can reach.

    Raises:
        ConfigError: There is none, or it is local.
    """
    if not root or not is_remote(root):
        raise ConfigError(
            "the pipeline root must be an s3://, gs:// or minio:// address, which every pod can reach; "
            f"got {root or 'none'}. Pass --root, or set kubeflow.pipeline_root."
        )
    return root.rstrip("/")
