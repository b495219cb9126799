// Puts the page together: the board, the wish, the line to the gate, and the picture.

import { Board } from "./board.js";
import { doodle } from "./doodle.js";
import { Line } from "./line.js";
import { Pace } from "./pace.js";
import { sentence, states } from "./words.js";

const COLOURS = [
  ["ink", "#1f1d2b"],
  ["paper", "#fffdf7"],
  ["red", "#e2533a"],
  ["yellow", "#f4b942"],
  ["green", "#4c9a5b"],
  ["blue", "#2f7fb8"],
  ["violet", "#7a5bb0"],
  ["brown", "#8a5a3c"],
];
const BRUSHES = [
  ["fine", 0.008],
  ["middle", 0.022],
  ["broad", 0.055],
  ["very broad", 0.12],
];

const by = (id) => document.getElementById(id);
const setting = (name) => document.querySelector(`meta[name="falgate-${name}"]`).content;

const board = new Board(by("board"));
const pace = new Pace();
const line = new Line(setting("endpoint"), read);

// What the gate is asked to paint, as of now.
async function read() {
  return {
    prompt: by("prompt").value,
    strength: Number(by("strength").value),
    num_inference_steps: Number(setting("steps")),
    seed: seed(),
    drawing: await board.jpeg(Number(setting("side"))),
  };
}

function seed() {
  const given = Math.floor(Number(by("seed").value));
  return given >= 0 && given <= 4294967295 ? given : 0;
}

// --- tools ---------------------------------------------------------------------------------------------------------

function choices(within, name, options, dress, choose, chosen) {
  options.forEach(([word, value], at) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name, checked: at === chosen });
    input.setAttribute("aria-label", word);
    label.title = word;
    label.append(input, dress(value, at));
    input.addEventListener("change", () => choose(value));
    within.append(label);
    if (at === chosen) choose(value);
  });
}

function swatch(colour) {
  const dot = document.createElement("span");
  dot.style.setProperty("--colour", colour);
  return dot;
}

function tip(size, at) {
  const dot = document.createElement("span");
  dot.style.setProperty("--tip", `${4 + at * 5}px`);
  return dot;
}

choices(by("colours"), "colour", COLOURS, swatch, (colour) => (board.colour = colour), 0);
choices(by("brushes"), "brush", BRUSHES, tip, (size) => (board.size = size), 1);

function pick(name, at) {
  const all = document.getElementsByName(name);
  all[Math.min(all.length - 1, Math.max(0, at))]?.click();
}

const picked = (name) => [...document.getElementsByName(name)].findIndex((one) => one.checked);

addEventListener("keydown", (event) => {
  const types = event.target.matches?.("input:not([type=radio]):not([type=range])");
  const bare = !event.ctrlKey && !event.metaKey && !event.altKey;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !types) board.undo();
  else if (types || !bare) return;
  else if (/^[1-8]$/.test(event.key)) pick("colour", Number(event.key) - 1);
  else if (event.key === "[") pick("brush", picked("brush") - 1);
  else if (event.key === "]") pick("brush", picked("brush") + 1);
  else return;
  event.preventDefault();
});

by("undo").addEventListener("click", () => board.undo());
by("clear").addEventListener("click", () => board.clear());

// A ring that shows how broad the brush is, and where the pen of the keyboard stands.
board.addEventListener("pen", ({ detail }) => {
  const ring = by("ring");
  ring.hidden = !detail;
  if (!detail) return;
  const side = by("board").clientWidth;
  ring.style.width = ring.style.height = `${Math.max(6, board.size * side)}px`;
  ring.style.transform = `translate(${detail.x * side}px, ${detail.y * side}px) translate(-50%, -50%)`;
});

// --- the wish ------------------------------------------------------------------------------------------------------

by("wish").addEventListener("submit", (event) => event.preventDefault());
by("wish").addEventListener("input", () => line.changed());
by("strength").addEventListener("input", () => (by("strength-shown").value = Number(by("strength").value).toFixed(2)));
by("dice").addEventListener("click", () => {
  by("seed").value = Math.floor(Math.random() * 1_000_000);
  line.changed();
});
board.addEventListener("change", () => {
  by("undo").disabled = !board.canUndo;
  line.changed();
});

// --- the picture and the line --------------------------------------------------------------------------------------

let [shown, latest] = [0, 0];
line.addEventListener("picture", async ({ detail: { url, timings, tripMs } }) => {
  const turn = ++shown;
  const next = new Image();
  next.alt = `Painted from your drawing: ${by("prompt").value}`;
  next.src = url;
  try {
    await next.decode();
  } catch {
    return URL.revokeObjectURL(url);
  }
  // A picture that was slower to decode than its successor stays unseen.
  if (turn < latest) return URL.revokeObjectURL(url);
  latest = turn;
  const frame = by("picture");
  const before = frame.querySelector("img")?.src;
  frame.replaceChildren(next);
  if (before) URL.revokeObjectURL(before);
  delete frame.dataset.empty;
  by("save").hidden = false;
  by("save").href = url;
  pace.add(performance.now(), tripMs, timings);
  showPace();
});

line.addEventListener("state", ({ detail: state }) => {
  // Painting and live take turns many times a second; people see one.
  by("state").dataset.state = state === "painting" ? "live" : state;
  by("state-word").textContent = states[state === "painting" ? "live" : state];
});

let counting;
line.addEventListener("problem", ({ detail: problem }) => {
  clearInterval(counting);
  by("notice").hidden = !problem;
  by("picture").classList.toggle("stale", Boolean(problem?.wait));
  if (!problem) return;
  const until = performance.now() + (problem.wait ?? 0);
  const say = () => (by("notice-words").textContent = sentence(problem, until - performance.now()));
  say();
  by("again").hidden = !problem.wait;
  if (problem.wait) counting = setInterval(say, 1000);
});
by("again").addEventListener("click", () => line.again());

// --- how fast ------------------------------------------------------------------------------------------------------

function showPace() {
  const rate = pace.rate();
  if (rate !== undefined) by("rate").textContent = rate < 10 ? rate.toFixed(1) : Math.round(rate);
  by("trip").textContent = Math.round(pace.trip());
  const parts = pace.parts();
  by("parts-words").textContent = parts.map(({ name, ms }) => `${name}\u00a0${Math.round(ms)}`).join(" · ") || "the gate does not say";
  drawParts(parts);
}

// A bar of the parts, in the colours of the style sheet.
function drawParts(parts) {
  const bar = by("parts");
  const look = getComputedStyle(bar);
  const scale = devicePixelRatio;
  [bar.width, bar.height] = [bar.clientWidth * scale, bar.clientHeight * scale];
  const paint = bar.getContext("2d");
  const whole = parts.reduce((sum, { ms }) => sum + ms, 0);
  let from = 0;
  for (const { key, ms } of parts) {
    const wide = (ms / whole) * bar.width;
    paint.fillStyle = look.getPropertyValue(`--part-${key}`);
    paint.fillRect(from, 0, Math.max(scale, wide - scale), bar.height);
    from += wide;
  }
}

setInterval(() => document.body.classList.toggle("still", pace.rests(performance.now())), 500);

board.begin(doodle());
