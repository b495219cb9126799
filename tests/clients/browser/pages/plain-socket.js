// The first pages of all (protocol spec 7): no client, no token, one socket to the app's own host, text both ways.

import { animate, seen, show } from "./drawing.js";

const socket = new WebSocket("wss://110602490-lcm-sd15-i2i.gateway.alpha.fal.ai/ws");
socket.onmessage = ({ data }) => {
  const result = JSON.parse(data);
  if (result.images?.[0]) {
    seen.inference = result.timings.inference;
    show(result.images[0].url);
  }
};
socket.onclose = ({ code }) => (seen.closed = code);

animate(async (board) => {
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ prompt: "a ball", seed: 7, strength: 0.5, sync_mode: true, image_url: board.toDataURL("image/png") }));
  await new Promise((done) => setTimeout(done, 50));
});
