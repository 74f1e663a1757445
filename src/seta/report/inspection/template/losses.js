// The histogram of an epoch: the slider chooses which, and a table has the same figures.
function barsOf(picture) {
  return picture.samples.map((samples, at) => ({
    low: picture.edges[at],
    high: picture.edges[at + 1],
    samples,
    kept: picture.kept ? picture.kept[at] : samples,
  })).filter((bar) => bar.samples > 0);
}

// The keep probability, bar by bar; where no sample lies it goes on as before.
function curveOf(picture) {
  if (!picture.kept) return [];
  const points = [];
  picture.samples.forEach((samples, at) => {
    if (!samples && !points.length) return;
    const keep = samples ? picture.kept[at] / samples : points.at(-1).keep;
    points.push({ at, loss: picture.edges[at], keep });
  });
  const last = picture.samples.findLastIndex((samples) => samples > 0);
  while (points.length && points.at(-1).at > last) points.pop();
  if (points.length) points.push({ ...points.at(-1), at: last + 1, loss: picture.edges[last + 1] });
  return points;
}

function groupsOf(picture) {
  const low = picture.edges[0], high = picture.edges.at(-1);
  const clip = (loss) => Math.min(high, Math.max(low, loss));
  const [kind, first, past] = data.ends;
  const log = kind === "log";
  const along = (loss) => (log ? Math.log(loss) : loss);
  const all = along(past) - along(first);
  return picture.bounds.slice(1).map((bound, at) => {
    const from = clip(picture.bounds[at]), to = clip(bound);
    const wide = (along(to) - along(from)) / all > 0.03;
    return {
      low: from,
      high: to,
      middle: log ? Math.sqrt(from * to) : (from + to) / 2,
      number: wide ? String(at) : "",
      inside: !!picture.window && picture.window[0] <= at && at < picture.window[1],
    };
  }).filter((group) => group.high > group.low);
}

function said(picture) {
  const count = (total) => Math.round(total).toLocaleString("en");
  const total = picture.samples.reduce((sum, one) => sum + one, 0);
  const words = [`${count(total)} samples with a ${data.judged}`];
  if (picture.kept) words.push(`${count(picture.kept.reduce((sum, one) => sum + one, 0))} of them kept (expected)`);
  if (picture.unseen) words.push(`${count(picture.unseen)} without one`);
  if (picture.mean !== null) words.push(`mean ${picture.mean.toPrecision(4)}`);
  if (picture.window) words.push(`the window is groups ${picture.window[0]} to ${picture.window[1] - 1} of 0 to ${picture.bounds.length - 2}`);
  return (picture.kept ? `Epoch ${picture.epoch}: ` : "Now: ") + words.join(", ") + ".";
}

// Says in words and in a table what the histogram shows.
function tell(at) {
  const picture = data.pictures[at];
  document.getElementById("epoch-says").textContent = said(picture);
  const now = document.getElementById("epoch-now");
  if (now) now.textContent = picture.epoch;
  const slider = document.getElementById("epoch");
  if (slider) slider.setAttribute("aria-valuetext", "epoch " + picture.epoch);
  const rows = barsOf(picture).map((bar) => {
    const row = element("tr");
    const head = element("th", bar.low.toPrecision(4));
    head.scope = "row";
    row.append(head, element("td", bar.high.toPrecision(4)), element("td", bar.samples.toLocaleString("en")),
      element("td", picture.kept ? bar.kept.toFixed(1) : ""));
    return row;
  });
  document.querySelector("#table-losses tbody").replaceChildren(...rows);
}

async function show(at) {
  const picture = data.pictures[at];
  tell(at);
  if (!views.losses) return;
  views.losses.data("bars", barsOf(picture)).data("curve", curveOf(picture)).data("groups", groupsOf(picture));
  await views.losses.runAsync();
}

if (data.pictures) {
  const slider = document.getElementById("epoch");
  const at = () => (slider ? Number(slider.value) : 0);
  before.losses = (spec) => { // a chart without data has no axes
    const picture = data.pictures[at()];
    const sets = { bars: barsOf(picture), curve: curveOf(picture), groups: groupsOf(picture) };
    for (const set of spec.data) if (sets[set.name]) set.values = sets[set.name];
  };
  drawn.losses = () => tell(at());
  if (slider) slider.addEventListener("input", () => show(at()));
}
draw();
