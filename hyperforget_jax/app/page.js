// The page: what is chosen is asked of the server, and its answer is shown.

const settings = JSON.parse(document.getElementById("settings").textContent);
const WHO = ["original", "after", "retrained"];
const ABOUT = {
  dihyfo: "Samples the changed weights from a hypernetwork, which is told the classes " +
    "and the loss, and reads no data.",
  fiun: "Dampens the weights that matter more to the classes than to all data.",
  pgu: "Steps on the classes alone, with what the rest needs projected out.",
  logit_mask: "Hides the classes, and changes no weight: the trivial cheat.",
};
const find = (selector) => document.querySelector(selector);
const controls = find("#controls");
const slider = find("#loss");
let usual = true; // Whether the loss is left to the hypernetwork's profiles.
let image = settings.rows[3][0];

// One question at a time; while one is out, only the latest of the next is kept.
let waiting = false;
let next = false;

function question(retrain) {
  const data = new FormData(controls);
  const on = data.getAll("class").map(Number);
  return {
    classes: settings.rows.map((_, label) => label).filter((c) => !on.includes(c)),
    method: data.get("method"),
    image,
    loss: usual ? null : Number(slider.value),
    retrain,
  };
}

async function ask(retrain = false) {
  if (waiting) {
    next = true;
    return;
  }
  waiting = true;
  next = false;
  const asked = question(retrain);
  find("#answers").setAttribute("aria-busy", "true");
  let found = null;
  try {
    const response = await fetch("answer", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(asked),
    });
    found = await response.json();
  } catch {
    found = { error: "The server does not answer." };
  }
  waiting = false;
  if (found.error) say(`That cannot be: ${found.error}`, true);
  else if (!next) show(found, asked);
  if (next) ask();
  else if (!found.error && asked.classes.length && !found.prediction.retrained) ask(true);
  else find("#answers").setAttribute("aria-busy", "false");
}

function say(text, wrong = false) {
  const status = find("#status");
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

const percent = (share) => `${(100 * share).toFixed(share < 0.9995 && share > 0.9 ? 1 : 0)} %`;

function show(found, asked) {
  const name = settings.methods[asked.method];
  for (const kind of ["prediction", "accuracy"]) {
    const table = document.getElementById(kind);
    table.querySelector("thead .after").textContent = `after ${name}`;
    table.querySelectorAll("tbody tr").forEach((row, label) => {
      row.classList.toggle("off", asked.classes.includes(label));
      row.querySelectorAll("td").forEach((cell, column) => {
        const none = asked.classes.length ? "…" : "–";
        fill(cell, found[kind][WHO[column]], label, kind === "prediction", none);
      });
    });
  }
  for (const who of WHO) {
    const part = find(`#verdicts [data-who=${who}]`);
    const verdict = found.verdict && found.verdict[who];
    const none = found.verdict ? "Retraining …" : "Nothing is to be forgotten";
    part.querySelector(".headline").textContent = verdict ? verdict.headline : none;
    const findings = (verdict ? verdict.findings : []).map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    });
    part.querySelector("ul").replaceChildren(...findings);
  }
  find("#verdicts [data-who=after] h2").textContent = `After ${name}`;
  showLoss(found, asked);
  const top = (values) => values.indexOf(Math.max(...values));
  const said = WHO.filter((who) => found.prediction[who]).map((who) => {
    const values = found.prediction[who];
    const whose = who === "after" ? `after ${name}` : who;
    return `${whose} ${top(values)} (${percent(values[top(values)])})`;
  });
  const time = `${Math.max(1, Math.round(found.milliseconds))} ms`;
  say(`The image is taken for: ${said.join(", ")}. Answered in ${time}.`);
}

function fill(cell, values, label, isPrediction, none) {
  cell.replaceChildren();
  cell.classList.remove("top");
  if (!values) {
    cell.textContent = none;
    return;
  }
  const bar = document.createElement("span");
  bar.className = "bar";
  bar.style.width = `${94 * values[label]}%`;
  const text = document.createElement("b");
  text.textContent = percent(values[label]);
  cell.append(bar, text);
  cell.classList.toggle("top", isPrediction && values[label] === Math.max(...values));
}

function showLoss(found, asked) {
  const can = asked.method === "dihyfo" && asked.classes.length > 0;
  find("#loss-part").disabled = !can;
  find("#usual").disabled = !can || usual;
  const asks = found.loss && can ? found.loss.asked : null;
  if (usual && asks !== null) slider.value = asks;
  find("#loss-asked").textContent =
    asks === null ? "DiHyFo alone is asked for a loss" : `${asks.toFixed(1)} nats on what is off`;
  find("#loss-achieved").textContent =
    asks === null ? "" : `on test images: ${found.loss.achieved.toFixed(1)} nats`;
}

// Drawing. The ink is apart from what is seen, which has the keyboard's brush on it.
const canvas = find("#canvas");
const size = canvas.width;
const ink = new OffscreenCanvas(size, size).getContext("2d", { willReadFrequently: true });
const radius = settings.brush * size;
let brush = { x: size / 2, y: size / 2 };
let isFresh = true; // Nothing is drawn since a test image was taken.

function paint() {
  const seen = canvas.getContext("2d");
  seen.fillStyle = "#fff";
  seen.fillRect(0, 0, size, size);
  if (Array.isArray(image) || !isFresh) seen.drawImage(ink.canvas, 0, 0);
  else picture(seen, chosenPixels(), size);
  if (document.activeElement === canvas && canvas.matches(":focus-visible")) {
    seen.strokeStyle = "#c44e00";
    seen.lineWidth = 2;
    seen.beginPath();
    seen.arc(brush.x, brush.y, radius, 0, 2 * Math.PI);
    seen.stroke();
  }
}

function picture(context, pixels, width) {
  const cell = width / settings.side;
  pixels.forEach((value, place) => {
    const grey = Math.round(255 * (1 - value / settings.largest));
    context.fillStyle = `rgb(${grey} ${grey} ${grey})`;
    const [x, y] = [place % settings.side, Math.floor(place / settings.side)];
    context.fillRect(x * cell, y * cell, cell + 1, cell + 1);
  });
}

function chosenPixels() {
  const label = settings.rows.findIndex((rows) => rows.includes(image));
  return settings.pixels[label][settings.rows[label].indexOf(image)];
}

function clear() {
  ink.clearRect(0, 0, size, size);
  isFresh = false;
  image = new Array(settings.side ** 2).fill(0);
  press(null);
  paint();
}

function stroke(from, to) {
  if (isFresh) clear();
  ink.lineCap = "round";
  ink.lineWidth = 2 * radius;
  ink.beginPath();
  ink.moveTo(from.x, from.y);
  ink.lineTo(to.x, to.y);
  ink.stroke();
  image = fitted();
  paint();
  ask();
}

// The drawing as an image like those of the data: as high as they are, in the middle.
function fitted() {
  const { data } = ink.getImageData(0, 0, size, size);
  const inked = [];
  for (let place = 0; place < size * size; place++) {
    const alpha = data[4 * place + 3];
    if (alpha) inked.push([place % size, Math.floor(place / size), alpha / 255]);
  }
  const sums = new Array(settings.side ** 2).fill(0);
  const range = (axis) => {
    const values = inked.map((each) => each[axis]);
    return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [size, 0]);
  };
  const [left, right] = range(0);
  const [upper, lower] = range(1);
  const scale = Math.min(1, settings.height / (1 + Math.max(right - left, lower - upper)));
  const at = (value, low, high) =>
    Math.floor((value - (low + high) / 2) * scale + settings.side / 2);
  for (const [x, y, alpha] of inked) {
    const [column, row] = [at(x, left, right), at(y, upper, lower)];
    sums[row * settings.side + column] += alpha * scale ** 2;
  }
  return sums.map((sum) => Math.round(settings.largest * Math.min(1, sum)));
}

const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) * size) / box.width,
    y: ((event.clientY - box.top) * size) / box.height,
  };
};
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  brush = place(event);
  stroke(brush, brush);
});
canvas.addEventListener("pointermove", (event) => {
  if (!canvas.hasPointerCapture(event.pointerId)) return;
  const to = place(event);
  stroke(brush, to);
  brush = to;
});
let isDown = false; // The space bar.
canvas.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-6, 0], ArrowRight: [6, 0], ArrowUp: [0, -6], ArrowDown: [0, 6] };
  const from = brush;
  if (event.key in step) {
    const clip = (value) => Math.max(radius, Math.min(size - radius, value));
    const [x, y] = step[event.key];
    brush = { x: clip(brush.x + x), y: clip(brush.y + y) };
    if (isDown) stroke(from, brush);
    else paint();
  } else if (event.key === " ") {
    isDown = true;
    stroke(brush, brush);
  } else if (event.key === "Delete" || event.key === "Backspace") {
    clear();
    ask();
  } else return;
  event.preventDefault();
});
canvas.addEventListener("keyup", (event) => {
  if (event.key === " ") isDown = false;
});
canvas.addEventListener("focus", paint);
canvas.addEventListener("blur", () => {
  isDown = false;
  paint();
});
find("#clear").addEventListener("click", () => {
  clear();
  ask();
});

// Test images: a button a class, which goes on to the next of its class.
const buttons = settings.rows.map((rows, label) => {
  const button = document.createElement("button");
  button.type = "button";
  const small = document.createElement("canvas");
  small.width = small.height = settings.side;
  picture(small.getContext("2d"), settings.pixels[label][0], settings.side);
  button.append(small);
  button.setAttribute("aria-label", `Test image of a ${label}`);
  button.addEventListener("click", () => {
    const taken = rows.indexOf(image);
    take(label, taken < 0 ? 0 : (taken + 1) % rows.length);
    ask();
  });
  find("#images").append(button);
  return button;
});

function press(label) {
  buttons.forEach((button, own) => button.setAttribute("aria-pressed", own === label));
}

function take(label, number) {
  image = settings.rows[label][number];
  isFresh = true;
  ink.clearRect(0, 0, size, size);
  press(label);
  const small = buttons[label].querySelector("canvas");
  picture(small.getContext("2d"), settings.pixels[label][number], settings.side);
  paint();
}

// Everything else that changes a question.
controls.addEventListener("input", (event) => {
  if (event.target.name === "loss") usual = false;
  if (event.target.name === "class" || event.target.name === "method") usual = true;
  about();
  ask();
});
find("#usual").addEventListener("click", () => {
  usual = true;
  slider.focus(); // The button is about to be disabled.
  ask();
});
controls.addEventListener("submit", (event) => event.preventDefault());

function about() {
  find("#about").textContent = ABOUT[new FormData(controls).get("method")];
}

about();
take(3, 0);
ask();
