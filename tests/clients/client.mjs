// Opens one WebSocket with the npm package `ws` and prints how that went as one line of JSON.
//
// Arguments: one JSON object with url, source, headers (pairs), timeout (seconds), tls (files with
// ca, certificate and key, or null), and stay: whether to wait until the other side ends the session.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// Resolved from the working directory, where the pinned package is installed.
const WebSocket = createRequire(`${process.cwd()}/`)("ws");

const TEXT = "hello from node";
const { url, source, headers, timeout, stay, tls } = JSON.parse(process.argv[2]);

let finished = false;
function finish(outcome) {
  if (finished) return;
  finished = true;
  process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0));
}

const grouped = {};
for (const [name, value] of headers) (grouped[name] ??= []).push(value);

const read = (file) => (file ? readFileSync(file) : undefined);
const secure = tls ? { ca: read(tls.ca), cert: read(tls.certificate), key: read(tls.key) } : {};
const socket = new WebSocket(url, {
  headers: grouped,
  localAddress: source,
  ...secure,
  handshakeTimeout: timeout * 1000,
});

// Whatever happens, this ends. The timer itself keeps nothing alive.
setTimeout(() => {
  process.stderr.write("no end in sight\n", () => process.exit(1));
}, timeout * 1000 + 5000).unref();

socket.on("open", () => socket.send(TEXT));
// After a handshake that failed, this comes too, and says less.
socket.on("close", (code, reason) => finish({ outcome: "closed", code, reason: reason.toString() }));
socket.on("message", (data) => {
  if (stay) return;
  socket.close();
  finish({ outcome: "admitted", sent: TEXT, echo: data.toString() });
});
socket.on("unexpected-response", (_request, answer) => {
  const pairs = [];
  for (let i = 0; i < answer.rawHeaders.length; i += 2) {
    pairs.push([answer.rawHeaders[i], answer.rawHeaders[i + 1]]);
  }
  let body = "";
  answer.setEncoding("utf8");
  answer.on("data", (part) => (body += part));
  answer.on("end", () =>
    finish({ outcome: "rejected", status: answer.statusCode, headers: pairs, body }),
  );
});
socket.on("error", (error) => {
  if (error.message === "Opening handshake has timed out") {
    finish({ outcome: "unanswered" });
  } else {
    process.stderr.write(`${error.stack}\n`, () => process.exit(1));
  }
});
