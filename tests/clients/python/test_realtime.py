"""Sockets to the embedded engine: tokens and keys, both clients, bytes, and long messages (cases 76, 83 to 85)."""

import asyncio
import io
import unittest
from unittest import mock

import msgpack
from PIL import Image
from websockets.exceptions import ConnectionClosed

from harness.client import CALLER_KEY, WRONG_KEY, RealtimeError, asynchronous, fal_client, sync
from harness.gate import ENGINE, KEYS, Gate
from harness.inputs import APP, UNAUTHORIZED, assert_whole, inputs
from harness.pictures import jpeg_size, png

SPELLINGS = ("110602490-lcm-sd15-i2i", "110602490/lcm-sd15-i2i", APP)


class Sockets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gate = Gate(ENGINE, KEYS, env={"CALLER_KEYS": f"tests {CALLER_KEY}"})

    @classmethod
    def tearDownClass(cls):
        cls.gate.stop()

    def test_a_token_opens_a_socket_under_every_spelling_of_the_app(self):
        for app in SPELLINGS:
            with sync().realtime(app) as connection:
                for name in ("one", "two"):
                    connection.send(inputs(name))
                    assert_whole(connection.recv(), name)

    def test_a_key_opens_a_socket_without_a_token(self):
        before = self.gate.metrics()
        with sync().realtime(APP, use_jwt=False) as connection:
            connection.send(inputs("keyed"))
            assert_whole(connection.recv(), "keyed")
        minted = [[line for line in text.splitlines() if line.startswith("falgate_tokens_minted")] for text in (before, self.gate.metrics())]
        self.assertEqual(*minted)

    def test_the_async_client_is_served_the_same(self):
        async def paint():
            async with asynchronous().realtime(APP, max_buffering=2) as connection:
                await connection.send(inputs("async"))
                return await connection.recv()

        assert_whole(asyncio.run(paint()), "async")

    def test_bytes_in_are_bytes_out(self):
        with sync().realtime(APP) as connection:
            bare = inputs("bytes", image_bytes=png())
            del bare["image_url"]
            connection.send(bare)
            [image] = connection.recv()["images"]
            self.assertEqual(jpeg_size(image["content"]), (64, 64))
            Image.open(io.BytesIO(image["content"])).load()

    def test_an_input_that_is_wrong_raises_and_the_socket_paints_the_next(self):
        with sync().realtime(APP) as connection:
            connection.send({"prompt": "no picture", "request_id": "wrong"})
            with self.assertRaises(RealtimeError) as raised:
                connection.recv()
            self.assertEqual(raised.exception.error, "VALIDATION_ERROR")
            self.assertIn("image_url", raised.exception.reason)
            self.assertEqual(raised.exception.payload["request_id"], "wrong")
            connection.send(inputs("right"))
            assert_whole(connection.recv(), "right")

    def test_a_wrong_token_or_key_is_told_on_the_socket_which_then_ends_well(self):
        with mock.patch.object(fal_client.SyncClient, "_get_realtime_token", return_value="no.token.atall"):
            with sync().realtime(APP) as connection:
                self.assertEqual(connection.recv(), UNAUTHORIZED)
                self.assertIsNone(connection.recv())
        with sync(WRONG_KEY).realtime(APP, use_jwt=False) as connection:
            self.assertEqual(connection.recv(), UNAUTHORIZED)
            self.assertIsNone(connection.recv())

    def test_pings_are_answered_and_parts_make_one_message(self):
        with sync().ws_connect(APP, path="/realtime") as socket:
            self.assertTrue(socket.ping().wait(30))
            message = msgpack.packb(inputs("parts"), use_bin_type=True)
            socket.send([message[:10], message[10:11], message[11:]])
            assert_whole(msgpack.unpackb(socket.recv()), "parts")

    def test_a_message_of_megabytes_is_read_up_to_the_limit_and_a_larger_one_ends_the_socket(self):
        with sync().realtime(APP) as connection:
            connection.send(inputs("large", unknown=b"x" * 3 * 1024 * 1024))
            assert_whole(connection.recv(), "large")
        with sync().ws_connect(APP, path="/realtime") as socket:
            # The part that is too much is one that the gate reads to its end, so that its last words are heard.
            socket.send([b"x" * (4 * 1024 - 100) * 1024, b"x" * 200 * 1024])
            self.assertIn("TOO_LARGE", socket.recv())
            with self.assertRaises(ConnectionClosed) as raised:
                socket.recv()
            self.assertEqual(raised.exception.rcvd.code, 1009)
