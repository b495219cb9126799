// What each client makes of an upstream's failures, and of the gate's own.

import assert from "node:assert/strict";
import { createServer } from "node:net";
import { after, before, beforeEach, describe, test } from "node:test";
import { clients } from "./harness/clients.mjs";
import { FakeFal, answers } from "./harness/fake-fal.mjs";
import { CALLER_KEY, Gate, callers, merged, tls } from "./harness/gate.mjs";
import { toInternet } from "./harness/network.mjs";
import { becomeFal, ways } from "./harness/ways.mjs";

const ECHO = { proxy: { targets: { endpoints: ["fal-ai/echo"] } } };
const gates = {};
let fal;

before(async () => {
  fal = await FakeFal.start();
  const settings = merged(merged(ECHO, callers), { upstream: { ...fal.upstream, keep_alive_ms: 1000 } });
  const impatient = merged(settings, { upstream: { first_byte_timeout_ms: 300, idle_timeout_ms: 300 } });
  [gates.plain, gates.secure, gates.impatient] = await Promise.all([
    Gate.start(settings),
    Gate.start(merged(settings, { gate: { tls: tls() } })),
    Gate.start(impatient),
  ]);
  await becomeFal(gates.secure);
});

beforeEach(() => fal.reset());

after(async () => {
  await toInternet();
  await Promise.all(Object.values(gates).map((gate) => gate.stop()));
  await fal?.stop();
});

const input = { prompt: "x" };

for (const version of clients) {
  const app = version.app("echo");
  const failed = (way = "through the proxy") => ways(version, gates)[way]().failed(app, { input });

  describe(version.name, () => {
    for (const way of Object.keys(ways(version, { plain: {}, secure: {} }))) {
      test(`a run reaches the upstream ${way}, with the gate's key and not the caller's`, async () => {
        const { data, requestId } = await ways(version, gates)[way]().run(app, { input });
        assert.deepEqual(data.echo, input);
        const call = await fal.call();
        assert.equal(call.host, "run");
        assert.equal(call.method, "POST");
        assert.match(call.url, /^\/(fal-ai|110602490)\/echo$/);
        assert.ok(!JSON.stringify(call.rawHeaders).includes(CALLER_KEY));
        assert.equal(call.headers["x-fal-target-url"], undefined);
        if (!version.old) assert.match(requestId, /^[0-9a-f-]{36}$/);
      });

      test(`an upstream's 422 is a ValidationError with its fields ${way}`, async () => {
        fal.next(answers.validation());
        const error = await failed(way);
        assert.ok(error instanceof version.ValidationError, `${error.name} ${error.status}`);
        assert.equal(error.status, 422);
        assert.deepEqual(error.fieldErrors, JSON.parse(answers.validation().body).detail);
        assert.equal(error.getFieldErrors("prompt")[0].type, "missing");
        assert.equal(fal.calls.length, 1);
      });
    }

    for (const status of [400, 401, 403, 404, 413, 500]) {
      test(`an upstream's ${status} stays one`, async () => {
        fal.next(answers.detail(status, `no: ${status}`, { "x-fal-request-id": "upstream-id" }));
        const error = await failed();
        assert.ok(error instanceof version.ApiError);
        assert.equal(error.status, status);
        assert.equal(error.body.detail, `no: ${status}`);
        assert.equal(fal.calls.length, 1);
        if (version.attempts > 1) assert.equal(error.requestId, "upstream-id");
      });
    }

    test("an upstream's page instead of JSON is an error with its status", async () => {
      fal.next(answers.text(500, "<html>oops</html>"));
      const error = await failed();
      assert.equal(error.status, 500);
      assert.match(error.message, /^HTTP 500/);
    });

    test("a gzip answer arrives unpacked or marked, and whole", async () => {
      fal.next(answers.gzip({ zipped: "yes" }));
      const { data } = await ways(version, gates)["through the proxy"]().run(app, { input });
      assert.deepEqual(data, { zipped: "yes" });
    });

    if (version.attempts > 1)
      test("a wait that the caller limited is not repeated", async () => {
        const headers = { "x-fal-request-timeout-type": "user" };
        fal.next(answers.json({ detail: "timed out", error_type: "request_timeout" }, 504, headers));
        const error = await failed();
        assert.equal(error.status, 504);
        assert.ok(error.isUserTimeout);
        assert.equal(fal.calls.length, 1);
      });
  });
}

// Clients that repeat wait for some seconds; all of them wait together.
describe("trouble that is repeated", () => {
  const everyone = (check) => Promise.all(clients.map(check));

  for (const [status, what] of [[429, "too many"], [502, "bad gateway"], [503, "no runner"]]) {
    test(`an upstream's ${status} is asked for as often as the client will`, async () => {
      fal.always(answers.detail(status, what));
      // One after the other where settings are global, but all of those ask once.
      const asked = {};
      for (const version of clients.filter(({ attempts }) => attempts === 1)) {
        const before = fal.calls.length;
        const error = await version.inBrowser(gates.plain.proxy).failed(version.app("echo"), { input });
        asked[version.name] = fal.calls.length - before;
        assert.equal(error.status, status);
        assert.equal(error.body.detail, what);
      }
      await Promise.all(clients.filter(({ attempts }) => attempts > 1).map(async (version) => {
        const marked = { prompt: version.name };
        const error = await version.inBrowser(gates.plain.proxy).failed(version.app("echo"), { input: marked });
        asked[version.name] = fal.calls.filter((call) => call.json.prompt === version.name).length;
        assert.equal(error.status, status);
        assert.equal(error.body.detail, what);
      }));
      for (const version of clients) assert.equal(asked[version.name], version.attempts, version.name);
    });
  }

  test("a connection that breaks before the answer is a 502 of the gate's, in both fields", async () => {
    fal.always(answers.broken());
    await everyone(async (version) => {
      const error = await version.inBrowser(gates.plain.proxy).failed(version.app("echo"), { input });
      assert.equal(error.status, 502);
      assert.equal(error.body.detail, error.body.message);
      assert.ok(error.message.length > 10, error.message);
      assert.doesNotMatch(error.message, /127\.0\.0\.1|localhost/);
    });
  });

  test("an upstream that says nothing in time is a 504 of the gate's", async () => {
    fal.always(answers.silent());
    await everyone(async (version) => {
      const error = await version.inBrowser(gates.impatient.proxy).failed(version.app("echo"), { input });
      assert.equal(error.status, 504);
      assert.equal(error.body.detail, error.body.message);
    });
  });

  test("an upstream that is not there is a 502 of the gate's", async () => {
    const parked = createServer();
    await new Promise((resolve) => parked.listen(0, "127.0.0.1", resolve));
    const nowhere = `http://127.0.0.1:${parked.address().port}`;
    await new Promise((resolve) => parked.close(resolve));
    const upstream = { addresses: { run: nowhere, queue: nowhere, rest: nowhere }, allow_plain_loopback: true };
    const gate = await Gate.start(merged(ECHO, { upstream }));
    try {
      await everyone(async (version) => {
        const error = await version.inBrowser(gate.proxy).failed(version.app("echo"), { input });
        assert.equal(error.status, 502);
        assert.equal(error.body.detail, error.body.message);
      });
    } finally {
      await gate.stop();
    }
  });
});

describe("answers that break off", () => {
  for (const version of clients) {
    test(`${version.name} does not take half an answer for a whole one`, async () => {
      for (const reply of [answers.cut(), answers.stalled()]) {
        fal.reset();
        fal.always(reply);
        const error = await version.inBrowser(gates.impatient.proxy).failed(version.app("echo"), { input });
        assert.ok(error instanceof Error);
        assert.ok(!(error instanceof version.ApiError) || error.status >= 500, `${error.status}`);
      }
    });
  }
});

describe("callers at the direct door", () => {
  for (const version of clients) {
    test(`${version.name} with a wrong key is refused once, as fal does`, async () => {
      const error = await version.onServer("5a3b8d10-caller-4c2e-9f00-callerkeyid00:wrong").failed(version.app("echo"), { input });
      assert.ok(error instanceof version.ApiError);
      assert.equal(error.status, 401);
      assert.equal(error.body.detail, "No user found for Key ID and Secret");
      assert.equal(fal.calls.length, 0);
    });
  }
});
