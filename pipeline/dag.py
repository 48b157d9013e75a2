# SPDX-License-Identifier: Apache-2.0
"""Builds the DAG, which is run on one machine or compiled for Kubeflow."""

from collections.abc import Sequence
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

from learn2compress.components.distiller import Distiller
from learn2compress.components.execution.example_gen import statistics_options
from learn2compress.components.image_example_gen import ImageExampleGen
from learn2compress.components.node import Node
from learn2compress.components.pruner import Pruner
from learn2compress.components.quantizer import Quantizer
from learn2compress.components.student_collector import StudentCollector
from learn2compress.components.student_selector import StudentSelector
from learn2compress.components.teacher_importer import TeacherImporter
from learn2compress.components.text_example_gen import TextExampleGen
from learn2compress.components.tflite_evaluator import TFLiteEvaluator
from learn2compress.compression.pruning.passes import pass_versions
from learn2compress.schemas.config import Config
from learn2compress.schemas.manifests import DEFAULT_MODALITY
from learn2compress.schemas.module_source import ModuleSource

Channels = dict[str, BaseChannel]
EXAMPLE_GENS: dict[str, type[Node]] = {"image": ImageExampleGen, "text": TextExampleGen}
"""Nodes that make the examples, by modality."""


@dataclass(frozen=True)
class Inputs:
    """Digests of the contents behind the configuration's paths, so that a change of contents is no cache hit.

    Attributes:
        data_digest: Digest of the source files.
        teacher_sha256: Digest of the model's file or folder.
        code_version: Version of the code on which results depend.
        limit: Number of examples to take from each part of the data; None for all.
        module: Source of a user's own architecture; None for the built-in family.
        init_sha256: Digest of the earlier run's students whose weights initialize the students, or None.
        encoding_sha256: Digest of the teacher's tokenizer or vocabulary, or None.
        latency_model: Text of the fitted latency model, if students have limits in milliseconds, or None.
    """

    data_digest: str
    teacher_sha256: str
    code_version: str
    limit: int | None = None
    module: ModuleSource | None = None
    init_sha256: str | None = None
    encoding_sha256: str | None = None
    latency_model: str | None = None


def build_pipeline(
    config: Config,
    inputs: Inputs,
    pipeline_root: str,
    metadata_connection_config: ConnectionConfig | MetadataStoreClientConfig | None = None,
    beam_pipeline_args: Sequence[str] = (),
) -> Pipeline:
    """Connects the nodes to a pipeline.

    Args:
        config: Configuration with the shape of the examples, see `Modality.with_shape`.
        inputs: Digests of the contents behind its paths.
        pipeline_root: Folder for the artifacts.
        metadata_connection_config: Connection to the ML Metadata store; None for a cluster, which has its own.
        beam_pipeline_args: Arguments of the Beam steps on a cluster. On this machine they are not in the DAG, since
            they would be part of TFX's cache key; see `local_run`.

    Returns:
        A pipeline of new nodes, since nodes of another Pipeline object would miss the cache.
    """
    common: dict[str, Any] = {"code_version": inputs.code_version}
    seeded = {**common, "seed": config.pipeline.seed}
    modality = config.data.modality or DEFAULT_MODALITY
    example_gen = EXAMPLE_GENS[modality](config, {}, data_digest=inputs.data_digest, limit=inputs.limit, **common)
    examples = {"examples": example_gen.outputs["examples"]}
    statistics_gen = StatisticsGen(**examples, stats_options=statistics_options(modality))
    statistics = statistics_gen.outputs["statistics"]
    schema_gen = SchemaGen(statistics=statistics, infer_feature_shape=True)
    validator = ExampleValidator(statistics=statistics, schema=schema_gen.outputs["schema"])
    learns_features = int(config.distill.init == "features")
    importer = TeacherImporter(
        config,
        examples,
        teacher_sha256=inputs.teacher_sha256,
        encoding_sha256=inputs.encoding_sha256,
        features=learns_features,
        unlabeled_logits=1 if config.learns_unlabeled_logits else None,
        **seeded,
    )
    teacher = {"teacher": importer.outputs["teacher"]}
    logits = {"teacher_logits": importer.outputs["teacher_logits"]}
    module = inputs.module.to_parameters() if inputs.module else {}
    solved = {"init_sha256": inputs.init_sha256, "latency_model": inputs.latency_model}
    distiller = Distiller(config, {**examples, **teacher, **logits}, **solved, **module, **seeded)
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
        beam_pipeline_args=list(beam_pipeline_args),
    )


def _compressors(
    config: Config, students: BaseChannel, taught: Channels, teacher: Channels, seeded: dict[str, Any]
) -> list[BaseComponent]:
    """Makes the nodes that prune and quantize, for the whole family or separately for each student.

    Args:
        config: Configuration of the run.
        students: Students of Distiller.
        taught: Examples and the logits for the distillation, by key, for both kinds of node.
        teacher: Imported teacher by key, for Quantizer.
        seeded: Parameters of both kinds of node.

    Returns:
        The nodes; the last one has the output `models`.
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
        if nodes:  # only the first Quantizer converts the teacher
            quantize = config.quantize.model_copy(update={"teacher_variants": []})
            config = config.model_copy(update={"quantize": quantize})
        quantizer = Quantizer(config, {**taught, **teacher, "students": pruned[name]}, student=name, **seeded)
        models[name] = quantizer.outputs["models"]
        nodes += [pruner, quantizer.with_id(f"Quantizer-{name}")]
    return [*nodes, StudentCollector(config, pruned, models, seeded["code_version"])]
