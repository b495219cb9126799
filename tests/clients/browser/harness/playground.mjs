// The gate's own page in a browser: opening it, drawing on it, and what its picture looks like.

import { Gate, engine, merged } from "../../js/harness/gate.mjs";
import { Browser } from "./browser.mjs";

export const DESK = { viewport: { width: 1280, height: 860 } };

// Settings of a gate with the page.
export const settings = merged(engine, { playground: { enabled: true, side_px: 256 }, guard: { tokens: { keys: "memory" } } });

// A browser of that look with the page open, for as long as `use` runs.
export async function withPage(look, url, use) {
  const browser = await Browser.start(look);
  try {
    const view = await browser.open(url);
    await use(view, view.page);
  } finally {
    await browser.close();
  }
}

// What the page's picture, or the one behind a URL, looks like: the colours of a coarse grid.
export async function look(url) {
  const image = url ? Object.assign(new Image(), { src: url }) : document.querySelector("#picture img");
  if (url) await image.decode();
  if (!image?.naturalWidth) return null;
  const copy = Object.assign(document.createElement("canvas"), { width: 16, height: 16 });
  const paint = copy.getContext("2d", { willReadFrequently: true });
  paint.drawImage(image, 0, 0, 16, 16);
  return paint.getImageData(0, 0, 16, 16).data.join();
}

// Waits until the picture's look is as wanted, and gives it.
export async function lookThat(view, wanted, what) {
  let now;
  const wait = async () => wanted((now = await view.page.evaluate(look)));
  await Gate.until(wait, `${what}\n${view.complaints.join("\n")}`, 30_000);
  return now;
}

export const another = (view, before) => lookThat(view, (now) => now && now !== before, "another picture");
export const firstPicture = (view) => another(view, null);

// A point of the board, from 0 to 1, on the screen.
export async function onBoard(page) {
  const box = await page.locator("#board").boundingBox();
  return (x, y) => [box.x + x * box.width, box.y + y * box.height];
}

export async function drawWith(page, from, to) {
  const at = await onBoard(page);
  await page.mouse.move(...at(...from));
  await page.mouse.down();
  await page.mouse.move(...at(...to), { steps: 12 });
  await page.mouse.up();
}
