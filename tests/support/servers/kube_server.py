# SPDX-License-Identifier: Apache-2.0
"""A small Kubernetes API server: objects by path, access reviews by a list of what is forbidden; and its kubeconfig."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from support.servers.local_server import Handler, LocalServer

Json = dict[str, Any]
REVIEWS = ("selfsubjectaccessreviews", "subjectaccessreviews")


class _Handler(Handler):
    owner: "KubeServer"

    def _begin(self) -> tuple[str, Json]:
        parts, query, raw = self.read_request()
        self.owner.requests.append(f"{self.command} {parts.path}")
        # /api/v1/… and /apis/GROUP/VERSION/…
        path = parts.path.split("/", 3)[3] if parts.path.startswith("/api/") else parts.path.split("/", 4)[4]
        return path, {"query": query, "body": json.loads(raw) if raw else {}}

    def do_GET(self) -> None:
        path, given = self._begin()
        parts = path.split("/")
        if parts[-1] == "log":
            self.respond(200, self.owner.logs.get(parts[-2], ""))
            return
        is_one = path in self.owner.objects or len(parts) % 2 == 0
        kind = parts[-2] if is_one else parts[-1]
        if f"{'get' if is_one else 'list'} {kind}" in self.owner.forbidden:
            self.respond(403, {"message": "forbidden", "reason": "Forbidden"})
        elif path in self.owner.objects:
            found = self.owner.objects[path]
            if kind == "pods" and found.get("_created"):
                statuses = self.owner.pod_status
                found = {**found, "status": statuses.pop(0) if len(statuses) > 1 else statuses[0]}
            self.respond(200, found)
        elif is_one:
            self.respond(404, {"message": "not found", "reason": "NotFound"})
        else:
            wanted = given["query"].get("labelSelector", "=").partition("=")
            items = [
                one
                for name, one in self.owner.objects.items()
                if name.startswith(f"{path}/")
                and (not wanted[0] or one["metadata"].get("labels", {}).get(wanted[0]) == wanted[2])
            ]
            self.respond(200, {"items": items})

    def do_POST(self) -> None:
        path, given = self._begin()
        body, kind = given["body"], path.split("/")[-1]
        if kind in REVIEWS:
            wanted = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (wanted["resource"], wanted.get("subresource"))))
            allowed = f"{wanted['verb']} {resource}" not in self.owner.forbidden
            self.respond(201, {"spec": body["spec"], "status": {"allowed": allowed}})
            return
        self.owner.created.append(body)
        self.owner.objects[f"{path}/{body['metadata']['name']}"] = {**body, "_created": True}
        self.respond(201, body)

    def do_DELETE(self) -> None:
        path, _ = self._begin()
        self.owner.objects.pop(path, None)
        self.respond(200, {"status": "Success"})


class KubeServer(LocalServer):
    """The server.

    Attributes:
        objects: By path after the API's group, as namespaces/NS/configmaps/NAME.
        logs: Logs by pod.
        forbidden: Calls that are refused, as "list pods", in reviews and in reads.
        pod_status: Statuses of a created pod, one for each read; the last one stays.
        requests: Requests, in order.
    """

    handler = _Handler

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, Json] = {}
        self.logs: dict[str, str] = {}
        self.forbidden: set[str] = set()
        self.pod_status: list[Json] = [{"phase": "Succeeded"}]
        self.requests: list[str] = []
        self.created: list[Json] = []

    def put(self, kind: str, name: str, namespace: str | None = "kubeflow", **content: Any) -> None:
        """Adds an object; kind is the resource's plural."""
        metadata = {"name": name, **content.pop("metadata", {})}
        place = f"namespaces/{namespace}/{kind}/{name}" if namespace else f"{kind}/{name}"
        self.objects[place] = {"metadata": metadata, **content}

    def put_pod(self, node: str, run: str = "run-1", attempt: int | None = None, **status: Any) -> str:
        """Adds a step's pod as Argo marks it."""
        name = f"learn2compress-af672-system-container-impl-{len(self.objects)}"
        path = f"learn2compress-af672.root.{node}.executor{'' if attempt is None else f'({attempt})'}"
        metadata = {"labels": {"pipeline/runid": run}, "annotations": {"workflows.argoproj.io/node-name": path}}
        self.put("pods", name, metadata=metadata, spec={"containers": []}, status=status)
        return name

    def kubeconfig(self, folder: Path) -> Path:
        """Writes a kubeconfig that leads here."""
        path = folder / "kubeconfig"
        named = [{"name": "here", "cluster": {"server": self.url}}]
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "here", "clusters": named,
                    "users": [{"name": "me", "user": {"token": "t"}}],
                    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
                }
            )
        )  # fmt: skip
        return path


def serving() -> AbstractContextManager[KubeServer]:
    """Serve an empty cluster while the context lasts."""
    return KubeServer().running()
