"""Paints over a picture through falgate, with Python alone: standard.py PICTURE PROMPT [OUT]"""

import base64
import json
import mimetypes
import os
import sys
import urllib.error
import urllib.request

GATE = os.environ.get("FALGATE_URL", "http://127.0.0.1:8787")


def data_uri(path):
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    with open(path, "rb") as file:
        return f"data:{kind};base64,{base64.b64encode(file.read()).decode()}"


def run(endpoint, payload):
    headers = {"content-type": "application/json"}
    if access_key := os.environ.get("FALGATE_ACCESS_KEY"):
        headers["authorization"] = f"Key {access_key}"
    request = urllib.request.Request(f"{GATE}/{endpoint}", json.dumps(payload).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code}: {json.load(error)['message']}")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    picture, prompt, *rest = sys.argv[1:]
    answer = run(
        "fal-ai/lcm-sd15-i2i",
        {"prompt": prompt, "image_url": data_uri(picture), "strength": 0.6, "sync_mode": True},
    )
    out = rest[0] if rest else "painted.jpg"
    with open(out, "wb") as file:
        file.write(base64.b64decode(answer["images"][0]["url"].partition(",")[2]))
    print(f"{out}, seed {answer['seed']}, {answer['timings']['inference']:.2f} s")


if __name__ == "__main__":
    main()
