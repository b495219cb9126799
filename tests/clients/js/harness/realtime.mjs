// The published clients with a socket each, and what a page would see of it: results, errors, frames, closes, tokens.

import { AsyncLocalStorage } from "node:async_hooks";
import { createRequire } from "node:module";
import { dataUri, png } from "./pictures.mjs";

const require = createRequire(import.meta.url);

// How long a test waits for what must come.
const WAIT_MS = 60_000;

// Released versions with sockets: those that protocol spec 6 and 13 name. What is known of them:
// - `old`: a serverless-client, whose settings are global;
// - `legacy`: calls `{n}-{alias}.gateway.alpha.fal.ai/ws`; `aliased`: calls `/ws` for an app that it knows from that time;
// - `dialect`: what it sends for plain values; `mixes`: sends binary frames for values with bytes in them;
// - `hoards`: sends all that waited for its socket, not the last alone;
// - `tells`: has `onError` for `x-fal-error`, `hushes`: says nothing of `TIMEOUT`;
// - `closes`: its `close()` closes; `codes`: takes `encodeMessage` and `path`; `provides`: takes `tokenProvider`;
// - `recovers`: gets another token by itself with the next input once one was told to be bad; others at their timer;
// - `refreshes`: asks for a new token while its socket is open; `dropsTokens`: forgets its token with its socket;
// - `wedges`: sends nothing any more once it could not connect; `shares`: has one token for an app in all connections.
const SIX = { old: true, legacy: true, dialect: "text", tells: false, hushes: false, recovers: false, wedges: true, shares: true };
export const versions = [
  { name: "@fal-ai/client 1.10.1", from: "fal-client-1-10", closes: true, codes: true, provides: true, refreshes: true, dropsTokens: true },
  { name: "@fal-ai/client 1.9.4", from: "fal-client-1-9", closes: true, codes: true, provides: true, refreshes: true },
  { name: "@fal-ai/client 1.9.2", from: "fal-client-1-9-2", closes: true, codes: true, provides: true },
  { name: "@fal-ai/client 1.8.5", from: "fal-client-1-8", closes: true, codes: true },
  { name: "@fal-ai/client 1.8.2", from: "fal-client-1-8-2", closes: true },
  { name: "@fal-ai/client 1.2.3", from: "fal-client-1-2", closes: true },
  { name: "@fal-ai/client 1.0.2", from: "fal-client-1-0", closes: true },
  { name: "@fal-ai/serverless-client 0.15.0", from: "serverless-client-0-15", old: true, closes: true },
  { name: "@fal-ai/serverless-client 0.10.4", from: "serverless-client-0-10", old: true },
  { name: "@fal-ai/serverless-client 0.9.3", from: "serverless-client-0-9", old: true, aliased: true, dialect: "text", mixes: true },
  { name: "@fal-ai/serverless-client 0.7.4", from: "serverless-client-0-7", old: true, legacy: true, dialect: "text", mixes: true, hushes: false },
  { name: "@fal-ai/serverless-client 0.6.1", from: "serverless-client-0-6", ...SIX },
  { name: "@fal-ai/serverless-client 0.6.0", from: "serverless-client-0-6-0", ...SIX, hoards: true },
].map((facts) => ({ dialect: "binary", tells: true, hushes: true, recovers: true, mixes: facts.dialect !== "text", ...facts, package: require(facts.from) }));

export const byName = (from) => versions.find((version) => version.from === from);

const context = new AsyncLocalStorage();

// Everything that any socket of this process was sent, for a look at the end.
export const frames = [];

// Watches sockets and calls for tokens from now on, and has what is in them put down to the painter that caused it.
export function watchAll() {
  globalThis.window ??= { document: {} }; // All is a page here.
  const warn = console.warn;
  console.warn = (text, ...more) => /^\[fal.realtime\]|fal credentials are exposed/.test(String(text)) || warn(text, ...more);
  const Native = globalThis.WebSocket;
  globalThis.WebSocket = class WebSocket extends Native {
    #seen;

    constructor(url) {
      super(url);
      this.#seen = context.getStore()?.opened(this, url);
      let ended = false;
      this.addEventListener("close", () => (ended = true));
      // A browser says that a socket that could not be opened is closed; Node 20 only says that there was an error.
      this.addEventListener("error", () =>
        setImmediate(() => ended || this.dispatchEvent(Object.assign(new Event("close"), { code: 1006, reason: "", wasClean: false }))));
    }

    send(data) {
      super.send(data);
      if (this.#seen) this.#seen.sent += 1;
    }
  };
  const fetch = globalThis.fetch;
  globalThis.fetch = async (url, init) => {
    const painter = context.getStore();
    const target = new Headers(init?.headers).get("x-fal-target-url") ?? String(url);
    const response = await fetch(url, init);
    if (!painter || !/\/tokens\/$/.test(target)) return response;
    painter.minted += 1;
    const swapped = painter.swapTokens.shift();
    return swapped === undefined ? response : Response.json(swapped);
  };
}

const size = 64;
const picture = png(size);
let counter = 0;

// An input with a name of its own.
export const input = (over = {}) => ({
  prompt: "a lighthouse",
  image_url: dataUri(picture),
  seed: 42,
  num_inference_steps: 2,
  sync_mode: true,
  request_id: `input-${++counter}`,
  ...over,
});

export const inputBytes = (over = {}) => {
  const { image_url, ...rest } = input(over);
  return { ...rest, image_bytes: new Uint8Array(picture) };
};

export const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// One page with one connection.
export class Painter {
  results = [];
  errors = [];
  sockets = [];
  minted = 0;
  // Tokens that the next calls get instead of the gate's.
  swapTokens = [];
  #heard = new Set();

  constructor(version, gate, { app = version.legacy ? "110602490-lcm-sd15-i2i" : "fal-ai/lcm-sd15-i2i", settings = { proxyUrl: gate.proxy }, ...options } = {}) {
    this.version = version;
    const fal = version.old ? (version.package.config(settings), version.package) : version.package.createFalClient(settings);
    const handler = {
      throttleInterval: 0,
      onResult: (result) => this.#note(this.results, result),
      onError: (error) => this.#note(this.errors, error),
      ...options,
    };
    this.connection = context.run(this, () => fal.realtime.connect(app, handler));
  }

  #note(list, what) {
    list.push(what);
    this.changed();
  }

  changed() {
    for (const look of this.#heard) look();
  }

  opened(socket, url) {
    const seen = { url: new URL(url), socket, sent: 0, texts: [], kinds: [], closed: null };
    this.sockets.push(seen);
    socket.addEventListener("message", ({ data }) => {
      const kind = typeof data === "string" ? "text" : "binary";
      seen.kinds.push(kind);
      if (kind === "text") seen.texts.push({ text: data });
      frames.push({ kind, data });
      this.changed();
    });
    socket.addEventListener("close", ({ code, reason }) => {
      seen.closed = { code, reason, at: performance.now() };
      this.changed();
    });
    return seen;
  }

  // Sends, and gives the name of what was sent.
  send(message = input()) {
    context.run(this, () => this.connection.send(message));
    return message.request_id;
  }

  // Sends as a hand does that never rests: so many inputs a second, by the clock, so that a machine that lags sends no
  // fewer. Gives the name of each, and how many results had come when it was sent.
  async burst(perSecond, ms, over) {
    const sent = [];
    const begun = performance.now();
    for (let passed; (passed = performance.now() - begun) < ms; await wait(1000 / perSecond))
      while (sent.length < (passed * perSecond) / 1000) sent.push({ after: this.results.length, name: this.send(input(over)) });
    return sent;
  }

  close() {
    this.connection.close();
  }

  get socket() {
    return this.sockets.at(-1);
  }

  // Waits until `found` gives something, and gives that.
  until(found, what, ms = WAIT_MS) {
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#heard.delete(look);
        clearTimeout(timer);
      };
      const look = () => {
        const value = found();
        if (!value) return;
        done();
        resolve(value);
      };
      const timer = setTimeout(() => {
        done();
        const said = JSON.stringify({ errors: this.errors.map(({ status, message }) => `${status} ${message}`), results: this.results.length, closed: this.sockets.map(({ closed }) => closed) });
        reject(new Error(`${this.version.name}: not within ${ms} ms: ${what}; ${said}`));
      }, ms);
      this.#heard.add(look);
      look();
    });
  }

  result(name) {
    return this.until(() => this.results.find((result) => result.images && result.request_id === name), `a result for ${name}`);
  }

  // Sends one input and waits for its result.
  async paint(message = input()) {
    return this.result(this.send(message));
  }

  // Sends an input every so often until one of them has its result, as a hand does that goes on drawing. Gives how many.
  async keepPainting(every = 250, most = 80) {
    const before = this.results.length;
    for (let sent = 1; sent <= most; sent++) {
      this.send();
      const came = await Promise.race([
        this.until(() => this.results.slice(before).some(({ images }) => images), "a result").then(() => true, () => false),
        wait(every).then(() => false),
      ]);
      if (came) return sent;
    }
    throw new Error(`${this.version.name}: ${most} inputs and no result; ${this.errors.map(({ message }) => message)}`);
  }

  // Waits for the end of the newest socket.
  ended(socket = this.socket) {
    return this.until(() => socket.closed, "the end of the socket");
  }

  // Ends it, as a page does that is left.
  leave() {
    for (const { socket } of this.sockets) socket.close();
  }
}
