"""The doodle of a plan: flat strokes in few colours, as a person draws with a mouse."""
import numpy as np

from canvas import Canvas
from paint import Air, gulls
from plan import hill_line, shore_line

# sky, sea, land, rock
CRAYONS = {
    "day": ((.53, .80, .95), (.20, .45, .75), (.35, .65, .30), (.55, .52, .50)),
    "sunset": ((.95, .60, .35), (.45, .30, .50), (.35, .35, .25), (.45, .35, .40)),
    "night": ((.06, .09, .25), (.05, .12, .35), (.10, .22, .18), (.20, .22, .32)),
    "storm": ((.45, .48, .50), (.20, .30, .35), (.30, .38, .28), (.35, .35, .38)),
    "winter": ((.80, .87, .93), (.45, .62, .75), (.95, .96, .98), (.62, .66, .72)),
}


def doodle(p, side):
    """Flat colours, bent lines, nothing of light; sRGB in 0..1."""
    rng = np.random.default_rng([*p["seed"], 2])
    c, h, drawn = Canvas(side, 0.006, rng), p["horizon"], lambda name: p[name] and name not in p["left_out"]
    off = np.clip(rng.normal(0, 0.04, (6, 3)), -.1, .1).astype(np.float32)
    sky, sea, land, rock = (np.clip(np.float32(v) + off[i], 0, 1) for i, v in enumerate(CRAYONS[p["doodle_time"]]))
    whole, dark = (slice(None), slice(None)), p["doodle_time"] == "night"
    c.image[:] = sky
    if drawn("stars"):
        for x, y, _ in p["stars"]:
            c.disc(x, y, 0.009, (1, .95, .55))
    if drawn("sun") or drawn("moon"):
        x, y, r = p["at"]
        c.disc(x + rng.normal(0, .005), y + rng.normal(0, .005), r, (.95, .95, .85) if p["moon"] and rng.uniform() < .6 else (1, .85, .20))
    if drawn("clouds"):
        for x, y, w, _ in p["clouds"]:
            colour = (.45, .47, .50) if p["time"] == "storm" else (.35, .38, .48) if dark else (.97, .97, .98)
            for u, r in ((-.5, .24), (0, .34), (.5, .26)):
                c.disc(x + u * w, y - .05 * w, r * w, colour, squash=0.8)
    if drawn("gulls"):
        p2 = dict(p, time=p["doodle_time"])
        gulls(c, p2, Air(p, p["doodle_time"]), 0.009)
    if drawn("mountains"):
        for heights, tall in p["mountains"]:
            top = h - tall * np.interp(c.x, np.linspace(0, 1, 9), heights[::8])
            c.over(whole, c.cover(top - c.y), rock)
    if p["hills"]:
        c.over(whole, c.cover(hill_line(p, c.x) - c.y), land)
    else:
        c.over(whole, c.cover(h - c.y), sea)
    for x, y, w, top in p["island"]:
        c.shape((x - w, y - top, x + w, y), lambda px, py: np.maximum(y - top * np.sqrt(np.clip(1 - ((px - x) / w) ** 2, 0, 1)) - py, py - y), land)
    if p["shore"]:
        c.over(whole, c.cover(shore_line(p, c.x) - c.y), (.93, .85, .62) if p["doodle_time"] != "winter" else (.93, .95, .98))
    for x, y, s in p["trees"]:
        r = 0.028 * s
        c.line([(x, y), (x, y - 1.6 * r)], 0.35 * r, (.42, .28, .16))
        c.disc(x, y - 2 * r, 1.1 * r, (.18, .45, .20))
    for x, y, s in p["houses"]:
        w, t = 0.035 * s, 0.04 * s
        c.polygon([(x - w, y), (x - w, y - t), (x + w, y - t), (x + w, y)], (.90, .82, .70))
        c.polygon([(x - w * 1.2, y - t), (x, y - 1.9 * t), (x + w * 1.2, y - t)], (.75, .25, .18))
    for x, y, s in p["lighthouse"]:
        t, w = 0.17 * s ** 0.5, 0.02 * s ** 0.5
        c.polygon([(x - w, y), (x - w * .7, y - t), (x + w * .7, y - t), (x + w, y)], (.95, .94, .92))
        c.polygon([(x - w * .9, y - .4 * t), (x - w * .8, y - .62 * t), (x + w * .8, y - .62 * t), (x + w * .9, y - .4 * t)], (.85, .20, .15))
        c.polygon([(x - w * .8, y - t), (x, y - t - .045), (x + w * .8, y - t)], (.85, .20, .15))
    if drawn("boats"):
        for x, y, _ in p["boats"]:
            s = 0.035 + 0.17 * (y - h)
            c.polygon([(x - s, y - .3 * s), (x + s, y - .3 * s), (x + .7 * s, y + .12 * s), (x - .7 * s, y + .12 * s)], (.50, .28, .15))
            c.polygon([(x, y - .4 * s), (x, y - 2 * s), (x + .95 * s, y - .4 * s)], (.97, .97, .95))
    for x, y, way in p["fish"]:
        c.disc(x, y, 0.042, (.95, .55, .25), squash=0.5)
        tail = [(x - way * .036, y), (x - way * .072, y - .024), (x - way * .072, y + .024)]
        c.polygon(tail if way < 0 else tail[::-1], (.95, .55, .25))
    return np.clip(c.image, 0, 1)
