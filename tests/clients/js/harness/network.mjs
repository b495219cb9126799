// What stands in for a browser and for the internet: fal's host names lead to a gate, and calls can be watched or cut.
// The clients themselves are not touched.

import net from "node:net";
import tls from "node:tls";

const SLOT = Symbol.for("undici.globalDispatcher.1");
// fal's names, and one that the gate has for itself: clients of the first days take it as their `host`.
const isFal = (host) => /(^|\.)(fal\.(run|ai)|gate\.test)$/.test(host);

let agent = null;

// Until `toInternet`, connections to fal's host names are made to this machine's `port`, with TLS that `ca` signed.
// Whatever else is dialled on this machine trusts `ca` too.
export async function falLivesAt(port, ca) {
  await fetch("data:,"); // Node makes its dispatcher on the first call.
  const Agent = globalThis[SLOT]?.constructor;
  if (!Agent) throw new Error("this Node has no dispatcher to redirect; Node 20, 22 and 24 have");
  await toInternet();
  agent = { fal: new Agent({ connect: (to, done) => connect(to, done, port, ca) }), before: globalThis[SLOT] };
  globalThis[SLOT] = agent.fal;
}

// Undoes `falLivesAt`.
export async function toInternet() {
  if (!agent) return;
  globalThis[SLOT] = agent.before;
  await agent.fal.destroy();
  agent = null;
}

function connect({ hostname, port, protocol }, done, falPort, ca) {
  const secure = protocol === "https:";
  const fal = isFal(hostname);
  const place = { host: fal ? "127.0.0.1" : hostname, port: fal ? falPort : Number(port) || (secure ? 443 : 80) };
  const socket = secure
    ? tls.connect({ ...place, ca, servername: net.isIP(hostname) ? "" : hostname, ALPNProtocols: ["http/1.1"] })
    : net.connect(place);
  const failed = (error) => done(error, null);
  socket.once("error", failed);
  socket.once(secure ? "secureConnect" : "connect", () => {
    socket.removeListener("error", failed);
    done(null, socket);
  });
}

let pages = 0;

// Runs `what` with the globals by which the clients tell a browser.
export async function inPage(what) {
  if (pages++ === 0) globalThis.window = { document: {} };
  try {
    return await what();
  } finally {
    if (--pages === 0) delete globalThis.window;
  }
}

// Runs `what` while every fetch ends when `signal` does, as when a tab is closed.
export async function inTab(signal, what) {
  const fetch = globalThis.fetch;
  globalThis.fetch = (url, init = {}) => fetch(url, { ...init, signal });
  try {
    return await what();
  } finally {
    globalThis.fetch = fetch;
  }
}

// Collects what every fetch sends and gets while `what` runs, bodies included.
export async function watched(what) {
  const fetch = globalThis.fetch;
  const seen = [];
  const pending = [];
  globalThis.fetch = async (url, init = {}) => {
    const response = await fetch(url, init);
    const note = { url: String(url), init, status: response.status, headers: [...response.headers], body: "" };
    seen.push(note);
    const copy = response.clone();
    pending.push(copy.text().then((text) => (note.body = text), () => {}));
    return response;
  };
  try {
    const result = await what();
    await Promise.all(pending);
    return { result, seen };
  } finally {
    globalThis.fetch = fetch;
  }
}
