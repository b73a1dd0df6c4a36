// A picture -> the model's input pixels, by the rule in preprocessing.json, as in Keras. The rule
// has the fields of Preprocessing in vit_keras/images/preprocessing.py.

// Kernels of TensorFlow's antialiased resize: {name: [radius, distance -> weight]}. Distances are
// in pixels of the picture or of the result, whichever are larger.
const KERNELS = {
  bilinear: [1, (x) => 1 - x],
  // Keys (1981) with a = -1/2
  bicubic: [2, (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((2.5 - 0.5 * x) * x - 4) * x + 2)],
};
const BORDER = { first: 0, weights: [] }; // a span of no pixels: black
const STRIP = 256; // rows per canvas: one for a whole photograph is too large on some phones

/**
 * Resizes and crops or pads a picture as the model was trained to see it.
 *
 * @param bitmap ImageBitmap, upright.
 * @param rule content of preprocessing.json.
 * @return Uint8Array (height, width, channels), row by row.
 */
export function preprocess(bitmap, rule) {
  const [height, width] = rule.image_size;
  const channels = rule.mean.length;
  const { cut, down, across } = plan(bitmap, rule);
  const canvas = new OffscreenCanvas(cut.width, Math.min(STRIP, cut.height));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.globalCompositeOperation = "copy"; // replaces the previous strip, also where transparent
  const shrunk = new Float32Array(cut.height * width * channels);
  for (let y = 0; y < cut.height; y += STRIP) {
    const rows = Math.min(STRIP, cut.height - y);
    context.drawImage(bitmap, cut.x, cut.y + y, cut.width, rows, 0, 0, cut.width, rows);
    const pixels = selectChannels(context.getImageData(0, 0, cut.width, rows).data, channels);
    const strip = resample(pixels, rows, cut.width, channels, across);
    shrunk.set(strip, y * width * channels);
  }
  const resized = resample(shrunk, 1, cut.height, width * channels, down);
  return new Uint8Array(new Uint8ClampedArray(resized).buffer); // rounds and clamps
}

/**
 * The part of a picture that the model sees: {x, y, width, height} in pixels, with fractions. With
 * the rule "pad" it is larger than the picture.
 */
export function visibleRegion(bitmap, rule) {
  const { cut, inner, start } = plan(bitmap, rule);
  const [height, width] = rule.image_size;
  return {
    x: cut.x + (start[1] / inner[1]) * cut.width,
    y: cut.y + (start[0] / inner[0]) * cut.height,
    width: (width / inner[1]) * cut.width,
    height: (height / inner[0]) * cut.height,
  };
}

/**
 * Applies the rule to the size of a picture.
 *
 * The region `cut` is resized to `inner` (rows, columns), which the rule "pad" surrounds with black
 * borders up to `size`; the model's image_size is cropped from that, at `start` from the corner of
 * `inner`. `down` and `across` are the spans of the cropped rows and columns.
 */
function plan(bitmap, { image_size: cropped, resize, crop, interpolation }) {
  const size = cropped.map((side) => roundHalfToEven(side / crop));
  const whole = [bitmap.height, bitmap.width];
  // In float32, like Keras: the largest region with the aspect ratio of the result.
  const fitting = (axis) => {
    const other = 1 - axis;
    const side = Math.fround(Math.fround(whole[other] * size[axis]) / size[other]);
    return Math.max(1, Math.min(whole[axis], Math.trunc(side)));
  };
  const [height, width] = resize === "crop" ? [fitting(0), fitting(1)] : whole;
  // As one side fills the result, the other one in proportion, rounded half up.
  const shrunk = (axis) => {
    const other = 1 - axis;
    const side = (2 * whole[axis] * size[other] + whole[other]) / (2 * whole[other]);
    return Math.min(Math.max(1, Math.floor(side)), size[axis]);
  };
  const inner = resize === "pad" ? [shrunk(0), shrunk(1)] : size;
  const start = size.map(
    (side, axis) => ((side - cropped[axis]) >> 1) - ((side - inner[axis]) >> 1),
  );
  const croppedSpans = (length, axis) => {
    const all = spans(length, inner[axis], interpolation);
    return Array.from({ length: cropped[axis] }, (_, index) => all[start[axis] + index] ?? BORDER);
  };
  return {
    cut: { x: (whole[1] - width) >> 1, y: (whole[0] - height) >> 1, width, height },
    inner,
    start,
    down: croppedSpans(height, 0),
    across: croppedSpans(width, 1),
  };
}

/** For each of `size` output pixels: its first of `length` input pixels, and weights from there. */
function spans(length, size, interpolation) {
  const [radius, weight] = KERNELS[interpolation];
  const scale = length / size;
  const unit = Math.max(1, scale);
  return Array.from({ length: size }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.ceil(centre - radius * unit - 0.5));
    const last = Math.min(length - 1, Math.floor(centre + radius * unit - 0.5));
    const weights = Array.from({ length: last - first + 1 }, (_, step) =>
      weight(Math.abs(first + step + 0.5 - centre) / unit),
    );
    const sum = weights.reduce((total, value) => total + value);
    return { first, weights: weights.map((value) => value / sum) };
  });
}

/** Resamples the middle axis: (outer, length, inner) -> (outer, spans, inner) */
function resample(values, outer, length, inner, spans) {
  const result = new Float32Array(outer * spans.length * inner);
  let position = 0;
  for (let block = 0; block < outer; block++) {
    for (const { first, weights } of spans) {
      for (let index = 0; index < inner; index++) {
        let from = (block * length + first) * inner + index;
        let sum = 0;
        for (let step = 0; step < weights.length; step++, from += inner) {
          sum += weights[step] * values[from];
        }
        result[position++] = sum;
      }
    }
  }
  return result;
}

/** RGBA -> RGB or grey, as in training */
function selectChannels(rgba, channels) {
  const result = new Float32Array((rgba.length / 4) * channels);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += channels) {
    const [red, green, blue] = [rgba[from], rgba[from + 1], rgba[from + 2]];
    if (channels === 1) {
      result[to] = Math.round(0.299 * red + 0.587 * green + 0.114 * blue); // BT.601
    } else {
      result[to] = red;
      result[to + 1] = green;
      result[to + 2] = blue;
    }
  }
  return result;
}

/** Python's round: halves go to the even neighbour. */
function roundHalfToEven(number) {
  const rounded = Math.round(number);
  return rounded - number === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
