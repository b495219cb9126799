// Queue, streams and tokens, passed through to fal (protocol spec 13, cases 5, 6, 8, 11, 13, 39 to 52, 60, 89).

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { clients, newest } from "./harness/clients.mjs";
import { FakeFal, answers } from "./harness/fake-fal.mjs";
import { CANARY, Gate } from "./harness/gate.mjs";

let fal, gate;

before(async () => {
  fal = await FakeFal.start();
  const targets = { endpoints: ["fal-ai/echo", "fal-ai/echo/**"], tokens: true };
  gate = await Gate.start({ upstream: fal.upstream, proxy: { targets } });
});

beforeEach(() => fal.reset());

after(async () => {
  await gate?.stop();
  await fal?.stop();
});

const deferred = () => {
  const one = {};
  one.promise = new Promise((resolve) => (one.resolve = resolve));
  return one;
};
const input = { prompt: "x" };
const pollInterval = 10;

for (const version of clients) {
  const handle = () => version.inBrowser(gate.proxy);
  const app = version.app("echo");

  describe(version.name, () => {
    test("subscribe submits, polls and fetches, each with the key", async () => {
      const seen = [];
      const { data } = await handle().subscribe(app, { input, pollInterval, logs: true, onQueueUpdate: ({ status }) => seen.push(status) });
      assert.deepEqual(data.echo, input);
      assert.deepEqual(seen, ["IN_QUEUE", "COMPLETED"]);
      assert.deepEqual(fal.calls.map(({ method }) => method), ["POST", "GET", "GET", "GET"]);
      for (const call of fal.calls) {
        assert.equal(call.host, "queue");
        assert.equal(call.headers.authorization, `Key ${CANARY}`);
      }
      assert.match(fal.calls[1].url, /\/requests\/[0-9a-f-]{36}\/status\?logs=1$/);
      assert.equal(fal.calls[1].body.length, 0);
    });

    test("a status of a request that is not there is an error with fal's own words", async () => {
      const error = await handle().queue("status", app, { requestId: "764cabcf-b745-4b3e-ae38-1200304cf45b" }).catch((error) => error);
      assert.equal(error.status, 404);
      assert.equal(error.body.detail, "Request not found");
    });

    if (!version.legacy)
      test("cancel goes out as a PUT without a body", async () => {
        const { request_id } = await handle().queue("submit", app, { input });
        await handle().queue("cancel", app, { requestId: request_id });
        const cancel = fal.calls.at(-1);
        assert.equal(cancel.method, "PUT");
        assert.match(cancel.url, /\/cancel$/);
        assert.equal(cancel.body.length, 0);
        const again = await handle().queue("cancel", app, { requestId: request_id }).catch((error) => error);
        assert.equal(again.status, 400);
      });

    if (!version.legacy)
      test("subscribe by stream sees each status", async () => {
        const seen = [];
        const options = { input, mode: "streaming", logs: true, onQueueUpdate: ({ status }) => seen.push(status) };
        const { data } = await handle().subscribe(app, options).catch(() => ({ data: null }));
        assert.deepEqual(seen, ["IN_QUEUE", "COMPLETED"]);
        // The fake's job was never looked at by a poll, so its result is still refused: the stream was all that was asked.
        assert.equal(data, null);
      });

    if (!version.legacy)
      test("events of a stream arrive one by one", async () => {
        const arrived = [];
        const [first, second] = [deferred(), deferred()];
        const gaps = [Promise.resolve(), first.promise, second.promise];
        fal.next(answers.events([{ step: 1 }, { step: 2 }, { step: 3 }], () => gaps.shift()));
        const stream = await handle().stream(app, { input });
        stream.on("data", ({ step }) => {
          arrived.push(step);
          if (step === 1) first.resolve(); // The next one is sent only now: were answers held back, this would never end.
          if (step === 2) second.resolve();
        });
        await stream.done();
        assert.deepEqual(arrived, [1, 2, 3]);
        assert.deepEqual(await stream.done(), { step: 3 });
        assert.match(fal.calls[0].url, /\/echo\/stream$/);
      });

    if (!version.legacy)
      test("bad input of a stream is a ValidationError", async () => {
        fal.next(answers.validation());
        const stream = await handle().stream(app, { input });
        const error = await stream.done().catch((error) => error);
        assert.ok(error instanceof version.ValidationError);
      });
  });
}

describe("headers of the newest client", () => {
  test("wishes reach fal, the proxy's own header does not", async () => {
    await newest.inBrowser(gate.proxy).queue("submit", "fal-ai/echo", { input, priority: "low", hint: "lane-1", startTimeout: 7 });
    const { headers } = await fal.call();
    assert.equal(headers["x-fal-queue-priority"], "low");
    assert.equal(headers["x-fal-runner-hint"], "lane-1");
    assert.equal(headers["x-fal-request-timeout"], "7");
    assert.equal(headers["x-fal-target-url"], undefined);
    assert.equal(headers.cookie, undefined);
  });

  test("a webhook is refused unless the operator allows it", async () => {
    const error = await newest.inBrowser(gate.proxy).queue("submit", "fal-ai/echo", { input, webhookUrl: "https://evil.example/" }).catch((error) => error);
    assert.equal(error.status, 403);
    assert.equal(fal.calls.length, 0);
  });

  test("a timeout of the client's sends the cancel", async () => {
    fal.next(
      answers.json({ status: "IN_QUEUE", request_id: "764cabcf-b745-4b3e-ae38-1200304cf45b", response_url: "x", status_url: "x", cancel_url: "x" }),
      answers.silent(),
    );
    const error = await newest.inBrowser(gate.proxy).subscribe("fal-ai/echo", { input, timeout: 100, pollInterval }).catch((error) => error);
    assert.match(error.message, /timed out/);
    await Gate.until(() => fal.calls.some(({ method, url }) => method === "PUT" && url.endsWith("/cancel")), "a cancel arrives");
  });

  test("a submit to a path goes there, its status to the app alone", async () => {
    const { data } = await newest.inBrowser(gate.proxy).subscribe("fal-ai/echo/turbo", { input, pollInterval });
    assert.deepEqual(data.echo, input);
    assert.equal(fal.calls[0].url, "/fal-ai/echo/turbo");
    assert.match(fal.calls[1].url, /^\/fal-ai\/echo\/requests\//);
  });
});
