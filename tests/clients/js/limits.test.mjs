// What the clients make of a refusal by the gate's own limits.

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { clients } from "./harness/clients.mjs";
import { FakeFal } from "./harness/fake-fal.mjs";
import { Gate, merged } from "./harness/gate.mjs";

const ECHO = { proxy: { targets: { endpoints: ["fal-ai/echo"] } } };
const rule = (amount, per_ms) => ({ limits: { rule: [{ name: "calls", of: "requests", by: "all", amount, per_ms }] } });
const input = { prompt: "x" };
const gates = {};
let fal;

before(async () => {
  fal = await FakeFal.start();
  const settings = merged(ECHO, { upstream: fal.upstream });
  [gates.once, gates.slow] = await Promise.all([
    Gate.start(merged(settings, rule(clients.length, 86_400_000))),
    Gate.start(merged(settings, rule(1, 1000))),
  ]);
});

beforeEach(() => fal.reset());

after(async () => {
  await Promise.all(Object.values(gates).map((gate) => gate.stop()));
  await fal?.stop();
});

describe("a limit of the gate", () => {
  test("is an error of status 429 with the gate's sentence, and what is refused reaches nobody and takes nothing", async () => {
    for (const version of clients) {
      const { data } = await version.inBrowser(gates.once.proxy).run(version.app("echo"), { input });
      assert.deepEqual(data.echo, input, version.name);
    }
    assert.equal(fal.calls.length, clients.length);
    for (const patient of [false, true]) {
      const some = clients.filter(({ attempts }) => attempts > 1 === patient);
      const failing = async (version) => {
        const error = await version.inBrowser(gates.once.proxy).failed(version.app("echo"), { input });
        assert.ok(error instanceof version.ApiError, version.name);
        assert.equal(error.status, 429);
        assert.match(error.body.detail, /^Rate limit exceeded: too many requests/);
        assert.equal(error.body.detail, error.body.message);
      };
      // Old ones keep their settings in a global: one after the other.
      if (patient) await Promise.all(some.map(failing));
      else for (const version of some) await failing(version);
    }
    assert.equal(fal.calls.length, clients.length);
  });

  for (const version of clients.filter(({ attempts }) => attempts > 1)) {
    test(`is waited for by ${version.name}, which repeats and is let through`, async () => {
      const run = () => version.inBrowser(gates.slow.proxy).run(version.app("echo"), { input });
      await run();
      const { data } = await run();
      assert.deepEqual(data.echo, input);
      assert.equal(fal.calls.length, 2, "what was refused never reached fal");
    });
  }
});
