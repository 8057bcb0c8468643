// Lesson 5: the decay mask in float32, computed in three ways. Two of them lose tokens once a power of gamma overflows.

import { axes, box, choice, explorable, format, h, label, line, mix, on, scale, slider } from "./shared.js";

const RECIPES = { split: "γ^n · γ^−m, then the mask", late: "γ^(n−m), times the mask", early: "the mask, then γ^(n−m)" };
const LARGEST = 3.4e38, SMALLEST = 1.4e-45;

const tokens = (length) => Math.round(2 ** length);
const place = (part, length) => Math.max(1, Math.round(part * tokens(length)));
const named = (power) => `${2 ** power - 1}/${2 ** power}`;
const whole = (x) => format(x, 6);
const raised = (exponent) => `γ^${exponent}`.replace("-", "\u2212");

export const controls = [
  choice("recipe", "computed as", RECIPES),
  slider("power", "decay γ", { value: 5, min: 1, max: 8, words: (x) => `${named(x)}${x < 5 ? "" : `, head ${x - 5}`}` }),
  slider("length", "tokens T", { value: 12, min: 4, max: 13, step: 0.05, words: (x) => whole(tokens(x)) }),
  slider("row", "entry: token n", { value: 0.78, min: 0, max: 1, step: 0.005, words: (x, { length }) => whole(place(x, length)) }),
  slider("column", "entry: token m", { value: 0.77, min: 0, max: 1, step: 0.005, words: (x, { length }) => whole(place(x, length)) }),
];

// ---------------------------------------------------------------- what it computes

// gamma^exponent in float32: the power in float64, rounded once, as refimpl does it.
const power32 = (gamma, exponent) => Math.fround(gamma ** exponent);

// The first exponent of 1, 2, ... for which `holds`, which is false up to there and true from there on.
function firstWhere(holds, guess) {
  let j = Math.max(1, Math.round(guess));
  while (!holds(j)) j++;
  while (j > 1 && holds(j - 1)) j--;
  return j;
}

// infiniteFrom: the first m for which gamma^-m is infinite; zeroFrom: the first n for which gamma^n is 0;
// highest, lowest: [j, gamma^-j] and [j, gamma^j], the last of T tokens that are finite and above 0; lost: how many outputs are infinite or no number, from firstLost to
// lastLost; infinite, undefinedEntries: how many entries of the mask are; n, m, shrunk, grown, entry, right: one entry,
// the two factors of the split, what the recipe gives and what is right.
export function compute({ recipe, power, length, row, column }) {
  const gamma = 1 - 2 ** -power, T = tokens(length), n = place(row, length), m = place(column, length), per = -Math.log(gamma);
  const infiniteFrom = firstWhere((j) => power32(gamma, -j) === Infinity, (128 * Math.LN2) / per);
  const zeroFrom = firstWhere((j) => power32(gamma, j) === 0, (150 * Math.LN2) / per);
  const top = Math.min(T, infiniteFrom - 1), low = Math.min(T, zeroFrom - 1);
  const shrunk = power32(gamma, n), grown = power32(gamma, -m), right = n < m ? 0 : power32(gamma, n - m);
  const entry = {
    split: n < m ? 0 : Math.fround(shrunk * grown), late: Math.fround(power32(gamma, n - m) * (n < m ? 0 : 1)), early: right,
  }[recipe];
  const triangle = (size) => (Math.max(size, 0) * (Math.max(size, 0) + 1)) / 2;
  const beyond = triangle(T - infiniteFrom + 1), zeroRows = Math.max(infiniteFrom, zeroFrom);
  const whole = T >= zeroRows ? triangle(T - infiniteFrom + 1) - triangle(zeroRows - infiniteFrom) : 0; // 0 times infinity
  const lost = { split: Math.max(T - infiniteFrom + 1, 0), late: Math.max(T - infiniteFrom, 0), early: 0 }[recipe];
  return {
    gamma, T, n, m, infiniteFrom, zeroFrom, shrunk, grown, entry, right, lost,
    highest: [top, power32(gamma, -top)], lowest: [low, power32(gamma, low)],
    firstLost: lost && (recipe === "split" ? infiniteFrom : 1), lastLost: lost && (recipe === "split" ? T : lost),
    infinite: recipe === "split" ? beyond - whole : 0,
    undefinedEntries: { split: whole, late: triangle(T - infiniteFrom), early: 0 }[recipe],
  };
}

// ---------------------------------------------------------------- what it says

// How the recipe comes to its entry, in parts: [words, whether this part is wrong].
function working({ n, m, shrunk, grown, entry, right, gamma }, recipe) {
  const wrong = !Number.isFinite(entry) || Math.abs(entry - right) > 0.02 * right + 1e-7;
  const result = [format(entry), wrong], lag = n - m;
  if (recipe === "split" && lag >= 0) return [[`${raised(n)} · ${raised(-m)} = ${format(shrunk)} · ${format(grown)} =`, false], result];
  if (recipe === "late") return [[`${raised(lag)} · ${lag < 0 ? 0 : 1} = ${format(power32(gamma, lag))} · ${lag < 0 ? 0 : 1} =`, false], result];
  return [[lag < 0 ? "a later token, masked:" : `${raised(lag)} =`, false], result];
}

export function describe(numbers, { recipe, power }) {
  const { T, n, m, infiniteFrom, lost, firstLost, entry, right } = numbers;
  const start = `γ = ${named(power)}, ${whole(T)} tokens, float32. `, last = `γ^−j is finite up to j = ${whole(infiniteFrom - 1)}`;
  const [[words], [result]] = working(numbers, recipe);
  const here = ` Entry ${whole(n)}, ${whole(m)}: ${words} ${result}${Object.is(entry, right) ? "" : `, where ${format(right)} is right`}.`;
  if (recipe === "early") return `${start}Nothing is lost, at any length: no exponent is negative, so no power is above 1.${here}`;
  if (!lost) return `${start}${last}, so this text is too short to break it, and a test with it passes.${here}`;
  const which = recipe === "split" ? `the last ${whole(lost)} outputs are lost, from ${whole(firstLost)} on`
    : `the first ${whole(lost)} outputs are lost: in the future of these tokens ∞ · 0 is not a number`;
  return `${start}${last}, so ${which}.${here}`;
}

// ---------------------------------------------------------------- how it looks

function layout({ width, narrow }) {
  const side = narrow ? Math.min(width - 112, 300) : Math.min(Math.floor(width / 2) - 110, 340);
  const chart = narrow ? { left: 62, top: 34, width: width - 80, height: 170 } : { left: 70, top: 34, width: width - side - 240, height: side };
  return { chart, map: { left: narrow ? 46 : width - side - 92, top: narrow ? 296 : 34, side } };
}

export function draw(stage, numbers, { recipe }) {
  const { colours, width, narrow } = stage, { chart, map: { left, top, side } } = layout(stage), quiet = { colour: colours.muted, size: 12 };
  const { T, n, m, highest, lowest, infiniteFrom, zeroFrom, lost, firstLost, lastLost } = numbers;

  // The powers, on their way to the largest and the smallest float32.
  const x = scale([0, T], [chart.left, chart.left + chart.width]), bottom = chart.top + chart.height;
  const y = scale([1e-58, 1e50], [bottom, chart.top], { log: true }), never = recipe === "early", early = infiniteFrom < 0.5 * T;
  const limit = (value, words, at) => line([[chart.left, y(value)], [chart.left + chart.width, y(value)]], colours.ink,
    { "stroke-width": 1, "stroke-dasharray": "3 3" }) + label(early ? chart.left + chart.width - 4 : chart.left + 6, y(value) + at, words, { ...quiet, at: early ? "end" : "start" });
  const curve = ([j, value], colour, more) => line([[x(0), y(1)], [x(j), y(value)]], colour, { "stroke-width": 2.5, ...more });
  // Their names stand in the wedge between the two; where they end, beyond the limits.
  const mid = 0.5 * Math.min(T, infiniteFrom), rise = numbers.gamma ** -mid, tight = y(1) - y(rise) < 36;
  const name = (value, words, colour, side) => (tight
    ? label(x(mid), y(value) - 16 * side, words, { colour, size: 14, weight: 600, at: "middle" })
    : label(x(mid) + 14, y(value) + 15 * side, words, { colour, size: 14, weight: 600, at: "start" }));
  const edge = (j, value, words, colour, at) => {
    if (j > T) return "";
    const px = x(j), right = !early;
    return h("circle", { cx: px, cy: y(value), r: 5, fill: colour, stroke: colours.paper }) +
      label(px + (right ? 6 : -6), y(value) + at, words, { colour, size: 13, weight: 700, at: right ? "end" : "start" });
  };
  const powers = axes(colours, chart, x, y, "j (tokens)", "powers of γ in float32", { yticks: [1e-40, 1e-20, 1, 1e20, 1e40], tick: whole }) +
    limit(LARGEST, "largest", -10) + limit(SMALLEST, "smallest", 11) +
    curve(lowest, colours.blue) + curve(highest, never ? colours.muted : colours.orange, { "stroke-dasharray": never ? "2 5" : "8 3" }) +
    name(1 / rise, "γ^j", colours.blue, -1) + name(rise, never ? "γ^−j, not needed" : "γ^−j", never ? colours.muted : colours.orange, 1) +
    (never ? "" : edge(infiniteFrom, LARGEST, `∞ from ${whole(infiniteFrom)}`, colours.red, -14)) +
    edge(zeroFrom, SMALLEST, `0 from ${whole(zeroFrom)}`, colours.muted, 14);

  // The mask: what each entry has become.
  const at = (token) => ((token - 1) / T) * side, area = (corners, fill) => h("polygon", {
    points: corners.map(([column, row]) => `${left + Math.min(Math.max(column, 0), side)},${top + Math.min(Math.max(row, 0), side)}`).join(" "), fill,
  });
  const near = mix(colours.paper, colours.blue, 0.45), gone = mix(colours.paper, colours.muted, 0.35), dead = colours.ink;
  const inf = at(infiniteFrom), zero = at(zeroFrom), grid = [box(left, top, side, side, colours.faint), area([[0, 0], [side, side], [0, side]], near)];
  const words = (column, row, text, fill, room) => (room > 19 ? label(left + column, top + row, text, { colour: on(fill), size: 13, weight: 600 }) : "");
  if (recipe === "split") {
    if (zeroFrom <= T) grid.push(area([[0, zero], [Math.min(zero, inf), zero], [Math.min(inf, side), side], [0, side]], gone), area([[0, zero], [inf, zero], [inf, side], [0, side]], gone));
    if (infiniteFrom <= T) grid.push(area([[inf, inf], [side, side], [inf, side]], colours.red));
    if (zeroFrom <= T && infiniteFrom <= T) grid.push(area([[inf, zero], [zero, zero], [side, side], [inf, side]], dead));
    grid.push(words(inf / 2, (zero + side) / 2, "0", gone, Math.min(side - zero, inf)));
    const red = Math.min(zero, side) - inf, black = side - inf > 130;
    grid.push(words(inf + 0.3 * red, inf + 0.72 * red, "∞", colours.red, red));
    grid.push(words(inf + (black ? 54 : 0.36 * (side - inf)), black ? side - 14 : (zero + side) / 2 + 2, black ? "not a number" : "0 · ∞", dead, Math.min(side - zero, (side - inf) / 3)));
  } else if (recipe === "late" && infiniteFrom < T) {
    grid.push(area([[inf, 0], [side, 0], [side, side - inf]], dead), words(side - 0.33 * (side - inf), 0.27 * (side - inf), side - inf > 180 ? "not a number" : "∞ · 0", dead, 0.3 * (side - inf)));
  }
  const cutLate = recipe === "late" && infiniteFrom < 0.6 * T, blue = recipe === "split" ? Math.min(zero, inf + 40, side) : side;
  grid.push(words(0.42 * Math.min(0.75 * blue, recipe === "split" ? inf : side), 0.75 * blue, "finite", near, Math.min(0.75 * blue, recipe === "split" ? inf : side) / 3));
  if (!cutLate) grid.push(label(left + 0.68 * side, top + 0.28 * side, "future: 0", quiet));
  const cx = left + Math.min(side - 1, at(m) + side / T / 2), cy = top + Math.min(side - 1, at(n) + side / T / 2);
  const probe = h("circle", { cx, cy, r: 7, fill: "none", stroke: colours.paper, "stroke-width": 5 }) +
    h("circle", { cx, cy, r: 7, fill: "none", stroke: colours.orange, "stroke-width": 2.5 });
  const middle = top + Math.min(Math.max((at(firstLost) + at(lastLost + 1)) / 2, 16), side - 16), red = { colour: colours.red, size: 14, weight: 700, at: "start" };
  const bar = lost
    ? box(left + side + 5, top + at(firstLost), 6, Math.max(2, at(lastLost + 1) - at(firstLost)), colours.red) +
      label(left + side + 16, middle - 8, whole(lost), red) + label(left + side + 16, middle + 8, "lost", red)
    : label(left + side + 8, top + side / 2, "no loss", { ...red, colour: colours.green, size: 13 });
  const ticks = [1, T].map((token, i) => label(left - 6, top + (i ? side - 6 : 6), whole(token), { ...quiet, at: "end" }) +
    label(left + (i ? side : 2), top + side + 13, whole(token), { ...quiet, at: i ? "end" : "start" }));
  const titles = label(left, top - 14, "token n", { ...quiet, colour: colours.ink, at: "start" }) + label(left + side / 2, top + side + 13, "token m", { ...quiet, colour: colours.ink });

  // How the chosen entry comes about.
  const foot = narrow ? top + side + 44 : top + side + 62, [[said], [result, wrong]] = working(numbers, recipe);
  const answer = { size: 16, weight: 700, at: "start", colour: wrong ? colours.red : colours.green };
  const sum = narrow
    ? [label(8, foot, said, { colour: colours.ink, size: 14, at: "start" }), label(8, foot + 24, result, answer), label(width - 8, foot + 24, wrong ? `right: ${format(numbers.right)}` : "", { ...quiet, size: 14, at: "end" })]
    : [h("text", { x: 12, y: foot, fill: colours.ink, "font-size": 15, "dominant-baseline": "central" }, said, h("tspan", { fill: answer.colour, "font-weight": 700, dx: 7 }, result),
      wrong ? h("tspan", { fill: colours.muted, dx: 14 }, `right: ${format(numbers.right)}`) : "")];
  return { height: foot + (narrow ? 40 : 20), drawn: h("g", {}, powers, grid, titles, ticks, bar, probe, sum) };
}

// Press or drag on the mask to choose an entry.
export function point({ x, y, pressed }, stage) {
  const { map: { left, top, side } } = layout(stage), column = (x - left) / side, row = (y - top) / side;
  if (!pressed || column < -0.05 || column > 1.05 || row < -0.05 || row > 1.05) return null;
  const part = (value) => Math.round(200 * Math.min(Math.max(value, 0), 1)) / 200;
  return { row: part(row), column: part(column) };
}

export default explorable({
  title: "The decay mask in float32, computed in three ways",
  controls, compute, describe, draw, point,
});
