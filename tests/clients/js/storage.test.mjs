// Uploads: what the clients do by themselves before a run, and what they are asked to do.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { clients } from "./harness/clients.mjs";
import { FakeFal } from "./harness/fake-fal.mjs";
import { Gate, engine } from "./harness/gate.mjs";
import { watched } from "./harness/network.mjs";
import { dataUri, png } from "./harness/pictures.mjs";

const gates = {};
let fal;

before(async () => {
  fal = await FakeFal.start();
  const relay = { upstream: fal.upstream, proxy: { targets: { endpoints: ["fal-ai/echo"], storage: true } } };
  [gates.plain, gates.relay] = await Promise.all([Gate.start(engine, { key: null }), Gate.start(relay)]);
});

after(async () => {
  await Promise.all(Object.values(gates).map((gate) => gate.stop()));
  await fal?.stop();
});

const input = (over) => ({ prompt: "x", seed: 1, num_inference_steps: 1, sync_mode: true, ...over });
const file = () => new File([png()], "drawing.png", { type: "image/png" });
const proxied = (version) => version.inBrowser(gates.plain.proxy);

for (const version of clients) {
  describe(version.name, () => {
    test(version.uploads ? "uploads a data URI, then runs" : "sends a data URI inline", async () => {
      const { result, seen } = await watched(() => proxied(version).run(version.app(), { input: input({ image_url: dataUri() }) }));
      assert.ok(result.data.images[0].url.startsWith("data:image/jpeg"));
      const http = seen.filter(({ url }) => !url.startsWith("data:")).map(({ init, status }) => `${init.method.toUpperCase()} ${status}`);
      assert.deepEqual(http, version.uploads ? ["POST 200", "PUT 200", "POST 200"] : ["POST 200"]);
    });

    if (!version.bare && !version.legacy)
      test("upload() gives a URL that loads, with the file's type, and that a run takes", async () => {
        const url = await proxied(version).upload(file());
        const answer = await fetch(url);
        assert.equal(answer.headers.get("content-type"), "image/png");
        assert.equal(answer.headers.get("access-control-allow-origin"), "*");
        assert.deepEqual(Buffer.from(await answer.arrayBuffer()), png());
        const inline = await proxied(version).run(version.app(), { input: input({ image_url: dataUri() }) });
        const stored = await proxied(version).run(version.app(), { input: input({ image_url: url }) });
        assert.equal(stored.data.images[0].url, inline.data.images[0].url);
      });

    test("a file that is no picture is stored, and the run says what is wrong", async () => {
      const text = new File(["no picture"], "notes.txt", { type: "text/plain" });
      const error = await proxied(version).failed(version.app(), { input: input({ image_url: text }) });
      assert.ok(error instanceof version.ValidationError, `${error.name} ${error.status} ${error.message}`);
      const [fault] = error.getFieldErrors("image_url").concat(error.fieldErrors);
      assert.ok(fault.msg.length > 0);
    });

    test("uploads go to fal's storage where the gate only relays", async () => {
      fal.reset();
      const handle = version.inBrowser(gates.relay.proxy);
      const { data } = await handle.run(version.app("echo"), { input: { image_url: file() } });
      const [initiate, put, run] = fal.calls;
      assert.match(initiate.url, /^\/storage\/upload\/initiate(\?storage_type=fal-cdn-v3)?$/);
      assert.equal(put.method, "PUT");
      assert.equal(put.headers.authorization, undefined);
      assert.deepEqual(put.body, png());
      assert.equal(run.json.image_url, data.echo.image_url);
      assert.ok(data.echo.image_url.startsWith(fal.origin("rest")));
    });
  });
}

describe("upload URLs", () => {
  const initiate = async (body = { content_type: "image/png", file_name: "a.png" }) => {
    const headers = { "content-type": "application/json", "x-fal-target-url": "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3" };
    const answer = await fetch(gates.plain.proxy, { method: "POST", headers, body: JSON.stringify(body) });
    assert.equal(answer.status, 200);
    return answer.json();
  };
  const put = (url, body = png(), type = "image/png") => fetch(url, { method: "PUT", headers: { "content-type": type }, body });

  test("a page of another origin may PUT after a preflight", async () => {
    const { upload_url } = await initiate();
    const preflight = await fetch(upload_url, {
      method: "OPTIONS",
      headers: { origin: "https://draw.example", "access-control-request-method": "PUT", "access-control-request-headers": "content-type" },
    });
    assert.ok([200, 204].includes(preflight.status));
    assert.match(preflight.headers.get("access-control-allow-methods"), /PUT|\*/);
    assert.match(preflight.headers.get("access-control-allow-headers"), /content-type|\*/i);
    const answer = await fetch(upload_url, { method: "PUT", headers: { origin: "https://draw.example", "content-type": "image/png" }, body: png() });
    assert.equal(answer.status, 200);
    assert.ok(["*", "https://draw.example"].includes(answer.headers.get("access-control-allow-origin")));
  });

  test("a URL takes one upload, and none without its secret", async () => {
    const { upload_url, file_url } = await initiate();
    assert.ok((await put(file_url)).status >= 400);
    assert.ok((await put(`${upload_url}0`)).status >= 400);
    assert.equal((await put(upload_url)).status, 200);
    const again = await put(upload_url, Buffer.from("other"));
    assert.ok(again.status >= 400 && again.status < 500, `${again.status}`);
    assert.deepEqual(Buffer.from(await (await fetch(file_url)).arrayBuffer()), png());
  });

  test("a stored page is no page of the gate's", async () => {
    const { upload_url, file_url } = await initiate({ content_type: "text/html", file_name: "x.html" });
    await put(upload_url, "<script>alert(1)</script>", "text/html");
    const answer = await fetch(file_url);
    await answer.arrayBuffer();
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    const safe = /attachment/.test(answer.headers.get("content-disposition") ?? "") || !/html/.test(answer.headers.get("content-type"));
    assert.ok(safe || /sandbox/.test(answer.headers.get("content-security-policy") ?? ""), JSON.stringify([...answer.headers]));
  });
});
