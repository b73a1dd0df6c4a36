// model.tflite, labels.txt, preprocessing.json -> a function that classifies pixels with LiteRT.js

import { Tensor, loadAndCompile, loadLiteRt } from "./litert/core.js";

const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123); // type () -> v128

/**
 * Loads the model next to the page.
 *
 * @return {labels, rule, classify}: the class names, in order; the content of preprocessing.json;
 *     and a function of pixels, Uint8Array (height, width, channels), that returns {probabilities,
 *     attention, milliseconds}; attention is {rows, columns, values}, or null if the model has no
 *     such output.
 * @throws Error with a message for the user of the page.
 */
export async function loadClassifier() {
  if (!globalThis.WebAssembly?.validate(SIMD)) {
    throw new Error(
      "This browser has no WebAssembly SIMD, which the model needs. " +
        "Use Chrome or Edge 91, Firefox 89, Safari 16.4, or a later version.",
    );
  }
  const [labels, rule, bytes] = await Promise.all([
    read("labels.txt").then((response) => response.text()),
    read("preprocessing.json").then((response) => response.json()),
    read("model.tflite").then((response) => response.arrayBuffer()),
  ]);
  // Without threads: they need headers (cross-origin isolation) that static servers do not send.
  await loadLiteRt(new URL("litert/", import.meta.url).href);
  const model = await loadAndCompile(new Uint8Array(bytes), { accelerator: "wasm" });
  const { shape } = model.getInputDetails()[0];
  const shapes = model.getOutputDetails().map((output) => [output.name, output.shape]);

  async function classify(pixels) {
    const start = performance.now();
    const images = new Tensor(pixels, shape);
    const outputs = await model.run({ images });
    const milliseconds = performance.now() - start;
    images.delete();
    const values = {};
    for (const [name, tensor] of Object.entries(outputs)) {
      values[name] = tensor.toTypedArray().slice(); // a copy: the tensor is in WebAssembly's memory
      tensor.delete();
    }
    const [, rows, columns] = Object.fromEntries(shapes).attention ?? [];
    const attention = rows ? { rows, columns, values: values.attention } : null;
    return { probabilities: values.probabilities, attention, milliseconds };
  }

  await classify(new Uint8Array(shape.reduce((product, side) => product * side))); // warm-up
  return { labels: labels.split("\n").slice(0, -1), rule, classify };
}

/** Fetches a file next to the page; the cache may hold the file of an earlier export. */
async function read(name) {
  const response = await fetch(new URL(name, import.meta.url), { cache: "no-cache" });
  if (!response.ok) throw new Error(`${name} cannot be loaded: status ${response.status}.`);
  return response;
}
