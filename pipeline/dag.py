# SPDX-License-Identifier: Apache-2.0
"""The DAG on one screen. The same object runs on one machine and is compiled for Kubeflow."""

from dataclasses import dataclass
from typing import Any

from ml_metadata.proto.metadata_store_pb2 import ConnectionConfig, MetadataStoreClientConfig
from tfx.components.example_validator.component import ExampleValidator
from tfx.components.pusher.component import Pusher
from tfx.components.schema_gen.component import SchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2
from tfx.types.channel import BaseChannel

from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.distiller import Distiller
from learn2compress.components.image_example_gen import ImageExampleGen, statistics_options
from learn2compress.components.pruner import Pruner
from learn2compress.components.quantizer import Quantizer
from learn2compress.components.student_collector import StudentCollector
from learn2compress.components.student_selector import StudentSelector
from learn2compress.components.teacher_importer import TeacherImporter
from learn2compress.components.tflite_evaluator import TFLiteEvaluator
from learn2compress.compression.pruning.passes import pass_versions
from learn2compress.schemas.config import Config
from learn2compress.schemas.module_source import ModuleSource

Channels = dict[str, BaseChannel]


@dataclass(frozen=True)
class Inputs:
    """What the configuration's paths hold now: the cache must notice when that changes.

    Attributes:
        data_digest: Of the source files.
        teacher_sha256: Of the model's file or folder.
        code_version: Of the code that the results depend on.
        limit: Examples to take of each part of the data, or None for all.
        module: The students' architecture, if it is a user's own.
        init_sha256: Of the earlier run's students that the students begin as, if they do.
    """

    data_digest: str
    teacher_sha256: str
    code_version: str
    limit: int | None = None
    module: ModuleSource | None = None
    init_sha256: str | None = None


def build_pipeline(
    config: Config,
    inputs: Inputs,
    pipeline_root: str,
    metadata_connection_config: ConnectionConfig | MetadataStoreClientConfig | None = None,
) -> Pipeline:
    """Wires the nodes.

    Args:
        config: The configuration; data.height, width and channels are set.
        inputs: The contents behind its paths.
        pipeline_root: Where artifacts are written.
        metadata_connection_config: Of the ML Metadata store; None for a cluster, which has its own.

    Returns:
        A pipeline of fresh nodes: those of another Pipeline object would miss the cache.
    """
    common: dict[str, Any] = {"code_version": inputs.code_version}
    seeded = {**common, "seed": config.pipeline.seed}
    example_gen = ImageExampleGen(config, {}, data_digest=inputs.data_digest, limit=inputs.limit, **common)
    examples = {"examples": example_gen.outputs["examples"]}
    statistics_gen = StatisticsGen(**examples, stats_options=statistics_options())
    statistics = statistics_gen.outputs["statistics"]
    schema_gen = SchemaGen(statistics=statistics, infer_feature_shape=True)
    validator = ExampleValidator(statistics=statistics, schema=schema_gen.outputs["schema"])
    learns_features = int(config.distill.init == "features")
    importer = TeacherImporter(
        config, examples, teacher_sha256=inputs.teacher_sha256, features=learns_features, **seeded
    )
    teacher = {"teacher": importer.outputs["teacher"]}
    logits = {"teacher_logits": importer.outputs["teacher_logits"]}
    module = inputs.module.to_parameters() if inputs.module else {}
    distiller = Distiller(config, {**examples, **teacher, **logits}, init_sha256=inputs.init_sha256, **module, **seeded)
    is_joint = config.teacher.mode == "joint"
    teaching = {"teacher_logits": distiller.outputs["trained_teacher_logits"]} if is_joint else logits
    compressors = _compressors(config, distiller.outputs["students"], {**examples, **teaching}, teacher, seeded)
    models = {"models": compressors[-1].outputs["models"]}
    evaluator = TFLiteEvaluator(config, {**models, **examples, **teacher, **logits}, **common)
    evaluation = {"evaluation": evaluator.outputs["evaluation"]}
    selector = StudentSelector(config, {**evaluation, **models}, **common)
    nodes = [
        example_gen, statistics_gen, schema_gen, validator,
        importer, distiller, *compressors, evaluator, selector,
    ]  # fmt: skip
    if config.pipeline.push_to:
        destination = pusher_pb2.PushDestination.Filesystem(base_directory=config.pipeline.push_to)
        nodes.append(
            Pusher(
                model=selector.outputs["model"],
                model_blessing=selector.outputs["blessing"],
                push_destination=pusher_pb2.PushDestination(filesystem=destination),
            )
        )
    return Pipeline(
        pipeline_name=config.pipeline.name,
        pipeline_root=pipeline_root,
        components=nodes,
        enable_cache=True,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=config.pipeline.beam_args or direct_runner_args(config.pipeline.workers),
    )


def _compressors(
    config: Config, students: BaseChannel, taught: Channels, teacher: Channels, seeded: dict[str, Any]
) -> list[BaseComponent]:
    """What prunes and quantizes: the family as a whole, or each student in tasks of its own; the last has the models.

    Args:
        config: The configuration.
        students: Distiller's.
        taught: Images and the logits that teach, for both kinds of node.
        teacher: The imported one, for Quantizer.
        seeded: Parameters of both.
    """
    versions = pass_versions(config.prune) or None
    if not config.kubeflow.fan_out:
        pruner = Pruner(config, {**taught, "students": students}, pass_versions=versions, **seeded)
        pruned = {"students": pruner.outputs["pruned_students"]}
        return [pruner, Quantizer(config, {**taught, **teacher, **pruned}, **seeded)]
    nodes: list[BaseComponent] = []
    pruned, models = {}, {}
    for name in config.students.sizes:
        pruner = Pruner(config, {**taught, "students": students}, student=name, pass_versions=versions, **seeded)
        pruner = pruner.with_id(f"Pruner-{name}")
        pruned[name] = pruner.outputs["pruned_students"]
        if nodes:  # the teacher's own files are made once, by the first
            quantize = config.quantize.model_copy(update={"teacher_variants": []})
            config = config.model_copy(update={"quantize": quantize})
        quantizer = Quantizer(config, {**taught, **teacher, "students": pruned[name]}, student=name, **seeded)
        models[name] = quantizer.outputs["models"]
        nodes += [pruner, quantizer.with_id(f"Quantizer-{name}")]
    return [*nodes, StudentCollector(config, pruned, models, seeded["code_version"])]
