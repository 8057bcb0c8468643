"use strict";

// The page on which the shipped model writes: what the reader types and presses, and what is shown of it. Model: byte_model.js.
{
  const at = (id) => document.getElementById(`writer-${id}`);
  const facts = JSON.parse(at("facts").textContent), { layers, heads, key_dim, value_dim, dim } = facts;
  const folder = document.querySelector('script[src$="writer.js"]').src.replace(/writer\.js$/, "writer/");
  const LONGEST = 500, FRAME = 12; // bytes that a press writes; milliseconds of computing before the page is drawn again
  const STATE = 4 * layers * heads * key_dim * value_dim, CACHE = 4 * layers * 2 * dim; // bytes; those of the cache for each byte read
  const windows = facts.gamma.map((gamma) => Math.round(1 / (1 - gamma)));
  const said = (words) => (at("status").textContent = words);
  const whole = (x) => x.toLocaleString("en", { maximumFractionDigits: 0 });
  const count = (n) => `${whole(n)} byte${n === 1 ? "" : "s"}`;
  const size = (x) => (x < 1e6 ? `${(x / 1e3).toPrecision(3)} kB` : `${(x / 1e6).toPrecision(3)} MB`);
  const percent = (x) => (x < 0.0995 ? `${(100 * x).toFixed(1)} %` : `${(100 * x).toFixed(0)} %`);
  const element = (tag, more, ...children) => {
    const made = Object.assign(document.createElement(tag), more);
    made.append(...children);
    return made;
  };

  let model, running = false, before = 0; // before: bytes that a state from a file had read, which are not shown
  let shown = [], decoder; // for each byte its { byte, bits, p, best, high, written, mark }, of which mark is its element
  let marked = []; // the elements at which windows begin

  // ---------------------------------------------------------------- what is shown

  const table = at("heads"), bars = [];
  table.createTHead().append(element("tr", {}, element("td"), ...windows.map((bytes, head) =>
    element("th", { scope: "col" }, `head ${head + 1}`, element("br"), count(bytes)))));
  for (let layer = 0; layer < layers; layer++) {
    const row = windows.map(() => element("div", { className: "writer-bar" }));
    bars.push(...row);
    const name = element("th", { scope: "row" }, `layer ${layer + 1}`);
    table.append(element("tr", {}, name, ...row.map((bar) => element("td", {}, bar))));
  }
  const bar = (where, share, words) => {
    where.style.setProperty("--share", `${100 * Math.min(share, 1)}%`);
    where.textContent = words;
  };

  function clear(position) {
    [before, shown, marked, decoder] = [position, [], [], new TextDecoder()];
    at("text").replaceChildren(...(position ? [element("em", {}, `[a state that has read ${count(position)}] `)] : []));
    draw();
  }

  // Show all that has happened since the last drawing.
  function draw() {
    const n = shown.length, text = at("text"), place = at("place");
    for (const each of shown.slice(text.querySelectorAll("span").length)) {
      each.mark = element("span", { textContent: decoder.decode(Uint8Array.of(each.byte), { stream: true }) });
      if (each.written) each.mark.className = "written";
      each.mark.style.setProperty("--bits", each.bits ?? 0);
      text.append(each.mark);
    }
    marked.forEach((mark) => delete mark.dataset.heads);
    marked = windows.flatMap((bytes, head) => {
      const mark = shown[n - bytes]?.mark;
      if (mark) mark.dataset.heads = mark.dataset.heads ? `${mark.dataset.heads},${head + 1}` : head + 1;
      return mark ?? [];
    });
    if (running) text.scrollTop = text.scrollHeight;
    bars.forEach((each, i) => bar(each, model.shares?.[i] ?? 0, model.shares ? percent(model.shares[i]) : "–"));
    const cache = CACHE * model.position, most = Math.max(cache, STATE);
    bar(at("state"), STATE / most, `state: ${size(STATE)}`);
    bar(at("cache"), cache / most, `cache: ${size(cache)}`);
    at("memory").textContent = `After ${count(model.position)}, the state has ${size(STATE)}, as after the first; the cache of a ` +
      `Transformer of this width and depth would have ${size(cache)}. They are equal at ${count(STATE / CACHE)}.`;
    const last = Number(place.value) === Number(place.max) || running;
    place.max = Math.max(n, 1);
    place.disabled = !n;
    if (last) place.value = place.max;
    look();
  }

  const named = (byte) => ({ 10: "line break", 32: "space" })[byte] ?? (byte > 32 && byte < 127 ? `“${String.fromCharCode(byte)}”` : `byte ${byte}`);

  function look() {
    const n = Number(at("place").value), each = shown[n - 1];
    const words = !each ? "" : each.bits === null ? `${before + n}, ${named(each.byte)}: the first, nothing was expected.`
      : `${before + n}, ${named(each.byte)}: ${each.bits.toFixed(1)} bits, p = ${each.p.toPrecision(2)}; likeliest was ${named(each.best)}, ${each.high.toPrecision(2)}.`;
    at("byte").textContent = words;
    at("place").setAttribute("aria-valuetext", words || "no byte");
    at("text").querySelector(".looked")?.classList.remove("looked");
    each?.mark.classList.add("looked");
  }

  const surprises = (written) => shown.filter((each) => each.written === written).map((each) => each.bits);

  // Of the first byte of a text nothing was expected, so it has no surprise.
  function mean(bits) {
    const counted = bits.filter((each) => each !== null);
    return `${(counted.reduce((a, b) => a + b, 0) / (counted.length || 1)).toFixed(2)} bits a byte`;
  }

  // ---------------------------------------------------------------- reading and writing

  async function feed(byte, written) {
    const expected = model.expected(), p = expected?.[byte], high = expected && Math.max(...expected);
    await model.step(byte);
    shown.push({ byte, written, bits: expected && -Math.log2(p), p, best: expected?.indexOf(high), high });
  }

  // Feed bytes until there are none or the reader stops; next(i): byte i, or undefined at the end.
  async function run(next, written) {
    for (let i = 0, drawn = performance.now(); running; i++) {
      const byte = next(i);
      if (byte === undefined) return;
      await feed(byte, written);
      if (performance.now() - drawn < FRAME) continue;
      draw();
      await new Promise(requestAnimationFrame);
      drawn = performance.now();
    }
  }

  function enable(busy) {
    running = busy;
    for (const name of ["write", "back"]) at(name).disabled = busy;
    for (const name of ["on", "save"]) at(name).disabled = busy || !model.logits;
    at("stop").disabled = !busy;
  }

  async function write(prompt = []) {
    enable(true);
    said(prompt.length ? "It reads and writes." : "It writes on.");
    const began = performance.now(), first = model.position;
    try {
      await run((i) => prompt[i], false);
      await run((i) => (i < LONGEST ? model.draw(Number(at("temperature").value), Number(at("seed").value)) : undefined), true);
      const speed = (model.position - first) / (performance.now() - began) * 1000;
      const parts = [["read", false], ["written", true]].map(([what, written]) => [what, surprises(written)]);
      said(parts.filter(([, bits]) => bits.length).map(([what, bits]) => `${count(bits.length)} ${what}, ${mean(bits)}`)
        .concat(`${whole(speed)} bytes a second.`).join("; "));
    } catch (error) {
      said(`It stopped: ${error.message}`);
    }
    enable(false);
    draw();
  }

  at("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const prompt = new TextEncoder().encode(at("prompt").value);
    if (!prompt.length) return said("The prompt must hold at least one character.");
    model.begin();
    clear(0);
    write(prompt);
  });
  at("on").addEventListener("click", () => write());
  at("stop").addEventListener("click", () => (running = false));
  at("temperature").addEventListener("input", () => (at("degrees").textContent = at("temperature").value));
  at("place").addEventListener("input", look);
  at("text").addEventListener("pointerover", ({ target }) => {
    const n = shown.findIndex(({ mark }) => mark === target) + 1;
    if (n && !running) [at("place").value] = [n], look();
  });

  // ---------------------------------------------------------------- the model and its state

  at("save").addEventListener("click", () => {
    const file = model.save(), href = URL.createObjectURL(file);
    element("a", { href, download: "retnet-state.safetensors" }).click();
    setTimeout(URL.revokeObjectURL, 1000, href);
    said(`The state after ${count(model.position)} is saved, ${size(file.size)}.`);
  });
  at("back").addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    if (!file) return;
    try {
      model.restore(await file.arrayBuffer());
      clear(model.position);
      said(`The state after ${count(model.position)} is back; “Write on” goes on from there.`);
    } catch (error) {
      said(error.message);
    }
    target.value = ""; // the same file may be chosen again
    enable(false);
  });
  at("load").addEventListener("click", async () => {
    const progress = at("progress");
    at("load").disabled = true;
    Object.assign(progress, { hidden: false, value: 0, max: Object.values(facts.scripts).reduce((a, b) => a + b) });
    said("It is being loaded.");
    try {
      model = await ByteModel.load(folder, facts, () => progress.value++);
      at("load").parentElement.hidden = true;
      at("inside").hidden = false;
      said("It is here. Type a prompt, or take this one.");
      enable(false);
      clear(0);
      at("prompt").focus();
    } catch (error) {
      said(`It could not be loaded: ${error.message ?? "a part did not come"}. Press the button to try again.`);
      at("load").disabled = false;
      progress.hidden = true;
    }
  });
}
