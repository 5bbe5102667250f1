// The explorer: a small training, drawn again whenever k, the learning rate or the optimizer is changed.
//
// It takes the place of the paragraph that holds the picture explorer.png, wherever that stands; without scripts, and in
// JupyterLab, the picture stays.  A plain script, without requests: it works from file:// too.
//
// What its parts are called, for styles and tests:
//   [data-explorer]                 the whole
//   select[name=optimizer]          SGD, Adam, AdamW, Adagrad, LAMB
//   input[name=log2-k]              a range, in whole numbers: k is a power of two, so that scaling by it rounds nothing
//   input[name=log10-lr]            a range
//   input[name=keep]                a checkbox: lr moves with k, in its unit
//   button[name=reset]              everything as it was in the beginning
//   output[data-readout]            lr in units of the scale, which training this is, and its last loss
//   [data-hint]                     what to try next
//   [data-note]                     the other hyperparameters, which follow k by themselves
//   path[data-path=function]        w′₂/k over w′₁/k
//   path[data-path=function-reference]    the same at k = 1, lr = 0.1
//   path[data-path=parameter]       |w′₁| and |w′₂| over steps
//   path[data-path=parameter-reference]   the same at k = 1, lr = 0.1
"use strict";

// The arithmetic: pure functions on pairs of numbers, that tests/test_explorer.py holds to scaleinv.optimizers.
var explorer = (() => {
  // y = (w′₁x₁ + w′₂x₂)/k with uncorrelated inputs, whose mean squares are the loss's curvatures, fitted to the function
  // `minimum`:  L = ½ Σ curvature·(w′/k − minimum)².
  const PROBLEM = { curvature: [0.5, 6], minimum: [3, 1], start: [0.5, 3], steps: 100 };

  const loss = (w) => {
    const parts = w.map((x, i) => PROBLEM.curvature[i] * (x - PROBLEM.minimum[i]) ** 2);
    return (parts[0] + parts[1]) / 2;
  };
  const gradient = (w, k) => w.map((x, i) => (PROBLEM.curvature[i] * (x / k - PROBLEM.minimum[i])) / k);

  const average = (old, x, beta) => old.map((o, i) => o + (1 - beta) * (x[i] - o));
  const norm = (w) => Math.sqrt(w[0] * w[0] + w[1] * w[1]);

  // m̂/(√v̂ + ε)
  const adamStep = (g, t, s, { betas: [beta1, beta2], eps }) => {
    s.m = average(s.m ?? [0, 0], g, beta1);
    s.v = average(s.v ?? [0, 0], g.map((x) => x * x), beta2);
    const unbiased = { m: 1 - beta1 ** t, v: 1 - beta2 ** t };
    return s.m.map((m, i) => m / unbiased.m / (Math.sqrt(s.v[i] / unbiased.v) + eps));
  };

  // step(g, w, t, state, hyperparameters) gives what lr multiplies in w ← w − lr·step, and keeps its state in s.
  // weight is the exponent of W in the unit of lr.  The other hyperparameters: their value at k = 1, the exponent of W in
  // their unit, and the unit.
  const BETAS = [0.9, 0.999];
  const OPTIMIZERS = {
    SGD: { colour: "#e8710a", weight: 2, unit: "L⁻¹ W²", hyperparameters: {}, step: (g) => g },
    Adam: {
      colour: "#1f77d0",
      weight: 1,
      unit: "W",
      hyperparameters: { eps: [1e-8, -1, "L W⁻¹"] },
      step: (g, w, t, s, h) => adamStep(g, t, s, h),
    },
    AdamW: {
      colour: "#128da0",
      weight: 1,
      unit: "W",
      hyperparameters: { eps: [1e-8, -1, "L W⁻¹"], weight_decay: [0.3, -1, "W⁻¹"] },
      remark: "The decay, strong so that it shows, keeps the path from the minimum.",
      step: (g, w, t, s, h) => adamStep(g, t, s, h).map((u, i) => u + h.weight_decay * w[i]),
    },
    Adagrad: {
      colour: "#2da25b",
      weight: 1,
      unit: "W",
      hyperparameters: { eps: [1e-10, -1, "L W⁻¹"] },
      step: (g, w, t, s, h) => {
        s.sum = (s.sum ?? [0, 0]).map((sum, i) => sum + g[i] * g[i]);
        return g.map((x, i) => x / (Math.sqrt(s.sum[i]) + h.eps));
      },
    },
    LAMB: {
      colour: "#a8229d",
      weight: 0,
      unit: "",
      remark: "Its step is a share of the parameter, and does not come to rest.",
      hyperparameters: { eps: [1e-6, -1, "L W⁻¹"] },
      step: (g, w, t, s, h) => {
        const r = adamStep(g, t, s, h);
        const ratio = norm(w) > 0 && norm(r) > 0 ? norm(w) / norm(r) : 1;
        return r.map((x) => ratio * x);
      },
    },
  };

  // The hyperparameters beside lr that make at k the training of k = 1: each times k to the exponent of W in its unit.
  const hyperparameters = (name, k) => {
    const entries = Object.entries(OPTIMIZERS[name].hyperparameters);
    return { betas: BETAS, ...Object.fromEntries(entries.map(([key, [value, b]]) => [key, value * k ** b])) };
  };

  // The stored parameters w′, from the start through every step.
  const train = (name, k, lr) => {
    const h = hyperparameters(name, k);
    const state = {};
    const path = [PROBLEM.start.map((x) => x * k)];
    for (let t = 1; t <= PROBLEM.steps; t++) {
      const w = path[t - 1];
      const step = OPTIMIZERS[name].step(gradient(w, k), w, t, state, h);
      path.push(w.map((x, i) => x - lr * step[i]));
    }
    return path;
  };

  // The same as a path of functions, w′/k.
  const functions = (path, k) => path.map((w) => w.map((x) => x / k));

  // lr in units of the scale, lr/k or lr/k² or lr itself; and the lr that it stands for at another k.
  const inUnits = (name, k, lr) => lr / k ** OPTIMIZERS[name].weight;
  const outOfUnits = (name, k, inUnit) => inUnit * k ** OPTIMIZERS[name].weight;

  const same = (a, b) => a.every((w, t) => w.every((x, i) => Object.is(x, b[t][i])));

  return { PROBLEM, OPTIMIZERS, loss, gradient, hyperparameters, train, functions, inUnits, outOfUnits, same };
})();

// The page.
if (typeof document !== "undefined") {
  const PICTURE = /\/explorer\d*\.png$/;
  const START = { optimizer: "Adam", log2k: 0, lr: 0.1, keep: false };
  const K = { min: -5, max: 5, step: 1 };
  const LR = { min: -6, max: 3, step: 0.1 };
  const POWERS = ["", "k", "k²"];

  const make = (name, attributes = {}, ...children) => {
    const svg = ["svg", "g", "path", "line", "ellipse", "circle", "rect", "text"].includes(name);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  // Three digits, with an exponent where there would be many zeros.
  const number = (x) => {
    const rounded = Number(x.toPrecision(3));
    const many = x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5);
    return (many ? rounded.toExponential() : String(rounded)).replaceAll("-", "−").replace("e+", "e");
  };
  const fraction = (x) => (x < 1 ? `1/${number(1 / x)}` : number(x));
  const withUnit = (x, unit) => `${number(x)}${unit && ` ${unit}`}`;

  // A panel: a frame of 320 × 236 with a plot that clips what leaves it, its axes' ticks and labels.
  const BOX = { left: 40, top: 26, width: 272, height: 172 };
  const panel = (title, x, y, description) => {
    const plot = make("svg", { x: BOX.left, y: BOX.top, width: BOX.width, height: BOX.height, "aria-hidden": "true" });
    const axes = make("g", { class: "axes", "aria-hidden": "true" });
    const right = BOX.left + BOX.width;
    const bottom = BOX.top + BOX.height;
    for (const [at, label] of x.ticks) {
      const px = BOX.left + x.at(at);
      axes.append(make("line", { x1: px, x2: px, y1: BOX.top, y2: bottom }));
      axes.append(make("text", { x: px, y: bottom + 15, "text-anchor": "middle" }, label));
    }
    for (const [at, label] of y.ticks) {
      const py = BOX.top + y.at(at);
      axes.append(make("line", { x1: BOX.left, x2: right, y1: py, y2: py }));
      axes.append(make("text", { x: BOX.left - 5, y: py + 4, "text-anchor": "end" }, label));
    }
    axes.append(make("text", { x: BOX.left - 36, y: 12, class: "label" }, y.label));
    axes.append(make("text", { x: right, y: bottom + 32, "text-anchor": "end", class: "label" }, x.label));
    const picture = make("svg", { viewBox: "0 0 320 236", role: "img", "aria-label": description }, axes, plot);
    return { plot, figure: make("figure", {}, make("figcaption", {}, title), picture) };
  };

  const linear = (low, high, length, label, ticks) => ({
    at: (x) => ((x - low) / (high - low)) * length,
    ticks: ticks.map((x) => [x, number(x)]),
    label,
  });
  const upwards = (axis) => ({ ...axis, at: (x) => BOX.height - axis.at(x) });
  const logarithmic = (axis) => ({ ...axis, at: (x) => axis.at(Math.log10(Math.max(Math.abs(x), 1e-9))) });

  // "M x y L x y …" up to the first point that is no number; what is far outside is drawn no farther than that.
  const line = (points) => {
    const end = points.findIndex((point) => !point.every(Number.isFinite));
    const shown = end < 0 ? points : points.slice(0, end);
    const inside = (x) => Math.min(Math.max(x, -5000), 5000).toFixed(2);
    return shown.map(([x, y], i) => `${i ? "L" : "M"}${inside(x)} ${inside(y)}`).join("");
  };
  const dots = (d) => d.replace(/[ML](\S+ [^LM]+)/g, "M$1h0");

  const build = (n) => {
    const { PROBLEM, OPTIMIZERS } = explorer;
    const id = (name) => `explorer-${n}-${name}`;
    const path = (name) => make("path", { "data-path": name });

    // Function space, over level lines of the loss.
    const over = {
      x: linear(0, 5, BOX.width, "w′₁/k  (W)", [0, 1, 2, 3, 4, 5]),
      y: upwards(linear(-1, 4, BOX.height, "w′₂/k  (W)", [-1, 0, 1, 2, 3, 4])),
    };
    const left = panel(
      "The function: w′/k",
      over.x,
      over.y,
      "The path of the training in the plane of w′₁/k and w′₂/k, over level lines of the loss: from the start at " +
        `(${PROBLEM.start.join(", ")}) towards the minimum at (${PROBLEM.minimum.join(", ")}). ` +
        `Pale: the path of k = 1, lr = ${START.lr}.`
    );
    const at = (w) => [over.x.at(w[0]), over.y.at(w[1])];
    const [cx, cy] = at(PROBLEM.minimum);
    for (const level of [0.05, 0.2, 0.8, 3.2, 12.8]) {
      const [rx, ry] = PROBLEM.curvature.map((a) => Math.sqrt((2 * level) / a));
      const radii = { rx: over.x.at(rx) - over.x.at(0), ry: over.y.at(0) - over.y.at(ry) };
      left.plot.append(make("ellipse", { cx, cy, ...radii, class: "level" }));
    }
    const drawn = {
      reference: path("function-reference"),
      function: path("function"),
      steps: path("function-steps"),
      end: make("circle", { r: 4.5, class: "end" }),
      parameterReference: path("parameter-reference"),
      parameter: path("parameter"),
    };
    const [sx, sy] = at(PROBLEM.start);
    left.plot.append(
      drawn.reference,
      drawn.function,
      drawn.steps,
      make("path", { d: `M${cx - 5} ${cy}h10M${cx} ${cy - 5}v10`, class: "mark" }),
      make("circle", { cx: sx, cy: sy, r: 3.5, class: "mark" }),
      make("text", { x: sx, y: sy - 9, "text-anchor": "middle" }, "start"),
      make("text", { x: cx + 12, y: cy - 12 }, "minimum"),
      drawn.end
    );

    // The stored parameter, over steps.
    const along = {
      x: linear(0, 114, BOX.width, "step", [0, 25, 50, 75, 100]),
      y: logarithmic(upwards(linear(-2, 2.15, BOX.height, "|w′|  (W)", []))),
    };
    along.y.ticks = [0.01, 0.1, 1, 10, 100].map((x) => [x, number(x)]);
    const right = panel(
      "The stored parameter: w′",
      along.x,
      along.y,
      "The size of w′₁ and of w′₂, on a logarithmic axis, over the steps: with k times as large a scale both lie " +
        `k times as high. Pale: k = 1, lr = ${START.lr}.`
    );
    const names = ["w′₁", "w′₂"].map((name) => make("text", { class: "name" }, name));
    right.plot.append(drawn.parameterReference, drawn.parameter, ...names);

    const curves = (w) => [0, 1].map((i) => line(w.map((x, t) => [along.x.at(t), along.y.at(x[i])]))).join("");

    // The controls.
    const options = Object.keys(OPTIMIZERS).map((name) => make("option", { value: name }, name));
    const optimizer = make("select", { name: "optimizer", id: id("optimizer") }, ...options);
    const keep = make("input", { type: "checkbox", name: "keep", id: id("keep"), autocomplete: "off" });
    const keepLabel = make("label", { for: id("keep") });
    const range = (name, ends) => make("input", { type: "range", name, id: id(name), autocomplete: "off", ...ends });
    const [k, lr] = [range("log2-k", K), range("log10-lr", LR)];
    const [kValue, lrValue] = [k, lr].map(() => make("span", { class: "value", "aria-hidden": "true" }));
    const row = (name, label, ...parts) =>
      make("div", { class: "control" }, make("label", { for: id(name) }, label), ...parts);
    const reset = make("button", { type: "button", name: "reset" }, "Reset");
    const readout = make("output", { "data-readout": "", "aria-live": "polite" });
    const hint = make("p", { "data-hint": "" });
    const note = make("p", { "data-note": "" });
    const lead =
      "The model y = (w′₁x₁ + w′₂x₂)/k stores its parameters k times as large as they act. Whatever k is, its training " +
      "starts from the same function.";

    // What is set.  With `keep`, kept is lr in units of the scale, and stays.
    let set, kept;

    const show = () => {
      const { optimizer: name, log2k, lr: rate } = set;
      const { colour, unit, weight, hyperparameters, remark = "" } = OPTIMIZERS[name];
      const scale = 2 ** log2k;
      const stored = explorer.train(name, scale, rate);
      const found = explorer.functions(stored, scale);
      const inUnit = explorer.inUnits(name, scale, rate);
      const reference = explorer.train(name, 1, START.lr);
      const alone = explorer.train(name, 1, inUnit);

      drawn.function.setAttribute("d", line(found.map(at)));
      drawn.steps.setAttribute("d", dots(line(found.map(at))));
      drawn.reference.setAttribute("d", line(reference.map(at)));
      drawn.parameter.setAttribute("d", curves(stored));
      drawn.parameterReference.setAttribute("d", curves(reference));
      const last = at(found[PROBLEM.steps]);
      const arrived = last.every(Number.isFinite);
      drawn.end.setAttribute("cx", arrived ? last[0] : -99);
      drawn.end.setAttribute("cy", arrived ? last[1] : -99);
      // The names stand at the ends of their curves, and a line's height apart.
      const heights = stored[PROBLEM.steps].map((x) => (Number.isFinite(x) ? along.y.at(x) + 4 : -99));
      const upper = heights[0] <= heights[1] ? 0 : 1;
      const overlap = Math.max(0, 14 - Math.abs(heights[0] - heights[1]));
      names.forEach((text, i) => {
        text.setAttribute("x", along.x.at(PROBLEM.steps) + 5);
        text.setAttribute("y", heights[i] + (i === upper ? -overlap / 2 : overlap / 2));
      });
      whole.style.setProperty("--optimizer", colour);

      optimizer.value = name;
      k.value = log2k;
      lr.value = Math.log10(rate);
      keep.checked = set.keep;
      keep.disabled = weight === 0;
      const power = POWERS[weight];
      keepLabel.textContent = power ? `keep lr/${power}` : "lr has no unit: nothing to keep";
      kValue.textContent = fraction(scale);
      lrValue.textContent = withUnit(rate, unit);
      k.setAttribute("aria-valuetext", fraction(scale));
      lr.setAttribute("aria-valuetext", withUnit(rate, unit));

      const quotient = `lr${power && `/${power}`} = ${withUnit(inUnit, unit)}`;
      const exactly = explorer.same(found, alone) ? "bit for bit the training of" : "the training of";
      const training = scale === 1 ? "" : `: ${exactly} lr = ${number(inUnit)} at k = 1`;
      const end = explorer.loss(found[PROBLEM.steps]);
      const ends = Number.isFinite(end) ? `the loss is ${number(end)} L` : "it has overflowed";
      readout.textContent = `${quotient}${training}. After ${PROBLEM.steps} steps ${ends}.`;
      hint.textContent = !power
        ? "Drag k: the path of the function stands still, and lr with it. Only the stored parameter moves."
        : set.keep
          ? `Drag k: lr moves as ${power}, and the path of the function stands still. Only the stored parameter moves.`
          : `Drag k: the training becomes another. Then drag lr after it; or tick “keep lr/${power}”, and drag k again.`;
      const h = explorer.hyperparameters(name, scale);
      const others = Object.entries(hyperparameters).map(([key, [, , of]]) => `${key} = ${withUnit(h[key], of)}`);
      const follow = others.length ? `Besides lr, what has a unit follows k by itself: ${others.join(", ")}. ` : "";
      note.textContent = `${follow}${remark} Pale: k = 1, lr = ${START.lr}.`;
    };

    const fix = () => (kept = explorer.inUnits(set.optimizer, 2 ** set.log2k, set.lr));
    // lr follows k as far as its slider reaches, and there k stops.
    const follow = (log2k) => {
      const lrAt = (exponent) => explorer.outOfUnits(set.optimizer, 2 ** exponent, kept);
      const reaches = (x) => Math.log10(x) >= LR.min - 1e-9 && Math.log10(x) <= LR.max + 1e-9;
      while (log2k !== set.log2k && !reaches(lrAt(log2k))) log2k += Math.sign(set.log2k - log2k);
      set.log2k = log2k;
      if (reaches(lrAt(log2k))) set.lr = lrAt(log2k);
    };
    const start = () => {
      set = { ...START };
      fix();
      show();
    };

    optimizer.addEventListener("change", () => {
      set.optimizer = optimizer.value;
      if (set.keep) follow(set.log2k);
      fix();
      show();
    });
    k.addEventListener("input", () => {
      if (set.keep) follow(Number(k.value));
      else set.log2k = Number(k.value);
      show();
    });
    lr.addEventListener("input", () => {
      set.lr = Number((10 ** Number(lr.value)).toPrecision(6));
      fix();
      show();
    });
    keep.addEventListener("change", () => {
      set.keep = keep.checked;
      fix();
      show();
    });
    reset.addEventListener("click", start);

    const whole = make(
      "div",
      { "data-explorer": "", class: "explorer", role: "group", "aria-label": "Explorer: a scale and a learning rate" },
      make("p", {}, lead),
      make(
        "div",
        {},
        row("optimizer", "optimizer", make("span", { class: "choice" }, optimizer, reset)),
        row("log2-k", "scale k", k, kValue),
        row("log10-lr", "lr", lr, lrValue),
        make("div", { class: "control keep" }, keep, keepLabel)
      ),
      hint,
      readout,
      make("div", { class: "panels" }, left.figure, right.figure),
      note
    );
    start();
    return whole;
  };

  document.addEventListener("DOMContentLoaded", () => {
    const pictures = [...document.images].filter((image) => PICTURE.test(image.getAttribute("src")));
    pictures.forEach((image, n) => (image.closest("p") ?? image).replaceWith(build(n)));
  });
}
