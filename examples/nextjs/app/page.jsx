"use client";

import { useState } from "react";
import { fal } from "@fal-ai/client";

fal.config({ proxyUrl: "/api/fal/proxy" });

function readAsDataUri(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

export default function Page() {
  const [picture, setPicture] = useState(null);
  const [problem, setProblem] = useState(null);

  async function paint(event) {
    event.preventDefault();
    setProblem(null);
    const form = new FormData(event.currentTarget);
    try {
      const { data } = await fal.run("fal-ai/lcm-sd15-i2i", {
        input: {
          prompt: form.get("prompt"),
          image_url: await readAsDataUri(form.get("picture")),
          strength: 0.6,
          sync_mode: true,
        },
      });
      setPicture(data.images[0].url);
    } catch (error) {
      setProblem(error.message);
    }
  }

  return (
    <form onSubmit={paint}>
      <input name="prompt" defaultValue="a lighthouse in a storm" required />
      <input name="picture" type="file" accept="image/*" required />
      <button>Paint</button>
      {problem && <p role="alert">{problem}</p>}
      {picture && <img src={picture} alt="" />}
    </form>
  );
}
