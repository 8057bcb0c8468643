// Lesson 14: pairs to remember against the width of a state: what is predicted, and what trained models answered.

import { axes, choice, count, explorable, format, h, label, line, scale, slider } from "./shared.js";

export const controls = [
  slider("width", "key width K", { value: 1, min: 0, max: 3, words: (i) => `K = ${2 ** (i + 3)}` }),
  slider("pairs", "pairs to remember", { value: 4, min: 0, max: 6, words: (i) => count(2 ** i, "pair") }),
  choice("tokens", "vocabulary", { 256: "256", 8192: "8,192" }),
  choice("shown", "shown", { one: "RetNets of this K", widths: "RetNets of every K", all: "all models" }, "widths"),
];

// key_width, asked_for: K and the number of pairs; numbers: in the states of a layer; cache: in the cache of a layer when all
// pairs stand in it; equal: pairs for which both are the same; exact: pairs that can be read exactly; least,
// most: what is predicted for the pairs; chance: of naming any value of the text; measured: the RetNets of this K and
// vocabulary at this number of pairs, one a seed, lowest first; none if no such text was asked.
export function compute({ width, pairs, tokens }, { sizes, widths, pairs: listed, exact, asked, vocabularies }) {
  const { least, most, models } = vocabularies[tokens], wanted = 2 ** pairs, place = listed.indexOf(wanted), K = widths[width];
  const numbers = sizes.heads * K * 2 * K, row = models.find((model) => model.width === K), at = asked.indexOf(wanted);
  return {
    key_width: K, asked_for: wanted, numbers, cache: 2 * sizes.dim * 2 * wanted, equal: numbers / (4 * sizes.dim), exact: exact[width],
    least: least[width][place], most: most[width][place], chance: 1 / wanted,
    measured: row && at >= 0 ? row.shares.map((seed) => seed[at]).sort((a, b) => a - b) : [],
  };
}

const percent = (share) => `${(100 * share).toFixed(0)} %`;

const mean = (values) => values.reduce((total, x) => total + x, 0) / values.length;

function span(...shares) {
  const low = percent(Math.min(...shares)), high = percent(Math.max(...shares));
  return low === high ? low : `${low} to ${high}`;
}

export function describe({ key_width, asked_for, numbers, cache, exact, least, most, chance, measured }) {
  const were = measured.length ? `In ${count(measured.length, "seed")}, trained RetNets answer ${span(...measured)}` : "No RetNet of this width was asked for so many here";
  return `With K = ${key_width} the states of a layer hold ${count(numbers, "number")}; a cache with ${count(asked_for, "pair")} holds ${count(cache, "number")}. ` +
    `${exact} pairs can be read exactly; more can be answered right. Of ${count(asked_for, "pair")} the formula says ${span(least, most)} right answers, chance ${percent(chance)}. ${were}.`;
}

// The corners of marks about (x, y): hollow ones for shapes and models that are not on the slider, filled ones for its RetNets, of which the widest is a circle.
const CORNERS = [
  [[-1, -1], [1, -1], [1, 1], [-1, 1]], [[0, -1.4], [1.4, 0], [0, 1.4], [-1.4, 0]], [[0, -1.3], [1.3, 1], [-1.3, 1]], [[0, 1.3], [1.3, -1], [-1.3, -1]],
  [[-1.3, 0], [1, -1.3], [1, 1.3]], [[1.3, 0], [-1, -1.3], [-1, 1.3]],
];

const FILLED = [2, 0, 1]; // of CORNERS, for each K

const mark = (shape, x, y, r, look) => h("polygon", { points: CORNERS[shape].map(([dx, dy]) => `${Math.round(10 * (x + r * dx)) / 10},${Math.round(10 * (y + r * dy)) / 10}`).join(" "), ...look });

const REACH = 1.4; // of the axis beyond the last number of pairs: room for marks, names and the line of the rank

const frameOf = ({ width, narrow }) => ({ left: 50, top: 40, width: width - (narrow ? 66 : 314), height: narrow ? 230 : 280 });

export function draw(stage, { asked_for, exact, least, most, chance, measured }, { width, tokens, shown }, { widths, pairs, asked, vocabularies }) {
  const { least: lows, most: highs, models: every } = vocabularies[tokens], unlisted = every.filter((model) => !model.width);
  const chosen = (model) => model.width === widths[width], models = every.filter((model) => shown === "all" || chosen(model) || (shown === "widths" && model.width));
  const halo = { stroke: stage.colours.paper, "stroke-width": 4, "paint-order": "stroke" };
  const { narrow, colours } = stage, frame = frameOf(stage), bottom = frame.top + frame.height, right = frame.left + frame.width;
  const x = scale([1, pairs.at(-1) * REACH], [frame.left, right], { log: true }), y = scale([0, 1.04], [bottom, frame.top]);
  const ticks = [1, 2, 4, 8, 16, 32, 64].filter((n) => n <= pairs.at(-1));
  const chart = axes(colours, frame, x, y, "pairs to remember", "share of right answers", { xticks: ticks, yticks: [0, 0.25, 0.5, 0.75, 1], xtick: format, ytick: percent });
  // The middle of what is predicted for another K, with its name below the line where that falls to 70 %, or else at its end.
  const others = shown === "one" ? [] : widths.flatMap((K, i) => {
    if (i === width) return [];
    const middle = pairs.map((n, j) => (lows[i][j] + highs[i][j]) / 2), near = middle.map((each) => Math.abs(each - 0.7)), at = near.indexOf(Math.min(...near)), end = middle.at(-1);
    const [cx, cy, side] = end < 0.6 ? [x(pairs[at]), y(middle[at]) + 20, "end"] : [x(pairs.at(-1)) + 12, y(end), "start"];
    return [line(pairs.map((n, j) => [x(n), y(middle[j])]), colours.muted, { "stroke-width": 1 }), narrow ? "" : label(cx, cy, `K ${K}`, { colour: colours.muted, size: 12, at: side, ...halo })];
  });
  const up = pairs.map((n, j) => [x(n), y(highs[width][j])]), down = pairs.map((n, j) => [x(n), y(lows[width][j])]);
  const band = h("polygon", { points: [...up, ...down.reverse()].map((point) => point.map((p) => Math.round(10 * p) / 10).join(",")).join(" "), fill: colours.green, "fill-opacity": 0.22 }) +
    line(up, colours.green, { "stroke-width": 2.5 }) + line(down, colours.green, { "stroke-width": 2.5, "stroke-dasharray": "6 4" });
  // The band says whose it is, beside the middle of its end; a little below it, where no mark of another K stands.
  const middle = (lows[width].at(-1) + highs[width].at(-1)) / 2, beside = { colour: colours.green, at: "start", size: 12, weight: 600, ...halo };
  const whose = narrow ? "" : label(x(pairs.at(-1)) + 12, y(middle) + 8, `K ${widths[width]}`, beside);
  const luck = line(pairs.map((n) => [x(n), y(1 / n)]), colours.muted, { "stroke-width": 1.5, "stroke-dasharray": "2 4" });
  const drawn = models.filter(chosen).concat(models.filter((model) => !chosen(model))); // large marks first, so that they hide none
  const shape = ({ name }) => unlisted.findIndex((model) => model.name === name);
  const own = ({ width: K, name }) => K || name.startsWith("RetNet"); // a RetNet, or the sample of one
  const kinds = { attention: colours.orange, hybrid: colours.purple, gated: colours.red };
  const hue = (model) => (own(model) ? colours.blue : kinds[model.name.split(",")[0]] ?? colours.muted); // as in the lesson's other pictures
  const sign = (model, cx, cy, r) => {
    if (!model.width) return mark(shape(model), cx, cy, r, { fill: colours.paper, stroke: hue(model), "stroke-width": 1.5 });
    const now = chosen(model), size = now ? r + 3 : r, corners = FILLED[widths.indexOf(model.width)];
    const look = { fill: hue(model), stroke: now ? colours.ink : colours.blue, "stroke-width": 1.5 };
    return corners === undefined ? h("circle", { cx, cy, r: size, ...look }) : mark(corners, cx, cy, size, look);
  };
  const pale = (model) => (model.width && !chosen(model) ? 0.3 : 1); // RetNets of another K step back
  const dots = drawn.map((model) => h("g", { opacity: pale(model) }, model.shares.map((seed, i) => asked.map((n, j) => sign(model, x(n) + 6 * (i - 1), y(seed[j]), 4)))));
  const limit = exact <= pairs.at(-1) ? line([[x(exact), frame.top], [x(exact), bottom]], colours.green, { "stroke-width": 2, "stroke-dasharray": "3 4" }) +
    label(x(exact) + 4, frame.top - 8, narrow ? `rank: ${exact}` : `rank: ${exact} pairs can be read exactly`, { colour: colours.green, at: "end", size: 12, ...halo }) : "";
  const now = line([[x(asked_for), frame.top], [x(asked_for), bottom]], colours.ink, { "stroke-width": 1 });
  // Names of models at the last number of pairs, from top to bottom, pushed apart.
  let last = frame.top - 20;
  const names = narrow ? "" : models.map((model) => ({ ...model, ends: model.shares.map((seed) => seed.at(-1)) })).sort((a, b) => mean(b.ends) - mean(a.ends)).map((model) => {
    last = Math.max(last + 17, y(mean(model.ends)));
    const look = { colour: hue(model), at: "start", size: 12, weight: chosen(model) ? 700 : 400 };
    return sign(model, right + 18, last, 3.5) + label(right + 30, last, `${model.name}: ${span(...model.ends)}`, look);
  });
  const finding = every.some((model) => model.width === 64) ? "Most trained RetNets lie below the band of their own K" : "With this vocabulary no RetNet learned the task";
  const title = narrow ? "" : label(frame.left, frame.top - 33, finding, { colour: colours.ink, at: "start", weight: 600 }) + label(right + 14, frame.top - 24, `answered of ${asked.at(-1)} pairs, all seeds`, { colour: colours.ink, at: "start", size: 12, weight: 600 });
  const predicted = `${count(asked_for, "pair")}: ${span(least, most)} predicted`;
  const said = [predicted, ...(measured.length ? [`${span(...measured)} measured`] : []), `${percent(chance)} by chance`], lines = narrow ? said : [said.join(", ")];
  const foot = lines.map((words, i) => label(frame.left, bottom + 56 + 20 * i, words, { colour: colours.ink, at: "start", size: narrow ? 12 : 14, weight: 600 }));
  const untrained = every.some(chosen) ? "" : label(frame.left + 8, frame.top + frame.height * 0.14, `no RetNet was trained with K = ${widths[width]} here`, { colour: colours.blue, size: 12, at: "start", ...halo });
  // What each mark is: as many in a row as fit.
  const sample = (model) => (at, row) => sign(model, at + 9, row, 4);
  const dash = (colour, more) => (at, row) => line([[at, row], [at + 18, row]], colour, { "stroke-width": 2, ...more });
  const patch = (at, row) => h("rect", { x: at, y: row - 6, width: 18, height: 12, fill: colours.green, "fill-opacity": 0.22 }) +
    line([[at, row - 6], [at + 18, row - 6]], colours.green, { "stroke-width": 2.5 }) + line([[at, row + 6], [at + 18, row + 6]], colours.green, { "stroke-width": 2.5, "stroke-dasharray": "6 4" });
  const another = (at, row) => widths.filter((K) => K !== widths[width]).map((K, i) => sign({ width: K }, at + 2 + 12 * i, row, 4)).join("");
  const listed = narrow ? models.filter((model) => !chosen(model)).map((model) => [sample(model), model.name.replace("RetNet, ", "")]) : [
    ...(shown === "one" ? [] : [[another, "another shape: another K", 14]]),
    ...(shown === "all" ? [[sample(unlisted.find(({ name }) => !/^(RetNet|attention)/.test(name))), "hollow: other models, as there"]] : []),
  ];
  const marks = [
    [sample({ width: widths[width] }), narrow ? "this K" : "RetNet of this K, a mark a seed"], ...listed,
    [patch, `predicted, K = ${widths[width]}`],
    ...(shown === "one" ? [] : [[dash(colours.muted, { "stroke-width": 1 }), narrow ? "for another K" : "predicted, another K (middle)"]]),
    [dash(colours.muted, { "stroke-dasharray": "2 4" }), "chance, 1 of N"],
    [(at, row) => line([[at + 9, row - 8], [at + 9, row + 8]], colours.ink, { "stroke-width": 1 }), narrow ? "pairs chosen" : "pairs chosen above"],
  ];
  const across = narrow ? 2 : 3, under = bottom + 60 + 20 * lines.length, start = narrow ? 10 : frame.left, step = (stage.width - start) / across;
  const key = marks.map(([mark, words, wider = 0], i) => {
    const at = start + (i % across) * step, row = under + 20 * Math.floor(i / across);
    return mark(at, row) + label(at + 24 + wider, row, words, { colour: colours.muted, at: "start", size: 12 });
  });
  const end = under + 20 * Math.ceil(marks.length / across);
  return { height: Math.max(end, last + 14), drawn: h("g", {}, chart, others, luck, band, limit, now, dots, whose, untrained, names, title, foot, key) };
}

// The pointer chooses the number of pairs.
export function point({ x, pressed }, stage, numbers, values, { pairs }) {
  const { left, width } = frameOf(stage);
  if (!pressed) return null;
  const found = Math.round(((x - left) / width) * Math.log2(pairs.at(-1) * REACH));
  return { pairs: Math.min(Math.max(found, 0), 6) };
}

// With some vocabularies a RetNet was trained with one K alone.
function trained({ width, tokens }, numbers, { widths, vocabularies }) {
  const known = vocabularies[tokens].models.filter((model) => model.width).map((model) => widths.indexOf(model.width));
  return known.includes(width) ? {} : { width: known[0] };
}

export default explorable({
  title: "Pairs to remember, and how wide the state is",
  controls, compute, describe, draw, point, play: { control: "width", seconds: 1 },
  press: { trained: { title: "Jump to a trained K", act: trained } },
});
