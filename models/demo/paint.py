"""Paints a plan with light and shade, and draws its doodle: the same things as flat strokes."""
import numpy as np

from canvas import Canvas, noise
from plan import hill_line, shore_line

# sky above, sky at the horizon, sea far, sea near, land, rock, cloud light, cloud dark, light, how much local colour is lit
AIR = {
    "day": ((.22, .52, .88), (.80, .92, .98), (.36, .68, .80), (.04, .30, .54), (.40, .62, .26), (.52, .48, .44), (1, 1, 1), (.68, .76, .86),
            (1, .93, .62), (1, 1, 1)),
    "sunset": ((.26, .20, .46), (1, .62, .34), (.96, .58, .38), (.20, .14, .34), (.36, .28, .22), (.40, .26, .32), (1, .66, .48), (.52, .30, .46),
               (1, .88, .50), (.92, .66, .58)),
    "night": ((.015, .03, .12), (.12, .18, .40), (.12, .19, .40), (.01, .03, .11), (.07, .13, .15), (.11, .14, .26), (.32, .37, .54), (.12, .15, .30),
              (.95, .95, .84), (.34, .40, .60)),
    "storm": ((.15, .17, .21), (.52, .54, .53), (.34, .42, .44), (.06, .13, .16), (.24, .30, .22), (.27, .28, .31), (.46, .48, .51), (.15, .16, .20),
              (.86, .86, .80), (.62, .66, .70)),
    "winter": ((.58, .70, .85), (.95, .95, .96), (.62, .77, .84), (.24, .43, .57), (.93, .95, .98), (.60, .65, .74), (.98, .98, 1), (.74, .80, .88),
               (1, .96, .84), (.95, .97, 1)),
}
NAMES = ("top", "low", "far", "near", "land", "rock", "white", "grey", "glow", "lit")


class Air:
    """The colours of one scene."""

    def __init__(self, p, time):
        shift = p["palette"]
        for name, value in zip(NAMES, AIR[time]):
            colour = np.asarray(value, np.float32)
            if name in ("top", "low", "far", "near", "land", "rock"):
                colour = np.clip(colour * (1 + 0.05 * shift[0] + 0.05 * shift[1:4]) + 0.012 * shift[4], 0, 1)
            setattr(self, name, colour.astype(np.float32))
        self.time = time

    def of(self, colour):
        """A local colour in this light."""
        return np.asarray(colour, np.float32) * self.lit


def mix(a, b, t):
    """From a to b; t is one number a pixel."""
    return np.asarray(a, np.float32) + np.asarray(t, np.float32)[..., None] * (np.asarray(b, np.float32) - np.asarray(a, np.float32))


def paint(p, side):
    """The scene with light and shade, before a style is laid over it; sRGB in 0..1."""
    rng = np.random.default_rng([*p["seed"], 1])
    c, air = Canvas(side), Air(p, p["time"])
    sky(c, p, air)
    clouds(c, p, air)
    gulls(c, p, air, 0.006)
    mountains(c, p, air)
    water(c, p, air, rng)
    ground(c, p, air, rng)
    standing(c, p, air)
    floating(c, p, air)
    weather(c, p, rng)
    return np.clip(c.image, 0, 1)


def sky(c, p, air):
    h = p["horizon"]
    c.image[:] = mix(air.top, air.low, np.clip(c.y / h, 0, 1) ** (1.6 if p["time"] != "night" else 1.2))
    whole = (slice(None), slice(None))
    for x, y, b in p["stars"]:
        c.disc(x, y, 0.004 + 0.004 * b, (1, 1, .86), 0.6 + 0.4 * b)
        c.disc(x, y, 0.0, (.7, .8, 1), 0.35 * b, soft=0.03)
    if not (p["sun"] or p["moon"]):
        return
    x, y, r = p["at"]
    far = np.hypot(c.x - x, c.y - y)
    night = bool(p["moon"])
    c.over(whole, (0.42 if night else 0.55) * np.exp(-(far / (3.2 * r)) ** 1.2), air.glow)
    if p["time"] == "sunset":
        c.over(whole, 0.5 * np.exp(-((c.y - y) / 0.09) ** 2 - ((c.x - x) / 0.5) ** 2), (1, .72, .30))
    c.disc(x, y, r, (.97, .97, .90) if night else (1, .97, .80) if p["time"] != "sunset" else (1, .90, .55))
    if night:
        for dx, dy, s in ((-0.3, -0.2, .22), (0.25, 0.25, .28), (0.2, -0.4, .15)):
            c.disc(x + dx * r, y + dy * r, s * r, (.82, .83, .80), 0.8)


def clouds(c, p, air):
    for x, y, w, seed in p["clouds"]:
        rng = np.random.default_rng(seed)
        where = c.box(x - 1.3 * w, y - 0.7 * w, x + 1.3 * w, y + 0.5 * w)
        if where is None:
            continue
        px, py = c.x[where], c.y[where]
        field, top = np.zeros(px.shape, np.float32), np.zeros(px.shape, np.float32)
        for i in range(7):
            u = (i - 3) / 3
            r = w * rng.uniform(0.24, 0.4) * (1.15 - 0.6 * abs(u))
            bx, by = x + u * w * 0.8, y - r * 0.35 * rng.uniform(0.2, 1)
            puff = np.exp(-(((px - bx) ** 2 + ((py - by) * 1.25) ** 2) / (r * r)) * 1.4)
            field, top = field + puff, top + puff * (by - py) / r
        alpha = np.clip((field - 0.34) * 3.2, 0, 1) * np.clip((y + 0.22 * w - py) / (0.12 * w), 0, 1)
        c.over(where, 0.95 * alpha, mix(air.grey, air.white, np.clip(0.55 + 0.9 * top / (field + 0.1), 0, 1)))


def gulls(c, p, air, width):
    dark = p["time"] in ("night", "storm")
    colour = air.of((.95, .95, .97)) if dark else np.float32((.20, .22, .28))
    for x, y, r, tilt in p["gulls"]:
        wing = [(u, -0.45 * np.sin(np.pi * min(1, abs(u) * 1.25)) ** 1 + 0.25 * abs(u) + tilt * u * 0.5) for u in np.linspace(-1, 1, 9)]
        c.line([(x + r * u, y + r * v) for u, v in wing], width, colour)


def mountains(c, p, air):
    h = p["horizon"]
    for heights, tall in p["mountains"]:
        for depth in (0, 1):
            shape = np.roll(heights, 17)[::-1] * 1.15 if depth == 0 else heights
            top = h + 0.01 - tall * np.interp(c.x, np.linspace(0, 1, 65), shape)
            slope = np.interp(c.x, np.linspace(0, 1, 64), np.diff(shape)) * 64 * tall
            deep = np.clip((c.y - top) / (tall + 0.02), 0, 1)
            lit = np.clip(0.5 + 0.35 * np.sign(p["at"][0] - 0.5) * slope + 0.25 * np.sin(40 * (c.x + 0.6 * slope * deep)) * deep, 0, 1)
            body = mix(air.rock * 0.62, air.rock * 1.12, lit)
            snow = mix(air.of((.66, .74, .88)), air.of((1, 1, 1)), lit)
            line = 0.24 + 0.10 * np.sin(33 * c.x) * np.sin(71 * c.x + 1)
            white = np.clip((line + (0.35 if p["time"] == "winter" else 0) - deep) * 14, 0, 1) * (tall > 0.16 or p["time"] == "winter")
            body = body + white[..., None] * (snow - body)
            haze = (0.55 if depth == 0 else 0.12) + 0.35 * deep
            c.over((slice(None), slice(None)), c.cover(top - c.y) * (c.y < h + 0.03), mix(body, air.low, haze))


def water(c, p, air, rng):
    h = p["horizon"]
    if p["hills"]:
        return
    whole = (slice(None), slice(None))
    v = np.clip((c.y - h) / (1 - h), 0, 1)
    rough = {"storm": 1.0, "night": 0.45, "winter": 0.4}.get(p["time"], 0.55)
    bend = noise(rng, c.side, (6, 10), 2)
    wave = np.sin(11 / (v + 0.12) + 0.7 * bend + 0.8 * np.sin(9 * c.x + 5 * v)) * np.clip(v * 6, 0, 1)
    body = mix(air.far, air.near, v ** 0.65)
    body = body + (rough * 0.11 * wave)[..., None] * (0.4 + air.far)
    crest = np.clip(wave - (0.72 if rough > 0.9 else 0.93), 0, 1) * rough * (2.6 if rough > 0.9 else 2.0)
    body = mix(body, np.float32((.95, .97, .98)) * (0.35 + 0.65 * air.lit), np.clip(crest, 0, 0.85))
    if p["sun"] or p["moon"]:
        x, _, r = p["at"]
        wide = r * (0.75 + 1.5 * v)
        path = np.exp(-((c.x - x + 0.012 * wave) / wide) ** 2) * np.clip(0.55 + 0.6 * wave, 0, 1) * (1 - 0.45 * v)
        body = mix(body, air.glow, np.clip((0.95 if p["time"] != "day" else 0.6) * path, 0, 1))
    c.over(whole, c.cover(h - c.y), body)


def ground(c, p, air, rng):
    whole = (slice(None), slice(None))
    grain = noise(rng, c.side, (14, 30), 2)
    for x, y, w, top in p["island"]:
        where = c.box(x - w, y - top, x + w, y + top)
        if where is None:
            continue
        px, py = c.x[where], c.y[where]
        u = np.clip((px - x) / w, -1, 1)
        crown = y - top * np.sqrt(1 - u * u) * (1 + 0.12 * np.sin(23 * u + x * 40))
        c.over(where, 0.45 * c.cover(np.maximum(y - py, (py - (2 * y - crown) - 0.01)), 0.02) * (np.abs(u) < 1), air.rock * 0.35)
        t = np.clip((py - crown) / top, 0, 1)
        lit = np.clip(0.6 - 0.5 * (u * np.sign(0.5 - p["at"][0])) * -1 + 0.3 * grain[where], 0, 1)
        body = mix(mix(air.land * 0.6, air.land * 1.15, lit), mix(air.rock * 0.55, air.rock * 1.05, lit), np.clip((t - 0.45) * 5, 0, 1))
        c.over(where, c.cover(np.maximum(crown - py, py - y)) * (np.abs(u) < 1), body)
        c.line([(x - w, y + 0.003), (x + w, y + 0.003)], 0.006, air.of((.92, .95, .95)), 0.55)
    if p["shore"]:
        line = shore_line(p, c.x)
        sand = air.of((.93, .84, .62)) if p["time"] != "winter" else np.float32((.93, .95, .98))
        deep = c.y - line
        c.over(whole, 0.75 * np.exp(-((deep + 0.012) / 0.012) ** 2), air.of((.97, .98, .98)))
        c.over(whole, c.cover(-deep), mix(sand * 0.72, sand, np.clip(deep * 12 + 0.12 * grain, 0, 1)))
    if p["hills"]:
        near = hill_line(p, c.x)
        far = p["horizon"] + 0.01 - 0.05 * np.sin(5 * c.x + 2 + p["hills"][0])
        c.over(whole, c.cover(far - c.y), mix(air.land * 0.85, air.low, np.full(c.x.shape, 0.45)))
        deep = np.clip((c.y - near) / 0.4, 0, 1)
        rows = 0.5 + 0.5 * np.sin(60 * deep ** 0.7 + 5 * c.x + 1.5 * grain)
        c.over(whole, c.cover(near - c.y), mix(air.land * 1.12, air.land * 0.55, np.clip(deep * 0.9 + 0.25 * rows - 0.1, 0, 1)))


def standing(c, p, air):
    """Trees, houses, lighthouse: what stands further up is further away."""
    things = [(y, tree, (x, y, s)) for x, y, s in p["trees"]] + [(y, house, (x, y, s)) for x, y, s in p["houses"]]
    things += [(y + 0.001, lighthouse, (x, y, s)) for x, y, s in p["lighthouse"]]
    for _, draw, spot in sorted(things, key=lambda thing: thing[0]):
        draw(c, p, air, *spot)


def tree(c, p, air, x, y, s):
    r = 0.028 * s
    c.polygon([(x - r * .18, y), (x - r * .12, y - 1.6 * r), (x + r * .12, y - 1.6 * r), (x + r * .18, y)], air.of((.36, .24, .15)))
    if int(x * 1000) % 3 == 0 or p["time"] == "winter":
        for i in range(3):
            b, w = y - r * (0.6 + 0.75 * i), r * (1.0 - 0.22 * i)
            c.polygon([(x - w, b), (x, b - 1.25 * r), (x + w, b)], air.of((.12, .33, .20)))
            if p["time"] == "winter":
                c.polygon([(x - w * .55, b - .55 * r), (x, b - 1.25 * r), (x + w * .55, b - .55 * r)], (.95, .97, 1))
        return
    for dx, dy, k in ((-.5, -1.7, .75), (.5, -1.7, .75), (0, -2.3, .9), (0, -1.7, .8)):
        c.disc(x + dx * r, y + dy * r, k * r, air.of((.16, .38, .14)))
    toward = 0.3 * np.sign(p["at"][0] - x)
    for dx, dy, k in ((-.45, -1.9, .45), (.4, -1.95, .45), (0, -2.55, .5)):
        c.disc(x + (dx + toward) * r, y + dy * r, k * r, air.of((.42, .62, .24)), 0.9, soft=0.01)


def house(c, p, air, x, y, s):
    w, t = 0.035 * s, 0.04 * s
    wall = ((.93, .88, .78), (.86, .60, .48), (.82, .84, .86))[int(x * 1000) % 3]
    roof = (.96, .97, 1) if p["time"] == "winter" else ((.70, .25, .16), (.45, .27, .20))[int(x * 997) % 2]
    c.polygon([(x - w, y), (x - w, y - t), (x + w, y - t), (x + w, y)], air.of(wall))
    c.polygon([(x + w * .3, y), (x + w * .3, y - t), (x + w, y - t), (x + w, y)], air.of(wall) * 0.78)
    c.polygon([(x - w * 1.2, y - t), (x, y - 1.9 * t), (x + w * 1.2, y - t)], air.of(roof))
    pane = (1, .86, .42) if p["time"] in ("night", "storm", "sunset") else air.of((.35, .45, .55))
    c.polygon([(x - w * .7, y - t * .35), (x - w * .7, y - t * .75), (x - w * .25, y - t * .75), (x - w * .25, y - t * .35)], pane)
    c.polygon([(x + w * .45, y), (x + w * .45, y - t * .6), (x + w * .8, y - t * .6), (x + w * .8, y)], air.of((.38, .24, .16)))


def lighthouse(c, p, air, x, y, s):
    t, w = 0.17 * s ** 0.5, 0.022 * s ** 0.5
    shine = p["time"] in ("night", "storm", "sunset")
    if shine:
        way = 1 if x < 0.5 else -1
        where = c.box(0, y - t - 0.2, 1, y - t + 0.2)
        if where:
            px, py = c.x[where] - x, c.y[where] - (y - t)
            along = px * way
            beam = np.exp(-(py / (0.014 + 0.16 * np.clip(along, 0, 1))) ** 2) * np.clip(1 - along / 0.75, 0, 1) * (along > 0)
            c.over(where, 0.5 * beam, (1, .95, .70))
    for i in range(5):
        a, b = i / 5, (i + 1) / 5
        wa, wb = w * (1 - 0.4 * a), w * (1 - 0.4 * b)
        colour = air.of((.93, .92, .90) if i % 2 else (.80, .18, .14))
        c.polygon([(x - wa, y - a * t), (x - wb, y - b * t), (x + wb, y - b * t), (x + wa, y - a * t)], colour)
        c.polygon([(x + wa * .3, y - a * t), (x + wb * .3, y - b * t), (x + wb, y - b * t), (x + wa, y - a * t)], (0, 0, .05), 0.28)
    c.polygon([(x - w * .8, y - t), (x - w * .8, y - t - .006), (x + w * .8, y - t - .006), (x + w * .8, y - t)], air.of((.2, .2, .22)))
    lamp = (1, .96, .66) if shine else air.of((.75, .85, .88))
    c.polygon([(x - w * .45, y - t), (x - w * .45, y - t - .024), (x + w * .45, y - t - .024), (x + w * .45, y - t)], lamp)
    c.polygon([(x - w * .6, y - t - .022), (x, y - t - .045), (x + w * .6, y - t - .022)], air.of((.66, .14, .12)))
    if shine:
        c.disc(x, y - t - .012, 0.0, (1, .95, .7), 0.8, soft=0.05)


def floating(c, p, air):
    for x, y, kind in p["boats"]:
        s = 0.035 + 0.17 * (y - p["horizon"])
        c.disc(x, y + .1 * s, 0.8 * s, air.near * 0.6, 0.5, soft=.01, squash=0.35)
        c.polygon([(x - s, y - .25 * s), (x + s * 1.05, y - .3 * s), (x + .7 * s, y + .12 * s), (x - .7 * s, y + .12 * s)],
                  air.of((.45, .24, .13) if kind else (.62, .20, .16)))
        c.line([(x - s, y - .25 * s), (x + s, y - .3 * s)], 0.12 * s, air.of((.85, .72, .52)))
        c.line([(x, y - .2 * s), (x, y - 2.05 * s)], 0.07 * s, air.of((.32, .22, .16)))
        c.polygon([(x + .1 * s, y - .45 * s), (x + .08 * s, y - 2 * s), (x + .95 * s, y - .45 * s)], air.of((.97, .95, .90)))
        c.polygon([(x - .1 * s, y - .45 * s), (x - .75 * s, y - .45 * s), (x - .08 * s, y - 1.8 * s)][::-1], air.of((.82, .80, .80)))
    for x, y, way in p["fish"]:
        c.disc(x, y + .05, 0.05, air.of((.9, .95, .97)), 0.6, soft=.02, squash=0.25)
        c.disc(x, y, 0.042, air.of((.95, .55, .25)), squash=0.5)
        c.disc(x, y + .008, 0.03, air.of((1, .85, .62)), 0.9, soft=.01, squash=0.35)
        tail = [(x - way * .036, y), (x - way * .072, y - .024), (x - way * .072, y + .024)]
        c.polygon(tail if way < 0 else tail[::-1], air.of((.88, .42, .18)))
        c.disc(x + way * .024, y - .005, 0.005, (.05, .05, .08))


def weather(c, p, rng):
    if p["time"] == "storm":
        fall = noise(rng, c.side, (c.side // 3, c.side // 18))
        whole = (slice(None), slice(None))
        c.over(whole, 0.22 * np.clip(fall - 0.42, 0, 1), (.85, .88, .92))
    elif p["time"] == "winter":
        for x, y, r in rng.uniform(0, 1, (70, 3)):
            c.disc(x, y, 0.002 + 0.005 * r, (1, 1, 1), 0.9, soft=0.002)
