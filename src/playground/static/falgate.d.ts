// Types of falgate.js, and of the global that falgate.classic.js makes.

/** Where the gate is. */
export interface FalgateOptions {
  /**
   * Address of the gate: `https://gate.example`. A page may leave it out: then it is the place that the script was
   * loaded from. In a bundle and in Node it has to be given.
   */
  url?: string | URL;
}

/**
 * Sends sockets that are meant for fal (`wss://fal.run/…`, `wss://{n}-{alias}.gateway.alpha.fal.ai/…`) to the gate, by
 * putting a constructor in the place of `globalThis.WebSocket`. Every other socket is left alone. Called again, it only
 * changes the gate.
 */
export function installFalgate(options?: FalgateOptions): void;

/** Leaves all sockets alone again. Sockets that are open stay open. */
export function uninstallFalgate(): void;

/**
 * A `tokenProvider` for `fal.realtime.connect` of `@fal-ai/client` 1.9.0 and newer that asks the gate for tokens.
 *
 * @param url address of the gate; as in {@link FalgateOptions}
 * @param init passed to `fetch`: headers of your login, or `credentials`
 */
export function falgateTokenProvider(url?: string | URL, init?: RequestInit): (app: string) => Promise<string>;

declare global {
  /** Made by `falgate.classic.js`. */
  var falgate:
    | {
        install: typeof installFalgate;
        uninstall: typeof uninstallFalgate;
        tokenProvider: typeof falgateTokenProvider;
      }
    | undefined;
}
