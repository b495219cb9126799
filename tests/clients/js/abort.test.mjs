// A caller that leaves stops the work that was done for it.

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { clients, newest } from "./harness/clients.mjs";
import { FakeFal, answers } from "./harness/fake-fal.mjs";
import { Gate, engine, merged } from "./harness/gate.mjs";
import { inTab } from "./harness/network.mjs";
import { dataUri, png } from "./harness/pictures.mjs";

let fal, gate;

before(async () => {
  fal = await FakeFal.start();
  const targets = { endpoints: ["fal-ai/echo"] };
  gate = await Gate.start(merged(engine, { upstream: fal.upstream, proxy: { targets } }));
});

beforeEach(() => fal.reset());

after(async () => {
  await gate?.stop();
  await fal?.stop();
});

// Seconds of work for the miniature model on any machine.
const long = { prompt: "x", image_url: dataUri(png(256)), num_images: 8, num_inference_steps: 12, sync_mode: true };
const cancelled = () => gate.metric('falgate_engine_jobs_total{outcome="cancelled"}');
const stepped = () => gate.metric("falgate_engine_call_rows_count");
const done = () => gate.metric('falgate_engine_jobs_total{outcome="done"}');

// Starts a run, and leaves once `begun` says that it is under way.
async function leave(version, app, input, begun) {
  const tab = new AbortController();
  const handle = version.inBrowser(gate.proxy);
  const ended = version.old
    ? inTab(tab.signal, () => handle.failed(app, { input }))
    : handle.failed(app, { input, abortSignal: tab.signal });
  await begun().finally(() => tab.abort());
  const left = performance.now();
  const error = await ended;
  assert.equal(error.name, "AbortError", `${error.name}: ${error.message}`);
  return left;
}

for (const version of clients) {
  describe(version.name, () => {
    test("leaves while the upstream works: the upstream's connection ends", async () => {
      fal.always(answers.silent());
      const left = await leave(version, version.app("echo"), { prompt: "x" }, () => fal.call());
      const call = await fal.call();
      assert.equal(await call.gone, true);
      assert.ok(performance.now() - left < 500, `after ${performance.now() - left} ms`);
      assert.equal(fal.calls.length, 1, "nothing is asked again for somebody who left");
    });

    test("leaves in the middle of an answer: the upstream's connection ends", async () => {
      fal.always(answers.stalled());
      const left = await leave(version, version.app("echo"), { prompt: "x" }, async () => {
        await fal.call();
        await new Promise((resolve) => setTimeout(resolve, 50)); // The half body travels; there is no sign of its arrival.
      });
      assert.equal(await (await fal.call()).gone, true);
      assert.ok(performance.now() - left < 500);
    });

    test("leaves while the engine works: the job is cancelled", async () => {
      const [stopped, finished, steps] = [await cancelled(), await done(), await stepped()];
      await leave(version, version.app(), long, () => Gate.until(async () => (await stepped()) > steps, "a first step is done", 20_000));
      await Gate.until(async () => (await cancelled()) > stopped, "the engine counts a cancelled job", 10_000);
      assert.equal(await cancelled(), stopped + 1);
      assert.equal(await done(), finished);
    });
  });
}

test("after all of this the gate still draws", async () => {
  const { data } = await newest.inBrowser(gate.proxy).run(newest.app(), { input: { ...long, num_images: 1, num_inference_steps: 1 } });
  assert.ok(data.images[0].url.startsWith("data:image/jpeg"));
});
