// What is written and read on one socket: JSON text as fal's pages send it, and bare pictures where the gate offers them.

const TYPES = { 1: "image/jpeg", 2: "image/png" };

// A socket asks for bare pictures with this in its URL; a gate that has them says so at once.
export const WISH = ["falgate", "direct"];

function dataUri(blob) {
  return new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => fail(reader.error);
    reader.readAsDataURL(blob);
  });
}

// The picture behind its header, whose numbers are big-endian.
function bare(buffer) {
  const head = new DataView(buffer);
  if (buffer.byteLength < 40 || head.getUint8(0) !== 1) return { kind: "odd", detail: "a picture of another version" };
  const [decode, queue, inference, encode, total] = [0, 1, 2, 3, 4].map((at) => head.getUint32(20 + 4 * at) / 1e6);
  const blob = new Blob([new Uint8Array(buffer, head.getUint16(2))], { type: TYPES[head.getUint8(1)] });
  return { kind: "picture", id: head.getUint32(4), url: URL.createObjectURL(blob), timings: { decode, queue, inference, encode, total } };
}

export class Frames {
  #direct = false;
  #number = 0;
  // Settings that were sent last, under a name of their own, and those that the gate holds.
  #sent = { id: undefined, text: undefined };
  #held;

  // The frames that ask for a picture: fields as an object, the drawing as a blob. `id` comes back with the answer.
  async write(fields, drawing) {
    if (!this.#direct) {
      const id = `text-${++this.#number}`;
      return { id, frames: [JSON.stringify({ ...fields, image_url: await dataUri(drawing), sync_mode: true, request_id: id })] };
    }
    const picture = await drawing.arrayBuffer();
    const id = ++this.#number;
    const text = JSON.stringify(fields);
    // Fields hold until they are told anew. The gate may refuse them: only what it said that it took is not told again.
    if (text === this.#held) return { id, frames: [picture] };
    this.#held = undefined;
    this.#sent = { id: `settings-${id}`, text };
    return { id, frames: [JSON.stringify({ ...fields, request_id: this.#sent.id }), picture] };
  }

  // What a frame says: { kind } and what belongs to it.
  read(data) {
    if (data instanceof ArrayBuffer) return bare(data);
    let said;
    try {
      said = JSON.parse(data);
    } catch {
      return { kind: "odd", detail: "a frame that is no JSON" };
    }
    if (said.type === "x-fal-message") return this.#message(said);
    if (said.type === "x-fal-error") {
      return said.error === "TIMEOUT" ? { kind: "rest" } : { kind: "rejected", word: said.error, detail: said.reason ?? said.error, id: said.sequence };
    }
    if (said.status === "error") return { kind: said.error === "Unauthorized" ? "unauthorised" : "rejected", detail: said.error };
    const url = said.images?.[0]?.url;
    return url ? { kind: "picture", id: said.request_id, url, timings: said.timings } : { kind: "odd", detail: "an answer without a picture" };
  }

  #message({ action, version, sequence, request_id, place, wait_s }) {
    if (action === "falgate.direct" && version === 1) [this.#direct, this.#number] = [true, 0];
    if (action === "settings" && request_id === this.#sent.id) this.#held = this.#sent.text;
    if (action === "waiting") return { kind: "queued", place, seconds: wait_s };
    // The gate found nothing new to paint.
    return action === "similar" ? { kind: "same", id: sequence ?? request_id } : { kind: "note" };
  }
}
