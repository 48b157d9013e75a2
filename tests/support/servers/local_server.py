# SPDX-License-Identifier: Apache-2.0
"""The common part of the servers that tests talk to: start, stop, requests, responses of known length."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeVar
from urllib.parse import SplitResult, parse_qs, urlsplit

Self = TypeVar("Self", bound="LocalServer")


class Handler(BaseHTTPRequestHandler):
    """Handles the requests of a connection.

    Attributes:
        owner: The server, with its state.
    """

    protocol_version = "HTTP/1.1"
    owner: Any

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def read_request(self) -> tuple[SplitResult, dict[str, str], bytes]:
        """Read a request.

        Returns:
            The address, the first value of each of its query's parameters, and the body.
        """
        address = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query, keep_blank_values=True).items()}
        return address, query, self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def respond(self, status: int, content: Any = b"", **headers: str) -> None:
        """Send a response.

        Args:
            status: HTTP status.
            content: Bytes, text, or what becomes JSON.
            headers: By name, with _ for -.
        """
        kind = {bytes: "application/octet-stream", str: "text/plain"}.get(type(content), "application/json")
        text = content if isinstance(content, bytes | str) else json.dumps(content)
        raw = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        for name, value in {"Content_Type": kind, "Content_Length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)


class LocalServer:
    """A server on a free port of this machine; a subclass has the state and names the handler.

    Attributes:
        url: Address of the server.
    """

    handler: ClassVar[type[Handler]]

    def __init__(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (self.handler,), {"owner": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @contextmanager
    def running(self: Self) -> Iterator[Self]:
        """Serve requests while the context lasts."""
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()
