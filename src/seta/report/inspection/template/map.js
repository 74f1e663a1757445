// The data map: a click, the arrow keys and two buttons choose a cell, and show samples of it.
let chosen = -1;

async function choose(cell) {
  const found = data.cells[cell];
  if (!found) return;
  chosen = cell;
  await views.map.signal("chosen", cell).runAsync();
  const few = found.examples.length < found.samples ? `, ${found.examples.length} of them:` : ":";
  document.getElementById("cell-says").textContent =
    `${found.text}: ${found.samples.toLocaleString("en")} ${found.samples === 1 ? "sample" : "samples"}${few}`;
  const cards = [], others = [];
  for (const index of found.examples) {
    const item = shown(index), curve = sparkline(index);
    if (!item && !curve) {
      others.push(index);
      continue;
    }
    const card = element("li");
    card.append(element("strong", String(index)), ...[item, curve].filter(Boolean));
    cards.push(card);
  }
  if (others.length) cards.push(element("li", (cards.length ? "and " : "") + others.join(", "), "others"));
  document.getElementById("cell-samples").replaceChildren(...cards);
}

// Returns the nearest cell with samples in a direction; the chosen one where there is none.
function beside(across, up) {
  const from = data.cells[chosen];
  let best = chosen, least = Infinity;
  data.cells.forEach((cell, at) => {
    const right = (cell.column - from.column) * across + (cell.line - from.line) * up;
    const off = Math.abs((cell.column - from.column) * up) + Math.abs((cell.line - from.line) * across);
    const far = right + 2 * off;
    if (right > 0 && far < least) [best, least] = [at, far];
  });
  return best;
}

if (data.cells) {
  const fullest = data.cells.reduce((best, cell, at) => (cell.samples > data.cells[best].samples ? at : best), 0);
  const arrows = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  document.getElementById("chart-map").addEventListener("keydown", (event) => {
    const arrow = arrows[event.key];
    if (!arrow) return;
    event.preventDefault();
    choose(chosen < 0 ? fullest : beside(...arrow));
  });
  const step = (by) => choose(chosen < 0 ? fullest : (chosen + by + data.cells.length) % data.cells.length);
  document.getElementById("cell-next").addEventListener("click", () => step(1));
  document.getElementById("cell-before").addEventListener("click", () => step(-1));
  drawn.map = (view) => {
    view.addEventListener("click", (event, item) => {
      if (item && item.datum && item.datum.cell !== undefined) choose(item.datum.cell);
    });
    if (chosen >= 0) return view.signal("chosen", chosen).runAsync();
  };
}
