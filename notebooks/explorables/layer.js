// Lesson 8: the layer of Eq. 8 as a diagram. A step at a time, with the numbers of a very small layer. What stands before
// the norm, a divisor and ε, can be changed: two forms that divide differently are one function only where ε is 0.

import { arrow, box, choice, count, explorable, format, heat, label, on, slider } from "./shared.js";
import { parallel, read, recurrent, rotate } from "./retention.js";

const TIME = 5;
const STEPS = [
  ["input", "X", "A row of d numbers for each token."],
  ["projections", "Q = X W_{Q},  K = X W_{K},  V = X W_{V}", "Three matrices make queries, keys, values."],
  ["rotation", "q and k turn with their token; k / √K", "Channel pairs turn by nθ: order gets in."],
  ["retention", "o_{n} = Σ_{m ≤ n} γⁿ⁻ᵐ (q_{n}·k_{m}) v_{m}", "Only here do tokens meet, head by head."],
  ["norm", "o / √(mean of o² + ε)", "GroupNorm: every row of a head gets size 1, if ε is small."],
  ["merge", "Y: the heads side by side", "Nothing changes; heads become one row."],
  ["gate", "swish(X W_{G})", "A second way from X says what may pass."],
  ["product", "swish(X W_{G}) ⊙ Y", "Number by number: the gate opens or shuts."],
  ["output", "(swish(X W_{G}) ⊙ Y) W_{O}", "The last matrix mixes the heads: width d."],
];
const EPSILONS = [0, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1];

export const controls = [
  slider("step", "step", { value: 3, min: 0, max: STEPS.length - 1, words: (at) => `${at + 1}: ${STEPS[at][0]}` }),
  slider("n", "token n", { value: 4, min: 1, max: TIME, words: (n) => `token ${n}` }),
  choice("form", "form", { parallel: "parallel: all tokens at once", recurrent: "recurrent: token by token" }),
  choice("divide", "before the norm", {
    none: "divide by nothing", both: "both forms divide by √r", recurrent: "only recurrent divides by √r",
  }),
  slider("eps", "ε", { value: 1, min: 0, max: EPSILONS.length - 1, words: (at) => format(EPSILONS[at]) }),
];

const times = (x, w) => x.map((values) => read(values, w));
const merge = (parts) => parts[0].map((_, n) => parts.flatMap((part) => part[n]));
const swish = (x) => x / (1 + Math.exp(-x));

const divides = (divide, form) => divide === "both" || divide === form;

// Row n of o (T, V) divided by √r_n, r_n = γ r_{n-1} + 1: the row norm.
function byRoots(rows, gamma) {
  let sum = 0;
  return rows.map((row) => {
    sum = gamma * sum + 1;
    return row.map((number) => number / Math.sqrt(sum));
  });
}

// (T, H N) -> (H, T, N); merge goes back.
function split(x, heads) {
  const size = x[0].length / heads;
  return Array.from({ length: heads }, (_, head) => x.map((values) => values.slice(head * size, (head + 1) * size)));
}

// All that the layer computes: q, k, v with heads side by side; turnedQ and turnedK, also scaled; weights (H, T, T);
// states (H, K, V) after token n; retained, divided if this form divides, and normed (H, T, V); merged, gateIn, gate, gated
// and out (T, ...). rows, state, held: how many numbers exist at this step in this form, and their sum; difference: the
// largest between the outputs of the two forms, as a share of the largest number of the parallel one.
export function compute({ step, n, form, divide, eps }, { x, w_q, w_k, w_v, w_g, w_o, gammas, theta }) {
  const heads = gammas.length, [q, k, v] = [w_q, w_k, w_v].map((w) => times(x, w));
  const turn = (rows) => split(rows, heads).map((part) => part.map((values, m) => rotate(values, m, theta)));
  const turnedQ = turn(q), scale = (w_k[0].length / heads) ** -0.5, values = split(v, heads);
  const turnedK = turn(k).map((part) => part.map((channels) => channels.map((number) => number * scale)));
  const all = gammas.map((gamma, head) => parallel(turnedQ[head], turnedK[head], values[head], gamma));
  const chain = gammas.map((gamma, head) => recurrent(turnedQ[head], turnedK[head], values[head], gamma));
  const gateIn = times(x, w_g), gate = gateIn.map((row) => row.map(swish));
  const finish = (given, own) => {
    const retained = divides(divide, own) ? given.map((part, head) => byRoots(part, gammas[head])) : given;
    const normed = retained.map((part) => part.map((row) => {
      const size = Math.sqrt(row.reduce((sum, number) => sum + number * number, 0) / row.length + EPSILONS[eps]);
      return row.map((number) => number / size);
    }));
    const merged = merge(normed), gated = merged.map((row, m) => row.map((number, c) => gate[m][c] * number));
    return { retained, normed, merged, gated, out: times(gated, w_o) };
  };
  const [one, other] = [all, chain].map((form) => form.map(({ out }) => out));
  const ends = { parallel: finish(one, "parallel"), recurrent: finish(other, "recurrent") };
  const apart = (a, b) => Math.max(...a.flatMap((values, m) => values.map((y, c) => Math.abs(y - b[m][c])))) /
    Math.max(...a.flat().map(Math.abs));
  const numbers = {
    q, k, v, turnedQ: merge(turnedQ), turnedK: merge(turnedK), weights: all.map(({ weights }) => weights),
    states: chain.map(({ states }) => states[n - 1]), gateIn, gate, ...ends[form],
    difference: apart(ends.parallel.out, ends.recurrent.out),
  };
  const tensors = shown(numbers, { step, form, divide }, x).filter(({ isState }) => !isState).map(({ matrix }) => matrix);
  const state = form === "recurrent" ? numbers.states.flat(2).length : 0;
  const rows = tensors.flatMap((matrix) => (form === "parallel" ? matrix.flat() : matrix[n - 1])).length;
  return { ...numbers, rows, state, held: rows + state };
}

// What a step shows: { name, matrix }; paired: two stand side by side; isState: it has no row for each token.
function shown(numbers, { step, form, divide }, x) {
  const { q, k, v, turnedQ, turnedK, weights, states, retained, normed, merged, gateIn, gate, gated, out } = numbers;
  const all = weights.map((matrix, i) => ({ name: `weights, γ_{${i}}`, matrix, paired: true }));
  const kept = states.map((matrix, i) => ({ name: `S, γ_{${i}}`, matrix, paired: true, isState: true }));
  const both = (...tensors) => tensors.map(([name, matrix]) => ({ name, matrix, paired: true }));
  return [
    [{ name: "X", matrix: x }],
    [...both(["Q", q], ["K", k]), { name: "V", matrix: v }],
    both(["Q, turned", turnedQ], ["K, turned, /√K", turnedK]),
    [...(form === "parallel" ? all : kept), { name: `${divides(divide, form) ? "o / √r" : "o"} of head 0, of head 1`, matrix: merge(retained) }],
    [{ name: "normed head 0, head 1", matrix: merge(normed) }],
    [{ name: "Y", matrix: merged }],
    [{ name: "X W_{G}", matrix: gateIn }, { name: "swish of it", matrix: gate }],
    [{ name: "gate ⊙ Y", matrix: gated }],
    [{ name: "what the layer gives", matrix: out }],
  ][step];
}

// How far apart the forms are, in words; what is below 1e-12 is rounding.
const verdict = (difference, narrow) => (difference < 1e-12 ? `both forms ${narrow ? "agree" : "give the same output"}`
  : `the forms differ by ${format(100 * difference, 2)} %`);

export function describe({ rows, state, held, out, difference }, { step, n, form, divide, eps }) {
  const alive = form === "parallel" ? `All ${TIME} tokens are here at once: ${count(rows, "number")}`
    : `Only token ${n} is here, with ${count(rows, "number")}, and ${state} in the state for all it has read: ${held}`;
  const [name, , says] = STEPS[step];
  const before = {
    none: "", both: "Both forms divide by √r before the norm. ", recurrent: "Only the recurrent form divides by √r. ",
  };
  return `Step ${step + 1} of ${STEPS.length}, ${name}. ${says} ${alive}. For token ${n} the layer gives ` +
    `${out[n - 1].map((y) => format(y, 2)).join(", ")}. ${before[divide]}At ` +
    `ε = ${format(EPSILONS[eps])} ${verdict(difference)}.`;
}

const GAP = 62, HIGH = 34, CELL = 22;

// The boxes of the diagram: { step, x, y, width, text } in columns for Q, K, V and the gate; middles: where heads are.
function layout({ width, narrow }) {
  const side = narrow ? width : Math.min(0.5 * width, 430), y = (level) => 8 + GAP * level;
  const at = (column) => (side * (2 * column + 1)) / 8;
  const over = (first, last, level, step, text) => {
    const wide = (side / 4) * (last - first + 0.88);
    return { step, x: (at(first) + at(last)) / 2 - wide / 2, y: y(level), width: wide, text };
  };
  const half = (head, level, step, text) =>
    ({ step, x: at(0) - 0.11 * side + head * 0.365 * side, y: y(level), width: 0.355 * side, text });
  const heads = [0, 1].map((head) => half(head, 3, 3, `retention, γ_{${head}}`));
  const boxes = [
    over(0, 3, 0, 0, "X"), ...["W_{Q}", "W_{K}", "W_{V}"].map((name, i) => over(i, i, 1, 1, name)),
    over(3, 3, 1, 6, "W_{G}"),
    over(0, 0, 2, 2, "turn"), over(1, 1, 2, 2, "turn, /√K"), over(3, 3, 2, 6, "swish"),
    ...heads, ...[0, 1].map((head) => half(head, 4, 4, "norm")),
    over(0, 2, 5, 5, "side by side: Y"), over(3, 3, 5, 7, "⊙"), over(3, 3, 6, 8, "W_{O}"),
  ];
  const beside = { left: side + 34, top: 8, room: width - side - 36 };
  const panel = narrow ? { left: 2, top: y(7) + 44, room: width - 4 } : beside;
  return { side, at, y, boxes, panel, middles: heads.map((each) => each.x + each.width / 2) };
}

export function draw(stage, numbers, values, data) {
  const { y, panel } = layout(stage);
  const drawn = diagram(stage, values.step, values.form, data) + tables(stage, panel, numbers, values, data);
  return { height: Math.max(y(7) + 12, panel.top + 452), drawn }; // of the longest step, so that nothing jumps
}

function diagram(stage, step, form, { x, w_q, w_v, gammas }) {
  const { colours } = stage, { side, at, y, boxes, middles } = layout(stage), reach = 0.11 * side, left = at(0) - reach;
  const heads = gammas.length, time = form === "parallel" ? TIME : 1, d = x[0].length;
  const all = { keys: w_q[0].length, values: w_v[0].length }, keys = all.keys / heads, values = all.values / heads;
  const muted = { colour: colours.muted, size: 12, at: "start" };
  const from = (own) => (step >= own ? colours.ink : colours.line);
  // An arrow down a column from one level to another, ink from its step on, with the shape of what goes along it.
  const flow = (across, level, to, own, ...sizes) => arrow([across, y(level) + HIGH], [across, y(to) - 2], from(own)) +
    label(across + 5, (y(level) + HIGH + y(to)) / 2 - 3, sizes.join("×"), muted);
  const flows = [
    ...[0, 1, 2, 3].map((i) => flow(at(i), 0, 1, i < 3 ? 1 : 6, time, d)),
    ...[0, 1].map((i) => flow(at(i), 1, 2, 2, time, all.keys) + flow(at(i), 2, 3, 3, heads, time, keys)),
    flow(at(2) - 0.03 * side, 1, 3, 3, heads, time, values),
    ...middles.map((middle) => flow(middle, 3, 4, 4, time, values) + flow(middle, 4, 5, 5, time, values)),
    ...[[1, 2, 6], [2, 5, 7], [5, 6, 8]].map(([level, to, own]) => flow(at(3), level, to, own, time, all.values)),
    flow(at(3), 6, 7, 8, time, d),
    arrow([at(2) + reach, y(5) + HIGH / 2], [at(3) - reach - 2, y(5) + HIGH / 2], from(7)),
  ];
  const drawn = boxes.map((each) => {
    const now = each.step === step, past = each.step < step, weight = now ? 700 : null;
    const edge = { rx: 5, stroke: from(each.step), "stroke-width": now ? 2.5 : 1.2 };
    const gate = each.step === 6 ? { "stroke-dasharray": "5 3" } : {};
    const fill = now ? colours.blue : past ? colours.faint : colours.paper;
    const colour = now ? on(colours.blue) : past ? colours.ink : colours.muted;
    return box(each.x, each.y, each.width, HIGH, fill, { ...edge, ...gate }) +
      label(each.x + each.width / 2, each.y + HIGH / 2, each.text, { colour, size: 14, weight });
  });
  const kept = label(left, y(6) + HIGH / 2, `kept between tokens: S, ${heads}×${keys}×${values}`,
    { colour: colours.orange, at: "start", weight: 600 });
  const decays = gammas.map((gamma, i) => `γ_{${i}} = ${format(gamma)}`).join(", ");
  return [
    ...flows, ...drawn, form === "recurrent" ? kept : "", label(left, y(7) - 16, `T = ${TIME} tokens, d = ${d} wide, H = ${heads} heads`, muted),
    label(left, y(7) + 4, `a head: K = ${keys}, V = ${values}; ${decays}`, muted),
  ].join("");
}

function tables({ colours }, { left, top, room }, numbers, { step, n, form, divide, eps }, { x }) {
  const whole = form === "parallel", ink = { colour: colours.ink, at: "start" }, bold = { ...ink, weight: 600 };
  const muted = { ...ink, colour: colours.muted, size: 12 }, [name, whatever, says] = STEPS[step], gap = 14;
  const formula = step === 3 && !whole ? "S_{n} = γ S_{n−1} + k_{n}ᵀv_{n},  o_{n} = q_{n} S_{n}" : whatever;
  let level = top + 92, second = false;
  const drawn = shown(numbers, { step, form, divide }, x).map(({ name, matrix, paired, isState }) => {
    const rows = matrix.length, columns = matrix[0].length, y = level + 14;
    const start = left + (second ? (room + gap) / 2 : 0);
    const wide = Math.min(44, (paired ? (room - gap) / 2 : room) / columns), across = wide * columns;
    const future = (m, c) => step === 3 && paired && c > m;
    const alive = (m, c) => isState || (whole ? !future(m, c) : m === n - 1);
    const fixed = (value) => value.toFixed(wide < 38 ? 1 : 2).replace("-", "−");
    const words = (value) => (/[1-9]/.test(fixed(value)) ? fixed(value) : "0");
    const limit = Math.max(...matrix.flat().map(Math.abs));
    const kept = matrix.map((values, m) => values.map((value, c) => (alive(m, c) ? value : null)));
    const cells = heat(colours, kept, { x: start, y, cell: CELL, cellWidth: wide, write: true, words, limit });
    const edge = { stroke: isState ? colours.orange : colours.line, "stroke-dasharray": "4 3" };
    const absent = whole || isState ? [] : [[0, n - 1, "read: in the state"], [n, rows, "not read yet"]];
    const why = absent.filter(([from, to]) => to > from).map(([from, to, text]) =>
      label(start + across / 2, y + (CELL * (from + to)) / 2, text, { ...muted, at: "middle" }));
    const own = { stroke: colours.ink, "stroke-width": 2.5 };
    const mark = isState ? "" : box(start, y + (n - 1) * CELL, across, CELL, "none", own);
    const heading = `${name}: ${whole || isState ? rows : 1}×${columns}`;
    if (!paired || second) level += CELL * rows + 38;
    second = paired && !second;
    return box(start, y, across, CELL * rows, "none", edge) + cells + why.join("") + mark +
      label(start, y - 14, heading, { ...bold, colour: isState ? colours.orange : colours.ink, size: 12 });
  });
  const held = whole ? `here at once: ${count(numbers.rows, "number")}`
    : `here: ${count(numbers.rows, "number")}, and ${numbers.state} in the state`;
  return [
    label(left, top + 8, `${step + 1}. ${name}`, { ...bold, size: 16 }),
    label(left, top + 34, formula, { ...ink, size: 15 }), label(left, top + 58, says, muted), ...drawn,
    label(left, level, held, { ...bold, colour: whole ? colours.ink : colours.orange }),
    label(left, level + 18, whole ? "a longer text: more" : "a longer text: as many", muted),
    label(left, level + 44, `ε = ${format(EPSILONS[eps])}: ${verdict(numbers.difference, room < 320)}`,
      { ...bold, colour: numbers.difference < 1e-12 ? colours.green : colours.red }),
  ].join("");
}

// Pressed on a box: its step.
export function point(at, stage) {
  if (!at.pressed) return null;
  const within = (value, from, size) => value >= from && value < from + size;
  const hit = layout(stage).boxes.find(({ x, y, width }) => within(at.x, x, width) && within(at.y, y, HIGH));
  return hit ? { step: hit.step } : null;
}

export default explorable({
  title: "The layer of retention, box by box, with all the numbers of a very small one",
  controls, compute, describe, draw, point, play: { control: "step", seconds: 1.5 },
});
