"""A picture from the embedded engine, for the sync and the async client, under every spelling of the app."""

import asyncio
import io
import json
import os
import subprocess
import sys
import unittest

import httpx
from PIL import Image

from harness import certificates
from harness.client import CALLER_KEY, FalClientHTTPError, asynchronous, fal_client, sync
from harness.gate import ENGINE, Gate
from harness.pictures import decoded, jpeg_size, png
from harness.places import HOST

APP = "fal-ai/lcm-sd15-i2i"
SPELLINGS = ("110602490-lcm-sd15-i2i", "110602490/lcm-sd15-i2i", APP)


def inputs(**over) -> dict:
    picture = fal_client.encode(png(), "image/png")
    return {"prompt": "a lighthouse", "image_url": picture, "seed": 42, "num_inference_steps": 2, "sync_mode": True} | over


class Runs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gate = Gate(ENGINE)

    @classmethod
    def tearDownClass(cls):
        cls.gate.stop()

    def assert_whole(self, output: dict, size: tuple[int, int] = (64, 64)) -> bytes:
        [image] = output["images"]
        self.assertEqual(image["content_type"], "image/jpeg")
        self.assertEqual((image["width"], image["height"]), size)
        self.assertEqual(output["seed"], 42)
        self.assertEqual(output["num_inference_steps"], 2)
        self.assertEqual(output["nsfw_content_detected"], [False])
        self.assertGreater(output["timings"]["inference"], 0)
        self.assertTrue(image["url"].startswith("data:image/jpeg;base64,"))
        data = decoded(image["url"])
        self.assertEqual(jpeg_size(data), size)
        Image.open(io.BytesIO(data)).load()
        return data

    def test_every_spelling_of_the_app_gives_the_same_picture(self):
        pictures = {self.assert_whole(sync().run(app, inputs())) for app in SPELLINGS}
        self.assertEqual(len(pictures), 1)

    def test_the_async_client_gets_the_same_picture_under_every_spelling(self):
        async def everyone():
            client = asynchronous()
            return await asyncio.gather(*(client.run(app, inputs()) for app in SPELLINGS))

        pictures = {self.assert_whole(output) for output in asyncio.run(everyone())}
        self.assertEqual(pictures, {self.assert_whole(sync().run(APP, inputs()))})

    def test_a_trailing_slash_is_no_redirect(self):
        # The async client follows none.
        output = asyncio.run(asynchronous().run(f"{APP}/", inputs()))
        self.assert_whole(output)

    def test_another_seed_is_another_picture(self):
        first, second = (sync().run(APP, inputs(seed=seed))["images"][0]["url"] for seed in (42, 43))
        self.assertNotEqual(first, second)

    def test_no_seed_draws_one_that_gives_the_picture_again(self):
        drawn = sync().run(APP, inputs(seed=None))
        again = sync().run(APP, inputs(seed=drawn["seed"]))
        self.assertEqual(drawn["images"][0]["url"], again["images"][0]["url"])

    def test_pictures_of_pillow_are_taken_in_each_format(self):
        picture = Image.open(io.BytesIO(png(96, 64)))
        for kind in ("jpeg", "png", "webp", "gif"):
            with self.subTest(kind):
                uri = fal_client.encode_image(picture, format=kind)
                self.assert_whole(sync().run(APP, inputs(image_url=uri)), (96, 64))

    def test_without_sync_mode_the_picture_is_a_url_of_the_gate(self):
        inline = self.assert_whole(sync().run(APP, inputs()))
        [image] = sync().run(APP, inputs(sync_mode=False))["images"]
        self.assertTrue(image["url"].startswith(f"https://{HOST}/"), image["url"])
        answer = httpx.get(image["url"])
        self.assertEqual(answer.status_code, 200)
        self.assertEqual(answer.headers["content-type"], "image/jpeg")
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        self.assertEqual(answer.content, inline)

    def test_the_module_functions_work_with_nothing_but_the_environment(self):
        script = (
            "import fal_client, json, sys; "
            f"print(len(fal_client.run('{APP}', json.load(sys.stdin))['images']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], input=json.dumps(inputs()), text=True, capture_output=True,
            env=os.environ | {"FAL_RUN_HOST": HOST, "FAL_KEY": CALLER_KEY, "SSL_CERT_FILE": str(certificates.CA)},
        )
        self.assertEqual((done.stdout.strip(), done.returncode), ("1", 0), done.stderr)

    def test_without_the_authority_there_is_no_connection(self):
        with self.assertRaises(httpx.ConnectError):
            httpx.post(f"https://{HOST}/{APP}", json={}, verify=True, trust_env=False)

    # Errors

    def failed(self, app: str, arguments: dict, **options) -> FalClientHTTPError:
        with self.assertRaises(FalClientHTTPError) as caught:
            sync().run(app, arguments, **options)
        return caught.exception

    def test_a_missing_prompt_is_named(self):
        arguments = inputs()
        del arguments["prompt"]
        before = len(self.gate.requests(f"/{APP}"))
        error = self.failed(APP, arguments)
        self.assertEqual(error.status_code, 422)
        [fault] = error.response.json()["detail"]
        self.assertEqual((fault["loc"], fault["type"]), (["body", "prompt"], "missing"))
        self.assertIn("x-fal-request-id", error.response_headers)
        self.assertEqual(len(self.gate.logged(f"/{APP}", before + 1)), before + 1, "asked again")

    def test_each_wrong_field_is_named(self):
        error = self.failed(APP, inputs(strength=2, num_inference_steps=0))
        self.assertEqual(error.status_code, 422)
        named = {fault["loc"][-1] for fault in error.response.json()["detail"]}
        self.assertEqual(named, {"strength", "num_inference_steps"})

    def test_a_picture_that_is_none_is_refused(self):
        error = self.failed(APP, inputs(image_url=fal_client.encode("no picture", "image/png")))
        self.assertEqual(error.status_code, 422)

    def test_an_unknown_app_is_refused_once(self):
        error = self.failed("fal-ai/no-such-app", inputs())
        self.assertIn(error.status_code, (401, 403, 404))
        self.assertIsInstance(error.message, str)
        self.assertTrue(error.message)
        self.assertEqual(len(self.gate.logged("/fal-ai/no-such-app", 1)), 1)

    def test_an_unknown_path_below_the_app_is_not_found(self):
        error = self.failed(APP, inputs(), path="/nowhere")
        self.assertEqual((error.status_code, error.message), (404, "Path /nowhere not found"))
