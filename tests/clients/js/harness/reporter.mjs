// One line for each group of tests, everything about a failure, and a last line that counts.

import path from "node:path";
import { inspect } from "node:util";

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

// What went wrong, without the runner's own wrapping.
function reason(error) {
  const cause = error?.cause ?? error;
  return typeof cause === "object" ? inspect(cause, { depth: 3 }) : String(cause);
}

export default async function* report(events) {
  let passed = 0;
  let failed = 0;
  for await (const { type, data } of events) {
    if (type === "test:stderr" || type === "test:stdout") {
      yield data.message;
      continue;
    }
    if (type !== "test:pass" && type !== "test:fail") continue;
    const file = path.basename(data.file ?? "");
    if (data.details?.type === "suite") {
      if (data.nesting === 0) yield `${type === "test:pass" ? "ok    " : "FAILED"} ${file}: ${data.name} (${seconds(data.details.duration_ms)})\n`;
      continue;
    }
    if (type === "test:pass") {
      passed += 1;
      continue;
    }
    failed += 1;
    yield `FAILED ${file}: ${data.name} (${seconds(data.details.duration_ms)})\n${reason(data.details.error).replace(/^/gm, "    ")}\n`;
  }
  yield `${passed} passed, ${failed} failed\n`;
}
