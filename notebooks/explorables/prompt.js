// Lesson 9: two lanes write on from one prompt. One reads it again, the other brings its saved state back.

import {
  MONO, asked, box, bytes, choice, count, explorable, h, hidden, input, label, line, mix, on, scale, slider, wrap,
} from "./shared.js";

const LENGTH = 64, LONGEST = 200; // bytes that are written, and of the longest prompt

const PROMPTS = { 0: "22 bytes, recorded", 1: "80 bytes, recorded", 2: "189 bytes, recorded", own: "your own" };

export const controls = [
  choice("prompt", "prompt", PROMPTS, "1"),
  choice("back", "brought back", { all: "state and its place", unplaced: "state, places from 0", nothing: "no state" }),
  slider("step", "steps", { value: 112, min: 0, max: LONGEST + LENGTH, words: (x) => count(x, "step") }),
  input("own", "your prompt", { maxlength: LONGEST, enter: "write" }),
  hidden("kernel", "none"), // "none", or "here"
  hidden("problem", ""),
];

// Each lane takes one step a byte, read or written. kept, again: { read, written, text } of the lane that brings a state
// back and of the one that reads again, text to its end; steps: how many each takes to its end; agree[i]: whether byte i
// is the same in both; same: how many are, of the `both` that both have written; first: the first that differs, or
// -1; size: of the saved file in bytes.
export function compute({ prompt, back, step }, { recorded, own }) {
  const record = prompt === "own" ? (own ?? recorded[1]) : recorded[prompt], time = record.prompt.length;
  const agree = record.again.map((token, i) => token === record[back][i]);
  const number = (flags) => flags.filter(Boolean).length;
  const kept = { read: 0, written: Math.min(step, agree.length), text: record[back] };
  const done = Math.min(Math.max(step - time, 0), agree.length);
  const again = { read: Math.min(step, time), written: done, text: record.again };
  const both = Math.min(kept.written, again.written);
  return {
    prompt: record.prompt, size: record.size, agree, both, same: number(agree.slice(0, both)),
    first: agree.indexOf(false), kept, again, steps: { kept: agree.length, again: time + agree.length },
  };
}

const LOST = {
  unplaced: "the keys were turned by their places, and queries that count from 0 see wrong distances",
  nothing: "the model has lost the prompt",
};
const BACK = { all: "its state and its place in the text", unplaced: "its state without its place", nothing: "no state" };

const RECORDED = { here: "Recorded; type a prompt of your own, the kernel writes on.", none: "Recorded, as no Python runs here." };

export function describe({ prompt, size, agree, kept, again, both, same, first }, values, { own }) {
  const { back, kernel, problem, prompt: chosen } = values, here = RECORDED[kernel];
  const source = chosen !== "own" ? here : own ? "Your prompt." : `${here} You have no prompt yet, so another is shown.`;
  const outcome = both === 0 ? "Nothing can be compared yet"
    : same === both ? `All ${both} bytes that both have written are the same`
    : `From written byte ${first + 1} on the lanes part: ${LOST[back]}`;
  return `${problem || source} The prompt has ${count(prompt.length, "byte")}; its saved state is a file of ` +
    `${bytes(size)}, whatever the length. One lane brings back ${BACK[back]}: ${kept.read} bytes read, ` +
    `${kept.written} written by the model. The other reads the prompt again: ${again.read} read, ` +
    `${again.written} written. ${outcome}.`;
}

// What is shown for each byte: a character at its first byte, nothing at the others, a box for what is no character.
function glyphs(text) {
  const shown = [];
  for (let i = 0; i < text.length; i++) {
    const size = text[i] < 128 ? 1 : text[i] > 239 ? 4 : text[i] > 223 ? 3 : 2;
    const character = new TextDecoder().decode(Uint8Array.from(text.slice(i, i + size)));
    const whole = [...character].length === 1 && character !== "\ufffd";
    shown.push(character === "\n" ? "↵" : whole && text[i] > 31 ? character : "□");
    if (whole) for (; shown.length < i + size; ) shown.push("");
    if (whole) i += size - 1;
  }
  return shown;
}

const CELL = 10.2, LINE = 22, BAR = 26; // of a byte, of a line of text and of a lane of the race, in px

// Bytes as cells below `top`: { drawn, bottom }; the first `done` stand on `ground`, the others are pale, or not there
// unless they stand `ahead`; frame(n): the colour of a line below a byte, or null.
function cells({ width, colours }, text, top, { done, ground, ahead = true, frame = () => null }) {
  const shown = glyphs(text), columns = Math.floor((width - 8) / CELL);
  const places = wrap(shown.map((glyph) => glyph || "\u00a0").join(""), columns);
  const drawn = (ahead ? shown : shown.slice(0, done)).map((glyph, n) => {
    const x = 4 + places[n][1] * CELL, y = top + places[n][0] * LINE, stroke = frame(n);
    const look = { size: 14, colour: n < done ? colours.ink : colours.muted, "dominant-baseline": null };
    return (n < done ? box(x, y, CELL + 0.3, LINE - 3, ground) : "") +
      (stroke ? line([[x + 1, y + LINE - 4], [x + CELL - 1, y + LINE - 4]], stroke, { "stroke-width": 3 }) : "") +
      (glyph.trim() ? label(x + CELL / 2, y + LINE / 2 - 1, glyph, look) : "");
  });
  const lines = places[places.length - 1][0] + 1;
  return { drawn: h("g", { ...MONO, "dominant-baseline": "central" }, drawn), bottom: top + lines * LINE };
}

export function draw(stage, { prompt, size, agree, kept, again, same, both, steps }, { step, back }) {
  const { width, narrow, colours } = stage, ink = { colour: colours.ink, at: "start" };
  const reading = mix(colours.paper, colours.blue, 0.22), writing = mix(colours.paper, colours.orange, 0.25);
  // The race: a lane each, a step a byte, read or written.
  const left = narrow ? 92 : 104, x = scale([0, steps.again], [left, width - 8]);
  const lanes = [
    ["from state", [["write", 0, steps.kept]]],
    ["read again", [["read", 0, prompt.length], ["write", prompt.length, steps.again]]],
  ];
  const race = lanes.map(([name, parts], i) => {
    const y = 22 + i * (BAR + 6);
    return label(left - 8, y + BAR / 2, name, { colour: colours.ink, at: "end", size: 13, weight: 600 }) +
      parts.map(([what, from, to]) => {
        const colour = what === "read" ? colours.blue : colours.orange, end = Math.min(Math.max(step, from), to);
        const middle = (x(from) + x(to)) / 2, written = end === to ? on(colour) : colours.ink;
        const inside = x(to) - x(from) > 46 ? label(middle, y + BAR / 2, what, { colour: written }) : "";
        return box(x(from), y, x(to) - x(from), BAR, mix(colours.paper, colour, 0.22), { stroke: colour }) +
          box(x(from), y, x(end) - x(from), BAR, end === to ? colour : mix(colours.paper, colour, 0.5)) + inside;
      }).join("");
  });
  const now = x(Math.min(step, steps.again));
  const cursor = line([[now, 16], [now, 22 + 2 * BAR + 12]], colours.ink, { "stroke-width": 1.5 }) +
    label(Math.min(Math.max(now, left + 20), width - 34), 8, count(Math.min(step, steps.again), "step"),
      { colour: colours.ink, size: 12 });

  // The state stands in place of the prompt in the first lane.
  const first = 22 + 2 * (BAR + 6) + 26, file = { all: "state + place", unplaced: "state", nothing: "no state" }[back];
  const told = ({ read, written }) =>
    narrow ? `${read} read, ${written} written` : `${count(read, "byte")} read, ${written} written by the model`;
  const state = label(4, first, `From the state: ${told(kept)}`, { ...ink, weight: 600 }) +
    box(4, first + 14, 190, 28, back === "nothing" ? colours.paper : mix(colours.paper, colours.green, 0.25),
      { stroke: colours.green, "stroke-width": 1.5, "stroke-dasharray": back === "nothing" ? "4 3" : null, rx: 5 }) +
    label(99, first + 28, back === "nothing" ? file : `${file} · file ${bytes(size)}`, { colour: colours.ink, size: 12 });
  const differs = (n) => (agree[n] ? null : colours.red);
  const look = { ground: writing, ahead: false };
  const mine = cells(stage, kept.text, first + 50, { ...look, done: kept.written, frame: differs });

  const second = mine.bottom + 26;
  const title = label(4, second, `Read again: ${told(again)}`, { ...ink, weight: 600 });
  const past = cells(stage, prompt, second + 14, { done: again.read, ground: reading });
  const theirs = cells(stage, again.text, past.bottom + 4, { ...look, done: again.written });
  const bottom = theirs.bottom + 16;
  const verdict = both === 0 ? "Nothing to compare yet: one lane still reads"
    : `${same} of ${count(both, "byte")} ${both === 1 ? "is" : "are"} the same` +
      (same < both && !narrow ? "; red lines mark the others" : both < agree.length ? " so far" : "");
  const judged = label(4, bottom, verdict, { ...ink, colour: same < both ? colours.red : colours.ink, weight: 600 });
  const drawn = h("g", {}, race, cursor, state, mine.drawn, title, past.drawn, theirs.drawn, judged);
  return { height: bottom + 14, drawn };
}

// Drag on the race: the step follows the pointer.
export function point({ x, y, pressed }, { width, narrow }, { steps }) {
  const left = narrow ? 92 : 104;
  if (!pressed || y > 22 + 2 * (BAR + 6)) return null;
  return { step: Math.min(Math.max(Math.round(((x - left) / (width - 8 - left)) * steps.again), 0), LONGEST + LENGTH) };
}

const SILENT = "There is no kernel here to write on: open the notebook with one.";

async function write({ own, kernel }, numbers, data, model) {
  const reply = await asked(model, { prompt: own }, kernel === "here" ? 30 : 5);
  if (!reply) return { problem: SILENT, kernel: "none" };
  const shown = reply.error ? {} : { prompt: "own", step: LONGEST + LENGTH };
  return { kernel: "here", problem: reply.error, ...shown };
}

export default explorable({
  title: "A prompt whose state is saved and brought back",
  controls, compute, describe, draw, point, play: { control: "step", seconds: 0.09 },
  press: { write: { title: "Write on from your prompt", act: write } },
  begin: async (model) => ({ kernel: (await asked(model, {}, 600)) ? "here" : "none" }), // a kernel may be busy for long
});
