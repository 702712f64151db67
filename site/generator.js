// The generator of a network in plain JavaScript: the arithmetic of thiscxr's Python, so that a seed gives the same film.
//
// The page makes a Worker from the text of these two functions, which works from file:// too, where a Worker may not be loaded. Neither
// touches the page. Random numbers and conditions: docs/formats.md; styles, modulation, skips: Karras et al. 2020, arXiv:1912.04958.
//
// A map is a Float32Array of `channels` planes of (side + 2)² values, each with a border of zeros one value wide: so a 3×3 convolution
// is one run over the plane, without a case for its edges. What such a run leaves on the border is never read.
"use strict";

function thiscxrGenerator() {
  const LATENT_STREAM = 0, CONDITION_STREAM = 1, NOISE_STREAM = 2;
  const GAIN = Math.SQRT2; // of the leaky ReLU
  const SLOPE = 0.2;
  const DETAIL = 0.25, GRAIN = 0.1; // what the stored weights of details and of the grain are scaled by
  const AGE_CENTRE = 50, AGE_SCALE = 25, AGE_BIN_YEARS = 10;
  const NO_FINDING = "No Finding", NO_ILLNESS = [NO_FINDING, "Support_Devices"];
  const NOTHING = { view: null, sex: null, age_years: null, source: null, findings: [], no_findings: [] };

  // --- Random numbers: Philox4x32-10 (Salmon et al. 2011) and Box–Muller in float64. ---

  function high(a, b) { // the upper 32 bits of a · b
    const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
    const middle = a1 * b0 + ((a0 * b0) >>> 16);
    return a1 * b1 + (middle >>> 16) + ((a0 * b1 + (middle & 0xffff)) >>> 16);
  }

  function philox(counter, key) { // four words and two words -> four words
    let [c0, c1, c2, c3] = counter, [k0, k1] = key;
    for (let round = 0; round < 10; round++) {
      const h0 = high(0xd2511f53, c0), h1 = high(0xcd9e8d57, c2);
      const l0 = Math.imul(0xd2511f53, c0), l1 = Math.imul(0xcd9e8d57, c2);
      [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1 >>> 0, (h0 ^ c3 ^ k1) >>> 0, l0 >>> 0];
      k0 = (k0 + 0x9e3779b9) >>> 0;
      k1 = (k1 + 0xbb67ae85) >>> 0;
    }
    return [c0, c1, c2, c3];
  }

  function uniforms(seed, stream, count) { // Float64Array of values in (0, 1)
    const values = new Float64Array(count);
    const low = seed % 2 ** 32, rest = Math.floor(seed / 2 ** 32);
    for (let block = 0; block * 4 < count; block++) {
      const words = philox([block, 0, rest, 0], [low, stream]);
      for (let i = 0; i < 4 && block * 4 + i < count; i++) values[block * 4 + i] = (words[i] + 0.5) / 2 ** 32;
    }
    return values;
  }

  function normals(seed, stream, count) { // Float32Array
    const u = uniforms(seed, stream, count + (count % 2));
    const values = new Float32Array(u.length);
    for (let i = 0; i < u.length; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(u[i])), angle = 2 * Math.PI * u[i + 1];
      values[i] = radius * Math.cos(angle);
      values[i + 1] = radius * Math.sin(angle);
    }
    return values.subarray(0, count);
  }

  // --- The network file: safetensors of float16, with the description as JSON in its metadata. ---

  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
  }

  function readNetwork(buffer) { // ArrayBuffer -> {architecture, vocabulary, joint_table, …, tensors: name -> Float32Array}
    const length = Number(new DataView(buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
    const network = JSON.parse(header.__metadata__.thiscxr);
    network.architecture = { patch: 1, haar: false, ...network.architecture }; // what the first files do not say
    network.joint_table ??= [];
    network.vocabulary = { sexes: ["F", "M"], ages: true, ...network.vocabulary };
    const values = Float32Array.from({ length: 65536 }, (_, bits) => half(bits));
    network.tensors = {};
    for (const [name, tensor] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      if (tensor.dtype !== "F16") throw new Error(`${name} is ${tensor.dtype}, but a browser's network is F16`);
      const [start, end] = tensor.data_offsets;
      const stored = new DataView(buffer, 8 + length + start, end - start);
      network.tensors[name] = Float32Array.from({ length: (end - start) / 2 }, (_, i) => values[stored.getUint16(2 * i, true)]);
    }
    return network;
  }

  // --- Conditions: {view, sex, age_years, source, findings, no_findings}, null or empty where nothing is requested. ---

  function drawCondition(table, seed) { // what a seed asks for by itself, from the joint table of the training films
    const [position, within] = uniforms(seed, CONDITION_STREAM, 2);
    let left = position * table.reduce((sum, row) => sum + row.films, 0);
    const row = table.find(({ films }) => (left -= films) < 0);
    if (!row) return NOTHING; // an empty table
    const age = row.age_bin === null ? null : Math.trunc(row.age_bin + within * AGE_BIN_YEARS);
    return { view: row.view, sex: row.sex, age_years: age, source: row.source, findings: row.present, no_findings: row.absent };
  }

  function over(asked, drawn, vocabulary) { // what is asked, and for the rest what is drawn, with "No Finding" in agreement with the findings
    const healthy = asked.findings.includes(NO_FINDING);
    const states = new Map([
      ...drawn.no_findings.map((name) => [name, false]),
      ...drawn.findings.filter((name) => !healthy || NO_ILLNESS.includes(name)).map((name) => [name, true]),
      ...asked.no_findings.map((name) => [name, false]),
      ...asked.findings.map((name) => [name, true]),
    ]);
    if (states.has(NO_FINDING) && !healthy && !asked.no_findings.includes(NO_FINDING)) {
      states.set(NO_FINDING, ![...states].some(([name, present]) => present && !NO_ILLNESS.includes(name)));
    }
    const known = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== null));
    const named = (state) => vocabulary.findings.filter((name) => states.get(name) === state);
    return { ...drawn, ...known, findings: named(true), no_findings: named(false) };
  }

  // The conditions of a seed's film: where nothing is requested (null), the seed draws them. Both films of a pair have the
  // same, except the view, and the seed draws what is not requested; part: which of the two it is, "frontal" or "lateral".
  function conditionOf({ joint_table, vocabulary }, seed, asked, part) {
    const ill = asked?.findings.includes(NO_FINDING) && asked.findings.find((name) => !NO_ILLNESS.includes(name));
    if (ill) throw new Error(`'${NO_FINDING}' and finding '${ill}' are requested in one film; drop one of the two`);
    const drawn = drawCondition(joint_table, seed);
    if (!part) return asked || drawn;
    if (asked?.view === "lateral") throw new Error("A pair is a frontal and a lateral film; leave the view open, or ask for the frontal one");
    return { ...over(asked || NOTHING, drawn, vocabulary), view: part === "lateral" ? "lateral" : asked?.view || "PA" };
  }

  function encode(condition, vocabulary) { // -> the condition vector
    const known = (factor, value, names) => {
      if (value !== null && !names.includes(value)) {
        throw new Error(`${factor} '${value}' was not learnt by this network; it knows: ${names.join(", ")}`);
      }
      return names.map((name) => Number(name === value));
    };
    for (const name of [...condition.findings, ...condition.no_findings]) known("finding", name, vocabulary.findings);
    const states = vocabulary.findings.map((name) => condition.findings.includes(name) - condition.no_findings.includes(name));
    const view = known("view", condition.view, vocabulary.views);
    const source = known("source", condition.source, vocabulary.sources);
    known("sex", condition.sex, vocabulary.sexes);
    const sex = vocabulary.sexes.length ? [(condition.sex === "F") - (condition.sex === "M")] : [];
    const age = condition.age_years === null ? [0, 0] : [1, (condition.age_years - AGE_CENTRE) / AGE_SCALE];
    return Float32Array.from([...states, ...view, ...source, ...sex, ...(vocabulary.ages ? age : [])]);
  }

  // --- Mapping: z and conditions -> w. ---

  function linear(x, weight, bias, gain, biasGain) {
    return Float32Array.from(bias, (offset, o) => {
      let sum = 0;
      for (let i = 0, at = o * x.length; i < x.length; i++) sum += x[i] * weight[at + i];
      return sum * (gain / Math.sqrt(x.length)) + offset * biasGain;
    });
  }

  const leaky = (x) => x.map((value) => (value > 0 ? value : value * SLOPE));

  function mapToW(network, seed, condition) {
    const { architecture, tensors } = network;
    const z = normals(seed, LATENT_STREAM, architecture.z_dim);
    const scale = 1 / Math.sqrt(z.reduce((sum, value) => sum + value * value, 0) / z.length + 1e-8);
    let x = z.map((value) => value * scale);
    if (architecture.c_dim) {
      const c = linear(encode(condition, network.vocabulary), tensors["mapping.embed.weight"], tensors["mapping.embed.bias"], 1, 1);
      x = Float32Array.from([...x, ...c]);
    }
    for (let i = 0; i < architecture.mapping_layers; i++) {
      const name = `mapping.layers.${i}`;
      x = leaky(linear(x, tensors[`${name}.weight`], tensors[`${name}.bias`], 0.01 * GAIN, 0.01 * GAIN)); // 0.01: its learning rate
    }
    return x;
  }

  // --- Synthesis, one film: maps with a border of zeros, see above. ---

  const plane = (side) => (side + 2) ** 2;
  const inner = (place, side) => (Math.floor(place / side) + 1) * (side + 2) + (place % side) + 1; // of a place, row by row, in its plane

  function modulate(x, channels, style) { // scale each input channel by its style
    const size = x.length / channels, y = new Float32Array(x.length);
    for (let i = 0; i < channels; i++) for (let p = i * size; p < (i + 1) * size; p++) y[p] = x[p] * style[i];
    return y;
  }

  function convolve(x, weight, channels, side) { // 3×3, to weight.length / (9 · channels) channels
    const stride = side + 2, size = plane(side), y = new Float32Array((weight.length / (9 * channels)) * size);
    for (let o = 0, k = 0; o < y.length; o += size) {
      for (let i = 0; i < x.length; i += size, k += 9) {
        const w0 = weight[k], w1 = weight[k + 1], w2 = weight[k + 2], w3 = weight[k + 3], w4 = weight[k + 4];
        const w5 = weight[k + 5], w6 = weight[k + 6], w7 = weight[k + 7], w8 = weight[k + 8];
        // Three rows under a window that slides: three values are read for nine products.
        let a = i, b = a + stride, c = b + stride;
        let a0 = x[a++], a1 = x[a++], b0 = x[b++], b1 = x[b++], c0 = x[c++], c1 = x[c++];
        for (let p = o + stride + 1, end = o + size - stride - 1; p < end; p++) {
          const a2 = x[a++], b2 = x[b++], c2 = x[c++];
          y[p] += w0 * a0 + w1 * a1 + w2 * a2 + (w3 * b0 + w4 * b1 + w5 * b2) + (w6 * c0 + w7 * c1 + w8 * c2);
          a0 = a1; a1 = a2; b0 = b1; b1 = b2; c0 = c1; c1 = c2;
        }
      }
    }
    return y;
  }

  function convolve1(x, weight, channels, side) { // 1×1, to one channel
    const size = plane(side), y = new Float32Array(size);
    for (let i = 0; i < channels; i++) for (let p = 0; p < size; p++) y[p] += weight[i] * x[i * size + p];
    return y;
  }

  function convolveBands(x, weight, channels, side) { // the first band as it is, kernels of the others without their mean; edges go on
    const kernels = weight.slice();
    for (let k = 9 * channels; k < kernels.length; k += 9) {
      const mean = weight.subarray(k, k + 9).reduce((sum, value) => sum + value, 0) / 9;
      for (let tap = k; tap < k + 9; tap++) kernels[tap] -= mean;
    }
    return convolve(extend(x, side), kernels, channels, side);
  }

  // The transposed 3×3 convolution of stride 2, then the filter [1, 3, 3, 1] / 4 along each side (gain 4): a map of twice the side.
  function convolveUp(x, weight, channels, side) {
    const stride = side + 2, size = plane(side), outSide = 2 * side, outStride = outSide + 2, outSize = plane(outSide);
    const y = new Float32Array((weight.length / (9 * channels)) * outSize);
    const phases = [0, 1, 2, 3].map(() => new Float32Array(size)); // of the rows and columns of the result: even even, even odd, …
    const [ee, eo, oe, oo] = phases;
    const wide = 2 * side + 3; // the result, 2 · side + 1, with a border of zeros
    const grid = new Float32Array(wide * wide), rows = new Float32Array(wide * outSide);
    for (let o = 0, k = 0; o < y.length; o += outSize) {
      for (const phase of phases) phase.fill(0);
      for (let i = 0; i < x.length; i += size, k += 9) {
        const w0 = weight[k], w1 = weight[k + 1], w2 = weight[k + 2], w3 = weight[k + 3], w4 = weight[k + 4];
        const w5 = weight[k + 5], w6 = weight[k + 6], w7 = weight[k + 7], w8 = weight[k + 8];
        let above = i, here = i + stride, up = x[above++], left = x[here++];
        for (let p = stride + 1; p < size; p++) {
          const over = x[above++], value = x[here++];
          ee[p] += w0 * value + w2 * left + (w6 * over + w8 * up);
          eo[p] += w1 * value + w7 * over;
          oe[p] += w3 * value + w5 * left;
          oo[p] += w4 * value;
          up = over; left = value;
        }
      }
      for (let row = 0; row <= side; row++) {
        for (let column = 0; column <= side; column++) {
          const p = (row + 1) * stride + column + 1, at = (2 * row + 1) * wide + 2 * column + 1;
          grid[at] = ee[p];
          if (column < side) grid[at + 1] = eo[p];
          if (row < side) grid[at + wide] = oe[p];
          if (row < side && column < side) grid[at + wide + 1] = oo[p];
        }
      }
      for (let row = 0; row < wide; row++) {
        for (let column = 0, at = row * wide; column < outSide; column++, at++) {
          rows[row * outSide + column] = (grid[at] + grid[at + 3]) * 0.25 + (grid[at + 1] + grid[at + 2]) * 0.75;
        }
      }
      for (let row = 0; row < outSide; row++) {
        for (let column = 0, at = row * outSide; column < outSide; column++, at++) {
          y[o + (row + 1) * outStride + column + 1] =
            (rows[at] + rows[at + 3 * outSide]) * 0.25 + (rows[at + outSide] + rows[at + 2 * outSide]) * 0.75;
        }
      }
    }
    return y;
  }

  function activate(y, side, scale, bias, noise, strength) { // leaky(y · scale + bias + noise) · gain, the border zero again
    const stride = side + 2, size = plane(side), x = new Float32Array(y.length);
    for (let o = 0; o < scale.length; o++) {
      for (let row = 0; row < side; row++) {
        for (let column = 0, p = o * size + (row + 1) * stride + 1; column < side; column++, p++) {
          const value = y[p] * scale[o] + bias[o] + noise[row * side + column] * strength;
          x[p] = GAIN * (value > 0 ? value : value * SLOPE);
        }
      }
    }
    return x;
  }

  function upsample(film, side, edge) { // [side²] -> [4 side²], [1, 3, 3, 1]; beyond the edges the values at them, or zeros
    const outSide = 2 * side, rows = new Float32Array(outSide * side), y = new Float32Array(outSide * outSide);
    const read = (values, at, step, inside) => (inside ? values[at + step] : edge ? values[at] : 0);
    for (let row = 0; row < side; row++) {
      for (let column = 0, at = row * side; column < side; column++, at++) {
        rows[row * outSide + 2 * column] = 0.25 * read(film, at, -1, column > 0) + 0.75 * film[at];
        rows[row * outSide + 2 * column + 1] = 0.75 * film[at] + 0.25 * read(film, at, 1, column < side - 1);
      }
    }
    for (let row = 0; row < side; row++) {
      for (let column = 0, at = row * outSide; column < outSide; column++, at++) {
        y[2 * row * outSide + column] = 0.25 * read(rows, at, -outSide, row > 0) + 0.75 * rows[at];
        y[(2 * row + 1) * outSide + column] = 0.75 * rows[at] + 0.25 * read(rows, at, outSide, row < side - 1);
      }
    }
    return y;
  }

  function extend(x, side) { // the same maps, their borders not zero but the values beside them
    const stride = side + 2, y = x.slice();
    for (let o = 0; o < y.length; o += plane(side)) {
      for (let row = 1; row <= side; row++) {
        y[o + row * stride] = y[o + row * stride + 1];
        y[o + row * stride + side + 1] = y[o + row * stride + side];
      }
      y.copyWithin(o, o + stride, o + 2 * stride);
      y.copyWithin(o + (side + 1) * stride, o + side * stride, o + (side + 1) * stride);
    }
    return y;
  }

  function synthesise(network, w, noises) { // -> Float32Array [res²], about [-1, 1] and not clipped
    const { architecture, tensors } = network;
    const { res, patch, haar } = architecture;
    const tensor = (name) => tensors[`synthesis.${name}`];

    function modulated(x, name, kernel, convolution, side) { // -> the convolved map and the demodulation
      const style = linear(w, tensor(`${name}.style.weight`), tensor(`${name}.style.bias`), 1, 1);
      const weight = tensor(`${name}.weight`), taps = kernel * kernel, gain = 1 / Math.sqrt(style.length * taps);
      const demodulation = new Float32Array(weight.length / (style.length * taps));
      for (let o = 0, k = 0; o < demodulation.length; o++) {
        let energy = 0;
        for (let i = 0; i < style.length; i++) for (let tap = 0; tap < taps; tap++, k++) energy += (style[i] * weight[k]) ** 2;
        demodulation[o] = 1 / Math.sqrt(energy * gain * gain + 1e-8);
      }
      return [convolution(modulate(x, style.length, style.map((value) => value * gain)), weight, style.length, side), demodulation];
    }

    function styled(x, i, side, up) {
      const [y, demodulation] = modulated(x, `convs.${i}.conv`, 3, up ? convolveUp : convolve, up ? side / 2 : side);
      return activate(y, side, demodulation, tensor(`convs.${i}.bias`), noises[i], tensor(`convs.${i}.noise_strength`)[0]);
    }

    function toGrey(x, i, side) { // -> [(side · patch)²]
      const y = modulated(x, `to_grey.${i}.conv`, patch === 1 ? 1 : 3, patch === 1 ? convolve1 : convolve, side)[0];
      const bias = tensor(`to_grey.${i}.bias`), film = new Float32Array((side * patch) ** 2);
      for (let row = 0; row < side * patch; row++) {
        for (let column = 0; column < side * patch; column++) {
          const channel = (row % patch) * patch + (column % patch);
          const p = (Math.floor(row / patch) + 1) * (side + 2) + Math.floor(column / patch) + 1;
          film[row * side * patch + column] = y[channel * plane(side) + p] + bias[channel];
        }
      }
      return film;
    }

    // The same as Haar bands: one smooth value, then three details a square of 2 × 2 pixels, first of the places, then of their quarters.
    function toGreySmooth(x, i, side) { // -> [(side · patch)²]
      const y = modulated(x, `to_grey.${i}.conv`, 3, convolveBands, side)[0];
      const bias = tensor(`to_grey.${i}.bias`)[0];
      let film = Float32Array.from({ length: side * side }, (_, p) => y[inner(p, side)] + bias);
      for (let scale = 2, first = 1; scale <= patch; first += (3 * scale * scale) / 4, scale *= 2) {
        film = upsample(film, (side * scale) / 2, true);
        const quarters = (scale * scale) / 4;
        for (let row = 0, at = 0; row < side * scale; row++) {
          for (let column = 0; column < side * scale; column++, at++) {
            const quarter = ((row % scale) >> 1) * (scale >> 1) + ((column % scale) >> 1);
            const p = inner(Math.floor(row / scale) * side + Math.floor(column / scale), side);
            const detail = (pattern) => y[(first + pattern * quarters + quarter) * plane(side) + p] * DETAIL;
            const right = column % 2 ? -1 : 1, below = row % 2 ? -1 : 1;
            film[at] += right * detail(0) + below * detail(1) + right * below * detail(2);
          }
        }
      }
      return film;
    }

    function grain(x, side) { // -> [res²]: the last noise under its kernel, as strong as the features say
      const y = modulated(x, "grain.conv", 1, convolve1, side)[0], bias = tensor("grain.bias")[0];
      let strength = Float32Array.from({ length: side * side }, (_, p) => y[inner(p, side)] + bias);
      for (let small = side; small < res; small *= 2) strength = upsample(strength, small, true);
      const kernel = tensor("grain.kernel"), noise = noises[noises.length - 1];
      const gain = (tensor("grain.gain")[0] * GRAIN) / Math.sqrt(kernel.reduce((sum, value) => sum + value * value, 0));
      return strength.map((value, at) => {
        const row = Math.floor(at / res) + res - 2, column = (at % res) + res - 2;
        let sum = 0;
        for (let k = 0; k < 25; k++) sum += kernel[k] * noise[((row + Math.floor(k / 5)) % res) * res + ((column + (k % 5)) % res)];
        return sum * value * gain;
      });
    }

    const constant = tensor("constant"), channels = constant.length / 16;
    let x = new Float32Array(channels * plane(4));
    for (let p = 0; p < constant.length; p++) x[(p >> 4) * 36 + (((p >> 2) & 3) + 1) * 6 + (p & 3) + 1] = constant[p];
    x = styled(x, 0, 4, false);
    const draw = haar ? toGreySmooth : toGrey;
    let film = draw(x, 0, 4);
    for (let i = 1, side = 8; side * patch <= res; i++, side *= 2) {
      x = styled(styled(x, 2 * i - 1, side, true), 2 * i, side, false);
      const grey = draw(x, i, side);
      film = upsample(film, (side * patch) / 2, haar).map((value, p) => value + grey[p]);
    }
    if (!haar) return film;
    const fine = grain(x, res / patch);
    return film.map((value, p) => value + fine[p]);
  }

  // --- A film. ---

  // asked, part: see conditionOf. `to` and `t`: the part of the way, in w, to another seed with the same request; the noise stays
  // that of `seed`. `render` takes the place of `synthesise`. Returns {pixels: Uint8Array [res²], condition}.
  function draw(network, { seed, asked, part, truncation, to, t }) {
    const styleOf = (other) => mapToW(network, other, conditionOf(network, other, asked, part));
    const mean = network.tensors.w_mean, first = styleOf(seed), second = t ? styleOf(to) : first;
    const w = first.map((value, i) => mean[i] + truncation * (value + (t || 0) * (second[i] - value) - mean[i]));
    const noises = [];
    const { res, patch, haar } = network.architecture;
    const addNoise = (side) => noises.push(normals(seed, NOISE_STREAM + noises.length, side * side));
    for (let side = 4; side * patch <= res; side *= 2) for (let n = side === 4 ? 1 : 2; n > 0; n--) addNoise(side);
    if (haar) addNoise(res);
    const film = synthesise(network, w, noises);
    const pixels = Uint8Array.from(film, (value) => Math.min(255, Math.max(0, Math.round(value * 127.5 + 127.5))));
    return { pixels, condition: conditionOf(network, seed, asked, part) };
  }

  return { philox, uniforms, normals, readNetwork, drawCondition, conditionOf, encode, draw };
}

// What the Worker does. The first message brings the network; each one after it requests a film and is answered with one, or with an error
// in words.
function thiscxrWorker(generator) {
  let network;

  async function answer({ weights, film }) {
    if (weights) {
      network = generator.readNetwork(weights);
      return {};
    }
    const start = performance.now();
    const drawn = generator.draw(network, film);
    return { ...drawn, seconds: (performance.now() - start) / 1000 };
  }

  let last = Promise.resolve(); // one after the other
  self.onmessage = ({ data }) => {
    last = last.then(() => answer(data)).then(
      (reply) => self.postMessage({ id: data.id, ...reply }),
      (error) => self.postMessage({ id: data.id, error: String(error.message || error) }),
    );
  };
}
