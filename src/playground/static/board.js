// The drawing board: strokes from pointers and keys, undo, and a JPEG of what is there.

// Side of the board in its own pixels. Finer than what is sent, so that lines stay sharp on screens with small pixels.
const SIDE = 1024;
const PAPER = "#fffdf7";
// Strokes that can be taken back. Older ones become part of the sheet.
const UNDO = 100;
// A stroke goes on as a new one after this many points, so that none grows without end.
const POINTS = 2000;

function context(canvas) {
  canvas.width = canvas.height = SIDE;
  const paint = canvas.getContext("2d", { alpha: false });
  paint.lineCap = paint.lineJoin = "round";
  return paint;
}

const middle = (a, b) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });

// Paints the part of a stroke from its point `from` on. Points are in 0..1, `press` thins or thickens the line.
function paintStroke(paint, stroke, from = 0) {
  const { points, colour, size } = stroke;
  paint.strokeStyle = paint.fillStyle = colour;
  const width = (point) => Math.max(1, size * point.press * SIDE);
  if (points.length === 1) {
    const [only] = points;
    paint.beginPath();
    paint.arc(only.x * SIDE, only.y * SIDE, width(only) / 2, 0, 2 * Math.PI);
    paint.fill();
    return;
  }
  for (let at = Math.max(1, from); at < points.length; at++) {
    const [before, here] = [points[at - 1], points[at]];
    const start = at === 1 ? before : middle(points[at - 2], before);
    const end = middle(before, here);
    paint.lineWidth = (width(before) + width(here)) / 2;
    paint.beginPath();
    paint.moveTo(start.x * SIDE, start.y * SIDE);
    paint.quadraticCurveTo(before.x * SIDE, before.y * SIDE, end.x * SIDE, end.y * SIDE);
    // The last half of a segment is painted again, curved, when the next point is known.
    if (at === points.length - 1) paint.lineTo(here.x * SIDE, here.y * SIDE);
    paint.stroke();
  }
}

export class Board extends EventTarget {
  #canvas;
  #paint;
  #sheet = context(document.createElement("canvas"));
  #strokes = [];
  #current;
  #pointer;
  #key = { x: 0.5, y: 0.5, down: false };
  #small = document.createElement("canvas");
  colour = "#1f1d2b";
  size = 0.02;

  // Events: `change` when there is something new to see, `pen` when the pen moved (detail: x, y in 0..1, or null).
  constructor(canvas) {
    super();
    this.#canvas = canvas;
    this.#paint = context(canvas);
    for (const paint of [this.#paint, this.#sheet]) this.#wipe(paint);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(end, (event) => this.#up(event));
    canvas.addEventListener("pointerleave", () => this.#current ?? this.#tell("pen", null));
    canvas.addEventListener("keydown", (event) => this.#typed(event));
    canvas.addEventListener("blur", () => this.#liftKey());
  }

  get canUndo() {
    return this.#strokes.length > 0;
  }

  // Puts whole strokes on the sheet, as if they had always been there.
  begin(strokes) {
    for (const stroke of strokes) paintStroke(this.#sheet, stroke);
    this.#repaint();
  }

  undo() {
    this.#current = undefined;
    if (!this.#strokes.pop()) return;
    this.#repaint();
  }

  clear() {
    this.#current = undefined;
    this.#keep({ clears: true });
    this.#repaint();
  }

  // The drawing as a JPEG of `side` pixels.
  jpeg(side) {
    this.#small.width = this.#small.height = side;
    const paint = this.#small.getContext("2d", { alpha: false });
    paint.imageSmoothingQuality = "high";
    paint.drawImage(this.#canvas, 0, 0, side, side);
    return new Promise((done, fail) =>
      this.#small.toBlob((blob) => (blob ? done(blob) : fail(new Error("the browser made no JPEG"))), "image/jpeg", 0.85),
    );
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #wipe(paint) {
    paint.fillStyle = PAPER;
    paint.fillRect(0, 0, SIDE, SIDE);
  }

  #put(paint, stroke) {
    if (stroke.clears) this.#wipe(paint);
    else paintStroke(paint, stroke);
  }

  #keep(stroke) {
    this.#strokes.push(stroke);
    while (this.#strokes.length > UNDO) this.#put(this.#sheet, this.#strokes.shift());
  }

  #repaint() {
    this.#paint.drawImage(this.#sheet.canvas, 0, 0);
    for (const stroke of this.#strokes) this.#put(this.#paint, stroke);
    this.#tell("change");
  }

  #at(event) {
    const box = this.#canvas.getBoundingClientRect();
    const press = event.pointerType === "pen" ? 0.3 + 1.2 * event.pressure : 1;
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height, press };
  }

  #down(event) {
    // One pen at a time: a palm on the glass draws nothing.
    if (this.#pointer !== undefined || event.button !== 0) return;
    this.#liftKey();
    this.#pointer = event.pointerId;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#start(this.#at(event));
  }

  #move(event) {
    const here = this.#at(event);
    if (event.pointerType !== "touch") this.#tell("pen", here);
    if (event.pointerId !== this.#pointer) return;
    const steps = event.getCoalescedEvents?.() ?? [];
    for (const step of steps.length > 0 ? steps : [event]) this.#add(this.#at(step));
  }

  #up(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = undefined;
    this.#current = undefined;
  }

  #start(point) {
    this.#current = { colour: this.colour, size: this.size, points: [point] };
    this.#keep(this.#current);
    paintStroke(this.#paint, this.#current);
    this.#tell("change");
  }

  #add(point) {
    const stroke = this.#current;
    if (!stroke) return;
    const last = stroke.points.at(-1);
    if (Math.hypot(point.x - last.x, point.y - last.y) * SIDE < 1.5) return;
    if (stroke.points.length >= POINTS) {
      this.#start(last);
      return this.#add(point);
    }
    stroke.points.push(point);
    paintStroke(this.#paint, stroke, stroke.points.length - 1);
    this.#tell("change");
  }

  #typed(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const pen = this.#key;
    if (way && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const step = event.shiftKey ? 0.005 : 0.02;
      const within = (value) => Math.min(1, Math.max(0, value));
      [pen.x, pen.y] = [within(pen.x + way[0] * step), within(pen.y + way[1] * step)];
      if (pen.down) this.#add({ x: pen.x, y: pen.y, press: 1 });
      this.#tell("pen", { x: pen.x, y: pen.y });
    } else if (event.key === " ") {
      if (!event.repeat && pen.down) this.#liftKey();
      else if (!event.repeat && this.#pointer === undefined) {
        pen.down = true;
        this.#start({ x: pen.x, y: pen.y, press: 1 });
        this.#tell("pen", { x: pen.x, y: pen.y });
      }
    } else return;
    event.preventDefault();
  }

  #liftKey() {
    if (!this.#key.down) return;
    this.#key.down = false;
    this.#current = undefined;
  }
}
