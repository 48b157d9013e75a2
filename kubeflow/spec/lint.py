# SPDX-License-Identifier: Apache-2.0
"""Checks a compiled pipeline for what the open-source backend refuses, or would only find out in a failing pod."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from learn2compress.kubeflow.spec.run_parameters import is_on_volume
from learn2compress.schemas.errors import ClusterError

Json = dict[str, Any]

SCHEMA_VERSION = "2.1.0"
TYPES = ("STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN", "LIST", "STRUCT")


def lint_file(path: str | Path) -> list[str]:
    """Check a file.

    Returns:
        What is wrong, a line each.

    Raises:
        ClusterError: It cannot be read, or is no YAML.
    """
    try:
        documents = list(yaml.safe_load_all(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise ClusterError(f"pipeline {path} must be a readable file; {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ClusterError(f"pipeline {path} must be YAML; {' '.join(str(error).split())[:200]}.") from error
    return list(find_faults(documents))


def check_spec(documents: list[Json]) -> None:
    """Check a pipeline.

    Raises:
        ClusterError: Something is wrong; the first faults are named.
    """
    faults = list(find_faults(documents))
    if faults:
        raise ClusterError(" ".join(faults[:3]))


def find_faults(documents: list[Any]) -> Iterator[str]:
    """Find what is wrong with a pipeline.

    Args:
        documents: Of its file: the pipeline, and at most one with what concerns the platform.
    """
    if not 1 <= len(documents) <= 2 or not all(isinstance(document, dict) for document in documents):
        yield f"A pipeline must be one or two YAML mappings; got {len(documents)} documents of other kinds or number."
        return
    spec, platform = documents[0], documents[1] if len(documents) == 2 else {}
    version = spec.get("schemaVersion")
    if version != SCHEMA_VERSION:
        yield f"schemaVersion must be {SCHEMA_VERSION}; got {version!r}. Compile again."
    try:
        tasks: Json = spec["root"]["dag"]["tasks"]
        components: Json = spec["components"]
        executors: Json = spec["deploymentSpec"]["executors"]
        if not spec["pipelineInfo"]["name"] or not tasks:
            yield "A pipeline must have a name and tasks; got none."
    except (KeyError, TypeError, AttributeError) as error:
        yield f"A pipeline must have pipelineInfo, root.dag.tasks, components and deploymentSpec; {error} is missing."
        return
    inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    yield from _typed("the pipeline", inputs)
    for name, task in sorted(tasks.items()):
        yield from _task_faults(name, task, tasks, components, inputs)
    if _has_cycle(tasks):
        yield "Tasks must not depend on one another in a circle."
    for name, component in sorted(components.items()):
        yield from _component_faults(name, component, executors)
    mounts = list(_mounts(platform))
    for label, executor in sorted(executors.items()):
        yield from _executor_faults(label, executor)
    for place, text in _strings(spec):
        if _is_local(text, mounts):
            yield f"No path of a single machine may be in a pipeline; {place} is {text!r}. Use an address."


def _task_faults(name: str, task: Json, tasks: Json, components: Json, inputs: Json) -> Iterator[str]:
    component = components.get(task.get("componentRef", {}).get("name"))
    if component is None:
        yield f"Task {name} must refer to a component; {task.get('componentRef', {}).get('name')!r} is none."
        return
    for other in task.get("dependentTasks", []):
        if other not in tasks:
            yield f"Task {name} must depend on tasks of the pipeline; {other!r} is none."
    if task.get("triggerPolicy", {}).get("condition"):
        yield f"Task {name} must have no condition; the backend ignores or refuses it."
    definitions = component.get("inputDefinitions", {})
    for key, source in sorted(task.get("inputs", {}).get("artifacts", {}).items()):
        yield from _source_faults(name, key, source, tasks, components, task)
        if key not in definitions.get("artifacts", {}):
            yield f"Task {name} passes artifact {key!r}, which its component does not know."
    for key, source in sorted(task.get("inputs", {}).get("parameters", {}).items()):
        if key not in definitions.get("parameters", {}):
            yield f"Task {name} passes parameter {key!r}, which its component does not know."
        if "taskOutputParameter" in source:
            yield f"Parameter {key} of task {name} must not come from another task's output."
        wanted = source.get("componentInputParameter")
        if wanted is not None and wanted not in inputs:
            yield f"Parameter {key} of task {name} must be the pipeline's; it has no {wanted!r}."
        if "runtimeParameter" in source.get("runtimeValue", {}):
            yield f"Parameter {key} of task {name} must be a constant or the pipeline's; got a runtimeParameter."
    for kind in ("parameters", "artifacts"):
        given = task.get("inputs", {}).get(kind, {})
        for key, definition in sorted(definitions.get(kind, {}).items()):
            if key not in given and not definition.get("isOptional") and "defaultValue" not in definition:
                yield f"Task {name} must give {kind[:-1]} {key!r}; it does not."


def _source_faults(name: str, key: str, source: Json, tasks: Json, components: Json, task: Json) -> Iterator[str]:
    made = source.get("taskOutputArtifact")
    if made is None:
        yield f"Artifact {key} of task {name} must come from another task; got {json.dumps(source)}."
        return
    producer = tasks.get(made.get("producerTask"))
    if producer is None:
        source_name = made.get("producerTask")
        yield f"Artifact {key} of task {name} must come from a task of the pipeline; {source_name!r} is none."
        return
    outputs = components.get(producer.get("componentRef", {}).get("name"), {}).get("outputDefinitions", {})
    if made.get("outputArtifactKey") not in outputs.get("artifacts", {}):
        yield f"Task {made['producerTask']} has no output {made.get('outputArtifactKey')!r}, which task {name} wants."
    if made["producerTask"] not in task.get("dependentTasks", []):
        yield f"Task {name} must depend on {made['producerTask']}, whose output it takes; it does not."


def _component_faults(name: str, component: Json, executors: Json) -> Iterator[str]:
    if component.get("executorLabel") not in executors:
        yield f"Component {name} must have an executor; {component.get('executorLabel')!r} is none."
    for way in ("inputDefinitions", "outputDefinitions"):
        definitions = component.get(way, {})
        yield from _typed(f"component {name}", definitions.get("parameters", {}))
        for key, artifact in sorted(definitions.get("artifacts", {}).items()):
            fault = _type_fault(artifact.get("artifactType", {}))
            if fault:
                yield f"Artifact {key} of component {name} must be of a type that can be imported; {fault}."


def _type_fault(kind: Json) -> str | None:
    title = kind.get("schemaTitle")
    if title is None and "instanceSchema" in kind:
        title = (yaml.safe_load(kind["instanceSchema"]) or {}).get("title")
    if not isinstance(title, str) or "." not in title:
        return f"it names none: {json.dumps(kind)}"
    if title.startswith("system."):
        return None
    if title.startswith("tfx."):
        # Imported here: tfx takes long, and a pipeline without its types can do without.
        from tfx.orchestration.kubeflow.v2 import compiler_utils

        title = compiler_utils.TITLE_TO_CLASS_PATH.get(title, title)
    module, _, attribute = title.rpartition(".")
    try:
        getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        return str(error)
    return None


def _typed(owner: str, parameters: Json) -> Iterator[str]:
    for key, definition in sorted(parameters.items()):
        if definition.get("parameterType") not in TYPES:
            found = json.dumps(definition)
            yield f"Parameter {key} of {owner} must have one of the types {', '.join(TYPES)}; got {found}."


def _executor_faults(label: str, executor: Json) -> Iterator[str]:
    kinds = set(executor) & {"container", "importer", "resolver", "customJob"}
    if not kinds or not kinds <= {"container", "importer"}:
        yield f"Executor {label} must be a container or an importer; got {', '.join(sorted(executor)) or 'nothing'}."
    container = executor.get("container")
    if container is None:
        return
    if not container.get("image"):
        yield f"Executor {label} must have an image; got none."
    if not container.get("command"):
        yield f"Executor {label} must have a command, which the backend's launcher needs; got none."
    if container.get("lifecycle"):
        yield f"Executor {label} must have no lifecycle hook; the backend ignores it."


def _has_cycle(tasks: Json) -> bool:
    left = {name: {other for other in task.get("dependentTasks", []) if other in tasks} for name, task in tasks.items()}
    while ready := [name for name, needed in left.items() if not needed & set(left)]:
        for name in ready:
            del left[name]
    return bool(left)


def _mounts(platform: Json) -> Iterator[str]:
    steps = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    for step in steps.values():
        for mount in step.get("pvcMount", []):
            yield mount["mountPath"]


def _strings(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _strings(inner, f"{place}[{index}]")
    elif isinstance(value, str):
        yield place, value


def _is_local(text: str, mounts: list[str]) -> bool:
    value = text.partition("=")[2] if text.startswith("--") else text
    local = value.startswith(("/", "~/", "./", "../", "file:")) or (value[1:3] == ":\\" and value[:1].isalpha())
    return local and not any(is_on_volume(value, mount) for mount in mounts)
