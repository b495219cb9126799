"""What a person sees while a model is converted: numbered stages with their times, and refusals that say what to do."""
import contextlib
import sys
import time


class Refusal(Exception):
    """Why something cannot be converted, and what to do about it. Printed without a traceback."""


class Progress:
    """Numbers the stages and writes them to stderr."""

    def __init__(self, stages):
        self.stages, self.at = stages, 0

    @contextlib.contextmanager
    def stage(self, what):
        self.at += 1
        print(f"[{self.at:2}/{self.stages}] {what} …", end="", file=sys.stderr, flush=True)
        begin = time.monotonic()
        try:
            yield
        except BaseException:
            print(" failed", file=sys.stderr, flush=True)
            raise
        print(f" {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)


def note(text):
    print(f"        {text}", file=sys.stderr, flush=True)
