// Lesson 12: the plan of a kernel decides what it moves and what it keeps; beside it the times of the kernel ladder on record.

import { arrow, box, bytes, choice, explorable, format, h, label, line, scale, slider } from "./shared.js";

const TILES = 6; // chunks in the matrix of the picture
const PLANS = {
  operators: "one operator after another",
  token: "one token after another",
  states: "two kernels, states in memory",
  chip: "one kernel, state on the chip",
  groups: "one kernel, three groups",
};
const HALF = 2, FULL = 4; // bytes of a bfloat16 and of a float32 number
const unless = (idle, words) => (power, { plan } = {}) => (plan === idle ? "not used by this plan" : words(2 ** power));

export const controls = [
  choice("plan", "plan", PLANS, "operators"),
  slider("step", "walk", { value: 3, min: 1, max: TILES, words: (step) => `step ${step} of ${TILES}` }),
  slider("chunk", "chunk size C", { value: 8, min: 4, max: 9, words: unless("token", (C) => `${C} tokens`) }),
  slider("columns", "columns of V a program", { value: 5, min: 4, max: 9, words: unless("operators", (wide) => `${wide} of 512`) }),
  choice("measured", "measured times", { hidden: "hidden: guess first", shown: "shown" }),
];

// Of a token and head: bytes that must come from memory or go there, each array once a kernel; bytes that all programs ask for,
// of which we assume that a cache serves what was read before; and operations, a multiply-add counted as two.
function costs(plan, C, columns, K, V) {
  const inputs = HALF * (2 * K + 2 * V), state = (K * V) / C, tiles = Math.ceil(V / columns), rows = Math.min(columns, 128, K);
  const scores = 2 * C * K, values = 2 * C * V;
  if (plan === "operators") { // 8 K + 4 V: a product copies what lies in memory in another order than it needs
    const moved = FULL * (12 * K + 5 * C + 15 * V + 12 * state) + 12 * K + 20 * V;
    return { moved, asked: moved, flops: scores + values + 4 * K * V };
  }
  if (plan === "token") return { moved: inputs, asked: HALF * (2 * K * tiles + 2 * V), flops: 5 * K * V };
  if (plan === "chip" || plan === "groups") return { moved: inputs, asked: HALF * (2 * K * tiles + 2 * V), flops: scores * tiles + values + 4 * K * V };
  const again = HALF * (K + V), kept = 2 * HALF * state; // the first kernel reads k and v; a state is written and read
  const asked = HALF * (K * tiles + V * Math.ceil(K / rows) + 2 * K * tiles + 2 * V) + kept;
  return { moved: inputs + again + kept, asked, flops: scores * tiles + values + 4 * K * V };
}

// One step of one program, or one chunk of a head by operators: [name, bytes] that it loads (operators: and stores), holds on the chip and stores. A walk keeps D from chunk to
// chunk; its products read the state in 16 bits. In groups, those that hold the state round it in quarters, and the third makes D again.
function walk(plan, C, columns, K, V) {
  const token = plan === "token", n = token ? 1 : C, w = Math.min(columns, V), S = FULL * K * w;
  const tiles = [[token ? "q, k of a token" : "tiles of q, k", HALF * 2 * n * K], [token ? "v, its columns" : "tile of v", HALF * n * w]];
  const out = [token ? "o, its columns" : "tile of o", HALF * n * w], scores = ["scores", FULL * n * n], sum = ["o, while it is summed", FULL * n * w];
  if (plan === "operators") {
    const all = costs(plan, C, columns, K, V).moved * C, table = FULL * C * C, state = FULL * K * V;
    const often = [["scores, D", 5, table], ["S", 12, state]].map(([name, times, size]) => [`${name}: ${times} × ${bytes(size)}`, times * size]); // as in costs
    return { loads: [...often, ["q, k, v, o and copies", all - 5 * table - 12 * state]], holds: [], stores: [] };
  }
  if (plan === "token") return { loads: tiles, holds: [["state S", S]], stores: [out] };
  if (plan === "chip") return { loads: tiles, holds: [["state S", S], ["S in 16 bits", HALF * K * w], ["scores and D", 2 * FULL * n * n], sum], stores: [out] };
  if (plan === "groups") {
    const holds = [["state S, in two groups", S], ["a quarter of it in 16 bits", (HALF * K * w) / 4], ["scores, in the third", FULL * n * n], sum];
    return { loads: tiles, holds, stores: [out] };
  }
  return { loads: [...tiles, ["S, from the first kernel", HALF * K * w]], holds: [scores, sum], stores: [out] };
}

// How many programs there are; none of them waits for another.
const programs = (plan, C, columns, { tokens, heads, time, value_dim }) =>
  plan === "operators" ? null : heads * (tokens / time) * Math.ceil(value_dim / columns) * (plan === "states" ? Math.ceil(time / C) : 1);

// Operators and the loop over tokens compute in float32, without the product units.
const within = ({ tokens, heads, key_dim, value_dim, copy, product, float32 }, plan, C, columns) => {
  const each = costs(plan, C, columns, key_dim, value_dim), times = tokens * heads;
  const moved = each.moved * times, flops = each.flops * times;
  return { moved, asked: each.asked * times, flops, memory_ms: (1e3 * moved) / copy, product_ms: (1e3 * flops) / (plan === "operators" || plan === "token" ? float32 : product) };
};

// loads, holds, stores: of one step; held: bytes on the chip, in all, and share of the registers. moved, asked: bytes of the whole
// task; flops: its operations; at_once: programs; memory_ms, product_ms: what they take at the rates of a copy and of their products. floor: the bytes that
// every plan moves. rungs: the same of the rungs on record, with the ms measured; null where the plan of a rung is not known.
export function compute({ plan, chunk, columns }, data) {
  const C = 2 ** chunk, wide = 2 ** columns, { key_dim: K, value_dim: V, tokens, heads, copy } = data;
  const step = walk(plan, C, wide, K, V), held = step.holds.reduce((sum, [, size]) => sum + size, 0);
  const floor = HALF * (2 * K + 2 * V) * tokens * heads;
  const rungs = data.rungs.map(({ name, ms, plan: its }) => ({ name, ms, ...(its ? within(data, ...its) : { memory_ms: null, product_ms: null }) }));
  return { ...step, held, share: held / data.registers, at_once: programs(plan, C, wide, data), ...within(data, plan, C, wide), floor, floor_ms: (1e3 * floor) / copy, rungs };
}

export function describe({ held, share, moved, floor, memory_ms, product_ms, asked, flops, at_once }, { plan }) {
  const kept = plan === "operators" ? "Nothing stays on the chip: each operator writes its result to memory, and the next reads it back"
    : `A program holds ${bytes(held)} on the chip, ${format(100 * share, 2)} % of a multiprocessor's registers` +
      (share >= 1 ? ": no room for the addresses of what it loads and stores, so some of it goes to memory and back" : `; ${format(at_once, 6)} independent programs`);
  const units = plan === "operators" || plan === "token" ? "at the peak of float32, without the product units" : "at the rate of a large bfloat16 product";
  const times = moved > floor ? `${format(moved / floor, 2)} times` : "just";
  const cached = asked > moved ? ` (programs ask for ${bytes(asked)}; we assume that a cache serves the rest)` : "";
  return `${kept}. In all ${bytes(moved)} pass between memory and chip, ${times} what every plan must move${cached}. At the rate of a copy that takes ${format(memory_ms, 2)} ms. ` +
    `The ${format(flops / 1e12, 2)} TFLOP take ${format(product_ms, 2)} ms ${units}.`;
}

const layout = ({ width, narrow }, rungs) => {
  const side = narrow ? 150 : 204, panel = narrow ? { x: 8, y: side + 66 } : { x: side + 44, y: 18 };
  const chart = { left: narrow ? 92 : 292, top: narrow ? side + 276 : 284, row: 26 };
  return { side, panel, chart, right: width - 14, count: rungs.length + 1 };
};

const COLOURS = { loads: "blue", holds: "green", stores: "orange" };

export function draw(stage, numbers, { plan, step, chunk, measured }, data) {
  const { colours, width, narrow } = stage, { rungs, share, moved, floor, floor_ms, at_once } = numbers, place = layout(stage, rungs);
  const { side, panel, chart, right } = place, cell = side / TILES, quiet = { colour: colours.muted, size: 12 };
  const ink = { colour: colours.ink, at: "start", size: 13 }, corner = [8, 26];
  // The tiles of scores: in work, done, still to come, and those above the diagonal, which nobody loads.
  const cross = ([x0, y0], [x1, y1]) => [[y0, y1], [y1, y0]].map(([from, to]) => line([[x0, from], [x1, to]], colours.muted, { "stroke-width": 0.8 })).join("");
  const token = plan === "token", cells = Array.from({ length: TILES * TILES }, (_, i) => [Math.floor(i / TILES), i % TILES]);
  const matrix = cells.filter(([row, column]) => !token || row === column).map(([row, column]) => {
    const x = corner[0] + column * cell, y = corner[1] + row * cell, now = row === step - 1 && column === row;
    const fill = column > row ? "none" : now ? colours.green : column < row && row === step - 1 ? colours.line : colours.faint;
    return box(x + 1, y + 1, cell - 2, cell - 2, fill, { stroke: colours.line, "stroke-width": 1 }) +
      (column > row ? cross([x + 10, y + 10], [x + cell - 10, y + cell - 10]) : "");
  });
  const row = corner[1] + (step - 0.5) * cell;
  const state = step > 1 ? label(corner[0] + ((step - 1) * cell) / 2, row, step > 2 ? "in S" : "S", { colour: colours.ink, size: 13, weight: 600 }) : "";
  const titles = label(corner[0], 12, token ? "one token after another" : `scores, tiles of C = ${2 ** chunk} tokens`, { ...ink, weight: 600 }) +
    label(corner[0], corner[1] + side + 12, token ? "no scores: S alone" : "crossed out: never computed", { ...quiet, at: "start" });
  // What one program loads, holds and stores in this step.
  let y = panel.y;
  const heads = { loads: plan === "operators" ? "moves, a chunk of one head" : "loads from memory", holds: "keeps on the chip", stores: "stores to memory" };
  const lists = Object.keys(heads).filter((kind) => kind !== "stores" || numbers.stores.length).map((kind) => {
    const items = numbers[kind], top = y, head = heads[kind];
    const lines = items.length ? items.map(([name, size]) => name.includes(":") ? `${name} = ${bytes(size)}` : `${name}: ${bytes(size)}`) : ["nothing, between two operators"];
    y += 22 + 19 * lines.length;
    return box(panel.x, top - 9, 4, 12 + 19 * lines.length, colours[COLOURS[kind]]) +
      label(panel.x + 12, top, head, { ...ink, colour: colours[COLOURS[kind]], weight: 600 }) +
      lines.map((text, i) => label(panel.x + 12, top + 19 * (i + 1), text, ink)).join("");
  });
  const room = narrow ? null : { x: panel.x + 248, width: right - panel.x - 262 };
  const wanted = share >= 1 ? Math.max(share, 1.1) : share; // addresses, which a program needs too, are drawn and not counted
  const whole = room && room.width / Math.max(wanted, 1); // the registers; what overflows sticks out
  const gauge = room && room.width > 60
    ? label(room.x, panel.y, "bytes moved in all", { ...ink, weight: 600 }) +
      label(room.x, panel.y + 22, `${bytes(moved)}: ${moved > floor ? `${format(moved / floor, 2)} times` : "just"} the floor`, ink) +
      (at_once ? label(room.x, panel.y + 60, "registers", { ...ink, weight: 600 }) + box(room.x, panel.y + 72, Math.max(whole * wanted, 1), 20, colours.red) +
        box(room.x, panel.y + 72, Math.max(whole * Math.min(share, 1), 1), 20, colours.green) + box(room.x, panel.y + 72, whole, 20, "none", { stroke: colours.ink }) +
        label(room.x, panel.y + 106, `${format(100 * share, 2)} % of ${bytes(data.registers)}`, { ...ink, colour: share >= 1 ? colours.red : colours.ink }) +
        (share >= 1 ? label(room.x, panel.y + 128, share > 1 ? "overflows to memory" : "addresses overflow", { ...ink, colour: colours.red, weight: 600 })
          : label(room.x, panel.y + 128, `${format(at_once, 6)} independent programs`, ink)) : "") : "";
  // The times: what bytes and products take at the rates of a copy and of a product, and what was measured.
  const shown = measured === "shown", rows = [{ name: "this plan", ms: null, ...numbers }, ...rungs], bottom = chart.top + chart.row * rows.length;
  const times = rows.flatMap(({ ms, memory_ms, product_ms }) => [ms, memory_ms, product_ms]).filter((x) => x);
  const x = scale([0.05, Math.max(50, 1.2 * Math.max(...times))], [chart.left, right], { log: true });
  const ticks = [0.1, 1, 10, 100].filter((t) => x(t) < right).map((t) =>
    line([[x(t), chart.top - 6], [x(t), bottom]], colours.line, { "stroke-width": 0.7 }) + label(x(t), bottom + 12, `${format(t)} ms`, quiet));
  const least = line([[x(floor_ms), chart.top - 8], [x(floor_ms), bottom]], colours.ink, { "stroke-width": 1.3, "stroke-dasharray": "4 3" }) +
    label(x(floor_ms), chart.top - 16, "floor of bytes", { ...quiet, colour: colours.ink });
  const rungs_are = label(narrow ? 8 : 10, bottom + 12, narrow ? "v: timed" : "v0 to v5: versions that were timed", { ...quiet, at: "start" });
  const circle = (at, y) => h("circle", { cx: x(at), cy: y, r: 5, fill: colours.blue });
  const square = (at, y) => box(x(at) - 4.5, y - 4.5, 9, 9, "none", { stroke: colours.purple, "stroke-width": 2.2 });
  const diamond = (at, y) => line([[at, y - 7], [at + 7, y], [at, y + 7], [at - 7, y], [at, y - 7]], colours.orange, { fill: colours.orange });
  const drawn = rows.map(({ name, ms, memory_ms, product_ms }, i) => {
    const middle = chart.top + chart.row * (i + 0.5), [its, C] = i ? data.rungs[i - 1].plan ?? [] : [plan];
    const words = i && its === "operators" ? `the reference, C = ${C}` : PLANS[its];
    return (i ? "" : box(2, middle - 12, width - 4, 24, colours.faint)) + label(narrow ? chart.left - 8 : 10, middle, name, { ...ink, at: narrow ? "end" : "start", weight: i ? 400 : 600 }) +
      (narrow || !words ? "" : label(96, middle, words, { ...ink, colour: i ? colours.muted : colours.ink, weight: i ? 400 : 600 })) +
      (ms && shown ? diamond(x(ms), middle) + (narrow ? "" : label(x(ms) + 11, middle, `${format(ms)} ms`, { ...ink, size: 12, colour: colours.orange })) : "") +
      (memory_ms ? circle(memory_ms, middle) : "") + (product_ms ? square(product_ms, middle) : "");
  });
  const foot = bottom + 34, third = narrow ? 0 : (width - 20) / 3;
  const key = [["orange", shown ? "measured" : "measured (hidden)"], ["blue", "its bytes, as a copy"], ["purple", "its operations, at their peak"]].map(([colour, text], i) => {
    const left = narrow ? 10 : 10 + i * third, y = narrow ? foot + 20 * i : foot;
    const sign = i === 0 ? diamond(left + 9, y)
      : i === 1 ? h("circle", { cx: left + 9, cy: y, r: 5, fill: colours.blue })
        : box(left + 4.5, y - 4.5, 9, 9, "none", { stroke: colours.purple, "stroke-width": 2.2 });
    return sign + label(left + 26, y, text, { ...ink, colour: colours[colour] });
  });
  const to = narrow ? "" : arrow([panel.x - 30, row], [panel.x - 6, row], colours.muted, { width: 1.3, head: 7 });
  return { height: foot + (narrow ? 60 : 16), drawn: h("g", {}, titles, matrix, state, to, lists, gauge, ticks, least, rungs_are, drawn, key) };
}

// Over the matrix the pointer walks; a click on a rung takes over its plan.
export function point({ x, y, pressed }, stage, { rungs }, values, data) {
  const { side, chart } = layout(stage, rungs), step = Math.floor((y - 26) / (side / TILES)) + 1;
  if (x < side + 8 && step >= 1 && step <= TILES) return { step };
  const rung = data.rungs[Math.floor((y - chart.top) / chart.row) - 1];
  if (!pressed || !rung?.plan) return null;
  const [plan, chunk, columns] = rung.plan, power = (n) => Math.min(Math.max(Math.round(Math.log2(n)), 4), 9);
  return { plan, chunk: power(chunk), columns: power(columns) };
}

export default explorable({
  title: "What a kernel moves, what it keeps, and what it takes",
  controls, compute, describe, draw, point, play: { control: "step", seconds: 0.8 },
});
