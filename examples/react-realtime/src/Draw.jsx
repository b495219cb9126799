import { useCallback, useEffect, useRef, useState } from "react";
import { fal } from "@fal-ai/client";

const GATE = import.meta.env.VITE_FALGATE_URL;
const SIDE = 512;

fal.config({ proxyUrl: `${GATE}/api/fal/proxy` });

// A connection to the app that paints. `send` may be called as often as one likes: the gate paints the newest.
function usePainter(onPicture, onProblem) {
  const connection = useRef(null);
  useEffect(() => {
    connection.current = fal.realtime.connect("fal-ai/lcm-sd15-i2i", {
      // `falgate` is made by the gate's script in index.html.
      tokenProvider: window.falgate.tokenProvider(GATE),
      tokenExpirationSeconds: 120,
      onResult: (result) => onPicture(new Blob([result.images[0].content], { type: result.images[0].content_type })),
      onError: (error) => onProblem(error.message),
    });
    return () => connection.current.close();
  }, [onPicture, onProblem]);
  return useCallback((input) => connection.current.send(input), []);
}

export function Draw() {
  const board = useRef(null);
  const [prompt, setPrompt] = useState("a lighthouse in a storm");
  const [picture, setPicture] = useState(null);
  const [problem, setProblem] = useState(null);

  const show = useCallback((blob) => {
    setProblem(null);
    setPicture((before) => {
      if (before) URL.revokeObjectURL(before);
      return URL.createObjectURL(blob);
    });
  }, []);
  const send = usePainter(show, setProblem);

  const paint = useCallback(() => {
    board.current.toBlob(
      async (blob) => send({ prompt, image_bytes: new Uint8Array(await blob.arrayBuffer()), strength: 0.6, seed: 42 }),
      "image/jpeg",
      0.85,
    );
  }, [prompt, send]);

  useEffect(() => {
    const context = board.current.getContext("2d");
    context.fillStyle = "#f6e7c1";
    context.fillRect(0, 0, SIDE, SIDE);
    Object.assign(context, { strokeStyle: "#1d4e6b", lineWidth: 18, lineCap: "round" });
  }, []);
  useEffect(paint, [paint]);

  function draw(event) {
    if (event.buttons !== 1) return;
    const context = board.current.getContext("2d");
    const box = board.current.getBoundingClientRect();
    const at = (x, y) => [((x - box.left) * SIDE) / box.width, ((y - box.top) * SIDE) / box.height];
    context.beginPath();
    context.moveTo(...at(event.clientX - event.movementX, event.clientY - event.movementY));
    context.lineTo(...at(event.clientX, event.clientY));
    context.stroke();
    paint();
  }

  return (
    <main>
      <p>
        <input aria-label="Prompt" value={prompt} onChange={(event) => setPrompt(event.target.value)} size={60} />
      </p>
      <canvas ref={board} width={SIDE} height={SIDE} onPointerMove={draw} style={{ touchAction: "none", width: 400 }} />
      {picture && <img src={picture} alt={prompt} style={{ width: 400 }} />}
      {problem && <p role="alert">{problem}</p>}
    </main>
  );
}
