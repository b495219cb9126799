// The drawing that is there at first: a lighthouse on a cliff, in the strokes of a quick hand.

const INK = "#1f1d2b";
const WHITE = "#fffdf7";
const RED = "#e2533a";
const SUN = "#f4b942";
const SEA = "#2f7fb8";
const EARTH = "#8a5a3c";
const LEAF = "#4c9a5b";

// A wobble that is the same each time: the first picture of a seed is always the same.
let turn = 7;
const wobble = (by) => {
  turn = (turn * 16807) % 2147483647;
  return (turn / 2147483647 - 0.5) * by;
};

// A stroke through the points, each given as x and y.
const stroke = (colour, size, ...path) => ({
  colour,
  size,
  points: path.map(([x, y]) => ({ x: x + wobble(0.006), y: y + wobble(0.006), press: 1 + wobble(0.15) })),
});

// Strokes side by side, one for each of `steps`; `at` gives both ends for a number from 0 to 1.
const hatched = (colour, size, steps, at) =>
  Array.from({ length: steps }, (_, step) => stroke(colour, size, ...at(step / (steps - 1))));

const across = (colour, size, y) => stroke(colour, size, [-0.05, y], [0.3, y + wobble(0.02)], [0.7, y + wobble(0.02)], [1.05, y]);

export function doodle() {
  turn = 7;
  const sky = [["#8fb8d8", 0.05], ["#b9cfdb", 0.15], ["#f0d9b8", 0.26], ["#f6c98f", 0.37], ["#f2a56b", 0.47], ["#ee9a63", 0.53]];
  const waves = [0.66, 0.75, 0.85, 0.94].map((y, at) =>
    stroke("#8cc3e0", 0.012, [0.02 + at * 0.03, y], [0.1 + at * 0.02, y - 0.012], [0.18, y], [0.27 - at * 0.02, y - 0.01]),
  );
  return [
    ...sky.map(([colour, y]) => across(colour, 0.13, y)),
    stroke(SUN, 0.17, [0.2, 0.45], [0.205, 0.452]),
    ...[0.6, 0.7, 0.8, 0.9, 1].map((y) => across(SEA, 0.13, y)),
    stroke(SUN, 0.014, [0.13, 0.59], [0.27, 0.592]),
    stroke(SUN, 0.01, [0.16, 0.625], [0.24, 0.624]),
    ...waves,
    ...hatched(EARTH, 0.09, 9, (s) => [[0.5 - s * 0.14 + wobble(0.03), 0.63 + s * 0.4], [0.75, 0.64 + s * 0.4], [1.05, 0.62 + s * 0.4]]),
    ...hatched("#6f4630", 0.014, 4, (s) => [[0.52 + s * 0.1, 0.7 + s * 0.07], [0.49 + s * 0.1, 0.77 + s * 0.07], [0.5 + s * 0.1, 0.84 + s * 0.04]]),
    ...hatched(WHITE, 0.045, 6, (s) => [[0.66 + s * 0.05, 0.24], [0.645 + s * 0.08, 0.4], [0.63 + s * 0.11, 0.565]]),
    stroke(LEAF, 0.05, [0.47, 0.6], [0.6, 0.585], [0.8, 0.6], [1.04, 0.575]),
    ...[0.3, 0.405, 0.51].map((y) => stroke(RED, 0.042, [0.672 - y * 0.075, y], [0.698 + y * 0.075, y + 0.004])),
    stroke(INK, 0.02, [0.625, 0.215], [0.745, 0.215]),
    stroke(SUN, 0.06, [0.672, 0.175], [0.7, 0.175]),
    stroke(RED, 0.035, [0.63, 0.135], [0.685, 0.1], [0.74, 0.135]),
    stroke(INK, 0.012, [0.685, 0.095], [0.685, 0.06]),
    stroke("#fff0bd", 0.022, [0.64, 0.17], [0.4, 0.115], [0.18, 0.07]),
    stroke("#fff0bd", 0.022, [0.73, 0.175], [0.87, 0.2], [1.03, 0.23]),
  ];
}
