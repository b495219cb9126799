import Script from "next/script";

// Where the browser reaches falgate. Sockets go there themselves; all else goes through next.config.mjs.
const falgate = process.env.FALGATE_URL ?? "http://127.0.0.1:8787";

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>
        <Script src={`${falgate}/falgate.classic.js`} strategy="beforeInteractive" />
        {children}
      </body>
    </html>
  );
}
