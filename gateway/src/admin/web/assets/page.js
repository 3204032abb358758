// The page of the admin listener. What comes from clients is put in as text, never as markup.
const EVERY = 2000; // milliseconds between two looks
const KEPT = 300; // looks in the charts: ten minutes
const LAYERS = ["firewall", "handshake", "credentials", "expiry", "scope", "auth_system", "limit", "upstream"];

const at = (id) => document.getElementById(id);
let token = "";
let paused = false;
const looks = [];

/** Asks the daemon; POST with a body. */
async function ask(path, body) {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const options = { headers, cache: "no-store", credentials: "omit" };
  if (body !== undefined) {
    Object.assign(headers, { "Content-Type": "application/json", "Gatehouse-Admin": "1" });
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  const answer = await fetch(path, options);
  if (answer.status === 401) {
    at("token").hidden = false;
    throw new Error("this listener asks for its token");
  }
  const text = await answer.text();
  if (!answer.ok) {
    let told = text.trim();
    try { told = JSON.parse(text).error ?? told; } catch { /* plain words */ }
    throw new Error(told);
  }
  return JSON.parse(text);
}

/** An element with children: strings are text. */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== undefined && value !== null) element.setAttribute(key, value);
  }
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

/** Fills the body of a table; each cell is text, a node, or [text, class]. The focus stays where it was. */
function fill(id, rows, empty) {
  const body = at(id).tBodies[0];
  const focused = body.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  body.replaceChildren(...rows.map((cells) => make("tr", {}, ...cells.map((cell) => {
    if (cell instanceof Node) return make("td", {}, cell);
    const [text, kind] = Array.isArray(cell) ? cell : [cell];
    return make("td", { class: kind }, text);
  }))));
  if (rows.length === 0) {
    const width = at(id).tHead.rows[0].cells.length;
    body.append(make("tr", {}, make("td", { colspan: width, class: "quiet" }, empty)));
  }
  if (focused) body.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

const number = (value) => Number(value).toLocaleString("en");
function span(seconds) {
  const left = Math.max(0, Math.round(seconds));
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (left >= 2 * size) return `${Math.floor(left / size)} ${unit}`;
  }
  return `${left} s`;
}
function bytes(count) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (count >= 10 * size) return `${Math.round(count / size)} ${unit}`;
  }
  return `${count} B`;
}
const rate = (value) => (value >= 10 ? number(Math.round(value)) : value.toFixed(value === 0 ? 0 : 1));

/** The bound that this part of the handshakes did not exceed. */
function quantile(now, before, part) {
  const counts = now.counts.map((count, bucket) => count - (before?.counts[bucket] ?? 0));
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all === 0) return "–";
  let seen = 0;
  for (const [bucket, bound] of now.bounds_s.entries()) {
    seen += counts[bucket];
    if (seen >= part * all) return bound < 1 ? `≤ ${bound * 1000} ms` : `≤ ${bound} s`;
  }
  return `> ${now.bounds_s.at(-1)} s`;
}

const sum = (rows) => rows.reduce((total, row) => total + row.count, 0);
const key = (row) => `${row.layer}/${row.reason} ${row.point}`;

/** Draws lines: `series` of { name, values }, values a second, one for each look but the first. */
function chart(id, legend, series) {
  const svg = at(id);
  const [width, height, left, bottom] = [600, 140, 44, 16];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const node = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text) element.textContent = text;
    return element;
  };
  const top = Math.max(1, ...series.flatMap((one) => one.values));
  const x = (index, count) => left + ((width - left - 4) * (KEPT - count + index)) / (KEPT - 1);
  const y = (value) => 6 + (height - bottom - 6) * (1 - value / top);
  const grid = [0, top / 2, top].flatMap((value) => [
    node("line", { x1: left, x2: width, y1: y(value), y2: y(value) }),
    node("text", { x: 0, y: y(value) + 4 }, rate(value)),
  ]);
  const lines = series.map(({ values, colour }) => {
    const points = values.map((value, index) => `${x(index, values.length).toFixed(1)},${y(value).toFixed(1)}`);
    return node("path", { d: points.length > 1 ? `M${points.join("L")}` : "", class: colour });
  });
  svg.replaceChildren(...grid, ...lines);
  at(legend).replaceChildren(...series.map(({ name, values, colour }) =>
    make("span", {}, make("i", { class: colour }), `${name} ${rate(values.at(-1) ?? 0)} /s`)));
}

/** A number a second between each two looks. */
function rates(of) {
  return looks.slice(1).map((look, index) => {
    const seconds = Math.max(0.001, look.time - looks[index].time);
    // A daemon that has started anew counts from 0.
    return Math.max(0, of(look) - of(looks[index])) / seconds;
  });
}

function problems(look) {
  const { status } = look;
  const found = [];
  for (const one of status.interfaces) if (one.mode === "none") found.push(`${one.interface} is not guarded: ${one.reason ?? "the program is not attached"}`);
  if (status.packets?.stale) found.push("the counters of the card cannot be read: these are the last ones");
  if (status.policy?.error) found.push(status.policy.error);
  if (status.policy?.edits_wait) found.push("edits of lists wait for `gatehouse apply`");
  for (const one of status.listeners) if (one.error) found.push(`${one.address}: the newest certificate is not in force: ${one.error}`);
  if (look.configuration.refused > 0) found.push(`${look.configuration.refused} newer configurations were refused since the start`);
  if (status.audit_lost_total > 0) found.push(`${number(status.audit_lost_total)} entries of the audit trail were lost since the start`);
  return found;
}

function show(look) {
  const before = looks.at(-2);
  const past = looks.find((one) => look.time - one.time <= 60) ?? look;
  const { status } = look;
  at("version").textContent = `${status.version}, up ${span(status.uptime_s)}`;
  at("state").className = "";
  at("state").textContent = `${status.listen.join(", ") || "a firewall alone"} – ${new Date(look.time * 1000).toLocaleTimeString()}`;

  const gateway = (one) => sum(one.rejections.filter((row) => row.point === "gateway"));
  const admitted = (one) => one.routes.reduce((total, row) => total + row.admitted, 0);
  const dropped = (one) => one.status.packets?.dropped ?? 0;
  const last = (values) => rate(values.at(-1) ?? 0);
  const facts = [
    ["Open sessions", `${number(look.sessions.open)} of ${number(look.sessions.most)}`],
    ["Admitted", `${last(rates(admitted))} /s`],
    ["Turned away", `${last(rates(gateway))} /s`],
    ["Dropped at the card", `${last(rates(dropped))} /s`],
    ["Half decided within", quantile(look.handshakes.admitted, before && past.handshakes.admitted, 0.5)],
    ["99 of 100 within", quantile(look.handshakes.admitted, before && past.handshakes.admitted, 0.99)],
    ["Policy", status.policy ? `generation ${status.policy.generation}` : "none"],
    ["Compiled", status.policy?.compiled ? `${span(look.time - status.policy.compiled)} ago` : "–"],
  ];
  at("now").replaceChildren(...facts.map(([term, value]) => make("div", {}, make("dt", {}, term), make("dd", {}, value))));
  at("problems").replaceChildren(...problems(look).map((text) => make("li", {}, text)));

  const of = (layer) => (one) => sum(one.rejections.filter((row) => row.point === "gateway" && row.layer === layer));
  chart("chart-rejections", "legend-rejections", LAYERS.map((layer, index) => ({ name: layer, colour: `c${index + 1}`, values: rates(of(layer)) })));
  chart("chart-drops", "legend-drops", [{ name: "packets", colour: "c5", values: rates(dropped) }]);

  const earlier = new Map(past.rejections.map((row) => [key(row), row.count]));
  const minute = Math.max(1, look.time - past.time) / 60;
  const reasons = look.rejections.filter((row) => row.count > 0).map((row) => ({ ...row, rate: (row.count - (earlier.get(key(row)) ?? 0)) / minute }));
  reasons.sort((one, other) => other.rate - one.rate || other.count - one.count);
  fill("reasons", reasons.slice(0, 20).map((row) => [
    [row.layer, row.layer === "auth_system" || row.layer === "upstream" ? "bad" : undefined], row.reason,
    row.point === "nic" ? "card" : "gateway", [rate(row.rate), "number"], [number(row.count), "number"],
  ]), "nobody was turned away");

  fill("lists", (status.policy?.lists ?? []).map((one) => {
    const error = one.error ?? one.remote?.error ?? (one.held_back ? `held back: ${number(one.held_back.entries)} entries` : null);
    return [one.list, one.tier, [number(one.prefixes), "number"], [number(one.dropped), "number"],
      one.changed ? span(look.time - one.changed) : "–", error ? [error, "bad"] : [one.source, "quiet"]];
  }), "there is no address policy");

  fill("busiest", look.busiest.slice(0, 15).map((one) => [
    one.address, `${one.layer}/${one.reason}`, [`${one.error > 0 ? "≤ " : ""}${number(one.count)}`, "number"],
    make("button", { type: "button", "data-key": one.address, "aria-label": `Explain ${one.address}`, click: () => explain(one.address) }, "Explain"),
  ]), "nobody was turned away");

  fill("issuers", status.issuers.map((one) => {
    const error = one.error ?? one.fetched?.error ?? one.introspection?.error;
    const bad = one.fetched?.stale || one.introspection?.resting || (one.keys === 0 && !one.introspection);
    const state = one.fetched?.stale ? "its keys are too old" : one.keys === 0 && !one.introspection ? "no keys" : "in order";
    return [one.issuer, [number(one.keys), "number"], one.fetched?.age_s != null ? `${span(one.fetched.age_s)} ago` : "–",
      error ? [error, bad ? "bad" : "warn"] : [state, bad ? "bad" : "good"]];
  }), "there are no issuers");
  fill("upstreams", status.upstreams.map((one) => [one.upstream, [number(one.sessions), "number"],
    one.reachable ? ["reachable", "good"] : ["not reachable", "bad"]]), "there are no upstreams");
  fill("routes", look.routes.map((one) => [one.route, [number(one.open), "number"], [number(one.admitted), "number"]]), "nobody was admitted yet");
}

function showSessions(list, now) {
  at("sessions-caption").textContent = list.open > list.sessions.length ? `The newest ${list.sessions.length} of ${number(list.open)}` : "";
  fill("sessions", list.sessions.map((one) => [
    one.client, one.subject, one.route, span(now - one.since), span(one.expires - now),
    [bytes(one.bytes_up), "number"], [bytes(one.bytes_down), "number"],
    make("button", { type: "button", "data-key": one.id, "aria-label": `Close the session of ${one.subject} from ${one.client}`, click: () => close(one) }, "Close"),
  ]), "no session is open");
}

async function close(session) {
  if (!confirm(`Close the session of ${session.subject} from ${session.client}? The client may connect again.`)) return;
  try {
    await ask(`/api/sessions/${encodeURIComponent(session.id)}/close`, {});
  } catch (error) {
    fail(error);
  }
  look();
}

/** Explains an address or an identifier. */
async function explain(value) {
  at("explain-value").value = value;
  const out = at("explained");
  out.replaceChildren(make("p", { class: "quiet" }, "asking …"));
  try {
    const report = await ask("/api/explain", /^[0-9a-f]{20}$/.test(value) ? { id: value } : { address: value });
    const parts = [];
    if (report.past) {
      parts.push(make("p", {}, make("strong", {}, `Recorded ${new Date(report.past.time * 1000).toLocaleString()}: `), report.past.message));
    }
    if (report.session) {
      parts.push(make("p", {}, `An open session of ${report.session.subject} on ${report.session.route}.`));
    }
    if (/^[0-9a-f]{20}$/.test(value) && !report.past && !report.session) {
      parts.push(make("p", { class: "warn" }, "The daemon does not remember this id: `gatehouse explain --id` asks the journal, too."));
    }
    for (const step of report.steps) {
      const [mark, kind] = step.passed === true ? ["passes", "good"] : step.passed === false ? ["rejects", "bad"] : ["not asked", "quiet"];
      parts.push(make("div", { class: "step" }, make("span", { class: kind }, mark), make("span", {}, step.layer), make("span", {}, step.text)));
    }
    if (report.rejection) {
      parts.push(make("p", { class: "remedy bad" }, `Rejected by ${report.rejection.layer}/${report.rejection.reason}.`),
        make("p", { class: "remedy" }, make("strong", {}, "Client: "), report.rejection.client_fix),
        make("p", { class: "remedy" }, make("strong", {}, "Operator: "), report.rejection.operator_fix));
    } else {
      parts.push(make("p", { class: "remedy good" }, "Admitted, as far as was asked."));
    }
    out.replaceChildren(...parts);
  } catch (error) {
    out.replaceChildren(make("p", { class: "bad" }, error.message));
  }
  out.focus();
}

function fail(error) {
  at("state").className = "bad";
  at("state").textContent = `The daemon does not answer: ${error.message}. What is shown is old; trying again.`;
}

let looking = false;
async function look() {
  if (looking) return;
  looking = true;
  try {
    const [overview, sessions] = await Promise.all([ask("/api/overview"), ask("/api/sessions")]);
    at("token").hidden = true;
    looks.push(overview);
    if (looks.length > KEPT) looks.shift();
    show(overview);
    showSessions(sessions, overview.time);
  } catch (error) {
    fail(error);
  } finally {
    looking = false;
  }
}

at("explain").addEventListener("submit", (event) => {
  event.preventDefault();
  explain(at("explain-value").value.trim());
});
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token-value").value;
  at("token-value").value = "";
  look();
});
at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").textContent = paused ? "Go on" : "Pause";
});
setInterval(() => { if (!paused && !document.hidden) look(); }, EVERY);
look();
