#!/usr/bin/env python3
"""Puts the measurements of one run side by side as Markdown: `python report.py RESULTS`."""
import json
import pathlib
import sys


def read(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def table(results, variant):
    """Engine, eager and compiled, phase by phase; a dash where something was not measured."""
    columns = {"engine": read(results / f"engine-{variant}.json"), "eager": read(results / f"eager-{variant}.json"),
               "compile": read(results / f"compile-{variant}.json")}
    if not columns["engine"]:
        return
    times = {name: {(r["part"], r["steps"], r["batch"]): r["times"] for r in found["rows"]} for name, found in columns.items() if found}
    print(f"\n### Autoencoder: {variant}\n\n| phase | batch | engine | diffusers eager | torch.compile | eager / engine | compile / engine |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for key in times["engine"]:
        ms = {name: (times.get(name, {}).get(key) or {}).get("median_ms") for name in columns}
        cells = [f"{ms[name]:.2f} ms" if ms[name] else "–" for name in columns]
        ratios = [f"{ms[name] / ms['engine']:.2f}" if ms[name] and ms["engine"] else "–" for name in ("eager", "compile")]
        part, steps, batch = key
        print("|", " | ".join([f"{part}{f', {steps} steps' if steps else ''}", str(batch), *cells, *ratios]), "|")


def main(folder):
    results = pathlib.Path(folder)
    engine = read(results / "engine-full.json") or read(results / "engine-taesd.json")
    if engine:
        machine, options = engine["machine"], engine["options"]
        print(f"{machine['processor']}, {machine['cores']} cores; {machine['gpu'] or 'no GPU'}; {machine['system']}; falgate "
              f"{machine['falgate']} ({machine['build']}), {options['device']}, {options['side_px']} px")
    for variant in ("full", "taesd"):
        table(results, variant)
    for path in sorted(results.glob("painters-*.md")):
        print(f"\n### Over the gate's WebSocket: {path.stem.removeprefix('painters-')}\n\n{path.read_text().strip()}")
    failed = results / "failed"
    if failed.exists():
        print(f"\nNot done: {', '.join(failed.read_text().split())}")


if __name__ == "__main__":
    main(sys.argv[1])
