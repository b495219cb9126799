// Where things lie. Everything that tests write goes below target/clients.

import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import path from "node:path";

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../../..");
export const binary = path.resolve(root, process.env.FALGATE_BIN ?? "target/debug/falgate");
export const model = path.join(root, "tests/models/tiny-lcm-onnx");
export const scratch = path.join(root, "target/clients");
mkdirSync(scratch, { recursive: true });
