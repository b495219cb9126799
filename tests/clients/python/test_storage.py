"""Uploads: through the token and the CDN, what `upload` does when the CDN fails, and that a run takes what it returns."""

import asyncio
import io
import tempfile
import unittest
from datetime import datetime, timedelta, timezone

import httpx
from PIL import Image

from harness.client import CALLER_KEY, asynchronous, fal_client, sync
from harness.gate import ENGINE, KEYS, Gate
from harness.pictures import png
from harness.places import HOST
from test_run import APP, inputs


def with_foreign_token(client):
    """The client with a token that another gate may have given it, so that its upload to the CDN fails."""
    token = fal_client.client.CDNToken("t", "Bearer", f"https://{HOST}", datetime.now(timezone.utc) + timedelta(hours=1))
    client._token_manager._token = token
    return client


class Uploads(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gate = Gate(ENGINE, KEYS, env={"CALLER_KEYS": f"tests {CALLER_KEY}"})

    @classmethod
    def tearDownClass(cls):
        cls.gate.stop()

    def assert_stored(self, url: str, data: bytes, kind: str) -> None:
        self.assertTrue(url.startswith(f"https://{HOST}/"), url)
        answer = httpx.get(url)
        self.assertEqual((answer.status_code, answer.content), (200, data))
        self.assertEqual(answer.headers["content-type"], kind)
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")

    def test_case_98_an_upload_gets_a_token_and_a_run_takes_the_file(self):
        client = sync()
        with self.assertNoLogs("fal_client.client", "WARNING"):
            url = client.upload(png(), "image/png", file_name="drawing.png")
        self.assert_stored(url, png(), "image/png")
        expires_at = client._token_manager._token.expires_at
        self.assertGreater(expires_at, datetime.now(timezone.utc))
        stored = client.run(APP, inputs(image_url=url))
        self.assertEqual(stored["images"][0]["url"], client.run(APP, inputs())["images"][0]["url"])

    def test_case_98_a_file_of_a_path_is_uploaded_too(self):
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            file.write(png())
            file.flush()
            self.assert_stored(sync().upload_file(file.name), png(), "image/png")

    def test_case_98_an_upload_falls_back_when_the_cdn_fails_and_a_run_takes_it(self):
        with self.assertLogs("fal_client.client", "WARNING"):
            url = with_foreign_token(sync()).upload(png(), "image/png", file_name="drawing.png")
        self.gate.until(
            lambda: [entry for entry in self.gate.requests("/files/upload") if entry["status"] == 403], "no refused upload"
        )
        self.assert_stored(url, png(), "image/png")
        stored = sync().run(APP, inputs(image_url=url))
        self.assertEqual(stored["images"][0]["url"], sync().run(APP, inputs())["images"][0]["url"])

    def test_storage_can_be_asked_for_at_once(self):
        picture = Image.open(io.BytesIO(png()))
        url = sync().upload_image(picture, format="png", repository="fal")
        self.assertEqual(len(sync().run(APP, inputs(image_url=url))["images"]), 1)

    def test_the_async_client_uploads_too(self):
        async def upload():
            return await asynchronous().upload(png(), "image/png", repository="fal")

        self.assert_stored(asyncio.run(upload()), png(), "image/png")

    def test_an_upload_url_works_once(self):
        headers = {"authorization": f"Key {CALLER_KEY}"}
        body = {"file_name": "a.png", "content_type": "image/png"}
        there = httpx.post(f"https://{HOST}/storage/upload/initiate?storage_type=gcs", json=body, headers=headers).json()
        put = lambda: httpx.put(there["upload_url"], content=png(), headers={"content-type": "image/png"}).status_code  # noqa: E731
        self.assertEqual((put(), put()), (200, 409))
