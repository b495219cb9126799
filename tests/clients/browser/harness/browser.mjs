// A headless Chromium, and pages in it that fail their test over anything that the browser complains about.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import path from "node:path";
import { chromium } from "playwright-core";
import { scratch } from "../../js/harness/places.mjs";

const SCREENS = path.join(scratch, "screens");
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export class Browser {
  #context;
  #folder;

  // `look`: what the device is like, in playwright's words: viewport, colorScheme, isMobile, …
  static async start(look = {}) {
    const browser = new Browser();
    browser.#folder = mkdtempSync(path.join(scratch, "chromium-"));
    const executablePath = process.env.FALGATE_CHROMIUM ?? "/usr/bin/chromium";
    browser.#context = await chromium.launchPersistentContext(browser.#folder, { executablePath, headless: true, args: FLAGS, ...look });
    return browser;
  }

  async open(url) {
    const view = new View(await this.#context.newPage());
    await view.page.goto(url);
    return view;
  }

  async close() {
    await this.#context?.close();
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
  }
}

// One page, and all that it complained about and spoke to.
export class View {
  complaints = [];
  requests = [];
  sockets = [];

  constructor(page) {
    this.page = page;
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && this.complaints.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => this.complaints.push(`uncaught: ${error.stack ?? error}`));
    page.on("request", (request) => this.requests.push(`${request.method()} ${request.url()}`));
    page.on("websocket", (socket) => {
      const seen = { url: socket.url(), texts: 0, pictures: [0, 0], mostInFlight: 0, last: [], closed: false };
      // Ways are 0 for what the page sends and 1 for what it gets. Bare pictures are the binary frames; `texts` are those sent.
      const note = (way) => ({ payload }) => {
        seen.last[way] = payload;
        seen.texts += way === 0 && !Buffer.isBuffer(payload) ? 1 : 0;
        seen.pictures[way] += Buffer.isBuffer(payload) ? 1 : 0;
        seen.mostInFlight = Math.max(seen.mostInFlight, seen.pictures[0] - seen.pictures[1]);
      };
      socket.on("framesent", note(0));
      socket.on("framereceived", note(1));
      socket.on("close", () => (seen.closed = true));
      this.sockets.push(seen);
    });
  }

  // Keeps what the page looks like for people.
  async picture(name) {
    mkdirSync(SCREENS, { recursive: true });
    await this.page.screenshot({ path: path.join(SCREENS, `${name}.png`) });
  }

  // Waits until `what`, evaluated in the page with `argument`, is true.
  until(what, argument, ms = 20_000) {
    return this.page.waitForFunction(what, argument, { timeout: ms, polling: 50 }).catch((error) => {
      throw new Error(`${error.message.split("\n")[0]}\n${what}\n${this.complaints.join("\n")}`);
    });
  }

  // Fails over any complaint that none of `expected` explains. CSP violations are complaints of the browser's.
  assertQuiet(...expected) {
    const odd = this.complaints.filter((complaint) => !expected.some((pattern) => pattern.test(complaint)));
    assert.deepEqual(odd, []);
  }
}
