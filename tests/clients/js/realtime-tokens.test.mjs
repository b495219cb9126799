// Tokens that end, sockets that outlive them, and hands that rest (protocol spec 13, cases 70, 72, 74, 75).
//
// Clients believe that a token lives for 120 s and act at 108 s. Here their long timers run 30 times as fast, and tokens live
// for 4 s; nothing else is hurried.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gate, engine, merged, tls } from "./harness/gate.mjs";
import { toInternet } from "./harness/network.mjs";
import { Painter, versions, wait, watchAll } from "./harness/realtime.mjs";
import { becomeFal } from "./harness/ways.mjs";

const TIMES_AS_FAST = 30;
const LIFE_S = 4;
// The shortest time that a gate lets a hand rest.
const IDLE_S = 30;
const LONG_MS = 100_000;
// When clients end their tokens.
const TIMER_MS = 108_000 / TIMES_AS_FAST;

const plainTimeout = globalThis.setTimeout;
let gate;
const painters = [];
const painter = (version) => {
  painters.push(new Painter(version, gate));
  return painters.at(-1);
};

before(async () => {
  const life = { least_s: 1, most_s: LIFE_S, default_s: LIFE_S };
  gate = await Gate.start(merged(engine, {
    gate: { tls: tls() },
    guard: { tokens: { keys: "memory", leeway_s: 0, life } },
    host: { realtime: { idle_s: IDLE_S } },
  }));
  await becomeFal(gate);
  watchAll();
  globalThis.setTimeout = (run, ms, ...more) => plainTimeout(run, ms >= LONG_MS ? ms / TIMES_AS_FAST : ms, ...more);
});

after(async () => {
  globalThis.setTimeout = plainTimeout;
  for (const painter of painters) painter.leave();
  await toInternet();
  await gate?.stop();
});

describe("tokens that end", { concurrency: true }, () => {
  for (const version of versions)
    describe(version.name, { concurrency: false }, () => {
      let resting, restingSince;

      before(async () => {
        // Serverless clients of the first days ask for one token at a time.
        resting = painter(version);
        await resting.paint();
        restingSince = performance.now();
      });

      test("a socket outlives its token; one that comes back after that gets a new token and nobody hears of it", async () => {
        const page = painter(version);
        await page.paint();
        await wait((LIFE_S + 1.5) * 1000);
        await page.paint();
        assert.equal(page.sockets.length, 1, "the socket was open all the time");
        assert.equal(page.minted > 1, Boolean(version.refreshes), `${page.minted} tokens`);
        page.socket.socket.close();
        assert.equal((await page.ended()).code, 1000);
        await wait((LIFE_S + 0.5) * 1000);
        await page.keepPainting();
        assert.deepEqual(page.errors, []);
        // A client that keeps its token over a close shows the dead one at least once; it is told so in text and closed in good order.
        const dead = page.sockets.slice(1, -1);
        if (version.dropsTokens || version.shares) assert.equal(dead.length, 0, "it forgot its token in time");
        else assert.ok(dead.length >= 1, "the dead token was never shown");
        for (const { texts, closed } of dead) {
          assert.deepEqual(texts.map(({ text }) => JSON.parse(text).error), ["Unauthorized"]);
          assert.equal(closed.code, 1000);
        }
        page.leave();
      });

      test("a hand that rests finds its socket closed without a word, and paints on when it comes back", async () => {
        const { code, at } = await resting.ended(resting.sockets[0]);
        assert.equal(code, 1000);
        assert.ok(at - restingSince > (IDLE_S - 2) * 1000, "not before its time");
        const said = resting.sockets[0].texts.map(({ text }) => JSON.parse(text)).filter(({ type }) => type === "x-fal-error");
        assert.deepEqual(said.map(({ error }) => error), ["TIMEOUT"]);
        // Versions before 0.8.6 show the word, the newer ones do not.
        assert.equal(resting.errors.length, !version.hushes && version.tells ? 1 : 0);
        await resting.keepPainting();
        assert.equal(resting.errors.length, !version.hushes && version.tells ? 1 : 0);
        resting.leave();
      });

      // The others recover with their next input: js/realtime.
      if (!version.recovers)
        test("a token that opens nothing is shown until the timer that ends it, and then another one paints", async () => {
          // Until the token that all connections share has ended, too.
          await wait(TIMER_MS + 500);
          const page = painter(version);
          page.swapTokens.push("no.token.atall");
          await page.keepPainting();
          assert.deepEqual([page.minted, page.errors], [2, []]);
          const bad = page.sockets.slice(0, -1);
          assert.ok(bad.length >= 1, "the bad token was never shown");
          for (const { url, texts, closed } of bad) {
            assert.equal(url.searchParams.get("fal_jwt_token"), "no.token.atall");
            assert.deepEqual(texts.map(({ text }) => JSON.parse(text).error), ["Unauthorized"]);
            assert.equal(closed.code, 1000);
          }
          page.leave();
        });
    });
});
