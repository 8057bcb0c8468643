// Lesson 7: a picture written L tokens ago, read back by eight heads. The head whose window is about 2 L hears it best.

import { axes, box, count, explorable, format, label, line, scale, signed, slider } from "./shared.js";

const HEADS = 8, LATEST = 13, GRID = 16; // the chart has lags from 1 to 2^LATEST, GRID of them an octave
const FIRST = 2; // below it quarters of an octave are less than a token
const HIGH = 0.9; // of the best possible: a lag is covered from here on

const tokens = (power) => Math.round(2 ** power);
const sevenths = (step) => (step === 7 ? " (Eq. 8)" : step === 4 ? " (paper's runs)" : step === 0 ? ": all equal" : "");

export const controls = [
  slider("power", "lag L", { value: 7, min: FIRST, max: LATEST, step: 0.25, words: (x) => count(tokens(x), "token") }),
  slider("fastest", "window, head 0", { value: 5, min: 3, max: 10, words: (x) => count(2 ** x, "token") }),
  slider("step", "next window", { value: 7, min: 0, max: 7, words: (x) => `× ${format(2 ** (x / 7))}${sevenths(x)}` }),
  slider("width", "key width K", { value: 10, min: 4, max: 12, words: (x) => `${format(2 ** x, 4)} numbers` }),
];

// r: the share of lag L in the sum of all squared weights, by what a head forgets, 1 - gamma.
const shareOf = (forgets, lag) => (1 - forgets) ** (2 * lag) * forgets * (2 - forgets);
const ratio = (share, width) => Math.sqrt((width * share) / (1 - share));
const bestForgets = (lag) => 1 / ((lag + 1) * (1 + Math.sqrt(lag / (lag + 1)))); // 1 - sqrt(L / (L + 1)), to all digits

// snr[h]: signal to noise of each head at the lag; possible: that of the best gamma of all; reads[h]: the picture as the head
// gives it, of size 1; right[h]: how many of its signs are those of the picture; best: the heads that share the first place;
// curves[h]: snr in parts of the best possible, at each of `lags`; covered: octaves of lag where some head reaches HIGH.
export function compute({ power, fastest, step, width }, { picture, noise }) {
  const lag = tokens(power), K = 2 ** width;
  const forgets = Array.from({ length: HEADS }, (_, h) => 2 ** -(fastest + (step * h) / 7));
  const snr = forgets.map((f) => ratio(shareOf(f, lag), K)), most = Math.max(...snr);
  const reads = forgets.map((f) => {
    const signal = (1 - f) ** lag, size = Math.sqrt((1 / (f * (2 - f)) - signal ** 2) / K), whole = Math.hypot(signal, size);
    return picture.map((pixel, i) => (signal * pixel + size * noise[i]) / whole);
  });
  const lags = Array.from({ length: GRID * LATEST + 1 }, (_, i) => 2 ** (i / GRID));
  const curves = forgets.map((f) => lags.map((l) => ratio(shareOf(f, l), K) / ratio(shareOf(bestForgets(l), l), K)));
  return {
    lag, key_width: K, windows: forgets.map((f) => 1 / f), snr, reads, lags, curves,
    best: snr.flatMap((value, h) => (value >= most * (1 - 1e-9) ? [h] : [])),
    right: reads.map((read) => read.filter((value, i) => value * picture[i] > 0).length),
    possible: ratio(shareOf(bestForgets(lag), lag), K), best_window: 1 / bestForgets(lag),
    covered: lags.filter((_, i) => Math.max(...curves.map((curve) => curve[i])) >= HIGH).length / GRID,
  };
}

const heard = (value) => (value < 0.01 ? "< 0.01" : value.toFixed(2));
const whole = (window) => format(Math.round(window), 6);
const brief = (window) => (window >= 10000 ? `${Math.round(window / 1000)}k` : whole(window));

export function describe({ lag, windows, snr, right, best, possible, best_window, covered, reads }) {
  const pixels = reads[0].length, said = (h) => `signal to noise ${heard(snr[h])}, ${right[h]} of ${pixels} pixels right`;
  const first = best.length === HEADS
    ? `All eight heads have window ${whole(windows[0])} and hear the picture alike: ${said(0)}.`
    : `Head ${best[0]}, window ${whole(windows[best[0]])}, hears it best: ${said(best[0])}. ` +
      `Head 0 has ${heard(snr[0])}, head 7 has ${heard(snr[7])}.`;
  return `The picture was written ${count(lag, "token")} ago. ${first} ` +
    `The best window for this lag would be ${whole(best_window)}, with ${heard(possible)}. ` +
    `These heads reach 90 % of the best possible while the lag doubles ${covered.toFixed(1)} of ${LATEST} times.`;
}

const SIDE = 8; // pixels of the picture in a row

// wrong(i): whether pixel i has the wrong sign; it gets a dot.
function tile(colours, values, x, y, size, { frame = null, wrong = () => false } = {}) {
  const cell = size / SIDE, dot = 0.34 * cell;
  const cells = values.map((value, i) =>
    box(x + (i % SIDE) * cell, y + Math.floor(i / SIDE) * cell, cell + 0.3, cell + 0.3, signed(colours, value, 1.8)));
  const dots = values.map((_, i) => !wrong(i) ? "" : box(x + (i % SIDE + 0.5) * cell - dot / 2,
    y + (Math.floor(i / SIDE) + 0.5) * cell - dot / 2, dot, dot, colours.ink, { rx: dot / 2, stroke: colours.paper, "stroke-width": 0.8 }));
  return cells.join("") + dots.join("") + box(x, y, size, size, "none", { stroke: frame ?? colours.line, "stroke-width": frame ? 4 : 1 });
}

// Where things stand: the same for drawing and for the pointer.
function layout({ width, narrow }) {
  const columns = narrow ? 4 : 8, pitch = (width - 8) / columns, size = Math.min(pitch - 14, 84), tall = size + 88;
  const top = 84, chart = top + (HEADS / columns) * tall + 34;
  const frame = { left: 44, top: chart, width: width - 64, height: narrow ? 150 : 170 };
  return { columns, pitch, size, tall, top, frame, x: scale([1, 2 ** LATEST], [44, width - 20], { log: true }) };
}

export function draw(stage, numbers, values, { picture, noise }) {
  const { width, narrow, colours } = stage, { lag, windows, snr, reads, right, best, lags, curves, covered } = numbers;
  const { columns, pitch, size, tall, top, frame, x } = layout(stage), equal = best.length === HEADS;
  const drawnNoise = noise.slice(0, Math.min(lag, 32)), each = (width - 130) / 32; // a square a token, 32 at most
  const story = tile(colours, picture, 12, 22, 48) + label(12, 10, "written", { colour: colours.ink, at: "start", size: 12 }) +
    drawnNoise.map((value, i) => box(70 + i * each, 38, each - 1, 16, signed(colours, value, 3))).join("") +
    label(70, 24, `${count(lag, "token")} of noise${narrow ? "" : " follow"}${lag > 32 ? (narrow ? "; 32 drawn" : "; 32 are drawn") : ""}`, { colour: colours.muted, at: "start" }) +
    label(70 + drawnNoise.length * each + 6, 46, "now", { colour: colours.ink, at: "start", weight: 600 }) +
    label(70, 68, narrow ? "Read now; dots: wrong" : "What each head reads now, brought to one size. A dot: a pixel of the wrong sign", { colour: colours.ink, at: "start" });
  const heads = reads.map((read, h) => {
    const left = 4 + (h % columns) * pitch + (pitch - size) / 2, y = top + Math.floor(h / columns) * tall, middle = left + size / 2;
    const chosen = !equal && best.includes(h), look = { colour: chosen ? colours.green : colours.ink, size: 12, weight: chosen ? 700 : 400 };
    return label(middle, y + 8, chosen ? (narrow ? `${h}: best` : `head ${h}: best`) : `head ${h}`, look) +
      tile(colours, read, left, y + 18, size,
        { frame: chosen ? colours.green : null, wrong: (i) => read[i] * picture[i] <= 0 }) +
      label(middle, y + size + 30, `${narrow ? "w" : "window"} ${brief(windows[h])}`, look) +
      label(middle, y + size + 46, `S/N ${heard(snr[h])}`, { ...look, colour: chosen ? colours.green : colours.muted }) +
      label(middle, y + size + 62, `${right[h]} of ${read.length}`, { ...look, colour: chosen ? colours.green : colours.muted });
  });
  const y = scale([0, 1.08], [frame.top + frame.height, frame.top]);
  const bells = curves.map((curve, h) => {
    const chosen = !equal && best.includes(h), points = lags.map((l, i) => [x(l), y(curve[i])]);
    return line(points, chosen ? colours.green : colours.muted, { "stroke-width": chosen ? 3.5 : 1.5, "stroke-dasharray": chosen ? null : "5 3" });
  });
  let last = -Infinity;
  const names = windows.map((window, h) => {
    const at = x(window / 2);
    if (at < frame.left || at > width - 20 || at - last < 15) return "";
    last = at;
    return label(at, y(1) - 10, equal ? "all eight" : h, { colour: best.includes(h) && !equal ? colours.green : colours.ink, size: 12, weight: 600 });
  });
  const reached = lags.flatMap((l, i) => (Math.max(...curves.map((curve) => curve[i])) >= HIGH ? [x(l)] : []));
  const cover = reached.length
    ? line([[reached[0], y(HIGH)], [reached.at(-1), y(HIGH)]], colours.purple, { "stroke-width": 5, opacity: 0.8 }) : "";
  const bottom = frame.top + frame.height;
  const octaves = line([[frame.left, bottom + 56], [frame.left + 24, bottom + 56]], colours.purple, { "stroke-width": 5, opacity: 0.8 }) +
    label(frame.left + 32, bottom + 56, `${narrow ? "≥ 90 %" : "90 % or more"}: L doubles ${covered.toFixed(1)} times`, { colour: colours.purple, at: "start" });
  const ticks = narrow ? [1, 16, 256, 4096] : [1, 4, 16, 64, 256, 1024, 4096];
  const chart = axes(colours, frame, x, y, "lag L (tokens since the write)",
    narrow ? "% of the best possible at that lag" : "signal to noise of each head, in % of what the best γ for that lag reaches",
    { xticks: ticks, yticks: [0, 0.5, HIGH, 1], tick: (value) => (value > 0 && value < 1 ? format(100 * value) : value === 1 ? "" : format(value, 4)) });
  const beside = Math.min(x(lag) + 6, width - 72), text = `L = ${format(lag, 4)}`;
  const now = line([[x(lag), y(1)], [x(lag), bottom]], colours.ink, { "stroke-width": 1.5 }) +
    box(beside - 2, bottom - 30, 8.5 * text.length, 20, colours.paper, { opacity: 0.85 }) +
    label(beside, bottom - 20, text, { colour: colours.ink, at: "start", weight: 600 });
  const drawn = [story, ...heads, chart, ...bells, cover, ...names, now, octaves].join("");
  return { height: bottom + 70, drawn };
}

// Drag in the chart: the lag follows, in quarters of an octave.
export function point({ x, y, pressed }, stage) {
  const at = layout(stage);
  if (!pressed || y < at.frame.top - 10) return null;
  const power = Math.round(4 * Math.log2(at.x.invert(x))) / 4;
  return { power: Math.min(Math.max(power, FIRST), LATEST) };
}

export default explorable({
  title: "A picture written L tokens ago, as eight heads with different decays read it",
  controls, compute, describe, draw, point,
});
