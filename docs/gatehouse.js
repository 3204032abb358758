// A WebSocket behind Gatehouse, for pages in browsers and for Node.js 22 or later: reads from the
// Close frame why a session was refused or ended, and does what helps: renew the token and connect
// again, wait and connect again, or stop. No dependencies; docs/client-guide.md explains it.

/** What helps, by the layer that a close code names. */
const LAYERS = {
  4400: ["handshake", "stop"],
  4401: ["credentials", "renew"],
  4403: ["scope", "stop"],
  4419: ["expiry", "renew"],
  4429: ["limit", "wait"],
  4451: ["firewall", "stop"],
  4502: ["upstream", "wait"],
  4503: ["auth_system", "wait"],
};

/** Reasons within a layer for which something else helps than for the others. */
const REASONS = {
  "firewall/banned": "wait",
  "credentials/not_yet_valid": "wait",
  "credentials/certificate": "stop",
  "credentials/multiple": "stop",
  "handshake/timeout": "wait",
  "handshake/proxy_header": "wait",
  "upstream/refused": "stop",
};

/**
 * What a close event means: `layer` and `reason` (undefined when it was not the gate that closed),
 * `id` (what the operator finds it by), `retryAfter` in seconds (undefined: not said), and `action`:
 * "renew" (get another token, then connect), "wait" (then connect again), "stop" (it would be refused
 * again), or "done" (it ended as it should).
 */
export function explain({ code, reason = "" }) {
  const said = (name) => new RegExp(`(?:^|, )${name}="?([^",]*)"?`).exec(reason)?.[1];
  const known = LAYERS[code];
  if (!known) {
    // 1000: both were done. Everything else was an accident, or a service that goes away.
    return { layer: undefined, reason: undefined, id: undefined, retryAfter: undefined, action: code === 1000 ? "done" : "wait" };
  }
  const [layer, usual] = known;
  const name = said("reason");
  const retryAfter = said("retry_after");
  return {
    layer,
    reason: name,
    id: said("id"),
    retryAfter: retryAfter === undefined ? undefined : Number(retryAfter),
    action: REASONS[`${layer}/${name}`] ?? usual,
  };
}

/**
 * The pause in milliseconds before attempt number `attempt` (0 is the first): random between nothing
 * and a bound that doubles each time, so that clients do not all come back at once; never less than
 * `retryAfter` seconds, and then up to half as much more.
 */
export function pause(attempt, retryAfter, { first = 1000, most = 60000, random = Math.random } = {}) {
  const jitter = random() * Math.min(most, first * 2 ** Math.min(attempt, 16));
  return retryAfter === undefined ? jitter : retryAfter * 1000 + Math.min(jitter, retryAfter * 500 + first);
}

/**
 * Keeps a session open until `stop()`.
 *
 * - `open(token)` makes the WebSocket with this token, wherever it belongs (`new WebSocket(...)`);
 * - `getToken(renew)` returns a token or a promise of one; `renew` is true when the last was refused;
 * - `onopen(socket)`, `onmessage(event, socket)`: as for a WebSocket;
 * - `onclose(explanation, next)`: after each end; `next` is the pause in milliseconds before the next
 *   attempt, or null when there is none;
 * - `lasted`: after so many milliseconds an open session counts as good, and attempts anew from 0;
 * - `random`, `setTimer`, `clearTimer`, `now`: for tests.
 */
export function connect({
  open,
  getToken,
  onopen = () => {},
  onmessage = () => {},
  onclose = () => {},
  lasted = 10000,
  first = 1000,
  most = 60000,
  random = Math.random,
  setTimer = setTimeout,
  clearTimer = clearTimeout,
  now = () => Date.now(),
}) {
  let socket = null;
  let timer = null;
  let stopped = false;
  let attempt = 0;
  let renewed = false;

  async function begin(renew) {
    timer = null;
    let token;
    try {
      token = await getToken(renew);
    } catch (error) {
      // Whoever gives tokens is not there, which passes.
      return ended({ layer: undefined, reason: undefined, id: undefined, retryAfter: undefined, action: "wait", error });
    }
    if (stopped) return;
    let opened = null;
    socket = open(token);
    socket.onopen = () => {
      opened = now();
      onopen(socket);
    };
    socket.onmessage = (event) => onmessage(event, socket);
    socket.onclose = (event) => {
      socket = null;
      const explanation = explain(event);
      // A session that is opened only to be refused does not count as one.
      if (opened !== null && now() - opened >= lasted) {
        attempt = 0;
        renewed = false;
      }
      ended(explanation);
    };
  }

  function ended(explanation) {
    let { action } = explanation;
    // A fresh token that is refused like the one before: another one would be, too.
    if (action === "renew" && renewed) action = "stop";
    if (stopped || action === "stop" || action === "done") {
      stopped = true;
      return onclose({ ...explanation, action }, null);
    }
    renewed = action === "renew";
    // With a fresh token, the next attempt is as good as the first.
    const wait = renewed ? random() * first : pause(attempt, explanation.retryAfter, { first, most, random });
    attempt += 1;
    timer = setTimer(() => begin(renewed), wait);
    return onclose(explanation, wait);
  }

  begin(false);
  return {
    /** Ends the session, and every attempt to open one. */
    stop() {
      stopped = true;
      if (timer !== null) clearTimer(timer);
      socket?.close(1000);
    },
  };
}
