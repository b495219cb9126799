const falgate = process.env.FALGATE_URL ?? "http://127.0.0.1:8787";

/** @type {import("next").NextConfig} */
export default {
  async rewrites() {
    return [{ source: "/api/fal/:path*", destination: `${falgate}/api/fal/:path*` }];
  },
};
