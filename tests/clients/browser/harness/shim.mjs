// The shim's files, as they stand in the repository.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { root, scratch } from "../../js/harness/places.mjs";

export const source = (name) => readFileSync(path.join(root, "src/playground/static", name), "utf8");

// URL of a copy of falgate.js that every Node takes for a module.
export function asModule() {
  const folder = path.join(scratch, `shim-${process.pid}`);
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, "falgate.mjs");
  writeFileSync(file, source("falgate.js"));
  return pathToFileURL(file).href;
}
