// SPDX-License-Identifier: Apache-2.0
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const SYMBOLS = { float32: "square", float16: "diamond", dynamic: "triangle-up", int8: "circle", uint8: "hexagon" };

  // Sorting: each file is a tbody with two rows, the figures and the reason.
  const table = document.getElementById("candidates");
  const heads = $$("thead th", table);
  const select = document.getElementById("sort");
  const sortBy = (index, descending) => {
    const value = (body) => Number(body.rows[0].cells[index].dataset.value);
    const bodies = $$("tbody", table).sort((a, b) => (descending ? value(b) - value(a) : value(a) - value(b)));
    table.append(...bodies);
    heads.forEach((head, i) => {
      if (i === index) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    select.value = `${index} ${descending ? 1 : 0}`;
  };
  // Better values come first: high accuracy and agreement, low values of everything else.
  const bestFirst = (index) => index >= 1 && index <= 3;
  heads.forEach((head, index) => {
    const label = head.textContent.trim();
    const option = (descending, words) => select.add(new Option(`${label}, ${words}`, `${index} ${descending ? 1 : 0}`));
    if (index === 0) select.add(new Option("Verdict", "0 0"));
    else [bestFirst(index), !bestFirst(index)].forEach((down) => option(down, down ? "highest first" : "lowest first"));
    head.querySelector("button").addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      sortBy(index, now ? now === "ascending" : bestFirst(index));
    });
  });
  select.addEventListener("change", () => sortBy(...select.value.split(" ").map(Number)));

  // Plain tables: rows are sorted one by one, the largest values first.
  for (const plain of $$("table.sortable")) {
    const columns = $$("thead th", plain);
    columns.forEach((head, index) => head.querySelector("button").addEventListener("click", () => {
      const down = head.hasAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : index > 0;
      const value = (row) => Number(row.cells[index].dataset.value);
      plain.tBodies[0].append(...[...plain.tBodies[0].rows].sort((a, b) => (down ? value(b) - value(a) : value(a) - value(b))));
      columns.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    }));
  }

  // Shows the errors of one file at a time; thumbnails are inserted when they are first needed.
  const picker = document.getElementById("file");
  picker?.addEventListener("change", () => {
    $$(".mistakes").forEach((part) => (part.hidden = part.id !== picker.value));
    document.getElementById("shown").textContent = `Showing the errors of ${picker.selectedOptions[0].text}`;
    $$("img[data-id]", document.getElementById(picker.value)).forEach((image) => {
      image.src = data.thumbnails[image.dataset.id] ?? "";
      image.removeAttribute("data-id");
    });
  });

  const byStudent = (name) => color(`s${Math.max(0, data.plots.students.indexOf(name)) % 6}`);
  const theme = () => ({
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("muted") },
    margin: { l: 46, r: 14, t: 10, b: 44 },
    hoverlabel: {
      bgcolor: color("surface"), bordercolor: color("line"), align: "left",
      font: { color: color("text"), family: getComputedStyle(document.body).fontFamily, size: 12 },
    },
    showlegend: false,
    dragmode: false,
  });
  const axis = (title, more = {}) => ({
    title: { text: title, standoff: 8 }, gridcolor: color("grid"), linecolor: color("line"), zeroline: false,
    fixedrange: true, ticks: "", automargin: true, ...more,
  });

  const write = {
    bytes: (v) => (v < 1e3 ? `${v} B` : v < 1e6 ? `${+(v / 1e3).toPrecision(3)} KB` : `${+(v / 1e6).toPrecision(3)} MB`),
    count: (v) => (v < 1e3 ? `${v}` : v < 1e6 ? `${+(v / 1e3).toPrecision(3)}K` : v < 1e9 ? `${+(v / 1e6).toPrecision(3)}M` : `${+(v / 1e9).toPrecision(3)}G`),
    ms: (v) => (v < 0.1 ? `${+(1000 * v).toPrecision(3)} µs` : `${+v.toPrecision(3)} ms`),
  };
  // Ticks at 1, 2 and 5 of each decade, reduced in number until they fit.
  const ticks = (values, width) => {
    const low = Math.min(...values) / 1.25, high = Math.max(...values) * 1.25;
    for (const steps of [[1, 2, 5], [1, 3], [1]]) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
        for (const step of steps) {
          const value = step * 10 ** power;
          if (value >= low && value <= high) found.push(value);
        }
      if (found.length * 62 <= width || steps.length === 1) return found;
    }
    return [];
  };

  // Places the marks' names so that none covers a mark or another name: maps each point to a Plotly text position.
  // Of the free places the one is taken that is nearest to no other mark and crosses the fewest lines, which are boxes.
  // A point whose name does not fit is left out; its name appears on hover. Units are pixels, the origin is top left.
  const RANKS = ["chosen", "front", "dominated", "over limit", "failed"];
  const meet = (a, b) => a[0] <= b[2] && a[2] >= b[0] && a[1] <= b[3] && a[3] >= b[1];
  function namePositions(named, centres, points, width, reserved, lines) {
    const around = ([x, y], by) => [x - by, y - by, x + by, y + by];
    const taken = [...reserved, ...centres.map((centre) => around(centre, 7))], positions = new Map();
    for (const p of named) {
      const own = centres[points.indexOf(p)], [x, y] = own, length = 6.4 * p.name.length;
      const boxes = { "top left": [x - length - 4, y - 22, x - 4, y - 8], "top right": [x + 4, y - 22, x + length + 4, y - 8], "bottom right": [x + 4, y + 8, x + length + 4, y + 22], "bottom left": [x - length - 4, y + 8, x - 4, y + 22] };
      const cost = ([, box]) => lines.filter((line) => meet(line, box)).length + 2 * centres.filter((c) => c !== own && meet(around(c, 20), box)).length;
      const [best] = Object.entries(boxes)
        .filter(([, box]) => box[0] > 0 && box[2] < width && !taken.some((other) => meet(other, box)))
        .sort((a, b) => cost(a) - cost(b));
      if (!best) continue;
      positions.set(p, best[0]);
      taken.push(best[1]);
    }
    return positions;
  }

  // At least two points, so that the axis stays readable where all accuracies are alike.
  function accuracyRange(intervals) {
    const bottom = Math.min(...intervals.map((p) => p.low)), top = Math.max(...intervals.map((p) => p.high));
    const span = Math.max(2, 1.12 * (top - bottom)), middle = (bottom + top) / 2;
    return [middle - span / 2, middle + span / 2];
  }

  function paretoPlot(place) {
    const key = place.dataset.plot, { points, teacher, axes } = data.plots, wide = place.clientWidth > 560;
    const shown = points.filter((p) => p[key] != null);
    if (!shown.length) return void (place.innerHTML = "<p>Not measured.</p>");
    const reference = teacher && teacher[key] != null ? [{ ...teacher, name: "teacher" }] : [];
    const values = [...shown, ...reference].map((p) => p[key]);
    const [least, most] = [Math.min(...values, axes[key].limit ?? Infinity), Math.max(...values, axes[key].limit ?? 0)].map(Math.log10);
    const margin = 0.09 * (most - least) + 0.05, traces = [];
    const across = (place.clientWidth - 60) / (most - least + 2 * margin), [low, high] = accuracyRange([...shown, ...(teacher ? [{ low: teacher.accuracy, high: teacher.accuracy }] : [])]);
    const down = (accuracy) => ((high - accuracy) / (high - low)) * (place.clientHeight - 90);
    const at = (value) => (Math.log10(value) - least + margin) * across, level = teacher && down(teacher.accuracy);
    const positions = namePositions(
      // The chosen file is named first, then those that may be chosen.
      [...shown].sort((a, b) => RANKS.indexOf(a.status) - RANKS.indexOf(b.status)).filter((p) => !p.baseline && (wide || p.status === "chosen")),
      [...shown, ...reference].map((p) => [at(p[key]), down(p.accuracy)]),
      [...shown, ...reference],
      place.clientWidth - 60,
      teacher ? [[0, level - 16, 96, level]] : [],
      // The teacher's line and the intervals.
      [...(teacher ? [[0, level, Infinity, level]] : []), ...shown.map((p) => [at(p[key]), down(p.high), at(p[key]), down(p.low)])],
    );
    // The Pareto front along this axis, of the files that may be chosen.
    const able = shown.filter((p) => ["chosen", "front", "dominated"].includes(p.status)).sort((a, b) => a[key] - b[key] || b.accuracy - a.accuracy);
    const front = able.filter((p, i) => able.slice(0, i).every((q) => q.accuracy < p.accuracy));
    if (front.length)
      traces.push({
        x: [...front.map((p) => p[key]), Math.max(front.at(-1)[key], axes[key].limit ?? 10 ** (most + 1))], y: [...front.map((p) => p.accuracy), front.at(-1).accuracy],
        mode: "lines", hoverinfo: "skip",
        line: { shape: "hv", width: 2, color: color("accent") }, opacity: 0.55,
      });
    for (const p of shown) {
      const ink = p.baseline ? color("reference") : byStudent(p.student);
      const out = p.status === "over limit";
      traces.push({
        x: [p[key]], y: [p.accuracy], mode: "markers+text", name: p.name,
        text: [positions.has(p) ? p.name : ""],
        textposition: positions.get(p) ?? "top right",
        cliponaxis: false,
        textfont: { size: 11, color: p.status === "chosen" ? color("text") : color("muted") },
        error_y: { type: "data", symmetric: false, array: [p.high - p.accuracy], arrayminus: [p.accuracy - p.low], width: 0, thickness: 1, color: ink },
        marker: {
          symbol: p.baseline ? "x-thin-open" : (SYMBOLS[p.variant] ?? "pentagon") + (out ? "-open" : ""), color: ink,
          size: p.status === "chosen" ? 15 : 10,
          line: { width: p.baseline ? 2 : out ? 1.5 : p.status === "chosen" ? 2.5 : 0, color: p.status === "chosen" ? color("text") : ink },
        },
        hovertemplate: `${p.text}<extra></extra>`,
      });
    }
    for (const p of reference)
      traces.push({
        x: [p[key]], y: [p.accuracy], mode: "markers", hovertemplate: `${p.text}<extra></extra>`,
        marker: { symbol: "star", size: 12, color: color("reference") },
      });
    const shapes = [], annotations = [];
    if (teacher) {
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: teacher.accuracy, y1: teacher.accuracy, line: { color: color("reference"), width: 1, dash: "dot" } });
      annotations.push({ xref: "paper", x: 0, y: teacher.accuracy, text: `teacher ${teacher.accuracy.toFixed(1)} %`, showarrow: false, xanchor: "left", yanchor: "bottom", font: { size: 11 } });
    }
    const limit = axes[key].limit;
    if (limit) {
      shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: limit, x1: limit, line: { color: color("amber"), width: 1, dash: "dash" } });
      annotations.push({ yref: "paper", y: 0, x: Math.log10(limit), text: `limit ${write[axes[key].ticks](limit)}`, showarrow: false, xanchor: "left", yanchor: "bottom", xshift: 3, font: { size: 11, color: color("amber") } });
    }
    const marks = ticks([10 ** least, 10 ** most], place.clientWidth - 60);
    Plotly.react(place, traces, {
      ...theme(), shapes, annotations,
      xaxis: axis(axes[key].title, {
        type: "log", tickvals: marks, ticktext: marks.map(write[axes[key].ticks]), showgrid: true,
        range: [least - margin, most + margin],
      }),
      yaxis: axis("", { ticksuffix: " %", nticks: 7, range: [low, high], tickformat: high - low < 7 ? ".1f" : ".0f" }),
    }, { displayModeBar: false, responsive: true });
  }

  function curvePlot(place) {
    const { students, stages, teacher } = data.curves, series = data.curves[place.dataset.curve];
    const percent = place.dataset.curve === "accuracy";
    const trace = (name, y, line) => ({
      x: y.map((_, i) => i + 1), y, name, mode: "lines", line: { width: 2, ...line }, hovertemplate: percent ? "%{y:.1f} %" : "%{y:.3f}",
    });
    const traces = students.map((name) => trace(name, series[name], { color: byStudent(name) }));
    if (teacher) traces.push(trace("teacher", teacher[place.dataset.curve], { color: color("reference"), dash: "dash" }));
    const shapes = [], annotations = [];
    stages.forEach((stage, i) => {
      if (i) shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: stage.from, x1: stage.from, line: { color: color("line"), width: 1 } });
      const share = (stage.to - stage.from) / (stages.at(-1).to - stages[0].from);
      if (share * place.clientWidth > 6.2 * stage.name.length)
        annotations.push({ x: (stage.from + stage.to) / 2, y: 1, yref: "paper", yanchor: "bottom", text: stage.name, showarrow: false, font: { size: 11 } });
    });
    Plotly.react(place, traces, {
      ...theme(), shapes, annotations, hovermode: "x unified", margin: { l: 46, r: 14, t: 24, b: 44 },
      showlegend: true, legend: { orientation: "h", x: 1, xanchor: "right", y: percent ? 0.04 : 0.98, yanchor: percent ? "bottom" : "top", bgcolor: "rgba(0,0,0,0)" },
      xaxis: axis("Epoch", { rangemode: "tozero", showgrid: false }),
      yaxis: axis("", percent ? { ticksuffix: " %" } : {}),
    }, { displayModeBar: false, responsive: true });
  }

  function legend() {
    const mark = (ink, shape) => `<svg viewBox="0 0 14 14" fill="${ink}" stroke="${ink}">${shape}</svg>`;
    const shapes = {
      float32: '<rect x="2" y="2" width="10" height="10"/>', float16: '<path d="M7 1l6 6-6 6-6-6z"/>',
      dynamic: '<path d="M7 1l6 11H1z"/>', int8: '<circle cx="7" cy="7" r="5"/>', uint8: '<path d="M4 2h6l3 5-3 5H4L1 7z"/>',
    };
    const { students, variants, points, teacher } = data.plots, grey = color("reference");
    document.getElementById("legend").innerHTML = [
      ...students.map((s) => `<span>${mark(byStudent(s), '<rect x="1" y="5" width="12" height="4" rx="2"/>')}${s}</span>`),
      ...variants.map((v) => `<span>${mark(color("muted"), shapes[v] ?? '<path d="M7 1l6 4.500-2.300 7.500H3.300L1 5.500z"/>')}${v}</span>`),
      ...(points.some((p) => p.status === "over limit") ? [`<span><svg viewBox="0 0 14 14" fill="none" stroke="${color("muted")}" stroke-width="1.5"><circle cx="7" cy="7" r="5"/></svg>over a limit</span>`] : []),
      ...(points.some((p) => p.baseline) ? [`<span><svg viewBox="0 0 14 14" stroke="${grey}" stroke-width="2"><path d="M3 3l8 8M11 3l-8 8"/></svg>teacher, plain conversion</span>`] : []),
      ...(teacher ? [`<span>${mark(grey, '<path stroke="none" d="M7 0l2 5h5l-4 3.2L11.500 14 7 10.500 2.500 14 4 8.200 0 5h5z"/>')}teacher</span>`] : []),
    ].join("");
  }

  // A plot is drawn when it is about to be seen, and again when the colour scheme changes.
  const places = $$(".canvas");
  const draw = (place) => (place.dataset.plot ? paretoPlot : curvePlot)(place);
  const drawAll = () => places.forEach((place) => { watch.unobserve(place); draw(place); });
  const watch = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) if (isIntersecting) { watch.unobserve(target); draw(target); }
    document.documentElement.dataset.ready = "yes";
  }, { rootMargin: "300px" });

  // plotly.js is embedded gzipped; the browser unpacks it.
  async function unpack() {
    const text = document.getElementById("packed-plotly").textContent;
    const packed = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }
  legend();
  unpack().then(() => {
    places.forEach((place) => watch.observe(place));
    addEventListener("beforeprint", drawAll);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { legend(); drawAll(); });
  }, (error) => {
    places.forEach((place) => (place.innerHTML = "<p>This browser cannot unpack the plots. The table of files holds their figures.</p>"));
    document.documentElement.dataset.ready = String(error);
  });
})();
