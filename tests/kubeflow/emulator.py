# SPDX-License-Identifier: Apache-2.0
"""Emulates driver and launcher of the open-source backend: runs a compiled pipeline step by step, without a cluster.

Parameters are resolved as the api-server and the driver resolve them: every one must have a value, none may be unknown.
A task gets its inputs without their type and its outputs at minio:// addresses; `{{$}}` is the only placeholder. Its
command runs exactly as compiled, as a process of its own, with a file system of its own: what it reads was copied there
from the store, and of what it leaves only the declared outputs are copied back, so that anything else is lost as it is
in a pod. The file it writes is parsed strictly.

The additions of a version of the driver are those recorded in facts/: an output `executor-logs`, whose file the
launcher makes before the step starts and uploads after a failure, too, and names of output artifacts.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from support.servers.kubeflow_facts import load_facts

Json = dict[str, Any]
CHECKS = {
    "STRING": lambda value: isinstance(value, str),
    "NUMBER_INTEGER": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "NUMBER_DOUBLE": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
LOGS = "executor-logs"


class RefusedError(Exception):
    """The backend refuses this."""


class StepFailedError(Exception):
    """A container ended with another status than 0."""

    def __init__(self, task: str, status: int, log: str) -> None:
        super().__init__(f"{task} ended with {status}: {log[-3000:]}")
        self.task, self.status, self.log = task, status, log


def _run_process(command: list[str], folder: Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@dataclass
class Emulator:
    """A backend.

    Attributes:
        store: The folder behind minio://, with the buckets.
        scratch: For the steps' own file systems.
        salted: Whether an output's address has a part of its own after the task's, as newer backends give it.
        container: Command that runs a container, before its `-v` and `-e` options and the image; without it, a
            step is a process of this machine.
        run_process: Runs a step's command in a folder, with an environment.
        version: Of which driver and launcher are.
        default_root: defaultPipelineRoot of the config map kfp-launcher; default: as it is installed.
        logs: Output of each task that ran.
    """

    store: Path
    scratch: Path
    root: str = "minio://bucket/runs"
    salted: bool = True
    container: list[str] = field(default_factory=list)
    run_process: Callable[[list[str], Path, dict[str, str]], "subprocess.CompletedProcess[str]"] = _run_process
    version: str = "2.17"
    default_root: str | None = None
    logs: dict[str, str] = field(default_factory=dict)

    def run(
        self,
        file: Path,
        parameters: Json,
        run: str = "run-1",
        only: int | None = None,
        cached: dict[str, Json] | None = None,
    ) -> dict[str, Json]:
        """Runs a pipeline.

        Args:
            file: The compiled pipeline.
            parameters: The values that are passed when submitting.
            run: The run's id.
            only: Stop after so many tasks.
            cached: The artifacts of tasks that an earlier run made, which the backend's cache takes for this one.

        Returns:
            The artifacts of each task, by output, as the backend's metadata store would have them.

        Raises:
            RefusedError: The api-server, driver or launcher refuses it.
            StepFailedError: A container failed.
        """
        spec = next(iter(yaml.load_all(file.read_text(), yaml.CSafeLoader)))
        message = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())  # unknown fields raise
        if message.schema_version != "2.1.0":
            raise RefusedError(f"schema {message.schema_version}")
        default = self.default_root or self.facts.get("default_pipeline_root")
        if "default_pipeline_root" in self.facts and not f"{self.root}/".startswith(f"{default}/"):
            raise RefusedError(f"pipeline root {self.root} is not at or below {default}")
        values = _resolve(spec["root"].get("inputDefinitions", {}).get("parameters", {}), parameters)
        folder = f"{self.root}/{spec['pipelineInfo']['name']}/{run}"
        made: dict[str, Json] = dict(cached or {})
        tasks = spec["root"]["dag"]["tasks"]
        while left := [name for name in sorted(tasks) if name not in made]:
            ready = [name for name in left if set(tasks[name].get("dependentTasks", [])) <= set(made)]
            if not ready:
                raise RefusedError(f"tasks {left} wait for one another")
            if only is not None and len(made) == only:
                return made
            made[ready[0]] = self._step(spec, ready[0], values, folder, made)
        return made

    def _step(self, spec: Json, name: str, values: Json, folder: str, made: dict[str, Json]) -> Json:
        task = spec["root"]["dag"]["tasks"][name]
        component = spec["components"][task["componentRef"]["name"]]
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        pod = self.scratch / name
        shutil.rmtree(pod, ignore_errors=True)
        for part in ("work", "minio", "kfp_outputs"):
            (pod / part).mkdir(parents=True)
        executor_input = self._executor_input(task, component, values, folder, made, pod)
        for artifacts in executor_input["inputs"]["artifacts"].values():
            for one in artifacts["artifacts"]:
                self._copy_in(one["uri"], pod)
        for artifacts in executor_input["outputs"]["artifacts"].values():
            for one in artifacts["artifacts"]:
                _local(one["uri"], pod).parent.mkdir(parents=True, exist_ok=True)
        log_file = self._begin_log(executor_input, pod)
        text = json.dumps(executor_input)
        command = [part.replace("{{$}}", text) for part in container["command"] + container["args"]]
        if any("{{$" in part.replace("{{$}}", "") for part in container["command"] + container["args"]):
            raise RefusedError(f"{name} has a placeholder that is not known")
        environment = _environment(container, pod)
        if self.container:
            # The launcher's folders belong to whoever runs the pod.
            subprocess.run(["chmod", "-R", "a+rwX", str(pod)], check=True)
            variables = [f"{one['name']}={one['value']}" for one in container.get("env", [])]
            options = [part for variable in variables for part in ("-e", variable)]
            options += ["-v", f"{pod / 'minio'}:/minio", "-v", f"{pod / 'kfp_outputs'}:{pod / 'kfp_outputs'}"]
            command = [*self.container, *options, container["image"], *command]
            environment = dict(os.environ)
        done = self.run_process(command, pod / "work", environment)
        self.logs[name] = done.stdout + done.stderr
        if log_file is not None:
            log_file.write_text(self.logs[name])
        if done.returncode:
            self._upload_log(executor_input, pod)
            raise StepFailedError(name, done.returncode, self.logs[name])
        outputs = self._collect(executor_input, pod)
        shutil.rmtree(pod)
        return outputs

    def _executor_input(
        self, task: Json, component: Json, values: Json, folder: str, made: dict[str, Json], pod: Path
    ) -> Json:
        artifacts: Json = {}
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            origin = source["taskOutputArtifact"]
            artifact = made[origin["producerTask"]][origin["outputArtifactKey"]]
            # With a type, but an empty one: what makes tfx's own entrypoint fail.
            artifacts[key] = {"artifacts": [{**artifact, "type": {}}]}
        definitions = component.get("inputDefinitions", {}).get("parameters", {})
        parameters: Json = {}
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in source:
                parameters[key] = values[source["componentInputParameter"]]
            else:
                parameters[key] = source["runtimeValue"]["constant"]
            _check(key, definitions[key], int(parameters[key]) if _is_whole(parameters[key]) else parameters[key])
        name = task["taskInfo"]["name"]
        inner = f"{name}/{uuid.uuid4()}" if self.salted else name
        driver, outputs = self.facts["driver"], {}
        declared = dict(component.get("outputDefinitions", {}).get("artifacts", {}))
        if driver["executor_logs"]:
            declared[LOGS] = {"artifactType": {"schemaTitle": "system.Artifact"}}
        for key, one in declared.items():
            artifact = {
                "uri": f"{folder}/{inner}/{key}",
                "type": one["artifactType"],
                "metadata": one.get("metadata", {}),
            }
            artifact |= {"name": key} if driver["output_names"] else {}
            artifact |= {"uri": f"{folder}/{inner}/{LOGS}-0"} if key == LOGS else {}
            outputs[key] = {"artifacts": [artifact]}
        return {
            "inputs": {"parameterValues": parameters, "artifacts": artifacts},
            "outputs": {"artifacts": outputs, "outputFile": str(pod / "kfp_outputs" / "output_metadata.json")},
        }

    @property
    def facts(self) -> Json:
        """Recorded facts of the version."""
        return load_facts(self.version)

    def _begin_log(self, executor_input: Json, pod: Path) -> Path | None:
        """Makes the file that the launcher writes a step's log to, where the driver has an output for it."""
        if LOGS not in executor_input["outputs"]["artifacts"]:
            return None
        file = _local(executor_input["outputs"]["artifacts"][LOGS]["artifacts"][0]["uri"], pod)
        file.touch()
        return file

    def _upload_log(self, executor_input: Json, pod: Path) -> None:
        for artifact in executor_input["outputs"]["artifacts"].get(LOGS, {}).get("artifacts", []):
            self._stored(artifact["uri"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_local(artifact["uri"], pod), self._stored(artifact["uri"]))

    def _copy_in(self, uri: str, pod: Path) -> None:
        source, target = self._stored(uri), _local(uri, pod)
        if source.is_dir():  # an object store has no empty folders, and then there is nothing to copy
            shutil.copytree(source, target)

    def _collect(self, executor_input: Json, pod: Path) -> Json:
        file = Path(executor_input["outputs"]["outputFile"])
        output: Json = json.loads(file.read_text()) if file.exists() else {}
        json_format.ParseDict(output, pipeline_spec_pb2.ExecutorOutput())  # unknown fields raise
        declared = executor_input["outputs"]["artifacts"]
        if not set(output.get("artifacts", {})) <= set(declared):
            raise RefusedError(f"artifacts {sorted(output['artifacts'])} are not all declared")
        collected = {}
        for key, artifacts in declared.items():
            [artifact] = artifacts["artifacts"]
            [left] = output.get("artifacts", {}).get(key, {}).get("artifacts", [{}])
            metadata = {**artifact.get("metadata", {}), **left.get("metadata", {})}
            if any(value is None for value in metadata.values()):
                raise RefusedError(f"null in the metadata of {key}")
            uri = left.get("uri") or artifact["uri"]
            if not uri.startswith("minio://"):
                raise RefusedError(f"{key} is at {uri}, which is not uploaded")
            local = _local(uri, pod)
            if local.is_dir():
                shutil.copytree(local, self._stored(uri))
            elif local.is_file():
                self._stored(uri).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(local, self._stored(uri))
            # Numbers come out of a protobuf struct.
            metadata = json.loads(json.dumps(metadata), parse_int=float)
            collected[key] = {"name": str(uuid.uuid4().int % 10**6), "uri": uri, "metadata": metadata}
        return collected

    def _stored(self, uri: str) -> Path:
        return self.store / uri.removeprefix("minio://")


def _local(uri: str, pod: Path) -> Path:
    return pod / "minio" / uri.removeprefix("minio://")


def _resolve(definitions: Json, given: Json) -> Json:
    unknown = sorted(set(given) - set(definitions))
    if unknown:
        raise RefusedError(f"parameters {unknown} are not known")
    values = {}
    for name, definition in definitions.items():
        if name not in given and "defaultValue" not in definition:
            raise RefusedError(f"parameter {name} must be given")
        values[name] = given.get(name, definition.get("defaultValue"))
        _check(name, definition, values[name])
    return values


def _check(name: str, definition: Json, value: Any) -> None:
    if not CHECKS[definition["parameterType"]](value):
        raise RefusedError(f"parameter {name} must be {definition['parameterType']}; got {value!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _environment(container: Json, pod: Path) -> dict[str, str]:
    """The environment of a step: of this process's, only the location of Python."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(pod / "work"),
        "LEARN2COMPRESS_LAUNCHER_ROOT": str(pod),
        **{one["name"]: one["value"] for one in container.get("env", [])},
    }
