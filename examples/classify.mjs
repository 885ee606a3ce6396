// A bundle without Python: raw frames in, labels out, by ONNX Runtime for Node.
//
//     npm install --prefix examples
//     node examples/classify.mjs BUNDLE FRAMES.rgb [--json]
//
// BUNDLE was exported with --input frames. FRAMES.rgb holds one clip, uint8 (T, H, W, 3), as raw_frames.py writes it.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";

const [folder, file, flag] = process.argv.slice(2);
const bundle = JSON.parse(readFileSync(join(folder, "bundle.json"), "utf8"));
const graph = bundle.graphs.find(({ precision }) => precision === "fp32");
const [input] = graph.inputs;
if (input.dtype !== "uint8") {
  throw new Error(`${folder} takes ${input.name} ${input.dtype}; export it with --input frames`);
}

const pixels = new Uint8Array(readFileSync(file));
const shape = [1, ...input.shape.slice(1)]; // B, T, H, W, C
const bytes = shape.reduce((product, side) => product * side);
if (pixels.length !== bytes) {
  throw new Error(`${file} holds ${pixels.length} bytes; a clip of ${shape.slice(1).join(" x ")} has ${bytes}`);
}

const session = await InferenceSession.create(join(folder, graph.files[0].name));
const { logits } = await session.run({ [input.name]: new Tensor("uint8", pixels, shape) });
const values = Array.from(logits.data); // K

// Scores of a model of one label a video. The largest logit is subtracted first, so that nothing overflows.
const largest = Math.max(...values);
const exponentials = values.map((value) => Math.exp(value - largest));
const sum = exponentials.reduce((total, value) => total + value);
const predictions = exponentials
  .map((value, index) => ({ label: bundle.labels[index], score: value / sum }))
  .sort((one, other) => other.score - one.score);

if (flag === "--json") {
  console.log(JSON.stringify({ logits: values, predictions }));
} else {
  for (const { label, score } of predictions.slice(0, 3)) {
    console.log(`${(100 * score).toFixed(2).padStart(6)}%  ${label}`);
  }
}
