// The ways in which a client reaches a gate. Each test of an answer is run on all that its client can go.

import { certificates } from "./certificates.mjs";
import { falLivesAt } from "./network.mjs";

// Handles of `version`, by way. `plain` and `secure` are gates with and without TLS.
// "at fal's names": nothing is configured; fal's host names lead to the gate's TLS listener (protocol spec 1.7, way 2).
export function ways(version, { plain, secure }) {
  const all = { "through the proxy": () => version.inBrowser(plain.proxy) };
  if (version.from === "fal-client-1-10") all["through the proxy, on a server"] = () => version.always(plain.proxy);
  if (!version.legacy) all["with a rewriting middleware"] = () => version.rewriting(plain.url);
  if (secure) all["at fal's names"] = () => version.onServer();
  return all;
}

// Lets fal's names lead to this gate.
export const becomeFal = (gate) => falLivesAt(gate.port, certificates().caText);
