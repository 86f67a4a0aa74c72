/** The page: photos that were added, the one that is shown, and what a person does with them. */

import * as api from "./api.js";
import { Panel } from "./panel.js";
import { Stage, refresh } from "./compare.js";

const $ = (id) => document.getElementById(id);
const AT_ONCE = 3; // uploads
const SOON = 150; // milliseconds without a move after which a slider counts
const GONE = "gone";
const FINAL = ["done", "failed", "stopped"];

/** `file` is a File, or only its name after the page was loaded again.
 * @type {Array<{file: File, url: string, job?: object, problem?: object, face: number, canvas?: HTMLCanvasElement}>} */
const photos = [];
const session = storage();
let current = null;
let uploading = 0;

const stage = new Stage({ selected: select, marked: (box) => send({ boxes: [box.map((v) => Math.round(v))] }) });
const panel = new Panel({
  dial: (value) => later("dial", value),
  strength: (value) => later("strength", value),
  restore: (wanted) => send({ faces: [{ number: current.face, restore: wanted }] }),
  map: showMap,
  scale: (scale) => send({ scale }),
  select,
  mark: () => stage.startMarking(),
  remove: () => remove(current),
  stop: () => stopped(current),
  retry: () => again(current),
  salvage: () => {
    current.settings.salvage = true;
    again(current);
  },
});
const events = new api.Events(told, reconnected);
api.connection.tell = (there) => {
  $("banner").hidden = there;
  $("banner").textContent = there ? "" : "The server does not answer. Is it still running? Trying again…";
};

function say(words) {
  $("live").textContent = words;
}

function add(files) {
  const added = [...files].filter((file) => file.size > 0 || file.name);
  for (const file of added) photos.push({ file, url: URL.createObjectURL(file), face: 0, settings: {} });
  if (!added.length) return;
  current ??= photos[photos.length - added.length];
  upload();
  render();
}

async function upload() {
  const photo = photos.find((one) => !one.job && !one.sent && !one.problem);
  if (!photo || uploading >= AT_ONCE) return;
  uploading += 1;
  photo.sent = true;
  photo.aborter = new AbortController();
  upload();
  try {
    photo.job = await api.start(photo.file, photo.settings, photo.aborter.signal);
  } catch (error) {
    if (error.name !== "AbortError") photo.problem = error.problem ?? { detail: "the photo cannot be sent" };
  }
  uploading -= 1;
  if (photos.includes(photo)) follow();
  else if (photo.job) api.stop(photo.job.id);
  render();
  upload();
}

function follow() {
  events.follow(photos.filter((one) => one.job && (one === current || !FINAL.includes(one.job.state))).map((one) => one.job.id));
}

/** An event of the server. */
async function told(job) {
  const photo = photos.find((one) => one.job?.id === job.id);
  const before = photo?.job;
  if (!photo || job.tick < before.tick) return; // an answer that an event has overtaken
  photo.job = job;
  if (before.state !== job.state && photo === current) say(`${photo.file.name}: ${job.state}`);
  if (photo.replay && job.state === "done") {
    const changes = photo.replay;
    photo.replay = null;
    send(changes, photo);
  }
  if (photo.face > job.faces.length) photo.face = 0;
  if (job.faces.length === 1) photo.face = 1;
  else if (photo.marks !== undefined && job.faces.length > photo.marks) {
    photo.face = job.faces.length;
    photo.marks = undefined;
  }
  render();
  await update(photo);
  if (FINAL.includes(job.state)) follow();
}

/** Fetches what is new of a result, once at a time. */
async function update(photo) {
  if (photo.updating) return;
  photo.updating = true;
  try {
    while (photo.job?.version && (photo.shown?.version !== photo.job.version || photo.shown?.id !== photo.job.id)) await refresh(photo);
  } catch (error) {
    if (error.status === 404) photo.shown = undefined;
    else if (!(error instanceof api.Refused)) throw error;
  } finally {
    photo.updating = false;
    render();
  }
}

function select(number) {
  const zoom = number && number === current.face && stage.fitted;
  current.face = number;
  render();
  const face = current.job.faces[number - 1];
  if (face && zoom) stage.zoomTo(face);
}

/** Dial or strength moves: its value counts when it rests. */
function later(name, value) {
  const photo = current;
  const { face } = photo;
  if (photo.pending && photo.pending.face !== face) flush(photo);
  const values = photo.pending?.face === face ? photo.pending.values : {};
  photo.pending = { face, values: { ...values, [name]: value } };
  clearTimeout(photo.timer);
  photo.timer = setTimeout(() => flush(photo), SOON);
}

async function flush(photo) {
  clearTimeout(photo.timer);
  const { pending } = photo;
  const { face, values } = pending;
  await send(face ? { faces: [{ number: face, ...values }] } : values, photo);
  if (photo.pending === pending) photo.pending = null;
  render();
}

async function send(changes, photo = current) {
  if (!photo?.job) return;
  if (changes.boxes) photo.marks = photo.job.faces.length;
  try {
    const job = await api.change(photo.job.id, changes);
    if (photo === current) follow();
    told(job);
  } catch (error) {
    if (error.status === 404) again(photo);
    else if (error instanceof api.Refused) say((photo.job.note = error.message));
    else throw error;
  }
  render();
}

/** The stream of events is there again: jobs that the server has forgotten are sent anew, with their settings. */
async function reconnected() {
  for (const photo of photos.filter((one) => one.job && !FINAL.slice(1).includes(one.job.state))) {
    try {
      told(await api.status(photo.job.id));
    } catch (error) {
      if (error.status === 404) again(photo);
    }
  }
  follow();
}

function again(photo) {
  const { job } = photo;
  if (!(photo.file instanceof File)) {
    photo.problem = { detail: "the server has forgotten this photo: add it again", type: GONE };
    photo.job = undefined;
    render();
    return;
  }
  if (job?.version) {
    photo.settings = { ...photo.settings, scale: job.scale, dial: job.dial, strength: job.strength };
    const detected = job.faces.filter((face) => !face.by_hand);
    photo.replay = {
      faces: detected.map(({ number, dial, strength, restore }) => ({ number, dial, strength, restore })),
      boxes: job.faces.filter((face) => face.by_hand).map((face) => face.box),
    };
  }
  photo.job = photo.problem = photo.sent = undefined;
  render();
  upload();
}

function stopped(photo) {
  photo.aborter?.abort();
  if (photo.job) api.stop(photo.job.id);
  photo.job = undefined;
  photo.problem = { detail: "stopped" };
  follow();
  render();
}

function remove(photo) {
  photo.aborter?.abort();
  if (photo.job) api.stop(photo.job.id);
  URL.revokeObjectURL(photo.url);
  const at = photos.indexOf(photo);
  photos.splice(at, 1);
  current = photos[Math.min(at, photos.length - 1)] ?? null;
  follow();
  render();
}

function show(photo) {
  current = photo;
  follow();
  render();
}

function showMap(wanted) {
  $("show-map").checked = stage.showMap = wanted;
  $("legend").hidden = !wanted;
  render();
}

function render() {
  $("welcome").hidden = photos.length > 0;
  $("work").hidden = !photos.length;
  $("add").hidden = !photos.length;
  const done = photos.filter((photo) => photo.job?.version);
  $("download-all").hidden = done.length < 2;
  $("ready").textContent = done.length < photos.length ? `${done.length} of ${photos.length}` : "all";
  document.title = current ? `${current.file.name}: Panini` : "Panini";
  strip();
  remember();
  if (!current) return;
  stage.show(current);
  panel.show(current);
}

function storage() {
  try {
    return sessionStorage;
  } catch {
    return null; // blocked
  }
}

/** For when the page is loaded again: the server still has the photos. */
function remember() {
  const sent = photos.filter((photo) => photo.job).map((photo) => ({ id: photo.job.id, name: photo.file.name }));
  session?.setItem("photos", JSON.stringify(sent));
}

async function recall() {
  const sent = JSON.parse(session?.getItem("photos") ?? "[]");
  const jobs = await Promise.all(sent.map(({ id }) => api.status(id).catch(() => null)));
  jobs.forEach((job, at) => {
    if (!job) return;
    photos.push({ file: { name: sent[at].name }, url: `/v1/jobs/${job.id}/preview?which=before`, job, face: 0, settings: {} });
  });
  current ??= photos[0] ?? null;
  follow();
  render();
  for (const photo of photos) if (photo.job) told(photo.job);
}

function strip() {
  const buttons = new Map([...$("strip").children].map((button) => [button.photo, button]));
  for (const photo of photos) {
    let button = buttons.get(photo);
    if (!button) {
      button = document.createElement("button");
      button.type = "button";
      button.photo = photo;
      const [image, dot] = [new Image(), document.createElement("span")];
      image.alt = "";
      image.src = photo.url;
      image.onerror = () => image.removeAttribute("src");
      dot.className = "dot";
      button.append(image, dot);
      button.addEventListener("click", () => show(photo));
      $("strip").append(button);
    }
    buttons.delete(photo);
    const image = button.firstChild;
    const read = ["found faces", "restoring faces", "done"].includes(photo.job?.state);
    if (!image.getAttribute("src") && read) image.src = `/v1/jobs/${photo.job.id}/preview?which=before`;
    const bad = Boolean(photo.problem || photo.job?.problem);
    const busy = !bad && photo.job?.state !== "done";
    button.className = bad ? "bad" : busy ? "busy" : "";
    button.lastChild.textContent = bad ? "!" : busy ? "…" : "✓";
    button.setAttribute("aria-label", `${photo.file.name}: ${bad ? "failed" : busy ? "in work" : "done"}`);
    button.setAttribute("aria-current", String(photo === current));
  }
  for (const button of buttons.values()) button.remove();
}

$("choose").addEventListener("click", () => $("files").click());
$("add").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => {
  add($("files").files);
  $("files").value = "";
});
$("sample").addEventListener("click", async () => {
  const data = await (await api.ask("/static/sample.jpg")).blob();
  add([new File([data], "sample.jpg", { type: "image/jpeg" })]);
});
$("download-all").addEventListener("click", () => {
  const ids = photos.filter((photo) => photo.job?.version).map((photo) => photo.job.id);
  const link = document.createElement("a");
  link.href = `/v1/archive?job=${ids.join("&job=")}`;
  link.download = "panini.zip";
  link.click();
});

addEventListener("beforeunload", (event) => {
  if (photos.some((photo) => !photo.job && !photo.problem)) event.preventDefault(); // they would be lost
});
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) add(files);
});
let depth = 0;
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
document.addEventListener("dragenter", (event) => {
  depth += 1;
  $("dropping").hidden = !carriesFiles(event);
});
document.addEventListener("dragleave", () => {
  depth -= 1;
  if (depth <= 0) $("dropping").hidden = true;
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  $("dropping").hidden = true;
  add(event.dataTransfer?.files ?? []);
});

document.addEventListener("keydown", (event) => {
  if (!current || event.ctrlKey || event.metaKey || event.altKey || stage.mark) return;
  const step = { n: 1, p: -1 }[event.key.toLowerCase()];
  if (step) show(photos[(photos.indexOf(current) + step + photos.length) % photos.length]);
  else if (event.key === "+" || event.key === "=") stage.zoomBy(1.5);
  else if (event.key === "-") stage.zoomBy(1 / 1.5);
  else if (event.key === "0") stage.fit();
  else if (event.key.toLowerCase() === "m") showMap(!stage.showMap);
  else if (event.key.toLowerCase() === "b") stage.startMarking();
  else if (event.key.toLowerCase() === "d") $("download").click();
  else return;
  event.preventDefault();
});

recall();
