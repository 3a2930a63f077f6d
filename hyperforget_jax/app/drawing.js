// The image that is asked about: drawn by pointer or keyboard, or one of the test split.

export const settings = JSON.parse(document.getElementById("settings").textContent);
const find = (selector) => document.querySelector(selector);
let image = settings.rows[3][0]; // A row of the test split, or pixels.
let changed = () => {};

export const chosen = () => image;

export function onChange(tell) {
  changed = tell;
}

// The ink is apart from what is seen, which has the keyboard's brush on it.
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
  changed();
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
    changed();
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
  changed();
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
    changed();
  });
  find("#images").append(button);
  return button;
});

function press(label) {
  buttons.forEach((button, own) => button.setAttribute("aria-pressed", own === label));
}

export function take(label, number) {
  image = settings.rows[label][number];
  isFresh = true;
  ink.clearRect(0, 0, size, size);
  press(label);
  const small = buttons[label].querySelector("canvas");
  picture(small.getContext("2d"), settings.pixels[label][number], settings.side);
  paint();
}
