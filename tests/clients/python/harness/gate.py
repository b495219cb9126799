"""Starts the built falgate over TLS with a configuration of its own, and reads what it writes."""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import certificates
from .places import BINARY, MODEL, PORT, ROOT, SCRATCH

# The key that gates hold. It may be seen in one place: the authorization header of a call that fal gets.
SECRET = "c0ffee0canary0secret0dead0beef00"
GATE_KEY = f"3f1c9a52-canary-4b7e-a1d0-falgatekeyid0:{SECRET}"

READY_S = 90
STOP_S = 15

COMMON = f"""
[gate]
listen = "127.0.0.1:{PORT}"
admin = "127.0.0.1:0"
tls = {{ cert_file = "{certificates.CERT}", key_file = "{certificates.KEY}" }}
drain = {{ deadline_ms = 2000 }}
[telemetry]
level = "debug"
format = "json"
[guard.tokens]
keys = "memory"
"""

# An engine that runs the miniature model for the app's endpoint.
ENGINE = f"""
[host.pictures]
min_working_side = 64
[engine]
enabled = true
model = "{MODEL}"
warm_up_px = 64
[[route]]
endpoint = "fal-ai/lcm-sd15-i2i"
to = "engine"
[[route]]
endpoint = "fal-ai/lcm-sd15-i2i/nowhere"
to = "engine"
"""

# Access keys at the direct door, from the environment.
KEYS = '[guard.keys]\nenv = "CALLER_KEYS"\n'


class Gate:
    """A running gate."""

    def __init__(self, *settings: str, env: dict[str, str] | None = None):
        self.lines: list[str] = []
        self._folder = tempfile.TemporaryDirectory(dir=SCRATCH)
        config = Path(self._folder.name) / "falgate.toml"
        config.write_text("\n".join([COMMON, *settings]))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAL")}
        # The client's setting, not the gate's.
        inherited.pop("SSL_CERT_FILE", None)
        self._process = subprocess.Popen(
            [BINARY, "serve", "--config", config],
            cwd=ROOT, env=inherited | (env or {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._wait()
        except BaseException:
            self._process.kill()
            raise

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def _read(self) -> None:
        for line in self._process.stdout:
            self.lines.append(line)

    def _wait(self) -> None:
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                self._reader.join()
                raise AssertionError(f"the gate ended with {self._process.returncode} before it was ready\n{self.output[-4000:]}")
            if self._is_ready():
                return
            time.sleep(0.02)
        raise AssertionError(f"the gate is not ready\n{self.output[-4000:]}")

    def _is_ready(self) -> bool:
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", self.output)
        if not found:
            return False
        self.admin = found[1]
        try:
            return urllib.request.urlopen(f"{self.admin}/readyz", timeout=5).status == 200
        except urllib.error.HTTPError:
            return False

    def requests(self, path: str) -> list[dict]:
        """The lines of the request log about this path, so far."""
        entries = [json.loads(line) for line in self.lines if '"message":"request"' in line]
        return [entry for entry in entries if entry["path"] == path]

    def logged(self, path: str, count: int) -> list[dict]:
        """The request log about this path once it has this many lines: a line is written when its answer has ended."""
        self.until(lambda: len(self.requests(path)) >= count, f"not {count} requests of {path}")
        return self.requests(path)

    def gone(self, path: str) -> list[dict]:
        """The lines about callers who left before their answer."""
        return [entry for entry in self.requests(path) if entry["end"] == "gone"]

    def wait_for_gone(self, path: str, count: int) -> None:
        """Waits until this many callers of this path have left."""
        self.until(lambda: len(self.gone(path)) >= count, f"not {count} callers of {path} left")

    def until(self, reached, what: str) -> None:
        """Asks until the answer is yes."""
        end = time.monotonic() + 30
        while not reached():
            assert time.monotonic() < end, f"{what}\n{self.output[-4000:]}"
            time.sleep(0.02)

    def metrics(self) -> str:
        return urllib.request.urlopen(f"{self.admin}/metrics", timeout=5).read().decode()

    def metric(self, line: str) -> float:
        """The value of one line of the metrics, 0 where there is none: `falgate_socket_ended_total{end="idle"}`."""
        found = (text.rpartition(" ") for text in self.metrics().splitlines())
        return next((float(value) for name, _, value in found if name == line), 0.0)

    def stop(self) -> None:
        """Ends the gate, and fails if it wrote a secret anywhere or did not end well."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_S)
        finally:
            self._process.kill()
        self._reader.join()
        self._process.stdout.close()
        self._folder.cleanup()
        for secret in (SECRET, "ca11e40secret0"):
            assert secret not in self.output, "a key is in the gate's output"
        assert "panicked at" not in self.output, self.output[-4000:]
        assert code == 0, f"the gate ended with {code}\n{self.output[-4000:]}"
