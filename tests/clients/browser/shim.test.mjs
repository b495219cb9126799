// The shim by itself: which sockets it sends to the gate, and how little else it changes.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import vm from "node:vm";
import { asModule, source } from "./harness/shim.mjs";

// Stands for the runtime's own constructor: remembers what it was asked for, and refuses as the real one does.
class FakeSocket extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  constructor(...args) {
    if (args.length === 0) throw new TypeError("1 argument required");
    super();
    this.args = args;
  }
}

const STATE = Symbol.for("falgate.websocket");
const kept = globalThis.WebSocket;
let shim;

beforeEach(async () => {
  delete globalThis[STATE];
  globalThis.WebSocket = FakeSocket;
  // A copy of its own for each test.
  shim = await import(`${asModule()}?${Math.random()}`);
});

afterEach(() => {
  delete globalThis[STATE];
  globalThis.WebSocket = kept;
});

const opened = (...args) => new WebSocket(...args).args;

describe("the module", () => {
  const gate = "https://gate.example";

  for (const [url, expected] of [
    ["wss://fal.run/fal-ai/lcm-sd15-i2i/realtime?fal_jwt_token=a%2Fb&max_buffering=2", "wss://gate.example/fal-ai/lcm-sd15-i2i/realtime?fal_jwt_token=a%2Fb&max_buffering=2"],
    ["wss://fal.run/110602490/lcm-sd15-i2i/ws", "wss://gate.example/110602490/lcm-sd15-i2i/ws"],
    ["wss://fal.run:443/a/b/realtime", "wss://gate.example/a/b/realtime"],
    ["WSS://FAL.RUN/a/B/realtime", "wss://gate.example/a/B/realtime"],
    ["wss://110602490-lcm-sd15-i2i.gateway.alpha.fal.ai/ws", "wss://gate.example/110602490-lcm-sd15-i2i/ws"],
    ["wss://110602490-lcm.gateway.alpha.fal.ai/ws?fal_jwt_token=t", "wss://gate.example/110602490-lcm/ws?fal_jwt_token=t"],
    [new URL("wss://fal.run/a/b/realtime"), "wss://gate.example/a/b/realtime"],
  ]) {
    test(`sends ${url} to the gate`, () => {
      shim.installFalgate({ url: gate });
      assert.deepEqual(opened(url), [expected]);
    });
  }

  for (const url of [
    "ws://fal.run/a/b/realtime",
    "wss://fal.run:8443/a/b/realtime",
    "wss://fal.run./a/b/realtime",
    "wss://user@fal.run/a/b",
    "wss://:secret@fal.run/a/b",
    "wss://fal.run.evil.example/a/b",
    "wss://myfal.run/a/b",
    "wss://queue.fal.run/a/b",
    "wss://ws.fal.run/a/b",
    "wss://fal.ai/a/b",
    "wss://gateway.alpha.fal.ai/ws",
    "wss://lcm-110602490.gateway.alpha.fal.ai/ws",
    "wss://x.110602490-lcm.gateway.alpha.fal.ai/ws",
    "wss://110602490-lcm.gateway.alpha.fal.ai:444/ws",
    "wss://110602490-lcm.gateway.alpha.fal.ai.evil.example/ws",
    "wss://chat.example/?next=wss://fal.run/a/b",
    "https://fal.run/a/b/realtime",
    "/realtime",
    "not a url",
    "",
  ]) {
    test(`leaves ${url || "an empty URL"} alone`, () => {
      shim.installFalgate({ url: gate });
      assert.deepEqual(opened(url, "chat"), [url, "chat"]);
    });
  }

  test("hands subprotocols on", () => {
    shim.installFalgate({ url: gate });
    assert.deepEqual(opened("wss://fal.run/a/b/ws", ["one", "two"]), ["wss://gate.example/a/b/ws", ["one", "two"]]);
  });

  test("hands odd arguments to the real constructor, which refuses them in its own words", () => {
    shim.installFalgate({ url: gate });
    assert.throws(() => new WebSocket(), /1 argument required/);
    assert.deepEqual(opened(undefined), [undefined]);
    assert.throws(() => WebSocket("wss://fal.run/a/b"), TypeError);
  });

  test("keeps constants, prototype, name and instanceof, for sockets old and new", () => {
    const before = new WebSocket("wss://chat.example/");
    shim.installFalgate({ url: gate });
    const after = new WebSocket("wss://fal.run/a/b/realtime");
    assert.notEqual(WebSocket, FakeSocket);
    assert.deepEqual([WebSocket.CONNECTING, WebSocket.OPEN, WebSocket.CLOSING, WebSocket.CLOSED], [0, 1, 2, 3]);
    assert.equal(WebSocket.prototype, FakeSocket.prototype);
    assert.equal(WebSocket.name, "FakeSocket");
    for (const socket of [before, after]) assert.ok(socket instanceof WebSocket && socket instanceof FakeSocket);
    assert.equal(Object.getPrototypeOf(after), FakeSocket.prototype);
  });

  test("lets others derive from it", () => {
    shim.installFalgate({ url: gate });
    class Own extends WebSocket {
      get own() {
        return true;
      }
    }
    const socket = new Own("wss://fal.run/a/b/realtime");
    assert.ok(socket.own && socket instanceof Own && socket instanceof WebSocket);
    assert.deepEqual(socket.args, ["wss://gate.example/a/b/realtime"]);
    assert.ok(!(new WebSocket("wss://x.example/") instanceof Own));
  });

  for (const [url, expected] of [
    ["http://127.0.0.1:8787", "ws://127.0.0.1:8787/a/b/ws"],
    ["https://gate.example/", "wss://gate.example/a/b/ws"],
    ["https://user:pw@gate.example/behind/a/path/?q#h", "wss://gate.example/behind/a/path/a/b/ws"],
    ["wss://gate.example", "wss://gate.example/a/b/ws"],
    [new URL("https://gate.example:444"), "wss://gate.example:444/a/b/ws"],
  ]) {
    test(`reaches a gate at ${url}`, () => {
      shim.installFalgate({ url });
      assert.deepEqual(opened("wss://fal.run/a/b/ws"), [expected]);
    });
  }

  test("installed twice, by two copies of itself, is installed once, for the gate named last", async () => {
    shim.installFalgate({ url: gate });
    const first = WebSocket;
    const copy = await import(`${asModule()}?copy`);
    copy.installFalgate({ url: "https://other.example" });
    assert.equal(WebSocket, first);
    assert.deepEqual(opened("wss://fal.run/a/b/ws"), ["wss://other.example/a/b/ws"]);
  });

  test("uninstalled, is gone", () => {
    shim.uninstallFalgate();
    shim.installFalgate({ url: gate });
    shim.uninstallFalgate();
    assert.equal(WebSocket, FakeSocket);
    shim.installFalgate({ url: gate });
    assert.deepEqual(opened("wss://fal.run/a/b/ws"), ["wss://gate.example/a/b/ws"]);
  });

  test("uninstalled under another script's wrapper, leaves the wrapper there and sockets alone", () => {
    shim.installFalgate({ url: gate });
    const wrapper = new Proxy(WebSocket, {});
    globalThis.WebSocket = wrapper;
    assert.deepEqual(opened("wss://fal.run/a/b/ws"), ["wss://gate.example/a/b/ws"]);
    shim.uninstallFalgate();
    assert.equal(WebSocket, wrapper);
    assert.deepEqual(opened("wss://fal.run/a/b/ws"), ["wss://fal.run/a/b/ws"]);
    shim.installFalgate({ url: gate });
    assert.deepEqual(opened("wss://fal.run/a/b/ws"), ["wss://gate.example/a/b/ws"]);
  });

  test("says what it lacks, and changes nothing then", () => {
    assert.throws(() => shim.installFalgate(), /say where the gate is/);
    assert.throws(() => shim.installFalgate({ url: "ftp://gate.example" }), /no http or https address/);
    assert.throws(() => shim.installFalgate({ url: "gate" }), TypeError);
    assert.equal(WebSocket, FakeSocket);
    globalThis.WebSocket = undefined;
    assert.throws(() => shim.installFalgate({ url: gate }), /Node has one from 22 on/);
  });
});

describe("the token provider", () => {
  const realFetch = globalThis.fetch;
  afterEach(() => (globalThis.fetch = realFetch));

  // Answers one question, and gives what was asked.
  function answering(body, status = 200) {
    const asked = [];
    globalThis.fetch = async (...args) => (asked.push(args), new Response(body, { status }));
    return asked;
  }

  for (const [what, body] of [
    ["a JSON string", '"to.ke.n"'],
    ["an object", '{"token":"to.ke.n","expiresAt":"2026-11-23T00:00:00Z"}'],
    ["bare text", "to.ke.n\n"],
  ]) {
    test(`takes ${what}`, async () => {
      const asked = answering(body);
      const provide = shim.falgateTokenProvider("https://gate.example/", { headers: { authorization: "Bearer mine" } });
      assert.equal(await provide("fal-ai/lcm-sd15-i2i/realtime"), "to.ke.n");
      assert.equal(asked[0][0], "https://gate.example/api/fal/token?app=fal-ai%2Flcm-sd15-i2i%2Frealtime");
      assert.deepEqual(asked[0][1], { cache: "no-store", headers: { authorization: "Bearer mine" } });
    });
  }

  test("fails with the gate's words", async () => {
    answering('{"detail":"not for you"}', 403);
    await assert.rejects(shim.falgateTokenProvider("https://gate.example")("a/b"), /no token for a\/b: 403 .*not for you/);
  });
});

describe("the classic script", () => {
  // Runs it as a page does that was handed it from `src`.
  function page(src) {
    const globals = { WebSocket: class extends FakeSocket {}, URL, fetch, document: src && { currentScript: { src } }, location: { href: "https://page.example/draw" } };
    const context = vm.createContext(globals);
    vm.runInContext(source("falgate.classic.js"), context);
    return context;
  }
  const socket = (context, url) => vm.runInContext(`new WebSocket(${JSON.stringify(url)}).args[0]`, context);

  test("sends sockets to the place that it came from", () => {
    const context = page("https://gate.example/falgate.classic.js?v=1");
    assert.equal(socket(context, "wss://fal.run/a/b/realtime"), "wss://gate.example/a/b/realtime");
    assert.equal(socket(context, "wss://chat.example/"), "wss://chat.example/");
  });

  test("behind a path of a bigger site, sends them below that path", () => {
    assert.equal(socket(page("https://site.example/gate/falgate.classic.js"), "wss://fal.run/a/b/ws"), "wss://site.example/gate/a/b/ws");
  });

  test("copied into a bundle or a worker, waits to be told", () => {
    for (const src of ["https://page.example/assets/bundle-1a2b.js", undefined]) {
      const context = page(src);
      assert.equal(socket(context, "wss://fal.run/a/b/ws"), "wss://fal.run/a/b/ws");
      vm.runInContext(`falgate.install({ url: "/gate" })`, context);
      assert.equal(socket(context, "wss://fal.run/a/b/ws"), "wss://page.example/gate/a/b/ws");
      vm.runInContext("falgate.uninstall()", context);
      assert.equal(socket(context, "wss://fal.run/a/b/ws"), "wss://fal.run/a/b/ws");
    }
  });

  test("holds the same code as the module", () => {
    const core = (name) => {
      const [, text] = /^ *\/\/ The same code stands[^\n]*\n(.*?)^ *\/\/ End of the same code/ms.exec(source(name));
      return text.replace(/^ +/gm, "");
    };
    assert.ok(core("falgate.js").length > 1000);
    assert.equal(core("falgate.classic.js"), core("falgate.js"));
  });
});
