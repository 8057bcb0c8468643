// Lesson 13: the bytes that a step of decoding moves, the time that they take at least, and the time that was measured.

import { axes, box, bytes, choice, count, explorable, format, h, label, line, scale, slider } from "./shared.js";

const STEPS = 4, LEAST = 4, MOST = 17; // the slider has 4 steps for each doubling, from 2^4 to 2^17 tokens
const tokensAt = (step) => Math.round(2 ** (step / STEPS));
const whole = (n) => n.toLocaleString("en", { maximumFractionDigits: 0 });
const NAMES = { transformer: "Transformer", retnet: "RetNet" };

export const controls = [
  slider("context", "tokens of each text", { value: 13 * STEPS, min: LEAST * STEPS, max: MOST * STEPS, words: (x) => whole(tokensAt(x)) }),
  slider("batch", "texts at once", { value: 3, min: 0, max: 8, words: (x) => count(2 ** x, "text") }),
  choice("share", "cached keys, values", { 1: "of each head", 4: "shared by 4 heads", 8: "shared by 8 heads" }),
  choice("wide", "a number of the state", { 2: "16 bits", 4: "32 bits" }, "4"),
  choice("every", "the state is written", { 1: "at every token", 16: "every 16 tokens" }),
];

// moved: bytes of a step, by model; past: bytes that one text keeps; seconds: the time of moving them at the bandwidth of a
// copy; fit: the texts that memory holds beside the weights; equal: tokens at which both pasts take as many bytes, kept and
// moved; lines: [tokens, seconds] along the chart; dots: what was measured with these settings.
export function compute({ context, batch, share, wide, every }, { sizes, weights, held, bandwidth, memory, measured }) {
  const { dim, layers, heads, key_dim, value_dim } = sizes, texts = 2 ** batch, tokens = tokensAt(context), period = Number(every);
  const a_token = (layers * 2 * dim * 2) / Number(share), state = layers * heads * key_dim * value_dim * Number(wide);
  // Between two writes of the state, keys and values of 16 bits are kept: 1 to P tokens are read, (P + 1) / 2 in the mean.
  const token = period > 1 ? layers * heads * (key_dim + value_dim) * 2 : 0;
  const ours = { read: state + (token * (period + 1)) / 2, written: state / period + token };
  const movedAt = (t) => ({
    transformer: { weights: weights.transformer, read: texts * a_token * (t - 1), written: texts * a_token },
    retnet: { weights: weights.retnet, read: texts * ours.read, written: texts * ours.written },
  });
  const each = (f) => Object.fromEntries(Object.keys(NAMES).map((name) => [name, f(name)]));
  const sum = (parts) => parts.weights + parts.read + parts.written;
  const moved = movedAt(tokens), past = { transformer: a_token * tokens, retnet: state + token * period };
  const places = Array.from({ length: MOST - LEAST + 1 }, (_, i) => 2 ** (LEAST + i));
  return {
    tokens, texts, moved, past, seconds: each((name) => sum(moved[name]) / bandwidth),
    fit: each((name) => Math.floor((memory - held[name]) / past[name])),
    equal: { kept: past.retnet / a_token, moved: (ours.read + ours.written) / a_token },
    lines: each((name) => places.map((t) => [t, sum(movedAt(t)[name]) / bandwidth])),
    last: (memory - held.transformer) / (texts * a_token), // tokens at which the caches fill the memory
    dots: measured.filter((row) => row.texts === texts &&
      (row.model === "transformer" ? row.share === Number(share) : wide === "4" && period === 1)),
  };
}

const ms = (seconds) => `${format(1000 * seconds, 3)} ms`;

export function describe({ tokens, texts, moved, seconds, fit, equal }, values, { device, bandwidth }) {
  const { transformer, retnet } = moved, past = (parts) => bytes(parts.read + parts.written);
  return `${count(texts, "text")} of ${count(tokens, "token")}: for one more token of each, the Transformer moves ` +
    `${bytes(transformer.weights)} of weights and ${past(transformer)} of cache, RetNet ${bytes(retnet.weights)} and ${past(retnet)} of ` +
    `state. At the speed of a copy, ${bytes(bandwidth)} a second on an ${device}, that takes at least ${ms(seconds.transformer)} and ` +
    `${ms(seconds.retnet)}. Cache and state move as many bytes at ${whole(equal.moved)} tokens, and keep as many at ` +
    `${whole(equal.kept)} tokens. ${whole(fit.transformer)} and ${whole(fit.retnet)} such texts fit into the memory.`;
}

const frameOf = ({ width, narrow }) =>
  ({ left: 58, top: 172, width: width - (narrow ? 76 : 86), height: narrow ? 230 : 270 });
const scales = (frame) => ({
  x: scale([2 ** LEAST, 2 ** MOST], [frame.left, frame.left + frame.width], { log: true }),
  y: scale([2, 500], [frame.top + frame.height, frame.top], { log: true }),
});

export function draw(stage, { tokens, moved, seconds, fit, equal, lines, last, dots }) {
  const { width, narrow, colours } = stage, frame = frameOf(stage), { x, y } = scales(frame), bottom = frame.top + frame.height;
  const ink = { colour: colours.ink, size: 14, weight: 600 }, quiet = { colour: colours.muted, size: 12 };
  const looks = { transformer: colours.orange, retnet: colours.blue };
  const total = (name) => moved[name].weights + moved[name].read + moved[name].written;
  const most = Math.max(total("transformer"), total("retnet")), across = (size) => (size / most) * (width - 8);
  const bars = Object.entries(NAMES).map(([name, title], i) => {
    const top = 24 + 56 * i, { weights, read, written } = moved[name];
    const parts = [[weights, colours.muted, 1], [read, looks[name], 1], [written, looks[name], 0.55]];
    let left = 4;
    const drawn = parts.map(([size, fill, opacity]) => {
      const part = box(left, top, Math.max(across(size), 0.5), 20, fill, { "fill-opacity": opacity });
      left += across(size);
      return part;
    });
    const said = narrow ? `${title}: ${ms(seconds[name])}, ${whole(fit[name])} fit`
      : `${title}: ${bytes(total(name))}, at least ${ms(seconds[name])}; ${whole(fit[name])} such texts fit`;
    return label(4, top - 11, said, { ...ink, colour: looks[name], at: "start" }) + drawn.join("");
  });
  const key = label(4, 130, narrow ? "grey weights, full read, pale written" : "grey: weights, full colour: what is read of the past, pale: what is written", { ...quiet, at: "start" });
  const chart = axes(colours, frame, x, y, "tokens of each text", narrow ? "ms a step" : "ms a step, at least; rings: measured; dotted: more than fit", {
    xticks: narrow ? [64, 1024, 16384] : [16, 128, 1024, 8192, 65536], yticks: [2, 5, 10, 20, 50, 100, 200, 500], xtick: whole,
  });
  const inside = (points) => points.map(([t, s]) => [x(t), y(1000 * s)]).filter(([, place]) => place > frame.top);
  const path = (name, more) => line(inside(lines[name].filter(([t]) => name === "retnet" || t <= Math.max(last, 2 ** LEAST))), looks[name], { "stroke-width": 3, ...more });
  const over = lines.transformer.filter(([t]) => t > last / 2);
  const full = last < 2 ** MOST ? line(inside(over), looks.transformer, { "stroke-width": 1.5, "stroke-dasharray": "2 4" }) : "";
  const halo = { stroke: colours.paper, "stroke-width": 4, "paint-order": "stroke" };
  const shown = (t) => t >= 2 ** LEAST && t <= 2 ** MOST;
  const mark = (t) => shown(t) ? line([[x(t), frame.top + 8], [x(t), bottom]], colours.ink, { "stroke-width": 1.2, "stroke-dasharray": "3 4" }) : "";
  const note = (t, place, text) => shown(t)
    ? label(x(t) + (t > 2000 ? -6 : 6), place, text, { ...quiet, ...halo, colour: colours.ink, at: t > 2000 ? "end" : "start" }) : "";
  const crossing = mark(equal.moved) + mark(equal.kept);
  const notes = note(equal.moved, frame.top + 14, `${narrow ? "" : "as many bytes "}moved: ${whole(equal.moved)}`) +
    note(equal.kept, frame.top + 34, `${narrow ? "" : "as many "}kept: ${whole(equal.kept)}`); // above all lines
  const now = line([[x(tokens), frame.top], [x(tokens), bottom]], colours.line, { "stroke-width": 1.5 }) +
    Object.keys(NAMES).map((name) => h("circle", { cx: x(tokens), cy: Math.max(y(1000 * seconds[name]), frame.top), r: 6, fill: looks[name], stroke: colours.paper, "stroke-width": 1.5 })).join("");
  const seen = dots.map((row) => h("circle", { cx: x(row.tokens), cy: y(1000 * row.seconds), r: 4.5, fill: colours.paper, stroke: looks[row.model], "stroke-width": 2.5 }));
  const missing = Object.keys(NAMES).filter((name) => !dots.some((row) => row.model === name)).map((name) => NAMES[name]);
  const unmeasured = missing.length ? label(frame.left + frame.width - 4, bottom - 12, `${missing.join(", ")}: not measured here`, { ...quiet, ...halo, at: "end" }) : "";
  return { height: bottom + 46, drawn: h("g", {}, unmeasured, bars, key, chart, full, path("transformer"), path("retnet", { "stroke-dasharray": "9 4" }), crossing, now, seen, notes) };
}

// The pointer chooses how many tokens each text has.
export function point({ x, y, pressed }, stage) {
  const frame = frameOf(stage);
  if (!pressed || y < frame.top - 10) return null;
  const step = Math.round(STEPS * Math.log2(scales(frame).x.invert(x)));
  return { context: Math.min(Math.max(step, LEAST * STEPS), MOST * STEPS) };
}

export default explorable({
  title: "A step of decoding: bytes and milliseconds of a Transformer and of RetNet",
  controls, compute, describe, draw, point, play: { control: "context", seconds: 0.15 },
});
