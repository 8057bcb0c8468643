// Lesson 2: the powers of a matrix A. In the channels as stored they look tangled; in eigen coordinates A is one number.

import { axes, box, count, explorable, format, h, label, line, scale, slider } from "./shared.js";

const LONGEST = 24, REACH = 1.3;

export const controls = [
  slider("radius", "radius γ", { value: 0.95, min: 0.5, max: 1.1, step: 0.01, words: (x) => `${x.toFixed(2)} a token` }),
  slider("degrees", "angle θ", { value: 30, min: 0, max: 180, step: 5, words: (x) => `${x}° a token` }),
  slider("n", "tokens n", { value: 5, min: 0, max: LONGEST, words: (x) => `${count(x, "token")} later` }),
  slider("mixing", "mixing", { value: 1, min: 0, max: 1, step: 0.1, words: (x) => (x ? `${Math.round(100 * x)} %` : "none") }),
];

const times = (M, x) => M.map((row) => row[0] * x[0] + row[1] * x[1]);

// A: P turns P^-1, for the turn by θ that shrinks by γ. P: the eigen coordinates as columns, a square at mixing 0.
// path[j]: A^j s for s = (1, 0); spiral[j]: the same state in eigen coordinates, a^j; envelope[j]: the largest value that
// channel 1 can take at radius γ^j; power: A^n.
export function compute({ radius, degrees, n, mixing }) {
  const theta = (degrees * Math.PI) / 180, p = mixing, r = 1 - 0.5 * mixing, [cos, sin] = [Math.cos(theta), Math.sin(theta)];
  const A = [[cos + p * sin, (-sin * (1 + p * p)) / r], [r * sin, cos - p * sin]].map((row) => row.map((x) => radius * x));
  const ages = Array.from({ length: LONGEST + 1 }, (_, j) => j);
  const path = [[1, 0]], across = [[0, 1]];
  for (const j of ages.slice(1)) {
    path.push(times(A, path[j - 1]));
    across.push(times(A, across[j - 1]));
  }
  return {
    A, path, power: [0, 1].map((row) => [path[n][row], across[n][row]]),
    spiral: ages.map((j) => [radius ** j * Math.cos(j * theta), radius ** j * Math.sin(j * theta)]),
    envelope: ages.map((j) => Math.hypot(1, p) * radius ** j),
    left: radius ** n, turned: (n * degrees) % 360, period: 360 / degrees,
    half: Math.abs(Math.log(2) / Math.log(radius)), largest: Math.max(...A.flat().map(Math.abs)),
  };
}

export function describe({ left, turned, period, half, largest }, { radius, degrees, n, mixing }) {
  const lasts = radius === 1 ? "Nothing fades, because γ is 1"
    : `${radius < 1 ? "The push fades to half" : "The push explodes: it doubles"} every ${Number(format(half, 2)) === 1 ? "token" : `${format(half, 2)} tokens`}, because γ is ${radius < 1 ? "below" : "above"} 1`;
  const swings = degrees === 0 ? "does not swing, because θ is 0" : `swings once in ${format(period, 3)} tokens, because of θ`;
  const shown = mixing && degrees % 180 ? `As stored, the entries of A, up to ${format(largest, 3)}, show neither radius nor angle.` : `${mixing ? "At this angle" : "Without mixing"}, A is that turn and nothing else.`;
  return `${lasts}; channel 1 ${swings}. After ${count(n, "token")}, A to the power ${n} is, in eigen coordinates, ` +
    `one number of radius ${format(left)} and angle ${format(turned)}°. ${shown}`;
}

const raised = (n) => String(n).replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);

function frames({ width, narrow }) {
  const side = narrow ? (width - 16) / 2 : Math.min(0.29 * width, 280), gap = narrow ? 16 : 24, top = 30;
  const stacked = side < 236, below = top + side + (narrow ? 84 : 70) + (stacked ? 44 : 0);
  const chart = narrow
    ? { left: 40, top: below + 34, width: width - 56, height: 170 }
    : { left: 2 * side + gap + 60, top: top + 14, width: width - 2 * side - gap - 76, height: side - 30 };
  return { side, top, stacked, stored: 0, eigen: side + gap, chart, height: narrow ? below + 250 : below };
}

// Two by two numbers in brackets, after their name; `middle` is the height of their middle.
function matrix(colours, M, name, left, middle) {
  const cell = 40, start = left + 26 + 4 * name.length, end = start + 2 * cell, [up, down] = [middle - 18, middle + 18];
  const bracket = (x, inwards) => line([[x + inwards, up], [x, up], [x, down], [x + inwards, down]], colours.ink, { "stroke-width": 1.2 });
  const size = (x) => (Math.abs(x) < 5e-3 ? "0" : format(x, Math.abs(x) < 0.1 ? 1 : 2));
  return label(left, middle, `${name} =`, { colour: colours.orange, at: "start", weight: 600 }) + bracket(start, 4) + bracket(end, -4) +
    M.map((row, i) => row.map((x, j) => label(start + (j + 0.5) * cell, middle - 9 + 18 * i, size(x), { colour: colours.ink, size: 12 }))).join("");
}

export function draw(stage, { A, power, path, spiral, envelope, left, turned }, { radius, degrees, n, mixing }) {
  const { colours, narrow } = stage, { side, top, stacked, stored, eigen, chart, height } = frames(stage);
  const middle = top + side / 2;
  const plane = (start, reach, points, colour, title, extra) => {
    const at = ([x, y]) => [start + side / 2 + (x / reach) * (side / 2), middle - (y / reach) * (side / 2)], past = points.slice(0, n + 1);
    const [x, y] = at(past[n]), [cx, cy] = at([0, 0]), edge = `powers-${Math.round(start)}-${Math.round(side)}`;
    const inner = h("clipPath", { id: edge }, box(start, top, side, side, colours.faint)) + h("g", { "clip-path": `url(#${edge})` },
      line([[start, cy], [start + side, cy]], colours.line, { "stroke-width": 1 }), line([[cx, top], [cx, top + side]], colours.line, { "stroke-width": 1 }),
      extra(at), line(points.map(at), colour, { "stroke-width": 1, "stroke-opacity": 0.45 }), line(past.map(at), colour, { "stroke-width": 2 }),
      past.map((point) => { const [cx, cy] = at(point); return h("circle", { cx, cy, r: 3.5, fill: colour }); }),
      line([[cx, cy], [x, y]], colours.ink, { "stroke-width": 1.5 }), h("circle", { cx: x, cy: y, r: 7, fill: "none", stroke: colours.ink, "stroke-width": 2.5 }));
    return box(start, top, side, side, colours.faint) + label(start + side / 2, 14, title, { colour, size: narrow ? 12 : 14, weight: 600 }) + inner;
  };
  const ring = (at) => {
    const [cx, cy] = at([0, 0]), [x, y] = at(spiral[1]);
    const diamond = (dy, fill) => h("polygon", { points: [[x, dy - 8], [x + 8, dy], [x, dy + 8], [x - 8, dy]].map((p) => p.join(",")).join(" "), fill, stroke: colours.blue, "stroke-width": 2 });
    return h("circle", { cx, cy, r: side / 2 / REACH, fill: colours.paper, stroke: colours.muted, "stroke-dasharray": "5 4" }) +
      label(cx, cy + side / 2 / REACH - 12, "radius 1", { colour: colours.muted, size: 12 }) + diamond(y, colours.blue) +
      label(x + 12, y - 10, "a", { colour: colours.blue, size: 15, weight: 600, at: "start" }) + (degrees % 180 ? diamond(2 * cy - y, "none") +
        label(x + 12, 2 * cy - y + 10, "ā", { colour: colours.blue, size: 15, at: "start" }) : "");
  };
  const names = () => label(stored + side - 6, middle + 12, "channel 1", { colour: colours.muted, size: 12, at: "end" }) +
    label(stored + side / 2 + 6, top + 10, "channel 2", { colour: colours.muted, size: 12, at: "start" });
  const edge = 1.1 * Math.max(envelope[0], envelope[LONGEST]);
  const x = scale([0, LONGEST], [chart.left, chart.left + chart.width]), y = scale([-edge, edge], [chart.top + chart.height, chart.top]);
  const both = [1, -1].map((sign) => line(envelope.map((value, j) => [x(j), y(sign * value)]), colours.blue, { "stroke-width": 1.5, "stroke-dasharray": "5 4" }));
  const stems = path.map(([value], j) => line([[x(j), y(0)], [x(j), y(value)]], colours.orange, { "stroke-width": j <= n ? 2.5 : 1 }) +
    h("circle", { cx: x(j), cy: y(value), r: j <= n ? 4 : 2.5, fill: colours.orange }));
  const response = axes(colours, chart, x, y, "tokens since the push, n", "channel 1") + both.join("") + stems.join("") +
    label(chart.left + chart.width, chart.top - 14, chart.width < 190 ? "dashes: γⁿ" : "dashes: fade as γⁿ", { colour: colours.blue, size: 12, at: "end" }) +
    h("circle", { cx: x(n), cy: y(path[n][0]), r: 8, fill: "none", stroke: colours.ink, "stroke-width": 2.5 });
  const words = top + side + 24;
  const polar = (size, angle) => (side >= 200 ? `radius ${format(size)}, angle ${format(angle)}°` : `${format(size)} at ${format(angle)}°`);
  const numbers = matrix(colours, A, "A", 2, words + 4) +
    matrix(colours, power, `A${raised(n)}`, stacked ? 2 : side / 2 + 4, words + (stacked ? 48 : 4)) +
    label(eigen, words - 6, `a${stacked ? "" : ", eigenvalue of A"}: ${polar(radius, degrees)}`, { colour: colours.blue, at: "start" }) +
    label(eigen, words + 14, `a${raised(n)}: ${polar(left, turned)}`, { colour: colours.blue, at: "start", weight: 600 });
  return {
    height,
    drawn: plane(stored, 1.15 * Math.hypot(1, mixing), path, colours.orange, side < 190 ? "as stored" : "the channels as stored", names) +
      plane(eigen, REACH, spiral, colours.blue, "eigen coordinates", ring) + numbers + response,
  };
}

// Drag in the plane of the eigen coordinates: the number a follows. Drag on the chart: the token does.
export function point({ x, y, pressed }, stage) {
  if (!pressed) return null;
  const { side, top, eigen, chart } = frames(stage), right = (x - eigen - side / 2) / (side / 2 / REACH), up = (top + side / 2 - y) / (side / 2 / REACH);
  if (x >= eigen && x <= eigen + side && y >= top && y <= top + side) {
    const radius = Math.min(Math.max(Math.hypot(right, up), 0.5), 1.1), degrees = (Math.abs(Math.atan2(up, right)) * 180) / Math.PI;
    return { radius: Math.round(radius * 100) / 100, degrees: Math.round(degrees / 5) * 5 };
  }
  if (x >= chart.left - 10 && y >= chart.top - 10 && y <= chart.top + chart.height + 10)
    return { n: Math.min(Math.max(Math.round(((x - chart.left) / chart.width) * LONGEST), 0), LONGEST) };
  return null;
}

export default explorable({
  title: "The powers of a matrix, as stored and as the powers of one number",
  controls, compute, describe, draw, point,
  play: { control: "n", seconds: 0.3 },
});
