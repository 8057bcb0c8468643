// Lesson 3: a query and a key as hands of a clock. Both turn with their position; only their distance changes the score.
// With a decay, the weight is the score times γ^distance.

import { arrow, axes, count, explorable, format, h, label, line, scale, slider } from "./shared.js";
import { dot, rotate } from "./retention.js";

const LAGS = 12, LATEST = 30;

export const controls = [
  slider("degrees", "angle θ", { value: 30, min: 0, max: 180, step: 5, words: (x) => `${x}° a token` }),
  slider("lag", "distance n − m", { value: 2, min: 0, max: LAGS, words: (x) => count(x, "token") }),
  slider("m", "key's place m", { value: 3, min: 0, max: LATEST, words: (x) => `token ${x}` }),
  slider("between", "query from key", { value: -90, min: -180, max: 180, step: 5, words: (x) => `${x}°`.replace("-", "\u2212") }),
  slider("gamma", "decay γ", { value: 0.9, min: 0.7, max: 1, step: 0.01, words: (x) => (x === 1 ? "1: none" : `${x.toFixed(2)} a token`) }),
];

const hand = (degrees) => [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];

// scores[j], weights[j]: score and weight at distance j; query and key: the turned hands; everywhere: the score at each place
// of the key; best: the distance of the largest weight; fade[j]: γ^j.
export function compute({ degrees, lag, m, between, gamma }) {
  const theta = [(degrees * Math.PI) / 180], q = hand(60 + between), k = hand(60);
  const score = (n, m) => dot(rotate(q, n, theta), rotate(k, m, theta));
  const scores = Array.from({ length: LAGS + 1 }, (_, j) => score(m + j, m)), fade = scores.map((_, j) => gamma ** j);
  const weights = scores.map((x, j) => fade[j] * x), highest = Math.max(...weights);
  return {
    query: rotate(q, m + lag, theta), key: rotate(k, m, theta),
    score: score(m + lag, m), scores, fade, weights, best: weights.findIndex((x) => x > highest - 1e-9),
    everywhere: Array.from({ length: LATEST + 1 }, (_, place) => score(place + lag, place)),
  };
}

// A score of a right angle is 0 up to rounding.
const rounded = (x) => format(Math.abs(x) < 1e-12 ? 0 : x);

const chooses = ({ weights, best }) => weights[best] > 1e-9 && weights[best] - Math.min(...weights) > 1e-9;

export function describe({ score, everywhere, weights, best }, { lag, m, degrees, gamma }) {
  const spread = Math.max(...everywhere) - Math.min(...everywhere);
  const faded = gamma === 1 ? "" : `; times the decay ${format(gamma)} to the power ${lag} it is a weight of ${rounded(weights[lag])}`;
  return `The key stands at token ${m}, the query ${lag === 0 ? "at the same token" : `${count(lag, "token")} later`}; each has turned ` +
    `${degrees} degrees for every token before it. Their score, the cosine of the angle between the hands, is ${rounded(score)}${faded}. ` +
    `The score is the same wherever the key stands: over all ${everywhere.length} places it differs by ${spread < 1e-12 ? "no more than rounding" : format(spread, 1)}. ` +
    (chooses({ weights, best }) ? `This query reads distance ${best} most.` : "This query gives no distance a weight above zero, or all the same.");
}

export function draw({ width, narrow, colours }, { query, key, scores, weights, fade, best }, { lag, m, gamma, between }) {
  const dial = narrow ? Math.min(width, 300) : 0.42 * width, radius = 0.33 * dial, cx = narrow ? width / 2 : dial / 2, cy = dial / 2;
  const hands = [["k", m, key, colours.orange, "6 4"], ["q", m + lag, query, colours.blue, null]].map(([name, place, [x, y], colour, dash]) =>
    arrow([cx, cy], [cx + radius * x, cy - radius * y], colour, { width: 3, head: 13, "stroke-dasharray": dash }) +
    label(cx + (radius + 22) * x, cy - (radius + 18) * y, `${name}_{${place}}`, { colour, size: 16, weight: 600 }));
  // The angle between the hands, the shorter way round: its cosine is the score.
  const turn = query[0] * key[1] - query[1] * key[0], arc = 0.4 * radius, at = ([x, y]) => `${cx + arc * x} ${cy - arc * y}`;
  const angle = h("path", { d: `M${at(query)}A${arc} ${arc} 0 0 ${turn > 0 ? 0 : 1} ${at(key)}`, fill: "none", stroke: colours.ink, "stroke-width": 2 }) +
    label(cx, cy + radius + 36, "score: cosine of the angle", { colour: colours.ink });
  // Along the rim, the angle from the key's start to the query's: β of the equation.
  const [[x0, y0], [x1, y1], [xb, yb]] = [60, 60 + between, 60 + between / 2].map(hand), rim = `${cx + radius * x1} ${cy - radius * y1}`;
  const start = between === 0 ? "" : h("path", { d: `M${cx + radius * x0} ${cy - radius * y0}A${radius} ${radius} 0 0 ${between > 0 ? 0 : 1} ${rim}`, fill: "none", stroke: colours.purple, "stroke-width": 3 }) +
    label(cx + (radius - 13) * xb, cy - (radius - 13) * yb, "β", { colour: colours.purple, size: 15, weight: 600 });
  const clock = h("circle", { cx, cy, r: radius, fill: colours.faint, stroke: colours.line }) +
    line([[cx - radius, cy], [cx + radius, cy]], colours.line) + line([[cx, cy - radius], [cx, cy + radius]], colours.line) + start +
    [[60, colours.orange, 7], [60 + between, colours.blue, 5]].map(([degrees, fill, r]) => { const [x, y] = hand(degrees); return h("circle", { cx: cx + radius * x, cy: cy - radius * y, r, fill }); }).join("") +
    angle + hands.join("") + label(cx, 12, "dots: the hands at token 0, β apart", { colour: colours.muted, size: 12 });
  const frame = narrow
    ? { left: 40, top: dial + 24, width: width - 60, height: 170 }
    : { left: dial + 50, top: 48, width: width - dial - 70, height: dial - 98 };
  const x = scale([0, LAGS], [frame.left, frame.left + frame.width]), y = scale([-1, 1], [frame.top + frame.height, frame.top]);
  const chart = axes(colours, frame, x, y, "distance n − m (tokens)", gamma === 1 ? "score q·k" : narrow ? "weight" : "weight = score × decay", { yticks: [-1, 0, 1] }) +
    (gamma === 1 ? "" : [1, -1].map((sign) => line(fade.map((value, j) => [x(j), y(sign * value)]), colours.green, { "stroke-width": 1.5, "stroke-dasharray": "6 4" })).join("") +
      [["rings: score", colours.muted, 104], ["dashes: decay", colours.green, 0]].map(([text, colour, back]) =>
        label(frame.left + frame.width - back, frame.top - (narrow ? 14 : 34), text, { colour, size: 12, at: "end" })).join("") +
      scores.map((value, j) => h("circle", { cx: x(j), cy: y(value), r: 3, fill: "none", stroke: colours.muted })).join("")) +
    line(weights.map((value, j) => [x(j), y(value)]), colours.muted, { "stroke-dasharray": "2 4" }) +
    weights.map((value, j) => h("circle", { cx: x(j), cy: y(value), r: 4.5, fill: j === best && chooses({ weights, best }) ? colours.purple : colours.ink })).join("") +
    (!chooses({ weights, best }) ? "" : label(x(best), y(weights[best]) + (weights[best] < 0.8 ? -16 : 18), "most", { colour: colours.purple, size: 12, weight: 600, at: best === 0 ? "start" : best === LAGS ? "end" : "middle" })) +
    h("circle", { cx: x(lag), cy: y(weights[lag]), r: 8, fill: "none", stroke: colours.blue, "stroke-width": 3 });
  return { height: narrow ? dial + 250 : dial + 8, drawn: clock + chart };
}

// Drag on the clock: the query's hand follows the pointer. Drag on the chart: the distance does.
export function point({ x, y, pressed }, { width, narrow }, { key }, { lag, m, degrees }) {
  if (!pressed) return null;
  const dial = narrow ? Math.min(width, 300) : 0.42 * width, cx = narrow ? width / 2 : dial / 2, cy = dial / 2;
  if (narrow ? y > dial : x > dial) {
    const left = narrow ? 40 : dial + 50, span = narrow ? width - 60 : width - dial - 70;
    return { lag: Math.min(Math.max(Math.round(((x - left) / span) * LAGS), 0), LAGS) };
  }
  const angle = (Math.atan2(cy - y, x - cx) * 180) / Math.PI - degrees * (m + lag) - 60;
  const wrapped = ((((angle + 180) % 360) + 360) % 360) - 180;
  return { between: Math.round(wrapped / 5) * 5 };
}

export default explorable({
  title: "A query and a key as the hands of a clock that turns with each token",
  controls, compute, describe, draw, point, play: { control: "m", seconds: 0.4 },
});
