import express from "express";
import { createProxyMiddleware } from "http-proxy-middleware";

const falgate = process.env.FALGATE_URL ?? "http://127.0.0.1:8787";
const port = Number(process.env.PORT ?? 3000);
const app = express();

// Your own login goes here: whoever passes may spend what falgate allows.
app.use((request, response, next) => next());

// No body parser before it: falgate reads the body itself. `xfwd` tells it the client's address.
app.use(createProxyMiddleware({ target: falgate, pathFilter: "/api/fal", xfwd: true }));
app.use(express.static("public"));

app.listen(port, () => console.log(`http://localhost:${port} in front of ${falgate}`));
