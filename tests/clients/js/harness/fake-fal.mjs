// A fal that does what a test tells it to. Three listeners of this machine stand for the run, queue and REST hosts;
// every request is recorded.

import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { CANARY } from "./gate.mjs";
import { certificates } from "./certificates.mjs";

// One request as it came, and whether its sender stayed for the answer.
export class Call {
  constructor(host, request, response) {
    this.host = host;
    this.method = request.method;
    this.url = request.url;
    this.headers = request.headers;
    this.rawHeaders = request.rawHeaders;
    this.gone = new Promise((resolve) => response.once("close", () => resolve(!response.writableFinished)));
  }

  get isJson() {
    try {
      return this.json !== undefined;
    } catch {
      return false;
    }
  }

  get json() {
    return JSON.parse(this.body.toString("utf8"));
  }
}

const json = (value, status = 200, headers = {}) => ({ status, headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(value) });

// Answers to give: values, or functions that write one.
export const answers = {
  json,
  validation: () =>
    json({ detail: [{ loc: ["body", "prompt"], msg: "Field required", type: "missing", input: {}, url: "https://docs.fal.ai/errors#missing" }] }, 422),
  detail: (status, detail, headers = {}) => json({ detail }, status, headers),
  text: (status, body, headers = {}) => ({ status, headers: { "content-type": "text/html", ...headers }, body }),
  gzip: (value) => ({ status: 200, headers: { "content-type": "application/json", "content-encoding": "gzip" }, body: gzipSync(JSON.stringify(value)) }),
  // Takes the request and answers nothing.
  silent: () => () => {},
  // Sends the head and half of a body, and nothing more.
  stalled: () => (_, response) => {
    response.writeHead(200, { "content-type": "application/json", "content-length": "100" });
    response.write('{"half":');
  },
  // Breaks the connection before any answer.
  broken: () => (_, response) => response.socket.destroy(),
  // Breaks it in the middle of the body.
  cut: () => (_, response) => {
    response.writeHead(200, { "content-type": "application/json", "content-length": "100" });
    response.write('{"half":', () => response.socket.destroy());
  },
  // Sends each event when `release` says so: `release()` gives a promise a time.
  events: (events, release = async () => {}) => async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream", "x-fal-request-id": randomUUID() });
    response.write(": keep-alive\n\n");
    for (const event of events) {
      await release();
      response.write(`data: ${JSON.stringify(event)}\n\n`);
    }
    response.end();
  },
};

export class FakeFal {
  calls = [];
  #planned = [];
  #always = null;
  #servers = [];
  #ports = {};
  #jobs = new Map();
  #files = new Map();
  #arrivals = [];

  static async start({ tls = false } = {}) {
    const fal = new FakeFal();
    const { cert, key } = tls ? certificates() : {};
    for (const host of ["run", "queue", "rest"]) {
      const listener = (request, response) => fal.#take(host, request, response);
      const server = tls ? createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, listener) : createServer(listener);
      server.keepAliveTimeout = 30_000;
      await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
      fal.#servers.push(server);
      fal.#ports[host] = server.address().port;
    }
    fal.tls = tls;
    return fal;
  }

  origin(host) {
    return `${this.tls ? "https://localhost" : "http://127.0.0.1"}:${this.#ports[host]}`;
  }

  // The gate's `[upstream]` table that leads here.
  get upstream() {
    const addresses = { run: this.origin("run"), queue: this.origin("queue"), rest: this.origin("rest") };
    return this.tls ? { addresses, ca_file: certificates().ca } : { addresses, allow_plain_loopback: true };
  }

  // Answers the next calls with these, one each; then as fal would.
  next(...replies) {
    this.#planned.push(...replies);
    return this;
  }

  // Answers every call with this, until `reset`.
  always(reply) {
    this.#always = reply;
    return this;
  }

  reset() {
    this.calls.length = 0;
    this.#planned.length = 0;
    this.#always = null;
  }

  // The call of this number, once its head and body are here.
  async call(number = 0) {
    while (this.calls.length <= number) await new Promise((resolve) => this.#arrivals.push(resolve));
    return this.calls[number];
  }

  async stop() {
    for (const server of this.#servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  async #take(host, request, response) {
    const call = new Call(host, request, response);
    const parts = [];
    try {
      for await (const part of request) parts.push(part);
    } catch {
      call.broken = true;
    }
    call.body = Buffer.concat(parts);
    this.calls.push(call);
    this.#arrivals.splice(0).forEach((resolve) => resolve());
    const reply = this.#planned.shift() ?? this.#always ?? this.#asFal(call);
    if (typeof reply === "function") return reply(request, response, call);
    const headers = { "x-fal-request-id": randomUUID(), ...reply.headers };
    response.writeHead(reply.status, headers).end(reply.body);
  }

  // What fal itself would say: it knows the key, and echoes the input.
  #asFal(call) {
    const path = call.url.split("?")[0];
    const stored = this.#files.get(path);
    if (call.host === "rest" && call.method === "PUT") {
      this.#files.set(path.replace(/^\/upload/, "/file"), { bytes: call.body, type: call.headers["content-type"] });
      return json({});
    }
    if (stored && call.method === "GET") return { status: 200, headers: { "content-type": stored.type }, body: stored.bytes };
    if (call.headers.authorization !== `Key ${CANARY}`) return json({ detail: "No user found for Key ID and Secret" }, 401);
    if (call.body.length && !call.isJson) return json({ detail: "There was an error parsing the body" }, 400);
    if (call.host === "rest") return this.#rest(call, path);
    if (call.host === "queue") return this.#queue(call, path);
    return json({ echo: call.body.length ? call.json : null, path: call.url, method: call.method });
  }

  #rest(call, path) {
    if (path === "/tokens/") return json(`token-for-${call.json.allowed_apps}`);
    if (path !== "/storage/upload/initiate") return json({ detail: `Path ${path} not found` }, 404);
    const name = `${randomUUID()}-${call.json.file_name}`;
    return json({ upload_url: `${this.origin("rest")}/upload/${name}?signature=s`, file_url: `${this.origin("rest")}/file/${name}` });
  }

  // A job waits for one look at its status, and is done at the next.
  #queue(call, path) {
    const [app, rest] = path.split("/requests/");
    if (!rest) {
      const id = randomUUID();
      this.#jobs.set(id, { looks: 0, input: call.json, app });
      return json({ status: "IN_QUEUE", queue_position: 0, ...this.#urls(app, id) });
    }
    const [id, ...verb] = rest.split("/");
    const job = this.#jobs.get(id);
    if (!job) return json({ status: "NOT_FOUND", detail: "Request not found" }, 404);
    const done = job.cancelled || job.looks > 0;
    switch (`${call.method} ${verb.join("/")}`) {
      case "GET status": {
        job.looks += 1;
        const state = done ? { status: "COMPLETED", logs: [], metrics: { inference_time: 0.1 } } : { status: "IN_QUEUE", queue_position: 0 };
        return json({ ...state, ...this.#urls(app, id) }, done ? 200 : 202);
      }
      case "GET status/stream":
        return answers.events([
          { status: "IN_QUEUE", queue_position: 0, ...this.#urls(app, id) },
          { status: "COMPLETED", logs: [], metrics: {}, ...this.#urls(app, id) },
        ]);
      case "GET ":
      case "GET response":
        if (!done && job.looks === 0) return json({ detail: "Request is still in progress" }, 400);
        return json({ echo: job.input, app: job.app }, 200, { "x-fal-request-id": id });
      case "PUT cancel":
        if (done) return json({ status: "ALREADY_COMPLETED" }, 400);
        job.cancelled = true;
        return json({ status: "CANCELLATION_REQUESTED" }, 202);
      default:
        return json({ detail: `Path ${path} not found` }, 404);
    }
  }

  #urls(app, id) {
    const base = `https://queue.fal.run${app.split("/").slice(0, 3).join("/")}/requests/${id}`;
    return { request_id: id, response_url: base, status_url: `${base}/status`, cancel_url: `${base}/cancel`, gateway_request_id: id };
  }
}
