# SPDX-License-Identifier: Apache-2.0
"""The DAG as a Kubeflow pipeline: schema 2.1.0, the same bytes for the same configuration.

tfx compiles the nodes. What the open-source backend needs beyond that is put in afterwards: settings that may differ
from run to run become the pipeline's parameters, with defaults, which tfx would drop; artifact types go by their name
alone; resources, retries and caching are said in the backend's own fields; each step has one output more, its
provenance, since the launcher uploads declared outputs and nothing else.

Nothing but the configuration decides the result, so a location that only this machine can read, and the digest of what
lies there, have no default: whoever submits gives both. A digest has a default where a readable copy lies here. The
code's version is the package's; the step puts in that of the code it has.
"""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from learn2compress import __version__
from learn2compress.components.beam.runners import beam_args
from learn2compress.components.node import BeamNodeExecutor
from learn2compress.data.sources.formats import data_digest, open_source, resolve_task
from learn2compress.evaluation.latency.table import model_text, read_table
from learn2compress.kubeflow.spec.engine import ENGINE_VARIABLE, check_engine, write_engine
from learn2compress.kubeflow.spec.lint import check_spec
from learn2compress.kubeflow.spec.run_parameters import DESCRIPTIONS, OPTIONAL, UNSET, is_on_volume
from learn2compress.modalities import modality_named
from learn2compress.pipeline.dag import Inputs, build_pipeline
from learn2compress.schemas.config import INIT_WORDS, PATH_FIELDS, Config, NodeResources
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.errors import ConfigError
from learn2compress.schemas.module_source import read_module
from learn2compress.storage.addresses import is_remote

Json = dict[str, Any]

COMMAND = ["python", "-m", "learn2compress.kubeflow.entrypoint"]
PROVENANCE = "provenance"
DEFAULT = "default"
_GIGABYTE = 10**9
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
# Paths whose contents are read before a run: data and teacher are uploaded, the others are part of what is compiled.
_READ_HERE = (("teacher", "path"), ("data", "path"), ("students", "latency_table"), ("students", "module"))
_PLACES = {"data_path": "data_digest", "teacher_path": "teacher_sha256"}


def compile_pipeline(config: Config, image: str | None = None) -> str:
    """Compile the DAG.

    Args:
        config: The configuration.
        image: The container image of the steps; default: `kubeflow.image`.

    Returns:
        YAML: the pipeline, and a second document with volumes and secrets where the configuration has them.

    Raises:
        ConfigError: No image, a node nobody knows, or a path that no step could read.
    """
    image = image or config.kubeflow.image
    if not image:
        raise ConfigError("an image must be given; got none. Pass --image, or set kubeflow.image.")
    if config.distill.strategy == "multi_worker":
        raise ConfigError(
            "distill.strategy must be none or mirrored on a cluster; got multi_worker, and a step is one container. "
            "Set mirrored, with kubeflow.resources for several accelerators, or see docs/how-to/distribution.md."
        )
    if config.students.origin == "auto":
        raise ConfigError(
            "students.from must be built_in or teacher on a cluster; got auto, which is decided on the images before a "
            "run. Set one of them; `learn2compress plan` shows what teacher would give."
        )
    _check_paths(config)
    check_engine(config)
    config = _with_shape(config)
    spec, platform = _compile(config, image)
    documents = [spec, platform] if platform else [spec]
    check_spec(documents)
    return _header(spec) + yaml.safe_dump_all(documents, sort_keys=True, width=10**6, allow_unicode=True)


def _compile(config: Config, image: str) -> tuple[Json, Json | None]:
    known, unknown = _known_places(config)
    module = read_module(config.students.module) if config.students.module else None
    inputs = Inputs(known["data_digest"] or "", "", __version__, UNSET, module, latency_model=_latency_model(config))
    # The arguments of one machine; another engine is named in the environment, which is not part of the cache's key.
    args = beam_args(config.pipeline.model_copy(update={"runner": "direct", "exchange": None}))
    pipeline = build_pipeline(_all_given(config, unknown), inputs, "", beam_pipeline_args=args)
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
            use_pipeline_spec_2_1=True, default_image=image, default_commands=COMMAND
        )
    )
    spec = runner.run(pipeline, write_out=False)["pipelineSpec"]
    # Neither tfx's version nor a description of it belongs to what the configuration decides.
    spec["sdkVersion"] = f"learn2compress-{__version__}"
    if config.kubeflow.pipeline_root:
        spec["defaultPipelineRoot"] = config.kubeflow.pipeline_root
    _name_types(spec)
    _settle_statistics(spec)
    _lift_parameters(spec, known)
    executors = {one.id: one.executor_spec.executor_class for one in pipeline.components}
    for node, task in spec["root"]["dag"]["tasks"].items():
        _finish_step(config, node, task, spec, issubclass(executors[node], BeamNodeExecutor))
    _check_nodes(config, spec)
    return spec, _platform(config, spec)


def _latency_model(config: Config) -> str | None:
    """Read the latencies of the device for which students are limited; those of this machine say nothing of it."""
    table = config.students.latency_table
    if table is None and not config.students.limits_latency:
        return None
    if table is None:
        raise ConfigError(
            "students.latency_table must name a file on a cluster if a student has latency_ms; got none, and neither "
            "this machine nor a step's is the device. Write one there: learn2compress bench --operations --output FILE."
        )
    return model_text(read_table(table))


def _check_paths(config: Config) -> None:
    mount = config.kubeflow.volume.mount if config.kubeflow.volume else None
    for section, field in PATH_FIELDS:
        value = getattr(getattr(config, section), field)
        if value is None or (section, field) in _READ_HERE:
            continue
        if (section, field) == ("distill", "init") and value in INIT_WORDS:
            continue
        reachable = is_on_volume(value, mount) or (is_remote(value) and section in ("students", "distill", "data"))
        if not reachable:
            raise ConfigError(
                f"{section}.{field} must be an address or lie on kubeflow.volume for a cluster; got {value}. "
                "Put it there, or leave it out."
            )
    for field in ("teacher", "data"):
        value = getattr(config.kubeflow, field)
        if value and not (is_remote(value) or is_on_volume(value, mount) or (field == "data" and value == "digits")):
            raise ConfigError(
                f"kubeflow.{field} must be an s3://, gs:// or minio:// address or lie on kubeflow.volume; got {value}. "
                "Upload it, or leave the field out: submit uploads what lies here."
            )


def _with_shape(config: Config) -> Config:
    """Fills in the images' shape where it can be determined here; elsewhere the step determines it."""
    data = config.data
    if None not in (data.height, data.width, data.channels) or not _is_here(data.path):
        return config
    source = open_source(data)
    default: Any = None
    modality = modality_named(source.modality)
    if source.example_shape is None and _is_here(config.teacher.path):
        from learn2compress.compression.teacher.formats import describe_file
        from learn2compress.compression.teacher.models import open_model

        teacher = config.teacher
        opened = open_model(
            describe_file(teacher.path), teacher.signature, teacher.output, modality, trust=teacher.trust
        )
        default = opened.input.shape
    task = resolve_task(data, source, default)
    return config.model_copy(update={"data": modality.with_shape(data, task.input_shape)})


def _is_here(path: str) -> bool:
    return path == "digits" or (not is_remote(path) and Path(path).exists())


def _known_places(config: Config) -> tuple[dict[str, str | None], dict[str, str]]:
    """Where the steps find data and teacher, and the digests: None where only whoever submits can say.

    Returns:
        The defaults by parameter, and what takes their place while the nodes are built.
    """
    mount = config.kubeflow.volume.mount if config.kubeflow.volume else None
    known: dict[str, str | None] = {}
    for name, given, own in (
        ("data_path", config.kubeflow.data, config.data.path),
        ("teacher_path", config.kubeflow.teacher, config.teacher.path),
    ):
        place = given or own
        known[name] = place if place == "digits" or is_remote(place) or is_on_volume(place, mount) else None
    sources = [config.data.path, *filter(None, [config.data.unlabeled])]
    known["data_digest"] = data_digest(config.data) if known["data_path"] and all(map(_is_here, sources)) else None
    here = known["teacher_path"] and _is_here(config.teacher.path)
    known["teacher_sha256"] = path_sha256(config.teacher.path) if here else None
    return known, {name: known[name] or "" for name in _PLACES}


def _all_given(config: Config, places: dict[str, str]) -> Config:
    """The configuration with a value for every field that a run may set, so that each becomes a parameter."""
    unset = {
        name.removeprefix("select_"): UNSET
        for name in OPTIONAL
        if name.startswith("select_") and getattr(config.select, name.removeprefix("select_")) is None
    }
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"path": places["data_path"]}),
            "teacher": config.teacher.model_copy(update={"path": places["teacher_path"]}),
            "select": config.select.model_copy(update=unset),
        }
    )


def _name_types(spec: Json) -> None:
    """Artifact types by name, as the backend's own; tfx would write a whole schema, licence included."""
    for component in spec["components"].values():
        for definitions in (component.get("inputDefinitions", {}), component.get("outputDefinitions", {})):
            for artifact in definitions.get("artifacts", {}).values():
                schema = yaml.safe_load(artifact["artifactType"]["instanceSchema"])
                artifact["artifactType"] = {"schemaTitle": schema["title"], "schemaVersion": "0.0.1"}


def _settle_statistics(spec: Json) -> None:
    """Gives the options of StatisticsGen the same fields on both stacks: the older reads one that the newer ignores."""
    for task in spec["root"]["dag"]["tasks"].values():
        options = task.get("inputs", {}).get("parameters", {}).get("stats_options_json")
        if options:
            fields: Json = {}
            for name, value in json.loads(options["runtimeValue"]["constant"]).items():
                fields[name] = value
                if name == "_use_sketch_based_topk_uniques":
                    fields.setdefault("_slice_sqls", None)  # in the place that it has in the older
            options["runtimeValue"]["constant"] = json.dumps(fields)


def _lift_parameters(spec: Json, known: dict[str, str | None]) -> None:
    """Makes the pipeline's parameters of what may differ from run to run."""
    lifted: Json = {}
    for task in spec["root"]["dag"]["tasks"].values():
        kinds = spec["components"][task["componentRef"]["name"]].get("inputDefinitions", {}).get("parameters", {})
        given = task.get("inputs", {}).get("parameters", {})
        for name in sorted(set(given) & set(DESCRIPTIONS)):
            value = known.get(name, given[name]["runtimeValue"]["constant"])
            kind = kinds[name]["parameterType"]
            definition = {"parameterType": kind, "description": DESCRIPTIONS[name]}
            if value is not None:
                value = int(value) if kind == "NUMBER_INTEGER" else value
                definition |= {"defaultValue": value, "isOptional": True}
            lifted[name] = definition
            given[name] = {"componentInputParameter": name}
    spec["root"]["inputDefinitions"] = {"parameters": lifted}


def _finish_step(config: Config, node: str, task: Json, spec: Json, runs_beam: bool) -> None:
    component = spec["components"][task["componentRef"]["name"]]
    container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    component.setdefault("outputDefinitions", {}).setdefault("artifacts", {})[PROVENANCE] = {
        "artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
    }
    args = container["args"]
    place = args.index("--json_serialized_inputs_spec_args") + 1
    args[place] = json.dumps(component.get("inputDefinitions", {}), sort_keys=True)
    args[:0] = ["--node", node]
    settings = config.kubeflow
    task["cachingOptions"] = {"enableCache": _for_node(settings.cache, node, node != "StudentSelector")}
    retries = _for_node(settings.retries, node, 0)
    if retries:
        task["retryPolicy"] = {
            "maxRetryCount": retries, "backoffDuration": "30s", "backoffFactor": 2.0, "backoffMaxDuration": "600s",
        }  # fmt: skip
    resources = _resources(_for_node(settings.resources, node, NodeResources()))
    if resources:
        container["resources"] = resources
    env = dict(settings.env)
    if settings.runner != "direct" and runs_beam:
        env[ENGINE_VARIABLE] = write_engine(config)
    if env:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(env.items())]


def _for_node(settings: dict[str, Any], node: str, default: Any) -> Any:
    """What is set for a node, for its kind (Pruner, of Pruner-small), or for all."""
    return next((settings[key] for key in (node, _kind_of(node), DEFAULT) if key in settings), default)


def _kind_of(node: str) -> str:
    return node.partition("-")[0]


def _resources(wanted: NodeResources) -> Json:
    """In the fields that every 2.x backend reads: cores, and memory in units of 10⁹ bytes."""
    memory, most = (_gigabytes(text) for text in (wanted.memory, wanted.memory_limit or wanted.memory))
    figures = {
        "cpuRequest": wanted.cpu,
        "cpuLimit": wanted.cpu_limit or wanted.cpu,
        "memoryRequest": memory,
        "memoryLimit": most,
    }
    resources: Json = {name: value for name, value in figures.items() if value is not None}
    if wanted.gpu:
        resources["accelerator"] = {"type": wanted.accelerator, "count": str(wanted.gpu)}
    return resources


def _gigabytes(quantity: str | None) -> float | None:
    if quantity is None:
        return None
    unit = quantity.lstrip("0123456789.")
    return float(Decimal(quantity.removesuffix(unit)) * _UNITS[unit] / _GIGABYTE)


def _check_nodes(config: Config, spec: Json) -> None:
    nodes = {name for node in spec["root"]["dag"]["tasks"] for name in (node, _kind_of(node))}
    for field in ("resources", "retries", "cache"):
        unknown = sorted(set(getattr(config.kubeflow, field)) - nodes - {DEFAULT})
        if unknown:
            raise ConfigError(
                f"kubeflow.{field} must name nodes of the pipeline; got {unknown[0]!r}. "
                f"They are {', '.join(sorted(nodes))}, and {DEFAULT} for all others."
            )


def _platform(config: Config, spec: Json) -> Json | None:
    settings = config.kubeflow
    step: Json = {}
    if settings.secret:
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        step["secretAsEnv"] = [
            {"secretName": settings.secret, "keyToEnv": [{"secretKey": key, "envVar": key} for key in keys]}
        ]
    if settings.volume:
        step["pvcMount"] = [{"constant": settings.volume.claim, "mountPath": settings.volume.mount}]
    if not step:
        return None
    # A copy each: YAML would write the second as a reference to the first.
    executors = {label: json.loads(json.dumps(step)) for label in spec["deploymentSpec"]["executors"]}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}


def _header(spec: Json) -> str:
    name = spec["pipelineInfo"]["name"]
    lines = [f"# Pipeline {name}, compiled by learn2compress {__version__}. Parameters of a run:"]
    for name, definition in sorted(spec["root"]["inputDefinitions"]["parameters"].items()):
        default = f" [{definition['defaultValue']}]" if "defaultValue" in definition else ", to be given"
        lines.append(f"#   {name}: {definition['description']}{default}")
    return "\n".join(lines) + "\n"
