// The line to the gate: a token, a socket, one drawing in flight and the newest behind it, and coming back after a fault.

const TOKEN_WITHIN_MS = 10_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 20_000;
const SLOW_MS = 8_000;
const GIVEN_UP_MS = 180_000;

// Time before try number `tries`: doubling, and each page at its own moment, so that a gate that comes back is not stormed.
export function backoff(tries, random = Math.random) {
  const most = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(tries, 10));
  return most * (0.5 + random() / 2);
}

export class Line extends EventTarget {
  #endpoint;
  #read;
  #socket;
  #flight;
  #number = 0;
  #dirty = false;
  #reading = false;
  #tries = 0;
  #strikes = 0;
  #timer;
  #watch;
  #wish = "resting";
  #opening = 0;

  // `read` gives the newest input, as an object. Events: `state` (detail: word), `problem` (detail: { kind, wait, … } or
  // null), `picture` (detail: { result, tripMs }).
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
    const socket = new WebSocket(url);
    const told = { opened: false, farewell: undefined };
    this.#socket = socket;
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
    let said;
    try {
      said = JSON.parse(data);
    } catch {
      return this.#fault({ kind: "odd", detail: "a frame that is no JSON" });
    }
    if (said.type === "x-fal-message") return;
    if (said.type === "x-fal-error" && said.error === "TIMEOUT") {
      told.farewell = "rest";
      return;
    }
    if (said.status === "error" && said.error === "Unauthorized") {
      told.farewell = "unauthorised";
      return;
    }
    if (said.type === "x-fal-error") return this.#fault({ kind: "rejected", detail: said.reason ?? said.error });
    if (!this.#flight || said.request_id !== this.#flight.id) return;
    const tripMs = performance.now() - this.#flight.at;
    this.#landed();
    [this.#tries, this.#strikes] = [0, 0];
    this.#tell("problem", null);
    this.#tell("picture", { result: said, tripMs });
    this.#pump();
  }

  // An input that the gate did not paint. The next change is another chance.
  #fault(problem) {
    this.#landed();
    this.#tell("problem", problem);
    if (this.#dirty) this.#pump();
  }

  #landed() {
    clearInterval(this.#watch);
    this.#flight = undefined;
    if (this.#wish === "painting") this.#turn("live");
  }

  async #pump() {
    const socket = this.#socket;
    if (this.#flight || this.#reading || !this.#dirty || socket?.readyState !== WebSocket.OPEN) return;
    this.#dirty = false;
    this.#reading = true;
    let input;
    try {
      input = await this.#read();
    } finally {
      this.#reading = false;
    }
    if (socket !== this.#socket || socket.readyState !== WebSocket.OPEN) {
      this.#dirty = true;
      return;
    }
    const flight = { id: String(++this.#number), at: performance.now() };
    this.#flight = flight;
    socket.send(JSON.stringify({ ...input, request_id: flight.id }));
    this.#turn("painting");
    this.#watch = setInterval(() => this.#waited(performance.now() - flight.at), 1000);
  }

  #waited(ms) {
    if (ms > GIVEN_UP_MS) this.#socket.close();
    else if (ms > SLOW_MS) this.#tell("problem", { kind: "slow", seconds: Math.round(ms / 1000) });
  }

  async #closed({ code, reason }, told) {
    this.#socket = undefined;
    this.#landed();
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
    const problem =
      code === 1001 || code === 1012 || code === 1013
        ? { kind: "drain" }
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
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    this.#landed();
    socket?.close(1000);
    this.#wish = "resting";
  }
}
