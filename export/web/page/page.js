// A picture (dropped, chosen or from the camera) -> its most probable classes, on the page

import { loadClassifier } from "./classifier.js";
import { preprocess, visibleRegion } from "./preprocess.js";

const SHOWN = 5; // classes
const LONGER_SIDE = 800; // pixels, of the picture on the page
const ATTENTION_COLOUR = [255, 0, 120]; // RGB; rare in photographs
const OPACITY = 190; // of 255, where the attention is highest

const elements = [...document.querySelectorAll("[id]")].map((element) => [element.id, element]);
const { picture, preview, attention, file, camera, overlay, status, answers, classes, stream } =
  Object.fromEntries(elements);

let classifier;
let latest = 0; // number of the picture that was chosen last

function say(text, failed = false) {
  status.textContent = text;
  status.classList.toggle("failed", failed);
}

/** Classifies an ImageBitmap and shows the answer, unless a newer picture has been chosen. */
async function classify(bitmap, name, number) {
  const start = performance.now();
  const pixels = preprocess(bitmap, classifier.rule);
  const resizing = performance.now() - start;
  const answer = await classifier.classify(pixels);
  if (number === latest) {
    draw(bitmap);
    drawAttention(answer.attention);
    list(answer.probabilities);
    const [model, resize] = [answer.milliseconds, resizing].map((time) => time.toFixed(1));
    say(`${name}: ${model} ms in the model, ${resize} ms to resize`);
  }
  bitmap.close();
}

function draw(bitmap) {
  const { x, y, width, height } = visibleRegion(bitmap, classifier.rule);
  const scale = Math.min(1, LONGER_SIDE / Math.max(width, height));
  preview.width = Math.max(1, Math.round(width * scale));
  preview.height = Math.max(1, Math.round(height * scale));
  const context = preview.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, x, y, width, height, 0, 0, preview.width, preview.height);
  picture.classList.remove("empty");
}

/** Draws one pixel per patch; the style sheet stretches the canvas over the picture. */
function drawAttention(map) {
  overlay.hidden = !map;
  attention.hidden = !map || !overlay.firstElementChild.checked;
  if (!map) return;
  attention.width = map.columns;
  attention.height = map.rows;
  const largest = Math.max(...map.values);
  const pixels = new ImageData(map.columns, map.rows);
  map.values.forEach((value, index) => {
    pixels.data.set([...ATTENTION_COLOUR, (value / largest) * OPACITY], 4 * index);
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

async function openFile(image) {
  stopCamera();
  const number = ++latest;
  let bitmap;
  try {
    // Training ignores colour profiles, too. The Exif orientation is applied by default.
    bitmap = await createImageBitmap(image, { colorSpaceConversion: "none" });
  } catch {
    say(`${image.name} is not an image that this browser can read; try a JPEG or PNG.`, true);
    return;
  }
  await classify(bitmap, image.name, number);
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
  answers.ariaLive = "off"; // a screen reader would read every frame
  const number = ++latest;
  while (stream.srcObject && number === latest) {
    await classify(await createImageBitmap(stream), "Camera", number);
    await new Promise(requestAnimationFrame);
  }
}

function listen() {
  file.addEventListener("change", () => {
    if (file.files.length) showErrors(openFile)(file.files[0]);
    file.value = ""; // so that the same file can be chosen again
  });
  camera.addEventListener("click", () =>
    stream.srcObject ? stopCamera() : showErrors(startCamera)(),
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
    if (dropped) showErrors(openFile)(dropped);
    else say("This is not a file; drop a file from a folder.", true);
  });
}

/** Returns an asynchronous function that shows the errors of `action` on the page. */
function showErrors(action) {
  return async (...parameters) => {
    try {
      await action(...parameters);
    } catch (error) {
      say(error.message, true);
      throw error; // for the console
    }
  };
}

showErrors(async () => {
  classifier = await loadClassifier();
  classes.hidden = false;
  classes.querySelector("summary").textContent = `${classifier.labels.length} classes`;
  classes.querySelector("p").textContent = classifier.labels.join(", ");
  file.disabled = camera.disabled = false;
  camera.hidden = !navigator.mediaDevices; // available on https and localhost only
  listen();
  say("Ready.");
})();
