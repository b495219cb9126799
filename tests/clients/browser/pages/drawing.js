// What every page here does: a canvas that changes, and pictures that are shown and looked at.

const board = document.getElementById("board");
const picture = document.getElementById("picture");
const paint = board.getContext("2d");
const look = Object.assign(document.createElement("canvas"), { width: 8, height: 8 }).getContext("2d", { willReadFrequently: true });

// Read by the test.
export const seen = (window.seen = { pictures: 0, different: [], errors: [], width: 0 });

let turn = 0;
function draw() {
  turn += 1;
  paint.fillStyle = "#bcd4e6";
  paint.fillRect(0, 0, board.width, board.height);
  paint.fillStyle = `hsl(${turn * 3} 80% 45%)`;
  paint.beginPath();
  paint.arc(128 + 80 * Math.cos(turn / 15), 128 + 80 * Math.sin(turn / 15), 45, 0, 7);
  paint.fill();
}

// Draws at the pace of the screen, and tells `send` of each change, until the page is told to stop.
export function animate(send) {
  const step = async () => {
    if (window.stopped) return;
    draw();
    await send(board);
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

export const jpegBytes = async (canvas) => {
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.8));
  return new Uint8Array(await blob.arrayBuffer());
};

// Shows a picture, given as a URL or as bytes, and notes what it looks like.
export async function show(given) {
  const url = typeof given === "string" ? given : URL.createObjectURL(new Blob([given], { type: "image/jpeg" }));
  const next = new Image();
  next.src = url;
  await next.decode();
  if (typeof given !== "string") URL.revokeObjectURL(url);
  look.drawImage(next, 0, 0, 8, 8);
  picture.getContext("2d").drawImage(next, 0, 0);
  const key = look.getImageData(0, 0, 8, 8).data.join();
  if (!seen.different.includes(key)) seen.different.push(key);
  seen.pictures += 1;
  seen.width = next.naturalWidth;
}
