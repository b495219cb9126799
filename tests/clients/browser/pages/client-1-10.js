// fal's newest client as applications use it: bytes in, bytes out, tokens through the proxy or from a provider.

import { fal } from "fal-client-1-10";
import { animate, jpegBytes, seen, show } from "./drawing.js";

fal.config({ proxyUrl: `${GATE}/api/fal/proxy` });

const provided = PROVIDED ? { tokenProvider: falgate.tokenProvider(), tokenExpirationSeconds: 60 } : {};
const connection = fal.realtime.connect("fal-ai/lcm-sd15-i2i", {
  ...provided,
  onResult: (result) => show(result.images[0].content),
  onError: (error) => seen.errors.push(`${error.status} ${error.message}`),
});
window.connection = connection;

animate(async (board) => {
  connection.send({ prompt: "a ball", image_bytes: await jpegBytes(board), strength: 0.5, seed: 7 });
});
