# SPDX-License-Identifier: Apache-2.0
"""The section `kubeflow`."""

from typing import Annotated, Literal

from pydantic import Field

from learn2compress.schemas.config.runners import ClusterFlinkConfig, Exchange
from learn2compress.schemas.config.types import NonNegativeInt, Rate, Section

# Memory in the notation of Kubernetes.
Quantity = Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)?(K|M|G|T|Ki|Mi|Gi|Ti)$")]


class NodeResources(Section):
    """The resources of a node's container."""

    cpu: Rate | None = Field(None, description="requested cores")
    cpu_limit: Rate | None = Field(None, description="limit of cores (default: as cpu)")
    memory: Quantity | None = Field(None, description="requested memory, such as 8Gi or 500M")
    memory_limit: Quantity | None = Field(None, description="limit of memory (default: as memory)")
    gpu: NonNegativeInt = Field(0, description="number of accelerators")
    accelerator: str = Field("nvidia.com/gpu", description="resource name of an accelerator in the cluster")


class VolumeConfig(Section):
    """A volume that is mounted in every step."""

    claim: str = Field(description="name of the PersistentVolumeClaim")
    mount: str = Field("/data", pattern=r"^/[^/].*$", description="mount path in the containers")


class KubeflowConfig(Section):
    """Settings for runs on a Kubeflow Pipelines cluster. The key `default` applies to all nodes that are not named."""

    image: str | None = Field(None, description="container image built by `make image` (default: --image)")
    pipeline_root: str | None = Field(
        None, description="location of the artifacts: s3://, gs:// or minio://BUCKET/PATH"
    )
    teacher: str | None = Field(None, description="location of the teacher on the cluster, if it is not teacher.path")
    data: str | None = Field(None, description="location of the data on the cluster, if it is not data.path")
    resources: dict[str, NodeResources] = Field({}, description="resources by node: {cpu: 4, memory: 8Gi, gpu: 1}")
    runner: Literal["direct", "flink", "dataflow"] = Field(
        "direct",
        description="engine of the Beam steps: direct: in the container of the step; flink: a session cluster in the "
        "namespace; dataflow: with the settings of pipeline.dataflow",
    )
    flink: ClusterFlinkConfig = Field(
        ClusterFlinkConfig(),
        description="settings of the runner flink: {master, job_server_jar, parallelism, environment, "
        "environment_config}",
    )
    exchange: Exchange | None = Field(
        None,
        description="address through which the workers of another runner get and leave files (default: below the "
        "outputs of the step)",
    )
    fan_out: bool = Field(
        False,
        description="prune and quantize each student in separate parallel tasks (Pruner-small, Quantizer-small …), "
        "after it was cut out of the family",
    )
    retries: dict[str, NonNegativeInt] = Field({}, description="number of retries of a failed step, by node")
    cache: dict[str, bool] = Field(
        {},
        description="whether cached results of an earlier run are used, by node (default: all except StudentSelector)",
    )
    env: dict[str, str] = Field({}, description="environment variables of every step, such as AWS_ENDPOINT_URL")
    secret: str | None = Field(
        None, description="secret with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, to read teacher and data"
    )
    volume: VolumeConfig | None = Field(None, description="{claim: NAME, mount: /data}")
