// What the page makes of the notes of a socket that waits for a place.

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
