// A plain sentence for everything that can go wrong, and a word for each state.

export const states = {
  connecting: "connecting",
  live: "live",
  painting: "painting",
  resting: "resting",
  waiting: "not connected",
};

const sentences = {
  offline: () => "You are offline. Your drawing stays here and is sent when the network is back.",
  unreachable: () => "The gate does not answer. It may be starting, or be switched off.",
  denied: () => "The gate gives this page no token. Whoever runs it decides who may draw.",
  untokened: () => "This gate gives out no tokens, so the page cannot open its socket.",
  limited: () => "That was more than the gate allows for now. It goes on by itself in a moment.",
  loading: ({ detail }) => `The model is still loading${detail ? ` (${detail})` : ""}. The picture comes as soon as it is ready.`,
  failed: () => "The engine of this gate has failed. Its log says why.",
  drain: () => "The gate is shutting down or restarting. The page comes back by itself.",
  full: () => "The gate has more to keep in mind than it can hold right now. The page comes back by itself.",
  refused: () => "The gate refused the socket of this page.",
  lost: () => "The connection broke off.",
  expired: () => "The gate does not take the token that it gave. Its clock or its signing key may have changed.",
  rejected: ({ detail }) => `The gate cannot paint this: ${detail}.`,
  busy: ({ detail }) => `The gate cannot paint right now: ${detail}.`,
  queued: ({ place, seconds }) =>
    `All places are taken. You are ${place === 1 ? "next" : `number ${place} in the queue`}, and it takes about ${time(seconds)}.`,
  slow: ({ seconds }) => `Still painting after ${seconds} s. A model on a processor takes its time.`,
  odd: ({ detail }) => `The gate answered something unexpected (${detail}).`,
};

// What to tell people about a problem; `wait` is the time until the next try, in milliseconds.
export function sentence(problem, wait) {
  const say = sentences[problem.kind] ?? sentences.odd;
  const said = say({ ...problem, detail: problem.detail && plain(problem.detail) });
  if (!wait || wait < 1500) return said;
  return `${said} Next try in ${Math.ceil(wait / 1000)} s.`;
}

function time(seconds) {
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} minutes`;
}

// One line without a full stop.
function plain(detail) {
  return String(detail).replace(/\s+/g, " ").trim().slice(0, 200).replace(/\.$/, "");
}
