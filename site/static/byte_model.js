"use strict";

// The shipped model in the page: loaded from scripts, fed byte by byte, its state saved and brought back.

// Each script of the model hands over a part of a compressed file, see site/writer.py.
const parts = [];
globalThis.writerPart = (text) => {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  parts.push(bytes);
};

async function unpacked(folder, name, scripts, told) {
  parts.length = 0;
  for (let i = 0; i < scripts; i++) {
    await loaded(`${folder}${name}-${i}.js`);
    told();
  }
  const plain = new Blob(parts.splice(0)).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(plain).arrayBuffer());
}

// A number in [0, 1) that depends on the seed and the place alone: a state that is brought back meets the same draws.
function uniform(seed, position) {
  let x = Math.imul(seed + 1, 0x9e3779b1) + Math.imul(position + 1, 0x85ebca6b);
  for (let i = 0; i < 3; i++) x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d) ^ (x >>> 12);
  return (x >>> 0) / 2 ** 32;
}

class ByteModel {
  // facts: see site/writer.py. told: called after each of the scripts.
  static async load(folder, facts, told) {
    const files = {};
    for (const [name, scripts] of Object.entries(facts.scripts)) files[name] = await unpacked(folder, name, scripts, told);
    const address = URL.createObjectURL(new Blob([files.program], { type: "text/javascript" }));
    const ort = await import(address);
    URL.revokeObjectURL(address);
    Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: files.machine });
    const session = await ort.InferenceSession.create(files.model);
    return Object.assign(new ByteModel(), { ort, session, facts }).begin();
  }

  get shape() {
    const { layers, heads, key_dim, value_dim } = this.facts;
    return [layers, 1, heads, key_dim, value_dim];
  }

  // Forget everything: position bytes read, the logits of the next byte, the state, and how large a share of each head's
  // state the last byte wrote.
  begin() {
    const size = this.shape.reduce((a, b) => a * b);
    return Object.assign(this, { position: 0, logits: null, state: new Float32Array(size), shares: null });
  }

  async step(byte) {
    const { Tensor } = this.ort, one = (x) => new Tensor("int64", BigInt64Array.of(BigInt(x)), [1]);
    const given = { token: one(byte), state: new Tensor("float32", this.state, this.shape), position: one(this.position) };
    const { logits, next_state: next } = await this.session.run(given);
    this.shares = this.#shares(this.state, next.data);
    Object.assign(this, { position: this.position + 1, logits: logits.data, state: next.data });
  }

  // |S_n - gamma S_(n-1)| / |S_n| of each head, layer by layer: the update is all that is not the faded state before (Eq. 6).
  #shares(before, after) {
    const { layers, heads, key_dim, value_dim, gamma } = this.facts, size = key_dim * value_dim;
    return Array.from({ length: layers * heads }, (_, head) => {
      let written = 0, whole = 0;
      for (let i = head * size; i < (head + 1) * size; i++) {
        written += (after[i] - gamma[head % heads] * before[i]) ** 2;
        whole += after[i] ** 2;
      }
      return whole ? Math.sqrt(written / whole) : 0;
    });
  }

  // The probability of each next byte; null before the first byte.
  expected(temperature = 1) {
    if (!this.logits) return null;
    const most = Math.max(...this.logits), powers = Array.from(this.logits, (x) => Math.exp((x - most) / temperature));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((x) => x / sum);
  }

  // The next byte to write; temperature 0 takes the likeliest.
  draw(temperature, seed) {
    if (temperature === 0) return this.logits.indexOf(Math.max(...this.logits));
    const p = this.expected(temperature);
    let left = uniform(seed, this.position);
    const drawn = p.findIndex((x) => (left -= x) < 0);
    return drawn < 0 ? p.indexOf(Math.max(...p)) : drawn; // rounding may leave a rest
  }

  // Everything that the rest of the text depends on, as a safetensors file; the text itself is not in it.
  save() {
    const tensors = { logits: [this.logits, [1, this.facts.vocab]], state: [this.state, this.shape] };
    const header = { __metadata__: { position: String(this.position), weights: this.facts.weights } };
    let at = 0;
    for (const [name, [data, shape]] of Object.entries(tensors))
      header[name] = { dtype: "F32", shape, data_offsets: [at, (at += data.byteLength)] };
    const text = JSON.stringify(header), padded = text.padEnd(8 * Math.ceil(text.length / 8));
    return new Blob([BigUint64Array.of(BigInt(padded.length)), padded, this.logits, this.state]);
  }

  // Take up what `save` wrote; an Error says what is wrong with a file, and then nothing is changed.
  restore(buffer) {
    let header, data;
    try {
      const length = Number(new DataView(buffer).getBigUint64(0, true));
      header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
      data = ["logits", "state"].map((name) => new Float32Array(buffer.slice(...header[name].data_offsets.map((x) => x + 8 + length))));
    } catch {
      throw new Error("The file must be one that “Save the state” wrote; this one is not.");
    }
    const { position, weights } = header.__metadata__ ?? {}, [logits, state] = data;
    if (weights !== this.facts.weights) throw new Error("The file must be a state of this model; it is one of another model.");
    if (logits.length !== this.facts.vocab || state.length !== this.state.length || !(Number(position) > 0))
      throw new Error("The file must hold a whole state; parts of this one are missing.");
    Object.assign(this, { position: Number(position), logits, state, shares: null });
  }
}
