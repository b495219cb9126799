"""A certificate authority of our own, and a certificate for this machine. Made anew for each test run."""

import subprocess
from pathlib import Path

from .places import SCRATCH

FOLDER = SCRATCH / "certificates"
CA, CERT, KEY = (FOLDER / name for name in ("ca.pem", "server.pem", "server.key"))

EXTENSIONS = """\
basicConstraints=CA:FALSE
extendedKeyUsage=serverAuth
subjectAltName=DNS:localhost,DNS:queue.localhost,IP:127.0.0.1
"""


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=FOLDER, check=True, capture_output=True)


def make() -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "server.ext").write_text(EXTENSIONS)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", CA, "-days", "30", "-subj", "/CN=falgate test authority")
    openssl("req", "-new", *curve, "-keyout", KEY, "-out", "server.csr", "-subj", "/CN=localhost")
    openssl("x509", "-req", "-in", "server.csr", "-CA", CA, "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
            "-extfile", "server.ext", "-out", CERT)


make()
