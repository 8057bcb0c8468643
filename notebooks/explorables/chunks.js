// Lesson 6: cut a text into chunks anywhere. The result stays, the work changes, and six mistakes show each in its own way.

import { box, choice, count, explorable, format, h, label, line, mix, on, scale, slider } from "./shared.js";
import { chunkDecays, chunkwise, decayMask, recurrent } from "./retention.js";

const TIME = 12, EQUAL = 1e-9; // up to which share of the largest output a difference is rounding

// What each mistake is, and what can be seen of it.
const MISTAKES = {
  none: ["none", ""],
  zeta: ["no ζ", "Without ζ, the decay from a token to the end of its chunk, a state no longer knows which token of a past chunk was the older one: all have one weight."],
  own: ["reads its own state", "A chunk that reads the state after it counts itself twice, and its first tokens see later ones."],
  xi: ["ξ off by one: γ^(j−1)", "ξ is the decay from the state to token j of a chunk, γ^j: with γ^(j−1) all that comes through a state is too strong, by 1/γ."],
  late: ["ζ off by one: γ^(c−j+1)", "ζ is the decay from token j to the end of its chunk of c, γ^(c−j): with γ^(c−j+1) each token enters the state too faint, by γ."],
  tail: ["tail uses C", "A chunk shorter than the longest ages its state by γ^C, not γ^c: what was before is too faint."],
  step: ["γ for γ^c", "With γ in place of γ^c a state ages by one token a chunk: what crosses a whole chunk is too strong."],
};

const cut = (number, value) =>
  slider(`cut${number}`, `cut ${number}`, { value, min: 0, max: TIME, words: (x) => (x % TIME ? `after token ${x}` : "no cut") });

export const controls = [
  cut(1, 3), cut(2, 7), cut(3, 9),
  slider("gamma", "decay γ", { value: 0.8, min: 0.5, max: 1, step: 0.01, words: String }),
  choice("mistake", "mistake", Object.fromEntries(Object.entries(MISTAKES).map(([name, [title]]) => [name, title]))),
];

const endsOf = ({ cut1, cut2, cut3 }) => [...new Set([cut1, cut2, cut3, TIME])].filter((end) => end > 0).sort((a, b) => a - b);

// ---------------------------------------------------------------- what it computes

// The decays of a chunk with a mistake in them; longest: the tokens of the longest chunk.
const brokenDecays = (mistake, longest) => (gamma, size) => {
  const right = chunkDecays(gamma, size), long = chunkDecays(gamma, longest);
  return {
    ...right,
    ...{
      zeta: { zeta: right.zeta.map(() => 1) },
      xi: { xi: right.xi.map((_, j) => gamma ** j) },
      late: { zeta: right.zeta.map((_, j) => gamma ** (size - j)) },
      tail: { zeta: long.zeta.slice(0, size), whole: long.whole },
      step: { whole: gamma },
    }[mistake],
  };
};

// The largest difference of two tables of rows.
const apart = (a, b) => Math.max(...a.flatMap((values, r) => values.map((x, c) => Math.abs(x - b[r][c]))));

// sizes: the tokens of each chunk; mask: the decays that this program applies (q and k are 1, v the unit matrix), right: D;
// errors: of each output, and stateError of the last state, from those one by one, as shares of the largest one;
// work: { scores, states, steps } of all pairs, of these chunks and of one by one, a multiplication and an addition each.
export function compute({ gamma, mistake, ...cuts }, { q, k, v }) {
  const ends = endsOf(cuts), sizes = ends.map((end, i) => end - (ends[i - 1] ?? 0));
  const wrong = { decays: brokenDecays(mistake, Math.max(...sizes)), ownState: mistake === "own" };
  const ones = q.map(() => [1]), unit = q.map((_, n) => q.map((_, m) => (n === m ? 1 : 0)));
  const mask = chunkwise(ones, ones, unit, gamma, ends, undefined, wrong).out, right = decayMask(TIME, gamma);
  const got = chunkwise(q, k, v, gamma, ends, undefined, wrong), want = recurrent(q, k, v, gamma);
  const largest = (rows) => Math.max(...rows.flat().map(Math.abs));
  const errors = want.out.map((values, n) => apart([got.out[n]], [values]) / largest(want.out));
  const K = k[0].length, V = v[0].length, state = want.states.at(-1);
  const scores = (parts) => parts.reduce((sum, c) => sum + 2 * c * c * (K + V), 0), states = 4 * TIME * K * V;
  return {
    ends, sizes, mask, right, errors, largest: Math.max(...errors), stateError: apart(got.carried.at(-1), state) / largest(state),
    work: {
      pairs: { scores: scores([TIME]), states: 0, steps: 1 },
      chunks: { scores: scores(sizes), states, steps: sizes.length },
      single: { scores: scores(new Array(TIME).fill(1)), states, steps: TIME },
    },
  };
}

// ---------------------------------------------------------------- what it says

const operations = ({ scores, states }) => scores + states;
const share = (x) => `${format(100 * x, 2)} %`;

// "4 to 6, 9 and 12": the tokens that are true in a list.
function runs(flags) {
  const found = [];
  flags.forEach((flag, n) => {
    if (flag && flags[n - 1]) found.at(-1)[1] = n + 1;
    else if (flag) found.push([n + 1, n + 1]);
  });
  const words = found.map(([from, to]) => (from === to ? `${from}` : `${from} to ${to}`));
  return words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : words[0];
}

export function describe({ sizes, errors, largest, stateError, work }, { mistake }) {
  const cutInto = sizes.length === 1 ? "One chunk of 12 tokens" : `Chunks of ${sizes.slice(0, -1).join(", ")} and ${sizes.at(-1)} tokens`;
  const start = `${cutInto}: ${count(operations(work.chunks), "operation")} in ${count(sizes.length, "step")}, each waiting for the one before; all pairs take ` +
    `${format(operations(work.pairs), 6)} in 1, one by one ${format(operations(work.single), 6)} in ${TIME}. `;
  const [, why] = MISTAKES[mistake];
  if (!why) return `${start}The outputs are those of one by one, wherever the cuts are: the largest difference is ${format(largest, 1)} of the largest output.`;
  const off = errors.map((error) => error > EQUAL);
  if (off.includes(true)) return `${start}${why} Outputs ${runs(off)} are wrong, by up to ${share(largest)} of the largest output.`;
  if (stateError > EQUAL)
    return `${start}${why} Here every output is right, yet the last state is off by ${share(stateError)}: a test of outputs passes, and the next call fails.`;
  return `${start}${why} With these cuts and this γ it shows nowhere: a test with them passes.`;
}

// ---------------------------------------------------------------- how it looks

function layout({ width, narrow }) {
  const cell = narrow ? Math.min(26, Math.floor((width - 108) / TIME)) : Math.min(42, Math.floor((width - 360) / TIME));
  return { cell, left: 30, top: 58, side: cell * TIME };
}

function table({ colours }, { work, largest, stateError }, { left, top, width }) {
  const rows = [["all pairs", work.pairs], ["these chunks", work.chunks], ["one by one", work.single]];
  const x = scale([0, work.pairs.scores + work.chunks.states], [0, width - 62]), quiet = { colour: colours.muted, size: 12, at: "start" };
  const bars = rows.map(([name, each], i) => {
    const y = top + 20 + 50 * i, chosen = i === 1, blue = x(each.scores), orange = x(each.states);
    return label(left, y, name, { colour: colours.ink, at: "start", weight: chosen ? 700 : 400 }) +
      label(left + width, y, count(each.steps, "step"), { colour: colours.ink, at: "end", weight: chosen ? 700 : 400 }) +
      box(left, y + 11, blue, 16, colours.blue) + box(left + blue, y + 11, orange, 16, colours.orange) +
      label(left + blue + orange + 6, y + 19, format(operations(each), 6), { colour: colours.ink, at: "start", weight: chosen ? 700 : 400 });
  });
  const key = box(left, top + 169, 11, 11, colours.blue) + label(left + 16, top + 175, "scores in blocks", quiet) +
    box(left + 128, top + 169, 11, 11, colours.orange) + label(left + 144, top + 175, "states", quiet);
  const result = [["outputs", largest], ["last state", stateError]].map(([name, error], i) => {
    const wrong = error > EQUAL, y = top + 212 + 26 * i;
    return label(left, y, name, { colour: colours.ink, at: "start" }) +
      label(left + 76, y, wrong ? `off by ${share(error)}` : `equal, to ${format(error || 1e-16, 1)}`,
        { colour: wrong ? colours.red : colours.green, size: 16, weight: 700, at: "start" });
  });
  return label(left, top - 6, "operations", quiet) + label(left + width, top - 6, "one after another", { ...quiet, at: "end" }) + bars.join("") + key + result.join("");
}

export function draw(stage, numbers, values) {
  const { colours, width, narrow } = stage, { cell, left, top, side } = layout(stage), { ends, mask, right, errors } = numbers;
  const starts = ends.map((_, i) => ends[i - 1] ?? 0), at = (i) => i * cell, quiet = { colour: colours.muted, size: 12 };
  const chunkOf = (n) => ends.findIndex((end) => n < end);
  const wrongAt = (n, m) => Math.abs(mask[n][m] - right[n][m]) > EQUAL;
  const cells = mask.flatMap((row, n) => row.map((value, m) => {
    const x = left + at(m), y = top + at(n), inside = chunkOf(n) === chunkOf(m), wrong = wrongAt(n, m);
    if (!inside && m > n) return box(x, y, cell, cell, colours.faint);
    if (m > n && !wrong) return box(x, y, cell, cell, mix(colours.paper, colours.blue, 0.08));
    const colour = mix(colours.paper, wrong ? colours.red : inside ? colours.blue : colours.orange, wrong ? 0.25 + 0.6 * Math.min(1, value) : 0.1 + 0.8 * value);
    const sign = value > right[n][m] ? "↑" : "↓", number = cell >= 36 ? format(value, 2) : "";
    const text = wrong ? (cell >= 36 && value < 10 ? `${format(Math.round(100 * value) / 100, 2)}${sign}` : sign) : inside ? number : "";
    return box(x, y, cell, cell, colour, { stroke: colours.paper, "stroke-width": 1 }) +
      (text && label(x + cell / 2, y + cell / 2, text, { colour: on(colour), size: 12 }));
  }));
  const areas = ends.map((end, i) => {
    const start = starts[i], halo = { stroke: colours.paper, "stroke-width": 5, "paint-order": "stroke", "stroke-linejoin": "round" };
    const clean = ![...Array(start).keys()].some((m) => wrongAt(start, m) || wrongAt(end - 1, m));
    return box(left + at(start), top + at(start), at(end - start), at(end - start), "none", { stroke: colours.blue, "stroke-width": 2.5 }) +
      (start ? box(left, top + at(start), at(start), at(end - start), "none", { stroke: colours.orange, "stroke-width": 2, "stroke-dasharray": "5 3" }) : "") +
      (start && clean ? label(left + at(start / 2), top + at((start + end) / 2), at(start) > 92 ? `reads S_{${start}}` : `S_{${start}}`,
        { colour: colours.orange, size: 15, weight: 700, ...halo }) : "");
  });
  const handles = ends.slice(0, -1).map((end) => {
    const x = left + at(end);
    return line([[x, top - 30], [x, top + at(end)]], colours.ink, { "stroke-width": 1.2, "stroke-dasharray": "2 3" }) +
      h("circle", { cx: x, cy: top - 34, r: 9, fill: colours.ink }) + label(x, top - 34, "↔", { colour: colours.paper, size: 13 }) +
      h("circle", { cx: x, cy: top + at(end), r: 5, fill: colours.ink, stroke: colours.paper, "stroke-width": 1.5 });
  });
  const sparse = cell < 20;
  const names = mask.map((_, i) => (sparse && i % 2 ? "" : label(left + at(i + 0.5), top - 10, i + 1, quiet) +
    label(left - 6, top + at(i + 0.5), i + 1, { ...quiet, at: "end" })));
  const outputs = errors.map((error, n) => label(left + side + 8, top + at(n + 0.5), error > EQUAL ? `off ${share(error)}` : "equal",
    { colour: error > EQUAL ? colours.red : colours.green, size: 12, at: "start", weight: error > EQUAL ? 700 : 400 }));
  const titles = label(left - 22, top + side + 16, "rows: token n; columns: past token m", { ...quiet, at: "start" }) +
    label(left + side + 8, top - 10, "output", { ...quiet, at: "start" });
  const legend = label(left - 22, top + side + 34, "↑ weighs too much, ↓ too little", { ...quiet, colour: colours.red, at: "start" });
  const wrong = mask.some((row, n) => row.some((_, m) => wrongAt(n, m)));
  const foot = top + side + 50;
  const panel = narrow ? { left: 8, top: foot + 14, width: width - 16 } : { left: left + side + 92, top: 60, width: width - left - side - 100 };
  const drawn = [cells, areas, names, outputs, handles, titles, wrong ? legend : "", table(stage, numbers, panel)];
  return { height: narrow ? panel.top + 256 : Math.max(foot, panel.top + 256), drawn: h("g", {}, drawn) };
}

// Drag: the cut that is nearest follows the pointer, along the ruler or along either side of a block.
export function point({ x, y, pressed, start }, stage, numbers, values) {
  if (!pressed || !start || (x === start.x && y === start.y)) return null;
  const { cell, left, top, side } = layout(stage);
  if (start.x > left + side + cell || start.y > top + side + cell) return null;
  const across = start.y < top || Math.abs(x - start.x) > Math.abs(y - start.y);
  const place = Math.min(Math.max((across ? x - left : y - top) / cell, 0), TIME);
  const names = ["cut1", "cut2", "cut3"], away = (name) => Math.abs(values[name] - place);
  const nearest = names.reduce((best, name) => (away(name) < away(best) ? name : best));
  return { [nearest]: Math.round(place) };
}

export default explorable({
  title: "Chunks of any length: what is computed, what it costs, and what goes wrong",
  controls, compute, describe, draw, point,
});
