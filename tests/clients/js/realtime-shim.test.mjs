// The shim under every released client with sockets, in one process: fal's names lead nowhere here, and no client knows more of
// the gate than its proxy. What the shim itself does and leaves alone is told in ../browser/shim.test.mjs.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { asModule } from "../browser/harness/shim.mjs";
import { Gate, engine, merged } from "./harness/gate.mjs";
import { decoded, sizeOf } from "./harness/pictures.mjs";
import { Painter, inputBytes, versions, watchAll } from "./harness/realtime.mjs";

let gate, shim;
const painters = [];
const dialled = [];

before(async () => {
  gate = await Gate.start(merged(engine, { guard: { tokens: { keys: "memory" } } }), { key: null });
  // Below the shim, so that it is seen what is dialled and not what a client asked for.
  watchAll();
  const Watched = globalThis.WebSocket;
  globalThis.WebSocket = class extends Watched {
    constructor(url) {
      super(url);
      dialled.push(String(url));
    }
  };
  shim = await import(asModule());
  shim.installFalgate({ url: gate.url });
});

after(async () => {
  for (const painter of painters) painter.leave();
  shim?.uninstallFalgate();
  await gate?.stop();
});

describe("with installFalgate", { concurrency: true }, () => {
  for (const version of versions)
    test(version.name, async () => {
      const page = new Painter(version, gate);
      painters.push(page);
      const { images: [image], seed } = await page.paint();
      assert.deepEqual([sizeOf(decoded(image.url)), seed], [[64, 64], 42]);
      if (version.mixes) assert.deepEqual(sizeOf(Buffer.from((await page.paint(inputBytes())).images[0].content)), [64, 64]);
      const { pathname, host } = page.socket.url;
      const path = version.legacy ? "/110602490-lcm-sd15-i2i/ws" : `/fal-ai/lcm-sd15-i2i/${version.aliased ? "ws" : "realtime"}`;
      assert.deepEqual([host, pathname], [new URL(gate.url).host, path]);
      // The end of a socket, and the way back to the gate after it.
      page.socket.socket.close();
      assert.equal((await page.ended()).code, 1000);
      await page.paint();
      assert.deepEqual([page.errors, page.sockets.length], [[], 2]);
      page.leave();
    });
});

test("nothing was dialled but the gate", () => {
  assert.ok(dialled.length >= 2 * versions.length, `${dialled.length} sockets`);
  for (const url of dialled) assert.ok(url.startsWith(gate.url.replace("http", "ws")), url);
});
