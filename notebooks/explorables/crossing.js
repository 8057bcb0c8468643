// Lesson 14: power laws through the losses of two models, fitted again for other seeds, and where they cross.

import { axes, box, choice, explorable, format, h, label, line, scale, slider } from "./shared.js";

const DRAWS = 200, TRIED = 300, POINTS = 400, FAR = 1000; // as in gpu/evidence/laws.py; FAR: of the largest size
const BAR = 3; // standard errors of a bar: beyond them a difference is settled in the lesson
const PAPER = 2e9; // parameters beyond which the paper's RetNet is ahead †
const EXPONENTS = Array.from({ length: TRIED }, (_, i) => 0.005 * 400 ** (i / (TRIED - 1)));

export const controls = [
  slider("seeds", "other seeds", { value: 0, min: 0, max: DRAWS, words: (i) => (i ? `draw ${i}` : "as measured") }),
  choice("law", "law", { floor: "with a floor", line: "without a floor" }),
  choice("sizes", "fitted to", { all: "all sizes", short: "all but the largest" }),
  choice("shown", "shown", { gap: "the gap alone", losses: "the losses" }),
];

const sum = (values) => values.reduce((total, x) => total + x, 0);
const at = ({ floor, scale: a, exponent }, x) => floor + a * x ** -exponent;

// The law floor + scale x^-exponent with the least squared error for each row of means, as gpu.evidence.laws.fit.
function fits(x, rows, given, floor) {
  const unit = Math.exp(sum(x.map(Math.log)) / x.length), w = given.map((value) => value / sum(given));
  const tried = EXPONENTS.map((exponent) => {
    const p = x.map((each) => (each / unit) ** -exponent), mean = sum(p.map((each, i) => w[i] * each));
    const c = p.map((each) => each - mean);
    return { exponent, p, mean, c, pp: sum(p.map((each, i) => w[i] * each * each)), cc: Math.max(sum(c.map((each, i) => w[i] * each * each)), 1e-300) };
  });
  return rows.map((y) => {
    let best = null;
    for (const { exponent, p, mean, c, pp, cc } of tried) {
      const without = Math.max(sum(y.map((each, i) => w[i] * p[i] * each)) / pp, 0);
      const slope = Math.max(sum(y.map((each, i) => w[i] * c[i] * each)) / cc, 0), base = sum(y.map((each, i) => w[i] * each)) - slope * mean;
      const low = floor ? Math.max(base, 0) : 0, a = floor && base >= 0 ? slope : without;
      const error = sum(y.map((each, i) => w[i] * (low + a * p[i] - each) ** 2));
      if (!best || error < best.error) best = { error, floor: low, scale: a * unit ** exponent, exponent };
    }
    return best;
  });
}

// The largest x of a grid at which the order of two laws changes, as gpu.evidence.laws.crossing; NaN where it does not.
function crossing(one, two, grid) {
  const gap = grid.map((x) => at(one, x) - at(two, x));
  for (let i = gap.length - 2; i >= 0; i--)
    if (gap[i] * gap[i + 1] <= 0 && gap[i] !== gap[i + 1]) return grid[i] * (grid[i + 1] / grid[i]) ** (gap[i] / (gap[i] - gap[i + 1]));
  return NaN;
}

function quantile(sorted, share) {
  const place = share * (sorted.length - 1), low = Math.floor(place);
  return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

// laws: of each model for the chosen means; here: their crossing; missed: the loss of the largest size above what the law
// says; crossings: of all draws, those without one left out, in order; share: how many have one; middle: its quantiles 5, 50
// and 95 % (NaN without any); grid, bands: for each model the same quantiles of its laws; between: of the first law minus the second; ahead: of the first model, the share
// of draws in which its loss is the lower one at the paper's size.
export function compute({ seeds, law, sizes }, { models }) {
  const fitted = models.map(({ x, weights, means }) => {
    const end = sizes === "short" ? x.length - 1 : x.length;
    return fits(x.slice(0, end), means.map((row) => row.slice(0, end)), weights.slice(0, end), law === "floor");
  });
  const every = models.flatMap(({ x }) => x), low = Math.min(...every), high = FAR * Math.max(...every);
  const spaced = (count) => Array.from({ length: count }, (_, i) => low * (high / low) ** (i / (count - 1)));
  const fine = spaced(POINTS), grid = spaced(61), [one, two] = fitted;
  const found = one.slice(1).map((each, i) => crossing(each, two[i + 1], fine));
  const crossings = found.filter((x) => !Number.isNaN(x)).sort((a, b) => a - b);
  const levels = (values) => [0.05, 0.5, 0.95].map((share) => (values.length ? quantile(values, share) : NaN));
  const spread = (value) => grid.map((x) => levels(one.slice(1).map((_, i) => value(i + 1, x)).sort((a, b) => a - b)));
  const bands = fitted.map((laws) => spread((i, x) => at(laws[i], x))), between = spread((i, x) => at(one[i], x) - at(two[i], x));
  const ahead = sum(one.slice(1).map((each, i) => (at(each, PAPER) < at(two[i + 1], PAPER) ? 1 : 0))) / (one.length - 1);
  const chosen = fitted.map((laws) => laws[seeds]);
  const missed = chosen.map((each, i) => models[i].means[seeds].at(-1) - at(each, models[i].x.at(-1)));
  const laws = chosen.map(({ floor, scale: a, exponent }) => ({ floor, scale: a, exponent }));
  return { laws, here: crossing(...chosen, fine), missed, crossings, share: crossings.length / found.length, middle: levels(crossings), grid, bands, between, ahead };
}

const size = (x) => (x >= 1e9 ? `${format(x / 1e9, 2)} billion` : `${format(x / 1e6, 2)} million`);

export function describe({ here, share, middle, ahead, missed }, { seeds, sizes }, { models }) {
  const which = seeds ? `With the means of draw ${seeds}` : "With the measured means";
  const where = Number.isNaN(here) ? "the laws do not cross in this picture" : `the laws cross at ${size(here)} parameters`;
  const spread = share === 0 ? "No draw has a crossing" : `Of ${DRAWS} draws ${format(100 * share, 2)} % have a crossing, nine in ten of those ` +
    `between ${size(middle[0])} and ${size(middle[2])}`;
  const miss = sizes === "short" ? ` The largest size was not fitted: the laws miss it by ${models.map(({ name }, i) => `${format(missed[i], 2)} (${name})`).join(" and ")} bits.` : "";
  return `${which}, ${where}. ${spread}. At 2 billion parameters ${models[0].name} is ahead in ${format(100 * ahead, 2)} % of the draws.${miss}`;
}

const frameOf = ({ width, narrow }) => ({ left: 46, top: narrow ? 88 : 68, width: width - 62, height: narrow ? 240 : 270 });
const LOOKS = ["blue", "orange"];

export function draw(stage, numbers, { seeds, sizes, shown }, { models, gap_errors }) {
  const { width, narrow, colours } = stage, frame = frameOf(stage), { laws, here, crossings, grid, bands, between } = numbers;
  const bottom = frame.top + frame.height, right = frame.left + frame.width, gap = shown === "gap", [least, most] = gap ? [-0.4, 0.5] : [0, 2.2];
  const x = scale([grid[0] / 1.3, grid.at(-1)], [frame.left, right], { log: true }), y = scale([least, most], [bottom, frame.top]);
  const yname = gap ? `${models[0].name} minus ${models[1].name}, ${narrow ? "bits/byte" : "bits per byte"}` : "bits per byte, held-out text";
  const chart = axes(colours, frame, x, y, "parameters", yname, { xticks: narrow ? [1e7, 1e9] : [1e7, 1e8, 1e9, 1e10], xtick: size });
  const halo = { stroke: colours.paper, "stroke-width": 4, "paint-order": "stroke" };
  const clip = (value) => Math.min(Math.max(value, least), most), dash = (i) => i && { "stroke-dasharray": "8 4" };
  // What is drawn: a line, a band and dots for each model, or those of the gap.
  const gapAt = (values) => values.map((each, i) => each - models[1].means[seeds][i]);
  const parts = gap
    ? [{ name: "gap", colour: colours.green, law: (each) => at(laws[0], each) - at(laws[1], each), band: between, x: models[0].x, dots: gapAt(models[0].means[seeds]), errors: gap_errors }]
    : models.map((model, i) => ({ name: model.name, colour: colours[LOOKS[i]], law: (each) => at(laws[i], each), band: bands[i], x: model.x, dots: model.means[seeds], errors: model.errors }));
  const shade = parts.map(({ band, colour }) => {
    const path = [...grid.map((at, j) => [x(at), y(clip(band[j][2]))]), ...grid.map((at, j) => [x(at), y(clip(band[j][0]))]).reverse()];
    return h("polygon", { points: path.map((point) => point.map((p) => Math.round(10 * p) / 10).join(",")).join(" "), fill: colour, "fill-opacity": 0.16 });
  });
  const curves = parts.map(({ law, colour }, i) => line(grid.map((each) => [x(each), y(clip(law(each)))]), colour, { "stroke-width": 2.5, ...dash(i) }));
  const dots = parts.map((part) => part.x.map((each, j) => {
    const unused = sizes === "short" && j === part.x.length - 1;
    const [low, high] = [-BAR, BAR].map((side) => y(clip(part.dots[j] + side * part.errors[j])));
    const bar = [[[0, low], [0, high]], [[-4, low], [4, low]], [[-4, high], [4, high]]].map((ends) => line(ends.map(([dx, end]) => [x(each) + dx, end]), part.colour, { "stroke-width": 1.5 }));
    const hides = gap && low - high < 9; // the dot is higher than the bar: say it
    const said = hides ? label(x(each) + 2, y(clip(part.dots[j])) - 14, `\u00b1 ${format(part.errors[j], 1)}`, { colour: part.colour, at: "start", size: 12, ...halo }) : "";
    return bar.join("") + h("circle", { cx: x(each), cy: y(clip(part.dots[j])), r: 4.5, fill: unused ? colours.paper : part.colour, stroke: part.colour, "stroke-width": 2 }) + said;
  }));
  // Names stand above the frame, where no line runs.
  const names = parts.map(({ name, colour }, i) => line([[frame.left + 130 * i, 14], [frame.left + 28 + 130 * i, 14]], colour, { "stroke-width": 2.5, ...dash(i) }) +
    label(frame.left + 34 + 130 * i, 14, name, { colour, at: "start", weight: 600 }));
  const band = label(narrow ? frame.left : frame.left + 20 + 130 * parts.length, narrow ? 36 : 14, narrow ? "shade: 9 of 10 draws; bar: 3 errors" : "shaded: nine in ten draws; bars: three standard errors", { colour: colours.muted, at: "start", size: 12 });
  const finding = gap && !narrow ? label(frame.left, 36, "Where the gap is zero RetNet catches up: the draws do not agree where", { colour: colours.ink, at: "start", weight: 600 }) : "";
  const level = gap ? line([[frame.left, y(0)], [right, y(0)]], colours.ink, { "stroke-width": 1 }) : "";
  // Why the first dot may lie off the law.
  const light = gap && !narrow ? ["the smallest size may lie off the law:", "its seeds differ most, so it weighs least"].map((words, i) =>
    label(x(models[0].x[0]) + 10, y(-0.2) + 16 * i, words, { colour: colours.green, at: "start", size: 12, ...halo })) : "";
  const strip = bottom + 62;
  // A vertical line through the frame and the strip, with a break where the axis is named.
  const through = (at, top, colour, look) => line([[at, top], [at, bottom]], colour, look) + line([[at, strip - 2], [at, strip + 22]], colour, look);
  const paper = through(x(PAPER), frame.top + 18, colours.muted, { "stroke-width": 1.2, "stroke-dasharray": "3 4" }) +
    label(x(PAPER), frame.top + 8, "paper: 2 billion †", { colour: colours.muted, size: 12, ...halo });
  const now = Number.isNaN(here) ? "" : through(x(here), frame.top, colours.ink, { "stroke-width": 1.5 }) +
    label(x(here) + 6, frame.top + 36, size(here), { colour: colours.ink, at: "start", weight: 600, ...halo });
  const ticks = crossings.map((each) => box(x(each) - 0.75, strip, 1.5, 18, colours.green, { "fill-opacity": 0.45 }));
  const foot = label(frame.left, strip - 12, narrow ? "crossings of all draws" : `crossings of the ${crossings.length} draws that have one in this picture`, { colour: colours.green, at: "start", size: 12 }) +
    label(width / 2, strip + 34, `${DRAWS - crossings.length} draws: none`, { colour: colours.muted, size: 12 });
  return { height: strip + 48, drawn: h("g", {}, chart, level, shade, curves, dots, light, names, band, finding, paper, now, ticks, foot) };
}

// Left to right through the draws.
export function point({ x, pressed }, stage) {
  const { left, width } = frameOf(stage);
  return pressed ? { seeds: Math.min(Math.max(Math.round(((x - left) / width) * DRAWS), 0), DRAWS) } : null;
}

export default explorable({
  title: "Two power laws, and where they cross",
  controls, compute, describe, draw, point, play: { control: "seeds", seconds: 0.25 },
});
