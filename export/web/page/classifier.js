// The files of an export -> what answers for pixels, by LiteRT.js.

import { Tensor, loadAndCompile, loadLiteRt } from "./litert/core.js";

const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123); // type () -> v128

/**
 * @return {labels, rule, classify}: the classes, in order; what preprocessing.json holds; and
 *     (Uint8Array (height, width, channels)) -> {probabilities, attention, milliseconds}, of which
 *     attention, {rows, columns, values}, is null where the model has none.
 * @throws Error with a message for people.
 */
export async function loadClassifier() {
  if (!globalThis.WebAssembly?.validate(SIMD)) {
    throw new Error(
      "This browser has no WebAssembly SIMD, which the model needs. " +
        "Chrome and Edge 91, Firefox 89 and Safari 16.4 have it, and all later ones.",
    );
  }
  const [labels, rule, bytes] = await Promise.all([
    read("labels.txt").then((response) => response.text()),
    read("preprocessing.json").then((response) => response.json()),
    read("model.tflite").then((response) => response.arrayBuffer()),
  ]);
  // Without threads, which need headers (cross-origin isolation) that static servers do not send.
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
      values[name] = tensor.toTypedArray().slice(); // it is WebAssembly's memory
      tensor.delete();
    }
    const [, rows, columns] = Object.fromEntries(shapes).attention ?? [];
    const attention = rows ? { rows, columns, values: values.attention } : null;
    return { probabilities: values.probabilities, attention, milliseconds };
  }

  await classify(new Uint8Array(shape.reduce((product, side) => product * side))); // to warm up
  return { labels: labels.split("\n").slice(0, -1), rule, classify };
}

/** A file beside the page, and not that of an export before */
async function read(name) {
  const response = await fetch(new URL(name, import.meta.url), { cache: "no-cache" });
  if (!response.ok) throw new Error(`${name} is missing here: status ${response.status}.`);
  return response;
}
