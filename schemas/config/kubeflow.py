# SPDX-License-Identifier: Apache-2.0
"""The section `kubeflow`."""

from typing import Annotated

from pydantic import Field

from learn2compress.schemas.config.types import NonNegativeInt, Rate, Section

# Memory as Kubernetes writes it.
Quantity = Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)?(K|M|G|T|Ki|Mi|Gi|Ti)$")]


class NodeResources(Section):
    """What a node's container asks for."""

    cpu: Rate | None = Field(None, description="cores asked for")
    cpu_limit: Rate | None = Field(None, description="cores at most (default: as cpu)")
    memory: Quantity | None = Field(None, description="memory asked for, as 8Gi or 500M")
    memory_limit: Quantity | None = Field(None, description="memory at most (default: as memory)")
    gpu: NonNegativeInt = Field(0, description="accelerators")
    accelerator: str = Field("nvidia.com/gpu", description="the cluster's name for one")


class VolumeConfig(Section):
    """A volume that every step sees."""

    claim: str = Field(description="name of the PersistentVolumeClaim")
    mount: str = Field("/data", pattern=r"^/[^/].*$", description="where it appears in the containers")


class KubeflowConfig(Section):
    """How the same nodes run on a Kubeflow Pipelines cluster. The key `default` stands for all nodes not named."""

    image: str | None = Field(None, description="the container image that `make image` built (default: --image)")
    pipeline_root: str | None = Field(None, description="where artifacts go: s3://, gs:// or minio://BUCKET/PATH")
    teacher: str | None = Field(None, description="where the cluster finds the teacher, if not at teacher.path")
    data: str | None = Field(None, description="where the cluster finds the data, if not at data.path")
    resources: dict[str, NodeResources] = Field({}, description="by node: {cpu: 4, memory: 8Gi, gpu: 1}")
    fan_out: bool = Field(
        False,
        description="prune and quantize each student in tasks of its own, at the same time: Pruner-small, "
        "Quantizer-small …; it is cut out of the family first",
    )
    retries: dict[str, NonNegativeInt] = Field({}, description="by node: how often a failed step is tried again")
    cache: dict[str, bool] = Field(
        {}, description="by node: whether an earlier run's result may be taken (default: by all but StudentSelector)"
    )
    env: dict[str, str] = Field({}, description="environment variables of every step, as AWS_ENDPOINT_URL")
    secret: str | None = Field(
        None, description="secret with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, to read teacher and data"
    )
    volume: VolumeConfig | None = Field(None, description="{claim: NAME, mount: /data}")
