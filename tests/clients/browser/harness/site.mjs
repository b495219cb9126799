// A web site of its own origin, that holds a few files and knows nothing of the gate.

import { createServer } from "node:http";

const KINDS = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", jsx: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8" };

export class Site {
  #server;
  files = {};

  // `files`: text for each path.
  static async start(files = {}) {
    const site = new Site();
    site.files = files;
    site.#server = createServer((request, response) => {
      const { pathname } = new URL(request.url, "http://site");
      const text = site.files[pathname];
      if (pathname === "/favicon.ico") response.writeHead(204).end();
      else if (text === undefined) response.writeHead(404).end();
      else response.writeHead(200, { "content-type": KINDS[pathname.split(".").at(-1)] ?? KINDS.html }).end(text);
    });
    await new Promise((ready) => site.#server.listen(0, "127.0.0.1", ready));
    return site;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  async close() {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }
}

// A port of this machine that nobody listens on.
export async function freePort() {
  const server = createServer();
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}
