// Lesson 1: the state of one trained head as a movie. The text is shaded by what is left of it in the state.

import {
  axes, box, count, explorable, format, h, label, line, mix, on, patches, scale, signed, slider,
} from "./shared.js";
import { write, zeros } from "./retention.js";

const LENGTH = 200, stepped = (share) => Math.round(32 * share) / 32, decayOf = (slow) => 1 - 2 ** -slow;

export const controls = [
  slider("n", "bytes read n", { value: 159, min: 1, max: LENGTH, words: (n) => count(n, "byte") }),
  slider("slow", "decay γ", { value: 5, min: 1, max: 10, words: (slow) => `${format(decayOf(slow), 4)} a byte` }),
];

// state, faded, written: S_n, gamma S_(n-1), k_n^T v_n; full: half of the largest number; shares: gamma^(n-m);
// half: bytes in which a share halves; left: of how many bytes 1 % or more is left; held, cache: the numbers that
// this head and a head of a Transformer keep by now; ratio: cache over held, above 1 from byte `crossing` on.
export function compute({ n, slow }, { keys, values, key_dim, value_dim }) {
  const gamma = decayOf(slow), nothing = zeros(keys[0].length, values[0].length), none = keys[0].map(() => 0);
  let last = nothing;
  const states = keys.map((key, m) => (last = write(last, key, values[m], gamma)));
  const held = key_dim * value_dim, cache = n * (key_dim + value_dim);
  const shares = Array.from({ length: n }, (_, m) => gamma ** (n - 1 - m));
  return {
    gamma, state: states[n - 1], written: write(nothing, keys[n - 1], values[n - 1], gamma),
    faded: write(states[n - 2] ?? nothing, none, values[n - 1], gamma),
    full: Math.max(...states.map((state) => Math.max(...state.map((x) => Math.max(...x, -Math.min(...x)))))) / 2,
    shares, half: Math.log(0.5) / Math.log(gamma), left: shares.filter((share) => share >= 0.01).length,
    held, cache, ratio: cache / held, crossing: Math.floor(held / (key_dim + value_dim)) + 1,
  };
}

export function describe({ gamma, half, left, held, cache, ratio, crossing }, { n }, { text }) {
  const byte = text[n - 1] === " " ? "a space" : `“${text[n - 1]}”`;
  const halves = count(Number(half.toPrecision(3)), "byte");
  return `Byte ${n}, ${byte}, has just been added to the state, after all that was in it was multiplied by ` +
    `γ = ${format(gamma, 4)}. A byte fades to half in ${halves}; at least 1 % is left of ${left} of the ` +
    `${count(n, "byte")} read. The state of this head has ${format(held, 6)} numbers however much it has read; a ` +
    `head of a Transformer keeps ${format(cache, 6)} by now, ${format(ratio)} times as many, and more than the ` +
    `state from byte ${crossing} on.`;
}

// Where things stand; cells: the place of each byte, in lines that break between words.
function layout({ width, narrow }, text) {
  const big = Math.min(narrow ? 190 : 270, narrow ? width - 128 : 0.31 * width), small = 0.42 * big, gap = 36;
  const left = narrow ? 0 : small + gap + big + 34, top = narrow ? big + 150 : 44, wide = 10, high = 24, cells = [];
  const columns = Math.floor((width - left) / wide);
  let at = 0, level = 0;
  for (const word of text.split(/(?<= )/)) {
    if (at + word.trimEnd().length > columns) [at, level] = [0, level + 1];
    for (const _ of word) cells.push({ x: left + wide * at++, y: top + high * level });
  }
  const bottom = top + (level + 1) * high + 48;
  const chart = { left: left + 50, top: bottom, width: width - left - 70, height: 120 };
  return { big, small, gap, left, top, wide, high, cells, chart };
}

export function draw(stage, numbers, { n }, { text, keys, values, key_dim, value_dim }) {
  const { colours } = stage, { big, small, gap, left, top, wide, high, cells, chart } = layout(stage, text);
  const { state, faded, written, full, shares, held, cache } = numbers;
  const ink = { colour: colours.ink, size: 14 }, title = { ...ink, weight: 600, at: "start" };
  const muted = { colour: colours.muted, size: 12, at: "start" }, upper = 44, lower = upper + big - small;
  const tile = (matrix, x, y, side, name) => {
    const cell = side / matrix.length, gap = cell > 8 ? 1 : 0;
    const cells = matrix.flatMap((numbers, row) => numbers.map((value, column) =>
      [x + column * cell, y + row * cell, cell - gap, cell - gap, signed(colours, stepped(value / full), 1)]));
    return label(x, y - 15, name, { ...ink, at: "start" }) + patches(cells) +
      box(x, y, side, side, "none", { stroke: colours.muted });
  };
  const sum = tile(faded, 0, upper, small, `faded: γ S_{${n - 1}}`) + tile(written, 0, lower, small, `+ ${small > 90 ? "new: " : ""}k_{${n}}ᵀv_{${n}}`) +
    label(small + gap / 2, upper + small / 2, "=", { ...ink, size: 20 }) +
    tile(state, small + gap, upper, big, `the state S_{${n}}`);
  const notes = [
    `blue above 0, orange below; full at ±${format(full)}`,
    `drawn: ${keys[0].length} of ${key_dim} key channels (rows) and`,
    `${values[0].length} of ${value_dim} value channels, head 1, layer 1`,
  ].map((words, i) => label(0, upper + big + 18 + 17 * i, words, muted));

  const shades = shares.map((share) => mix(colours.paper, colours.green, 0.85 * stepped(share)));
  const ground = patches(shades.map((colour, m) => [cells[m].x, cells[m].y, wide, high - 3, colour]));
  // One element for all letters of a colour: letters are what a browser is slowest at.
  const font = { size: 14, "font-family": "ui-monospace, monospace" }, letters = {};
  [...text].forEach((byte, m) => byte === " " || (letters[m < n ? on(shades[m]) : colours.muted] ??= []).push(m));
  const bytes = Object.entries(letters).map(([colour, places]) => {
    const x = places.map((m) => cells[m].x + wide / 2), y = places.map((m) => cells[m].y + high / 2 - 1);
    return label(x.join(" "), y.join(" "), places.map((m) => text[m]).join(""), { ...font, colour });
  });
  const { x: at, y: level } = cells[n - 1];
  const mark = box(at - 1, level - 1, wide + 2, high - 1, "none", { stroke: colours.ink, "stroke-width": 2.5 });

  const most = LENGTH * (key_dim + value_dim), right = chart.left + chart.width;
  const x = scale([0, LENGTH], [chart.left, right]), y = scale([0, most], [chart.top + chart.height, chart.top]);
  const dot = (value, colour) => h("circle", { cx: x(n), cy: y(value), r: 5, fill: colour });
  const blue = { colour: colours.blue, weight: 600 }, orange = { colour: colours.orange, weight: 600, at: "start" };
  const ticks = { yticks: [0, held, most], tick: (value) => format(value, 6) };
  const graph = axes(colours, chart, x, y, "bytes read", "", ticks) +
    label(left, chart.top - 26, "numbers that one head keeps", title) +
    line([[x(0), y(held)], [x(LENGTH), y(held)]], colours.blue, { "stroke-width": 3, "stroke-dasharray": "9 4" }) +
    line([[x(0), y(0)], [x(LENGTH), y(most)]], colours.orange, { "stroke-width": 3 }) +
    line([[x(n), y(held)], [x(n), y(cache)]], colours.muted, { "stroke-width": 1 }) +
    dot(held, colours.blue) + dot(cache, colours.orange) +
    label(right, y(held) + 14, `the state: always ${format(held, 6)}`, { ...blue, at: "end" }) +
    label(x(6), chart.top + 6, "a Transformer’s cache:", orange) +
    label(x(6), chart.top + 23, `${format(cache, 6)} by now`, orange);
  const heading = label(left, top - 24, "how much of each byte is left: γⁿ⁻ᵐ", title);
  const drawn = [sum, ...notes, heading, ground, ...bytes, mark, graph].join("");
  return { height: chart.top + chart.height + 46, drawn };
}

// Pressed on a byte: the movie goes there.
export function point({ x, y, pressed }, stage, numbers, values, { text }) {
  if (!pressed) return null;
  const { cells, wide, high } = layout(stage, text);
  const m = cells.findIndex((cell) => x >= cell.x && x < cell.x + wide && y >= cell.y && y < cell.y + high);
  return m < 0 ? null : { n: m + 1 };
}

export default explorable({
  title: "The state of a trained head while it reads a text, and how much of each byte is left in it",
  controls, compute, describe, draw, point, play: { control: "n", seconds: 0.15 },
});
