// Lesson 9: what each head of the shipped model reads at a byte, and what the model predicts without it.

import {
  MONO, box, choice, count, explorable, format, h, label, line, on, signed, slider, toggle, wrap,
} from "./shared.js";

const LAST = 119, BEST = 5, FADES = 4; // the last byte of the text; predictions; distance of the points of a dotted line
const ROW = 64; // height of a strip in px
const LAYERS = { 0: "1 (first)", 1: "2", 2: "3", 3: "4", 4: "5 (last)" }, HEADS = ["0", "1", "2", "3", "4"];

export const controls = [
  slider("byte", "read at byte", { value: 84, min: 0, max: LAST, words: (x) => `${x + 1} of ${LAST + 1}` }),
  choice("layer", "layer", LAYERS),
  choice("head", "head to switch off", Object.fromEntries(HEADS.map((head) => [head, `head ${head}`]))),
  toggle("follow", "pointer chooses the byte, a click holds it", true),
];

const unpacked = new WeakMap(); // the data as bytes, decoded once

function opened(data) {
  if (!unpacked.has(data)) {
    const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const [weights, tokens, chances] = [data.weights, data.tokens, data.chances].map(bytesOf);
    unpacked.set(data, { weights: new Int8Array(weights.buffer), tokens, chances });
  }
  return unpacked.get(data);
}

// heads[h]: { shares, median, half_life, gamma, fade, rise }; shares[d]: the part of its reading at distance d, with its
// sign; median: within which distance half of its reading lies; fade: the decay at every fourth distance; rise: the bits
// that a byte of the text costs more without this head.
// whole, without: { best: [{ token, chance }], cost, loss } of the whole model and of the one without the chosen head.
export function compute({ byte, layer, head }, data) {
  const { weights, tokens, chances } = opened(data), { gammas, costs, losses } = data, time = LAST + 1;
  const variant = (h) => 1 + Number(layer) * gammas.length + Number(h);
  const heads = gammas.map((gamma, h) => {
    const start = (variant(h) - 1) * (time * (time + 1) / 2) + (byte * (byte + 1)) / 2;
    const row = Array.from(weights.subarray(start, start + byte + 1)).reverse();
    const all = row.reduce((sum, x) => sum + Math.abs(x), 0), shares = row.map((x) => x / all);
    let passed = 0;
    const median = row.findIndex((x) => (passed += Math.abs(x)) >= all / 2);
    const fade = Array.from({ length: Math.floor(byte / FADES) + 1 }, (_, i) => gamma ** (FADES * i));
    return { gamma, half_life: Math.log(2) / -Math.log(gamma), shares, median, fade, rise: losses[variant(h)] - losses[0] };
  });
  const model = (which) => {
    const start = (which * time + byte) * BEST;
    const pair = (_, i) => ({ token: tokens[start + i], chance: chances[start + i] / 255 });
    const best = Array.from({ length: BEST }, pair);
    return { best, cost: costs[which][byte] / 100, loss: losses[which] };
  };
  return { heads, whole: model(0), without: model(variant(head)) };
}

const NAMES = { " ": "space", "\n": "line break", ",": "comma", ".": "full stop" };
const named = (character) => NAMES[character] ?? `“${character}”`;
const glyph = (token) =>
  ({ 10: "↵", 32: "␣" })[token] ?? (token > 32 && token < 127 ? String.fromCharCode(token) : `#${token}`);
const percent = (chance) => (chance < 0.01 ? "< 1 %" : `${Math.round(100 * chance)} %`);
const change = (rise) => {
  const size = Math.abs(rise).toFixed(2);
  return size === "0.00" ? size : `${rise < 0 ? "\u2212" : "+"}${size}`;
};

export function describe({ heads, whole, without }, { byte, layer, head }, { text }) {
  const { median, gamma, half_life } = heads[head], next = named(text[byte + 1]);
  const first = ({ best: [{ token, chance }] }) => `${named(String.fromCharCode(token))} at ${percent(chance)}`;
  return `After byte ${byte + 1}, ${named(text[byte])}, comes ${next}. Head ${head} of layer ${Number(layer) + 1} decays by ` +
    `half in ${format(half_life, 2)} bytes (γ = ${format(gamma, 4)}); half of what it reads here lies at most ` +
    `${count(median, "byte")} back. All heads together expect ${first(whole)}; without this head it is ${first(without)}. ` +
    `The true byte costs ${whole.cost.toFixed(2)} bits (1 bit at 50 %), then ${without.cost.toFixed(2)}; over the text a byte costs ` +
    `${whole.loss.toFixed(2)} bits, without this head ${without.loss.toFixed(2)}.`;
}

// The places of the text's cells, of the strips and of the predictions.
function places({ width }, text) {
  const cell = 10.4, line = 25, top = 26, left = 4, cells = wrap(text, Math.floor((width - 8) / cell));
  const strips = top + (cells[cells.length - 1][0] + 1) * line + 40;
  return { cell, line, top, left, cells, strips, below: strips + HEADS.length * ROW + 56, brief: width < 740 };
}

export function draw(stage, numbers, values, data) {
  const at = places(stage, data.text);
  const parts = [reading, strips, predictions].map((part) => part({ ...stage, at }, numbers, values, data));
  return { height: at.below + 24 + 23 * BEST + 18, drawn: h("g", {}, parts) };
}

// The text, shaded by what the chosen head reads.
function reading({ at, colours }, { heads }, { byte, layer, head }, { text }) {
  const { shares } = heads[head], limit = Math.max(...shares.map(Math.abs)), height = at.line - 4;
  const ground = (n) => signed(colours, shares[byte - n], limit);
  const spots = at.cells.map(([row, column], n) => ({ n, x: at.left + column * at.cell, y: at.top + row * at.line }));
  const read = spots.slice(0, byte + 1).map(({ n, x, y }) => box(x, y, at.cell, height, ground(n)));
  const letters = spots.filter(({ n }) => text[n] !== " ").map(({ n, x, y }) => {
    const colour = n > byte ? colours.muted : on(ground(n));
    return label(x + at.cell / 2, y + at.line / 2 - 2, text[n], { colour, size: 14, "dominant-baseline": null });
  });
  const frame = (n, look) => box(spots[n].x, spots[n].y, at.cell, height, "none", look);
  const title = at.brief ? "What it reads at the framed byte"
    : `What head ${head} of layer ${Number(layer) + 1} reads at the framed byte; dashed: the byte to predict`;
  return label(4, 12, title, { colour: colours.ink, at: "start", weight: 600 }) +
    h("g", {}, read, h("g", { ...MONO, "dominant-baseline": "central" }, letters),
      frame(byte + 1, { stroke: colours.green, "stroke-width": 2, "stroke-dasharray": "3 2" }),
      frame(byte, { stroke: colours.ink, "stroke-width": 2.5 }));
}

// A strip for each head of the layer: bars by distance, the framed byte at the right.
function strips({ at, width, colours }, { heads }, { head }) {
  const right = width - 8, wide = (right - 4) / (LAST + 1), place = (distance) => right - (distance + 0.5) * wide;
  const tall = 20, ink = { colour: colours.ink }, end = at.strips + HEADS.length * ROW;
  const drawn = heads.map(({ shares, median, gamma, half_life, fade, rise }, i) => {
    const top = at.strips + i * ROW, middle = top + 39, chosen = String(i) === head;
    const most = Math.max(...shares.map(Math.abs));
    const bar = (share, d) => `M${(place(d) - 0.42 * wide).toFixed(1)} ${middle}` +
      `h${(0.84 * wide).toFixed(1)}v${((-tall * share) / most).toFixed(1)}h${(-0.84 * wide).toFixed(1)}z`;
    const bars = [[1, colours.blue], [-1, colours.orange]].map(([sign, fill]) => {
      const path = shares.map((share, d) => (share * sign > 0 ? bar(share, d) : "")).join("");
      return path && h("path", { d: path, fill });
    });
    const dotted = { "stroke-width": 1, "stroke-dasharray": "2 3" };
    const fades = [1, -1].map((sign) =>
      line(fade.map((share, j) => [place(FADES * j), middle - sign * tall * share]), colours.muted, dotted));
    const half = place(median) - wide / 2, look = { ...ink, weight: chosen && !at.brief ? 700 : 500 };
    const name = at.brief
      ? `head ${i}: halves in ${format(half_life, 2)}, reads ${median}`
      : `head ${i}: γ = ${format(gamma, 4)}, half-life ${format(half_life, 2)} bytes; ` +
        `half of what it reads is within ${count(median, "byte")}`;
    const cost = `off: ${change(rise)}${at.brief ? "" : " bits a byte"}`;
    return (chosen ? box(0, top - 2, width, ROW - 1, colours.faint, { stroke: colours.line }) : "") +
      label(6, top + 9, name, { ...look, at: "start" }) + label(right - 2, top + 9, cost, { ...look, at: "end" }) +
      line([[4, middle], [right, middle]], colours.line, { "stroke-width": 1 }) + fades.join("") + bars.join("") +
      line([[half, top + 18], [half, top + 60]], colours.ink, { "stroke-width": 1.5 });
  });
  const ticks = [0, 20, 40, 60, 80, 100].map((d) => label(place(d), end + 8, String(d), { colour: colours.muted, size: 12 }));
  const title = at.brief ? "By bytes back, each on its own scale"
    : "All heads of the layer by distance, each on its own scale: the norm after a head removes its scale";
  const axis = at.brief ? "dotted: decay alone; line: half the reading" :
    "bytes back; bars up add, down subtract; right of the black line is half of the reading; dotted: decay alone";
  return label(4, at.strips - 16, title, { ...ink, at: "start", weight: 600 }) + h("g", {}, drawn, ticks) +
    label(width / 2, end + 25, axis, { ...ink, size: 12 });
}

// The likeliest next bytes, with all heads and without the chosen one; the byte that came is green.
function predictions({ at, width, colours }, { whole, without }, { byte, head }, { text }) {
  const came = text.charCodeAt(byte + 1), column = width / 2, longest = column - 96;
  const lists = [["with all heads", whole], [`without head ${head}`, without]].map(([title, { best, cost }], i) => {
    const x = i * column + 6, below = at.below + 24;
    const rows = best.map(({ token, chance }, j) => {
      const y = below + 23 * j, right = token === came, colour = right ? colours.green : colours.ink;
      return label(x + 12, y, glyph(token), { colour, size: 15, weight: right ? 700 : 400, ...MONO }) +
        box(x + 30, y - 8, Math.max(chance * longest, 1), 16, right ? colours.green : colours.muted) +
        label(x + 36 + Math.max(chance * longest, 1), y, percent(chance), { colour: colours.ink, at: "start", size: 12 });
    });
    return label(x, at.below, title, { colour: colours.ink, at: "start", size: 14, weight: 600 }) + rows.join("") +
      label(x, below + 23 * BEST + 2, `${named(text[byte + 1])} costs ${cost.toFixed(2)} bits`,
        { colour: colours.green, at: "start", weight: 600, size: width < 300 ? 12 : 13 });
  });
  return h("g", {}, lists);
}

// Over the text the pointer chooses the byte, a press holds it; a press on a strip chooses the head.
export function point({ x, y, pressed }, stage, numbers, { follow }, { text }) {
  const at = places(stage, text), column = Math.floor((x - at.left) / at.cell), row = Math.floor((y - at.top) / at.line);
  const byte = at.cells.findIndex((cell) => cell[0] === row && cell[1] === column);
  if (byte >= 0 && byte <= LAST) return pressed ? { byte, follow: false } : follow ? { byte } : null;
  const head = Math.floor((y - at.strips) / ROW);
  return pressed && head >= 0 && head < HEADS.length ? { head: String(head) } : null;
}

export default explorable({
  title: "What each head of a trained model reads, and how far back",
  controls, compute, describe, draw, point,
});
