// The gate's own page, as people use it: mouse, keys, a phone, a gate that goes and comes back.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gate, merged } from "../js/harness/gate.mjs";
import { Browser } from "./harness/browser.mjs";
import { DESK, another, drawWith, firstPicture, look, lookThat, onBoard, settings, withPage as withPageAt } from "./harness/playground.mjs";
import { freePort } from "./harness/site.mjs";

const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const GONE = [/ERR_CONNECTION_REFUSED/, /ERR_SOCKET_NOT_CONNECTED|ERR_CONNECTION_RESET/, /WebSocket connection to .* failed/, /status of 503/];

let gate;
const withPage = (look, use, url = gate.url) => withPageAt(look, url, use);

before(async () => {
  gate = await Gate.start(settings, { key: null });
});
after(() => gate?.stop());

// The board as a data URI, made as the page makes it.
async function boardAsSent() {
  const small = Object.assign(document.createElement("canvas"), { width: 256, height: 256 });
  const paint = small.getContext("2d", { alpha: false });
  paint.imageSmoothingQuality = "high";
  paint.drawImage(document.getElementById("board"), 0, 0, 256, 256);
  return small.toDataURL("image/jpeg", 0.85);
}

// The colour of the board at a point.
const colourAt = (page, x, y) =>
  page.evaluate(([x, y]) => {
    const board = document.getElementById("board");
    const copy = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    const paint = copy.getContext("2d", { willReadFrequently: true });
    paint.drawImage(board, x * board.width, y * board.height, 1, 1, 0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  }, [x, y]);

const INK = [0x1f, 0x1d, 0x2b];
const RED = [0xe2, 0x53, 0x3a];
const PAPER = [0xff, 0xfd, 0xf7];

describe("the page at /", () => {
  test("shows a first picture by itself, and how fast it came", async () => {
    await withPage(DESK, async (view, page) => {
      await firstPicture(view);
      assert.equal(await page.locator("#picture img").evaluate((image) => image.naturalWidth), 256);
      assert.match(await page.locator("#trip").textContent(), /^\d+$/);
      assert.match(await page.locator("#parts-words").textContent(), /paint\u00a0\d+/);
      assert.equal(await page.locator("#state-word").textContent(), "live");
      assert.ok(await page.locator("#notice").isHidden());
      assert.equal(view.sockets.length, 1);
      assert.match(view.sockets[0].url, /^ws:\/\/127\.0\.0\.1:\d+\/fal-ai\/lcm-sd15-i2i\/realtime\?fal_jwt_token=[^&]+&falgate=direct$/);
      assert.ok(Buffer.isBuffer(view.sockets[0].last[1]), "a bare picture");
      view.assertQuiet();
    });
  });

  test("follows the mouse, takes strokes back, and starts a clean sheet", async () => {
    await withPage(DESK, async (view, page) => {
      await firstPicture(view);
      let picture = await page.evaluate(look);
      const sky = await colourAt(page, 0.3, 0.3);
      await drawWith(page, [0.1, 0.3], [0.5, 0.3]);
      assert.deepEqual(await colourAt(page, 0.3, 0.3), INK);
      picture = await another(view, picture);
      await page.getByLabel("Undo").click();
      assert.deepEqual(await colourAt(page, 0.3, 0.3), sky);
      picture = await another(view, picture);
      await page.getByLabel("Clear").click();
      assert.deepEqual(await colourAt(page, 0.9, 0.9), PAPER);
      picture = await another(view, picture);
      await page.getByTitle("red").click();
      await drawWith(page, [0.2, 0.2], [0.8, 0.8]);
      assert.deepEqual(await colourAt(page, 0.5, 0.5), RED);
      await another(view, picture);
      view.assertQuiet();
    });
  });

  test("never has more than one drawing in flight, and paints the newest at last", async () => {
    await withPage(DESK, async (view, page) => {
      await firstPicture(view);
      for (let line = 0; line < 8; line++) await drawWith(page, [0.1, 0.1 + line / 10], [0.9, 0.12 + line / 10]);
      const [socket] = view.sockets;
      // In the end what was sent last is the board as it is, and what came last is shown.
      const board = `${await page.evaluate(boardAsSent)}`.split(",")[1];
      const newest = () => socket.last[0].toString("base64") === board && socket.pictures[0] === socket.pictures[1];
      await Gate.until(newest, "the newest drawing, painted", 30_000);
      assert.ok(socket.pictures[0] > 1 && socket.mostInFlight === 1, `${socket.pictures}, ${socket.mostInFlight} in flight`);
      const came = await page.evaluate(look, `data:image/jpeg;base64,${socket.last[1].subarray(40).toString("base64")}`);
      await lookThat(view, (now) => now === came, "the picture that came last");
      assert.match(await page.locator("#rate").textContent(), /^\d+(\.\d)?$/);
      view.assertQuiet();
    });
  });

  test("paints anew when prompt, strength or seed change", async () => {
    await withPage(DESK, async (view, page) => {
      await firstPicture(view);
      let picture = await page.evaluate(look);
      for (const change of [
        () => page.getByLabel("Prompt").fill("a green hill"),
        () => page.locator("#strength").fill("0.9"),
        () => page.getByLabel("Seed", { exact: true }).fill("7"),
        () => page.getByLabel("Another seed").click(),
      ]) {
        await change();
        picture = await another(view, picture);
      }
      assert.equal(await page.locator("#strength-shown").textContent(), "0.90");
      await page.getByLabel("Prompt").press("Enter");
      assert.equal(new URL(page.url()).pathname, "/", "the form leads nowhere");
      view.assertQuiet();
    });
  });

  test("is drawn on with keys alone", async () => {
    await withPage(DESK, async (view, page) => {
      await firstPicture(view);
      const picture = await page.evaluate(look);
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement.id), "board");
      await page.keyboard.press("3");
      await page.keyboard.press("]");
      await page.keyboard.press("Space");
      for (let step = 0; step < 10; step++) await page.keyboard.press("ArrowLeft");
      await page.keyboard.press("Space");
      await page.keyboard.press("ArrowUp");
      assert.deepEqual(await colourAt(page, 0.4, 0.5), RED);
      assert.notDeepEqual(await colourAt(page, 0.3, 0.4), RED);
      await another(view, picture);
      await page.keyboard.press("Control+z");
      assert.notDeepEqual(await colourAt(page, 0.4, 0.5), RED);
      view.assertQuiet();
    });
  });

  test("is drawn on with a finger, and fits a phone", async () => {
    await withPage(PHONE, async (view, page) => {
      await firstPicture(view);
      const picture = await page.evaluate(look);
      const at = await onBoard(page);
      await page.touchscreen.tap(...at(0.3, 0.3));
      assert.deepEqual(await colourAt(page, 0.3, 0.3), INK);
      await another(view, picture);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= 390, `${wide} pixels wide`);
      for (const id of ["undo", "clear", "board", "picture"]) {
        const { x, y, width, height } = await page.locator(`#${id}`).boundingBox();
        assert.ok(x >= 0 && x + width <= 390 && y + height <= 844, `${id} is out of sight`);
      }
      view.assertQuiet();
    });
  });
});

describe("a gate that stops and comes back", () => {
  test("is told of, waited for, and painted by again", async () => {
    const port = await freePort();
    const there = merged(settings, { gate: { listen: `127.0.0.1:${port}` } });
    let mine = await Gate.start(there, { key: null });
    const browser = await Browser.start(DESK);
    try {
      const view = await browser.open(mine.url);
      await firstPicture(view);
      await mine.stop();
      mine = undefined;
      // A gate that drains lets the page rest; the next stroke finds it gone.
      await drawWith(view.page, [0.1, 0.1], [0.9, 0.9]);
      await view.until(() => /does not answer|shutting down/.test(document.getElementById("notice-words").textContent));
      assert.equal(await view.page.locator("#state-word").textContent(), "not connected");
      await view.picture("playground-gone");
      await drawWith(view.page, [0.9, 0.1], [0.1, 0.9]);
      const before = await view.page.evaluate(look);
      mine = await Gate.start(there, { key: null });
      await another(view, before);
      await view.until(() => document.getElementById("notice").hidden && document.getElementById("state-word").textContent === "live");
      view.assertQuiet(...GONE);
    } finally {
      await browser.close();
      await mine?.stop();
    }
  });
});

describe("the gate that make run starts", () => {
  test("has the page at its root, and draws", async () => {
    const mine = await Gate.startFile("config/demo.toml");
    try {
      await withPage(DESK, async (view) => {
        await firstPicture(view);
        await view.picture("playground-demo");
        view.assertQuiet();
      }, mine.url);
    } finally {
      await mine.stop();
    }
  });
});

describe("what people see", () => {
  for (const [name, look] of Object.entries({
    desk: DESK,
    "desk-dark": { ...DESK, colorScheme: "dark" },
    wide: { viewport: { width: 1920, height: 1080 } },
    tablet: { viewport: { width: 820, height: 1180 } },
    laptop: { viewport: { width: 1024, height: 700 } },
    phone: PHONE,
    "phone-dark": { ...PHONE, colorScheme: "dark" },
  })) {
    test(`is kept as a picture: ${name}`, async () => {
      await withPage(look, async (view, page) => {
        await firstPicture(view);
        await drawWith(page, [0.1, 0.2], [0.35, 0.3]);
        await page.waitForTimeout(300);
        const [wide, whole] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
        assert.ok(whole <= wide, `${whole} pixels do not fit into ${wide}`);
        await view.picture(`playground-${name}`);
        view.assertQuiet();
      });
    });
  }
});
