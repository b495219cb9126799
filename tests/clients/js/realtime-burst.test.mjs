// A hand that never rests, with each released client (protocol spec 13, cases 78 and 81): 60 inputs a second for five seconds.
// One client after the other, so that none of them waits for the work of another one.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gate, engine, merged, tls } from "./harness/gate.mjs";
import { toInternet } from "./harness/network.mjs";
import { Painter, versions, watchAll } from "./harness/realtime.mjs";
import { becomeFal } from "./harness/ways.mjs";

const BURST_MS = 5000;
const FRAMES_PER_S = 60;
const LEAST_SENT = 250;
// Results that come after an input was sent, its own included: of the one in the engine, of one that is read or written
// meanwhile, its own. In a gate that let ten inputs pile up it would be more than ten.
const USUAL_BEHIND = 4;
const MOST_AFTER_THE_LAST = 6;

let gate, page;

before(async () => {
  gate = await Gate.start(merged(engine, { gate: { tls: tls() } }));
  await becomeFal(gate);
  watchAll();
});

after(async () => {
  page?.leave();
  await toInternet();
  await gate?.stop();
});

const median = (numbers) => numbers.toSorted((one, other) => one - other)[Math.floor(numbers.length / 2)];

describe("60 pictures a second for five seconds: the newest is always painted, in order and soon, and the rest is dropped", () => {
  for (const version of versions)
    test(version.name, async () => {
      page = new Painter(version, gate);
      await page.paint();
      const droppedBefore = await gate.metric('falgate_socket_dropped_total{what="superseded"}');
      const sent = await page.burst(FRAMES_PER_S, BURST_MS, { num_inference_steps: 8 });
      const names = sent.map(({ name }) => name);
      await page.result(names.at(-1));
      assert.ok(sent.length >= LEAST_SENT, `${sent.length} inputs`);
      assert.equal(page.socket.sent, 1 + sent.length, "each input is a frame");

      const places = page.results.slice(1).map(({ request_id }) => names.indexOf(request_id));
      assert.ok(places.every((place) => place >= 0), "every result names an input that was sent");
      assert.deepEqual(places, [...new Set(places)].toSorted((one, other) => one - other), "each once, in the order of inputs");
      assert.ok(places.length > 1 && places.length < sent.length, `${places.length} of ${sent.length}`);
      const dropped = (await gate.metric('falgate_socket_dropped_total{what="superseded"}')) - droppedBefore;
      assert.ok(dropped >= sent.length - places.length - MOST_AFTER_THE_LAST, `${dropped} dropped, ${places.length} of ${sent.length} painted`);

      // How many results an input saw come before its own, itself included: no clock, so no machine is too slow.
      const behind = places.map((place, at) => at + 2 - sent[place].after);
      assert.ok(median(behind) <= USUAL_BEHIND, `results behind their inputs: ${behind}`);
      assert.ok(behind.at(-1) <= MOST_AFTER_THE_LAST, `${behind.at(-1)} results after the last input`);
      assert.deepEqual([page.errors, page.sockets.length], [[], 1]);
      page.leave();
    });
});
