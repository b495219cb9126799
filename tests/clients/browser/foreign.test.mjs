// Pages on one origin, the gate on another: unmodified clients with the shim, in a real browser.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gate, engine, merged } from "../js/harness/gate.mjs";
import { Browser } from "./harness/browser.mjs";
import { bundled } from "./harness/bundle.mjs";
import { Site } from "./harness/site.mjs";

const SIDE = 256;
const DEPRECATED = /Using the default token provider is deprecated/;

let browser, gate, site, stranger;

before(async () => {
  [site, stranger] = [await Site.start(), await Site.start()];
  gate = await Gate.start(
    merged(engine, {
      guard: { origins: { allow: [site.url] }, tokens: { keys: "memory", anonymous_sockets: true } },
    }),
    { key: null },
  );
  browser = await Browser.start();
});

after(async () => {
  await browser?.close();
  await gate?.stop();
  for (const one of [site, stranger]) await one?.close();
});

// A page as an application ships it: the shim by one of its ways, and a script with the client in it.
async function published(on, entry, { shim = `<script src="${gate.url}/falgate.classic.js"></script>`, provided = false } = {}) {
  on.files["/page.js"] = await bundled(`pages/${entry}`, { known: { GATE: JSON.stringify(gate.url), PROVIDED: String(provided) } });
  on.files["/"] = `<!doctype html><meta charset="utf-8"><title>${entry}</title>
    <canvas id="board" width="${SIDE}" height="${SIDE}"></canvas><canvas id="picture" width="${SIDE}" height="${SIDE}"></canvas>
    ${shim}<script type="module" src="/page.js"></script>`;
  return browser.open(on.url);
}

const stop = (view) => view.page.evaluate(() => (window.stopped = true));

// The page shows different pictures of the right size, over sockets to the gate and to nowhere else.
async function assertDraws(view, path) {
  await view.until((least) => window.seen?.different.length >= least, 5, 60_000);
  const seen = await view.page.evaluate(() => window.seen);
  assert.deepEqual([seen.errors, seen.width], [[], SIDE]);
  assert.ok(view.sockets.length >= 1);
  for (const socket of view.sockets) assert.ok(socket.url.startsWith(`${gate.url.replace("http", "ws")}${path}`), socket.url);
}

describe("pages of another origin with the shim", () => {
  test("fal's client 1.10.1 draws, with tokens through the proxy", async () => {
    const view = await published(site, "client-1-10.js");
    await assertDraws(view, "/fal-ai/lcm-sd15-i2i/realtime?fal_jwt_token=");
    assert.equal(view.requests.filter((one) => one === `POST ${gate.proxy}`).length, 1, view.requests.join("\n"));
    await view.picture("foreign-client-1.10");
    await stop(view);
    await view.page.evaluate(() => window.connection.close());
    await Gate.until(() => view.sockets.every((socket) => socket.closed), "closed sockets");
    assert.deepEqual(await view.page.evaluate(() => window.seen.errors), [], "a deliberate close is no error");
    view.assertQuiet(DEPRECATED);
    await view.page.close();
  });

  test("fal's client 1.10.1 draws, with the shim as a module and its token provider", async () => {
    const shim = `<script type="module">
      import { falgateTokenProvider } from "${gate.url}/falgate.js";
      globalThis.falgate = { tokenProvider: falgateTokenProvider };
    </script>`;
    const view = await published(site, "client-1-10.js", { shim, provided: true });
    await assertDraws(view, "/fal-ai/lcm-sd15-i2i/realtime?fal_jwt_token=");
    assert.ok(view.requests.includes(`GET ${gate.url}/api/fal/token?app=fal-ai%2Flcm-sd15-i2i%2Frealtime`), view.requests.join("\n"));
    view.assertQuiet();
    await view.page.close();
  });

  test("serverless-client 0.15.0 draws, with an app's old number", async () => {
    const view = await published(site, "serverless-0-15.js");
    await assertDraws(view, "/110602490/lcm-sd15-i2i/realtime?fal_jwt_token=");
    view.assertQuiet();
    await view.page.close();
  });

  test("a page of the first days draws, without a client and without a token", async () => {
    const view = await published(site, "plain-socket.js");
    await assertDraws(view, "/110602490-lcm-sd15-i2i/ws");
    assert.ok((await view.page.evaluate(() => window.seen.inference)) > 0);
    view.assertQuiet();
    await view.page.close();
  });
});

describe("pages of an origin that may not call", () => {
  test("get no token and no socket", async () => {
    const before = await gate.metric('engine_jobs_total{outcome="done"}');
    const view = await published(stranger, "client-1-10.js");
    // The client tries to get a token again with every change.
    await Gate.until(() => view.complaints.some((one) => /blocked by CORS policy/.test(one)), "a refused token");
    assert.deepEqual(view.sockets, []);
    const refused = await view.page.evaluate(
      (url) =>
        new Promise((done) => {
          const socket = new WebSocket(url);
          socket.onopen = () => done("open");
          socket.onclose = ({ code }) => done(code);
        }),
      "wss://fal.run/fal-ai/lcm-sd15-i2i/realtime?fal_jwt_token=none",
    );
    assert.equal(refused, 1006);
    assert.match(view.complaints.join("\n"), /WebSocket connection to 'ws:.* failed: .*403/);
    assert.equal(await view.page.evaluate(() => window.seen.pictures), 0);
    assert.equal(await gate.metric('engine_jobs_total{outcome="done"}'), before);
    await view.page.close();
  });
});

describe("sockets that are not fal's", () => {
  test("go where they always went", async () => {
    const view = await published(site, "plain-socket.js");
    const urls = await view.page.evaluate((elsewhere) => {
      const urls = ["wss://fal.run.localhost:1/x", "ws://localhost:1/fal.run", elsewhere].map((url) => new WebSocket(url).url);
      return [...urls, new WebSocket("wss://fal.run/a/b/realtime") instanceof WebSocket, WebSocket.OPEN];
    }, `${site.url.replace("http", "ws")}/chat`);
    assert.deepEqual(urls.slice(0, 3), ["wss://fal.run.localhost:1/x", "ws://localhost:1/fal.run", `${site.url.replace("http", "ws")}/chat`]);
    assert.deepEqual(urls.slice(3), [true, 1]);
    await view.page.close();
  });
});
