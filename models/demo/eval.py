"""Measures an exported model on held-out scenes, and paints the contact sheets. numpy, Pillow and ONNX Runtime only.

closer     results nearer to the true painting than the doodle is: multi-scale SSIM, colour histograms, and their mean
sun        where the sun or moon of the doodle went
words      time of day and style recognised by a linear classifier fitted to true paintings; objects by which of two true pictures,
           with and without the object, the result resembles where they differ
sliders    distance from the doodle over strength and guidance; what the seed changes"""
import argparse
import json
import pathlib

import numpy as np
from PIL import Image, ImageDraw

import scenes
import style
from canvas import blur
from doodle import doodle
from painter import Painter
from paint import paint
from plan import STYLES, TIMES, WORDS, plan, usual


def real(picture):
    return picture.astype(np.float32) / 255


def halved(x):
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).mean((1, 3)).reshape(x.shape[0] // 2, x.shape[1] // 2, *x.shape[2:])


def ms_ssim(a, b, scales=4):
    """Mean over scales of SSIM on luma, 7-pixel box windows twice."""
    a, b, found = style.luma(real(a)), style.luma(real(b)), []
    for _ in range(scales):
        ma, mb = blur(a, 3), blur(b, 3)
        va, vb, both = blur(a * a, 3) - ma * ma, blur(b * b, 3) - mb * mb, blur(a * b, 3) - ma * mb
        found.append(((2 * ma * mb + 1e-4) * (2 * both + 9e-4) / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4))).mean())
        a, b = halved(a), halved(b)
    return float(np.mean(found))


def histogram(picture):
    """Soft histogram of 8 steps a channel, over a picture at half size."""
    cells = np.zeros((8, 8, 8), np.float32)
    x = halved(real(picture)).reshape(-1, 3) * 7
    low = np.minimum(x.astype(int), 6)
    part = x - low
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, part, 1 - part), 1)
        np.add.at(cells, tuple((low + corner).T), weight)
    return cells / cells.sum()


def distances(a, b):
    """(1 − MS-SSIM)/2, histogram distance, and the mean of both; all in 0..1."""
    shape = (1 - ms_ssim(a, b)) / 2
    colour = float(np.abs(histogram(a) - histogram(b)).sum() / 2)
    return np.array([shape, colour, (shape + colour) / 2])


def closer(model, count):
    report = {}
    held = [scenes.scene(i, 256, scenes.TEST_SEED) for i in range(count)]
    before = np.array([distances(d, t) for d, t, _ in held])
    strengths = np.random.default_rng(1).uniform(0.6, 0.8, count)
    found_suns = []
    for steps in (1, 2, 4):
        results = [model.run(d, p["caption"], s, steps, seed=i) for i, ((d, _, p), s) in enumerate(zip(held, strengths))]
        after = np.array([distances(r, t) for r, (_, t, _) in zip(results, held)])
        better = (after < before).mean(0)
        names = ("ms_ssim", "histogram", "both")
        report[f"{steps} steps"] = {n: {"doodle": round(float(b), 4), "result": round(float(a), 4), "closer": round(float(c), 3)}
                                    for n, b, a, c in zip(names, before.mean(0), after.mean(0), better)}
        if steps == 2:
            for r, (_, truth, p) in zip(results, held):
                if (p["sun"] or p["moon"]) and not p["left_out"] & {"sun", "moon"}:
                    found_suns.append((disc(r, p), disc(truth, p)))
    gaps = np.array([np.hypot(*np.subtract(a, b)) for a, b in found_suns])
    report["sun"] = {"pictures": len(gaps), "median_gap": round(float(np.median(gaps)), 4), "within_4_percent": round(float((gaps < 0.04).mean()), 3)}
    return report


def disc(picture, p):
    """Centre of the brightest blob of the disc's size in the sky around where it was drawn."""
    x, y, r = p["at"]
    side = picture.shape[0]
    bright = blur(real(picture).min(-1) + real(picture).max(-1), r * side * 0.6)
    rows, columns = np.mgrid[:side, :side] / side
    bright[(np.hypot(rows - y, columns - x) > 0.2) | (rows > p["horizon"])] = -1
    row, column = np.unravel_index(bright.argmax(), bright.shape)
    return column / side, row / side


def features(picture):
    """Colours by height, spread, brightness steps, and energy of fine detail: what time and style can be told from."""
    x = real(picture)
    grey, parts = style.luma(x), []
    for rows in (slice(0, 90), slice(90, 160), slice(160, 256)):
        parts += [x[rows].mean((0, 1)), x[rows].std((0, 1))]
    parts.append((x.max(-1) - x.min(-1)).mean(keepdims=True).ravel())
    parts.append(np.histogram(grey, 8, (0, 1))[0] / grey.size)
    for radius in (1, 2, 4):
        fine = grey - blur(grey, radius)
        parts.append([np.log(np.abs(fine).mean() + 1e-3), np.log(np.abs(fine).max() + 1e-3), fine.min()])
    down, right = np.gradient(grey)
    parts.append([np.log(np.abs(down + right).mean() + 1e-3), np.log(np.abs(down - right).mean() + 1e-3), np.log(np.abs(down).mean() + 1e-3)])
    return np.concatenate([np.ravel(p) for p in parts])


class Linear:
    """Least squares onto classes, with ridge."""

    def __init__(self, x, y, classes):
        self.mean, self.std = x.mean(0), x.std(0) + 1e-6
        x = self.wide(x)
        self.weights = np.linalg.solve(x.T @ x + 2.0 * np.eye(x.shape[1]), x.T @ np.eye(classes)[y])

    def wide(self, x):
        x = (x - self.mean) / self.std
        return np.concatenate([x, x * x, np.ones((len(x), 1))], 1)

    def __call__(self, x):
        return (self.wide(x) @ self.weights).argmax(1)


def words(model, count, fitted=400):
    """Time and style asked for at random over held-out doodles."""
    rng, report = np.random.default_rng(2), {}
    truth = [(i, plan(scenes.TEST_SEED + 1, i)) for i in range(fitted)]
    pictures = [scenes.byte(style.apply(p, paint(p, 256))) for _, p in truth]
    # Fitted to pictures as the autoencoder passes them on, so that it is not the autoencoder which is measured.
    x = np.array([features(model.decode(model.encode(t))) for t in pictures])
    asked, got = [], []
    for i in range(count):
        p = plan(scenes.TEST_SEED + 2, i)
        time, look = rng.integers(5), rng.integers(4)
        unsaid = WORDS[p["time"]] + WORDS[p["style"]] + WORDS["stars"]
        things = [part for part in p["caption"].split(", ") if part not in unsaid and "sun" not in part and "moon" not in part]
        say = lambda name: WORDS[name][rng.integers(len(WORDS[name]))]  # noqa: E731
        prompt = ", ".join([*things, say(TIMES[time]), say(STYLES[look])])
        sketch = scenes.byte(doodle(dict(p, doodle_time="day"), 256))
        got.append(features(model.run(sketch, prompt, 0.75, 2, seed=i)))
        asked.append((time, look))
    asked, got = np.array(asked), np.array(got)
    for column, (name, names) in enumerate((("time", TIMES), ("style", STYLES))):
        y = np.array([names.index(p[name]) for _, p in truth])
        check = Linear(x[:fitted * 4 // 5], y[:fitted * 4 // 5], len(names))
        right = Linear(x, y, len(names))(got) == asked[:, column]
        report[name] = {"right": round(float(right.mean()), 3), "classifier_on_true": round(float((check(x[fitted * 4 // 5:]) == y[fitted * 4 // 5:]).mean()), 3),
                        **{n: round(float(right[asked[:, column] == k].mean()), 3) for k, n in enumerate(names)}}
    return report


def objects(model, count):
    """Named or not named, never drawn: does the result resemble the picture with it or without it?"""
    report = {}
    for name in ("moon", "sun", "stars", "clouds", "mountains", "boats", "gulls"):
        right, i, tried = [], 0, 0
        while tried < count:
            needs = {"moon": {"time": "night"}, "stars": {"time": "night"}, "sun": {"time": "day"}}
            p = plan(scenes.TEST_SEED + 3, i, **needs.get(name, {}))
            i += 1
            if name == "boats" and p["ground"] == "meadow" or (name == "mountains" and p["clouds"] and p["left_out"]):
                continue
            tried += 1
            p["left_out"] = set()
            without = dict(p, **{name: []})
            if name in ("sun", "moon"):
                without["clouds"] = []
            with_it = dict(without, left_out={name}, **{name: [1]})
            usual(with_it, name)
            if name == "sun":
                without["at"] = with_it["at"]
            sketch = scenes.byte(doodle(without, 256))
            parts = [p["ground"], p["time"], WORDS[p["style"]][0]]
            named = [parts[0], WORDS[name][0].format(ground="sea"), *parts[1:]]
            true_with, true_without = (real(scenes.byte(style.apply(q, paint(q, 256)))) for q in (with_it, without))
            weight = np.abs(true_with - true_without)
            for said, near, far in ((named, true_with, true_without), (parts, true_without, true_with)):
                r = real(model.run(sketch, ", ".join(said), 0.75, 2, seed=i))
                right.append((weight * np.abs(r - near)).sum() < (weight * np.abs(r - far)).sum())
        shares = {"right": right, "named": right[::2], "not_named": right[1::2]}
        report[name] = {key: round(float(np.mean(some)), 3) for key, some in shares.items()}
    report["mean"] = round(float(np.mean([v["right"] for v in report.values()])), 3)
    return report


def sliders(model, count):
    report = {"strength": {}, "guidance": {}}
    held = [scenes.scene(i, 256, scenes.TEST_SEED + 4) for i in range(count)]
    for kind, values in (("strength", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)), ("guidance", (1.0, 4.0, 8.0, 12.0, 16.0))):
        rows = []
        for value in values:
            given = {"strength": 0.7, "steps": 2, kind: value}
            results = [model.run(d, p["caption"], seed=i, **given) for i, (d, _, p) in enumerate(held)]
            rows.append([np.abs(real(r) - real(d)).mean() for r, (d, _, _) in zip(results, held)])
        rows = np.array(rows)
        report[kind] = {str(v): round(float(m), 4) for v, m in zip(values, rows.mean(1))}
        report[kind]["pairs_rising"] = round(float((np.diff(rows, axis=0) > 0).mean()), 3)
    wide, fine = [], []
    for i, (d, _, p) in enumerate(held):
        a, b = (real(model.run(d, p["caption"], 0.7, 2, seed=s)) for s in (i, i + 1000))
        fine.append(np.abs(a - b).mean())
        wide.append(np.abs(blur(a - b, 8)).mean())
    report["seed"] = {"pixels": round(float(np.mean(fine)), 4), "after_blur": round(float(np.mean(wide)), 4)}
    return report


def label(picture, text):
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, picture.shape[0] - 16, picture.shape[1], picture.shape[0]), fill=(255, 255, 255))
    draw.text((3, picture.shape[0] - 14), text, fill=(20, 20, 20))
    return np.asarray(image)


def sheets(model, folder):
    """demo-model.png: 24 doodles with their results; demo-prompts.png: one doodle under many prompts and settings."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = []
    for i in range(24):
        d, _, p = scenes.scene(i, 256, scenes.TEST_SEED + 5)
        cells.append(np.concatenate([d, model.run(d, p["caption"], 0.7, 2, seed=i)], 1))
    write(folder / "demo-model.png", cells, 4, 0.5)
    cells = []
    for k, name in enumerate(("island", "shore")):
        lot = (plan(scenes.TEST_SEED + 6, i) for i in range(2000))
        p = next(p for p in lot if p[name] and p["sun"] and p["boats"] and p["lighthouse"] and not p["left_out"])
        d = scenes.byte(doodle(dict(p, doodle_time="day"), 256))
        looks = [f"{t}, {s}" for s, t in (("ink drawing", "day"), ("ink drawing", "night"), ("watercolour", "day"), ("watercolour", "sunset"),
                                          ("flat illustration", "day"), ("flat illustration", "night"))]

        def one(text, words, strength=0.75, guidance=8.0):
            return label(model.run(d, f"{name}, lighthouse, boats, {words}", strength, 2, guidance, seed=k), text)
        cells += [label(d, "doodle"), *(one(words, words) for words in (*TIMES, *looks))]
        cells += [one(f"strength {v}", "sunset", v) for v in (0.2, 0.4, 0.6, 0.8)]
        cells += [one(f"guidance {g:.0f}", "sunset", 0.7, g) for g in (1.0, 16.0)]
    write(folder / "demo-prompts.png", cells, 6, 0.5)


def write(path, cells, columns, size):
    rows = [np.concatenate(cells[i:i + columns], 1) for i in range(0, len(cells), columns)]
    sheet = Image.fromarray(np.concatenate(rows))
    sheet = sheet.resize((int(sheet.width * size), int(sheet.height * size)), Image.Resampling.LANCZOS)
    sheet.save(path, optimize=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", default=".")
    ap.add_argument("--scenes", type=int, default=200)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--sheets", help="folder for the contact sheets; nothing else is done")
    ap.add_argument("--report", help="file for the numbers")
    args = ap.parse_args()
    model = Painter(args.model, args.threads)
    if args.sheets:
        return sheets(model, pathlib.Path(args.sheets))
    report = {}
    n = args.scenes
    for name, part, count in (("closer", closer, n), ("words", words, n), ("objects", objects, max(4, n // 5)), ("sliders", sliders, max(4, n // 8))):
        report[name] = part(model, count)
        print(json.dumps({name: report[name]}, indent=1), flush=True)
    if args.report:
        pathlib.Path(args.report).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
