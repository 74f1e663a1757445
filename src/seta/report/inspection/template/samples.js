// Samples: what is shown of them, their loss curves, and their indices to take along. Texts are put
// in place as texts, whatever they hold.
function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// Returns an element that shows a sample; null where it was not loaded.
function shown(index) {
  const item = data.items[index];
  if (!item) return null;
  const box = element("div", undefined, "item");
  if (item.kind === "image") {
    const image = element("img");
    image.src = item.src;
    image.alt = "sample " + index;
    box.append(image);
  } else if (item.kind === "audio") {
    const sound = element("audio");
    sound.controls = true;
    sound.preload = "none";
    sound.src = item.src;
    sound.setAttribute("aria-label", "sample " + index);
    box.append(sound);
  } else if (item.kind === "error") {
    box.append(element("span", "not loaded: " + item.text, "failed"));
  } else {
    box.append(element("span", item.text, "text"));
  }
  if (item.label !== undefined) box.append(element("span", "label " + item.label, "label"));
  if (item.name) box.append(element("span", item.name, "name"));
  return box;
}

// Returns a small picture of the losses of a sample; null where they were not kept.
function sparkline(index) {
  const losses = data.curves[index];
  if (!losses) return null;
  const known = losses.map((loss, at) => [at, loss]).filter(([, loss]) => loss !== null);
  const low = Math.min(...known.map(([, loss]) => loss));
  const high = Math.max(...known.map(([, loss]) => loss));
  const place = ([at, loss]) => [
    3 + (90 * at) / Math.max(1, losses.length - 1),
    25 - (22 * (loss - low)) / (high - low || 1),
  ];
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("viewBox", "0 0 96 28");
  picture.setAttribute("class", "spark");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", "by epoch: " + known.map(([, loss]) => loss.toPrecision(3)).join(", "));
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", known.map((one, at) => (at ? "L" : "M") + place(one).join(" ")).join(""));
  picture.append(path);
  for (const one of known) {
    const dot = document.createElementNS(space, "circle");
    const [x, y] = place(one);
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    dot.setAttribute("r", 1.6);
    picture.append(dot);
  }
  return picture;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not allowed, or an old browser
    const area = element("textarea", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

for (const cell of document.querySelectorAll("[data-item]")) {
  cell.append(shown(cell.dataset.item) ?? "");
}
for (const cell of document.querySelectorAll("[data-curve]")) {
  cell.append(sparkline(cell.dataset.curve) ?? "");
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const indices = data.lists[button.dataset.copy];
    await copy(indices.join("\n") + "\n");
    document.querySelector(`[data-said="${button.dataset.copy}"]`).textContent = "copied";
  });
}
for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", () => {
    const text = data.lists[button.dataset.download].join("\n") + "\n";
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.download = button.dataset.download + ".txt";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
for (const button of document.querySelectorAll("[data-more]")) {
  button.addEventListener("click", () => {
    const table = document.querySelector(`#list-${button.dataset.more} table`);
    const all = table.classList.toggle("all");
    button.setAttribute("aria-expanded", String(all));
    button.textContent = all ? "Show the first 10" : "Show all " + table.tBodies[0].rows.length;
  });
}
