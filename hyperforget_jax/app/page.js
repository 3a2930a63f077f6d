// The page: what is chosen is asked of the server, and its answer is shown.

import { chosen, onChange, settings, take } from "./drawing.js";

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

// One question at a time; while one is out, only the latest of the next is kept.
let waiting = false;
let next = false;
let retraining = false; // Beside them: it may take long, and others are answered.

function question() {
  const data = new FormData(controls);
  const on = data.getAll("class").map(Number);
  return {
    classes: settings.rows.map((_, label) => label).filter((c) => !on.includes(c)),
    method: data.get("method"),
    image: chosen(),
    loss: usual ? null : Number(slider.value),
  };
}

async function post(asked) {
  try {
    const response = await fetch("answer", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(asked),
    });
    return await response.json();
  } catch {
    return { error: "The server does not answer." };
  }
}

async function ask() {
  if (waiting) {
    next = true;
    return;
  }
  waiting = true;
  next = false;
  const asked = question();
  find("#answers").setAttribute("aria-busy", "true");
  const found = await post(asked);
  waiting = false;
  if (found.error) say(`That cannot be: ${found.error}`, true);
  else if (!next) show(found, asked);
  if (next) ask();
  else if (!found.error && asked.classes.length && !found.prediction.retrained) retrain(asked);
  else find("#answers").setAttribute("aria-busy", "false");
}

async function retrain(asked) {
  if (retraining) return;
  retraining = true;
  const found = await post({ ...asked, retrain: true });
  retraining = false;
  if (!found.error) ask(); // Of what is off by now, which may lack other models.
  else {
    say(`That cannot be: ${found.error}`, true);
    find("#answers").setAttribute("aria-busy", "false");
  }
}

function say(text, wrong = false) {
  const status = find("#status");
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

const percent = (share) => `${(100 * share).toFixed(share < 0.9995 && share > 0.9 ? 1 : 0)} %`;

function show(found, asked) {
  const name = settings.methods[asked.method];
  const isBlank = Array.isArray(asked.image) && !asked.image.some(Boolean);
  for (const kind of ["prediction", "accuracy"]) {
    const table = document.getElementById(kind);
    table.querySelector("thead .after").textContent = `after ${name}`;
    table.querySelectorAll("tbody tr").forEach((row, label) => {
      row.classList.toggle("off", asked.classes.includes(label));
      row.querySelectorAll("td").forEach((cell, column) => {
        const isPrediction = kind === "prediction";
        const isHidden = isPrediction && isBlank;
        const none = asked.classes.length && !isHidden ? "…" : "–";
        fill(cell, isHidden ? null : found[kind][WHO[column]], label, isPrediction, none);
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
  const taken = `The image is taken for: ${said.join(", ")}.`;
  say(`${isBlank ? "Nothing is drawn." : taken} Answered in ${time}.`);
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
  const none =
    asked.method === "dihyfo" ? "Switch a class off first." : "DiHyFo alone is asked for a loss";
  find("#loss-asked").textContent =
    asks === null ? none : `${asks.toFixed(1)} nats on what is off`;
  find("#loss-achieved").textContent =
    asks === null ? "" : `it has ${Math.min(999, found.loss.achieved).toFixed(1)} nats`;
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
onChange(() => ask());
ask();
