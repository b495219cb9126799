// Bundles a page's script as applications do, with the published packages in it.

import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");

// `entry`: a path from this folder. `known`: expressions that stand for constants, `alias`: packages under other names.
export async function bundled(entry, { known = {}, alias = {} } = {}) {
  const result = await build({
    absWorkingDir: here,
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "iife",
    platform: "browser",
    target: "es2022",
    jsx: "automatic",
    nodePaths: [path.join(here, "node_modules")],
    define: { "process.env.NODE_ENV": '"production"', ...known },
    alias,
    logLevel: "warning",
  });
  return result.outputFiles[0].text;
}
