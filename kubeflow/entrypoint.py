# SPDX-License-Identifier: Apache-2.0
"""Runs a step in its container: tfx's own entrypoint, made to work under the open-source launcher.

The launcher passes input artifacts without their type, addresses where tfx expects paths, and refuses nulls in the file
that tfx leaves. So types come back from the component's description, addresses become the launcher's local copies and
paths become addresses again, nulls go. Teacher and data are fetched from where the run's parameters say, the digest of
what came is put in where the run did not know it, and the step's provenance record is written like a local run's.

Outputs that the component does not declare, such as the launcher's own log, belong to the launcher: they are neither
created nor passed to tfx.

Whatever goes wrong is the last line on standard error, and the container's termination message, which the cluster shows
with the failed step.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from learn2compress.kubeflow.engine import read_engine
from learn2compress.kubeflow.local_copies import to_local, to_uri, without_local_paths
from learn2compress.kubeflow.spec.run_parameters import LOCATIONS, OPTIONAL, UNSET
from learn2compress.pipeline.environment import prepare_environment
from learn2compress.schemas.errors import ClusterError, DataError, Learn2CompressError
from learn2compress.storage.addresses import is_remote

Json = dict[str, Any]

PROVENANCE = "provenance"
TERMINATION_LOG = Path("/dev/termination-log")
_TERMINATION_BYTES = 4096  # what Kubernetes keeps of it
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What the backend adds to a step's outputs; none of our components declares an artifact of its types.
_BACKENDS_OUTPUTS = ("executor-logs",)
_BACKENDS_TYPES = "system."


def main(arguments: list[str] | None = None) -> int:
    """Runs a step.

    Returns:
        The exit status: 0; that of a user error; 1 for an internal error, whose traceback
        is in the log. The error is the last line of the log and the termination message.
    """
    node = "step"
    try:
        options, beam_args = _parser().parse_known_args(arguments)
        node = options.node
        use_accelerators()
        prepare_environment()
        run_step(options, beam_args)
    except Learn2CompressError as error:
        _report_error(node, str(error))
        return error.exit_status
    except Exception as error:
        traceback.print_exc()
        _report_error(node, f"{type(error).__name__}: {error}")
        return 1
    return 0


def _report_error(node: str, message: str) -> None:
    """Write the last line of the log and the termination message."""
    line = f"learn2compress: {node}: {' '.join(message.split())}"
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    if TERMINATION_LOG.exists():
        with suppress(OSError):
            short = line.encode()[:_TERMINATION_BYTES].decode(errors="ignore")
            TERMINATION_LOG.write_text(short, encoding="utf-8")


def run_step(options: argparse.Namespace, beam_args: list[str]) -> None:
    """Runs a node's executor on the arguments of the launcher.

    Args:
        options: node, executor_class_path, and the two JSON texts.
        beam_args: Passed on.

    Raises:
        Learn2CompressError: Something the user can mend.
    """
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils, kubeflow_v2_run_executor

    from learn2compress.components.beam.options import user_errors
    from learn2compress.kubeflow.engine import on_engine
    from learn2compress.kubeflow.records.step_record import Place, write_step_record
    from learn2compress.schemas.progress import listening

    started = time.time()
    invocation: Json = json.loads(options.json_serialized_invocation_args)
    spec: Json = json.loads(options.json_serialized_inputs_spec_args)
    passed = invocation["outputs"]["artifacts"]
    if PROVENANCE not in passed:
        raise ClusterError(f"step {options.node} must have an output {PROVENANCE}; it has none. Compile again.")
    provenance_uri = passed.pop(PROVENANCE)["artifacts"][0]["uri"]
    place = Place.of(options.node, provenance_uri)
    invocation["outputs"]["artifacts"] = declared_outputs(passed)
    given = {key: one["artifacts"][0] for key, one in invocation.get("inputs", {}).get("artifacts", {}).items()}
    output_file = Path(invocation["outputs"]["outputFile"])
    captured: dict[str, Any] = {}
    translate = kubeflow_v2_entrypoint_utils.translate_executor_output

    def capture(outputs: Mapping[str, list[Any]], names: Mapping[int, str]) -> Any:
        # The file that tfx writes has only numbers; the artifacts still know an int from a float.
        captured.update({key: artifacts[0] for key, artifacts in outputs.items()})
        return translate(outputs, names)

    with tempfile.TemporaryDirectory(prefix="learn2compress-") as scratch:
        recorded, used = settle_parameters(invocation.get("inputs", {}).get("parameterValues", {}), spec, Path(scratch))
        kubeflow_v2_entrypoint_utils.translate_executor_output = capture
        try:
            engine = read_engine(provenance_uri, Path(scratch))
            with user_errors(), listening(_print_progress), on_engine(engine):
                kubeflow_v2_run_executor.main(
                    (
                        argparse.Namespace(
                            executor_class_path=options.executor_class_path,
                            json_serialized_invocation_args=json.dumps(localize(invocation, spec, used)),
                            json_serialized_inputs_spec_args=options.json_serialized_inputs_spec_args,
                        ),
                        beam_args,
                    )
                )
        finally:
            kubeflow_v2_entrypoint_utils.translate_executor_output = translate
    types = {key: _type_title(spec, key).removeprefix("tfx.") for key in given}
    added = write_step_record(place, given, types, captured, recorded, started)
    output_file.write_text(json.dumps(globalize(json.loads(output_file.read_text()), added)), encoding="utf-8")


def settle_parameters(values: Mapping[str, Any], spec: Json, scratch: Path) -> tuple[Json, Json]:
    """Converts the parameters of the run to those of the node.

    Args:
        values: The parameters' values.
        spec: The component's inputs: the parameters' types.
        scratch: Folder for the files that are fetched.

    Returns:
        The parameters for the record, with locations as given; and those for the executor, with local paths.

    Raises:
        Learn2CompressError: Teacher or data cannot be fetched, or have other digests than when the run was submitted.
    """
    from learn2compress.pipeline.code_version import code_version

    recorded: Json = {}
    for name, value in values.items():
        kind = spec["parameters"][name]["parameterType"]
        if not (name in OPTIONAL and value == UNSET):
            recorded[name] = (
                int(value) if kind == "NUMBER_INTEGER" else float(value) if kind == "NUMBER_DOUBLE" else value
            )
    if "code_version" in recorded:
        recorded["code_version"] = code_version()
    if "pass_versions" in recorded:
        recorded["pass_versions"] = _pass_versions(recorded)
    used = dict(recorded)
    for name in set(LOCATIONS) & set(recorded):
        used[name] = _fetch(recorded[name], scratch / name)
    for name, compute in (("data_digest", _data_digest), ("teacher_sha256", _teacher_digest)):
        if name in recorded:
            found = compute(used)
            if _SHA256.fullmatch(recorded[name]) and recorded[name] != found:
                raise DataError(
                    f"{recorded[name.split('_')[0] + '_path']} must have the digest {recorded[name][:16]}… that the "
                    f"run was submitted with; got {found[:16]}…. Submit again."
                )
            recorded[name] = used[name] = found
    return recorded, used


def declared_outputs(artifacts: Json) -> Json:
    """Select the outputs that the component declares from those that the launcher passes.

    Args:
        artifacts: By output, without the record; each has its type, and the backend's own have a type of the backend's.
    """
    return {key: one for key, one in artifacts.items() if key not in _BACKENDS_OUTPUTS and not _is_backends(one)}


def _is_backends(output: Json) -> bool:
    titles = [artifact.get("type", {}).get("schemaTitle", "") for artifact in output["artifacts"]]
    return any(title == "" or title.startswith(_BACKENDS_TYPES) for title in titles)


def localize(invocation: Json, spec: Json, parameters: Json) -> Json:
    """Rewrites the launcher's arguments for tfx: local paths, which exist, and types."""
    inputs = {
        key: {
            "artifacts": [
                {**one, "uri": to_local(one["uri"]), "type": {"schemaTitle": _type_title(spec, key)}}
                for one in artifacts["artifacts"]
            ]
        }
        for key, artifacts in invocation.get("inputs", {}).get("artifacts", {}).items()
    }
    outputs = {
        key: {"artifacts": [{**one, "uri": to_local(one["uri"])} for one in artifacts["artifacts"]]}
        for key, artifacts in invocation["outputs"]["artifacts"].items()
    }
    for artifacts in outputs.values():
        for one in artifacts["artifacts"]:
            os.makedirs(one["uri"], exist_ok=True)
    return {
        "inputs": {"artifacts": inputs, "parameterValues": parameters},
        "outputs": {**invocation["outputs"], "artifacts": outputs},
    }


def globalize(output: Json, added: Mapping[str, Json]) -> Json:
    """Rewrites the output of tfx for the launcher: addresses, no nulls, and the properties that the record adds."""
    artifacts = {
        key: {
            "artifacts": [
                {
                    **{name: value for name, value in one.items() if value is not None},
                    "uri": to_uri(one["uri"]),
                    "metadata": without_local_paths({**one.get("metadata", {}), **added.get(key, {})}),
                }
                for one in found["artifacts"]
            ]
        }
        for key, found in output.get("artifacts", {}).items()
    }
    return {**{key: value for key, value in output.items() if value is not None}, "artifacts": artifacts}


def use_accelerators() -> None:
    """Lets TensorFlow see the accelerators that the pod was given; without any, its search only makes noise."""
    count = sum(re.fullmatch(r"nvidia\d+", name) is not None for name in os.listdir("/dev"))
    if count:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count))))


def _type_title(spec: Json, key: str) -> str:
    return spec["artifacts"][key]["artifactType"]["schemaTitle"]


def _fetch(location: str, folder: Path) -> str:
    if not is_remote(location):
        return location
    from learn2compress.storage.object_store import download

    return str(download(location, folder))


def _data_digest(parameters: Json) -> str:
    from learn2compress.data.sources.formats import data_digest
    from learn2compress.schemas.config import DataConfig
    from learn2compress.schemas.parameters import decode

    return data_digest(decode(DataConfig, "data", parameters))


def _teacher_digest(parameters: Json) -> str:
    from learn2compress.schemas.digests import path_sha256
    from learn2compress.schemas.errors import TeacherError

    try:
        return path_sha256(parameters["teacher_path"])
    except OSError as error:
        raise TeacherError(
            f"teacher {parameters['teacher_path']} must be readable in the container; {error.strerror}. "
            "Check the address, or the volume."
        ) from error


def _pass_versions(parameters: Json) -> str:
    from learn2compress.compression.pruning.passes import pass_versions
    from learn2compress.schemas.config import PruneConfig
    from learn2compress.schemas.parameters import decode

    return pass_versions(decode(PruneConfig, "prune", parameters))


def _print_progress(progress: Any) -> None:
    if progress.detail:
        so_far = "" if progress.total is None else f"{progress.task} {progress.done}/{progress.total}: "
        print(f"{so_far}{progress.detail}", flush=True)


class _Parser(argparse.ArgumentParser):
    """A parser that raises, so that wrong arguments reach the termination message as well."""

    def error(self, message: str) -> NoReturn:
        raise ClusterError(f"the step's arguments must be those that were compiled; {message}. Compile again.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(description="Runs a step of the pipeline, in a container.", allow_abbrev=False)
    parser.add_argument("--node", required=True, help="the step's name")
    parser.add_argument("--executor_class_path", required=True, help="the node's executor")
    parser.add_argument("--json_serialized_invocation_args", required=True, help="the launcher's ExecutorInput")
    parser.add_argument("--json_serialized_inputs_spec_args", required=True, help="the component's inputs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
