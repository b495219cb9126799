"""Access keys at the direct door, and an engine that is busy."""

import asyncio
import threading
import time
import unittest

import httpx

from harness.client import CALLER_KEY, WRONG_KEY, FalClientHTTPError, asynchronous, sync
from harness.gate import ENGINE, KEYS, Gate
from harness.pictures import png
from test_run import APP, fal_client, inputs

PATH = f"/{APP}"


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gate = Gate(ENGINE, KEYS, env={"CALLER_KEYS": f"tests {CALLER_KEY}"})

    @classmethod
    def tearDownClass(cls):
        cls.gate.stop()

    def test_a_wrong_key_is_refused_once_as_fal_does_and_the_right_one_works(self):
        def of_async():
            return asyncio.run(asynchronous(WRONG_KEY).run(APP, inputs()))

        for count, ask in enumerate((lambda: sync(WRONG_KEY).run(APP, inputs()), of_async), start=1):
            with self.assertRaises(FalClientHTTPError) as caught:
                ask()
            error = caught.exception
            self.assertEqual((error.status_code, error.message), (401, "No user found for Key ID and Secret"))
            self.assertIn("x-fal-request-id", error.response_headers)
            self.assertEqual([entry["status"] for entry in self.gate.logged(PATH, count)], [401] * count)
        self.assertEqual(len(sync(CALLER_KEY).run(APP, inputs())["images"]), 1)


# Runs of these are long: they keep the engine's one thread busy for some seconds.
SLOW = """
[host.pictures]
min_working_side = 64
max_working_side = 2048
max_working_pixels = 4194304
"""


def long_run() -> dict:
    picture = fal_client.encode(png(1024, 1024), "image/png")
    return inputs(image_url=picture, num_inference_steps=12, num_images=8, strength=1)


class Busy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gate = Gate(ENGINE.replace("[host.pictures]\nmin_working_side = 64\n", SLOW).replace("[engine]", "[engine]\nmax_batch = 1\nthreads = 1"))

    @classmethod
    def tearDownClass(cls):
        cls.gate.stop()

    def setUp(self):
        self.before = len(self.gate.requests(PATH))

    def busy(self, seconds: float = 60) -> threading.Thread:
        """A caller who keeps the engine busy and leaves after a time."""
        def ask():
            try:
                sync().run(APP, long_run(), timeout=seconds, start_timeout=60)
            except httpx.TimeoutException:
                pass

        thread = threading.Thread(target=ask)
        thread.start()
        return thread

    def test_a_run_that_cannot_start_in_time_is_a_504_that_is_not_asked_again(self):
        thread = self.busy(8)
        time.sleep(1)
        with self.assertRaises(FalClientHTTPError) as caught:
            sync().run(APP, inputs(), start_timeout=1.1)
        error = caught.exception
        thread.join()
        self.assertEqual(error.status_code, 504)
        self.assertEqual(error.response_headers["x-fal-request-timeout-type"], "user")
        self.assertEqual(error.error_type, "request_timeout")
        statuses = [entry["status"] for entry in self.gate.logged(PATH, self.before + 2)[self.before:]]
        self.assertEqual(statuses.count(504), 1, statuses)

    def test_a_client_that_times_out_is_gone_and_the_engine_goes_on(self):
        with self.assertRaises(httpx.ReadTimeout):
            sync().run(APP, long_run(), timeout=1, start_timeout=60)
        self.assertEqual(self.gate.logged(PATH, self.before + 1)[self.before]["end"], "gone")
        self.assertEqual(len(sync().run(APP, inputs())["images"]), 1)

    def test_a_cancelled_task_is_gone_and_the_engine_goes_on(self):
        async def leave():
            await asyncio.wait_for(asynchronous().run(APP, long_run()), 1)

        with self.assertRaises(asyncio.TimeoutError):
            asyncio.run(leave())
        self.assertEqual(self.gate.logged(PATH, self.before + 1)[self.before]["end"], "gone")
        self.assertEqual(len(sync().run(APP, inputs())["images"]), 1)
