# SPDX-License-Identifier: Apache-2.0
"""Serves a folder by the part of the JSON API of Google Cloud Storage that the client uses; methods can be refused."""

import hashlib
import json
import re
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Json = dict[str, Any]
_OBJECT = re.compile(r"(?:/download|/upload)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?")


class GcsServer:
    """Serves the folder `root`, whose sub-folders are the buckets.

    Attributes:
        refuse: HTTP methods for which the response is 403.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refuse: set[str] = set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.url}


@contextmanager
def serving(root: Path) -> Iterator[GcsServer]:
    store = GcsServer(root)
    thread = threading.Thread(target=store.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store.server.shutdown()
        store.server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: GcsServer

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, content: Any = b"") -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header(
            "Content-Type", "application/octet-stream" if isinstance(content, bytes) else "application/json"
        )
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = _OBJECT.fullmatch(parts.path)
        if self.command in self.store.refuse:
            self._answer(403, {"error": {"code": 403, "message": "forbidden"}})
        elif found is None or not (self.store.root / found[1]).is_dir():
            self._answer(404, {"error": {"code": 404, "message": "not found"}})
        elif self.command == "POST":
            self._upload(found[1], body)
        elif found[2] is None:
            self._list(found[1], query) if parts.path.endswith("/o") else self._answer(200, {"name": found[1]})
        else:
            self._object(found[1], unquote(found[2]), query)

    do_GET = do_POST = do_DELETE = do_HEAD = _handle

    def _object(self, bucket: str, name: str, query: Json) -> None:
        file = self.store.root / bucket / name
        if not file.is_file():
            self._answer(404, {"error": {"code": 404, "message": "not found"}})
        elif self.command == "DELETE":
            file.unlink()
            self._answer(204)
        else:
            self._answer(200, file.read_bytes() if query.get("alt") == "media" else self._describe(bucket, name))

    def _describe(self, bucket: str, name: str) -> Json:
        content = (self.store.root / bucket / name).read_bytes()
        return {
            "kind": "storage#object", "name": name, "bucket": bucket, "size": str(len(content)), "generation": "1",
            "md5Hash": b64encode(hashlib.md5(content).digest()).decode(), "updated": "2024-01-01T00:00:00Z",
            "timeCreated": "2024-01-01T00:00:00Z",
        }  # fmt: skip

    def _list(self, bucket: str, query: Json) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, folders = [], set()
        root = self.store.root / bucket
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            name = file.relative_to(root).as_posix()
            rest = name[len(prefix) :]
            if name.startswith(prefix) and delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            elif name.startswith(prefix):
                items.append(self._describe(bucket, name))
        self._answer(200, {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)})

    def _upload(self, bucket: str, body: bytes) -> None:
        """A multipart upload, as gcsfs writes it: a part that describes the object, then its content."""
        mark = b"--" + self.headers["Content-Type"].partition('boundary="')[2].rstrip('"').encode()
        description, rest = body.split(mark, 2)[1:]
        name = json.loads(description.partition(b"\n\n")[2])["name"]
        content = rest.partition(b"\n\n")[2].rpartition(b"\n" + mark + b"--")[0]
        (self.store.root / bucket / name).parent.mkdir(parents=True, exist_ok=True)
        (self.store.root / bucket / name).write_bytes(content)
        self._answer(200, self._describe(bucket, name))
