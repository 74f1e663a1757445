"use strict";
// Draws the charts, in the colours of the page, and again when light changes to dark.
const data = JSON.parse(document.getElementById("data").textContent);
const views = {};
const before = {}; // what to do with a chart before it is drawn, by its name
const drawn = {}; // what to do when a chart is there, by its name

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

// Returns a chart with the colours of the page in place of "@ink" and the like; what it shows may
// have such names, too, and keeps them.
function coloured(spec) {
  if (typeof spec === "string") return /^@[a-z]+$/.test(spec) ? colour(spec.slice(1)) : spec;
  if (Array.isArray(spec)) return spec.map(coloured);
  if (spec === null || typeof spec !== "object") return spec;
  return Object.fromEntries(Object.entries(spec).map(([key, value]) =>
    [key, key === "values" ? structuredClone(value) : coloured(value)]));
}

function config() {
  const [ink, soft, line] = ["ink", "soft", "line"].map(colour);
  const font = "system-ui, sans-serif";
  const words = {
    labelColor: soft, titleColor: ink, titleFontWeight: "normal", titleFontSize: 12,
    labelFont: font, titleFont: font,
  };
  return {
    axis: { ...words, domainColor: line, tickColor: line, labelFontSize: 12 },
    legend: words,
    text: { font },
  };
}

async function draw() {
  for (const [key, spec] of Object.entries(data.charts)) {
    const own = coloured(spec);
    if (before[key]) before[key](own);
    if (views[key]) views[key].finalize();
    const place = document.getElementById("chart-" + key);
    const options = { mode: "vega", actions: false, defaultStyle: false, renderer: "svg", config: config() };
    views[key] = (await vegaEmbed(place, own, options)).view;
    if (drawn[key]) await drawn[key](views[key]);
  }
  document.documentElement.dataset.drawn = "yes";
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
