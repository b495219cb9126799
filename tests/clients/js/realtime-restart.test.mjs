// A gate that drains, is away, and comes back (protocol spec 13, case 88a; spec 6.6, rules 5 and 9).

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { Gate, engine, merged, tls } from "./harness/gate.mjs";
import { toInternet } from "./harness/network.mjs";
import { scratch } from "./harness/places.mjs";
import { Painter, versions, wait, watchAll } from "./harness/realtime.mjs";
import { becomeFal } from "./harness/ways.mjs";

let folder, gate, port;
const painters = new Map();

const start = () =>
  Gate.start(merged(engine, {
    gate: { tls: tls(), listen: `127.0.0.1:${port ?? 0}` },
    guard: { tokens: { keys: { file: path.join(folder, "token-keys") } } },
  }));

before(async () => {
  folder = mkdtempSync(path.join(scratch, "keys-"));
  gate = await start();
  port = gate.port;
  await becomeFal(gate);
  watchAll();
});

after(async () => {
  for (const painter of painters.values()) painter.leave();
  await toInternet();
  await gate?.stop();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

describe("a gate that ends and comes back", { concurrency: false }, () => {
  test("a drain ends every socket in good order, and no client calls it an error", async () => {
    for (const version of versions) painters.set(version, new Painter(version, gate));
    await Promise.all([...painters.values()].map((page) => page.paint()));
    await gate.stop();
    gate = null;
    for (const [version, page] of painters) {
      assert.equal((await page.ended()).code, 1000, version.name);
      const said = page.socket.texts.map(({ text }) => JSON.parse(text)).filter(({ type }) => type === "x-fal-error");
      assert.deepEqual(said.map(({ error }) => error), ["TIMEOUT"], version.name);
      assert.equal(page.errors.length, !version.hushes && version.tells ? 1 : 0, version.name);
    }
  });

  test("while it is away nothing is painted, and a client that has a token says so", async () => {
    const before = new Map([...painters].map(([version, page]) => [version, { errors: page.errors.length, results: page.results.length }]));
    for (const page of painters.values()) page.send();
    const keeps = [...painters].filter(([version]) => !version.dropsTokens);
    await Promise.all(keeps.map(([version, page]) => page.until(() => page.errors.length > before.get(version).errors, "an error")));
    await wait(200);
    for (const [version, page] of painters) assert.equal(page.results.length, before.get(version).results, version.name);
  });

  test("once it is back the first or second input is painted", async () => {
    gate = await start();
    for (const [version, page] of painters) {
      // 0.6 never forgets that it was reconnecting (spec 6.6): pages that use it have to be loaded again.
      if (version.wedges) continue;
      const sent = await page.keepPainting(3000, 3);
      assert.ok(sent <= 2, `${version.name}: ${sent} inputs`);
    }
  });

  test("a page that is loaded anew gets its picture at once", async () => {
    await Promise.all(versions.map(async (version) => {
      const page = new Painter(version, gate, { connectionKey: `anew-${version.from}` });
      // The client of the first days shows the token that it had, which is still good.
      await page.paint();
      page.leave();
    }));
  });
});
