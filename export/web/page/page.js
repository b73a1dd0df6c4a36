// Pictures, dropped, chosen or from the camera -> the answer, on the page.

import { loadClassifier } from "./classifier.js";
import { preprocess, seenPart } from "./preprocess.js";

const SHOWN = 5; // classes
const LARGEST = 800; // pixels of the longer side, on the page
const GLOW = [255, 0, 120]; // of attention; few things have this colour
const OPACITY = 190; // of 255, where attention is highest

const { picture, seen, attention, file, camera, overlay, status, answers, classes, stream } =
  Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

let classifier;
let turn = 0; // of the picture that was asked for last

function say(text, failed = false) {
  status.textContent = text;
  status.classList.toggle("failed", failed);
}

/** Classifies an ImageBitmap and shows the answer, unless another picture has come meanwhile. */
async function look(bitmap, name, mine) {
  const start = performance.now();
  const pixels = preprocess(bitmap, classifier.rule);
  const prepared = performance.now() - start;
  const answer = await classifier.classify(pixels);
  if (mine === turn) {
    draw(bitmap);
    drawAttention(answer.attention);
    list(answer.probabilities);
    const [model, before] = [answer.milliseconds, prepared].map((time) => time.toFixed(1));
    say(`${name}: ${model} ms in the model, ${before} ms to resize`);
  }
  bitmap.close();
}

function draw(bitmap) {
  const { x, y, width, height } = seenPart(bitmap, classifier.rule);
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  seen.width = Math.max(1, Math.round(width * scale));
  seen.height = Math.max(1, Math.round(height * scale));
  const context = seen.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, x, y, width, height, 0, 0, seen.width, seen.height);
  picture.classList.remove("empty");
}

/** A pixel for each patch; the style sheet stretches them over the picture. */
function drawAttention(map) {
  overlay.hidden = !map;
  attention.hidden = !map || !overlay.firstElementChild.checked;
  if (!map) return;
  attention.width = map.columns;
  attention.height = map.rows;
  const most = Math.max(...map.values);
  const pixels = new ImageData(map.columns, map.rows);
  map.values.forEach((value, index) => {
    pixels.data.set([...GLOW, (value / most) * OPACITY], 4 * index);
  });
  attention.getContext("2d").putImageData(pixels, 0, 0);
}

function list(probabilities) {
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const rows = order.slice(0, SHOWN).map((index) => {
    const row = document.createElement("li");
    row.style.setProperty("--probability", probabilities[index]);
    for (const text of [classifier.labels[index], `${(100 * probabilities[index]).toFixed(1)} %`]) {
      row.append(Object.assign(document.createElement("span"), { textContent: text }));
    }
    return row;
  });
  answers.replaceChildren(...rows);
}

async function openFile(chosen) {
  stopCamera();
  const mine = ++turn;
  let bitmap;
  try {
    // As training decodes: without the colour profile. Upright it is by itself.
    bitmap = await createImageBitmap(chosen, { colorSpaceConversion: "none" });
  } catch {
    say(`${chosen.name} is no picture that this browser can read; try a JPEG or PNG.`, true);
    return;
  }
  await look(bitmap, chosen.name, mine);
}

function stopCamera() {
  stream.srcObject?.getTracks().forEach((track) => track.stop());
  stream.srcObject = null;
  camera.textContent = "Camera";
  answers.ariaLive = "polite";
}

async function startCamera() {
  try {
    stream.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment" },
    });
    await stream.play();
  } catch (error) {
    stopCamera();
    say(`No camera: ${error.message}.`, true);
    return;
  }
  camera.textContent = "Stop";
  answers.ariaLive = "off"; // or a screen reader would never be silent
  const mine = ++turn;
  while (stream.srcObject && mine === turn) {
    await look(await createImageBitmap(stream), "Camera", mine);
    await new Promise(requestAnimationFrame);
  }
}

function listen() {
  file.addEventListener("change", () => {
    if (file.files.length) guarded(openFile)(file.files[0]);
    file.value = ""; // so that the same file can be chosen again
  });
  camera.addEventListener("click", () =>
    stream.srcObject ? stopCamera() : guarded(startCamera)(),
  );
  overlay.addEventListener("change", () => {
    attention.hidden = !overlay.firstElementChild.checked;
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    picture.classList.add("over");
  });
  for (const type of ["dragleave", "drop"]) {
    document.addEventListener(type, () => picture.classList.remove("over"));
  }
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const [dropped] = event.dataTransfer.files;
    if (dropped) guarded(openFile)(dropped);
    else say("That is no file; drop one from a folder.", true);
  });
}

/** The function, whose errors are told on the page. */
function guarded(work) {
  return async (...given) => {
    try {
      await work(...given);
    } catch (error) {
      say(error.message, true);
      throw error; // for the console
    }
  };
}

guarded(async () => {
  classifier = await loadClassifier();
  classes.hidden = false;
  classes.querySelector("summary").textContent = `${classifier.labels.length} classes`;
  classes.querySelector("p").textContent = classifier.labels.join(", ");
  file.disabled = camera.disabled = false;
  camera.hidden = !navigator.mediaDevices; // browsers lend it to https and localhost alone
  listen();
  say("Ready.");
})();
