# SPDX-License-Identifier: Apache-2.0
"""Serves a folder by the part of the JSON API of Google Cloud Storage that the client uses; methods can be refused."""

import hashlib
import json
import re
from base64 import b64encode
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from support.servers.local_server import Handler, LocalServer

Json = dict[str, Any]
_OBJECT = re.compile(r"(?:/download|/upload)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?")


class _Handler(Handler):
    owner: "GcsServer"

    def _handle(self) -> None:
        parts, query, body = self.read_request()
        found = _OBJECT.fullmatch(parts.path)
        if self.command in self.owner.refuse:
            self.respond(403, {"error": {"code": 403, "message": "forbidden"}})
        elif found is None or not (self.owner.root / found[1]).is_dir():
            self.respond(404, {"error": {"code": 404, "message": "not found"}})
        elif self.command == "POST":
            self._upload(found[1], body)
        elif found[2] is None:
            self._list(found[1], query) if parts.path.endswith("/o") else self.respond(200, {"name": found[1]})
        else:
            self._object(found[1], unquote(found[2]), query)

    do_GET = do_POST = do_DELETE = do_HEAD = _handle

    def _object(self, bucket: str, name: str, query: Json) -> None:
        file = self.owner.root / bucket / name
        if not file.is_file():
            self.respond(404, {"error": {"code": 404, "message": "not found"}})
        elif self.command == "DELETE":
            file.unlink()
            self.respond(204)
        else:
            self.respond(200, file.read_bytes() if query.get("alt") == "media" else self._describe(bucket, name))

    def _describe(self, bucket: str, name: str) -> Json:
        content = (self.owner.root / bucket / name).read_bytes()
        return {
            "kind": "storage#object", "name": name, "bucket": bucket, "size": str(len(content)), "generation": "1",
            "md5Hash": b64encode(hashlib.md5(content).digest()).decode(), "updated": "2024-01-01T00:00:00Z",
            "timeCreated": "2024-01-01T00:00:00Z",
        }  # fmt: skip

    def _list(self, bucket: str, query: Json) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, folders = [], set()
        root = self.owner.root / bucket
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            name = file.relative_to(root).as_posix()
            rest = name[len(prefix) :]
            if name.startswith(prefix) and delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            elif name.startswith(prefix):
                items.append(self._describe(bucket, name))
        self.respond(200, {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)})

    def _upload(self, bucket: str, body: bytes) -> None:
        """A multipart upload, as gcsfs writes it: a part that describes the object, then its content."""
        mark = b"--" + self.headers["Content-Type"].partition('boundary="')[2].rstrip('"').encode()
        description, rest = body.split(mark, 2)[1:]
        name = json.loads(description.partition(b"\n\n")[2])["name"]
        content = rest.partition(b"\n\n")[2].rpartition(b"\n" + mark + b"--")[0]
        (self.owner.root / bucket / name).parent.mkdir(parents=True, exist_ok=True)
        (self.owner.root / bucket / name).write_bytes(content)
        self.respond(200, self._describe(bucket, name))


class GcsServer(LocalServer):
    """Serves the folder `root`, whose sub-folders are the buckets.

    Attributes:
        refuse: HTTP methods for which the response is 403.
    """

    handler = _Handler

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.refuse: set[str] = set()

    @property
    def environment(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.url}


def serving(root: Path) -> AbstractContextManager[GcsServer]:
    """Serve a folder while the context lasts."""
    return GcsServer(root).running()
