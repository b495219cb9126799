// A picture from the embedded engine, for every client and by every way.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { clients, newest } from "./harness/clients.mjs";
import { Gate, engine, merged, tls } from "./harness/gate.mjs";
import { toInternet } from "./harness/network.mjs";
import { dataUri, decoded, png, sizeOf } from "./harness/pictures.mjs";
import { becomeFal, ways } from "./harness/ways.mjs";

const gates = {};
const input = (over = {}) => ({ prompt: "a lighthouse", image_url: dataUri(), seed: 42, num_inference_steps: 2, sync_mode: true, ...over });

before(async () => {
  [gates.plain, gates.secure] = await Promise.all([
    Gate.start(engine, { key: null }),
    Gate.start(merged(engine, { gate: { tls: tls() } }), { key: null }),
  ]);
  await becomeFal(gates.secure);
});

after(async () => {
  await toInternet();
  await Promise.all([gates.plain?.stop(), gates.secure?.stop()]);
});

const bytesOf = async (url) => {
  if (url.startsWith("data:")) return decoded(url);
  const answer = await fetch(url);
  assert.equal(answer.status, 200, url);
  return Buffer.from(await answer.arrayBuffer());
};

function isWholeOutput({ data, requestId }, version) {
  const [image] = data.images;
  assert.equal(data.images.length, 1);
  assert.equal(image.content_type, "image/jpeg");
  assert.deepEqual([image.width, image.height], [64, 64]);
  assert.equal(data.seed, 42);
  assert.equal(data.num_inference_steps, 2);
  assert.deepEqual(data.nsfw_content_detected, [false]);
  assert.equal(data.request_id, "");
  assert.ok(data.timings.inference > 0 && data.timings.inference < 60, `${data.timings.inference} s`);
  if (!version.old) assert.match(requestId, /^[0-9a-f]{8}-[0-9a-f]{4}-4/);
}

for (const version of clients) {
  describe(version.name, () => {
    for (const way of ["through the proxy", "through the proxy, on a server", "with a rewriting middleware", "at fal's names"]) {
      const handle = () => ways(version, gates)[way]();
      if (!Object.hasOwn(ways(version, { plain: gates, secure: gates }), way)) continue;

      test(`a run gives a picture ${way}`, async () => {
        const result = await handle().run(version.app(), { input: input() });
        isWholeOutput(result, version);
        const { url } = result.data.images[0];
        assert.ok(url.startsWith("data:image/jpeg;base64,"), url.slice(0, 40));
        assert.deepEqual(sizeOf(decoded(url)), [64, 64]);
      });
    }

    for (const way of ["through the proxy", "at fal's names"]) {
      const handle = () => ways(version, gates)[way]();

      test(`sync_mode false gives a URL that loads without a key ${way}`, async () => {
        const { data } = await handle().run(version.app(), { input: input({ sync_mode: false }) });
        const { url } = data.images[0];
        assert.match(url, way === "through the proxy" ? /^http:\/\// : /^https:\/\//);
        const answer = await fetch(url);
        assert.equal(answer.status, 200);
        assert.equal(answer.headers.get("content-type"), "image/jpeg");
        assert.equal(answer.headers.get("access-control-allow-origin"), "*");
        assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
        assert.deepEqual(sizeOf(Buffer.from(await answer.arrayBuffer())), [64, 64]);
      });

      test(`one seed gives one picture ${way}`, async () => {
        const run = async (over) => (await handle().run(version.app(), { input: input(over) })).data;
        const random = await run({ seed: undefined });
        const again = await run({ seed: random.seed });
        const other = await run({ seed: random.seed + 1 });
        assert.equal(again.images[0].url, random.images[0].url);
        assert.notEqual(other.images[0].url, random.images[0].url);
      });

      test(`a Blob and a File go where a data URI goes ${way}`, async () => {
        const reference = (await handle().run(version.app(), { input: input() })).data.images[0].url;
        for (const file of [new Blob([png()], { type: "image/png" }), new File([png()], "drawing.png", { type: "image/png" })]) {
          const { data } = await handle().run(version.app(), { input: input({ image_url: file }) });
          assert.equal(data.images[0].url, reference);
        }
      });
    }

    test("a prompt that is missing is a ValidationError", async () => {
      const error = await version.inBrowser(gates.plain.proxy).failed(version.app(), { input: { image_url: dataUri() } });
      assert.ok(error instanceof version.ValidationError, `${error.name} ${error.status}`);
      assert.deepEqual(error.getFieldErrors("prompt").map(({ loc, type }) => ({ loc, type })), [{ loc: ["body", "prompt"], type: "missing" }]);
      if (version.attempts > 1) assert.match(error.requestId, /^[0-9a-f-]{36}$/);
    });

    test("a strength of two is a ValidationError that names its bound", async () => {
      const error = await version.inBrowser(gates.plain.proxy).failed(version.app(), { input: input({ strength: 2 }) });
      assert.ok(error instanceof version.ValidationError, `${error.name} ${error.status}`);
      const [fault] = error.getFieldErrors("strength");
      assert.equal(fault.type, "less_than_equal");
      assert.equal(fault.ctx.le, 1);
      assert.equal(typeof fault.msg, "string");
    });

    test("an endpoint that nobody allowed is refused with a sentence", async () => {
      const error = await version.inBrowser(gates.plain.proxy).failed(version.app("flux"), { input: { prompt: "x" } });
      assert.ok(error instanceof version.ApiError);
      assert.equal(error.status, 403);
      assert.match(error.message, /fal-ai\/flux|110602490\/flux/);
      assert.equal(error.body.detail, error.body.message);
    });
  });
}

describe("spellings of the app", () => {
  const picture = async (version, app, over) => (await version.inBrowser(gates.plain.proxy).run(app, { input: input(over) })).data.images[0].url;

  test("every spelling gives the same picture", async () => {
    const reference = await picture(newest, "fal-ai/lcm-sd15-i2i");
    for (const app of ["110602490-lcm-sd15-i2i", "110602490/lcm-sd15-i2i", "https://fal.run/fal-ai/lcm-sd15-i2i"])
      assert.equal(await picture(newest, app), reference, app);
  });

  test("a full URL of the old gateway is the same app", async () => {
    const legacy = clients.find((version) => version.legacy);
    const url = "https://110602490-lcm-sd15-i2i.gateway.alpha.fal.ai";
    assert.equal(await picture(legacy, url), await picture(newest, "fal-ai/lcm-sd15-i2i"));
  });

  test("an app path that nobody serves is no such path", async () => {
    const error = await newest.inBrowser(gates.plain.proxy).failed("fal-ai/lcm-sd15-i2i/turbo", { input: input() });
    assert.ok([403, 404].includes(error.status), `${error.status}`);
  });
});

describe("calls that the engine does not answer yet", () => {
  test("a queue call of the engine's own app is refused for good, not for a retry", async () => {
    const error = await newest.inBrowser(gates.plain.proxy).queue("submit", newest.app(), { input: input() }).catch((error) => error);
    assert.equal(error.status, 501);
    assert.equal(error.body.detail, error.body.message);
  });
});

describe("leniency (protocol spec 11.5)", () => {
  const run = async (over) => (await newest.inBrowser(gates.plain.proxy).run(newest.app(), { input: input(over) })).data;

  test("what real pages send instead of numbers and booleans is taken", async () => {
    const { images, num_inference_steps, request_id } = await run({
      num_inference_steps: "2", sync_mode: 1, enable_safety_checks: "false", negative_prompt: null, mask_url: null,
      request_id: "page-1", model_name: "x", image_size: "square",
    });
    assert.ok(images[0].url.startsWith("data:"));
    assert.equal(num_inference_steps, 2);
    assert.equal(request_id, "page-1");
  });

  test("line breaks in a data URI and a wrong type change nothing", async () => {
    const reference = (await run()).images[0].url;
    const [head, body] = dataUri().split(",");
    assert.equal((await run({ image_url: `${head},${body.replace(/.{76}/g, "$&\n")}` })).images[0].url, reference);
    assert.equal((await run({ image_url: `data:image/jpeg;base64,${body}` })).images[0].url, reference);
  });

  test("a picture of odd size comes back in its size", async () => {
    const { images } = await run({ image_url: dataUri(png(131, 97)) });
    assert.deepEqual([images[0].width, images[0].height], [131, 97]);
    assert.deepEqual(sizeOf(await bytesOf(images[0].url)), [131, 97]);
  });

  test("several pictures of one run differ, and the first is that of its seed", async () => {
    const { images } = await run({ num_images: 3 });
    assert.equal(new Set(images.map(({ url }) => url)).size, 3);
    assert.equal(images[0].url, (await run()).images[0].url);
  });
});
