// The page: a video comes in, and what the server says of it is shown as it comes.

import { film, hasCamera } from "/page/camera.js";
import { askExplanation, askModels, askTimeline } from "/page/server.js";
import { Line, best, clock, percent, span } from "/page/timeline.js";

const $ = (id) => document.getElementById(id);
const LABELS = 5;
const MOST_PIECES = 30; // of the camera: their pictures are kept

// What is shown: the video as it was given, which part of it, and what ends the present request.
const shown = { video: null, part: 0, request: null, models: [], maxBytes: Infinity };
let camera = null;

const line = new Line($("parts"), $("head"), showPart);

function model() {
  return shown.models.find(({ name }) => name === $("model").value);
}

function say(text) {
  $("status").textContent = text;
}

function fail(error) {
  say("");
  $("error").textContent = error.message;
  $("error").hidden = false;
}

/** Makes the page ready for another video. */
function clear() {
  shown.request?.abort();
  camera?.stop();
  camera = null;
  $("camera").textContent = "Use the camera";
  $("error").hidden = true;
  for (const id of ["watch", "details", "unplayable", "legend"]) $(id).hidden = true;
  $("line-help").hidden = false;
  $("whole-title").textContent = "The whole video";
  line.clear();
  $("labels").replaceChildren();
  $("times").replaceChildren();
  $("seen").removeAttribute("src");
  $("look").setAttribute("aria-pressed", "false");
  if ($("video").src) URL.revokeObjectURL($("video").src);
  $("video").removeAttribute("src");
  say("");
}

async function take(file) {
  clear();
  if (file.size > shown.maxBytes) {
    fail(new Error(`${file.name} has ${megabytes(file.size)}, and this server takes ${megabytes(shown.maxBytes)}.`));
    return;
  }
  shown.video = file;
  shown.request = new AbortController();
  $("video").controls = true;
  $("video").src = URL.createObjectURL(file);
  say(`Sending ${file.name} …`);
  const began = performance.now();
  let count = 0;
  try {
    await askTimeline(file, { model: model().name, frames: true, top_k: LABELS }, shown.request.signal, (document) => {
      if (document.windows) {
        count = document.windows;
        $("watch").hidden = false;
        line.expect(count);
      } else if (document.window !== undefined) {
        line.add(document);
        say(`${document.window + 1} of ${count} parts`);
        if (document.window === 0) line.select(0);
        $("details").hidden = false;
      } else {
        showWhole(document.predictions);
        showTimes(document.stages_ms, performance.now() - began);
        const { label, said } = best(document.predictions);
        say(`${file.name}: ${label}, ${said}`);
      }
    });
  } catch (error) {
    if (error.name === "AbortError") return; // another video was taken
    fail(error);
  }
}

function showPart(number, part, chosen) {
  shown.part = number;
  $("seen-part").textContent =
    part.from === null
      ? `Part ${number + 1}: ${part.seconds.length} frames`
      : `${part.seconds.length} frames of ${clock(part.from)} to ${clock(part.to)}, resized and cut as the model takes them`;
  $("seen").src = part.frames;
  $("seen").alt = `The frames that the model saw of part ${number + 1}`;
  $("look").setAttribute("aria-pressed", "false");
  $("legend").hidden = true;
  $("attention").hidden = !model().attention || camera !== null;
  if (chosen && part.from !== null && !camera) $("video").currentTime = part.from;
}

function showWhole(predictions) {
  $("labels").replaceChildren(
    ...predictions.map(({ label, score, value }) => {
      const item = document.createElement("li");
      item.append(span("name", label));
      const meter = document.createElement("meter");
      if (score === undefined) {
        meter.hidden = true;
        item.append(meter, span("score", String(Number(value.toPrecision(4)))));
        return item;
      }
      meter.value = score;
      meter.setAttribute("aria-hidden", "true"); // its number stands beside it
      item.append(meter, span("score", percent(score)));
      return item;
    }),
  );
}

const NAMES = {
  receive: "upload",
  wait: "waiting for others",
  decode: "decoding",
  prepare: "preparing",
  execute: "the model",
  rank: "pictures and labels",
};

function showTimes(stages, whole) {
  const rows = Object.entries(stages).map(([stage, ms]) => [NAMES[stage] ?? stage, ms]);
  $("times").replaceChildren(
    ...[...rows, ["all, as seen from here", whole]].flatMap(([name, ms]) => {
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      term.textContent = name;
      value.textContent = `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
      return [term, value];
    }),
  );
}

async function look() {
  const part = line.parts[shown.part];
  const number = shown.part;
  if ($("look").getAttribute("aria-pressed") === "true") {
    showPart(number, part, false);
    return;
  }
  $("look").disabled = true;
  say("Asking where the model looked …");
  try {
    const found = await askExplanation(shown.video, { model: model().name, window: number });
    if (shown.part !== number) return; // another part was chosen meanwhile
    $("seen").src = found.overlay;
    $("seen").alt = `The same frames under a map of where the model looked, part ${number + 1}`;
    $("look").setAttribute("aria-pressed", "true");
    $("legend").hidden = false;
    say("Bright is where much of the answer came from.");
  } catch (error) {
    fail(error);
  } finally {
    $("look").disabled = false;
  }
}

async function useCamera() {
  if (camera) {
    camera.stop();
    return;
  }
  clear();
  say("Waiting for the camera …");
  $("video").controls = false;
  try {
    camera = await film($("video"), showPiece);
  } catch (error) {
    fail(new Error(`There is no camera to use: ${error.message}`));
    return;
  }
  $("watch").hidden = false;
  $("line-help").hidden = true;
  $("whole-title").textContent = "The last part";
  $("camera").textContent = "Stop the camera";
  say("Filming: each part is two seconds.");
  try {
    await camera.done;
    say("The camera is off.");
  } catch (error) {
    fail(error);
  }
  camera = null;
  $("camera").textContent = "Use the camera";
}

async function showPiece(blob, from) {
  const began = performance.now();
  const options = { model: model().name, frames: true, top_k: LABELS, windows: 1 };
  await askTimeline(blob, options, undefined, (document) => {
    if (document.window !== undefined) {
      if (line.parts.length >= MOST_PIECES) line.clear();
      const length = (document.to ?? 2) - (document.from ?? 0);
      line.add({ ...document, from, to: from + length });
      line.select(line.parts.length - 1);
      $("details").hidden = false;
      $("line").scrollLeft = $("line").scrollWidth;
      const { label, said } = best(document.predictions);
      say(`${clock(from)}: ${label}, ${said}`);
    } else if (document.stages_ms) {
      showWhole(document.predictions);
      showTimes(document.stages_ms, performance.now() - began);
    }
  });
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0)} MB`;
}

function showModel() {
  const { architecture, labels, num_frames: frames } = model();
  $("about").textContent = `${architecture}, ${labels.length} labels, ${frames} frames a clip`;
}

function listen() {
  $("file").addEventListener("change", ({ target }) => {
    if (target.files[0]) take(target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  });
  $("camera").addEventListener("click", useCamera);
  $("look").addEventListener("click", look);
  $("model").addEventListener("change", () => {
    showModel();
    if (shown.video && !camera) take(shown.video);
  });
  const video = $("video");
  video.addEventListener("error", () => video.hasAttribute("src") && ($("unplayable").hidden = false));
  video.addEventListener("timeupdate", () => {
    if (camera) return;
    const number = line.show(video.currentTime);
    if (number >= 0 && number !== shown.part && !video.paused) line.select(number);
  });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      $("drop").classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      $("drop").classList.remove("over");
      const file = event.dataTransfer?.files[0];
      if (name === "drop" && file) take(file);
    });
  }
}

async function start() {
  $("camera").hidden = !hasCamera();
  try {
    const found = await askModels();
    shown.models = found.models;
    shown.maxBytes = found.max_mb * 2 ** 20;
    $("limits").textContent = `Up to ${found.max_mb} MB and ${Math.round(found.max_seconds)} seconds.`;
    $("model").replaceChildren(...found.models.map(({ name }) => new Option(name, name)));
    $("choose-model").hidden = found.models.length < 2;
    document.title = `tubelet: ${found.models.map(({ name }) => name).join(", ")}`;
    showModel();
    listen();
  } catch (error) {
    fail(error);
  }
}

start();
