// What all explorables share: controls, the stage with its theme and pointer, and a small vocabulary for drawing.
// Drawing makes strings of SVG, so the same functions draw in a page, a notebook cell and Node.

// ---------------------------------------------------------------- colours

// Ink on paper has at least 4.5:1 everywhere. Blue, orange, green and purple also differ in lightness or in their dashes.
export const LIGHT = {
  paper: "#ffffff", faint: "#f3f4f6", line: "#c9d1d9", muted: "#57606a", ink: "#1b1f24",
  blue: "#00639c", orange: "#b84a00", green: "#00704f", purple: "#8a3a74", red: "#b3002d",
};
export const DARK = {
  paper: "#111418", faint: "#1c2128", line: "#3a424c", muted: "#a8b0b8", ink: "#e8eaed",
  blue: "#6cb6f5", orange: "#f0a34a", green: "#4cc9a0", purple: "#d893c4", red: "#ff7b8f",
};

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((c) => (c <= 10.31475 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

// A colour that is `share` of the way from one colour to another, as "rgb(...)".
export function mix(from, to, share) {
  const a = channels(from), b = channels(to), s = Math.min(Math.max(share, 0), 1);
  return `rgb(${a.map((x, i) => Math.round(x + s * (b[i] - x))).join(",")})`;
}

// Black or white, whichever is easier to read on a colour "rgb(...)" or "#rrggbb".
export function on(colour) {
  const rgb = colour.startsWith("#") ? channels(colour) : colour.match(/\d+/g).map(Number);
  return luminance(rgb) > 0.179 ? "#000000" : "#ffffff";
}

// The colour of a signed number: blue above zero, orange below, paper at zero; `limit` has the full colour.
export const signed = (colours, value, limit) =>
  mix(colours.paper, value < 0 ? colours.orange : colours.blue, Math.abs(value) / (limit || 1));

// ---------------------------------------------------------------- numbers and text

const MINUS = "\u2212";

// A number for people: three digits by default, "0" for zero, powers of ten only where needed.
export function format(x, digits = 3) {
  if (Number.isNaN(x)) return "not a number";
  if (!Number.isFinite(x)) return x < 0 ? MINUS + "∞" : "∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 1e-3 && size < 1e6
    ? Number(x.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: Math.max(digits, 1) })
    : x.toExponential(digits - 1).replace("e+", "e").replace(/\.?0+e/, "e");
  return text.replace(/-/g, MINUS);
}

// "1 token", "2 tokens".
export const count = (n, noun) => `${format(n, 6)} ${noun}${n === 1 ? "" : "s"}`;

// Memory in words, in powers of 1,000: "134 MB".
export function bytes(x, digits = 3) {
  const power = Math.min(Math.max(Math.floor(Math.log10(x || 1) / 3 + 1e-9), 0), 5);
  return `${format(x / 1000 ** power, digits)} ${["bytes", "kB", "MB", "GB", "TB", "PB"][power]}`;
}

const escape = (text) =>
  String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

const short = (value) => (typeof value === "number" ? String(Math.round(value * 100) / 100) : escape(value));

// An SVG element as a string: h("rect", { x: 1 }, ...children); attributes that are null are left out.
export function h(tag, attributes = {}, ...children) {
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== null && value !== undefined && value !== false)
    .map(([name, value]) => ` ${name}="${short(value)}"`);
  return `<${tag}${written.join("")}>${children.flat(Infinity).join("")}</${tag}>`;
}

// A text in SVG, at least 12 px high. at: "start", "middle" or "end"; subscripts as in "S_{n}".
export function label(x, y, text, { colour, size = 13, at = "middle", weight, ...more } = {}) {
  const parts = String(text).split(/_\{(.*?)\}/);
  const drawn = parts.map((part, i) =>
    i % 2 ? h("tspan", { dy: 0.28 * size, "font-size": 0.8 * Math.max(size, 15) }, escape(part))
      : i && part ? h("tspan", { dy: -0.28 * size }, escape(part)) : escape(part));
  const look = { x, y, fill: colour, "font-size": Math.max(size, 12), "text-anchor": at, "font-weight": weight };
  return h("text", { "dominant-baseline": "central", ...look, ...more }, drawn);
}

// Row and column of each character in lines that break after spaces.
export function wrap(text, columns) {
  let row = 0, column = 0;
  return text.split(/(?<= )/).flatMap((word) => {
    if (column + word.trimEnd().length > columns) [row, column] = [row + 1, 0];
    return [...word].map(() => [row, column++]);
  });
}

// The look of a text in which each byte has its cell.
export const MONO = { "font-family": "ui-monospace, Menlo, Consolas, monospace" };

export const line = (points, colour, more = {}) =>
  h("polyline", {
    points: points.map(([x, y]) => `${short(x)},${short(y)}`).join(" "),
    fill: "none", stroke: colour, "stroke-width": 2, "stroke-linejoin": "round", ...more,
  });

export const box = (x, y, width, height, fill, more = {}) => h("rect", { x, y, width, height, fill, ...more });

// An arrow from one point to another, its head drawn as a triangle.
export function arrow([x0, y0], [x1, y1], colour, { width = 1.6, head = 8, ...more } = {}) {
  const angle = Math.atan2(y1 - y0, x1 - x0), cos = Math.cos(angle), sin = Math.sin(angle);
  const corner = (side) => [x1 - head * cos + side * 0.45 * head * sin, y1 - head * sin - side * 0.45 * head * cos];
  const tip = [[x1, y1], corner(1), corner(-1)].map((p) => p.map(short).join(",")).join(" ");
  return line([[x0, y0], [x1 - 0.8 * head * cos, y1 - 0.8 * head * sin]], colour, { "stroke-width": width, ...more }) +
    h("polygon", { points: tip, fill: colour });
}

// A matrix as coloured cells. at: x, y of its corner; cell: size in px; write: whether numbers stand in the cells;
// fill(value, row, column), mark(row, column) and words(value) may choose the colour, a frame ("ink", "red", ...) and the
// text of a cell; a value of null is an empty cell.
export function heat(colours, matrix, { x, y, cell, cellWidth = cell, limit, write = cell >= 34, fill, mark, digits = 2, words }) {
  const paint = fill ?? ((value) => (value === null ? "none" : signed(colours, value, limit)));
  const marks = [];
  const cells = matrix.map((values, row) => values.map((value, column) => {
    const colour = paint(value, row, column), left = x + column * cellWidth, top = y + row * cell;
    const frame = mark?.(row, column);
    if (frame) marks.push(box(left, top, cellWidth, cell, "none", { stroke: colours[frame], "stroke-width": 2.5 }));
    const shown = write && value !== null
      ? label(left + cellWidth / 2, top + cell / 2, words?.(value) ?? format(value, digits), { colour: on(colour), size: 12 }) : "";
    return box(left, top, cellWidth, cell, colour, { stroke: colours.paper, "stroke-width": cell > 6 ? 1 : 0 }) + shown;
  }));
  return h("g", {}, cells, marks);
}

// Many rectangles [x, y, width, height, colour] as one path a colour: fast where colours come in steps.
export function patches(rectangles) {
  const paths = new Map();
  for (const [x, y, width, height, colour] of rectangles) {
    const outline = `M${short(x)} ${short(y)}h${short(width)}v${short(height)}h${short(-width)}z`;
    paths.set(colour, (paths.get(colour) ?? "") + outline);
  }
  return [...paths].map(([fill, d]) => h("path", { d, fill })).join("");
}

// A scale from numbers to pixels, linear or logarithmic: a function with `invert` and `ticks`.
export function scale([from, to], [start, end], { log = false } = {}) {
  const f = log ? Math.log10 : (x) => x;
  const place = (x) => start + ((f(x) - f(from)) / (f(to) - f(from) || 1)) * (end - start);
  const invert = (p) => {
    const value = f(from) + ((p - start) / (end - start)) * (f(to) - f(from));
    return log ? 10 ** value : value;
  };
  return Object.assign(place, { invert, ticks: (wanted = 5) => (log ? decades(from, to, wanted) : steps(from, to, wanted)) });
}

function steps(from, to, wanted) {
  const rough = (to - from) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough - 1e-12);
  const first = Math.ceil(from / step - 1e-9);
  return Array.from({ length: Math.floor(to / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function decades(from, to, wanted) {
  const first = Math.ceil(Math.log10(from) - 1e-9), last = Math.floor(Math.log10(to) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first) / wanted));
  return Array.from({ length: Math.floor((last - first) / every) + 1 }, (_, i) => 10 ** (first + i * every));
}

// Axes below and to the left of a frame. x, y: scales; names with their units.
export function axes(colours, { left, top, width, height }, x, y, xname, yname, { xticks, yticks, tick = format, xtick = tick, ytick = tick } = {}) {
  const bottom = top + height, font = { colour: colours.muted, size: 12 };
  const across = (xticks ?? x.ticks(Math.max(2, Math.floor(width / 80)))).map((value) =>
    line([[x(value), bottom], [x(value), bottom + 4]], colours.line) + label(x(value), bottom + 14, xtick(value), font));
  const up = (yticks ?? y.ticks(Math.max(2, Math.floor(height / 45)))).map((value) =>
    line([[left, y(value)], [left + width, y(value)]], colours.line, { "stroke-width": 0.6 }) +
    label(left - 6, y(value), ytick(value), { ...font, at: "end" }));
  return h("g", {}, up, across, line([[left, top], [left, bottom], [left + width, bottom]], colours.muted, { "stroke-width": 1 }),
    label(left + width / 2, bottom + 33, xname, { ...font, colour: colours.ink }),
    label(left, top - 14, yname, { ...font, colour: colours.ink, at: "start" }));
}

// ---------------------------------------------------------------- controls

// A slider. words(value): the value for people, by default the number and its unit.
export const slider = (name, title, { value, min, max, step = 1, words = format }) =>
  ({ kind: "slider", name, title, value, min, max, step, words });

// One of several: options {value: title}. As a select.
export const choice = (name, title, options, value = Object.keys(options)[0]) =>
  ({ kind: "choice", name, title, options, value, words: (key) => options[key] });

// On or off.
export const toggle = (name, title, value = false) =>
  ({ kind: "toggle", name, title, value, words: (x) => (x ? "on" : "off") });

// A line of text. maxlength in characters; enter: the name of the button of `press` that the Enter key presses.
export const input = (name, title, { value = "", maxlength = 200, enter } = {}) =>
  ({ kind: "input", name, title, value, maxlength, enter, words: (x) => x });

// A value without a control of its own, such as what lies under the pointer.
export const hidden = (name, value = null) => ({ kind: "hidden", name, value, words: String });

export const defaults = (controls) => Object.fromEntries(controls.map(({ name, value }) => [name, value]));

// What is wrong with values from outside, as a sentence; "" if nothing is.
export function complaint(controls, values) {
  for (const [name, value] of Object.entries(values)) {
    const control = controls.find((each) => each.name === name);
    if (!control) return `values must name some of ${controls.map((each) => each.name).join(", ")}, got ${name}`;
    const { kind, min, max, options } = control;
    if (kind === "slider" && !(typeof value === "number" && value >= min && value <= max))
      return `${name} must be a number from ${min} to ${max}, got ${value}`;
    if (kind === "choice" && !Object.hasOwn(options, value))
      return `${name} must be one of ${Object.keys(options).join(", ")}, got ${value}`;
    if (kind === "toggle" && typeof value !== "boolean") return `${name} must be true or false, got ${value}`;
    if (kind === "input" && typeof value !== "string") return `${name} must be a text, got ${value}`;
  }
  return "";
}

// ---------------------------------------------------------------- the explorable itself

// One count for all pictures of a page: each brings a copy of this module, and ids must differ.
const nextId = () => `explorable-${(globalThis.explorablesMade = (globalThis.explorablesMade ?? 0) + 1)}`;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// JupyterLab, VS Code, the course's site and Colab each say in their own way that they are dark; else the system is asked.
function isDark() {
  const { body, documentElement: root } = document;
  const lab = body.dataset.jpThemeLight ?? root.dataset.jpThemeLight;
  if (lab) return lab === "false";
  if (body.dataset.vscodeThemeKind) return !body.dataset.vscodeThemeKind.endsWith("light");
  const theme = root.dataset.theme ?? root.getAttribute("theme");
  if (theme === "dark" || theme === "light") return theme === "dark";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

function row(control, id, change) {
  const { kind, name, title, min, max, step, options, maxlength } = control;
  const shown = element("span", { class: "explorable-value", "aria-hidden": "true" }); // the slider itself says it
  let field;
  if (kind === "slider") {
    field = element("input", { type: "range", id, min, max, step });
    field.addEventListener("input", () => change({ [name]: Number(field.value) }));
  } else if (kind === "choice") {
    field = element("select", { id }, ...Object.entries(options).map(([value, words]) => element("option", { value }, words)));
    field.addEventListener("change", () => change({ [name]: field.value }));
  } else if (kind === "toggle") {
    field = element("input", { type: "checkbox", id });
    field.addEventListener("change", () => change({ [name]: field.checked }));
  } else {
    field = element("input", { type: "text", id, maxlength, autocomplete: "off", spellcheck: "false" });
    field.addEventListener("input", () => change({ [name]: field.value }));
  }
  const wrapped = element("div", { class: `explorable-control ${kind}` }, element("label", { for: id }, title), field);
  if (kind === "slider") wrapped.append(shown);
  const update = (values) => {
    const value = values[name], words = control.words(value, values);
    if (kind === "toggle") field.checked = value;
    else if (field.value !== String(value)) field.value = value;
    if (kind === "slider") {
      shown.textContent = words;
      field.setAttribute("aria-valuetext", words);
    }
  };
  return { wrapped, field, update };
}

// The reply of the Python side to a request: it sets `reply` with the request's id. null: none came within the time.
export function asked(model, request, seconds) {
  if (model.kernel === false) return Promise.resolve(null);
  const id = Math.random().toString(36).slice(2);
  return new Promise((resolve) => {
    const done = (reply) => {
      model.off("change:reply", told);
      clearTimeout(timer);
      resolve(reply);
    };
    const told = () => model.get("reply").id === id && done(model.get("reply"));
    const timer = setTimeout(done, 1000 * seconds, null);
    model.on("change:reply", told);
    model.set("request", { ...request, id });
    model.save_changes();
  });
}

// Make the default export of a module.
//
// title: what the picture shows. controls: what can be moved. compute(values, data): every number that is shown, and
// nothing else computes. describe(numbers, values, data): the picture in words. draw(stage, numbers, values, data):
// { height, drawn }, the SVG as a string; stage: width in px, narrow, colours.
// point(at, stage, numbers, values, data): what the pointer at { x, y, pressed } changes, or null.
// play: { control, seconds } for a control that can run by itself.
// press: { name: { title, act(values, numbers, data, model) } }: more buttons; act returns what changes.
// begin(model): what changes as soon as the picture is shown, such as whether there is a kernel; may be a promise.
export function explorable({ title, controls, compute, describe, draw, point, play, press = {}, begin }) {
  function render({ model, el }) {
    const id = nextId(), whole = defaults(controls);
    let values = { ...whole }, wrong = "", numbers, stage, frame = 0, running = 0, saving = 0;
    const take = (given) => {
      wrong = complaint(controls, given ?? {});
      values = { ...whole, ...(wrong ? {} : given) };
    };
    const change = (changes, { save = true } = {}) => {
      if (!changes || !Object.entries(changes).some(([name, value]) => values[name] !== value)) return;
      values = { ...values, ...changes };
      if (save) {
        // A message to the kernel costs as much as the drawing: it waits until the hand rests.
        clearTimeout(saving);
        saving = setTimeout(() => {
          model.set("values", values);
          model.save_changes();
        }, 200);
      }
      ask();
    };
    const rows = controls.filter(({ kind }) => kind !== "hidden").map((each) => row(each, `${id}-${each.name}`, change));
    const button = (text, act) => {
      const made = element("button", { type: "button" }, text);
      made.addEventListener("click", act);
      return made;
    };
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    const moved = play && controls.find(({ name }) => name === play.control);
    const step = () => {
      const next = values[play.control] + moved.step;
      change({ [play.control]: next > moved.max ? moved.min : next });
    };
    const stop = () => {
      clearInterval(running);
      running = 0;
      if (play) playing.textContent = still.matches ? "Step" : "Play";
    };
    const playing = play && button("Play", () => {
      if (still.matches) return step();
      if (running) return stop();
      playing.textContent = "Pause";
      running = setInterval(step, 1000 * play.seconds);
    });
    const buttons = Object.fromEntries(Object.entries(press).map(([name, { title, act }]) => {
      const made = button(title, async () => {
        if (made.ariaBusy === "true") return;
        made.ariaBusy = "true";
        change(await act(values, numbers, model.get("data"), model));
        made.ariaBusy = "false";
      });
      return [name, made];
    }));
    const pressed = Object.values(buttons);
    for (const [i, { enter }] of controls.filter(({ kind }) => kind !== "hidden").entries())
      if (enter) rows[i].field.addEventListener("keydown", ({ key }) => key === "Enter" && buttons[enter].click());
    const reset = button("Reset", () => {
      stop();
      change(whole);
    });
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const status = element("p", { role: "status", id: `${id}-status` });
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", title);
    const panel = element("div", { class: "explorable-controls", role: "group", "aria-label": `controls: ${title}` },
      ...rows.map(({ wrapped }) => wrapped), element("div", { class: "explorable-buttons" }, ...(play ? [playing] : []), ...pressed, reset));
    // A notebook has shortcuts of its own, and JupyterLab's take arrows, Enter and Space before the control that has the focus.
    panel.addEventListener("keydown", (event) => event.stopPropagation());
    for (const each of panel.querySelectorAll("input, select, button")) each.dataset.lmSuppressShortcuts = "true";
    const root = element("div", { class: "explorable" }, panel, svg, status);
    el.replaceChildren(root);

    function show() {
      frame = 0;
      const dark = isDark(), width = Math.max(272, Math.floor(root.clientWidth) - 16);
      const data = model.get("data");
      stage = { width, narrow: width < 640, colours: dark ? DARK : LIGHT, dark };
      numbers = compute(values, data);
      const { height, drawn } = draw(stage, numbers, values, data);
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("width", width);
      svg.setAttribute("height", height);
      svg.innerHTML = drawn;
      root.dataset.theme = dark ? "dark" : "light";
      const words = wrong || describe(numbers, values, data);
      if (status.textContent !== words) status.textContent = words;
      for (const { update } of rows) update(values);
    }
    function ask() {
      if (!frame) frame = requestAnimationFrame(show);
    }
    if (point) {
      let pressedAt = null;
      const at = (event) => {
        const { left, top } = svg.getBoundingClientRect();
        return { x: event.clientX - left, y: event.clientY - top, pressed: event.buttons > 0, start: pressedAt };
      };
      const told = (event) => stage && change(point(at(event), stage, numbers, values, model.get("data")));
      svg.classList.add("explorable-pointed");
      svg.addEventListener("pointerdown", (event) => {
        pressedAt = null;
        pressedAt = at(event);
        svg.setPointerCapture(event.pointerId);
        told(event);
      });
      svg.addEventListener("pointermove", told);
      svg.addEventListener("pointerup", () => (pressedAt = null));
    }
    const fresh = () => {
      take(model.get("values"));
      ask();
    };
    model.on("change:values", fresh);
    model.on("change:data", ask);
    const sizes = new ResizeObserver(ask), themes = new MutationObserver(ask);
    sizes.observe(root);
    for (const each of [document.body, document.documentElement])
      themes.observe(each, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-vscode-theme-kind", "data-theme", "theme"] });
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", ask);
    still.addEventListener("change", stop);
    stop();
    take(model.get("values"));
    show();
    if (begin) Promise.resolve(begin(model)).then((changes) => change(changes, { save: false }));
    return () => {
      stop();
      clearTimeout(saving);
      cancelAnimationFrame(frame);
      sizes.disconnect();
      themes.disconnect();
      system.removeEventListener("change", ask);
      still.removeEventListener("change", stop);
      model.off("change:values", fresh);
      model.off("change:data", ask);
    };
  }
  return { render, title, controls, compute, describe, draw, point };
}

// The picture of a module without a page: { svg, words }, for stills.
export function picture({ compute, describe, draw, controls, title }, values, data, { width = 760, dark = false } = {}) {
  const all = { ...defaults(controls), ...values }, colours = dark ? DARK : LIGHT;
  const numbers = compute(all, data), words = describe(numbers, all, data);
  const { height, drawn } = draw({ width, narrow: width < 640, colours, dark }, numbers, all, data);
  const look = { xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${width} ${height}`, width, height, "font-family": "system-ui, sans-serif" };
  const svg = h("svg", { ...look, role: "img", "aria-label": `${title}: ${words}` }, box(0, 0, width, height, colours.paper), drawn);
  return { svg, words };
}

// A stand-in for the model of a widget, for pages without a kernel.
export function standalone(values, data) {
  const state = { values, data };
  return {
    get: (name) => state[name],
    set: (name, value) => (state[name] = value),
    on: () => {}, off: () => {}, save_changes: () => {}, kernel: false,
  };
}
