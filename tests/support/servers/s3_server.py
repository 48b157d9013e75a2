# SPDX-License-Identifier: Apache-2.0
"""Serves a folder by the part of the S3 protocol that the client uses; methods can be refused."""

import hashlib
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import unquote
from xml.sax.saxutils import escape

from support.servers.local_server import Handler, LocalServer

KEY = "key"
SECRET = "secret"


class _Handler(Handler):
    owner: "S3Server"

    def _error(self, status: int, code: str) -> None:
        self.respond(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _begin(self) -> tuple[Path, str, dict[str, str]] | None:
        parts, query, self.body = self.read_request()
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if self.headers.get("x-amz-decoded-content-length") and b";chunk-signature" not in self.body:
            self.body = _unchunk(self.body)
        if f"Credential={KEY}/" not in self.headers.get("Authorization", ""):
            self._error(403, "InvalidAccessKeyId")
        elif self.command in self.owner.refuse:
            self._error(403, "AccessDenied")
        elif not (self.owner.root / bucket).is_dir():
            self._error(404, "NoSuchBucket")
        else:
            return self.owner.root / bucket, key, query
        return None

    def do_GET(self) -> None:
        parsed = self._begin()
        if parsed is None:
            return
        bucket, key, query = parsed
        if not key:
            self._list(bucket, query)
            return
        file = bucket / key
        if not file.is_file():
            self._error(404, "NoSuchKey")
            return
        body = file.read_bytes()
        size = len(body)
        status, headers = 200, {"ETag": _entity(body), "Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        wanted = self.headers.get("Range")
        if wanted and self.command == "GET":
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last) if last else size - 1, size - 1)
            body, status = body[int(first) : end + 1], 206
            headers["Content_Range"] = f"bytes {first}-{end}/{size}"
        self.respond(status, body, **headers)

    do_HEAD = do_GET

    def _list(self, bucket: Path, query: dict[str, str]) -> None:
        prefix, delimiter = (query.get(name, "") for name in ("prefix", "delimiter"))
        rows, folders = [], set()
        for file in sorted(path for path in bucket.rglob("*") if path.is_file()):
            name = file.relative_to(bucket).as_posix()
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
                continue
            body = file.read_bytes()
            rows.append(
                f"<Contents><Key>{escape(name)}</Key><Size>{len(body)}</Size><ETag>{_entity(body)}</ETag>"
                "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
            )
        rows += [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)]
        count = len(rows)
        head = f"<Name>{bucket.name}</Name><KeyCount>{count}</KeyCount><IsTruncated>false</IsTruncated>"
        self.respond(200, f"<ListBucketResult>{head}{''.join(rows)}</ListBucketResult>".encode())

    def do_PUT(self) -> None:
        parsed = self._begin()
        if parsed is None:
            return
        bucket, key, _ = parsed
        if key:
            (bucket / key).parent.mkdir(parents=True, exist_ok=True)
            (bucket / key).write_bytes(self.body)
        self.respond(200, ETag=_entity(self.body))

    def do_DELETE(self) -> None:
        parsed = self._begin()
        if parsed is None:
            return
        bucket, key, _ = parsed
        (bucket / key).unlink(missing_ok=True)
        self.respond(204)

    def do_POST(self) -> None:
        parsed = self._begin()
        if parsed is None:
            return
        bucket, _, query = parsed
        if "delete" not in query:
            self._error(501, "NotImplemented")
            return
        for part in self.body.decode().split("<Key>")[1:]:
            target = bucket / part.partition("</Key>")[0]
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        self.respond(200, b"<DeleteResult/>")


class S3Server(LocalServer):
    """Serves the folder `root`, whose sub-folders are the buckets.

    Attributes:
        refuse: HTTP methods for which the response is AccessDenied.
    """

    handler = _Handler

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.refuse: set[str] = set()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def serving(root: Path) -> AbstractContextManager[S3Server]:
    """Serve a folder while the context lasts."""
    return S3Server(root).running()


def _entity(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def _unchunk(body: bytes) -> bytes:
    """Decodes aws-chunked encoding, which the client uses when it adds a checksum."""
    content = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        count = int(size.partition(b";")[0], 16)
        if count == 0:
            break
        content, body = content + rest[:count], rest[count + 2 :]
    return content
