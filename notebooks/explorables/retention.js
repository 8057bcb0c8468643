// Retention of one head in twenty lines: q, k (T, K) and v (T, V) are arrays of rows, the state (K, V), as in refimpl.

export const zeros = (rows, columns) => Array.from({ length: rows }, () => new Array(columns).fill(0));
export const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

// q S: what a query reads from a state, (V,).
export const read = (q, state) => state[0].map((_, c) => q.reduce((sum, x, r) => sum + x * state[r][c], 0));

// gamma S + k^T v: the state after one token (Eq. 6).
export const write = (state, k, v, gamma) => state.map((row, r) => row.map((s, c) => gamma * s + k[r] * v[c]));

// 1 - 2^(-5-h) for each head (Eq. 8).
export const headDecays = (heads) => Array.from({ length: heads }, (_, h) => 1 - 2 ** (-5 - h));

// D (T, T): gamma^(n-m) on and below the diagonal, 0 above it (Eq. 5).
export const decayMask = (time, gamma) =>
  Array.from({ length: time }, (_, n) => Array.from({ length: time }, (_, m) => (m > n ? 0 : gamma ** (n - m))));

// The parallel form (Eq. 5): { scores, weights, out }; scores are Q K^T, weights scores times D.
export function parallel(q, k, v, gamma) {
  const mask = decayMask(q.length, gamma);
  const scores = q.map((row) => k.map((column) => dot(row, column)));
  const weights = scores.map((row, n) => row.map((score, m) => (m > n ? 0 : score * mask[n][m])));
  return { scores, weights, out: weights.map((row) => read(row, v)) };
}

// The recurrent form (Eq. 6): { states, out }; states[n] is the state after token n.
export function recurrent(q, k, v, gamma, state = zeros(k[0].length, v[0].length)) {
  const states = k.map((key, n) => (state = write(state, key, v[n], gamma)));
  return { states, out: q.map((query, n) => read(query, states[n])) };
}

// xi, zeta (c,) and gamma^c of a chunk of c tokens (Eq. 7): from the state to each token, from each to the end, across it.
export const chunkDecays = (gamma, size) => ({
  xi: Array.from({ length: size }, (_, j) => gamma ** (j + 1)),
  zeta: Array.from({ length: size }, (_, j) => gamma ** (size - 1 - j)),
  whole: gamma ** size,
});

// The chunkwise form (Eq. 7): { out, carried }; ends: the token after each chunk, so chunks may be of any lengths.
// decays and ownState make it wrong on purpose: other decays, and a chunk that reads the state after it.
export function chunkwise(q, k, v, gamma, ends, state = zeros(k[0].length, v[0].length), { decays = chunkDecays, ownState = false } = {}) {
  const out = [], carried = [];
  let start = 0;
  for (const end of ends) {
    const [qs, ks, vs] = [q, k, v].map((x) => x.slice(start, end)), { xi, zeta, whole } = decays(gamma, end - start);
    const after = state.map((row, r) => row.map((s, c) => whole * s + ks.reduce((sum, key, j) => sum + zeta[j] * key[r] * vs[j][c], 0)));
    const seen = ownState ? after : state;
    parallel(qs, ks, vs, gamma).out.forEach((inner, j) => {
      const before = read(qs[j], seen);
      out.push(inner.map((x, c) => x + xi[j] * before[c]));
    });
    carried.push((state = after));
    start = end;
  }
  return { out, carried };
}

// A row x (K,) turned by position * theta, pair by pair: channels 2i and 2i + 1 by theta[i].
export function rotate(x, position, theta) {
  const turned = [...x];
  theta.forEach((angle, i) => {
    const cos = Math.cos(position * angle), sin = Math.sin(position * angle), [a, b] = [x[2 * i], x[2 * i + 1]];
    turned[2 * i] = a * cos - b * sin;
    turned[2 * i + 1] = a * sin + b * cos;
  });
  return turned;
}
