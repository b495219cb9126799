// falgate's shim: sends sockets that fal's clients open at fal to the gate that served this script, and nothing else.
//
//   <script type="module" src="https://gate.example/falgate.js"></script>
//
// or, in a bundle or in Node 22 and newer, with this file beside your own:
//
//   import { installFalgate } from "./falgate.js";
//   installFalgate({ url: "https://gate.example" });
//
// Call it before the first socket is opened.

const scriptUrl = import.meta.url;

// The same code stands in falgate.js and falgate.classic.js, from here to the end mark.
// The state lives on the global object, so that a page that loads the shim twice still has one.
const STATE = Symbol.for("falgate.websocket");

// Hosts that fal's clients open sockets to: the run host, and the legacy gateway with the app as its first label.
const LEGACY_HOST = /^([0-9]+-[a-z0-9-]+)\.gateway\.alpha\.fal\.ai$/;

// Where a socket meant for fal goes at the gate, with the gate's address in front; undefined for every other URL.
function redirected(url, gate) {
  let meant;
  try {
    meant = new URL(url);
  } catch {
    return undefined; // Relative, or no URL at all: the real constructor says what is wrong with it.
  }
  // `host` has a port unless it is the default one.
  if (meant.protocol !== "wss:" || meant.username || meant.password) return undefined;
  const legacy = LEGACY_HOST.exec(meant.host);
  if (meant.host !== "fal.run" && !legacy) return undefined;
  return `${gate}${legacy ? `/${legacy[1]}` : ""}${meant.pathname}${meant.search}${meant.hash}`;
}

// An http(s) or ws(s) address of a gate, with or without a path in front of it, as the start of socket URLs.
function socketBase(url) {
  const base = new URL(url);
  if (!/^(http|ws)s?:$/.test(base.protocol)) throw new TypeError(`falgate: ${url} is no http or https address of a gate`);
  return `${base.protocol.replace("http", "ws")}//${base.host}${base.pathname.replace(/\/+$/, "")}`;
}

// The address of the folder that this script was loaded from; undefined in a bundle or in Node, where it says nothing.
function loadedFrom() {
  const here = scriptUrl && new URL(scriptUrl);
  const served = here && /^https?:$/.test(here.protocol) && /\/falgate(\.classic)?\.js$/.test(here.pathname);
  return served ? new URL(".", here).href : undefined;
}

function gateAddress(url) {
  const address = url ?? loadedFrom();
  if (address === undefined) throw new TypeError("falgate: say where the gate is, for example { url: \"https://gate.example\" }");
  return new URL(address, globalThis.location?.href).href;
}

// Sends sockets that are meant for fal to the gate from now on. Called again, it only changes the gate.
function installFalgate({ url } = {}) {
  const base = socketBase(gateAddress(url));
  const state = (globalThis[STATE] ??= { base: undefined, native: undefined, shim: undefined });
  const native = globalThis.WebSocket;
  if (typeof native !== "function") throw new TypeError("falgate: this runtime has no WebSocket; Node has one from 22 on");
  state.base = base;
  if (native === state.shim) return;
  // A proxy and no subclass: constants, prototype and instanceof are the real ones, for sockets old and new.
  const shim = new Proxy(native, {
    construct(target, args, wanted) {
      const elsewhere = state.base !== undefined && args.length > 0 ? redirected(args[0], state.base) : undefined;
      const given = elsewhere === undefined ? args : [elsewhere, ...args.slice(1)];
      return Reflect.construct(target, given, wanted === shim ? target : wanted);
    },
  });
  Object.assign(state, { native, shim });
  globalThis.WebSocket = shim;
}

// Leaves all sockets alone again. Where another script has wrapped the constructor since, that wrapper stays.
function uninstallFalgate() {
  const state = globalThis[STATE];
  if (!state) return;
  state.base = undefined;
  if (globalThis.WebSocket !== state.shim) return;
  globalThis.WebSocket = state.native;
  state.shim = undefined;
}

// A `tokenProvider` for fal's client (1.9.0 and newer) that asks the gate. `init` is passed to fetch.
function falgateTokenProvider(url, init) {
  const route = `${gateAddress(url).replace(/\/+$/, "")}/api/fal/token`;
  return async (app) => {
    const answer = await fetch(`${route}?app=${encodeURIComponent(app)}`, { cache: "no-store", ...init });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`falgate: no token for ${app}: ${answer.status} ${text.slice(0, 200)}`);
    let token = text.trim();
    try {
      token = JSON.parse(token);
    } catch {
      return token; // Bare text is a token too.
    }
    return typeof token === "object" && token !== null ? token.token : String(token);
  };
}
// End of the same code.

if (loadedFrom() !== undefined && typeof globalThis.WebSocket === "function") installFalgate();

export { falgateTokenProvider, installFalgate, uninstallFalgate };
