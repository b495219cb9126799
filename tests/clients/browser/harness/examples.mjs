// What every example that draws has to do.

import assert from "node:assert/strict";

// A picture comes by itself, and another one for a stroke, over sockets to the gate.
export async function assertFollows(view, gate) {
  const painted = (before) => view.until((before) => {
    const image = document.querySelector("img");
    return image?.naturalWidth === 512 && image.src !== before;
  }, before, 60_000);
  await painted("");
  const before = await view.page.locator("img").getAttribute("src");
  const box = await view.page.locator("canvas").boundingBox();
  await view.page.mouse.move(box.x + 40, box.y + 40);
  await view.page.mouse.down();
  await view.page.mouse.move(box.x + 300, box.y + 200, { steps: 10 });
  await view.page.mouse.up();
  await painted(before);
  assert.equal(await view.page.locator("[role=alert]").allTextContents().then((texts) => texts.join("")), "");
  assert.ok(view.sockets.length > 0, "no socket");
  for (const socket of view.sockets) assert.ok(socket.url.startsWith(gate.url.replace("http", "ws")), socket.url);
  view.assertQuiet();
}
