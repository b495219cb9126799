"""Calls that are steered to fal: whose key they carry, and what the client makes of fal's troubles."""

import unittest

import httpx

from harness.client import CALLER_KEY, FalClientHTTPError, fal_client, sync
from harness.fake_fal import FakeFal, Reply
from harness.gate import GATE_KEY, KEYS, Gate

APP = "fal-ai/echo"


class Upstream(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fal = FakeFal()
        cls.addClassCleanup(cls.fal.stop)
        cls.gate = Gate(cls.fal.settings, KEYS, env={"FAL_KEY": GATE_KEY, "CALLER_KEYS": f"tests {CALLER_KEY}"})

    @classmethod
    def tearDownClass(cls):
        cls.gate.stop()

    def setUp(self):
        self.fal.reset()

    def failed(self, **options) -> FalClientHTTPError:
        with self.assertRaises(FalClientHTTPError) as caught:
            sync().run(APP, {"prompt": "x"}, **options)
        return caught.exception

    def test_the_key_is_the_gates_and_never_the_callers(self):
        output = sync().run(APP, {"prompt": "x"}, hint="here", start_timeout=5)
        self.assertEqual(output, {"echo": {"prompt": "x"}})
        [call] = self.fal.calls
        self.assertEqual(call["path"], f"/{APP}")
        self.assertEqual(call["headers"].get_all("authorization"), [f"Key {GATE_KEY}"])
        self.assertNotIn(CALLER_KEY, str(call["headers"]))
        self.assertEqual(call["headers"]["x-fal-runner-hint"], "here")
        self.assertEqual(call["headers"]["x-fal-request-timeout"], "5.0")

    def test_an_endpoint_that_is_not_allowed_never_reaches_fal(self):
        with self.assertRaises(FalClientHTTPError) as caught:
            sync().run("fal-ai/other", {})
        self.assertEqual(caught.exception.status_code, 403)
        self.assertEqual(self.fal.calls, [])

    def test_fals_own_errors_arrive_unchanged(self):
        detail = [{"loc": ["body", "prompt"], "msg": "Field required", "type": "missing"}]
        self.fal.always = Reply(422, {"detail": detail}, {"x-fal-error-type": "bad_input"})
        error = self.failed()
        self.assertEqual((error.status_code, error.response.json()), (422, {"detail": detail}))
        self.assertEqual(error.error_type, "bad_input")
        self.assertEqual(len(self.fal.calls), 1)

    def test_a_limit_is_asked_again_ten_times(self):
        self.addCleanup(setattr, fal_client.client, "BASE_DELAY", fal_client.client.BASE_DELAY)
        fal_client.client.BASE_DELAY = 0.001
        self.fal.always = Reply(429, {"detail": "slow down"})
        error = self.failed()
        self.assertEqual((error.status_code, error.message), (429, "slow down"))
        self.assertEqual(len(self.fal.calls), fal_client.client.MAX_ATTEMPTS)

    def test_a_502_of_fals_is_not_asked_again(self):
        self.fal.always = Reply(502, {"detail": "runner incomplete"})
        error = self.failed()
        self.assertEqual((error.status_code, error.message), (502, "runner incomplete"))
        self.assertIn("x-fal-request-id", error.response_headers)
        self.assertEqual(len(self.fal.calls), 1)

    def test_a_silent_fal_is_a_504_of_the_gates_that_is_not_asked_again(self):
        self.fal.answer.clear()
        error = self.failed()
        self.assertEqual(error.status_code, 504)
        self.assertEqual(error.response_headers["x-fal-request-timeout-type"], "user")
        self.assertEqual(len(self.fal.calls), 1)

    def test_a_client_that_times_out_is_gone(self):
        self.fal.answer.clear()
        before = len(self.gate.gone(f"/{APP}"))
        with self.assertRaises(httpx.ReadTimeout):
            sync().run(APP, {}, timeout=0.3, start_timeout=30)
        self.gate.wait_for_gone(f"/{APP}", before + 1)


class Limits(unittest.TestCase):
    def test_a_limit_of_the_gates_is_waited_for_and_what_was_refused_reaches_nobody(self):
        fal = FakeFal()
        self.addCleanup(fal.stop)
        rule = '[[limits.rule]]\nname = "calls"\nof = "requests"\nby = "all"\namount = 1\nper_ms = 1000\n'
        gate = Gate(fal.settings, KEYS, rule, env={"FAL_KEY": GATE_KEY, "CALLER_KEYS": f"tests {CALLER_KEY}"})
        self.addCleanup(gate.stop)
        for _ in range(3):
            self.assertEqual(sync().run(APP, {"prompt": "x"}), {"echo": {"prompt": "x"}})
        self.assertEqual(len(fal.calls), 3)
