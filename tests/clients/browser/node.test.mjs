// The shim in Node, with fal's client: programs that draw without a browser.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { Gate, engine } from "../js/harness/gate.mjs";
import { png } from "../js/harness/pictures.mjs";
import { asModule } from "./harness/shim.mjs";

const run = promisify(execFile);
let gate;

before(async () => {
  gate = await Gate.start({ ...engine, guard: { tokens: { keys: "memory" } } }, { key: null });
});
after(() => gate?.stop());

test("fal's client draws in Node by way of the shim", async () => {
  const program = `
    import { fal } from "fal-client-1-10";
    import { falgateTokenProvider, installFalgate } from ${JSON.stringify(asModule())};
    const url = ${JSON.stringify(gate.url)};
    installFalgate({ url });
    const connection = fal.realtime.connect("fal-ai/lcm-sd15-i2i", {
      tokenProvider: falgateTokenProvider(url),
      onError: (error) => { throw error; },
      onResult: ({ images, seed }) => {
        console.log(JSON.stringify({ seed, bytes: images[0].content.length, type: images[0].content_type }));
        connection.close();
      },
    });
    connection.send({ prompt: "a ball", seed: 7, image_bytes: Buffer.from("${png(64).toString("base64")}", "base64") });`;
  // Node has a WebSocket of its own from 22 on, and behind a flag before.
  const flags = typeof WebSocket === "function" ? [] : ["--experimental-websocket"];
  const { stdout } = await run(process.execPath, [...flags, "--input-type=module", "--eval", program], { cwd: import.meta.dirname, timeout: 60_000 });
  const { seed, bytes, type } = JSON.parse(stdout);
  assert.deepEqual([seed, type], [7, "image/jpeg"]);
  assert.ok(bytes > 500, `${bytes} bytes`);
});
