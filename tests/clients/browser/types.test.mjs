// The shim's declarations, beside those of fal's client.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import ts from "typescript";
import { root, scratch } from "../js/harness/places.mjs";

// What the compiler says about a program that uses the shim.
function complaints(program) {
  const folder = path.join(scratch, `types-${process.pid}`);
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, "page.ts");
  writeFileSync(file, program);
  copyFileSync(path.join(root, "src/playground/static/falgate.d.ts"), path.join(folder, "falgate.d.ts"));
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    lib: ["lib.es2022.d.ts", "lib.dom.d.ts"],
    types: [],
    paths: {
      "@fal-ai/client": [path.join(root, "tests/clients/browser/node_modules/fal-client-1-10")],
    },
  };
  const found = ts.getPreEmitDiagnostics(ts.createProgram([file], options));
  rmSync(folder, { recursive: true, force: true });
  return found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
}

test("fit fal's client, as a module and as a global", () => {
  const program = `
    import { fal } from "@fal-ai/client";
    import { falgateTokenProvider, installFalgate, uninstallFalgate } from "./falgate.js";
    installFalgate();
    installFalgate({ url: new URL("https://gate.example") });
    fal.realtime.connect<{ prompt: string }, { seed: number }>("fal-ai/lcm-sd15-i2i", {
      tokenProvider: falgateTokenProvider("https://gate.example", { credentials: "include" }),
      tokenExpirationSeconds: 120,
      onResult: (result) => console.log(result.seed),
    });
    window.falgate?.install({ url: "/gate" });
    const token: Promise<string> | undefined = globalThis.falgate?.tokenProvider()("a/b");
    uninstallFalgate();
    void token;`;
  assert.deepEqual(complaints(program), []);
});

test("complain about a gate that is no address", () => {
  const [first, ...others] = complaints('import { installFalgate } from "./falgate.js"; installFalgate({ url: 8787 });');
  assert.match(first, /Type 'number' is not assignable/);
  assert.deepEqual(others, []);
});
