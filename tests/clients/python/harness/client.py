"""fal_client, unmodified: environment first, then the import, and REST calls to the gate as well."""

import os

from . import certificates
from .places import HOST

for name in [name for name in os.environ if name.startswith("FAL_")]:
    del os.environ[name]
for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ.pop(name, None)
    os.environ.pop(name.lower(), None)
os.environ["FAL_RUN_HOST"] = HOST
os.environ["SSL_CERT_FILE"] = str(certificates.CA)

import fal_client  # noqa: E402
import fal_client.client  # noqa: E402

# The REST and CDN hosts have no variable.
fal_client.client.REST_URL = f"https://{HOST}"
fal_client.client.CDN_URL = f"https://{HOST}"

ID = "5a3b8d10-caller-4c2e-9f00-callerkeyid00"
CALLER_KEY = f"{ID}:ca11e40secret0ca11e40secret0"
WRONG_KEY = f"{ID}:wrong"

FalClientHTTPError = fal_client.client.FalClientHTTPError
FalClientTimeoutError = fal_client.client.FalClientTimeoutError
RealtimeError = fal_client.client.RealtimeError


def sync(key: str = CALLER_KEY) -> fal_client.SyncClient:
    return fal_client.SyncClient(key=key)


def asynchronous(key: str = CALLER_KEY) -> fal_client.AsyncClient:
    return fal_client.AsyncClient(key=key)
