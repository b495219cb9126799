"""A fal that does what a test tells it to, on plain HTTP of this machine. Every request is recorded."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    status: int
    body: object
    headers: dict[str, str] = field(default_factory=dict)


class FakeFal:
    """Answers `next` once, or else echoes the input."""

    def __init__(self):
        self.calls: list[dict] = []
        self.always: Reply | None = None
        # Held back until set.
        self.answer = threading.Event()
        self.answer.set()
        fal = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                fal.calls.append({"path": self.path, "headers": self.headers, "body": json.loads(body)})
                fal.answer.wait(30)
                echo = Reply(200, {"echo": json.loads(body)}, {"x-fal-request-id": "7d4a1c52-0000-4000-8000-000000000001"})
                reply = fal.always or echo
                text = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
                kind = "text/html" if isinstance(reply.body, str) else "application/json"
                self.send_response(reply.status)
                for name, value in {"content-type": kind, "content-length": str(len(text)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                """Callers may leave before their answer; what a test wants of them it asks for itself."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def settings(self) -> str:
        """The gate's tables that lead here, for one endpoint."""
        origin = f"http://127.0.0.1:{self._server.server_port}"
        return f"""
[proxy.targets]
endpoints = ["fal-ai/echo"]
[upstream]
allow_plain_loopback = true
first_byte_timeout_ms = 1500
addresses = {{ run = "{origin}", queue = "{origin}", rest = "{origin}" }}
"""

    def reset(self) -> None:
        self.calls.clear()
        self.always = None
        self.answer.set()

    def stop(self) -> None:
        self.answer.set()
        self._server.shutdown()
        self._server.server_close()
