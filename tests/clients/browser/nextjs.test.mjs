// The Next.js example, built and started as its README says, at a gate on another origin.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { Gate, engine, merged } from "../js/harness/gate.mjs";
import { png } from "../js/harness/pictures.mjs";
import { root, scratch } from "../js/harness/places.mjs";
import { Browser } from "./harness/browser.mjs";
import { assertFollows } from "./harness/examples.mjs";
import { freePort } from "./harness/site.mjs";

const modules = path.join(import.meta.dirname, "node_modules");
// What the example's package.json asks for, where it lies here.
const PACKAGES = { next: "next", react: "react", "react-dom": "react-dom", "@fal-ai/client": "fal-client-1-10" };

let browser, folder, gate, server, site;

// Runs Next.js in the example's folder, until `reached` is in what it says or, without that, until its end.
function next(args, reached) {
  const env = { ...process.env, FALGATE_URL: gate.url, NEXT_TELEMETRY_DISABLED: "1", NODE_ENV: "production" };
  const child = spawn(process.execPath, [path.join(modules, "next/dist/bin/next"), ...args], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  process.once("exit", () => child.kill("SIGKILL"));
  let said = "";
  return new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        said += text;
        if (reached?.test(said)) resolve(child);
      });
    }
    child.once("error", reject).once("close", (code) => (code === 0 ? resolve(child) : reject(new Error(`next ${args[0]} ended with ${code}\n${said}`))));
  });
}

before(async () => {
  const port = await freePort();
  site = `http://127.0.0.1:${port}`;
  gate = await Gate.start(merged(engine, { guard: { origins: { allow: [site] }, tokens: { keys: "memory" } } }), { key: null });
  folder = mkdtempSync(path.join(scratch, "nextjs-"));
  cpSync(path.join(root, "examples/nextjs"), folder, { recursive: true, filter: (from) => !/node_modules|\.next/.test(path.basename(from)) });
  mkdirSync(path.join(folder, "node_modules/@fal-ai"), { recursive: true });
  for (const [name, from] of Object.entries(PACKAGES)) symlinkSync(path.join(modules, from), path.join(folder, "node_modules", name));
  // Turbopack follows no links that lead out of the folder.
  await next(["build", "--webpack"]);
  server = await next(["start", "--hostname", "127.0.0.1", "--port", String(port)], /Ready in/);
  browser = await Browser.start();
});

after(async () => {
  await browser?.close();
  server?.kill("SIGKILL");
  await gate?.stop();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

test("the page at /draw draws, over a socket that the script in the layout leads to the gate", async () => {
  const view = await browser.open(`${site}/draw`);
  await assertFollows(view, gate);
  assert.ok(view.requests.includes(`GET ${gate.url}/falgate.classic.js`), view.requests.join("\n"));
  assert.ok(view.requests.includes(`GET ${site}/api/fal/token?app=fal-ai%2Flcm-sd15-i2i%2Frealtime`), view.requests.join("\n"));
  await view.picture("example-nextjs");
  await view.page.close();
});

test("the page at / paints over a picture, by way of its own server", async () => {
  const view = await browser.open(site);
  await view.page.locator("[name=picture]").setInputFiles({ name: "drawing.png", mimeType: "image/png", buffer: png(64) });
  await view.page.getByRole("button", { name: "Paint" }).click();
  await view.until(() => document.querySelector("img")?.naturalWidth > 0, undefined, 60_000);
  assert.ok(view.requests.includes(`POST ${site}/api/fal/proxy`), view.requests.join("\n"));
  view.assertQuiet();
  await view.page.close();
});
