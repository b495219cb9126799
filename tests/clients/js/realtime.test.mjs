// Sockets to the engine, opened by each released client (protocol spec 13, cases 64 to 69, 71, 73, 76, 77, 79 to 82, 88).

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { CALLER_KEY, Gate, engine, merged, tls } from "./harness/gate.mjs";
import { toInternet } from "./harness/network.mjs";
import { decoded, sizeOf } from "./harness/pictures.mjs";
import { Painter, byName, frames, input, inputBytes, versions, watchAll } from "./harness/realtime.mjs";
import { becomeFal } from "./harness/ways.mjs";

const { decode } = createRequire(import.meta.url)("@msgpack/msgpack");
// An app that this gate gives tokens for, too.
const ANOTHER = "fal-ai/another-app";

let gate;
const painters = [];

before(async () => {
  gate = await Gate.start(merged(engine, {
    gate: { tls: tls() },
    guard: { tokens: { keys: "memory", anonymous_sockets: true } },
    route: [...engine.route, { endpoint: ANOTHER, to: "engine" }],
  }));
  await becomeFal(gate);
  watchAll();
});

after(async () => {
  for (const painter of painters) painter.leave();
  await toInternet();
  await gate?.stop();
});

const painter = (version, options) => {
  painters.push(new Painter(version, gate, options));
  return painters.at(-1);
};

// A good token for an app, as the gate gives it.
const tokenFor = async (app) => (await fetch(`${gate.url}/api/fal/token?app=${encodeURIComponent(app)}`)).json();

const pathOf = (version) => (version.legacy ? "/ws" : `/fal-ai/lcm-sd15-i2i/${version.aliased ? "ws" : "realtime"}`);

describe("sockets to the engine", { concurrency: true }, () => {
  for (const version of versions)
    describe(version.name, { concurrency: false }, () => {
      test("the first picture comes in the client's own dialect, under the name of its input", async () => {
        const page = painter(version);
        const result = await page.paint();
        const [image] = result.images;
        assert.deepEqual(sizeOf(decoded(image.url)), [64, 64]);
        assert.equal(result.seed, 42);
        assert.ok(result.timings.inference > 0 && result.timings.inference < 60);
        assert.equal(page.socket.url.pathname, pathOf(version));
        assert.deepEqual(page.socket.kinds, [version.dialect]);
        assert.deepEqual([page.minted, page.errors], [1, []]);
        page.leave();
      });

      if (version.mixes)
        test("bytes in are bytes out, and what is plain again is a URL again", async () => {
          const page = painter(version);
          const bytes = await page.paint(inputBytes());
          assert.deepEqual(sizeOf(Buffer.from(bytes.images[0].content)), [64, 64]);
          const plain = await page.paint();
          assert.ok(plain.images[0].url.startsWith("data:image/"));
          assert.deepEqual(page.socket.kinds, ["binary", version.dialect]);
          page.leave();
        });

      test("of a burst before the socket is open the last is answered, and only that where the client keeps no more", async () => {
        const page = painter(version);
        const names = Array.from({ length: 5 }, () => page.send());
        await page.result(names.at(-1));
        await page.paint();
        if (version.hoards) assert.equal(page.socket.sent, 6, "it keeps all of them");
        else assert.deepEqual([page.socket.sent, page.results.length], [2, 2]);
        assert.equal(page.sockets.length, 1);
        page.leave();
      });

      test("an input that is wrong is told once, and the same socket paints the next one", async () => {
        const page = painter(version);
        await page.paint();
        const { prompt, ...promptless } = input();
        page.send(promptless);
        if (version.tells) {
          const error = await page.until(() => page.errors[0], "an error");
          assert.equal(error.status, 400);
          assert.match(error.message, /VALIDATION_ERROR: .*prompt/);
        } else {
          await page.until(() => page.results.some(({ type }) => type === "x-fal-error"), "the error among the results");
        }
        await page.paint();
        assert.equal(page.errors.length, version.tells ? 1 : 0);
        assert.equal(page.sockets.length, 1);
        page.leave();
      });

      test("a frame of garbage is told in text, and the socket lives", async () => {
        const page = painter(version);
        await page.paint();
        page.socket.socket.send(Uint8Array.of(0xc1, 0xff, 0x00));
        const { text } = await page.until(() => page.socket.texts.find(({ text }) => text.includes("x-fal-error")), "the error");
        assert.ok(JSON.parse(text).reason.length > 0);
        await page.paint();
        assert.equal(page.sockets.length, 1);
        page.leave();
      });

      // Of those that recover later, js/realtime-tokens tells.
      if (version.recovers)
        for (const [what, token] of Object.entries({ "that opens nothing": () => "no.token.atall", "for another app": () => tokenFor(ANOTHER) }))
          test(`a token ${what} is told on the socket, and the next input brings a good one`, async () => {
            const page = painter(version);
            page.swapTokens.push(await token());
            page.send();
            const first = await page.until(() => page.sockets[0], "a socket");
            // That words and close come in one write, so that no late close ends the client's next socket, is case 88b of the gate's own tests.
            assert.equal((await page.ended(first)).code, 1000);
            assert.deepEqual(first.texts.map(({ text }) => JSON.parse(text)), [{ status: "error", error: "Unauthorized" }]);
            await page.paint();
            assert.deepEqual([page.minted, page.errors, page.sockets.length], [2, [], 2]);
            page.leave();
          });

      if (version.closes)
        test("a page that closes hears of no error, and paints again when it wants to", async () => {
          const page = painter(version);
          await page.paint();
          page.close();
          const { code } = await page.ended();
          assert.equal(code, 1000);
          await page.paint();
          assert.deepEqual([page.errors, page.sockets.length], [[], 2]);
          page.leave();
        });

      if (!version.closes)
        test("a page that closes keeps its socket, because this version's `close()` does nothing", async () => {
          const page = painter(version);
          await page.paint();
          page.close();
          await page.paint();
          assert.deepEqual([page.errors, page.sockets.length], [[], 1]);
          page.leave();
        });

      if (version.codes)
        for (const path of ["/realtime", "/ws"])
          test(`a page's own encoding is served on ${path}`, async () => {
            const page = painter(version, { path, encodeMessage: (message) => JSON.stringify(message) });
            const result = await page.paint();
            assert.ok(result.images[0].url);
            assert.equal(page.socket.url.pathname, `/fal-ai/lcm-sd15-i2i${path}`);
            assert.deepEqual(page.socket.kinds, ["text"]);
            page.leave();
          });

      if (version.provides)
        test("a tokenProvider asks the gate with one GET", async () => {
          const asked = [];
          const tokenProvider = async (app) => {
            asked.push(app);
            return tokenFor(app);
          };
          const page = painter(version, { tokenProvider });
          await page.paint();
          assert.deepEqual([asked, page.minted, page.errors], [["fal-ai/lcm-sd15-i2i/realtime"], 0, []]);
          page.leave();
        });

      if (!version.legacy || version.from === "serverless-client-0-7")
        test("as many inputs wait as the page wishes", async () => {
          const page = painter(version, { maxBuffering: 60 });
          await page.paint();
          assert.equal(page.socket.url.searchParams.get("max_buffering"), "60");
          const sent = Array.from({ length: 12 }, () => page.send());
          await page.result(sent.at(-1));
          assert.deepEqual(page.results.slice(1).map(({ request_id }) => request_id), sent, "none of them is dropped");
          page.leave();
        });

      if (version.legacy)
        test("the `host` option leads all to the gate: tokens to its REST name, sockets to the app's", async () => {
          const page = painter(version, { settings: { host: "gateway.gate.test", credentials: CALLER_KEY } });
          await page.paint();
          assert.equal(page.socket.url.host, "110602490-lcm-sd15-i2i.gateway.gate.test");
          assert.deepEqual([page.minted, page.errors], [version.shares ? 0 : 1, []]);
          page.leave();
        });
    });

  describe("a page made for the first gateway", { concurrency: false }, () => {
    test("it shows no token, sends text, and draws what comes", async () => {
      const socket = new WebSocket("wss://110602490-lcm-sd15-i2i.gateway.alpha.fal.ai/ws");
      const first = new Promise((resolve, reject) => {
        socket.onmessage = ({ data }) => resolve(data);
        socket.onclose = ({ code }) => reject(new Error(`closed with ${code}`));
      });
      await new Promise((resolve) => (socket.onopen = resolve));
      socket.send(JSON.stringify(input({ seed: 7, strength: 0.5 })));
      const result = JSON.parse(await first);
      assert.ok(result.images[0].url.startsWith("data:image/jpeg;base64,"));
      assert.ok(Number.isFinite(result.timings.inference));
      socket.onclose = null;
      socket.close();
    });
  });
});

test("what is no result came as text to every client", async () => {
  assert.ok(byName("fal-client-1-10") && frames.length > versions.length);
  for (const { kind, data } of frames) {
    if (kind === "text") continue;
    const said = decode(new Uint8Array(data instanceof Blob ? await data.arrayBuffer() : data));
    assert.ok(Array.isArray(said.images), `a binary frame without pictures: ${JSON.stringify(said).slice(0, 200)}`);
  }
});
