// The last of the old clients: data URIs in and out.

import * as fal from "serverless-client-0-15";
import { animate, seen, show } from "./drawing.js";

fal.config({ proxyUrl: `${GATE}/api/fal/proxy` });

const connection = fal.realtime.connect("110602490-lcm-sd15-i2i", {
  onResult: (result) => show(result.images[0].url),
  onError: (error) => seen.errors.push(`${error.status} ${error.message}`),
});

animate((board) => {
  connection.send({ prompt: "a ball", image_url: board.toDataURL("image/jpeg", 0.8), strength: 0.5, seed: 7, sync_mode: true });
});
