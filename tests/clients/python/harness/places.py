"""Where things lie. Everything that tests write goes below target/clients/python."""

import os
import socket
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
BINARY = ROOT / os.environ.get("FALGATE_BIN", "target/debug/falgate")
MODEL = ROOT / "tests/models/tiny-lcm-onnx"
SCRATCH = ROOT / "target/clients/python"
SCRATCH.mkdir(parents=True, exist_ok=True)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# fal_client reads the host name of runs once, when it is imported: every gate of one test run has this port, one after
# the other.
PORT = free_port()
HOST = f"localhost:{PORT}"
