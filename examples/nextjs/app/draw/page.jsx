"use client";

import { useEffect, useRef, useState } from "react";
import { fal } from "@fal-ai/client";

const SIDE = 512;

export default function Draw() {
  const board = useRef(null);
  const connection = useRef(null);
  const [picture, setPicture] = useState(null);
  const [problem, setProblem] = useState(null);

  // May be called as often as one likes: the gate paints the newest.
  function send() {
    board.current.toBlob(
      async (blob) => {
        const image_bytes = new Uint8Array(await blob.arrayBuffer());
        connection.current.send({ prompt: "a lighthouse in a storm", image_bytes, strength: 0.6, seed: 42 });
      },
      "image/jpeg",
      0.85,
    );
  }

  useEffect(() => {
    connection.current = fal.realtime.connect("fal-ai/lcm-sd15-i2i", {
      // `falgate` is made by the script in layout.jsx. Tokens are asked for at this page's own origin.
      tokenProvider: window.falgate.tokenProvider("/"),
      tokenExpirationSeconds: 120,
      onResult: ({ images: [image] }) => {
        setProblem(null);
        setPicture(URL.createObjectURL(new Blob([image.content], { type: image.content_type })));
      },
      onError: (error) => setProblem(error.message),
    });
    const context = board.current.getContext("2d");
    context.fillStyle = "#f6e7c1";
    context.fillRect(0, 0, SIDE, SIDE);
    Object.assign(context, { strokeStyle: "#1d4e6b", lineWidth: 18, lineCap: "round" });
    send();
    return () => connection.current.close();
  }, []);

  useEffect(() => () => picture && URL.revokeObjectURL(picture), [picture]);

  function draw({ buttons, nativeEvent: { offsetX, offsetY, movementX, movementY } }) {
    if (buttons !== 1) return;
    const context = board.current.getContext("2d");
    context.beginPath();
    context.moveTo(offsetX - movementX, offsetY - movementY);
    context.lineTo(offsetX, offsetY);
    context.stroke();
    send();
  }

  return (
    <main>
      <canvas ref={board} width={SIDE} height={SIDE} onPointerMove={draw} style={{ touchAction: "none" }} />
      {picture && <img src={picture} alt="" />}
      {problem && <p role="alert">{problem}</p>}
    </main>
  );
}
