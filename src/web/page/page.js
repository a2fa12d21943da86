// The page: asks the API every two seconds and changes only what changed. Everything that comes from a camera
// or a person reaches the page as text, never as markup.
"use strict";

const REFRESH_MS = 2000;
const ANSWER_MS = 5000;
const EVENTS_PER_PAGE = 30;
const MOST_EVENTS = 600;

const MODES = {
  pictures: "stores pictures", video: "records a video", guard: "guards an object",
  people: "looks for people", faces: "recognises faces",
};
const KINDS = {
  motion: "Motion", object_moved: "Object moved", object_removed: "Object removed",
  person: "Person", face: "Face",
  camera_silent: "Camera silent", actor_failing: "Actor failing", disk_low: "Disk nearly full",
  recording_refused: "Recording refused", channel_failing: "Channel failing", clock_jump: "Clock jumped",
  store_damaged: "Evidence damaged", viewer: "Watched live",
};
const SCORED = ["person", "face"]; // kinds whose score says how sure the detector is
const CLIP_MS = 10 * 60 * 1000; // a clip that is not there so long after its event will not come
const ACTOR_STATES = {
  running: ["running", "good"], backing_off: ["restarting", "warn"],
  failed: ["failed", "bad"], abandoned: ["hangs, given up", "bad"],
};

const byId = (id) => document.getElementById(id);

// === Building and changing elements ===

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setClass(element, className) {
  if (element.className !== className) element.className = className;
}

/** Makes the children of a list exactly these texts. */
function setItems(list, tag, texts) {
  while (list.children.length > texts.length) list.lastElementChild.remove();
  texts.forEach((text, i) => {
    if (!list.children[i]) list.append(make(tag));
    setText(list.children[i], text);
  });
}

/** Makes the children of a parent exactly these elements in this order, moving as few as possible. */
function setChildren(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, i) => {
    if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] || null);
  });
}

// === Words ===

let clockOffsetMs = 0; // the node's wall clock minus this device's

const nodeNow = () => Date.now() + clockOffsetMs;

function plural(n, word) {
  return n === 1 ? `1 ${word}` : `${n.toLocaleString("en")} ${word}s`;
}

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  const both = (large, largeUnit, small, smallUnit) =>
    (small ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`);
  if (s < 86400) return both(Math.floor(s / 3600), "h", Math.floor(s / 60) % 60, "min");
  return both(Math.floor(s / 86400), "d", Math.floor(s / 3600) % 24, "h");
}

const ago = (time) => {
  const seconds = (nodeNow() - Date.parse(time)) / 1000;
  return seconds < 1.5 ? "just now" : `${span(seconds)} ago`;
};

function moment(time) {
  const date = new Date(time);
  const sameDay = date.toDateString() === new Date(nodeNow()).toDateString();
  return sameDay ? date.toLocaleTimeString() : date.toLocaleString();
}

function bytes(n) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i += 1; }
  return `${i === 0 ? n : n.toFixed(1)} ${units[i]}`;
}

const cameraAddress = (id) => `api/v1/cameras/${encodeURIComponent(id)}`;

// === Asking the node ===

async function ask(address) {
  const response = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
  if (!response.ok) {
    const words = await response.json().then((body) => body.error, () => "");
    const error = new Error(words || `the node answered ${response.status}`);
    error.status = response.status;
    throw error;
  }
  return response.json();
}

// === Cameras ===

const cards = new Map(); // camera id -> card
const inView = new WeakSet();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) inView.add(entry.target); else inView.delete(entry.target);
  }
}, { rootMargin: "200px" });

function newCard(id) {
  const root = make("article", "camera");
  const view = make("a", "view");
  view.href = `${cameraAddress(id)}/picture`;
  view.target = "_blank";
  view.rel = "noopener";
  const none = make("span", "none", "no picture yet");
  const badge = make("span", "badge", "recording");
  badge.hidden = true;
  view.append(none, badge);
  const text = make("div", "text");
  const name = make("div", "name");
  const dot = make("span", "dot");
  name.append(make("b", "", id), dot);
  const doing = make("p", "quiet");
  const counts = make("p", "quiet");
  const reference = make("button", "", "Take a new reference");
  reference.type = "button";
  reference.hidden = true;
  reference.addEventListener("click", () => takeReference(id, reference));
  text.append(name, doing, counts, reference);
  root.append(view, text);
  watcher.observe(root);
  return { id, root, view, none, badge, dot, doing, counts, reference, picture: null, shown: "", loading: false };
}

async function takeReference(id, button) {
  button.disabled = true;
  try {
    const response = await fetch(`${cameraAddress(id)}/reference`, { method: "POST" });
    const body = await response.json().catch(() => ({}));
    setText(button, response.ok ? "Reference will be taken" : body.error || "That did not work");
  } catch {
    setText(button, "The node does not answer");
  }
  setTimeout(() => { setText(button, "Take a new reference"); button.disabled = false; }, 3000);
}

/** Loads the new picture out of sight and swaps it in when it is decoded: no flicker, no half pictures. */
async function refreshPicture(card, lastFrame) {
  if (!lastFrame || card.shown === lastFrame || card.loading || !inView.has(card.root)) return;
  card.loading = true;
  const next = new Image();
  next.alt = `latest picture of camera ${card.id}`;
  next.src = `${cameraAddress(card.id)}/picture?at=${encodeURIComponent(lastFrame)}`;
  try {
    await next.decode();
    if (card.picture) card.picture.replaceWith(next); else card.view.prepend(next);
    card.picture = next;
    card.none.hidden = true;
  } catch {
    if (!card.picture) setText(card.none, "the picture cannot be shown");
  }
  card.shown = lastFrame;
  card.loading = false;
}

function updateCard(card, camera) {
  const [word, tone] = camera.up ? ["live", "good"] : camera.connected ? ["silent", "warn"] : ["not connected", "bad"];
  setText(card.dot, word);
  setClass(card.dot, `dot ${tone}`);
  setClass(card.root, camera.up ? "camera" : "camera off");
  card.badge.hidden = !camera.recording;
  const doing = [];
  if (camera.mode) doing.push(MODES[camera.mode] || camera.mode);
  if (camera.up && camera.frames_per_second !== undefined) doing.push(`${camera.frames_per_second.toFixed(1)} frames/s`);
  doing.push(camera.last_frame ? `last frame ${ago(camera.last_frame)}` : "no frame yet");
  setText(card.doing, doing.join(" · "));
  const counts = [plural(camera.frames, "frame")];
  if (camera.refused) counts.push(`${camera.refused.toLocaleString("en")} refused`);
  for (const slot of camera.slots || []) {
    if (slot.replaced) counts.push(`${slot.replaced.toLocaleString("en")} skipped by ${slot.detector}`);
  }
  setText(card.counts, counts.join(" · "));
  card.reference.hidden = !(camera.connected && camera.mode === "guard");
  refreshPicture(card, camera.last_frame);
}

function showCameras(status) {
  const cameras = [...status.cameras].sort((a, b) => a.id.localeCompare(b.id, undefined, { numeric: true }));
  const known = new Set(cameras.map((camera) => camera.id));
  for (const id of cards.keys()) if (!known.has(id)) { watcher.unobserve(cards.get(id).root); cards.delete(id); }
  for (const camera of cameras) {
    if (!cards.has(camera.id)) cards.set(camera.id, newCard(camera.id));
  }
  setChildren(byId("cameras"), cameras.map((camera) => cards.get(camera.id).root));
  for (const camera of cameras) updateCard(cards.get(camera.id), camera);

  const live = cameras.filter((camera) => camera.up).length;
  setText(byId("cameras-count"), cameras.length ? `${live} of ${cameras.length} live` : "");
  byId("no-cameras").hidden = cameras.length > 0;
  const frame = status.listeners.find((listener) => listener.dialect === "frame");
  setText(byId("push-hint"), frame
    ? `meerkat push --to ${frame.address} --mode 3 synthetic`
    : "The frame protocol is switched off: set frame.listen in the configuration.");
  offerCameras(cameras.map((camera) => camera.id));
}

// === Events ===

const rows = new Map(); // event id -> row
let eventsReset = true; // whether the next page replaces everything
let olderPlace = null; // where older events begin; null when there are none

function newRow(event) {
  const root = make("li", "event");
  const thumb = make("div", "thumb");
  const what = make("div", "what");
  const title = make("b");
  const detail = make("p", "quiet");
  what.append(title, detail);
  const clip = make("button", "", "Play clip");
  clip.type = "button";
  const note = make("span", "quiet");
  root.append(thumb, what, clip, note);
  const row = { id: event.id, root, thumb, title, detail, clip, note, video: null, clipAddress: null, text: "" };
  clip.addEventListener("click", () => toggleClip(row));
  return row;
}

function toggleClip(row) {
  if (row.video) {
    row.video.pause();
    row.video.removeAttribute("src");
    row.video.load(); // lets go of the connection
    row.video.remove();
    row.video = null;
    row.strip?.remove();
    setText(row.clip, "Play clip");
    setText(row.note, "");
    row.note.hidden = true;
    return;
  }
  const video = make("video");
  video.controls = true;
  video.playsInline = true;
  video.src = row.clipAddress;
  video.addEventListener("error", () => {
    if (row.video !== video) return;
    setText(row.note, "this clip cannot be played");
    row.note.hidden = false;
  });
  row.root.append(video);
  row.video = video;
  if (row.stripAddress) {
    const strip = new Image();
    strip.className = "strip";
    strip.alt = "preview of the clip";
    strip.addEventListener("error", () => strip.remove());
    // A place in the strip is a place in the clip.
    strip.addEventListener("click", (event) => {
      if (video.duration > 0) video.currentTime = (event.offsetX / strip.clientWidth) * video.duration;
    });
    strip.src = row.stripAddress;
    row.root.append(strip);
    row.strip = strip;
  }
  video.play().catch(() => {}); // where a browser wants another touch, the controls are there
  setText(row.clip, "Close clip");
}

function updateRow(row, event) {
  const text = JSON.stringify(event);
  if (row.text === text && event.ended) return;
  row.text = text;
  const people = event.identities.filter((name) => name !== "unknown");
  const unknown = event.identities.length > people.length;
  const who = [...people, ...(unknown ? [people.length ? "somebody unknown" : "unknown"] : [])].join(", ");
  setText(row.title, (KINDS[event.kind] || event.kind) + (who ? `: ${who}` : ""));
  const detail = [event.camera, moment(event.started)];
  const lasted = (event.ended ? Date.parse(event.ended) : nodeNow()) - Date.parse(event.started);
  if (!event.ended) detail.push(`going on for ${span(lasted / 1000)}`);
  else if (lasted >= 500) detail.push(`lasted ${span(lasted / 1000)}`);
  if (event.score > 0 && SCORED.includes(event.kind)) detail.push(`${Math.round(event.score * 100)} % sure`);
  setText(row.detail, detail.join(" · "));
  if (event.snapshot && !row.thumb.firstChild) {
    const image = new Image();
    image.loading = "lazy";
    image.alt = "";
    image.src = event.snapshot.slice(1);
    image.addEventListener("error", () => image.remove());
    row.thumb.append(image);
  }
  row.clipAddress = event.clip && event.clip.slice(1);
  row.stripAddress = event.strip && event.strip.slice(1);
  row.clip.hidden = !event.clip;
  if (!row.video) {
    setText(row.note, clipNote(event));
    row.note.hidden = row.note.textContent === "";
  }
}

/** What stands where the clip is not. Kinds of events without clips have no snapshots either. */
function clipNote(event) {
  if (event.clip || !event.snapshot) return "";
  if (!event.ended) return "recording …";
  return nodeNow() - Date.parse(event.ended) < CLIP_MS ? "clip in the making" : "no clip";
}

function eventsAddress(before) {
  const query = new URLSearchParams({ limit: EVENTS_PER_PAGE });
  if (byId("filter-camera").value) query.set("camera", byId("filter-camera").value);
  if (byId("filter-kind").value) query.set("kind", byId("filter-kind").value);
  if (before) query.set("before", before);
  return `api/v1/events?${query}`;
}

function addEvents(answer, isNewest) {
  const page = answer.events;
  const ids = page.map((event) => event.id);
  const oldest = ids[ids.length - 1];
  if (isNewest) {
    const newestKnown = [...rows.keys()].sort().pop();
    const gap = newestKnown && oldest && newestKnown < oldest;
    const complete = page.length < EVENTS_PER_PAGE;
    const afresh = eventsReset || gap || rows.size > MOST_EVENTS;
    if (afresh) olderPlace = answer.next;
    // What the node no longer has, what lies beyond a gap and what is too much goes.
    for (const id of rows.keys()) {
      if (!ids.includes(id) && (afresh || complete || id >= oldest)) rows.delete(id);
    }
    eventsReset = false;
  } else {
    olderPlace = rows.size < MOST_EVENTS ? answer.next : null;
  }
  for (const event of page) {
    if (!rows.has(event.id)) rows.set(event.id, newRow(event));
    updateRow(rows.get(event.id), event);
  }
  const newestFirst = [...rows.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
  setChildren(byId("events"), newestFirst.map((row) => row.root));
  const filtered = byId("filter-camera").value || byId("filter-kind").value;
  byId("no-events").hidden = rows.size > 0;
  setText(byId("no-events"), filtered ? "No event matches." : "Nothing has happened yet.");
  byId("older").hidden = !olderPlace;
}

async function refreshEvents() {
  const address = eventsAddress();
  const answer = await ask(address);
  // The filter may have changed while the answer was on its way.
  if (address === eventsAddress()) addEvents(answer, true);
}

async function showOlder() {
  const button = byId("older");
  button.disabled = true;
  try {
    const address = eventsAddress(olderPlace);
    const answer = await ask(address);
    if (address === eventsAddress(olderPlace)) addEvents(answer, false);
  } catch (error) {
    setProblem("events", `The events cannot be read: ${error.message}.`);
  }
  button.disabled = false;
}

function offerCameras(ids) {
  const select = byId("filter-camera");
  const wanted = ["", ...ids];
  if (select.value && !wanted.includes(select.value)) wanted.push(select.value);
  if (wanted.join("\n") === [...select.options].map((option) => option.value).join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(...wanted.map((id) => new Option(id || "all", id)));
  select.value = chosen;
}

// === Actors, detectors, queues ===

let allActors = false;

const actorName = (actor) => `${actor.kind} actor${actor.camera ? ` of ${actor.camera}` : ""}`;

function showActors(status) {
  const troubled = status.actors.filter((actor) => actor.state !== "running");
  const restarts = status.actors.reduce((sum, actor) => sum + actor.restarts, 0);
  const summary = status.actors.length === 0 ? "No actor runs yet."
    : troubled.length === 0 ? `All ${plural(status.actors.length, "actor")} running`
    : `${status.actors.length - troubled.length} of ${plural(status.actors.length, "actor")} running`;
  setText(byId("actors-summary"), restarts ? `${summary}, ${plural(restarts, "restart")} since the node started.` : summary);
  const worth = status.actors.filter((actor) => actor.state !== "running" || actor.restarts > 0);
  const listed = allActors ? status.actors : worth;
  byId("actors").hidden = listed.length === 0;
  const button = byId("actors-all");
  button.hidden = status.actors.length === 0 || worth.length === status.actors.length;
  button.setAttribute("aria-expanded", String(allActors));
  setText(button, allActors ? "Show only those with restarts" : "Show all actors");

  const body = byId("actors").tBodies[0];
  while (body.rows.length > listed.length) body.deleteRow(-1);
  const labels = ["", "Camera", "", "Generation", "Restarts", "Last restart", "Last error"];
  listed.forEach((actor, i) => {
    const line = body.rows[i] || body.insertRow();
    while (line.cells.length < labels.length) {
      const cell = line.insertCell();
      if (labels[line.cells.length - 1]) cell.dataset.label = labels[line.cells.length - 1];
    }
    const [word, tone] = ACTOR_STATES[actor.state] || [actor.state, "warn"];
    const texts = [
      actor.kind, actor.camera || "", word, String(actor.generation), String(actor.restarts),
      actor.last_restart ? ago(actor.last_restart) : "", actor.last_error || "",
    ];
    texts.forEach((text, j) => setText(line.cells[j], text));
    setClass(line.cells[2], `dot ${tone}`);
  });
}

function showInside(status) {
  const queues = status.queues;
  const facts = status.detectors.map((d) => [`Detector: ${d.role}`, `${d.name} (${d.backend}, on ${d.device})`]);
  facts.push(["Being received", bytes(queues.in_flight_bytes)]);
  facts.push(["Kept for pre-roll", bytes(queues.ring_bytes)]);
  facts.push(["Alerts not delivered yet", String(queues.outbox_waiting)]);
  const waiting = queues.mailboxes.filter((mailbox) => mailbox.waiting > 0);
  facts.push(["Messages waiting", waiting.length ? waiting.map((m) => `${m.actor} ${m.waiting}`).join(", ") : "none"]);
  for (const listener of status.listeners) facts.push([`Cameras connect to: ${listener.dialect}`, listener.address]);
  const list = byId("inside");
  while (list.children.length > facts.length * 2) list.lastElementChild.remove();
  facts.forEach(([name, value], i) => {
    if (!list.children[2 * i]) list.append(make("dt"), make("dd"));
    setText(list.children[2 * i], name);
    setText(list.children[2 * i + 1], value);
  });
}

// === What is wrong, in plain words ===

const problems = { node: "", events: "" };
let troubles = []; // what the status says is wrong
let remarks = []; // what it says is good to know
let lostSince = null;

function setProblem(from, words) {
  problems[from] = words;
  setItems(byId("notices"), "li", [...Object.values(problems).filter(Boolean), ...troubles]);
  setItems(byId("remarks"), "li", remarks);
}

function troublesOf(status) {
  const lines = status.node.degraded ? [...status.node.notices] : [];
  if (status.age_seconds > 0) lines.unshift(`The node is busy: what you see is ${span(status.age_seconds)} old.`);
  for (const actor of status.actors) {
    const why = actor.last_error ? `: ${actor.last_error}` : "";
    if (actor.state === "backing_off") lines.push(`The ${actorName(actor)} failed and is being restarted${why}.`);
    if (actor.state === "failed") lines.push(`The ${actorName(actor)} failed for good${why}.`);
    if (actor.state === "abandoned") lines.push(`The ${actorName(actor)} hangs and was given up${why}.`);
  }
  for (const camera of status.cameras) {
    if (camera.connected && !camera.up) {
      const since = camera.last_frame ? `its last frame came ${ago(camera.last_frame)}` : "no frame has come yet";
      lines.push(`Camera ${camera.id} is connected but silent: ${since}.`);
    }
  }
  if (status.abandoned_threads > 0) {
    lines.push(`${plural(status.abandoned_threads, "thread")} hanging in native code; at four the node starts anew.`);
  }
  return lines;
}

function showNode(status) {
  document.body.classList.remove("lost");
  const node = status.node;
  clockOffsetMs = Date.parse(node.started) + (node.uptime_seconds + status.age_seconds) * 1000 - Date.now();
  const commit = node.commit ? ` (${node.commit.slice(0, 10)})` : "";
  setText(byId("node"), `version ${node.version}${commit} · up for ${span(node.uptime_seconds)}`);
  troubles = troublesOf(status);
  remarks = node.degraded ? [] : node.notices;
  setProblem("node", "");
  if (status.age_seconds > 0) setState("not answering in time", "warn", true);
  else if (node.degraded) setState("degraded", "warn", true);
  else if (troubles.length) setState("running, look below", "warn", true);
  else setState("running", "good", false);
}

function setState(word, tone, isTrouble) {
  setText(byId("state"), word);
  setClass(byId("state"), `state ${tone}`);
  const title = isTrouble ? `(!) Meerkat` : "Meerkat";
  if (document.title !== title) document.title = title;
}

function showLost(error) {
  lostSince = lostSince || new Date();
  document.body.classList.add("lost");
  setState("no answer", "bad", true);
  setProblem("node", error.status === 401
    ? "The node wants you to log in: load this page again."
    : `The node has not answered since ${lostSince.toLocaleTimeString()}. Trying again every two seconds.`);
}

// === The loop ===

async function refresh() {
  try {
    const status = await ask("api/v1/status");
    lostSince = null;
    showNode(status);
    showCameras(status);
    showActors(status);
    showInside(status);
  } catch (error) {
    showLost(error);
    return;
  }
  try {
    await refreshEvents();
    setProblem("events", "");
  } catch (error) {
    setProblem("events", `The events cannot be read: ${error.message}.`);
  }
}

let running = false;
async function loop() {
  if (running) return;
  running = true;
  while (!document.hidden) {
    await refresh();
    await new Promise((done) => setTimeout(done, REFRESH_MS));
  }
  running = false;
}

for (const [kind, word] of Object.entries(KINDS)) byId("filter-kind").append(new Option(word, kind));
for (const id of ["filter-camera", "filter-kind"]) {
  byId(id).addEventListener("change", () => { eventsReset = true; refresh(); });
}
byId("older").addEventListener("click", showOlder);
byId("actors-all").addEventListener("click", () => { allActors = !allActors; refresh(); });
document.addEventListener("visibilitychange", loop);
loop();
