// Everything that can go wrong with the gate's own page, and the plain sentence that it has for each. After each the page goes on.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gate, merged } from "../js/harness/gate.mjs";
import { Browser } from "./harness/browser.mjs";
import { DESK, another, drawWith, firstPicture, look, settings, withPage } from "./harness/playground.mjs";
import { source } from "./harness/shim.mjs";
import { Wire } from "./harness/wire.mjs";

const BROKEN = /WebSocket connection to .* failed/;

let gate;
before(async () => {
  gate = await Gate.start(settings, { key: null });
});
after(() => gate?.stop());

// Tests one of the page's sentences, by its name in words.js.
const tested = new Set();
function fault(kind, what, run) {
  tested.add(kind);
  test(`${kind}: ${what}`, run);
}

const says = (view, sentence) => view.until((sentence) => document.getElementById("notice-words").textContent.includes(sentence), sentence);
const isSilent = (view) => view.until(() => document.getElementById("notice").hidden);

// A page that is set up by `prepare` before it is opened.
async function withPrepared(prepare, use, url = gate.url) {
  const browser = await Browser.start(DESK);
  try {
    const view = await browser.open("about:blank");
    await prepare(view.page);
    await view.page.goto(url);
    await use(view, view.page);
  } finally {
    await browser.close();
  }
}

const token = "/api/fal/token*";
const json = (status, body, headers = {}) => ({ status, headers, contentType: "application/json", body: JSON.stringify(body) });

describe("before there is a socket", () => {
  // What the page says while the gate's answers to some paths are others.
  const said = (replaced, sentence) =>
    withPrepared(
      async (page) => {
        for (const [path, answer] of Object.entries(replaced)) {
          await page.route(`**${path}`, (route) => (answer === "broken" ? route.abort() : route.fulfill(answer)));
        }
      },
      async (view, page) => {
        await says(view, sentence);
        await view.until(() => document.getElementById("state-word").textContent === "not connected");
        await page.unrouteAll();
        await firstPicture(view);
        await isSilent(view);
        view.assertQuiet(/Failed to load resource/);
      },
    );
  const ill = (detail) => ({ [token]: json(503, {}), "/readyz": json(503, { detail }) });

  fault("denied", "no token", () => said({ [token]: json(403, { detail: "no" }) }, "gives this page no token"));
  fault("untokened", "no tokens at all", () => said({ [token]: json(404, { detail: "no" }) }, "gives out no tokens"));
  fault("limited", "too many tokens", () =>
    said({ [token]: json(429, { detail: "slow down" }, { "retry-after": "2" }) }, "more than the gate allows for now"));
  fault("unreachable", "a gate that does not answer", () => said({ [token]: "broken" }, "The gate does not answer."));
  fault("loading", "a model that loads", () => said(ill("the engine is loading: unet"), "The model is still loading (unet)."));
  fault("drain", "a gate that drains", () => said(ill("the gate is shutting down"), "shutting down or restarting"));
  fault("failed", "an engine that failed", () => said(ill("the engine has failed"), "engine of this gate has failed"));
  fault("odd", "an answer that nobody knows", () => said({ [token]: json(418, {}) }, "answered something unexpected (status 418)"));

  fault("offline", "with the drawing kept for later", () =>
    withPage(DESK, gate.url, async (view, page) => {
      await firstPicture(view);
      await page.context().setOffline(true);
      await page.evaluate(() => dispatchEvent(new Event("pagehide")));
      const before = await page.evaluate(look);
      await drawWith(page, [0.1, 0.1], [0.9, 0.9]);
      await says(view, "You are offline.");
      await page.context().setOffline(false);
      await another(view, before);
      view.assertQuiet(/ERR_INTERNET_DISCONNECTED/);
    }));

  fault("expired", "a token that is not taken, with a button for people who do not want to wait", () =>
    withPrepared(
      async (page) => {
        // So that the page's own tries are far apart.
        await page.addInitScript(() => (Math.random = () => 1));
        await page.route(`**${token}`, (route) => route.fulfill(json(200, "not.a.token")));
      },
      async (view, page) => {
        await view.until(() => /does not take the token.* Next try in [48] s/.test(document.getElementById("notice-words").textContent));
        await page.unrouteAll();
        await page.getByText("Try now").click();
        await firstPicture(view);
        view.assertQuiet();
      },
    ));
});

describe("on the way", () => {
  async function withWire(use) {
    const wire = await Wire.start(gate.port);
    try {
      await use(wire);
    } finally {
      await wire.close();
    }
  }

  fault("refused", "a handshake that is refused by something", () =>
    withWire(async (wire) => {
      wire.refuses = true;
      await withPage(DESK, wire.url, async (view) => {
        await says(view, "The gate refused the socket of this page.");
        wire.refuses = false;
        await firstPicture(view);
        await isSilent(view);
        view.assertQuiet(BROKEN);
      });
    }));

  fault("lost", "a connection that breaks", () =>
    withWire((wire) =>
      withPage(DESK, wire.url, async (view, page) => {
        await firstPicture(view);
        const before = await page.evaluate(look);
        // The page may be back within half a second: it is kept away until it has been read.
        wire.refuses = true;
        wire.cut();
        await says(view, "The connection broke off.");
        wire.refuses = false;
        await drawWith(page, [0.1, 0.1], [0.9, 0.9]);
        await another(view, before);
        await isSilent(view);
        view.assertQuiet(BROKEN, /ERR_CONNECTION_RESET/);
      })));
});

describe("on a socket", () => {
  // The page with a gate that answers pictures as `answer` says until the page has told people `sentence`; then it is itself
  // again, and what was held back comes. `answer` is handed the page's side and the gate's answer.
  async function said(answer, sentence, { again = false } = {}) {
    let good = false;
    const held = [];
    const meddle = (page) => {
      const real = page.connectToServer();
      page.onMessage((message) => real.send(message));
      real.onMessage((message) => {
        // The first picture may be text: a page that is fast asks before the gate has offered bare ones.
        const isPicture = typeof message !== "string" || message.startsWith('{"images"');
        if (good || !isPicture) page.send(message);
        else answer(page, () => held.push(() => page.send(message)));
      });
    };
    await withPrepared(
      (page) => page.routeWebSocket(/\/realtime\?/, meddle),
      async (view, page) => {
        await says(view, sentence);
        good = true;
        for (const send of held) send();
        if (again) await drawWith(page, [0.1, 0.1], [0.9, 0.9]);
        await firstPicture(view);
        await isSilent(view);
        view.assertQuiet();
      },
    );
  }
  const refusal = (error, reason) => JSON.stringify({ type: "x-fal-error", error, reason });

  fault("busy", "an engine that has no room", () =>
    said((page) => page.send(refusal("UNAVAILABLE", "the queue is full at 2 jobs")), "The gate cannot paint right now: the queue is full at 2 jobs."));
  fault("limited", "too many pictures", () => said((page) => page.send(refusal("RATE_LIMITED", "no")), "more than the gate allows for now"));
  fault("odd", "a frame that nobody can read", () =>
    said((page) => page.send("<html>"), "The gate answered something unexpected (a frame that is no JSON).", { again: true }));
  fault("slow", "a picture that takes long", () => said((_, hold) => hold(), "A model on a processor takes its time."));
  fault("full", "a gate whose memory is full of other people's drawings", () =>
    said((page) => {
      page.send(refusal("RATE_LIMITED", "too many large messages are under way, try again"));
      page.close({ code: 1013 });
    }, "The gate has more to keep in mind than it can hold right now."));
  for (const code of [1001, 1012]) fault("drain", `a gate that closes with ${code}`, () => said((page) => page.close({ code }), "shutting down or restarting"));

  fault("rejected", "settings that the gate does not take, however often they are sent", () =>
    withPage(DESK, gate.url, async (view, page) => {
      await firstPicture(view);
      const before = await page.evaluate(look);
      const [socket] = view.sockets;
      // Longer than the field lets people write, and than the gate keeps.
      await page.getByLabel("Prompt").evaluate((field) => {
        field.value = "a lighthouse ".repeat(2000);
        field.dispatchEvent(new Event("input", { bubbles: true }));
      });
      await says(view, "The gate cannot paint this: ");
      await view.until(() => /Settings have at most \d+ bytes/.test(document.getElementById("notice-words").textContent));
      // The gate still holds the settings of before. A picture painted by them would be a lie.
      await page.evaluate(() => {
        window.shown = 0;
        new MutationObserver(() => window.shown++).observe(document.getElementById("picture"), { childList: true });
      });
      const told = socket.texts;
      await drawWith(page, [0.1, 0.1], [0.9, 0.9]);
      await Gate.until(() => socket.texts > told, "the settings sent again", 30_000);
      assert.ok(await page.locator("#notice").isVisible());
      await page.getByLabel("Prompt").fill("a green hill");
      await another(view, before);
      await isSilent(view);
      assert.equal(await page.evaluate(() => window.shown), 1, "only the picture by the settings that were taken");
      assert.equal(view.sockets.length, 1);
      view.assertQuiet();
    }));

  fault("queued", "somebody else's turn", async () => {
    const patient = await Gate.start(
      merged(settings, {
        guard: { visitors: { enabled: true, keys: "memory" } },
        host: { waiting_room: { enabled: true, places: 1, idle_s: 8 } },
      }),
      { key: null },
    );
    try {
      await withPage(DESK, patient.url, async (first, page) => {
        await firstPicture(first);
        // Whoever goes on drawing keeps the place.
        await page.evaluate(() => setInterval(() => document.getElementById("wish").dispatchEvent(new Event("input")), 200));
        await withPage(DESK, patient.url, async (second) => {
          await says(second, "All places are taken. You are next, and it takes about");
          await page.close();
          await firstPicture(second);
          await isSilent(second);
          second.assertQuiet();
        });
      });
    } finally {
      await patient.stop();
    }
  });
});

test("every sentence that the page has is said above", () => {
  const known = [...source("words.js").matchAll(/^ {2}(\w+): \(/gm)].map(([, kind]) => kind);
  assert.ok(known.length > 10);
  assert.deepEqual([...tested].sort(), known.sort());
});
