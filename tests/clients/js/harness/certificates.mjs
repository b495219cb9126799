// A certificate authority of our own, and one certificate for every name under which fal or a gate is called. Kept for
// the next run; made again when it is about to expire.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { scratch } from "./places.mjs";

const names = [
  "localhost",
  "queue.localhost",
  "fal.run",
  "queue.fal.run",
  "rest.fal.ai",
  "rest.alpha.fal.ai",
  "*.gateway.alpha.fal.ai",
  "gateway.alpha.fal.ai",
  "*.gateway.gate.test",
  "rest.gate.test",
];

const openssl = (cwd, ...args) => execFileSync("openssl", args, { cwd, stdio: ["ignore", "ignore", "pipe"] });

function make(folder) {
  const alternatives = [...names.map((name) => `DNS:${name}`), "IP:127.0.0.1", "IP:::1"].join(",");
  writeFileSync(path.join(folder, "server.ext"), `subjectAltName=${alternatives}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n`);
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl(folder, "req", "-x509", ...curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=falgate test authority");
  openssl(folder, "req", "-new", ...curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost");
  openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
    "-extfile", "server.ext", "-out", "server.pem");
}

function lives(folder) {
  try {
    openssl(folder, "x509", "-in", "server.pem", "-noout", "-checkend", "86400");
    return true;
  } catch {
    return false;
  }
}

// Paths of the authority and of the server's certificate and key, and the authority's text.
export function certificates() {
  const folder = path.join(scratch, "certificates-2"); // Another number makes them anew when the names change.
  if (!existsSync(path.join(folder, "server.pem")) || !lives(folder)) {
    const fresh = `${folder}.${process.pid}`;
    mkdirSync(fresh, { recursive: true });
    make(fresh);
    rmSync(folder, { recursive: true, force: true });
    try {
      renameSync(fresh, folder);
    } catch {
      // Another test process was faster; its certificates are as good.
      rmSync(fresh, { recursive: true, force: true });
    }
  }
  const at = (name) => path.join(folder, name);
  return { ca: at("ca.pem"), cert: at("server.pem"), key: at("server.key"), caText: readFileSync(at("ca.pem"), "utf8") };
}
