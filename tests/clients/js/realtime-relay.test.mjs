// Sockets that the gate relays: a page at gate A, the engine at gate B, over TLS that a test authority signed. What every
// client sees is what it sees at the engine itself (protocol spec 13, cases 64 to 67, 70, 73, 76, 78, 81).

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { certificates } from "./harness/certificates.mjs";
import { CANARY, Gate, callers, engine, merged, tls } from "./harness/gate.mjs";
import { toInternet } from "./harness/network.mjs";
import { decoded, sizeOf } from "./harness/pictures.mjs";
import { Painter, byName, input, inputBytes, versions, watchAll } from "./harness/realtime.mjs";
import { becomeFal } from "./harness/ways.mjs";

const gates = {};
const painters = [];
const painter = (version, options) => {
  painters.push(new Painter(version, gates.outer, options));
  return painters.at(-1);
};

before(async () => {
  // B knows the key that A holds, as fal would.
  const inner = merged(merged(engine, callers), { gate: { tls: tls() } });
  gates.inner = await Gate.start(inner, { key: null, env: { CALLER_KEYS: CANARY } });
  const base = `https://localhost:${gates.inner.port}`;
  gates.outer = await Gate.start({
    gate: { tls: tls() },
    upstream: { addresses: { run: base, queue: base, rest: base }, ca_file: certificates().ca },
    proxy: { targets: { endpoints: ["fal-ai/lcm-sd15-i2i", "fal-ai/nowhere"] } },
  });
  await becomeFal(gates.outer);
  watchAll();
});

after(async () => {
  for (const painter of painters) painter.leave();
  await toInternet();
  // The outer gate first: it holds sockets at the inner one.
  await gates.outer?.stop();
  await gates.inner?.stop();
});

describe("sockets through two gates", { concurrency: true }, () => {
  for (const version of versions)
    describe(version.name, { concurrency: false }, () => {
      test("a picture comes back in the client's own dialect", async () => {
        const page = painter(version);
        const { images: [image], seed } = await page.paint();
        assert.deepEqual(sizeOf(decoded(image.url)), [64, 64]);
        assert.equal(seed, 42);
        assert.deepEqual([page.socket.kinds, page.minted, page.errors], [[version.dialect], 1, []]);
        page.leave();
      });

      if (version.mixes)
        test("bytes go through as bytes", async () => {
          const page = painter(version);
          const { images: [image] } = await page.paint(inputBytes());
          assert.deepEqual(sizeOf(Buffer.from(image.content)), [64, 64]);
          page.leave();
        });

      test("a fast hand has its newest input painted, in order", async () => {
        const page = painter(version);
        await page.paint();
        const sent = (await page.burst(60, 1000, { num_inference_steps: 8 })).map(({ name }) => name);
        await page.result(sent.at(-1));
        assert.equal(page.socket.sent, 1 + sent.length);
        const places = page.results.slice(1).map(({ request_id }) => sent.indexOf(request_id));
        assert.ok(places.every((place) => place >= 0));
        assert.deepEqual(places, [...new Set(places)].toSorted((one, other) => one - other));
        assert.deepEqual([page.errors, page.sockets.length], [[], 1]);
        page.leave();
      });

      test("an input that is wrong is told once, and the same socket paints the next one", async () => {
        const page = painter(version);
        const { prompt, ...promptless } = input();
        await page.paint();
        page.send(promptless);
        if (version.tells) assert.match((await page.until(() => page.errors[0], "an error")).message, /prompt/);
        else await page.until(() => page.results.some(({ type }) => type === "x-fal-error"), "the error among the results");
        await page.paint();
        assert.deepEqual([page.errors.length, page.sockets.length], [version.tells ? 1 : 0, 1]);
        page.leave();
      });

      if (version.recovers)
        test("a token that opens nothing ends here, and the next input brings a good one", async () => {
          const page = painter(version);
          page.swapTokens.push("no.token.atall");
          page.send();
          const first = await page.until(() => page.sockets[0], "a socket");
          assert.equal((await page.ended(first)).code, 1000);
          await page.paint();
          assert.deepEqual([page.minted, page.errors, page.sockets.length], [2, [], 2]);
          page.leave();
        });

      if (version.closes)
        test("a page that closes hears of no error", async () => {
          const page = painter(version);
          await page.paint();
          page.close();
          assert.equal((await page.ended()).code, 1000);
          assert.deepEqual(page.errors, []);
        });
    });
});

test("an app that the upstream does not have is told on the socket, once, and closed well", async () => {
  const page = painter(byName("fal-client-1-10"), { app: "fal-ai/nowhere" });
  page.send();
  const error = await page.until(() => page.errors[0], "an error");
  assert.equal(error.status, 400);
  assert.equal((await page.ended()).code, 1000);
  assert.equal(page.errors.length, 1);
});
