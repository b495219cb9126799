// Starts the built falgate with a configuration of its own, on free ports, and searches all that it writes for the key.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { certificates } from "./certificates.mjs";
import { binary, model, root, scratch } from "./places.mjs";
import { toToml } from "./toml.mjs";

// The key that gates hold. It may be seen in one place: the authorization header of a call that fal gets.
export const CANARY_ID = "3f1c9a52-canary-4b7e-a1d0-falgatekeyid0";
export const CANARY_SECRET = "c0ffee0canary0secret0dead0beef00";
export const CANARY = `${CANARY_ID}:${CANARY_SECRET}`;

// The key of a caller, which opens the direct door and goes no further.
export const CALLER_KEY = "5a3b8d10-caller-4c2e-9f00-callerkeyid00:ca11e40secret0ca11e40secret0";

const READY_MS = 90_000;
const STOP_MS = 15_000;
const LISTENING = /listening on (https?):\/\/(\S+?:\d+)/;

// Settings of a gate whose engine runs the miniature model for the app's endpoint.
export const engine = {
  engine: { enabled: true, model, warm_up_px: 64 },
  host: { pictures: { min_working_side: 64 } },
  route: [{ endpoint: "fal-ai/lcm-sd15-i2i", to: "engine" }],
};

// TLS with the test authority's certificate.
export const tls = () => ({ cert_file: certificates().cert, key_file: certificates().key });

// Settings that open the direct door with the caller's key, to what the proxy admits.
export const callers = { guard: { keys: { env: "CALLER_KEYS" } } };

// A configuration with another over it. Lists are replaced.
export function merged(base, over) {
  const plain = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const result = { ...base };
  for (const [key, value] of Object.entries(over)) result[key] = plain(value) && plain(base[key]) ? merged(base[key], value) : value;
  return result;
}

export class Gate {
  #child;
  #folder;
  #exit;
  output = "";
  url = "";
  admin = "";

  // `settings`: tables over the defaults of a test. `key`: the fal key in its environment, or null for none.
  static start(settings = {}, { key = CANARY, env = {} } = {}) {
    const folder = mkdtempSync(path.join(scratch, "gate-"));
    const file = path.join(folder, "falgate.toml");
    const base = {
      gate: { listen: "127.0.0.1:0", admin: "127.0.0.1:0", drain: { deadline_ms: 2000 } },
      telemetry: { level: "trace" },
      guard: { tokens: { keys: "memory" } }, // A test leaves no key behind.
    };
    writeFileSync(file, toToml(merged(base, settings)));
    return Gate.#spawned(file, folder, key, env);
  }

  // A configuration of the repository, with other ports: `config/demo.toml`.
  static startFile(file, { key = null } = {}) {
    const env = { FALGATE__GATE__LISTEN: "127.0.0.1:0", FALGATE__GATE__ADMIN: "127.0.0.1:0", FALGATE__TELEMETRY__LEVEL: "trace", FALGATE__GUARD__TOKENS__KEYS: '"memory"' };
    return Gate.#spawned(path.join(root, file), null, key, env);
  }

  static async #spawned(file, folder, key, env) {
    const gate = new Gate();
    try {
      assert.ok(existsSync(binary), `no falgate at ${binary}: build it, or name it in FALGATE_BIN`);
      await gate.#start(file, folder, key, env);
    } catch (error) {
      // The runner does not show why a hook failed.
      process.stderr.write(`${error.message}\n`);
      gate.#child?.kill("SIGKILL");
      if (folder) rmSync(folder, { recursive: true, force: true });
      throw error;
    }
    return gate;
  }

  async #start(file, folder, key, env) {
    this.#folder = folder;
    const inherited = Object.entries(process.env).filter(([name]) => !/^(FAL|NODE)/.test(name));
    this.#child = spawn(binary, ["serve", "--config", file], {
      cwd: root,
      env: { ...Object.fromEntries(inherited), RUST_BACKTRACE: "1", CALLER_KEYS: `tests ${CALLER_KEY}`, ...(key === null ? {} : { FAL_KEY: key }), ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    process.once("exit", () => this.#child.kill("SIGKILL")); // A run that is cut short leaves no gate behind.
    let heard = () => {};
    const hear = (chunk) => {
      this.output += chunk;
      heard();
    };
    this.#child.stdout.setEncoding("utf8").on("data", hear);
    this.#child.stderr.setEncoding("utf8").on("data", hear);
    this.#exit = new Promise((resolve) => this.#child.once("close", (code, signal) => resolve({ code, signal })));
    const died = this.#exit.then(({ code, signal }) => {
      throw new Error(`the gate ended with ${signal ?? code} before it was ready\n${readFileSync(file)}\n${this.output.slice(-4000)}`);
    });
    died.catch(() => {});
    const late = new Promise((_, fail) => setTimeout(() => fail(new Error(`the gate is not ready\n${this.output.slice(-4000)}`)), READY_MS).unref());
    late.catch(() => {});
    const listening = new Promise((resolve) => {
      heard = () => this.#readAddresses() && resolve();
    });
    await Promise.race([listening, died, late]);
    await Promise.race([this.#ready(), died, late]);
  }

  // Both lines name their setting, `gate.listen` and `gate.admin`; logs may put it before or after.
  #readAddresses() {
    for (const line of this.output.replace(/\x1b\[[0-9;]*m/g, "").split("\n")) {
      const found = LISTENING.exec(line);
      if (!found) continue;
      const address = `${found[1]}://${found[2].replace(/["\s].*$/, "")}`;
      if (/admin/.test(line)) this.admin = address;
      else this.url = address;
    }
    return this.url && this.admin;
  }

  async #ready() {
    for (;;) {
      const answer = await fetch(`${this.admin}/readyz`).catch(() => null);
      await answer?.arrayBuffer();
      if (answer?.ok) return;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  get port() {
    return Number(new URL(this.url).port);
  }

  get proxy() {
    return `${this.url}/api/fal/proxy`;
  }

  get pid() {
    return this.#child.pid;
  }

  async metrics() {
    return (await fetch(`${this.admin}/metrics`)).text();
  }

  // The value of one metric line, 0 where there is none: `falgate_engine_jobs_total{outcome="done"}`.
  async metric(name) {
    const line = (await this.metrics()).split("\n").find((line) => line.startsWith(`${name} `));
    return line ? Number(line.slice(name.length + 1)) : 0;
  }

  // Asks `reached` until it says yes.
  static async until(reached, what, ms = 5000) {
    const end = Date.now() + ms;
    while (!(await reached())) {
      assert.ok(Date.now() < end, `not within ${ms} ms: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  // Ends the gate, and fails if it wrote the key anywhere or did not end well.
  async stop() {
    const metrics = await this.metrics().catch(() => "");
    this.#child.kill("SIGTERM");
    const killer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_MS);
    const { code, signal } = await this.#exit;
    clearTimeout(killer);
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
    for (const part of [CANARY_ID, CANARY_SECRET]) {
      const at = this.output.indexOf(part);
      assert.equal(at, -1, `the key is in the gate's output: …${this.output.slice(Math.max(0, at - 300), at + 100)}…`);
      assert.ok(!metrics.includes(part), "the key is in the metrics");
    }
    assert.ok(!/panicked at/.test(this.output), `the gate panicked\n${this.output.slice(-4000)}`);
    assert.equal(signal ?? code, 0, `the gate ended with ${signal ?? code}\n${this.output.slice(-4000)}`);
  }
}
