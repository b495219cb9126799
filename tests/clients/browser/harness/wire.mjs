// A stretch of network between a browser and a gate, which can go bad for sockets.

import net from "node:net";

export class Wire {
  #server;
  #sockets = new Set();
  // Whether handshakes of sockets are answered with 403 from now on.
  refuses = false;

  static async start(port) {
    const wire = new Wire();
    wire.#server = net.createServer((near) => wire.#join(near, port));
    await new Promise((ready) => wire.#server.listen(0, "127.0.0.1", ready));
    return wire;
  }

  #join(near, port) {
    const far = net.connect(port, "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) one.on("error", () => other.destroy()).on("close", () => other.destroy());
    // A browser opens a connection of its own for each socket, and its first bytes are the whole head.
    near.once("data", (head) => {
      if (/^upgrade: websocket/im.test(head.toString("latin1"))) {
        if (this.refuses) return near.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        this.#sockets.add(near);
        near.on("close", () => this.#sockets.delete(near));
      }
      far.write(head);
      near.pipe(far);
    });
    far.pipe(near);
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  // Breaks every socket off, without a word of either side.
  cut() {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async close() {
    this.cut();
    await new Promise((done) => this.#server.close(done));
  }
}
