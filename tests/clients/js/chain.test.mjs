// One gate in front of another: A holds a key and calls B over TLS that a test authority signed; B has the engine.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { certificates } from "./harness/certificates.mjs";
import { clients, newest } from "./harness/clients.mjs";
import { CANARY, Gate, callers, engine, merged, tls } from "./harness/gate.mjs";
import { falLivesAt, toInternet } from "./harness/network.mjs";
import { dataUri, png } from "./harness/pictures.mjs";

const gates = {};
const targets = { endpoints: ["fal-ai/lcm-sd15-i2i"], storage: true };
const input = (over) => ({ prompt: "x", image_url: dataUri(), seed: 7, num_inference_steps: 1, sync_mode: true, ...over });

before(async () => {
  // B knows the key that A holds, as fal would.
  const inner = merged(merged(engine, callers), { gate: { tls: tls() } });
  gates.inner = await Gate.start(inner, { key: null, env: { CALLER_KEYS: CANARY } });
  const base = `https://localhost:${gates.inner.port}`;
  const upstream = { addresses: { run: base, queue: base, rest: base }, ca_file: certificates().ca };
  [gates.outer, gates.stranger, gates.untrusting] = await Promise.all([
    Gate.start({ upstream, proxy: { targets } }),
    Gate.start({ upstream, proxy: { targets } }, { key: "00000000-0000-4000-8000-000000000000:unknown0unknown0unknown0" }),
    Gate.start({ upstream: { addresses: upstream.addresses }, proxy: { targets } }),
  ]);
  await falLivesAt(1, certificates().caText); // Only the inner gate's own address is dialled; fal itself is nowhere.
});

after(async () => {
  await toInternet();
  await Promise.all(Object.values(gates).map((gate) => gate.stop()));
});

for (const version of clients) {
  describe(version.name, () => {
    const handle = () => version.inBrowser(gates.outer.proxy);

    test("a run goes through both gates and comes back whole", async () => {
      const { data, requestId } = await handle().run(version.app(), { input: input() });
      assert.ok(data.images[0].url.startsWith("data:image/jpeg"));
      assert.equal(data.seed, 7);
      if (!version.old) assert.match(requestId, /^[0-9a-f-]{36}$/);
    });

    test("a File is uploaded to the inner gate, and the run finds it there", async () => {
      const reference = (await handle().run(version.app(), { input: input() })).data.images[0].url;
      const file = new File([png()], "a.png", { type: "image/png" });
      const { data } = await handle().run(version.app(), { input: input({ image_url: file }) });
      assert.equal(data.images[0].url, reference);
    });

    test("the inner gate's 422 is a ValidationError of the outer one's", async () => {
      const error = await handle().failed(version.app(), { input: input({ strength: 2 }) });
      assert.ok(error instanceof version.ValidationError, `${error.name} ${error.status}`);
      assert.equal(error.getFieldErrors("strength")[0].type, "less_than_equal");
    });

    test("a key that the inner gate does not know is a 401", async () => {
      const error = await version.inBrowser(gates.stranger.proxy).failed(version.app(), { input: input({ image_url: "https://fal.media/x.png" }) });
      assert.equal(error.status, 401);
      assert.equal(error.body.detail, "No user found for Key ID and Secret");
    });
  });
}

test("a URL of a result leads to the inner gate and loads", async () => {
  const { data } = await newest.inBrowser(gates.outer.proxy).run(newest.app(), { input: input({ sync_mode: false }) });
  const answer = await fetch(data.images[0].url);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("content-type"), "image/jpeg");
  await answer.arrayBuffer();
});

test("a certificate that nobody named is not trusted", async () => {
  const error = await clients.at(-1).inBrowser(gates.untrusting.proxy).failed(clients.at(-1).app(), { input: { prompt: "x" } });
  assert.equal(error.status, 502);
  assert.equal(error.body.detail, error.body.message);
});
