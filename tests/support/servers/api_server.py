# SPDX-License-Identifier: Apache-2.0
"""A small Kubeflow Pipelines api-server: the v2beta1 REST calls that kfp's client makes, with the real one's checks.

Its responses about a run are those of a version, as recorded in facts/: where tasks are, which fields they have, which
states there are. Each query lets a run proceed by one node. Any call can be made to fail.
"""

import json
import re
import ssl
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from support.servers.kubeflow_facts import load_facts, tasks_of
from support.servers.local_server import Handler, LocalServer

Json = dict[str, Any]
API = "/apis/v2beta1"
KINDS = {"STRING": str, "NUMBER_INTEGER": (int, float), "NUMBER_DOUBLE": (int, float), "BOOLEAN": bool}


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class _Handler(Handler):
    owner: "ApiServer"

    def _handle(self) -> None:
        address, query, self.body = self.read_request()
        self.query = {key: value for key, value in query.items() if value}
        path = address.path.removeprefix(API)
        self.owner.requests.append(f"{self.command} {path}")
        try:
            self._check_namespace()
            if self.owner.token and self.headers.get("Authorization") != f"Bearer {self.owner.token}":
                raise _RefusedError(401, "Unauthenticated: the token is not valid")
            failure = self.owner.failures.get((self.command, path))
            if failure:
                if (self.command, path) in self.owner.once:
                    del self.owner.failures[self.command, path]
                raise _RefusedError(*failure)
            self.respond(200, self._route(path), Content_Type="application/json")
        except _RefusedError as error:
            message = {"error": error.message, "code": 3, "message": error.message, "details": []}
            self.respond(error.status, message)

    do_GET = do_POST = do_DELETE = _handle

    def _check_namespace(self) -> None:
        named = self.query.get("namespace")
        if self.body[:1] == b"{":
            named = named or json.loads(self.body).get("namespace")
        if self.owner.namespaces is not None and named and named not in self.owner.namespaces:
            message = f"User 'me' is not authorized with reason: (request: namespace {named})"
            raise _RefusedError(403, message)

    def _route(self, path: str) -> Any:
        api, method = self.owner, self.command
        if path == "/healthz":
            return {"multi_user": api.multi_user, "tag_name": api.facts["version"].split()[0]}
        if path == "/experiments" and method == "GET":
            return {"experiments": self._named(api.experiments)}
        if path == "/experiments":
            given = json.loads(self.body)
            if api.multi_user and not given.get("namespace"):
                raise _RefusedError(400, "Namespace is empty")
            return self._create(api.experiments, "experiment_id", given)
        if path == "/pipelines" and method == "GET":
            return {"pipelines": self._named(api.pipelines)}
        if path == "/pipelines/upload":
            return self._upload()
        if path == "/pipelines/upload_version":
            return self._add_version(self.query["pipelineid"], self.query["name"], self._file())
        if found := re.fullmatch(r"/pipelines/([^/]+)/versions", path):
            return {"pipeline_versions": [v for v in api.versions.values() if v["pipeline_id"] == found[1]]}
        if path == "/runs" and method == "POST":
            return self._start(json.loads(self.body))
        if found := re.fullmatch(r"/runs/([^/:]+)(:terminate)?", path):
            run = api.runs.get(found[1])
            if run is None:
                raise _RefusedError(404, f"Run {found[1]} not found")
            if found[2]:
                run["ending"] = list(api.facts["run"]["after_cancel"])
                return {}
            return self._advance(run)
        if path == "/recurringruns" and method == "POST":
            given = json.loads(self.body)
            self._check_start(given)
            if set(given["trigger"]) not in ({"cron_schedule"}, {"periodic_schedule"}):
                raise _RefusedError(400, "a schedule is one of cron_schedule and periodic_schedule")
            return self._create(api.recurring, "recurring_run_id", given)
        if re.fullmatch(r"/apis/v1alpha1/runs/[^/]+/nodes/[^/]+/log", path):
            return api.facts["log_endpoint"]["body"]
        raise _RefusedError(404, f"{method} {path} is not known")

    def _named(self, found: dict[str, Json]) -> list[Json]:
        [predicate] = json.loads(self.query.get("filter", '{"predicates": [{}]}'))["predicates"]
        wanted = predicate.get("stringValue", predicate.get("string_value"))
        namespace = self.query.get("namespace")
        return [
            one
            for one in found.values()
            if (wanted is None or one["display_name"] == wanted) and (one.get("namespace") or None) == namespace
        ]

    def _create(self, table: dict[str, Json], key: str, given: Json) -> Json:
        if any(one["display_name"] == given["display_name"] for one in table.values()):
            raise _RefusedError(409, f"{given['display_name']} exists already")
        identifier = str(uuid.uuid4())
        table[identifier] = {**given, key: identifier}
        return table[identifier]

    def _file(self) -> str:
        match = re.search(rb'filename="([^"]+)"\r\n(?:[^\r]+\r\n)*\r\n(.*)\r\n--', self.body, re.DOTALL)
        if not match or not match[1].endswith(b".yaml"):
            raise _RefusedError(400, "the file must be .yaml")
        return match[2].decode()

    def _upload(self) -> Json:
        text = self._file()
        _check(text)
        given = {"display_name": self.query["name"], "namespace": self.query.get("namespace")}
        made = self._create(self.owner.pipelines, "pipeline_id", given)
        self._add_version(made["pipeline_id"], self.query["name"], text)
        return made

    def _add_version(self, pipeline: str, name: str, text: str) -> Json:
        if pipeline not in self.owner.pipelines:
            raise _RefusedError(404, f"Pipeline {pipeline} not found")
        spec = _check(text)
        version = self._create(
            self.owner.versions, "pipeline_version_id", {"display_name": name, "pipeline_id": pipeline}
        )
        version["pipeline_spec"] = spec
        return version

    def _check_start(self, given: Json) -> Json:
        """What the api-server checks of a run or a schedule; returns the pipeline."""
        reference = given.get("pipeline_version_reference") or {}
        version = self.owner.versions.get(reference.get("pipeline_version_id", ""))
        if version is None:
            raise _RefusedError(404, "Pipeline version not found")
        if given.get("experiment_id") not in self.owner.experiments:
            raise _RefusedError(404, "Experiment not found")
        spec, runtime = version["pipeline_spec"], given.get("runtime_config", {})
        if not runtime.get("pipeline_root", "").startswith(("gs://", "s3://", "minio://")):
            raise _RefusedError(400, f"pipeline root {runtime.get('pipeline_root')!r} is not supported")
        definitions = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        values = runtime.get("parameters", {})
        for name, definition in definitions.items():
            if name not in values and "defaultValue" not in definition:
                raise _RefusedError(400, f"parameter {name} is not optional, yet has neither default nor given value")
            if name in values and not isinstance(values[name], KINDS[definition["parameterType"]]):
                raise _RefusedError(400, f"parameter {name} must be {definition['parameterType']}")
        for name in values:
            if name not in definitions:
                raise _RefusedError(400, f"parameter {name} provided is not required by pipeline")
        return spec

    def _start(self, given: Json) -> Json:
        spec = self._check_start(given)
        run = str(uuid.uuid4())
        own = {"run_id": run, "state": "PENDING", "state_history": [], "done": 0, "nodes": list(_order(spec))}
        self.owner.runs[run] = {**given, **own, "pipeline": spec["pipelineInfo"]["name"]}
        return self._shown(self.owner.runs[run])

    def _shown(self, run: Json) -> Json:
        return {key: value for key, value in run.items() if key not in ("done", "nodes", "ending", "pipeline")}

    def _advance(self, run: Json) -> Json:
        run.setdefault("state_history", [])
        api, running = self.owner, run["state"] in ("PENDING", "RUNNING", "CANCELING")
        if run.get("ending"):
            run["state"] = run["ending"].pop(0)
        elif running:
            run["done"] += api.stuck_node not in run["nodes"][: run["done"]]
            run["state"] = "RUNNING"
            if api.fail_node and api.fail_node[0] in run["nodes"][: run["done"] - 1]:
                run["state"], run["done"] = "FAILED", run["done"] - 1
            elif run["done"] > len(run["nodes"]):
                run["state"] = "SUCCEEDED"
        if not run["state_history"] or run["state_history"][-1]["state"] != run["state"]:
            run["state_history"].append({"update_time": "2024-01-01T00:00:00Z", "state": run["state"]})
        facts = api.facts["run"]
        if facts["needs_view"] not in (None, self.query.get("view")):
            return self._shown(run)
        return {**self._shown(run), **tasks_of(run, api, facts)}


class ApiServer(LocalServer):
    """The server.

    Attributes:
        facts: Recorded facts of a version.
        token: Bearer token that each call must have, if any.
        namespaces: The user's, where there are several users; a call for another one is forbidden.
        failures: By method and path, as ("POST", "/runs"): status and message of the response; a failure in `once`
            happens once.
        fail_node: The node that fails in each run, with the message of its container.
        stuck_node: A node whose container never starts.
        cached: Nodes whose result is taken from an earlier run.
        attempts: By node, how many tries it needs; a node in it has a retry policy.
        requests: What was requested, in order.
    """

    handler = _Handler

    def __init__(self, version: str = "2.17", certificate: tuple[str, str] | None = None) -> None:
        super().__init__()
        self.facts = load_facts(version)
        self.token: str | None = None
        self.multi_user = False
        self.namespaces: set[str] | None = None
        self.failures: dict[tuple[str, str], tuple[int, str]] = {}
        self.once: set[tuple[str, str]] = set()
        self.fail_node: tuple[str, str] | None = None
        self.stuck_node: str | None = None
        self.cached: set[str] = set()
        self.attempts: dict[str, int] = {}
        self.requests: list[str] = []
        self.pipelines: dict[str, Json] = {}
        self.versions: dict[str, Json] = {}
        self.experiments: dict[str, Json] = {}
        self.runs: dict[str, Json] = {}
        self.recurring: dict[str, Json] = {}
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://localhost:{self.server.server_port}"


def serving(version: str = "2.17", certificate: tuple[str, str] | None = None) -> AbstractContextManager[ApiServer]:
    """Serve the API of a version while the context lasts, by HTTPS if a certificate and its key are given."""
    return ApiServer(version, certificate).running()


def _check(text: str) -> Json:
    documents = list(yaml.load_all(text, yaml.CSafeLoader))
    spec = documents[0]
    try:
        message = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        for platform in documents[1:]:
            json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    except json_format.ParseError as error:
        raise _RefusedError(400, f"invalid v2 pipeline spec: {error}") from error
    if message.schema_version != "2.1.0":
        raise _RefusedError(400, f"KFP only supports schema version 2.1.0, but got {message.schema_version}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", message.pipeline_info.name):
        raise _RefusedError(400, "pipeline's name must contain only lowercase alphanumeric characters or '-'")
    if not message.root.dag.tasks:
        raise _RefusedError(400, "root component is empty")
    return spec


def _order(spec: Json) -> Iterator[str]:
    tasks, done = spec["root"]["dag"]["tasks"], set()
    while len(done) < len(tasks):
        node = next(n for n in sorted(tasks) if n not in done and set(tasks[n].get("dependentTasks", [])) <= done)
        done.add(node)
        yield node
