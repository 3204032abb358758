// Runs in the page: opens WebSockets to the gate as the plan says, and reports what the page sees.
import { connect, explain } from "/gatehouse.js";

const base64url = (token) => btoa(token).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const protocols = (token) =>
  token ? [`base64url.bearer.authorization.k8s.io.${base64url(token)}`, "v1"] : ["v1"];

/** One attempt: how it closed. With `closing`, the page closes it as soon as a message came back. */
function once({ url, token }) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url, protocols(token));
    socket.onopen = () => socket.send("hello");
    socket.onmessage = () => socket.close(1000);
    socket.onclose = (event) => resolve({ code: event.code, ...explain(event) });
  });
}

/** An attempt while another session is open. */
function second(attempt) {
  return new Promise((resolve, reject) => {
    const first = new WebSocket(attempt.url, protocols(attempt.token));
    first.onopen = () => first.send("hello");
    first.onclose = () => reject(new Error("the first session ended"));
    first.onmessage = async () => {
      resolve(await once(attempt));
      first.close(1000);
    };
  });
}

/** A session by the helper, first with `stale`, then with `token`: what helped, and what came back. */
function renewed({ url, stale, token }) {
  return new Promise((resolve) => {
    const actions = [];
    const session = connect({
      open: (current) => new WebSocket(url, protocols(current)),
      getToken: (renew) => (renew ? token : stale),
      onopen: (socket) => socket.send("hello"),
      onmessage: (event) => {
        actions.push(event.data);
        session.stop();
      },
      onclose: ({ action }, next) => {
        if (next !== null) actions.push(action);
        else resolve(actions);
      },
      first: 1,
    });
  });
}

async function all({ attempts, limited, renewal }) {
  const seen = {};
  for (const [name, attempt] of Object.entries(attempts)) seen[name] = await once(attempt);
  seen.limit = await second(limited);
  seen.renewal = await renewed(renewal);
  return seen;
}

let report;
try {
  report = await all(await (await fetch("/plan")).json());
} catch (error) {
  report = { error: String(error) };
}
await fetch("/report", { method: "POST", body: JSON.stringify(report) });
