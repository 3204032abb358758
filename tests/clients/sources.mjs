// Opens one WebSocket with the npm package `ws`, sends messages, and prints what came back.
//
// Arguments: one JSON object with url, source, headers (pairs), protocols and messages. Prints one line of
// JSON with the protocol selected, one answer to each message, and the code and the reason of the close
// frame if the session was ended.

import { createRequire } from "node:module";

// Resolved from the working directory, where the pinned package is installed.
const WebSocket = createRequire(`${process.cwd()}/`)("ws");

const { url, source, headers, protocols, messages } = JSON.parse(process.argv[2]);
const told = { protocol: null, answers: [], code: null, reason: null };

function finish() {
  process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(0));
}

const socket = new WebSocket(url, protocols, {
  headers: Object.fromEntries(headers),
  localAddress: source,
});

// Whatever happens, this ends. The timer itself keeps nothing alive.
setTimeout(() => {
  process.stderr.write("no end in sight\n", () => process.exit(1));
}, 15000).unref();

socket.on("open", () => {
  told.protocol = socket.protocol || null;
  if (messages.length > 0) socket.send(messages[0]);
});
socket.on("message", (data) => {
  told.answers.push(data.toString());
  if (told.answers.length < messages.length) socket.send(messages[told.answers.length]);
  else finish();
});
socket.on("close", (code, reason) => {
  told.code = code;
  told.reason = reason.toString();
  finish();
});
socket.on("error", (error) => {
  process.stderr.write(`${error.stack}\n`, () => process.exit(1));
});
