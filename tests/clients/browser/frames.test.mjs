// What the page writes on its socket and makes of what it reads there, frame by frame.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const root = new URL("../../../src/playground/static/", import.meta.url);

function part(name) {
  return import(`data:text/javascript,${encodeURIComponent(readFileSync(new URL(name, root), "utf8"))}`);
}

test("a page that waits is told its place and its wait in a sentence", async () => {
  const [{ Frames }, { sentence }] = await Promise.all([part("frames.js"), part("words.js")]);
  const note = (place, wait_s) => JSON.stringify({ type: "x-fal-message", action: "waiting", place, wait_s });
  const said = (place, wait_s) => sentence(new Frames().read(note(place, wait_s)));
  assert.equal(said(3, 80), "All places are taken. You are number 3 in the queue, and it takes about 80 s.");
  assert.equal(said(1, 290), "All places are taken. You are next, and it takes about 5 minutes.");
});

test("settings are told until the gate has said that it took them, and again after others were told", async () => {
  const { Frames } = await part("frames.js");
  const frames = new Frames();
  const drawing = new Blob(["a drawing"]);
  const message = (action, more) => frames.read(JSON.stringify({ type: "x-fal-message", action, ...more }));
  // The settings that came with a drawing; undefined where it came alone.
  const told = async (prompt) => {
    const { frames: written } = await frames.write({ prompt }, drawing);
    assert.ok(written.at(-1) instanceof ArrayBuffer);
    return written.length > 1 ? JSON.parse(written[0]) : undefined;
  };
  message("falgate.direct", { version: 1 });

  const refused = await told("too long");
  assert.equal(refused.prompt, "too long");
  const error = { type: "x-fal-error", error: "VALIDATION_ERROR", reason: "prompt: too long", request_id: refused.request_id };
  assert.equal(frames.read(JSON.stringify(error)).kind, "rejected");
  const again = await told("too long");
  assert.equal(again.prompt, "too long", "what was refused is not taken for told");

  const good = await told("a hill");
  message("settings", { request_id: again.request_id });
  assert.equal((await told("a hill")).prompt, "a hill", "an answer to other settings says nothing of these");
  message("settings", { request_id: good.request_id });
  const newest = await told("a hill");
  message("settings", { request_id: newest.request_id });
  assert.equal(await told("a hill"), undefined);

  assert.equal((await told("a lake")).prompt, "a lake");
  assert.equal((await told("a hill")).prompt, "a hill", "the gate may hold the others now");
});

test("an error about one picture says which", async () => {
  const { Frames } = await part("frames.js");
  const error = (more) => new Frames().read(JSON.stringify({ type: "x-fal-error", error: "UNAVAILABLE", reason: "full", ...more }));
  assert.deepEqual([error({ sequence: 7 }).id, error({ request_id: "settings-7" }).id], [7, undefined]);
});
