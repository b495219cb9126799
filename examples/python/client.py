"""Paints over a picture through falgate with fal's own client: client.py PICTURE PROMPT [OUT]"""

import base64
import sys

import fal_client


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    picture, prompt, *rest = sys.argv[1:]
    answer = fal_client.run(
        "fal-ai/lcm-sd15-i2i",
        arguments={
            "prompt": prompt,
            "image_url": fal_client.encode_file(picture),
            "strength": 0.6,
            "sync_mode": True,
        },
    )
    out = rest[0] if rest else "painted.jpg"
    with open(out, "wb") as file:
        file.write(base64.b64decode(answer["images"][0]["url"].partition(",")[2]))
    print(f"{out}, seed {answer['seed']}")


if __name__ == "__main__":
    main()
