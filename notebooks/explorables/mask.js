// Lesson 5: brush the decay mask. How many states a loop needs is the largest rank of the blocks below the diagonal.

import { box, choice, count, explorable, format, h, heat, hidden, label, line, mix, slider } from "./shared.js";
import { dot } from "./retention.js";

const TIME = 12, WINDOW = 4;
const EXACT = 1e-9, NEARLY = 0.01; // a singular value counts from this share of the largest one of its block

const LAWS = {
  retnet: "RetNet: γ^(n−m)",
  own: "Each token has its own decay",
  ones: "All 1: linear attention",
  two: "Two speeds: mean of γ and γ/2",
  power: "Power law: 1/(1+n−m)",
  window: `Window: the last ${WINDOW} tokens`,
};
const TAKES_GAMMA = ["retnet", "two"];

const cellsOf = ({ painted }) => Object.keys(painted).length;

export const controls = [
  choice("law", "mask", LAWS),
  slider("gamma", "decay γ", {
    value: 0.8, min: 0.5, max: 1, step: 0.01, words: (x, values) => `${x}${values && !TAKES_GAMMA.includes(values.law) ? " (not used)" : ""}`,
  }),
  slider("row", "paint row n", { value: 9, min: 1, max: TIME, words: String }),
  slider("column", "paint column m", { value: 4, min: 1, max: TIME, words: String }),
  slider("paint", "paint with", { value: 1, min: 0, max: 1, step: 0.05, words: (x) => format(x, 2) }),
  hidden("painted", { "9,4": 1 }),
];

// ---------------------------------------------------------------- what it computes

function lawMask(law, gamma, decays) {
  const entry = {
    retnet: (n, m) => gamma ** (n - m),
    own: (n, m) => decays.slice(m + 1, n + 1).reduce((product, decay) => product * decay, 1),
    ones: () => 1,
    two: (n, m) => (gamma ** (n - m) + (gamma / 2) ** (n - m)) / 2,
    power: (n, m) => 1 / (1 + n - m),
    window: (n, m) => (n - m < WINDOW ? 1 : 0),
  }[law];
  return Array.from({ length: TIME }, (_, n) => Array.from({ length: TIME }, (_, m) => (m > n ? 0 : entry(n, m))));
}

// The singular values of a matrix, largest first: rotate pairs of columns until all stand at right angles (Jacobi).
function singularValues(matrix) {
  const columns = matrix[0].map((_, c) => matrix.map((values) => values[c]));
  for (let sweep = 0, turned = true; turned && sweep < 60; sweep++) {
    turned = false;
    for (let i = 1; i < columns.length; i++) for (let j = 0; j < i; j++) {
      const a = columns[i], b = columns[j], aa = dot(a, a), bb = dot(b, b), ab = dot(a, b);
      if (Math.abs(ab) <= 1e-15 * Math.sqrt(aa * bb)) continue;
      turned = true;
      const tau = (bb - aa) / (2 * ab), t = (tau < 0 ? -1 : 1) / (Math.abs(tau) + Math.hypot(1, tau));
      const cos = 1 / Math.hypot(1, t), sin = cos * t;
      columns[i] = a.map((x, at) => cos * x - sin * b[at]);
      columns[j] = a.map((x, at) => sin * x + cos * b[at]);
    }
  }
  return columns.map((column) => Math.sqrt(dot(column, column))).sort((x, y) => y - x).slice(0, matrix.length);
}

const rankOf = (singular, share) => singular.filter((value) => value > share * singular[0]).length;

// Two rows and two columns whose 2 x 2 determinant is the largest: with one factor from row to row it would be 0.
function clash(mask, cut) {
  let best = { size: 0 };
  for (let i = cut; i < TIME; i++) for (let j = i + 1; j < TIME; j++) for (let c = 0; c < cut; c++) for (let d = c + 1; d < cut; d++) {
    const size = Math.abs(mask[i][c] * mask[j][d] - mask[i][d] * mask[j][c]);
    if (size > best.size * (1 + 1e-9)) best = { size, rows: [i, j], columns: [c, d] };
  }
  const { size, rows, columns } = best;
  return { size, rows, columns, cells: rows.map((n) => columns.map((m) => mask[n][m])) };
}

// mask; singular[n-1]: the singular values of the block D[n:, :n], counted from 0; ranks: how many of them count;
// states: the largest rank; nearly: how many carry all but 1 %; cut: the first block of that rank;
// factors[n]: what row n is, as a multiple of the row above, left of the diagonal; null where there is no such number.
export function compute({ law, gamma, painted }, { decays }) {
  const mask = lawMask(law, gamma, decays);
  for (const [cell, value] of Object.entries(painted)) {
    const [n, m] = cell.split(",");
    mask[n - 1][m - 1] = value;
  }
  const cuts = Array.from({ length: TIME - 1 }, (_, i) => i + 1);
  const singular = cuts.map((n) => singularValues(mask.slice(n).map((values) => values.slice(0, n))));
  const ranks = singular.map((values) => rankOf(values, EXACT)), states = Math.max(...ranks), cut = ranks.indexOf(states) + 1;
  const factors = mask.map((values, n) => {
    if (n < 2) return null;
    const now = values.slice(0, n - 1), above = mask[n - 1].slice(0, n - 1), size = dot(above, above);
    return size > 0 && rankOf(singularValues([above, now]), EXACT) < 2 ? dot(now, above) / size : null;
  });
  return {
    mask, singular, ranks, states, cut, factors, nearly: Math.max(...singular.map((values) => rankOf(values, NEARLY))),
    clash: states > 1 ? clash(mask, cut) : null,
  };
}

// Whether token n, counted from 0, reads nothing of its past: any row may follow.
const isSilent = (mask, n) => mask[n].slice(0, n).every((value) => value === 0);

// ---------------------------------------------------------------- what it says

export function describe({ states, nearly, cut, factors, clash: found }, values) {
  const painted = cellsOf(values), start = `${LAWS[values.law]}${painted ? `, ${count(painted, "cell")} painted` : ""}. `;
  if (states === 0) return `${start}Nothing below the diagonal is left, so a loop needs no state.`;
  if (states === 1) {
    const known = factors.filter((factor) => factor !== null);
    if (known.length < TIME - 2)
      return `${start}Every block below the diagonal has rank at most 1: its rows are multiples of one row, so one state is enough. ` +
        "A row of zeros is a token that reads nothing of the past.";
    const low = format(Math.min(...known)), high = format(Math.max(...known));
    const each = low === high ? `× ${low}` : `× a number of its own, ${low} to ${high}`;
    return `${start}Every block below the diagonal has rank 1: each row is the row above ${each}. So one ` +
      "state is enough: at each token the loop multiplies it by that number and adds the new k and v. The diagonal is free, for a token reads itself directly.";
  }
  const { rows: [i, j], columns: [c, d], cells: [[a, b], [e, f]] } = found;
  const less = nearly < states ? ` ${nearly} of them carry all but 1 %.` : "";
  return `${start}The block of tokens ${cut + 1} to ${TIME} and past tokens 1 to ${cut} has rank ${states}, so a loop must carry ${states} states.${less} ` +
    `No loop with one number per token, its factor, computes this: from row ${i + 1} to row ${j + 1}, column ${c + 1} goes from ${format(a)} to ${format(e)}, ` +
    `but column ${d + 1} from ${format(b)} to ${format(f)}.`;
}

// ---------------------------------------------------------------- how it looks

function layout({ width }) {
  const cell = Math.max(14, Math.min(40, Math.floor((Math.min(width, 640) - 126) / TIME)));
  const left = Math.max(22, Math.min((width - TIME * cell - 96) / 2, 110)), top = 46;
  return { cell, left, top, side: cell * TIME };
}

const shade = (colours, value) => mix(colours.paper, colours.blue, 0.08 + 0.92 * value);

export function draw(stage, { mask, ranks, states, nearly, cut, factors, clash: found }, { row, column, painted }) {
  const { colours } = stage, { cell, left, top, side } = layout(stage), at = (i) => i * cell, broken = states > 1;
  const tone = broken ? colours.red : colours.blue, quiet = { colour: colours.muted, size: 12 };
  const shown = mask.map((values, n) => values.map((value, m) => (m > n ? null : value)));
  const paint = (value, n, m) => (m > n ? colours.faint : value === 0 ? colours.paper : shade(colours, value));
  const grid = heat(colours, shown, { x: left, y: top, cell, fill: paint });
  const brushed = Object.keys(painted).map((key) => {
    const [n, m] = key.split(",").map(Number);
    return h("circle", { cx: left + at(m) - 6, cy: top + at(n - 1) + 6, r: 3.5, fill: colours.orange, stroke: colours.paper, "stroke-width": 1 });
  });
  const names = Array.from({ length: TIME }, (_, i) => cell < 20 && i % 2 ? "" :
    label(left - 6, top + at(i + 0.5), i + 1, { ...quiet, at: "end" }) + label(left + at(i + 0.5), top + side + 12, i + 1, quiet));
  const rankX = left + side + 18, factorX = left + side + 62;
  const heads = label(rankX, top - 12, "rank", quiet) + label(factorX, top - 12, "factor", quiet);
  const strips = mask.map((_, n) => {
    const y = top + at(n + 0.5), rank = ranks[n - 1], factor = factors[n];
    const first = n ? label(rankX, y, rank, { colour: rank > 1 ? colours.red : colours.blue, weight: rank > 1 ? 700 : 400 }) : "";
    const alike = n > 1 && (factor !== null ? label(factorX, y, `× ${format(factor, 2)}`, { colour: colours.blue, size: 12 })
      : isSilent(mask, n - 1) ? label(factorX, y, "any", quiet) : label(factorX, y, "none", { colour: colours.red, size: 12 }));
    return first + (alike || "");
  });
  const block = broken && box(left, top + at(cut), at(cut), side - at(cut), "none", { stroke: tone, "stroke-width": 2.5, "stroke-dasharray": "7 4" });
  const proof = found && found.rows.map((n) => found.columns.map((m) =>
    box(left + at(m) + 1.5, top + at(n) + 1.5, cell - 3, cell - 3, "none", { stroke: colours.red, "stroke-width": 3 })));
  const m = Math.min(row, column);
  const chosen = box(left + at(m - 1), top + at(row - 1), cell, cell, "none", { stroke: colours.orange, "stroke-width": 2 });
  // In the corner of the future, where nothing stands: how many states the loop carries, as boxes.
  const size = Math.min(16, 0.8 * cell), right = left + side - 10, boxes = Array.from({ length: states }, (_, i) =>
    box(right - (states - i) * (size + 4) + 4, top + 0.2 * cell + 44, size, size, i && broken ? colours.red : colours.blue, { rx: 2 }));
  const words = [
    label(right, top + 0.2 * cell + 12, count(states, "state"), { colour: tone, size: cell < 24 ? 18 : 24, weight: 700, at: "end" }),
    label(right, top + 0.2 * cell + 32, broken ? "no loop with one" : "one loop does it", { colour: colours.ink, size: cell < 24 ? 12 : 13, at: "end" }),
    boxes,
    broken && nearly < states ? label(right, top + 0.2 * cell + 72, `${nearly} to within 1 %`, { ...quiet, at: "end" }) : "",
  ];
  const axis = label(left + side / 2, top + side + 32, "past token m", { ...quiet, colour: colours.ink }) +
    label(left - 22, top - 12, "token n", { ...quiet, colour: colours.ink, at: "start" });
  const future = line([[left, top], [left, top + side], [left + side, top + side]], colours.line, { "stroke-width": 1 });
  return { height: top + side + 48, drawn: h("g", {}, grid, future, names, axis, heads, strips, chosen, proof || "", block || "", brushed, words) };
}

// Drag over the triangle: the cells under the pointer take the value of the brush.
export function point({ x, y, pressed }, stage, numbers, { paint, painted }) {
  if (!pressed) return null;
  const { cell, left, top } = layout(stage), row = Math.floor((y - top) / cell) + 1, column = Math.floor((x - left) / cell) + 1;
  if (column < 1 || column > row || row > TIME) return null;
  return { row, column, ...(painted[`${row},${column}`] === paint ? {} : { painted: { ...painted, [`${row},${column}`]: paint } }) };
}

export default explorable({
  title: "How many states a loop needs for a decay mask",
  controls, compute, describe, draw, point,
  press: {
    paint: {
      title: "Paint or unpaint the cell",
      act: ({ row, column, paint, painted }) => {
        const key = `${row},${Math.min(row, column)}`, { [key]: old, ...others } = painted;
        return { painted: old === paint ? others : { ...others, [key]: paint } };
      },
    },
    clear: { title: "Clear the paint", act: () => ({ painted: {} }) },
  },
});
