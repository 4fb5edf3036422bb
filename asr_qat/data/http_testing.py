"""A web server on this machine that drops connections, for tests of downloads."""

import contextlib
import http.server
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves files with ranges; drops the connection after `drop` bytes while it has drops left."""

    def do_GET(self) -> None:
        """Sends a file, or what is asked for of it."""
        server: Any = self.server
        server.requests.append(self.headers.get("Range"))
        content = server.files.get(self.path.rpartition("/")[2])
        if content is None:
            self.send_error(404)
            return
        start = 0
        if (asked := self.headers.get("Range")) and server.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content)
        if server.drops:
            end = start + server.drops.pop(0)
        self.wfile.write(content[start:end])
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def serve(
    files: Mapping[str, bytes], drops: Sequence[int] = (), ranges: bool = True
) -> Iterator[tuple[str, list[str | None]]]:
    """A server on this machine; yields its URL and the Range headers that it got.

    Args:
      files: contents by name.
      drops: after how many bytes each of the first connections is dropped.
      ranges: whether it knows ranges.
    """
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.files, server.drops, server.ranges, server.requests = files, list(drops), ranges, []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/resources", server.requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
