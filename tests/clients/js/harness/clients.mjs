// The published clients, unmodified, under one handle: which version, and by which way it reaches a gate.

import { createRequire } from "node:module";
import { CALLER_KEY } from "./gate.mjs";
import { inPage } from "./network.mjs";

const require = createRequire(import.meta.url);

// One published version. What is known of it:
// - `old`: a serverless-client, whose calls give the bare output and whose settings are global;
// - `legacy`: knows apps as `{n}-{alias}` only, and reaches each at a host name of its own;
// - `uploads`: puts data URIs into storage before it calls;
// - `bare`: has no `proxyUrl`, pages use its `withProxy`;
// - `attempts`: how often it asks when the answer is 429, 502, 503 or 504.
class Version {
  constructor(facts) {
    Object.assign(this, facts);
    this.package = require(facts.from);
    ({ ApiError: this.ApiError, ValidationError: this.ValidationError } = this.package);
  }

  // A spelling of `fal-ai/{alias}` that this version can call.
  app(alias = "lcm-sd15-i2i") {
    return this.legacy ? `110602490-${alias}` : `fal-ai/${alias}`;
  }

  // In what it takes for a browser, with its proxy option set.
  inBrowser(proxyUrl) {
    return new Handle(this, { proxyUrl }, inPage);
  }

  // In a server's process that uses the proxy all the same. Only the newest one can.
  always(url) {
    return new Handle(this, { proxyUrl: { url, when: "always" } });
  }

  // In a server's process with a key, calling fal's own host names; `falLivesAt` decides who answers.
  onServer(credentials = CALLER_KEY) {
    return new Handle(this, { credentials });
  }

  // In a server's process, with a middleware that swaps fal's origin for the gate's (protocol spec 1.7).
  rewriting(origin, credentials = CALLER_KEY) {
    const swap = (request) => Promise.resolve({ ...request, url: request.url.replace(/^https:\/\/(queue\.)?fal\.run/, origin) });
    return new Handle(this, { credentials, requestMiddleware: swap });
  }
}

// A configured client. It is set up anew for each call: the old ones keep their settings in a global.
class Handle {
  constructor(version, settings, within = (what) => what()) {
    Object.assign(this, { version, settings, within });
  }

  #set() {
    const { package: fal, old, bare } = this.version;
    const settings = { credentials: undefined, ...this.settings };
    if (!old) return fal.createFalClient(settings);
    if (bare && settings.proxyUrl) settings.requestMiddleware = fal.withProxy({ targetUrl: settings.proxyUrl });
    fal.config(settings);
    return fal;
  }

  // Gives `{ data, requestId }` of every version; the old ones know no request id.
  run(app, options) {
    return this.within(async () => {
      const result = await this.#set().run(app, options);
      return this.version.old ? { data: result } : result;
    });
  }

  // The error that a run ends with.
  async failed(app, options) {
    try {
      await this.run(app, options);
    } catch (error) {
      return error;
    }
    throw new Error(`${this.version.name} got an answer where an error was due`);
  }

  subscribe(app, options) {
    return this.within(async () => {
      const result = await this.#set().subscribe(app, options);
      return this.version.old ? { data: result } : result;
    });
  }

  queue(name, app, options) {
    return this.within(() => this.#set().queue[name](app, options));
  }

  upload(file) {
    return this.within(() => this.#set().storage.upload(file));
  }

  stream(app, options) {
    return this.within(() => this.#set().stream(app, options));
  }
}

export const clients = [
  { name: "@fal-ai/client 1.10.1", from: "fal-client-1-10", attempts: 4 },
  { name: "@fal-ai/client 1.8.5", from: "fal-client-1-8", attempts: 4 },
  { name: "@fal-ai/client 1.2.3", from: "fal-client-1-2", attempts: 1 },
  { name: "@fal-ai/serverless-client 0.15.0", from: "serverless-client-0-15", attempts: 1, old: true },
  { name: "@fal-ai/serverless-client 0.7.4", from: "serverless-client-0-7", attempts: 1, old: true, legacy: true, uploads: true },
  { name: "@fal-ai/serverless-client 0.5.4", from: "serverless-client-0-5", attempts: 1, old: true, legacy: true, uploads: true, bare: true },
].map((facts) => new Version(facts));

export const [newest] = clients;
