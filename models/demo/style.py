"""Styles laid over a painted scene: oil, watercolour, ink, flat."""
import numpy as np

from canvas import blur, noise

_STROKES = {}


def strokes(side, slant):
    """A sheet of brush strokes along one slant, made once."""
    key = (side, slant)
    if key not in _STROKES:
        rng = np.random.default_rng(int(slant * 100) + 1000)
        big = int(side * 1.5)
        fine = rng.normal(0, 1, (big, big)).astype(np.float32)
        total = np.zeros_like(fine)
        for step in range(-9, 10):
            total += np.roll(fine, (int(round(step * np.sin(slant))), int(round(step * np.cos(slant)))), (0, 1))
        total = blur(total, 1) - blur(total, 5)
        _STROKES[key] = total / total.std()
    return _STROKES[key]


def sheet(rng, side, slant):
    """A random piece of a sheet of strokes."""
    whole = strokes(side, slant)
    y, x = rng.integers(0, whole.shape[0] - side, 2)
    return whole[y:y + side, x:x + side]


def warp(image, dx, dy):
    """Moves pixels by (dx, dy), nearest neighbour."""
    side = image.shape[0]
    rows, columns = np.mgrid[:side, :side]
    return image[np.clip(rows + np.rint(dy).astype(int), 0, side - 1), np.clip(columns + np.rint(dx).astype(int), 0, side - 1)]


def luma(image):
    return image @ np.float32((.299, .587, .114))


def saturate(image, amount):
    grey = luma(image)[..., None]
    return grey + (image - grey) * amount


def apply(p, image):
    """The scene in its style; sRGB in 0..1."""
    rng = np.random.default_rng([*p["seed"], 3])
    return np.clip(globals()[p["style"]](p, image, rng), 0, 1).astype(np.float32)


def oil(p, image, rng):
    side = image.shape[0]
    unit = side / 256
    flow = sheet(rng, side, 0.0)
    sky = sheet(rng, side, 0.25)
    above = (np.arange(side) / side < p["horizon"])[:, None]
    brush = np.where(above, sky, flow)
    moved = warp(image, 0.8 * unit * brush, 0.6 * unit * np.roll(brush, 7, 0))
    rich = saturate(moved, 1.22)
    rich = rich + (rich - blur(rich, 9 * unit)) * 0.25
    light = 0.028 * brush + 0.022 * (brush - np.roll(brush, 1, 0))
    return rich + light[..., None] * (0.35 + rich)


def watercolour(p, image, rng):
    side = image.shape[0]
    unit = side / 256
    soft = warp(image, 1.3 * unit * noise(rng, side, 24, 2), 1.3 * unit * noise(rng, side, 24, 2))
    wash = blur(soft, 1.2 * unit)
    wide = blur(soft, 5 * unit)
    edge = np.clip(np.abs(luma(wash) - luma(wide)) * 2.4, 0, .35)
    pool = noise(rng, side, 7, 3)
    grain = noise(rng, side, side // 3)
    colour = 1 - (1 - saturate(wash, 1.1)) * (0.76 + 0.07 * pool + 0.03 * grain)[..., None]
    return colour * (1 - edge[..., None] * 0.75) * np.float32((1, .995, .97))


def ink(p, image, rng):
    side = image.shape[0]
    unit = side / 256
    grey = luma(blur(image, 1 * unit))
    down, right = np.gradient(grey)
    across = 2 * (np.abs(down) + np.abs(right))
    line = np.clip((across * unit - 0.05) * 9, 0, 1)
    wash = np.clip(grey * 1.08 + 0.14, 0, 1)
    steps = wash * 0.4 + 0.6 * (np.floor(wash * 4) + np.clip((wash * 4 % 1 - 0.4) * 5, 0, 1)) / 4
    rows, columns = np.mgrid[:side, :side]
    hatch = np.clip(0.5 + 0.9 * np.sin((rows + columns) * (2 * np.pi / (8 * unit))), 0, 1)
    dark = np.clip((0.5 - wash) * 3, 0, 1)
    tone = steps * (1 - 0.45 * dark * hatch) * (1 - 0.9 * line) + 0.015 * noise(rng, side, side // 3)
    paper = np.float32((.97, .95, .90))
    tint = saturate(image, 0.6) - luma(image)[..., None]
    return tone[..., None] * paper + 0.35 * tint + (1 - tone[..., None]) * np.float32((.04, .05, .09))


def flat(p, image, rng):
    level = 7.0
    bright = image.max(-1, keepdims=True) + 1e-4
    scaled = bright * level
    banded = (np.floor(scaled) + np.clip((scaled % 1 - 0.42) * 6, 0, 1)) / level
    return saturate(image / bright * banded, 1.08) * 0.97 + 0.02
