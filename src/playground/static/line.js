// The line to the gate: a token, a socket, one drawing in flight and the newest behind it, and coming back after a fault.

import { Frames, WISH } from "./frames.js";

const TOKEN_WITHIN_MS = 10_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 20_000;
const SLOW_MS = 8_000;
const GIVEN_UP_MS = 180_000;
// Closes that the gate chooses, and what people are told of them.
const CLOSES = { 1001: "drain", 1012: "drain", 1013: "full" };
// Words of the gate's for what will be otherwise in a moment, and what people are told of them.
const PASSING = { RATE_LIMITED: "limited", UNAVAILABLE: "busy", DEADLINE_EXCEEDED: "busy" };

// Time before try number `tries`: doubling, and each page at its own moment, so that a gate that comes back is not stormed.
export function backoff(tries, random = Math.random) {
  const most = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(tries, 10));
  return most * (0.5 + random() / 2);
}

export class Line extends EventTarget {
  #endpoint;
  #read;
  #socket;
  #told;
  #flight;
  #dirty = false;
  #reading = false;
  #tries = 0;
  #strikes = 0;
  #timer;
  #held;
  #watch;
  #wish = "resting";
  #opening = 0;

  // `read` gives the newest input: fields, and the drawing as a blob. Events: `state` (detail: word), `problem` (detail: { kind, wait, … } or
  // null), `picture` (detail: { url, timings in seconds, tripMs }).
  constructor(endpoint, read) {
    super();
    this.#endpoint = endpoint;
    this.#read = read;
    addEventListener("online", () => this.#timer !== undefined && this.again());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#timer !== undefined && this.again());
    addEventListener("pagehide", () => this.#leave());
    addEventListener("pageshow", (event) => event.persisted && this.changed());
  }

  // Something changed: the newest input is sent as soon as the one in flight is back.
  changed() {
    this.#dirty = true;
    if (this.#socket?.readyState === WebSocket.OPEN) this.#pump();
    else if (this.#wish === "resting") this.#open();
  }

  // Tries at once instead of waiting.
  again() {
    if (this.#held !== undefined) return this.#release();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#open();
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #turn(state) {
    this.#wish = state;
    this.#tell("state", state);
  }

  async #open() {
    if (this.#timer !== undefined || this.#wish === "connecting") return;
    const opening = ++this.#opening;
    this.#turn("connecting");
    this.#dirty = true;
    try {
      const token = await this.#token();
      if (opening === this.#opening) this.#connect(token);
    } catch (problem) {
      if (opening === this.#opening) this.#later(problem.kind ? problem : { kind: "odd", detail: problem.message });
    }
  }

  async #token() {
    let answer;
    try {
      const route = `/api/fal/token?app=${encodeURIComponent(this.#endpoint)}`;
      answer = await fetch(route, { cache: "no-store", signal: AbortSignal.timeout(TOKEN_WITHIN_MS) });
    } catch {
      throw { kind: navigator.onLine ? "unreachable" : "offline" };
    }
    if (answer.ok) {
      const said = await answer.json();
      return typeof said === "string" ? said : said.token;
    }
    if (answer.status === 401 || answer.status === 403) throw { kind: "denied" };
    if (answer.status === 404 || answer.status === 501) throw { kind: "untokened" };
    if (answer.status === 429) throw { kind: "limited", wait: 1000 * Number(answer.headers.get("retry-after") ?? 1) };
    throw (await this.#illness()) ?? { kind: "odd", detail: `status ${answer.status}` };
  }

  // What the gate itself says is wrong with it; undefined where nothing is.
  async #illness() {
    try {
      const answer = await fetch("/readyz", { cache: "no-store", signal: AbortSignal.timeout(TOKEN_WITHIN_MS) });
      if (answer.ok) return undefined;
      const { detail = "" } = await answer.json();
      if (/shutting down/.test(detail)) return { kind: "drain" };
      if (/failed/.test(detail)) return { kind: "failed" };
      return { kind: "loading", detail: detail.replace(/^the engine is loading:? ?/, "") };
    } catch {
      return { kind: navigator.onLine ? "unreachable" : "offline" };
    }
  }

  #connect(token) {
    const url = new URL(`/${this.#endpoint}/realtime`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("fal_jwt_token", token);
    url.searchParams.set(...WISH);
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    const told = { socket, frames: new Frames(), opened: false, farewell: undefined };
    [this.#socket, this.#told] = [socket, told];
    this.#flight = undefined;
    socket.addEventListener("open", () => {
      told.opened = true;
      this.#turn("live");
      this.#pump();
    });
    socket.addEventListener("message", ({ data }) => this.#hear(data, told));
    socket.addEventListener("close", (event) => this.#socket === socket && this.#closed(event, told));
  }

  #hear(data, told) {
    const said = told.frames.read(data);
    if (said.kind === "rest" || said.kind === "unauthorised") told.farewell = said.kind;
    else if (said.kind === "rejected" || said.kind === "odd") {
      // A picture whose settings were refused is refused after them; people were told why already.
      if (said.id === undefined || said.id === this.#flight?.id) this.#fault(said);
    }
    else if (said.kind === "same" && said.id === this.#flight?.id) {
      this.#landed();
      this.#pump();
    } else if (said.kind === "queued") this.#queued(said);
    else if (said.kind === "picture") this.#picture(said);
  }

  // All places at the engine are taken. The gate says so again when that changes, so nothing is slow meanwhile.
  #queued(problem) {
    if (!this.#flight) return;
    clearInterval(this.#watch);
    this.#tell("problem", problem);
  }

  #picture({ id, url, timings = {} }) {
    // A picture that nobody waits for any more.
    if (id !== this.#flight?.id) return URL.revokeObjectURL(url);
    const tripMs = performance.now() - this.#flight.at;
    this.#landed();
    [this.#tries, this.#strikes] = [0, 0];
    this.#tell("problem", null);
    this.#tell("picture", { url, timings, tripMs });
    this.#pump();
  }

  // An input that the gate did not paint. What passes is tried again in a while, all else with the next change.
  async #fault(problem) {
    this.#landed();
    const passing = PASSING[problem.word];
    if (!passing) {
      this.#tell("problem", problem);
      return this.#pump();
    }
    const wait = backoff(this.#tries++);
    clearTimeout(this.#held);
    this.#held = setTimeout(() => this.#release(), wait);
    const why = passing === "busy" ? await this.#illness() : undefined;
    if (this.#held !== undefined) this.#tell("problem", { ...problem, kind: passing, ...why, wait });
  }

  #release() {
    clearTimeout(this.#held);
    this.#held = undefined;
    this.changed();
  }

  #landed() {
    clearInterval(this.#watch);
    this.#flight = undefined;
    if (this.#wish === "painting") this.#turn("live");
  }

  async #pump() {
    const { socket, frames } = this.#told;
    if (this.#flight || this.#reading || this.#held !== undefined || !this.#dirty || socket.readyState !== WebSocket.OPEN) return;
    this.#dirty = false;
    this.#reading = true;
    let wish;
    try {
      const { drawing, ...fields } = await this.#read();
      wish = await frames.write(fields, drawing);
    } finally {
      this.#reading = false;
    }
    if (socket !== this.#socket || socket.readyState !== WebSocket.OPEN) {
      this.#dirty = true;
      return;
    }
    const at = performance.now();
    this.#flight = { id: wish.id, at };
    for (const frame of wish.frames) socket.send(frame);
    this.#turn("painting");
    this.#watch = setInterval(() => this.#waited(performance.now() - at), 1000);
  }

  #waited(ms) {
    if (ms > GIVEN_UP_MS) this.#socket.close();
    else if (ms > SLOW_MS) this.#tell("problem", { kind: "slow", seconds: Math.round(ms / 1000) });
  }

  async #closed({ code, reason }, told) {
    this.#socket = undefined;
    // What was on its way is lost.
    if (this.#flight || this.#held !== undefined) this.#dirty = true;
    this.#landed();
    clearTimeout(this.#held);
    this.#held = undefined;
    const opening = this.#opening;
    if (told.farewell === "rest") {
      this.#tell("problem", null);
      this.#turn("resting");
      if (this.#dirty) this.#open();
      return;
    }
    if (told.farewell === "unauthorised") {
      // Once is a token that ran out on its way; twice is a fault.
      this.#strikes += 1;
      this.#turn("resting");
      return this.#strikes > 1 ? this.#later({ kind: "expired" }) : this.#open();
    }
    this.#turn("connecting");
    const problem = CLOSES[code]
      ? { kind: CLOSES[code] }
      : ((await this.#illness()) ?? (told.opened ? { kind: "lost", detail: reason } : { kind: "refused" }));
    if (opening === this.#opening) this.#later(problem);
  }

  #later(problem) {
    const wait = Math.max(backoff(this.#tries++), problem.wait ?? 0);
    this.#turn("waiting");
    this.#tell("problem", { ...problem, wait });
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#open();
    }, wait);
  }

  #leave() {
    this.#opening += 1;
    for (const timer of [this.#timer, this.#held]) clearTimeout(timer);
    this.#timer = this.#held = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    this.#landed();
    socket?.close(1000);
    this.#wish = "resting";
  }
}
