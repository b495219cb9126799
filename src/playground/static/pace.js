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

  // The median of the last round trips, in milliseconds.
  trip() {
    const sorted = this.#trips.map(({ tripMs }) => tripMs).sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)];
  }

  // Where the last round trips went: mean milliseconds for each part. Empty where the server does not say.
  parts() {
    const timed = this.#trips.filter(({ timings }) => typeof timings.total === "number" || typeof timings.inference === "number");
    if (timed.length === 0) return [];
    const mean = (of) => timed.reduce((sum, one) => sum + of(one), 0) / timed.length;
    const inside = ({ timings }) =>
      1000 * (timings.total ?? PARTS.reduce((sum, [key]) => sum + (timings[key] ?? 0), 0));
    return PARTS.map(([key, name]) => {
      const ms = key === "way" ? mean((one) => Math.max(0, one.tripMs - inside(one))) : mean(({ timings }) => 1000 * (timings[key] ?? 0));
      return { key, name, ms };
    }).filter(({ ms }) => ms >= 0.5);
  }
}
