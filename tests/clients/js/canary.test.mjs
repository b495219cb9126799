// The key is seen in one place: the authorization header of calls that the upstream gets. Everything that a gate writes
// (both streams at trace level, metrics; `Gate.stop` searches them) and everything that a client is sent is searched.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { clients, newest } from "./harness/clients.mjs";
import { FakeFal, answers } from "./harness/fake-fal.mjs";
import { CALLER_KEY, CANARY, CANARY_ID, CANARY_SECRET, Gate, callers, engine, merged } from "./harness/gate.mjs";
import { watched } from "./harness/network.mjs";
import { dataUri, png } from "./harness/pictures.mjs";

const PROMPT = "canary-prompt-of-a-lighthouse";
let fal, gate, impatient;

before(async () => {
  fal = await FakeFal.start();
  const targets = { endpoints: ["fal-ai/echo"], tokens: true, storage: true };
  const settings = merged(merged(engine, callers), { upstream: fal.upstream, proxy: { targets }, gate: { uploads: "gate" } });
  const short = merged(settings, { upstream: { first_byte_timeout_ms: 300 }, telemetry: { format: "json" }, engine: { enabled: false }, gate: { uploads: "upstream" }, route: [] });
  [gate, impatient] = await Promise.all([Gate.start(settings), Gate.start(short)]);
});

after(async () => {
  await gate?.stop();
  await impatient?.stop();
  await fal?.stop();
});

// Sends one request as it stands, and gives what came back as text.
async function raw(url, init) {
  const answer = await fetch(url, { redirect: "manual", ...init });
  return `${answer.status} ${JSON.stringify([...answer.headers])} ${await answer.text()}`;
}

function holdsNoKey(text, where) {
  for (const part of [CANARY_ID, CANARY_SECRET]) assert.ok(!text.includes(part), `the key in ${where}: ${text.slice(0, 400)}`);
}

test("no client is ever shown the key", async () => {
  const replies = [
    undefined,
    answers.validation(),
    answers.detail(401, "No user found for Key ID and Secret"),
    answers.detail(403, "forbidden"),
    answers.detail(500, "oops"),
    answers.text(500, "<html>oops</html>"),
    answers.gzip({ zipped: "yes" }),
    answers.json({ ok: true }, 200, { "set-cookie": "session=1", "x-odd": "value" }),
    answers.cut(),
  ];
  const { seen } = await watched(async () => {
    for (const version of clients) {
      for (const reply of replies) {
        fal.reset();
        if (reply) fal.next(reply);
        await version.inBrowser(gate.proxy).run(version.app("echo"), { input: { prompt: PROMPT } }).catch(() => {});
      }
      await version.inBrowser(gate.proxy).run(version.app(), { input: { prompt: PROMPT, image_url: dataUri(), num_inference_steps: 1 } });
      await version.inBrowser(gate.proxy).run(version.app(), { input: { prompt: 1 } }).catch(() => {});
    }
  });
  assert.ok(seen.length > 60, `${seen.length} answers`);
  for (const { url, headers, body } of seen) {
    holdsNoKey(JSON.stringify(headers), `the headers of ${url}`);
    holdsNoKey(body, `the body of ${url}`);
    assert.ok(!headers.some(([name]) => name === "set-cookie"), "an upstream's cookie");
  }
});

test("hostile requests are shown no key", async () => {
  fal.reset();
  const json = { "content-type": "application/json" };
  const odd = [
    ...["https://fal.run/fal-ai/echo", "http://fal.run/fal-ai/echo", "https://a:b@fal.run/fal-ai/echo", "https://evil.example/?fal.run", "not a url",
      "https://fal.run:1/x", "https://fal.run/fal-ai%2fecho", "https://fal.run/fal-ai/echo/../../admin", "https://rest.fal.ai/billing", "https://fal.run\\@evil.example/",
    ].map((target) => [gate.proxy, { method: "POST", headers: { ...json, "x-fal-target-url": target }, body: "{}" }]),
    ...["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "PROPFIND"].map((method) => [gate.proxy, { method, headers: { ...json, "x-fal-target-url": "https://fal.run/fal-ai/echo" } }]),
    [gate.proxy, { method: "POST", headers: json, body: "{}" }],
    [gate.proxy, { method: "POST", headers: { "x-fal-target-url": "https://fal.run/fal-ai/echo", "content-type": "text/plain" }, body: "x" }],
    [gate.proxy, { method: "POST", headers: { ...json, "x-fal-target-url": "https://fal.run/fal-ai/echo", authorization: "Key a:b", cookie: "a=b", "x-forwarded-for": "1.2.3.4" }, body: '{"a":' }],
    ...["/", "/metrics", "/debug", "/healthz", "/readyz", "/files/x", "/fal-ai/echo", "/tokens/", "/.env", "/config", "/api/fal/proxy/x"].map((path) => [gate.url + path, {}]),
    ...["/metrics", "/healthz", "/readyz", "/debug", "/"].map((path) => [gate.admin + path, {}]),
  ];
  for (const [url, init] of odd) holdsNoKey(await raw(url, init), `${init.method ?? "GET"} ${url} ${init.headers?.["x-fal-target-url"] ?? ""}`);
  fal.always(answers.silent());
  holdsNoKey(await raw(impatient.proxy, { method: "POST", headers: { ...json, "x-fal-target-url": "https://fal.run/fal-ai/echo" }, body: "{}" }), "a timeout");
});

test("an upstream that sends its caller elsewhere takes the key nowhere", async () => {
  const other = await FakeFal.start();
  try {
    for (const status of [301, 302, 303, 307, 308]) {
      fal.reset();
      fal.next({ status, headers: { location: `${other.origin("run")}/stolen` }, body: "" });
      const headers = { "content-type": "application/json", "x-fal-target-url": "https://fal.run/fal-ai/echo" };
      const answer = await raw(gate.proxy, { method: "POST", headers, body: "{}" });
      holdsNoKey(answer, `a ${status}`);
    }
    assert.equal(other.calls.length, 0);
  } finally {
    await other.stop();
  }
});

test("the upstream gets the gate's key, once, and nothing of the caller's", async () => {
  fal.reset();
  const headers = {
    "content-type": "application/json",
    "x-fal-target-url": "https://fal.run/fal-ai/echo",
    authorization: `Key ${CALLER_KEY}`,
    cookie: "session=caller",
    "x-forwarded-for": "203.0.113.9",
    forwarded: "for=203.0.113.9",
    "x-real-ip": "203.0.113.9",
    "x_fal_key": "underscore",
  };
  assert.match(await raw(gate.proxy, { method: "POST", headers, body: "{}" }), /^200/);
  const call = await fal.call();
  const names = call.rawHeaders.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase());
  assert.equal(names.filter((name) => name === "authorization").length, 1);
  assert.equal(call.headers.authorization, `Key ${CANARY}`);
  const whole = JSON.stringify(call.rawHeaders);
  for (const bit of [CALLER_KEY, "session=caller", "203.0.113.9", "underscore", "x-fal-target-url"]) assert.ok(!whole.includes(bit), bit);
});

test("what a gate writes holds no prompt, no picture, no caller's key and no query", async () => {
  fal.reset();
  await newest.rewriting(gate.url).run(newest.app("echo"), { input: { prompt: PROMPT } });
  const url = new URL("/fal-ai/lcm-sd15-i2i", gate.url);
  url.searchParams.set("fal_jwt_token", "canary-token-in-query");
  await raw(url, { method: "POST", headers: { "content-type": "application/json", authorization: `Key ${CALLER_KEY}` }, body: JSON.stringify({ prompt: PROMPT, image_url: dataUri() }) });
  await Gate.until(() => gate.output.split("request POST").length > 20, "request lines are written");
  const picture = png().toString("base64").slice(0, 40);
  for (const text of [gate.output, impatient.output, await gate.metrics()])
    for (const secret of [PROMPT, picture, ...CALLER_KEY.split(":"), "canary-token-in-query"]) assert.ok(!text.includes(secret), `written: ${secret}`);
});
