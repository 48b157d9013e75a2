# SPDX-License-Identifier: Apache-2.0
"""The configuration of a run: typed, immutable, and checked when it is read. All defaults are defined here.

Accuracies and sparsities are fractions in [0, 1]; names end in their unit (`_bytes`, `_ms`). Sizes are written as 24KB,
1.5MB (1,000) or 24KiB (1,024), counts as 2M or 500K.
"""

from learn2compress.schemas.config.config import (
    DATA_WORDS,
    INIT_WORDS,
    PATH_FIELDS,
    Config,
    build_config,
    explain_faults,
    load_config,
    parse_config,
)
from learn2compress.schemas.config.data import DataConfig
from learn2compress.schemas.config.distill import DistillConfig, LossConfig, TrainingConfig
from learn2compress.schemas.config.evaluate import EvaluateConfig
from learn2compress.schemas.config.kubeflow import KubeflowConfig, NodeResources, VolumeConfig
from learn2compress.schemas.config.pipeline import PipelineConfig
from learn2compress.schemas.config.prune import (
    BUILT_IN_PASSES,
    ChannelPassConfig,
    ChannelTarget,
    MagnitudePassConfig,
    PassChoice,
    PruneConfig,
)
from learn2compress.schemas.config.quantize import QuantizeConfig, TeacherVariant, Variant
from learn2compress.schemas.config.select import SelectConfig
from learn2compress.schemas.config.students import Blocks, FamilyConfig, StudentsConfig, StudentSize
from learn2compress.schemas.config.teacher import JointTeacherConfig, TeacherConfig, TeacherImportConfig
from learn2compress.schemas.config.types import Section

__all__ = [
    "BUILT_IN_PASSES", "DATA_WORDS", "INIT_WORDS", "PATH_FIELDS", "Blocks", "ChannelPassConfig", "ChannelTarget",
    "Config", "DataConfig", "DistillConfig", "EvaluateConfig", "FamilyConfig", "JointTeacherConfig", "KubeflowConfig",
    "LossConfig", "MagnitudePassConfig", "NodeResources", "PassChoice", "PipelineConfig", "PruneConfig",
    "QuantizeConfig", "Section", "SelectConfig", "StudentSize", "StudentsConfig", "TeacherConfig",
    "TeacherImportConfig", "TeacherVariant", "TrainingConfig", "Variant", "VolumeConfig", "build_config",
    "explain_faults", "load_config", "parse_config",
]  # fmt: skip
