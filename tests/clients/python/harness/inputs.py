"""Inputs for the app's sockets, and what a good answer to one looks like."""

from .client import fal_client
from .pictures import decoded, jpeg_size, png

APP = "fal-ai/lcm-sd15-i2i"
# How the gate says that a token or a key opens nothing.
UNAUTHORIZED = {"status": "error", "error": "Unauthorized"}


def inputs(name: str, **over) -> dict:
    """An input under this name."""
    picture = fal_client.encode(png(), "image/png")
    return {"prompt": "a lighthouse", "image_url": picture, "seed": 42, "num_inference_steps": 2, "request_id": name} | over


def assert_whole(output: dict, name: str) -> None:
    """Fails unless this is the picture for the input of that name."""
    [image] = output["images"]
    assert jpeg_size(decoded(image["url"])) == (64, 64)
    assert (output["request_id"], output["seed"]) == (name, 42), output["request_id"]
    assert output["timings"]["inference"] > 0
