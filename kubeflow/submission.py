# SPDX-License-Identifier: Apache-2.0
"""Submits a configuration as a run: compiles, brings what only lies here into the object store, uploads, starts.

The pipeline is uploaded under the configuration's name, and again as a version only if its bytes are new. What may
differ from run to run is passed as the run's parameters, every one of them, so that a run describes itself completely.

A schedule passes the same parameters to each of its runs, so that the backend's cache would give the first run's result
for ever. Its pipeline therefore reads data and teacher that lie in an object store anew in each run; what they turn out
to be is in the records.
"""

import hashlib
import json
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from learn2compress.data.sources.formats import data_digest
from learn2compress.kubeflow.client import Endpoint, connect, talking
from learn2compress.kubeflow.schedule import Schedule
from learn2compress.kubeflow.spec.compile import compile_pipeline
from learn2compress.kubeflow.spec.run_parameters import check_root
from learn2compress.schemas.config import Config
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.errors import ClusterError, ConfigError
from learn2compress.storage import object_store
from learn2compress.storage.addresses import is_remote

Say = Callable[[str], None]


@dataclass(frozen=True)
class Submitted:
    """A run that was started, or a schedule of runs.

    Attributes:
        run: Id of the run, or of the recurring run.
        pipeline: The pipeline's name.
        version: The name of its version.
        root: Where artifacts go.
        parameters: The values that were passed.
    """

    run: str
    pipeline: str
    version: str
    root: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What to submit.

    Attributes:
        config: The configuration, with what was overridden for this run.
        base: The configuration as it stands in its file: where the two differ in nothing but what a run may set, its
            pipeline is the one to upload.
        root: Where artifacts go; default: kubeflow.pipeline_root.
        image: Container image of the steps; default: kubeflow.image.
        limit: Examples to take of each part of the data.
        experiment: The experiment's name; made if it is not there.
        service_account: Service account of the pods; default: the cluster's.
        every: When to run again and again; default: once, now.
    """

    config: Config
    base: Config
    root: str | None = None
    image: str | None = None
    limit: int | None = None
    experiment: str = "learn2compress"
    service_account: str | None = None
    every: Schedule | None = None


def submit(endpoint: Endpoint, order: Order, say: Say = lambda _: None) -> Submitted:
    """Start a run, or a schedule of runs.

    Args:
        endpoint: The cluster's.
        order: What to submit.
        say: Called with what happens, a sentence at a time.

    Raises:
        Learn2CompressError: Nothing was started.
    """
    config, base = order.config, order.base
    if order.every is not None:
        config, base = _read_anew(config), _read_anew(base)
    root = check_root(order.root or config.kubeflow.pipeline_root)
    text = compile_pipeline(config, order.image)
    parameters = _defaults(text)
    if config != base:
        plain = compile_pipeline(base, order.image)
        text = plain if _without_defaults(plain) == _without_defaults(text) else text
    client = connect(endpoint)
    values = {name: default for name, default in parameters.items() if default is not None}
    if order.limit is not None:
        values["limit"] = order.limit
    values |= _settle_places(config, values, f"{root}/inputs", order.every is not None, say)
    missing = sorted(set(parameters) - set(values))
    if missing:
        raise ClusterError(f"every parameter of a run must have a value; got none for {', '.join(missing)}.")
    version = hashlib.sha256(text.encode()).hexdigest()[:12]
    pipeline_id, version_id = _upload(endpoint, client, text, config.pipeline.name, version, say)
    with talking(endpoint):
        place = client.create_experiment(order.experiment, namespace=endpoint.namespace)
        name = f"{config.pipeline.name} {version} {uuid.uuid4().hex[:6]}"
        common = {
            "pipeline_id": pipeline_id,
            "version_id": version_id,
            "params": values,
            "pipeline_root": root,
            "service_account": order.service_account,
        }
        if order.every is None:
            run = client.run_pipeline(place.experiment_id, name, **common).run_id
        else:
            schedule = order.every.arguments
            made = client.create_recurring_run(place.experiment_id, name, no_catchup=True, **schedule, **common)
            run = made.recurring_run_id
    return Submitted(run, config.pipeline.name, version, root, values)


def _read_anew(config: Config) -> Config:
    """A configuration whose data and teacher every run reads anew, where they may change between two runs."""
    remote = {
        ("TextExampleGen" if config.data.modality == "text" else "ImageExampleGen"): is_remote(
            config.kubeflow.data or config.data.path
        ),
        "TeacherImporter": is_remote(config.kubeflow.teacher or config.teacher.path),
    }
    cache = {**config.kubeflow.cache, **{node: False for node, changes in remote.items() if changes}}
    return config.model_copy(update={"kubeflow": config.kubeflow.model_copy(update={"cache": cache})})


def _defaults(text: str) -> dict[str, Any]:
    definitions = next(iter(yaml.safe_load_all(text)))["root"]["inputDefinitions"]["parameters"]
    return {name: definition.get("defaultValue") for name, definition in definitions.items()}


def _without_defaults(text: str) -> list[Any]:
    documents = list(yaml.safe_load_all(text))
    for definition in documents[0]["root"]["inputDefinitions"]["parameters"].values():
        definition.pop("defaultValue", None)
        definition.pop("isOptional", None)
    return documents


def _settle_places(config: Config, values: dict[str, Any], inputs: str, recurring: bool, say: Say) -> dict[str, Any]:
    """Where teacher and data are, and what names their content; what lies here is uploaded."""
    settled: dict[str, Any] = {}
    for place, digest, local, compute in (
        ("teacher_path", "teacher_sha256", config.teacher.path, lambda: path_sha256(config.teacher.path)),
        ("data_path", "data_digest", config.data.path, lambda: _name_data(config)),
    ):
        if place not in values:
            source = Path(local)
            if not source.exists():
                raise ConfigError(
                    f"{place.replace('_', '.')} must be a file or folder here, or an address; there is no {local}. "
                    f"Check it, or set kubeflow.{place.split('_')[0]}."
                )
            settled[digest] = compute()
            settled[place] = target = f"{inputs}/{settled[digest][:16]}/{source.name}"
            object_store.upload(source, target, partial(say, f"Uploading {local} to {target}"))
        elif is_remote(values[place]) and recurring:
            settled[digest] = f"unread-{uuid.uuid4().hex}"
        elif digest not in values:
            # On a volume nothing can be seen from here, so no earlier result may be taken for it.
            remote = is_remote(values[place])
            settled[digest] = object_store.fingerprint(values[place]) if remote else f"unread-{uuid.uuid4().hex}"
    return settled


def _name_data(config: Config) -> str:
    """The data's digest, or where there are images on the cluster besides, a text that no earlier run had."""
    return f"unread-{uuid.uuid4().hex}" if config.data.unlabeled else data_digest(config.data)


def _upload(endpoint: Endpoint, client: Any, text: str, name: str, version: str, say: Say) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as folder, talking(endpoint):
        file = Path(folder, "pipeline.yaml")
        file.write_text(text, encoding="utf-8")
        # Not kfp's own get_pipeline_id: it finds shared pipelines only, and a namespace's would be uploaded twice.
        wanted = json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
        found = client.list_pipelines(filter=wanted, namespace=endpoint.namespace).pipelines
        pipeline_id = found[0].pipeline_id if found else None
        if pipeline_id is None:
            say(f"Uploading pipeline {name}")
            pipeline_id = client.upload_pipeline(str(file), name, namespace=endpoint.namespace).pipeline_id
        token = ""
        while True:
            listed = client.list_pipeline_versions(pipeline_id, page_token=token, page_size=100)
            for one in listed.pipeline_versions or []:
                if one.display_name == version:
                    return pipeline_id, one.pipeline_version_id
            token = listed.next_page_token or ""
            if not token:
                break
        say(f"Uploading version {version} of pipeline {name}")
        uploaded = client.upload_pipeline_version(str(file), version, pipeline_id=pipeline_id)
        return pipeline_id, uploaded.pipeline_version_id
