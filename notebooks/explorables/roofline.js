// Lesson 11: the three forms under the roof of one core: what it can compute and what it can move in a second.

import { axes, box, explorable, format, h, label, line, scale, slider, toggle } from "./shared.js";

const power = (x) => 2 ** x;
const whole = (x) => power(x).toLocaleString("en");
const tokensOf = (x) => (x === 0 ? "1 token" : `${whole(x)} tokens`);

export const controls = [
  slider("time", "length T", { value: 9, min: 4, max: 16, words: tokensOf }),
  slider("size", "chunk size C", { value: 6, min: 0, max: 12, words: tokensOf }),
  slider("key", "key width K", { value: 6, min: 2, max: 9, words: whole }),
  slider("value", "value width V", { value: 7, min: 2, max: 9, words: whole }),
  toggle("cached", "state and scores stay beside the core, if they fit"),
  toggle("python", "each step costs what it costs NumPy"),
];

// Of one form: flops; moved: bytes to and from memory, in float32; near: bytes to and from the cache; intensity: FLOPs for
// each byte of memory; parts: the seconds of computing, of both kinds of moving, of Python's steps; seconds; rate: FLOPs a
// second; limit: the part that takes longest. roof: that of `refimpl.bench.roof`.
function under(form, { T, C, K, V, cached, python }, { roof, cache }) {
  const side = { parallel: T, recurrent: 1, chunkwise: C }[form], steps = T / side;
  const flops = { parallel: T * (T + 1) * (K + V), recurrent: 5 * T * K * V, chunkwise: T * ((C + 1) * (K + V) + 4 * K * V) + steps * K * V }[form];
  const scores = form === "recurrent" ? 0 : (steps * side * (side + 1)) / 2, states = form === "parallel" ? 0 : steps * K * V;
  const held = 4 * ((form === "recurrent" ? 0 : side ** 2) + (form === "parallel" ? 0 : K * V));
  const inner = 8 * (scores + states), near = cached && held <= cache ? inner : 0, moved = 8 * T * (K + V) + inner - near;
  const cost = form === "recurrent" ? roof.recurrent : roof.chunkwise;
  const parts = { arithmetic: flops / roof.peak, memory: moved / roof.memory, cache: near / roof.cache, steps: python ? steps * cost : 0 };
  const seconds = Math.max(parts.arithmetic, parts.memory, parts.cache) + parts.steps;
  const limit = Object.keys(parts).reduce((a, b) => (parts[b] > parts[a] ? b : a));
  return { flops, moved, near, intensity: flops / moved, parts, seconds, rate: flops / seconds, limit };
}

// ridge: the intensity from which on a form is held back by arithmetic, not by memory; best: the chunk size, a power of 2, that
// takes the least time; chunks: the seconds for each of these sizes, from 1 on; fastest, least: the form with the least time,
// with the fewest FLOPs.
export function compute({ time, size, key, value, cached, python }, data) {
  const sizes = { T: power(time), C: power(Math.min(size, time)), K: power(key), V: power(value), cached, python };
  const forms = Object.fromEntries(["recurrent", "parallel", "chunkwise"].map((form) => [form, under(form, sizes, data)]));
  const names = Object.keys(forms), least = (number) => names.reduce((a, b) => (forms[b][number] < forms[a][number] ? b : a));
  const chunks = Array.from({ length: time + 1 }, (_, x) => under("chunkwise", { ...sizes, C: power(x) }, data).seconds);
  return {
    ...sizes, forms, ridge: data.roof.peak / data.roof.memory, best: power(chunks.indexOf(Math.min(...chunks))),
    chunks, fastest: least("seconds"), least: least("flops"),
  };
}

const duration = (s) => (s < 1e-3 ? `${format(s * 1e6)} µs` : s < 1 ? `${format(s * 1e3)} ms` : `${format(s)} s`);
const HELD = { arithmetic: "arithmetic", memory: "memory", cache: "the cache", steps: "Python's steps" };

export function describe({ T, C, forms, ridge, best, fastest, least }) {
  const said = Object.entries(forms).map(([name, { intensity, seconds, limit }]) =>
    `${name} ${duration(seconds)} (${format(intensity)} FLOPs a byte, held back by ${HELD[limit]})`);
  return `With ${format(T, 6)} tokens in chunks of ${format(C, 6)} the model says: ${said.join(", ")}. From ${format(ridge)} FLOPs a byte on, ` +
    `memory is not what holds a form back. The fewest FLOPs: ${least}. The least time: ${fastest}. The best chunk size here: ${format(best, 6)}.`;
}

const LOW = 0.1, HIGH = 1e3; // of the intensity; the rate goes from BOTTOM to TOP, and what lies beyond stands at the edge
const BOTTOM = 1e8, TOP = 1e12;
const LOOKS = { recurrent: "orange", parallel: "green", chunkwise: "blue" };

// The chunkwise form's time for every chunk size, with the chosen and the best one.
function valley(colours, { chunks, best, C }, { left, top, width, height }) {
  const x = scale([0, Math.max(chunks.length - 1, 1)], [left, left + width]);
  const y = scale([Math.min(...chunks), Math.max(...chunks, 1.01 * Math.min(...chunks))], [top + height, top], { log: true });
  const at = (size) => [x(Math.log2(size)), y(chunks[Math.log2(size)])], [bestX, bestY] = at(best), [chosenX, chosenY] = at(C);
  const sizes = chunks.map((_, i) => i).filter((i) => i % 2 === 0), ends = [Math.min(...chunks), Math.max(...chunks)];
  return line(chunks.map((seconds, i) => [x(i), y(seconds)]), colours.blue, { "stroke-width": 2 }) +
    (ends[1] > 1.01 * ends[0] ? ends : [ends[0]]).map((s) => line([[left - 12, y(s)], [left - 8, y(s)]], colours.muted) +
      label(left - 16, y(s), duration(s), { colour: colours.muted, size: 12, at: "end" })).join("") +
    sizes.map((i) => label(x(i), top + height + 18, format(power(i), 6), { colour: colours.muted, size: 12 })).join("") +
    label(left + width / 2 - (width < 250 ? 20 : 0), top + height + 38, width < 250 ? "C in tokens, both axes logarithmic" : "chunk size C in tokens (both axes logarithmic)", { colour: colours.ink, size: 12 }) +
    label(14, top + height / 2, "time", { colour: colours.ink, size: 12, transform: `rotate(-90 14 ${top + height / 2})` }) +
    h("circle", { cx: chosenX, cy: chosenY, r: 6, fill: colours.blue }) +
    h("circle", { cx: bestX, cy: bestY, r: 9, fill: "none", stroke: colours.ink, "stroke-width": 1.5 });
}

export function draw(stage, state, _, { roof, whose }) {
  const { forms, ridge, least } = state, { width, narrow, colours } = stage, frame = { left: 62, top: 34, width: width - (narrow ? 94 : 100), height: narrow ? 220 : 260 };
  const right = frame.left + frame.width, bottom = frame.top + frame.height, halo = { stroke: colours.paper, "stroke-width": 4, "paint-order": "stroke" };
  const x = scale([LOW, HIGH], [frame.left, right], { log: true }), y = scale([BOTTOM, TOP], [bottom, frame.top], { log: true });
  const inside = (value, from, to) => Math.min(Math.max(value, from), to);
  const px = (value) => x(inside(value, LOW, HIGH)), py = (value) => y(inside(value, BOTTOM, TOP));
  const chart = axes(colours, frame, x, y, "FLOPs for each byte of memory", "FLOPs a second", {
    xticks: [0.1, 1, 10, 100, 1e3], yticks: [1e8, 1e9, 1e10, 1e11], xtick: (v) => format(v),
    ytick: (v) => (v >= 1e9 ? `${format(v / 1e9, 4)} G` : `${format(v / 1e6)} M`),
  });
  const top = line([[px(LOW), py(LOW * roof.memory)], [px(ridge), py(roof.peak)], [right, py(roof.peak)]], colours.ink, { "stroke-width": 2.5 });
  const middle = Math.sqrt(LOW * ridge), slopeX = px(middle), slopeY = py(middle * roof.memory); // of the slope, which carries its name
  const tilt = (-Math.atan2(frame.height, frame.width) * 180) / Math.PI; // both axes have four powers of ten
  const names = (narrow ? label(right + 2, py(roof.peak), "peak", { colour: colours.ink, at: "start", size: 12 })
    : label(right - 4, py(roof.peak) - 11, `peak ${format(roof.peak / 1e9)} G`, { colour: colours.ink, at: "end", ...halo })) +
    label(slopeX, slopeY - 17, narrow ? "memory" : `memory ${format(roof.memory / 1e9)} GB a second`, { colour: colours.ink, size: 12, transform: `rotate(${tilt} ${slopeX} ${slopeY})`, ...halo });
  const source = label(frame.left + 10, frame.top + 6, `roof ${whose}: its corner is at ${format(ridge)}${narrow ? "" : " FLOPs a byte"}`, { colour: colours.ink, at: "start", size: narrow ? 12 : 13, ...halo }) +
    h("circle", { cx: px(ridge), cy: py(roof.peak), r: 4, fill: colours.ink });
  const spots = Object.entries(forms).map(([name, { intensity, rate }]) => [name, px(intensity), py(rate), py(Math.min(roof.peak, intensity * roof.memory))]);
  const [[, besideX, besideY], , [, chunkX, chunkY]] = spots;
  const close = Math.abs(besideX - chunkX) < 80 && Math.abs(besideY - chunkY) < 24;
  const below = { recurrent: 20, parallel: -17, chunkwise: close ? 38 + Math.max(besideY - chunkY, 0) : 20 }; // where a name stands, so that no two meet
  const dots = spots.map(([name, left, at, over]) => line([[left, over], [left, at]], colours[LOOKS[name]], { "stroke-width": 1.5, "stroke-dasharray": "3 3" }) +
    h("circle", { cx: left, cy: at, r: 7, fill: colours[LOOKS[name]], stroke: colours.paper, "stroke-width": 1.5 }));
  // How high the cache lets a form come, where the picture reaches so high: a short line beside its point.
  const caps = Object.entries(forms).filter(([, { near, flops, parts }]) => near > 0 && flops / parts.cache < TOP).map(([name, { intensity, flops, parts }]) => {
    const left = px(intensity), at = py(flops / parts.cache);
    return line([[left - 14, at], [left + 14, at]], colours[LOOKS[name]], { "stroke-width": 2.5 }) +
      label(left - 18, at, "cache", { colour: colours[LOOKS[name]], at: "end", size: 12, ...halo });
  });
  const called = spots.map(([name, left, at]) =>
    label(Math.min(left, right - 30), at + below[name], name, { colour: colours[LOOKS[name]], weight: 600, ...halo }));
  const most = Math.max(...Object.values(forms).map(({ seconds }) => seconds)), first = bottom + 74, room = width - (narrow ? 190 : 330) - 84;
  const bars = Object.entries(forms).map(([name, { seconds, flops, limit }], i) => {
    const at = first + 30 * i, long = Math.max((seconds / most) * room, 1);
    return label(82, at + 10, name, { colour: colours[LOOKS[name]], at: "end", size: 12.5 }) +
      box(88, at, long, 20, colours[LOOKS[name]]) +
      label(94 + long, at + 10, `${duration(seconds)}${narrow ? "" : `: ${HELD[limit]}`}`, { colour: colours.ink, at: "start" }) +
      label(width - 6, at + 10, `${format(flops / 1e6)} MFLOP`, { colour: colours.ink, at: "end", weight: name === least ? 700 : 400 });
  });
  const heading = label(4, first - 16, "time that the model says, what holds it back, and the arithmetic", { colour: colours.ink, at: "start", weight: 600, size: 13 });
  const below_bars = first + 112, curve = { left: 88, top: below_bars + 22, width: Math.min(width - 120, 420), height: 64 };
  const about = label(4, below_bars, narrow ? "chunkwise form; ring: the best C" : "chunkwise form: its time against its chunk size; the dot is yours, the ring the best", { colour: colours.ink, at: "start", weight: 600, size: 13 });
  return {
    height: below_bars + 134,
    drawn: h("g", {}, chart, top, source, names, dots, caps, called, narrow ? "" : heading, bars, about, valley(colours, state, curve)),
  };
}

export default explorable({
  title: "Three forms under the roof of one core",
  controls, compute, describe, draw, play: { control: "size", seconds: 0.7 },
});
