"""Writes the held-out scenes that the Rust tests of the model paint: doodles, and their paintings at a quarter of the size."""
import pathlib

from PIL import Image

import scenes
import style
from doodle import doodle
from paint import paint
from plan import plan

CASES = {"sunset": ("sea", "sunset", "oil"), "night": ("sea", "night", "watercolour"), "day": ("meadow", "day", "flat"), "storm": ("shore", "storm", "ink")}

if __name__ == "__main__":
    folder = pathlib.Path(__file__).parents[2] / "tests/golden/demo"
    for i, (name, (ground, time, look)) in enumerate(CASES.items()):
        p = plan(scenes.TEST_SEED + 9, i, ground=ground, time=time, style=look)
        Image.fromarray(scenes.byte(doodle(dict(p, doodle_time="day"), 256))).save(folder / f"{name}.doodle.png", optimize=True)
        painting = Image.fromarray(scenes.byte(style.apply(p, paint(p, 256))))
        painting.resize((64, 64), Image.Resampling.BOX).save(folder / f"{name}.painting.png", optimize=True)
        print(name, p["caption"])
