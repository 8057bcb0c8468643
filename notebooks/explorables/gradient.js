// Lesson 10: a loss pulls at outputs, and its gradient goes back through the states: a retention that runs backwards.

import { arrow, box, choice, explorable, format, h, heat, label, line, slider } from "./shared.js";
import { dot, read, recurrent, write, zeros } from "./retention.js";

const TIME = 8;
const PULLS = { one: "output n alone", all: "every output" };

export const controls = [
  slider("n", "output n", { value: 6, min: 1, max: TIME, words: String }),
  slider("m", "ask token m", { value: 3, min: 1, max: TIME, words: (m) => `token ${m}` }),
  slider("gamma", "decay γ", { value: 0.8, min: 0.5, max: 1, step: 0.01, words: (x) => `${format(x)} a token` }),
  slider("size", "chunk size C", { value: TIME, min: 1, max: TIME, words: (size) => (size === TIME ? "all tokens" : size === 1 ? "1 token" : `${size} tokens`) }),
  choice("pulls", "the loss pulls at", PULLS),
];

// out, states: of the recurrent form; grad_out (T, V): do; grad_states (T, K, V): dS; dq, dk, dv: like q, k, v; before: dS_0;
// loss: the sum of all do o; share: γ^(n-m), what is left at token m of a gradient from token n; said, nudged: by how much
// the loss rises with channel 1 of value m, by the gradient and by a second forward pass; ends: the tokens after which
// chunks end; crossing: the gradient that enters each chunk from behind; kept: the numbers kept by three backward passes.
export function compute({ n, m, gamma, size, pulls }, { q, k, v, pull }) {
  const grad_out = pull.map((row, t) => (pulls === "all" || t === n - 1 ? row : row.map(() => 0)));
  const loss = (values) => recurrent(q, k, values, gamma).out.reduce((sum, row, t) => sum + dot(row, grad_out[t]), 0);
  const { states, out } = recurrent(q, k, v, gamma), K = k[0].length, V = v[0].length;
  // The same recurrence from the last token to the first: q is written in place of k, do in place of v.
  const back = (rows) => [...rows].reverse();
  const grad_states = back(recurrent(back(q), back(q), back(grad_out), gamma).states);
  const turned = (matrix) => matrix[0].map((_, c) => matrix.map((row) => row[c]));
  const moved = v.map((row, t) => row.map((x, c) => x + (t === m - 1 && c === 0 ? 1 : 0)));
  const ends = Array.from({ length: Math.ceil(TIME / size) }, (_, i) => Math.min((i + 1) * size, TIME));
  const faded = (state) => write(state, new Array(K).fill(0), new Array(V).fill(0), gamma);
  const dv = k.map((key, t) => read(key, grad_states[t]));
  return {
    out, states, grad_out, grad_states, before: faded(grad_states[0]),
    dq: grad_out.map((row, t) => read(row, turned(states[t]))), dk: v.map((row, t) => read(row, turned(grad_states[t]))), dv,
    loss: loss(v), share: m > n ? 0 : gamma ** (n - m), said: dv[m - 1][0], nudged: loss(moved) - loss(v), ends,
    crossing: ends.map((end) => (end === TIME ? zeros(K, V) : faded(grad_states[end]))),
    kept: { states: TIME * K * V, chunks: ends.length * K * V, none: K * V },
  };
}

export function describe({ share, said, nudged, kept, ends }, { n, m, pulls }) {
  const far = n === m ? "whole" : `faded ${n - m === 1 ? "once" : `${n - m} times`} by γ, to ${format(share)} of it`;
  const way = pulls === "all" ? `Every output from ${m} on pulls at token ${m}; the recurrence adds up all pulls, from the last token to the first. (n then only chooses the part that is written below.)`
    : m > n ? `Token ${m} comes after output ${n}, which does not depend on it, so its gradient is zero.`
      : `The pull at output ${n} reaches token ${m} ${far}.`;
  // Chunks are a matter of a later section, so nothing is said of them until the text is cut.
  const cut = ends.length === 1 ? "" : ` To compute dq, a backward pass can keep all ${TIME} states (${kept.states} numbers), or the one ` +
    `before each of ${ends.length} chunks (${kept.chunks}): S_0, which is zero, and the framed ones.`;
  return `${way} The gradient says that the loss rises by ${format(said)} if channel 1 of value ${m} rises by 1; a second forward pass ` +
    `gives ${format(nudged)}.${cut}`;
}

// Rows from top to bottom: what is drawn in a column of each token.
function layout({ width, narrow }, K) {
  const left = narrow ? 30 : 64, column = (width - left - 8) / TIME, cell = narrow ? 13 : 17, low = narrow ? 13 : 16;
  const across = (count) => Math.min(narrow ? 11 : 20, (column - 12) / count);
  const rows = {}, heights = { o: low, S: K * cell, k: low, v: low, dq: low, do: low, q: low, dS: K * cell, dk: low, dv: low };
  const gaps = { o: 62, S: 18, k: 10, v: 6, dq: 62, do: 16, q: 6, dS: 18, dk: 18, dv: 9 };
  let y = 0;
  for (const [name, height] of Object.entries(heights)) {
    rows[name] = y + gaps[name];
    y = rows[name] + height;
  }
  return { left, column, cell, low, across, rows, middle: (t) => left + (t - 0.5) * column, bottom: y, half: rows.dq - 50 };
}

export function draw(stage, numbers, { n, m, gamma, size, pulls }, { q, k, v }) {
  const { colours, width, narrow } = stage, K = k[0].length, V = v[0].length, place = layout(stage, K);
  const { left, column, cell, low, across, rows, middle, bottom, half } = place, quiet = { colour: colours.muted, size: 12 };
  const most = (table) => Math.max(...table.flat(2).map(Math.abs)) || 1;
  const wide = (count) => count * across(count);
  const tile = (matrix, t, y, limit, height) =>
    heat(colours, matrix, { x: middle(t) - wide(matrix[0].length) / 2, y, cell: height, cellWidth: across(matrix[0].length), limit, write: false }) +
    box(middle(t) - wide(matrix[0].length) / 2, y, wide(matrix[0].length), height * matrix.length, "none", { stroke: colours.line, "stroke-width": 1 });
  const frame = (t, y, count, height, colour, more = {}) =>
    box(middle(t) - wide(count) / 2 - 2, y - 2, wide(count) + 4, height + 4, "none", { stroke: colours[colour], "stroke-width": 2.5, ...more });
  const row = (name, table) => table.map((values, t) => tile([values], t + 1, rows[name], most(table), low));
  const tables = [["o", numbers.out], ["k", k], ["v", v], ["do", numbers.grad_out], ["q", q], ["dk", numbers.dk], ["dv", numbers.dv], ["dq", numbers.dq]];
  const names = [...tables.map(([name]) => [name, rows[name] + low / 2]), ...["S", "dS"].map((name) => [name, rows[name] + (K * cell) / 2])]
    .map(([name, y]) => label(left - 6, y, name, { colour: colours.ink, at: "end", size: 14, weight: 600 }));
  const pulled = (t) => pulls === "all" || t === n;
  const reached = (t) => pulls === "all" || t <= n;
  // From state to state: forwards lit from m to n, backwards from n to m.
  const steps = Array.from({ length: TIME - 1 }, (_, i) => i + 1).map((t) => {
    const edge = wide(V) / 2 + 2, from = middle(t) + edge, to = middle(t + 1) - edge;
    const on = m <= n && t >= m && t < n, y = rows.S + (K * cell) / 2, z = rows.dS + (K * cell) / 2, lit = reached(t + 1);
    return arrow([from, y], [to, y], on ? colours.blue : colours.muted, { width: on ? 3 : 1.3, head: narrow ? 6 : 8 }) +
      arrow([to, z], [from, z], lit ? colours.purple : colours.line, { width: lit && (t >= m || pulls === "all") ? 3 : 1.3, head: narrow ? 6 : 8 });
  });
  const halo = { stroke: colours.paper, "stroke-width": 4, "paint-order": "stroke" };
  const fades = narrow ? "" : steps.map((_, i) => [rows.S, rows.dS].map((y) =>
    label((middle(i + 1) + middle(i + 2)) / 2, y + (K * cell) / 2 - 12, "×γ", { ...quiet, ...halo })));
  const tokens = Array.from({ length: TIME }, (_, i) => i + 1);
  const ups = tokens.map((t) => {
    const x = middle(t), lit = pulled(t), asked = t === m;
    return arrow([x, rows.S - 3], [x, rows.o + low + 3], lit ? colours.blue : colours.line, { width: lit ? 2.5 : 1.2, head: 6 }) +
      arrow([x, rows.k - 1], [x, rows.S + K * cell + 2], asked ? colours.blue : colours.line, { width: asked ? 2.5 : 1.2, head: 5 }) +
      arrow([x, rows.q + low + 3], [x, rows.dS - 3], lit ? colours.purple : colours.line, { width: lit ? 2.5 : 1.2, head: 6 }) +
      arrow([x, rows.dS + K * cell + 3], [x, rows.dk - 3], asked ? colours.purple : colours.line, { width: asked ? 2.5 : 1.2, head: 6 });
  });
  // dq_n = do_n S_nᵀ: the state comes down beside its token, past the keys and values, which have no part in it.
  const downs = tokens.filter(pulled).map((t) => {
    const y = rows.dq + low / 2, side = middle(t) + (column + wide(K)) / 4 + (narrow ? 1 : 4), foot = rows.S + K * cell - 5;
    return line([[middle(t) + wide(V) / 2 + 2, foot], [side, foot], [side, y]], colours.purple, { "stroke-width": 1.6 }) +
      arrow([side, y], [middle(t) + wide(K) / 2 + 1, y], colours.purple, { head: narrow ? 4 : 6 }) +
      arrow([middle(t), rows.do - 3], [middle(t), rows.dq + low + 2], colours.purple, { width: 2, head: 5 });
  });
  const numbered = [rows.o, rows.dq].map((y) => tokens.map((t) =>
    label(middle(t), y - 13, t, { ...quiet, ...((t === n || t === m) && { colour: colours.ink, weight: 700 }) })));
  const cuts = numbers.ends.slice(0, -1).map((end) =>
    line([[left + end * column, rows.S - 8], [left + end * column, rows.S + K * cell + 8]], colours.green, { "stroke-dasharray": "4 3" }) +
    line([[left + end * column, rows.dS - 8], [left + end * column, rows.dS + K * cell + 8]], colours.green, { "stroke-dasharray": "4 3" }));
  const kept = numbers.ends.slice(0, -1).map((end) => frame(end, rows.S, V, K * cell, "green"));
  const marks = [
    pulls === "one" ? frame(n, rows.do, V, low, "purple") + frame(n, rows.q, K, low, "purple") : "", frame(m, rows.dv, V, low, "ink"), frame(m, rows.dk, K, low, "ink"),
  ];
  const heading = (y, name, formula) =>
    label(4, y, narrow ? name : `${name}: ${formula}`, { colour: colours.ink, at: "start", size: 15, weight: 600, ...halo });
  const headings = [
    heading(rows.o - 42, "Forwards", "S_{n} = γ S_{n−1} + kᵀv,  o = q S"),
    heading(rows.dq - 38, "Backwards", "dS_{n} = γ dS_{n+1} + qᵀ do,  dv = k dS,  dk = v dSᵀ,  dq = do Sᵀ"),
  ];
  const list = (values) => values.map((x) => format(x)).join("  ");
  const written = q[n - 1].map((x) => list(numbers.grad_out[n - 1].map((y) => x * y))).join(" | ");
  const lines = [
    ...(narrow ? [] : [[`output ${n} adds q_{${n}}ᵀ do_{${n}} = ( ${written} ) to dS_{${n}}`, colours.purple]]),
    [`dv_{${m}} =${narrow ? "" : ` k_{${m}} dS_{${m}} =`} ( ${list(numbers.dv[m - 1])} )`, colours.purple],
    [`${narrow ? "its channel 1" : `value ${m}, channel 1,`} plus 1: loss ${numbers.nudged < 0 ? "−" : "+"} ${format(Math.abs(numbers.nudged))}`, colours.ink],
    ...(numbers.ends.length === 1 ? [] : [[narrow ? `green: ${numbers.ends.length - 1} kept, and S_0` : `green frames: states kept between chunks of ${size}, besides S_{0} = 0`, colours.green]]),
    [narrow ? "blue above 0, orange below" : "cells: blue is positive, orange negative, stronger is larger", colours.muted],
  ];
  const foot = lines.map(([text, colour], i) => label(width / 2, bottom + 24 + 22 * i, text, { colour, size: narrow ? 13 : 14, weight: 600 }));
  const floor = line([[4, half], [width - 4, half]], colours.line, { "stroke-width": 1 });
  const drawn = [
    floor, downs, headings, names, numbered, tables.map(([name, table]) => row(name, table)),
    numbers.states.map((state, i) => tile(state, i + 1, rows.S, most(numbers.states), cell)),
    numbers.grad_states.map((state, i) => tile(state, i + 1, rows.dS, most(numbers.grad_states), cell)),
    cuts, steps, fades, ups, kept, marks, foot,
  ];
  return { height: bottom + 24 + 22 * lines.length, drawn: h("g", {}, drawn) };
}

// Over the upper half the pointer chooses n, over the lower half m.
export function point({ x, y }, stage, { states }) {
  const { left, column, half, bottom } = layout(stage, states[0].length), t = Math.floor((x - left) / column) + 1;
  if (t < 1 || t > TIME || y > bottom) return null;
  return y < half ? { n: t } : { m: t };
}

export default explorable({
  title: "A loss pulls at an output, and its gradient goes back through the states",
  controls, compute, describe, draw, point, play: { control: "n", seconds: 0.8 },
});
