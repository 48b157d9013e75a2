# SPDX-License-Identifier: Apache-2.0
"""A small Kubernetes API server: objects by path, access reviews by a list of what is forbidden; and its kubeconfig."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Json = dict[str, Any]
REVIEWS = ("selfsubjectaccessreviews", "subjectaccessreviews")


class KubeServer:
    """The server.

    Attributes:
        objects: By path after the API's group, as namespaces/NS/configmaps/NAME.
        logs: By pod.
        forbidden: "VERB RESOURCE" that nobody may, as "list pods"; of reviews and of reads.
        pod_status: What a pod that is created comes to: its status, one a read, the last one for good.
        requests: What was requested, in order.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.logs: dict[str, str] = {}
        self.forbidden: set[str] = set()
        self.pod_status: list[Json] = [{"phase": "Succeeded"}]
        self.requests: list[str] = []
        self.created: list[Json] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"kube": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

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


@contextmanager
def serving() -> Iterator[KubeServer]:
    kube = KubeServer()
    thread = threading.Thread(target=kube.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield kube
    finally:
        kube.server.shutdown()
        kube.server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kube: KubeServer

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, content: Any) -> None:
        raw = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _begin(self) -> tuple[str, Json]:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.kube.requests.append(f"{self.command} {parts.path}")
        # /api/v1/… and /apis/GROUP/VERSION/…
        path = parts.path.split("/", 3)[3] if parts.path.startswith("/api/") else parts.path.split("/", 4)[4]
        return path, {"query": query, "body": json.loads(raw) if raw else {}}

    def do_GET(self) -> None:
        path, given = self._begin()
        parts = path.split("/")
        if parts[-1] == "log":
            self._answer(200, self.kube.logs.get(parts[-2], ""))
            return
        is_one = path in self.kube.objects or len(parts) % 2 == 0
        kind = parts[-2] if is_one else parts[-1]
        if f"{'get' if is_one else 'list'} {kind}" in self.kube.forbidden:
            self._answer(403, {"message": "forbidden", "reason": "Forbidden"})
        elif path in self.kube.objects:
            found = self.kube.objects[path]
            if kind == "pods" and found.get("_created"):
                statuses = self.kube.pod_status
                found = {**found, "status": statuses.pop(0) if len(statuses) > 1 else statuses[0]}
            self._answer(200, found)
        elif is_one:
            self._answer(404, {"message": "not found", "reason": "NotFound"})
        else:
            wanted = given["query"].get("labelSelector", "=").partition("=")
            items = [
                one
                for name, one in self.kube.objects.items()
                if name.startswith(f"{path}/")
                and (not wanted[0] or one["metadata"].get("labels", {}).get(wanted[0]) == wanted[2])
            ]
            self._answer(200, {"items": items})

    def do_POST(self) -> None:
        path, given = self._begin()
        body, kind = given["body"], path.split("/")[-1]
        if kind in REVIEWS:
            wanted = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (wanted["resource"], wanted.get("subresource"))))
            allowed = f"{wanted['verb']} {resource}" not in self.kube.forbidden
            self._answer(201, {"spec": body["spec"], "status": {"allowed": allowed}})
            return
        self.kube.created.append(body)
        self.kube.objects[f"{path}/{body['metadata']['name']}"] = {**body, "_created": True}
        self._answer(201, body)

    def do_DELETE(self) -> None:
        path, _ = self._begin()
        self.kube.objects.pop(path, None)
        self._answer(200, {"status": "Success"})
