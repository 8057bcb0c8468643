// Lessons 9 and 13: what a Transformer keeps of a text grows with it; a retention state does not.

import { axes, box, bytes, choice, count, explorable, format, h, label, line, scale, slider } from "./shared.js";

const MOST = 6, STEPS = 20; // the slider has 20 steps for each power of ten, up to 10^6 tokens
const GPU = 80e9; // bytes of memory of one GPU, as in the paper's measurements

const tokensAt = (step) => Math.round(10 ** (step / STEPS));
const whole = (n) => n.toLocaleString("en", { maximumFractionDigits: 0 });

const MODELS = { ours: "the one that ships", "1.3B": "1.3B (paper)", "2.7B": "2.7B (paper)", "6.7B": "6.7B (paper)" };

export const controls = [
  slider("written", "tokens so far", { value: 4 * STEPS, min: STEPS, max: MOST * STEPS, words: (x) => whole(tokensAt(x)) }),
  choice("model", "model", MODELS, "6.7B"),
  slider("batch", "texts at once", { value: 0, min: 0, max: 8, words: (x) => count(2 ** x, "text") }),
  choice("share", "cached keys, values", { 1: "of each head", 4: "shared by 4 heads", 8: "shared by 8 heads" }),
  choice("wide", "number format", { 2: "16 bits", 4: "cache 16 bits, state 32" }),
];

// The memory of all texts in bytes. cache_of_a_token: what each token adds; equal: tokens at which both are the same;
// full: tokens whose cache fills a GPU; from, to: the cache at both ends of the chart.
export function compute({ written, model, batch, share, wide }, { sizes }) {
  const { dim, layers, heads, key_dim, value_dim } = sizes[model], texts = 2 ** batch, tokens = tokensAt(written);
  const cache_of_a_token = (texts * layers * 2 * dim * 2) / Number(share);
  const state = texts * layers * heads * key_dim * value_dim * Number(wide), cache = cache_of_a_token * tokens;
  return {
    tokens, texts, cache_of_a_token, cache, state, times: Math.max(cache, state) / Math.min(cache, state),
    equal: state / cache_of_a_token, full: Math.floor(GPU / cache_of_a_token),
    from: cache_of_a_token, to: cache_of_a_token * 10 ** MOST,
  };
}

const many = (n) => (n < 1e6 ? count(n, "token") : `${format(n / 1e6, 3)} million tokens`);

export function describe({ tokens, texts, cache, state, times, equal, full }, { model }, { sizes }) {
  const { dim, layers } = sizes[model], larger = cache > state ? "cache" : "state";
  const both = cache === state ? "Both are equal now" : `The ${larger} is ${format(times, 2)} times as large`;
  const place = cache > GPU ? "This cache alone does not fit into 80 GB" : `The cache alone fills 80 GB at ${many(full)}`;
  const often = texts === 1 ? "" : ` of each of ${texts} texts`;
  return `With ${layers} layers of width ${whole(dim)}, a Transformer keeps ${bytes(cache)} of keys and values, its cache, after ` +
    `${many(tokens)}${often}. RetNet's state has ${bytes(state)}, as it had after the first token. ${both}; they are ` +
    `equal at ${count(equal, "token")}. To write one more token a model reads all of this memory once, so the same numbers ` +
    `say what a token costs. ${place}.`;
}

const frameOf = ({ width, narrow }) =>
  ({ left: 62, top: 118, width: width - (narrow ? 94 : 110), height: narrow ? 240 : 280 });

export function draw(stage, { tokens, cache, state, equal, full, from, to }) {
  const { width, narrow, colours } = stage, frame = frameOf(stage), bottom = frame.top + frame.height;
  const right = frame.left + frame.width, ink = { colour: colours.ink, at: "start" };
  const looks = [["cache", cache, colours.orange], ["state", state, colours.blue]];
  const bars = looks.map(([name, size, colour], i) => {
    const length = Math.max((size / Math.max(cache, state)) * (width - 152), 1), y = 8 + 34 * i;
    return label(54, y + 13, name, { colour, at: "end", size: 14, weight: 600 }) + box(62, y, length, 26, colour) +
      label(68 + length, y + 13, bytes(size), { ...ink, size: 14, weight: 600 });
  });
  const low = 10 ** Math.floor(Math.log10(Math.min(from, state)));
  const high = 10 ** Math.ceil(Math.log10(Math.max(to, state, GPU)) + 0.02);
  const x = scale([1, 10 ** MOST], [frame.left, right], { log: true });
  const y = scale([low, high], [bottom, frame.top], { log: true });
  const chart = axes(colours, frame, x, y, "tokens of a text", "memory", {
    xticks: narrow ? [1, 100, 1e4, 1e6] : [1, 10, 100, 1e3, 1e4, 1e5, 1e6], yticks: y.ticks(5),
    xtick: whole, ytick: (size) => bytes(size, 1),
  });
  const dashed = { "stroke-width": 1.2, "stroke-dasharray": "3 4" };
  const dot = (at, size, r, fill, more) => h("circle", { cx: x(at), cy: y(size), r, fill, ...more });
  const gpu = line([[frame.left, y(GPU)], [right, y(GPU)]], colours.muted, dashed) +
    label(frame.left + 8, y(GPU) + (y(GPU) < frame.top + 24 ? 12 : -10), "80 GB: one GPU", { colour: colours.muted, size: 12, at: "start" }) +
    (full >= 1 && full <= 10 ** MOST ? dot(full, GPU, 3.5, colours.muted) : "");
  const halo = { stroke: colours.paper, "stroke-width": 4, "paint-order": "stroke" }, late = equal > 3000;
  const beside = { ...ink, ...halo, at: late ? "end" : "start" };
  const crossing = line([[x(equal), y(state)], [x(equal), bottom]], colours.ink, dashed) +
    dot(equal, state, 4, colours.ink) +
    label(x(equal) + (late ? -8 : 8), bottom - 14, `equal at ${count(equal, "token")}`, beside);
  const edge = { stroke: colours.paper, "stroke-width": 1.5 };
  const now = line([[x(tokens), frame.top], [x(tokens), bottom]], colours.line, { "stroke-width": 1 });
  const lines = line([[x(1), y(from)], [right, y(to)]], colours.orange, { "stroke-width": 3 }) +
    line([[x(1), y(state)], [right, y(state)]], colours.blue, { "stroke-width": 3, "stroke-dasharray": "9 4" }) +
    looks.map(([, size, colour]) => dot(tokens, size, 6, colour, edge)).join("");
  return { height: bottom + 46, drawn: h("g", {}, bars, chart, now, gpu, lines, crossing) };
}

// The pointer chooses how many tokens are written.
export function point({ x, y, pressed }, stage) {
  const frame = frameOf(stage);
  if (!pressed || y < frame.top - 10) return null;
  return { written: Math.min(Math.max(Math.round(((x - frame.left) / frame.width) * MOST * STEPS), 0), MOST * STEPS) };
}

export default explorable({
  title: "A cache that grows against a state that does not",
  controls, compute, describe, draw, point, play: { control: "written", seconds: 0.08 },
});
