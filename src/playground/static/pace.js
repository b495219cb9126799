// Counts pictures and measures round trips; pure but for the clock that it is handed.

const WINDOW_MS = 3000;
const PAUSE_MS = 1500;

// The parts of a round trip in the order in which they happen, with what people call them.
export const PARTS = [
  ["way", "network"],
  ["decode", "read"],
  ["queue", "wait"],
  ["inference", "paint"],
  ["encode", "write"],
];

export class Pace {
  #shown = [];
  #trips = [];

  // Takes one picture: when it was shown, how long after its drawing was sent, and the server's timings in seconds.
  add(now, tripMs, timings = {}) {
    if (this.#shown.length > 0 && now - this.#shown.at(-1) > PAUSE_MS) this.#shown = [];
    this.#shown.push(now);
    this.#shown = this.#shown.filter((at) => now - at <= WINDOW_MS);
    this.#trips = [...this.#trips, { tripMs, timings }].slice(-12);
  }

  // Pictures a second while drawing; undefined before there are two in a row.
  rate() {
    const spanned = this.#shown.at(-1) - this.#shown[0];
    return this.#shown.length < 2 || spanned <= 0 ? undefined : ((this.#shown.length - 1) * 1000) / spanned;
  }

  // Whether pictures stopped coming.
  rests(now) {
    return this.#shown.length === 0 || now - this.#shown.at(-1) > PAUSE_MS;
  }

  // The round trip in the middle of the last ones: one that really was, so that its parts add up.
  #usual() {
    const sorted = [...this.#trips].sort((a, b) => a.tripMs - b.tripMs);
    return sorted[Math.floor(sorted.length / 2)];
  }

  // A usual round trip, in milliseconds.
  trip() {
    return this.#usual()?.tripMs;
  }

  // Where its time went, in milliseconds a part. Empty where the server does not say.
  parts() {
    const { tripMs, timings = {} } = this.#usual() ?? {};
    const ms = (key) => 1000 * (timings[key] ?? 0);
    const inside = ms("total") || PARTS.reduce((sum, [key]) => sum + ms(key), 0);
    if (!inside) return [];
    const parts = PARTS.map(([key, name]) => ({ key, name, ms: key === "way" ? Math.max(0, tripMs - inside) : ms(key) }));
    return parts.filter((part) => part.ms >= 0.5);
  }
}
