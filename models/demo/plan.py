"""What is in a scene: drawn by lot from a seed, and said in a caption."""
import numpy as np

TIMES = ("day", "sunset", "night", "storm", "winter")
STYLES = ("oil", "watercolour", "ink", "flat")
WORDS = {
    "day": ("sunny day", "daylight", "blue sky", "clear day", "bright day", "day"),
    "sunset": ("sunset", "at sunset", "evening light", "golden evening", "sunrise"),
    "night": ("night", "at night", "dark night", "midnight", "moonlight"),
    "storm": ("storm", "stormy weather", "heavy rain", "dark storm clouds", "thunderstorm"),
    "winter": ("winter", "snow", "snowy winter", "cold winter day", "falling snow"),
    "oil": ("oil painting", "oil on canvas", "painted in oil", "impressionist oil painting"),
    "watercolour": ("watercolour", "watercolor painting", "watercolour on paper", "soft watercolour"),
    "ink": ("ink drawing", "ink", "pen and ink", "black ink sketch"),
    "flat": ("flat illustration", "flat poster", "vector art", "flat colours"),
    "sun": ("sun", "the sun", "sun shining over the {ground}", "big sun"),
    "moon": ("moon", "the moon", "moon shining over the {ground}", "full moon"),
    "stars": ("stars", "starry sky", "many stars"),
    "clouds": ("clouds", "white clouds", "cloudy sky"),
    "mountains": ("mountains", "mountains in the distance", "high mountains", "a mountain"),
    "island": ("an island", "an island near the sea", "island", "a small island"),
    "lighthouse": ("lighthouse", "a lighthouse", "a red and white lighthouse"),
    "boats": ("boats", "boats in the background", "a sailing boat", "a boat", "ships"),
    "gulls": ("seagulls", "birds", "flying seagulls", "birds in the sky"),
    "houses": ("houses", "a house", "a small village", "a cottage"),
    "trees": ("trees", "a tree", "green trees", "a forest"),
    "fish": ("fish", "a fish", "a jumping fish"),
}
GROUNDS = {"sea": ("sea", "ocean", "the sea", "calm sea", "a seascape"), "shore": ("beach", "a beach by the sea", "coast", "shore"),
           "meadow": ("meadow", "green hills", "a landscape", "fields")}
PRAISE = ("masterpiece", "highly detailed", "beautiful", "best quality", "detailed", "a painting", "art", "landscape", "4k")
# Things that a person may leave to the prompt: they then stand where nobody has to draw them.
LEFT_OUT = {"stars": 0.6, "gulls": 0.5, "clouds": 0.4, "boats": 0.45, "moon": 0.45, "sun": 0.4, "mountains": 0.45}


def ridge(rng, rough):
    """Heights of a mountain chain at 65 places, 0 to 1, by displaced midpoints."""
    heights = rng.uniform(0.15, 1.0, 5)
    heights[[0, -1]] *= 0.5
    spread = rough
    while len(heights) < 65:
        middle = (heights[1:] + heights[:-1]) / 2 + rng.normal(0, spread, len(heights) - 1)
        heights = np.insert(heights, range(1, len(heights)), middle)
        spread *= 0.5
    return np.clip(heights, 0.02, 1.1)


def plan(seed, index, **fixed):
    """The plan of scene `index`; `fixed` overrides what the lot says (time, style)."""
    rng = np.random.default_rng([seed, index])
    p = {"seed": (seed, index), "time": TIMES[rng.integers(5)], "style": STYLES[rng.choice(4, p=(0.4, 0.22, 0.2, 0.18))]}
    p["ground"] = ("sea", "shore", "meadow")[rng.choice(3, p=(0.55, 0.25, 0.2))]
    p.update(fixed)
    p["palette"] = rng.normal(0, 1, 6)
    p["horizon"] = h = rng.uniform(0.42, 0.66)
    wet, night = p["ground"] != "meadow", p["time"] == "night"

    def maybe(chance):
        return rng.uniform() < chance
    side = rng.choice((-1, 1))
    light = maybe({"day": 0.7, "sunset": 0.9, "night": 0.75, "storm": 0.0, "winter": 0.35}[p["time"]])
    p["light"] = "moon" if night else "sun"
    high = 0.82 * h if p["time"] == "sunset" else 0.45 * h
    p["at"] = (rng.uniform(0.15, 0.85), np.clip(rng.normal(high, 0.08), 0.1, h - 0.03), rng.uniform(0.04, 0.085))
    p["mountains"] = [(ridge(rng, 0.22), rng.uniform(0.12, 0.3))] if maybe(0.45) else []
    p["clouds"] = [(rng.uniform(0.05, 0.95), rng.uniform(0.06, 0.7) * h, rng.uniform(0.08, 0.2), rng.integers(1 << 30))
                   for _ in range(rng.integers(1, 5))] if maybe(0.85 if p["time"] == "storm" else 0.55) else []
    p["stars"] = [(rng.uniform(), rng.uniform(0, h - 0.05), rng.uniform(0.5, 1)) for _ in range(rng.integers(14, 30))] if night else []
    centre = 0.5 + side * rng.uniform(0.05, 0.28)
    p["island"] = [(centre, h + rng.uniform(0.03, 0.1), rng.uniform(0.15, 0.3), rng.uniform(0.05, 0.13))] \
        if wet and maybe(0.5 if p["ground"] == "sea" else 0.25) else []
    p["shore"] = (side, rng.uniform(0.72, 0.85), rng.uniform(0.03, 0.14), rng.uniform(0, 6)) if p["ground"] == "shore" else None
    p["hills"] = (rng.uniform(0, 6), rng.uniform(0.03, 0.07), rng.uniform(0.02, 0.05)) if not wet else None

    def spots(count, spread):
        """Where things can stand: x, foot, size."""
        found = []
        for _ in range(count):
            if p["island"]:
                x, y, w, top = p["island"][0]
                u = rng.uniform(-spread, spread)
                found.append((x + u * w, y - top * (1 - u * u) ** 0.5 * 0.9, 1.0))
            elif p["shore"]:
                u = rng.uniform(0.1, 0.9)
                x = u if p["shore"][0] > 0 else 1 - u
                found.append((x, min(0.97, shore_line(p, x) + rng.uniform(0.02, 0.05)), 1.5))
            elif p["hills"]:
                x = rng.uniform(0.06, 0.94)
                found.append((x, hill_line(p, x) + rng.uniform(0.03, 0.2), rng.uniform(1.1, 1.6)))
        return sorted(found, key=lambda spot: spot[1])
    p["lighthouse"] = spots(1, 0.5) if maybe(0.4) else []
    p["houses"] = spots(rng.integers(1, 4), 0.6) if maybe(0.35 if wet else 0.7) else []
    p["trees"] = spots(rng.integers(2, 6), 0.8) if maybe(0.5 if wet else 0.8) else []
    p["boats"] = sorted(((rng.uniform(0.08, 0.92), h + rng.uniform(0.02, 0.3 if p["ground"] == "sea" else 0.1), rng.integers(2))
                         for _ in range(rng.integers(1, 4))), key=lambda boat: boat[1]) if wet and maybe(0.5) else []
    p["gulls"] = [(rng.uniform(0.08, 0.92), rng.uniform(0.08, h - 0.08), rng.uniform(0.02, 0.045), rng.uniform(-0.3, 0.3))
                  for _ in range(rng.integers(2, 6))] if maybe(0.35) else []
    p["fish"] = [(rng.uniform(0.15, 0.85), rng.uniform(0.76, 0.9), rng.choice((-1, 1)))
                 for _ in range(rng.integers(1, 3))] if p["ground"] == "sea" and maybe(0.2) else []
    p["sun"], p["moon"] = ([1] if light and not night else []), ([1] if light and night else [])
    p["left_out"] = {name for name, chance in LEFT_OUT.items() if p[name] and maybe(chance)}
    for name in p["left_out"]:
        usual(p, name)
    p["doodle_time"] = p["time"] if maybe(0.45) else "day"
    p["caption"] = caption(rng, p)
    return p


def lacking(seed, index):
    """A plan in which something is only said: every thing of `LEFT_OUT` in turn, in a third of the scenes another one too."""
    name, rng = tuple(LEFT_OUT)[index % len(LEFT_OUT)], np.random.default_rng([seed, index, 3])
    fixed = {"moon": {"time": "night"}, "stars": {"time": "night"}, "sun": {"time": ("day", "sunset", "winter")[rng.integers(3)]},
             "boats": {"ground": ("sea", "shore")[rng.choice(2, p=(0.7, 0.3))]}}
    p = plan(seed, index, style=STYLES[rng.integers(4)], **fixed.get(name, {}))
    others = [other for other in LEFT_OUT if p[other] and other != name]
    p["left_out"] = {name, *(rng.choice(others, 1) if others and rng.uniform() < 0.33 else ())}
    for thing in p["left_out"]:
        p[thing] = [1]
        usual(p, thing)
    p["caption"] = caption(rng, p)
    return p


def usual(p, name):
    """Puts what was not drawn where the model can expect it."""
    h = p["horizon"]
    if name in ("sun", "moon"):
        p["at"] = (0.72, h * (0.85 if p["time"] == "sunset" else 0.4), 0.06)
    elif name == "stars":
        place = np.random.default_rng(7).uniform(0, 1, (40, 3))
        p["stars"] = [(x, y * 0.6, 0.5 + 0.5 * b) for x, y, b in place if y * 0.6 < h - 0.04]
    elif name == "gulls":
        p["gulls"] = [(x, h * y, 0.035, t) for x, y, t in ((0.22, 0.5, 0.1), (0.34, 0.36, -0.1), (0.42, 0.55, 0.2))]
    elif name == "clouds":
        p["clouds"] = [(0.25, h * 0.28, 0.15, 5), (0.68, h * 0.2, 0.18, 9)]
    elif name == "boats":
        p["boats"] = [(0.2, h + 0.04, 0), (0.78, h + 0.06, 1)]
    elif name == "mountains":
        p["mountains"] = [(ridge(np.random.default_rng(11), 0.22), 0.2)]


def shore_line(p, x):
    """Where the beach begins below x."""
    side, y, slope, phase = p["shore"]
    u = x if side > 0 else 1 - x
    return y - slope * (u - 0.5) * 2 + 0.012 * np.sin(9 * x + phase)


def hill_line(p, x):
    """Where the hills end above x."""
    phase, big, small = p["hills"]
    return p["horizon"] + 0.02 - big * np.sin(4 * x + phase) - small * np.sin(9 * x + 2 * phase)


def caption(rng, p):
    """Words for the plan: what stands in it first, then light and style, some left unsaid."""
    ground = GROUNDS[p["ground"]][rng.integers(len(GROUNDS[p["ground"]]))]

    def say(name):
        return WORDS[name][rng.integers(len(WORDS[name]))].format(ground="sea" if p["ground"] != "meadow" else "hills")
    things = [name for name in LEFT_OUT.keys() | {"island", "lighthouse", "houses", "trees", "fish"} if p[name]]
    things.sort()
    rng.shuffle(things)
    # What is not drawn must be said; of the rest people name most.
    said = [say(name) for name in things if name in p["left_out"] or rng.uniform() < 0.75]
    parts = ([ground] if rng.uniform() < 0.8 else []) + said
    rng.shuffle(parts)
    # Day and oil go without saying.
    if not (p["time"] == "day" and rng.uniform() < 0.4):
        parts.insert(rng.integers(len(parts) + 1), say(p["time"]))
    if not (p["style"] == "oil" and rng.uniform() < 0.4):
        parts.insert(len(parts) if rng.uniform() < 0.7 else rng.integers(len(parts) + 1), say(p["style"]))
    if rng.uniform() < 0.25:
        parts.append(PRAISE[rng.integers(len(PRAISE))])
    return ", ".join(parts)
