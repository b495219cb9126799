// The examples in a browser, as they stand in the repository, at a gate on another origin.

import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { Gate, engine, merged } from "../js/harness/gate.mjs";
import { root } from "../js/harness/places.mjs";
import { Browser } from "./harness/browser.mjs";
import { bundled } from "./harness/bundle.mjs";
import { assertFollows } from "./harness/examples.mjs";
import { Site } from "./harness/site.mjs";

const examples = path.join(root, "examples");
const source = (name) => readFileSync(path.join(examples, name), "utf8");
let browser, gate, site;

before(async () => {
  site = await Site.start();
  const settings = { guard: { origins: { allow: [site.url] }, tokens: { keys: "memory" } } };
  gate = await Gate.start(merged(engine, settings), { key: null });
  browser = await Browser.start();
});

after(async () => {
  await browser?.close();
  await gate?.stop();
  await site?.close();
});

test("the React page draws", async () => {
  const known = { "import.meta.env.VITE_FALGATE_URL": JSON.stringify(gate.url) };
  const entry = path.join(examples, "react-realtime/src/main.jsx");
  site.files["/src/main.jsx"] = await bundled(entry, { known, alias: { "@fal-ai/client": "fal-client-1-10" } });
  site.files["/"] = source("react-realtime/index.html").replaceAll("%VITE_FALGATE_URL%", gate.url);
  const view = await browser.open(site.url);
  await assertFollows(view, gate);
  await view.picture("example-react");
  await view.page.close();
});

test("the plain page draws", async () => {
  site.files["/"] = source("plain-page/index.html").replaceAll("http://127.0.0.1:8787", gate.url);
  const view = await browser.open(site.url);
  await assertFollows(view, gate);
  await view.picture("example-plain");
  await view.page.close();
});
