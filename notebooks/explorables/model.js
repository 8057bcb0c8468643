// Lessons 0 and 9: the whole model, from a byte to the next byte: shapes, parameters, what is kept, what it expects.

import { arrow, box, choice, count, explorable, label, line, on, slider } from "./shared.js";

const LAYERS = 5, LONGEST = 221;
const BLOCKS = Array.from({ length: LAYERS }, (_, i) => `block ${i + 1}`);
const STAGES = ["bytes", "embedding", ...BLOCKS, "norm", "head", "next byte"], LAST = STAGES.length - 1;

export const controls = [
  slider("n", "bytes read T", { value: 21, min: 1, max: LONGEST, words: (n) => count(n, "byte") }),
  slider("step", "follow it to", { value: LAST, min: 0, max: LAST, words: (step) => STAGES[step] }),
  choice("form", "form", { parallel: "parallel: all bytes at once", recurrent: "recurrent: one byte, and the state" }),
];

// shapes: of what leaves each stage; parameters: of each stage, then of the parts of a block and of all; mixing:
// numbers in which the bytes of a block meet, weights (H, T, T) or a state (H, K, V); kept: the states of all
// blocks; cache: what a Transformer of this width keeps, dim numbers for a key and dim for a value, in each block and of
// each byte, more from byte `crossing` on; guesses: [byte, p] after the embedding and each block, as if the model ended
// there; since: the first of them with the byte of the last.
export function compute({ n, form }, data) {
  const { vocab, dim, layers, heads, key_dim, value_dim, ffn_dim, gate, gated_ffn, guesses, text } = data;
  const now = guesses.map((stage) => stage[n - 1]);
  const rows = form === "parallel" ? n : 1, keys = heads * key_dim, values = heads * value_dim, ends = vocab * dim;
  const retention = dim * (2 * keys + (gate ? 2 : 1) * values) + values * dim;
  const feedForward = (gated_ffn ? 3 : 2) * dim * ffn_dim, block = retention + feedForward + 2 * dim;
  const each = (first, middle, last) => [...first, ...Array.from({ length: layers }, () => middle), ...last];
  return {
    shapes: each([[rows], [rows, dim]], [rows, dim], [[rows, dim], [rows, vocab], [1]]),
    parameters: each([0, ends], block, [dim, ends, 0]), retention, feedForward, total: 2 * ends + layers * block + dim,
    mixing: form === "parallel" ? heads * n * n : heads * key_dim * value_dim,
    kept: layers * heads * key_dim * value_dim, cache: layers * 2 * dim * n,
    crossing: Math.floor((heads * key_dim * value_dim) / (2 * dim)) + 1,
    guesses: now, since: now.findLastIndex(([byte]) => byte !== now[layers][0]) + 1, next: text[n],
  };
}

const thousands = (number) => number.toLocaleString("en");
const chance = (p) => (p > 0.99 ? "> 0.99" : p.toFixed(2));
const named = (byte) => {
  const odd = { " ": "space", "\n": "new line" }[byte];
  return odd ?? (byte > " " && byte <= "~" ? byte : `byte ${byte.charCodeAt(0)}`);
};

export function describe(numbers, { n, step, form }) {
  const { shapes, parameters, total, mixing, kept, cache, crossing, guesses, since } = numbers;
  const [byte, p] = guesses[LAYERS];
  const memory = form === "parallel"
    ? `In each block the bytes meet in ${thousands(mixing)} weights, one for each head and pair of bytes, and for the next byte all are read again`
    : `Each block keeps a state of ${thousands(mixing)} numbers, all of them ${thousands(kept)}, however long the ` +
      `text; a Transformer of this width keeps ${thousands(cache)} by now, more than the states from byte ${crossing} on`;
  const same = STAGES[since + 1], shape = shapes[step].join(" × ");
  const there = step === LAST ? "" : `What leaves “${STAGES[step]}” has the shape ${shape}; ` +
    `it has ${parameters[step] ? thousands(parameters[step]) : "none"} of the ${thousands(total)} parameters. `;
  return `After ${count(n, "byte")} the model expects “${named(byte)}” with probability ${chance(p)}; if ` +
    `it ended earlier, its guess would be the same from ${same} on. ${there}${memory}.`;
}

const PITCH = 46, HIGH = 30, TOP = 92, BYTE = 9;

// Where things stand: the tower with its columns, and the inside of a block beside it or below. from: the first byte
// of the text that is shown.
function layout({ width, narrow }, n) {
  const tower = narrow ? width : 0.66 * width, y = (at) => TOP + PITCH * at, bottom = y(LAST) + HIGH;
  const columns = { box: 0.25 * tower, parameters: 0.49 * tower, mixing: 0.7 * tower, guess: 0.74 * tower };
  const beside = { x: tower + 26, y: TOP - 18, width: width - tower - 28 };
  const inside = narrow ? { x: 0, y: bottom + 96, width } : beside;
  return { tower, y, bottom, columns, inside, from: Math.max(0, n + 2 - Math.floor((width - 8) / BYTE)) };
}

export function draw(stage, numbers, values, data) {
  const { narrow } = stage, { bottom, inside } = layout(stage, values.n);
  const drawn = [written, tower, foot, insideOf].map((part) => part(stage, numbers, values, data));
  return { height: narrow ? inside.y + 400 : bottom + 58, drawn: drawn.flat(Infinity).join("") };
}

function written(stage, { next }, { n, step, form }, { text, prompt }) {
  const { colours, narrow } = stage, { from } = layout(stage, n), whole = form === "parallel";
  const mono = { size: 14, "font-family": "ui-monospace, monospace" };
  const bytes = [...text.slice(from, n)].map((byte, i) => {
    const last = from + i === n - 1, here = whole || last, x = 2 + BYTE * i, weight = from + i < prompt ? 700 : null;
    const edge = last ? { stroke: colours.ink, "stroke-width": 2 } : {};
    return box(x, 20, BYTE, 24, here ? colours.faint : colours.paper, edge) +
      (byte.trim() && label(x + BYTE / 2, 32, byte, { ...mono, colour: here ? colours.ink : colours.muted, weight }));
  });
  const x = 5 + BYTE * (n - from), sign = { " ": "␣", "\n": "⏎" }[next] ?? next;
  const after = step < LAST ? "" : box(x, 20, BYTE + 2, 24, colours.green, { rx: 2 }) +
    label(x + BYTE / 2 + 1, 32, sign, { ...mono, colour: on(colours.green), weight: 700 });
  const says = whole ? `read at once (bold: the prompt${narrow ? "" : "; then what the model wrote"})` : "only the last byte is read; all before it is in the states";
  return [label(2, 8, says, { colour: colours.muted, size: 12, at: "start" }), ...bytes, after];
}

function tower(stage, { shapes, parameters, mixing, guesses, next }, { n, step, form }) {
  const { colours, narrow } = stage, { tower, y, columns } = layout(stage, n), whole = form === "parallel";
  const muted = { colour: colours.muted, size: 12 }, ink = { colour: colours.ink, at: "end" };
  const centre = 2 + columns.box / 2, long = tower - columns.guess - 48;
  const meeting = whole ? colours.blue : colours.orange;
  const title = (x, words, colour, at) => label(x, TOP - 18, words, { colour, size: 12, at, weight: 600 });
  const titles = [
    title(columns.parameters, "parameters", colours.muted, "end"),
    title(columns.mixing, whole ? (narrow ? "q·k" : "q·k weights") : "state", meeting, "end"),
    title(columns.guess, narrow ? "its guess" : "its guess so far", colours.muted, "start"),
  ];
  // The likeliest byte, and its probability as a bar; the byte that was written is green and ticked.
  const guess = ([byte, p], top) => {
    const right = byte === next, colour = right ? colours.green : colours.ink;
    return box(columns.guess, top + 20, Math.max(long * p, 1.5), 7, right ? colours.green : colours.muted) +
      box(columns.guess, top + 20, long, 7, "none", { stroke: colours.line }) +
      label(columns.guess, top + 10, `${named(byte)}${right ? " ✓" : ""}`, { colour, at: "start", weight: 600 }) +
      label(columns.guess + long + 5, top + 23, chance(p), { ...muted, at: "start" });
  };
  return [titles, STAGES.map((name, i) => {
    const now = i === step, past = i < step, top = y(i), middle = top + HIGH / 2, block = i > 1 && i < LAYERS + 2;
    const edge = { rx: 5, stroke: i <= step ? colours.ink : colours.line, "stroke-width": now ? 2.5 : 1.2 };
    const colour = now ? on(colours.blue) : past ? colours.ink : colours.muted;
    const at = i === LAST ? LAYERS : i - 1, guessed = i <= step && (block || i === 1 || i === LAST);
    return [
      box(2, top, columns.box, HIGH, now ? colours.blue : past ? colours.faint : colours.paper, edge),
      label(centre, middle, name, { colour, size: narrow ? 13 : 14, weight: now ? 700 : null }),
      i < LAST ? arrow([centre, top + HIGH], [centre, y(i + 1) - 1], past ? colours.ink : colours.line, { head: 7 }) +
        label(centre + 8, top + HIGH + 7, shapes[i].join("×"), { ...muted, at: "start" }) : "",
      parameters[i] ? label(columns.parameters, middle, thousands(parameters[i]), ink) : "",
      block ? label(columns.mixing, middle, thousands(mixing), { ...ink, colour: meeting }) : "",
      guessed ? guess(guesses[at], top) : "",
    ];
  })];
}

function foot(stage, { total, kept, cache }, { n, form }) {
  const { colours, narrow } = stage, { bottom, columns } = layout(stage, n), whole = form === "parallel";
  const bold = { colour: colours.ink, at: "end", weight: 700 }, orange = { ...bold, colour: colours.orange };
  const says = whole ? ["kept for the next byte: nothing;", "all bytes are read again"]
    : [`kept for the next byte: ${thousands(kept)};`, `a Transformer keeps ${thousands(cache)} by now`];
  return [
    label(columns.parameters, bottom + 20, narrow ? thousands(total) : `in all ${thousands(total)}`, bold),
    whole ? "" : label(columns.mixing, bottom + 20, thousands(kept), orange),
    (narrow ? says : [says.join(" ")]).map((text, i) =>
      label(2, bottom + 44 + 19 * i, text, { ...(whole ? bold : orange), at: "start", size: 14 })),
  ];
}

// One block: norm, retention, plus what came in; norm, feed-forward, plus what came in.
function insideOf(stage, { retention, feedForward }, { n, form }, { heads, key_dim, value_dim, dim }) {
  const { colours } = stage, { x, y, width } = layout(stage, n).inside, whole = form === "parallel";
  const wide = Math.min(width - 40, 300), left = x + 4, middle = left + wide / 2, right = left + wide + 20;
  const stroke = colours.ink, ink = { colour: colours.ink, size: 14, at: "start" };
  const muted = { colour: colours.muted, size: 12, at: "start" };
  const parts = [["norm", dim, 40, 28], ["retention", retention, 92, 50], ["+", 0, 166, 24],
    ["norm", dim, 214, 28], ["feed-forward", feedForward, 266, 40], ["+", 0, 330, 24]];
  const drawn = parts.map(([name, size, top, high]) => {
    const level = y + top + (name === "retention" ? 16 : high / 2);
    if (name === "+")
      return box(middle - 12, y + top, 24, 24, colours.paper, { rx: 12, stroke }) +
        label(middle, level, name, { ...ink, size: 16, at: "middle" });
    return box(left, y + top, wide, high, colours.faint, { rx: 5, stroke }) + label(left + 10, level, name, ink) +
      label(left + wide - 8, level, thousands(size), { ...ink, size: 12, at: "end" });
  });
  const flow = (from, to) => arrow([middle, y + from], [middle, y + to - 1], stroke, { head: 7 });
  const flows = parts.map(([, , top, high], i) => flow(top + high, parts[i + 1]?.[2] ?? top + high + 22));
  const around = [[y + 24, y + 178], [y + 198, y + 342]].map(([from, to]) =>
    line([[middle, from], [right, from], [right, to], [middle + 21, to]], stroke, { "stroke-dasharray": "6 3" }) +
    arrow([middle + 24, to], [middle + 13, to], stroke, { head: 7 }));
  const meets = whole ? `q·k weights ${heads}×${n}×${n}` : `state ${heads}×${key_dim}×${value_dim}`;
  return [
    label(left, y, "inside each block", { ...ink, weight: 600 }), flow(14, 40), ...flows, ...around, ...drawn,
    label(left + 10, y + 128, meets, { ...ink, colour: whole ? colours.blue : colours.orange, size: 13, weight: 600 }),
    label(middle + 8, y + 366, `${whole ? n : 1}×${dim}`, muted),
    label(left, y + 388, "bytes meet only in retention", muted),
  ];
}

// Pressed on a box: the last byte is followed to it. Pressed on the text: it ends there.
export function point({ x, y, pressed }, stage, numbers, { n }) {
  if (!pressed) return null;
  const { columns, from } = layout(stage, n), step = Math.floor((y - TOP) / PITCH);
  const last = from + Math.floor((x - 2) / BYTE) + 1;
  if (y > 16 && y < 48) return last >= 1 && last <= n ? { n: last } : null;
  return x < columns.box + 4 && step >= 0 && step <= LAST ? { step } : null;
}

export default explorable({
  title: "The whole model, from a byte to the next byte: shapes, parameters, what is kept, what it expects",
  controls, compute, describe, draw, point, play: { control: "n", seconds: 0.6 },
});
