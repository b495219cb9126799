"""Access keys at the direct door, and an engine that is busy."""

import asyncio
import contextlib
import threading
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


PICTURE = fal_client.encode(png(1024, 1024), "image/png")


def long_run() -> dict:
    return inputs(image_url=PICTURE, num_inference_steps=12, num_images=8, strength=1)


class Busy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        one_at_a_time = ENGINE.replace("[engine]", "[engine]\nmax_batch = 1\nthreads = 1")
        cls.gate = Gate(one_at_a_time.replace("[host.pictures]\nmin_working_side = 64\n", SLOW))

    @classmethod
    def tearDownClass(cls):
        cls.gate.stop()

    def setUp(self):
        self.gone = len(self.gate.gone(PATH))

    def keep_busy(self) -> None:
        """Two callers with long runs who leave after a time: one run is on the device, one waits."""
        def ask():
            with contextlib.suppress(httpx.TimeoutException):
                sync().run(APP, long_run(), timeout=10, start_timeout=60)

        for thread in (threading.Thread(target=ask) for _ in range(2)):
            thread.start()
            self.addCleanup(thread.join)
        self.gate.until(lambda: "falgate_engine_queue_jobs 1" in self.gate.metrics(), "no run waits")

    def test_a_run_that_cannot_start_in_time_is_a_504_that_is_not_asked_again(self):
        self.keep_busy()
        with self.assertRaises(FalClientHTTPError) as caught:
            sync().run(APP, inputs(), start_timeout=1.1)
        error = caught.exception
        self.assertEqual(error.status_code, 504)
        self.assertEqual(error.response_headers["x-fal-request-timeout-type"], "user")
        self.assertEqual(error.error_type, "request_timeout")
        refused = lambda: [entry for entry in self.gate.requests(PATH) if entry["status"] == 504]  # noqa: E731
        self.gate.until(refused, "no 504 in the log")
        self.gate.wait_for_gone(PATH, self.gone + 2)
        self.assertEqual(len(refused()), 1, "asked again")
        # The deadline, and not the run that was in its way: that one lasts for seconds more.
        self.assertGreaterEqual(refused()[0]["served_ms"], 1000)
        self.assertLess(refused()[0]["served_ms"], 8000)

    def test_a_client_that_times_out_is_gone_and_the_engine_goes_on(self):
        with self.assertRaises(httpx.ReadTimeout):
            sync().run(APP, long_run(), timeout=3, start_timeout=60)
        self.gate.wait_for_gone(PATH, self.gone + 1)
        self.assertEqual(len(sync().run(APP, inputs())["images"]), 1)

    def test_a_cancelled_task_is_gone_and_the_engine_goes_on(self):
        async def leave():
            task = asyncio.create_task(asynchronous().run(APP, long_run()))
            arrived = lambda: self.gate.metric("falgate_requests_in_flight") > 0  # noqa: E731
            await asyncio.to_thread(self.gate.until, arrived, "the run has not arrived")
            task.cancel()
            await task

        with self.assertRaises(asyncio.CancelledError):
            asyncio.run(leave())
        self.gate.wait_for_gone(PATH, self.gone + 1)
        self.assertEqual(len(sync().run(APP, inputs())["images"]), 1)
