// What README and examples tell people to type, typed at the gate that `make run` starts.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { Gate } from "./harness/gate.mjs";
import { png } from "./harness/pictures.mjs";
import { root, scratch } from "./harness/places.mjs";

const run = promisify(execFile);
const readme = readFileSync(path.join(root, "README.md"), "utf8");
let gate, folder;

before(async () => {
  gate = await Gate.startFile("config/demo.toml");
  folder = mkdtempSync(path.join(scratch, "readme-"));
  writeFileSync(path.join(folder, "drawing.png"), png(64));
  mkdirSync(path.join(folder, "node_modules/@fal-ai"), { recursive: true });
  symlinkSync(path.join(root, "tests/clients/js/node_modules/fal-client-1-10"), path.join(folder, "node_modules/@fal-ai/client"));
});

after(async () => {
  await gate?.stop();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

// The first fenced block of a language that holds `word`, with the gate's own address.
function fenced(language, word) {
  const blocks = [...readme.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map(([, text]) => text);
  const block = blocks.find((text) => text.includes(word));
  assert.ok(block, `README has no ${language} block with ${word}`);
  return block.replaceAll("http://127.0.0.1:8787", gate.url);
}

test("README's curl gets a picture", async () => {
  const command = fenced("sh", "curl").replace(/^make run.*$/m, "");
  const { stdout } = await run("bash", ["-euc", command], { cwd: folder });
  const answer = JSON.parse(stdout);
  assert.equal(answer.seed, 42);
  assert.match(answer.images[0].url, /^data:image\/jpeg;base64,/);
});

test("README's script with fal's client gets a picture", async () => {
  writeFileSync(path.join(folder, "quickstart.mjs"), fenced("js", "@fal-ai/client"));
  const { stdout } = await run(process.execPath, ["quickstart.mjs"], { cwd: folder });
  assert.match(stdout, /^\d+ data:image\/jpeg;base64,/);
});

test("the Python example without packages paints a picture", async () => {
  const script = path.join(root, "examples/python/standard.py");
  const env = { ...process.env, FALGATE_URL: gate.url };
  const { stdout } = await run("python3", [script, "drawing.png", "a lighthouse", "painted.jpg"], { cwd: folder, env });
  assert.match(stdout, /^painted\.jpg, seed \d+/);
  const painted = readFileSync(path.join(folder, "painted.jpg"));
  assert.deepEqual([...painted.subarray(0, 2)], [0xff, 0xd8]);
});
