"""What becomes of sockets: fast hands, tokens and sockets that end, and gates that go and come back (cases 70, 72 to 74,
78, 81, 88a).

This client keeps nothing alive by itself. It asks for one token for each `realtime()`, and a connection that has ended
stays ended: whoever goes on opens another. What a program finds at each of these ends is pinned here."""

import asyncio
import contextlib
import statistics
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

import httpx
from websockets.exceptions import ConnectionClosedOK

from harness.client import RealtimeError, asynchronous, fal_client, sync
from harness.gate import ENGINE, Gate
from harness.inputs import APP, UNAUTHORIZED, assert_whole, inputs
from harness.places import SCRATCH

FRAMES_PER_S = 60
BURST_S = 5
LEAST_SENT = 250
# Pictures that come after an input was sent, its own included: the one in the engine, the one that is read or written
# meanwhile, its own. A gate that let inputs pile up would make it many.
USUAL_BEHIND = 4
MOST_AFTER_THE_LAST = 5
LIFE_S = 3
ANOTHER = "fal-ai/another-app"
# The shortest rest that a gate lets a hand have.
IDLE_S = 30


def paint(connection, name: str) -> None:
    connection.send(inputs(name))
    assert_whole(connection.recv(), name)


@contextlib.contextmanager
def shown(token: str):
    """Has every client show this token instead of asking for one."""
    with mock.patch.object(fal_client.SyncClient, "_get_realtime_token", return_value=token):
        yield


class Bursts(unittest.TestCase):
    def test_case_78_and_81_sixty_a_second_for_five_seconds_have_the_newest_painted_in_order(self):
        gate = Gate(ENGINE)
        try:
            sent, answers = asyncio.run(self.burst())
            dropped = gate.metric('falgate_socket_dropped_total{what="superseded"}')
        finally:
            gate.stop()
        self.assertGreaterEqual(len(sent), LEAST_SENT)
        places = [place for place, _ in answers]
        self.assertEqual(places[-1], len(sent) - 1, "the newest is painted")
        self.assertEqual(places, sorted(set(places)), "results come in the order of inputs, each once")
        self.assertLess(len(places), len(sent))
        self.assertGreaterEqual(dropped, len(sent) - len(places) - MOST_AFTER_THE_LAST, "what was not painted was dropped")
        # Freshness without a clock: how many results an input had to let pass before its own came.
        behind = [at + 1 - sent[place] for at, (place, _) in enumerate(answers)]
        self.assertLessEqual(statistics.median(behind), USUAL_BEHIND, behind)
        self.assertLessEqual(len(answers) - sent[-1], MOST_AFTER_THE_LAST)

    @staticmethod
    async def burst() -> tuple[list[int], list[tuple[int, dict]]]:
        """For each input how many results had come when it was sent; for each result the place of its input, and the result."""
        async with asynchronous().realtime(APP) as connection:
            await connection.send(inputs("first"))
            assert_whole(await connection.recv(), "first")
            sent: list[int] = []
            answers: list[tuple[int, dict]] = []

            async def draw():
                begun = time.monotonic()
                # By the clock, so that a machine that lags sends no fewer.
                while (passed := time.monotonic() - begun) < BURST_S:
                    while len(sent) < passed * FRAMES_PER_S:
                        sent.append(len(answers))
                        await connection.send(inputs(str(len(sent) - 1), num_inference_steps=8))
                    await asyncio.sleep(1 / FRAMES_PER_S)

            hand = asyncio.create_task(draw())
            while not hand.done() or answers[-1][0] < len(sent) - 1:
                result = await asyncio.wait_for(connection.recv(), 60)
                assert_whole(result, result["request_id"])
                answers.append((int(result["request_id"]), result))
            await hand
            return sent, answers


class Tokens(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Another app, for which this gate gives tokens too.
        another = f'[[route]]\nendpoint = "{ANOTHER}"\nto = "engine"\n'
        life = f"[guard.tokens.life]\nleast_s = 1\nmost_s = {LIFE_S}\ndefault_s = {LIFE_S}\n"
        cls.gate = Gate(ENGINE, another, life, env={"FALGATE__GUARD__TOKENS__LEEWAY_S": "0"})

    @classmethod
    def tearDownClass(cls):
        cls.gate.stop()

    def minted(self) -> float:
        return self.gate.metric("falgate_tokens_minted_total")

    def test_case_70_and_74_a_connection_outlives_its_token_and_the_next_one_mints_another(self):
        before = self.minted()
        client = sync()
        with client.realtime(APP) as connection:
            paint(connection, "fresh")
            # It asks for 120 s and gets what the gate allows.
            time.sleep(LIFE_S + 1.5)
            paint(connection, "older than its token")
        self.assertEqual(self.minted(), before + 1, "nothing asks for a token while a connection is open")
        with client.realtime(APP) as connection:
            paint(connection, "again")
        self.assertEqual(self.minted(), before + 2, "each connection asks for its own")

    def test_case_70_a_token_that_has_ended_is_told_and_the_next_connection_paints(self):
        client = sync()
        ended = client._get_realtime_token(APP, token_expiration=1)
        with shown(ended), client.realtime(APP) as connection:
            paint(connection, "in time")
        time.sleep(2.5)
        with shown(ended), client.realtime(APP) as connection:
            self.assertEqual(connection.recv(), UNAUTHORIZED)
            self.assertIsNone(connection.recv())
        with client.realtime(APP) as connection:
            paint(connection, "with another token")

    def test_case_70_and_71_a_program_recovers_from_a_token_that_opens_nothing_or_another_app(self):
        client = sync()
        for bad in ("no.token.atall", client._get_realtime_token(ANOTHER)):
            with shown(bad), client.realtime(APP) as connection:
                # What was sent before the answer is lost, and says so by no exception of its own.
                with contextlib.suppress(ConnectionClosedOK):
                    connection.send(inputs("lost"))
                self.assertEqual(connection.recv(), UNAUTHORIZED)
                self.assertIsNone(connection.recv())
            before = self.minted()
            with client.realtime(APP) as connection:
                paint(connection, "recovered")
            self.assertEqual(self.minted(), before + 1)


class Rests(unittest.TestCase):
    """Connections of both clients that rest for as long as a gate lets them, at the same time."""

    @classmethod
    def setUpClass(cls):
        cls.gate = Gate(ENGINE, f"[host.realtime]\nidle_s = {IDLE_S}\n")

    @classmethod
    def tearDownClass(cls):
        cls.gate.stop()

    def test_case_72_a_hand_that_rests_is_told_and_the_next_send_needs_a_connection_of_its_own(self):
        client = sync()
        with client.realtime(APP) as connection:
            paint(connection, "one")
            rested = time.monotonic()
            with self.assertRaises(RealtimeError) as raised:
                connection.recv()
            self.assertGreater(time.monotonic() - rested, IDLE_S - 2, "not before its time")
            # fal's word for it, which this client does not keep to itself.
            self.assertEqual(raised.exception.error, "TIMEOUT")
            self.assertIsNone(connection.recv(), "closed with 1000")
            # 1.0.3 has no resume: a connection that has ended is not opened again by a send.
            with self.assertRaises(ConnectionClosedOK):
                connection.send(inputs("into nothing"))
        with client.realtime(APP) as connection:
            paint(connection, "two")
        self.assertEqual(self.gate.metric('falgate_socket_ended_total{end="idle"}'), 1)


class Closes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gate = Gate(ENGINE)

    @classmethod
    def tearDownClass(cls):
        cls.gate.stop()

    def closed(self) -> float:
        return self.gate.metric('falgate_socket_ended_total{end="closed"}')

    def test_case_73_a_program_that_closes_hears_of_no_error(self):
        before = self.closed()
        with sync().realtime(APP) as connection:
            paint(connection, "one")
            heard: list[object] = []

            def listen():
                try:
                    heard.append(connection.recv())
                except Exception as error:
                    heard.append(error)

            listener = threading.Thread(target=listen)
            listener.start()
            connection.close()
            listener.join(60)
            self.assertEqual(heard, [None], "whoever listens hears of a good end")
            self.assertIsNone(connection.recv())
        self.gate.until(lambda: self.closed() == before + 1, "the socket has not ended as closed")
        with sync().realtime(APP) as connection:
            paint(connection, "again")

    def test_case_73_the_async_client_closes_as_well(self):
        async def close():
            async with asynchronous().realtime(APP) as connection:
                await connection.send(inputs("one"))
                assert_whole(await connection.recv(), "one")
                listener = asyncio.create_task(connection.recv())
                await asyncio.sleep(0)
                await connection.close()
                self.assertIsNone(await asyncio.wait_for(listener, 60))
                self.assertIsNone(await connection.recv())

        before = self.closed()
        asyncio.run(close())
        self.gate.until(lambda: self.closed() == before + 1, "the socket has not ended as closed")


class Restarts(unittest.TestCase):
    def test_case_88a_a_program_is_told_of_a_drain_and_paints_again_with_the_token_that_it_had(self):
        with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
            keys = {"FALGATE__GUARD__TOKENS__KEYS": f'{{ file = "{Path(folder) / "token-keys"}" }}'}
            gate = Gate(ENGINE, env=keys)
            client = sync()
            token = client._get_realtime_token(APP)
            with shown(token), client.realtime(APP) as connection:
                paint(connection, "before")
                ending = threading.Thread(target=gate.stop)
                ending.start()
                with self.assertRaises(RealtimeError) as raised:
                    connection.recv()
                self.assertEqual(raised.exception.error, "TIMEOUT")
                self.assertIsNone(connection.recv())
                with self.assertRaises(ConnectionClosedOK):
                    connection.send(inputs("into nothing"))
                ending.join()
            # While it is away a program hears of it when it asks for a token, or opens a socket with one.
            with self.assertRaises(httpx.ConnectError), client.realtime(APP):
                pass
            with shown(token), self.assertRaises(OSError), client.realtime(APP):
                pass
            gate = Gate(ENGINE, env=keys)
            try:
                with shown(token), client.realtime(APP) as connection:
                    paint(connection, "with the token of before")
                with client.realtime(APP) as connection:
                    paint(connection, "with another")
            finally:
                gate.stop()
