// Lessons 0, 4 and 6: the three forms of one retention side by side. Row n of each is token n, and ends in its output.

import { arrow, box, explorable, format, h, heat, label, mix, slider } from "./shared.js";
import { chunkwise, decayMask, parallel, recurrent, write, zeros } from "./retention.js";

const TIME = 9, NAMED = { 1: "1: recurrent", [TIME]: `${TIME}: parallel` };

export const controls = [
  slider("n", "token n reads", { value: 8, min: 1, max: TIME, words: (n) => `token ${n}` }),
  slider("m", "token m is read", { value: 2, min: 1, max: TIME, words: (m) => `token ${m}` }),
  slider("gamma", "decay γ", { value: 0.75, min: 0.5, max: 1, step: 0.01, words: (x) => `${format(x)} a token` }),
  slider("size", "chunk size C", { value: 3, min: 1, max: TIME, words: (size) => NAMED[size] ?? `${size} tokens` }),
];

// weights (T, T); writes, states (T, K, V): what each token adds, the state after it; parallel, recurrent, chunkwise
// (T, V): the outputs; carried: the states after the tokens `ends`, where chunks end; start: tokens before the chunk of
// n; lag, score, decay, weight: of the pair (n, m); difference: of any two forms, at most; largest: the largest output.
export function compute({ n, m, gamma, size }, { q, k, v }) {
  const ends = Array.from({ length: Math.ceil(q.length / size) }, (_, i) => Math.min((i + 1) * size, q.length));
  const all = parallel(q, k, v, gamma), chain = recurrent(q, k, v, gamma), chunks = chunkwise(q, k, v, gamma, ends);
  const nothing = zeros(k[0].length, v[0].length), outs = [all.out, chain.out, chunks.out];
  const apart = (a, b) => Math.max(...a.flatMap((values, token) => values.map((x, c) => Math.abs(x - b[token][c]))));
  return {
    weights: all.weights, writes: k.map((key, token) => write(nothing, key, v[token], gamma)), states: chain.states,
    carried: chunks.carried, ends, start: size * Math.floor((n - 1) / size),
    parallel: all.out, recurrent: chain.out, chunkwise: chunks.out,
    lag: n - m, score: all.scores[n - 1][m - 1], decay: decayMask(q.length, gamma)[n - 1][m - 1],
    weight: all.weights[n - 1][m - 1],
    difference: Math.max(apart(outs[0], outs[1]), apart(outs[0], outs[2]), apart(outs[1], outs[2])),
    largest: Math.max(...all.out.flat()),
  };
}

export function describe({ lag, weight, start, difference, largest }, { n, m }) {
  const faded = m === n ? "not yet faded" : `faded ${lag === 1 ? "once" : `${lag} times`} by γ`;
  const place = m > start ? "a cell of the block" : `a part of the carried state S${start}`;
  const pair = m > n ? `Token ${m} comes after token ${n}, so no form lets token ${n} read it.`
    : `Token ${n} reads token ${m} with the weight ${format(weight)}: one cell in the parallel form, the write of ` +
      `token ${m}, ${faded}, in the recurrent form, and ${place} in the chunkwise form.`;
  return `${pair} One sum in three orders: the outputs of the three forms differ by at most ` +
    `${format(difference, 2)}, where the largest output is ${format(largest)}.`;
}

const HEAD = 68;

// Where things stand: panels one beside another, or one below another on a narrow stage.
function layout({ width, narrow }) {
  const gap = 26, panel = narrow ? width : (width - 2 * gap) / 3, rowHeight = narrow ? 30 : 36, gutter = 18;
  const cell = Math.min(36, (panel - gutter - 52) / TIME), out = TIME * cell + 14, high = HEAD + TIME * rowHeight + 34;
  const corners = [0, 1, 2].map((i) =>
    (narrow ? { x: gutter, y: HEAD + i * (high + 18) } : { x: i * (panel + gap) + gutter, y: HEAD }));
  const tile = { width: Math.max(24, 0.13 * out), height: rowHeight - 14 }, all = narrow ? 3 * high + 36 : high;
  return { gap, panel, rowHeight, gutter, cell, corners, out, tile, writeAt: 0.08 * out, stateAt: 0.5 * out, all };
}

const raised = (power) => (power === 1 ? "" : [...String(power)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join(""));

export function draw(stage, numbers, { n, m, gamma, size }) {
  const { colours, narrow, width } = stage, { weights, writes, states, carried, ends, start, largest } = numbers;
  const { rowHeight, gutter, cell, corners, out, tile, panel, writeAt, stateAt, all, gap } = layout(stage);
  const seen = m <= n, inside = m > start, peak = Math.max(...weights.flat()), full = Math.max(...states.flat(2));
  const shade = (name, limit) => (value) =>
    (value === null ? "none" : mix(colours.paper, colours[name], (0.9 * value) / limit));
  const frame = (x, y, w, height, colour, more) =>
    box(x, y, w, height, "none", { stroke: colours[colour], "stroke-width": 2.5, ...more });
  const dashed = { "stroke-dasharray": "5 3", "stroke-width": 2 };
  const middle = (row, y) => y + (row + 0.5) * rowHeight;
  const muted = { colour: colours.muted, size: 12 };
  const halo = { stroke: colours.paper, "stroke-width": 4, "paint-order": "stroke" };
  // The way of token m is purple, what token n reads is ink, all else is quiet.
  const way = (lit, from, to) => arrow(from, to, lit ? colours.purple : colours.muted, { width: lit ? 3.5 : 1.5 });
  const reading = (lit, from, to) => arrow(from, to, lit ? colours.ink : colours.line, { width: lit ? 2.5 : 1.4 });
  const words = (lit, x, y, text) =>
    label(x, y, text, { ...muted, at: "start", ...(lit && { colour: colours.purple, weight: 700 }), ...halo });

  const heading = (i, name, formula) => {
    const x = corners[i].x - gutter, y = corners[i].y;
    return label(x, y - 58, name, { colour: colours.ink, size: 15, weight: 600, at: "start" }) +
      label(x, y - 38, formula, { ...muted, at: "start" });
  };
  const tokens = ({ x, y }) => weights.map((_, row) => {
    const look = row === n - 1 ? { colour: colours.ink, weight: 700 } : {};
    return label(x - 6, middle(row, y), row + 1, { ...muted, at: "end", ...look });
  });
  const outputs = (i, values) => {
    const { x, y } = corners[i], right = x + out + 36, below = y + TIME * rowHeight + 18;
    const green = { colour: colours.green };
    const place = { x: x + out, y, cell: rowHeight, cellWidth: 12, write: false, fill: shade("green", largest) };
    const text = `o_{${n}} = ( ${values[n - 1].map((value) => format(value)).join("  ")} )`;
    return heat(colours, values, place) + frame(x + out, y + (n - 1) * rowHeight, 36, rowHeight, "ink") +
      label(right - 18, y - 12, "o_{n}", { ...green, size: 14 }) +
      label(right, below, text, { ...green, at: "end", weight: 600 }) +
      (i && !narrow ? label(x - gutter - gap / 2, below, "=", { colour: colours.ink, size: 18 }) : "");
  };
  // The cells (n, m) that `has` keeps, on a floor for the future.
  const grid = ({ x, y }, has) => {
    const floor = weights.map((_, row) =>
      box(x + (row + 1) * cell, y + row * rowHeight, (TIME - row - 1) * cell, rowHeight, colours.faint));
    const kept = weights.map((values, row) => values.map((value, column) => (has(row, column) ? value : null)));
    const place = { x, y, cell: rowHeight, cellWidth: cell, write: false, fill: shade("blue", peak) };
    return floor.join("") + heat(colours, kept, place) +
      label(x + TIME * cell - 6, y + 20, "the future: 0", { ...muted, at: "end" }) +
      weights.map((_, column) => {
        const look = column === m - 1 ? { colour: colours.purple, weight: 700 } : {};
        return label(x + (column + 0.5) * cell, y - 12, column + 1, { ...muted, ...look });
      }).join("");
  };
  // Dashed where token m is the future of token n.
  const pair = ({ x, y }) =>
    frame(x + (m - 1) * cell, y + (n - 1) * rowHeight, cell, rowHeight, "purple", seen ? { "stroke-width": 4 } : dashed);
  const stateTile = (state, x, y, colour, { width: w, height } = tile) => {
    const place = { x, y: y - height / 2, cell: height / state.length, cellWidth: w / state[0].length };
    return heat(colours, state, { ...place, write: false, fill: shade("orange", full) }) +
      frame(x, y - height / 2, w, height, colour, colour === "orange" && { "stroke-width": 1 });
  };

  const matrix = (corner) => {
    const { x, y } = corner, last = Math.min(start + size, TIME), across = start * cell;
    const free = n - 1 === start ? last - 1 : start; // a row of the chunk where words do not hide row n
    const rest = start ? frame(x, y + start * rowHeight, across, (last - start) * rowHeight, "orange", dashed) : "";
    const named = across > 36 && free !== n - 1
      ? label(x + across / 2, middle(free, y), `${across > 90 ? "held " : ""}in S_{${start}}`, { colour: colours.orange, size: 14, ...halo }) : "";
    return grid(corner, (row, column) => column <= row) + rest + named +
      frame(x, y + (n - 1) * rowHeight, n * cell, rowHeight, "ink") + pair(corner);
  };
  const chain = ({ x, y }) => {
    const left = x + writeAt, at = x + stateAt, centre = at + tile.width / 2, plus = (left + tile.width + at) / 2;
    const half = tile.height / 2 + 1;
    const head = [[left + tile.width / 2, "kᵀv"], [centre, "S_{n}"]];
    return head.map(([place, text]) => label(place, y - 12, text, { colour: colours.orange, size: 14 })).join("") +
      states.map((state, row) => {
        const level = middle(row, y), here = seen && row === m - 1, passed = seen && row < n && row >= m;
        const fades = row ? way(passed, [centre, level - rowHeight + half], [centre, level - half]) +
          words(passed, centre + 9, level - rowHeight / 2, "×γ") : "";
        return stateTile(writes[row], left, level, here ? "purple" : "orange") +
          stateTile(state, at, level, row === n - 1 ? "ink" : "orange") +
          label(plus - 10, level, "+", { colour: here ? colours.purple : colours.muted, size: 15, weight: 600 }) +
          way(here, [plus - 2, level], [at - 3, level]) + fades +
          reading(row === n - 1, [at + tile.width + 4, level], [x + out - 3, level]);
      }).join("");
  };
  const blocks = (corner) => {
    const { x, y } = corner, at = x + 2, half = tile.height / 2 + 1;
    const middles = ends.map((end, i) => y + ((i * size + end) / 2) * rowHeight);
    const held = ends.slice(1).map((end, i) => {
      const before = ends[i], edge = x + before * cell, top = y + before * rowHeight, level = middles[i + 1];
      const sized = { width: Math.min(tile.width, before * cell - 5), height: tile.height }, mine = before === start;
      const right = at + sized.width, centre = at + sized.width / 2, from = edge - (Math.min(size, 3) / 2) * cell;
      const entered = seen && m <= before && before <= start, written = entered && m > before - size;
      const edged = mine ? dashed : { ...dashed, "stroke-width": 0.8 };
      const alone = end - before === 1; // no room for words below the tile
      const region = alone && !mine ? "" : frame(x, top, before * cell, (end - before) * rowHeight, "orange", edged);
      const older = entered && !written, fades = i ? way(older, [centre, middles[i] + half], [centre, level - half]) +
        (size === 1 ? "" : words(older, centre + 9, (middles[i] + level) / 2 + 9, `×γ${raised(size)}`)) : "";
      const wrote = way(written, [from, top - 4], [Math.min(right, at + 18), level - half]);
      const name = label(right + 6, level + 13, `S_{${before}}`, { colour: colours.orange, size: 14, at: "start" });
      return region + wrote + fades + (edge - right > 8 ? reading(mine, [right + 2, level], [edge - 2, level]) : "") +
        (edge - right > 34 && !alone ? name : "") + stateTile(carried[i], at, level, mine ? "ink" : "orange", sized);
    });
    const outlines = ends.map((end, i) => [x + i * size * cell, y + i * size * rowHeight, end - i * size])
      .map(([left, top, side]) => frame(left, top, side * cell, side * rowHeight, "blue", { "stroke-width": 1.2 }));
    return grid(corner, (row, column) => column <= row && column >= row - (row % size)) +
      outlines.join("") + held.join("") + (inside ? pair(corner) : "") +
      frame(x + start * cell, y + (n - 1) * rowHeight, (n - start) * cell, rowHeight, "ink");
  };

  const wide = panel > 235;
  const headings = [
    ["Parallel", `${wide ? "all pairs at once: " : ""}O = (QKᵀ ⊙ D) V`],
    ["Recurrent", `${wide ? "token by token: " : ""}S_{n} = γ S_{n−1} + kᵀv`],
    ["Chunkwise", wide ? `pairs in blocks of ${size}, states between` : "blocks, states between"],
  ];
  const outs = [numbers.parallel, numbers.recurrent, numbers.chunkwise];
  const panels = [matrix, chain, blocks].map((drawn, i) =>
    h("g", {}, heading(i, ...headings[i]), tokens(corners[i]), drawn(corners[i]), outputs(i, outs[i])));
  const factors = `${format(numbers.score)} × ${format(numbers.decay)} = ${format(numbers.weight)}`;
  const lines = [
    ...(seen ? [`weight of token ${m} for token ${n}:`, `q·k × γ${n === m ? "⁰" : raised(numbers.lag)} = ${factors}`]
      : [`token ${m} is the future of token ${n}:`, "weight 0"]).map((text) => [text, colours.purple]),
    ...["largest difference of the three forms:", format(numbers.difference, 2)].map((text) => [text, colours.ink]),
  ];
  const joined = narrow ? lines : [0, 2].map((i) => [`${lines[i][0]}  ${lines[i + 1][0]}`, lines[i][1]]);
  const foot = joined.map(([text, colour], i) =>
    label(width / 2, all + 14 + 22 * i, text, { colour, size: narrow ? 13 : 14, weight: 600 }));
  return { height: all + 10 + 22 * joined.length, drawn: [...panels, ...foot].join("") };
}

// Over a cell: its row reads, its column is read. In the recurrent form a write is read, a state reads.
export function point({ x, y }, stage) {
  const { corners, rowHeight, cell, out, stateAt, writeAt, tile } = layout(stage);
  for (const [i, corner] of corners.entries()) {
    const across = x - corner.x, row = Math.floor((y - corner.y) / rowHeight) + 1;
    if (row < 1 || row > TIME || across < 0 || across > out + 36) continue;
    if (across >= TIME * cell) return { n: row };
    if (i !== 1) return { n: row, m: Math.floor(across / cell) + 1 };
    return across < (writeAt + tile.width + stateAt) / 2 ? { m: row } : { n: row };
  }
  return null;
}

export default explorable({
  title: "Three forms of one retention: a matrix, a chain of states, and blocks with states between them",
  controls, compute, describe, draw, point, play: { control: "n", seconds: 0.8 },
});
