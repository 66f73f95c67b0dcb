/* The panel "Training": start, progress, stop, resume, scores. */
import { Away, Refused, call } from "./api.js";
import { counted, duration, find, make, sentence, show } from "./dom.js";
import { state, on, tell } from "./store.js";
import { curveOf } from "./curve.js";
import { loadProject } from "./project.js";
import { say, unwarn, warn } from "./say.js";

const WORDS = { running: "running", stopped: "stopped", done: "done", failed: "failed" };

let shown = ""; // what the panel shows, so that unchanged states cost nothing
let before = "none";
let refused = ""; // why a training was not begun


const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`);

function scoreRows(scores) {
  const rows = [["Mean IoU", scores.miou], ...Object.entries(scores.per_class ?? {})];
  return rows.flatMap(([name, value], at) => {
    const share = make("span", { class: "score-bar", style: { "--share": String(value ?? 0) }, "aria-hidden": "true" });
    return [
      make("dt", { text: name, class: at ? "" : "score-mean" }),
      make("dd", { class: at ? "" : "score-mean" }, share, make("span", { text: percent(value) })),
    ];
  });
}

function progressOf(training) {
  if (!training.total) return null;
  return Math.min(1, training.done / training.total);
}

function update() {
  const training = state.training ?? { state: "none" };
  const text = JSON.stringify(training);
  if (text === shown) return;
  shown = text;
  const running = training.state === "running";
  show(find("train-state"), training.state !== "none");
  find("train-state").textContent = WORDS[training.state] ?? "";
  find("train-state").dataset.state = training.state;
  show(find("train-choice"), !running);
  show(find("train-progress"), running || (training.curve?.length ?? 0) > 0);
  find("train-stage").textContent = `${training.doing ?? "Starting"}${training.total ? ` ${training.done} / ${training.total}` : ""}`;
  find("train-left").textContent = running && training.left_s !== null && training.left_s !== undefined ? `${duration(training.left_s)} left` : "";
  const share = progressOf(training);
  if (share === null) find("train-bar").removeAttribute("value");
  else find("train-bar").value = share;
  show(find("train-bar"), running);
  show(find("train-where"), running);
  find("curve").replaceChildren(...(training.curve?.length > 1 ? [curveOf(training.curve)] : []));
  if (running) {
    refused = "";
    unwarn("training");
  }
  const error = refused || training.error;
  show(find("train-error"), Boolean(error));
  find("train-error").textContent = sentence(error);
  show(find("scores"), Boolean(training.scores));
  find("scores").replaceChildren(...(training.scores ? scoreRows(training.scores) : []));
  show(find("train-start"), !running);
  find("train-start").textContent = training.state === "none" ? "Train" : "Train again";
  show(find("train-stop"), running);
  show(find("train-resume"), training.state === "stopped" || training.state === "failed");
  const longer = longerBudget(training);
  find("train-resume").textContent = longer ? `Go on with ${counted(longer, "minute")}` : "Resume";
  if (longer && Number(find("budget").value) < longer) find("budget").value = String(longer);
  announce(training);
  note();
}

/** Minutes that would do where the budget was too short, or null. */
const longerBudget = ({ least_s: least }) => (least ? Math.ceil(least / 60) : null);

function resume() {
  const longer = longerBudget(state.training);
  void ask("/api/training/resume", longer ? { budget_s: 60 * Math.max(longer, Number(find("budget").value)) } : {});
}

function announce(training) {
  if (training.state === before) return;
  if (before === "running") {
    if (training.state === "done") say("The training is done. Predictions follow");
    else if (training.state === "failed") warn(`The training failed: ${training.error ?? "see the terminal"}`, { key: "training", seconds: 30 });
    else say("The training was stopped");
  }
  before = training.state;
}

function note() {
  const drawn = state.project?.images.filter((entry) => entry.objects > 0 || entry.has_base).length ?? 0;
  const none = (state.training?.state ?? "none") === "none";
  find("train-start").disabled = drawn === 0;
  const { left_out: left = [] } = state.training ?? {};
  show(find("train-left-out"), left.length > 0);
  find("train-left-out").textContent = left.length ? `Left out, because ${left.length === 1 ? "it" : "they"} cannot be read: ${left.slice(0, 5).join(", ")}${left.length > 5 ? ` and ${left.length - 5} more` : ""}.` : "";
  const unscored = state.training?.state === "done" && !state.training.scores;
  find("train-note").textContent = unscored
    ? "No scores: keep a corrected mask as truth and put that image into val."
    : drawn === 0 ? "Draw on some images first: a few strokes in each class." : none ? "Trains in the background. Go on drawing meanwhile." : "";
}

async function ask(path, body) {
  try {
    refused = "";
    state.training = await call("POST", path, body ?? {});
  } catch (error) {
    if (error instanceof Refused && error.status === 409) {
      refused = error.message;
      say(sentence(error.message));
      await loadProject(); // the server has tried to read every image
    } else if (error instanceof Refused || error instanceof Away) warn(error.message, { key: "training" });
    else throw error;
  }
  shown = "";
  update();
}

function start() {
  const minutes = Number(find("budget").value);
  if (!(minutes > 0)) {
    find("budget").reportValidity();
    return;
  }
  say("The training starts");
  void ask("/api/training", { pipeline: find("pipeline").value, budget_s: Math.max(10, Math.round(minutes * 60)) });
}

function updatePipelines() {
  const chosen = find("pipeline").value;
  const { pipelines } = state.project;
  const listed = pipelines.some((entry) => entry.name === "auto") ? pipelines : [{ name: "auto", title: "Choose by the data" }, ...pipelines];
  find("pipeline").replaceChildren(...listed.map(({ name, title }) => make("option", { value: name, text: name })));
  find("pipeline").value = listed.some((entry) => entry.name === chosen) ? chosen : "auto";
  notePipeline();
  note();
}

function notePipeline() {
  const entry = state.project.pipelines.find(({ name }) => name === find("pipeline").value);
  find("pipeline-note").textContent = entry?.title && entry.title !== entry.name ? entry.title : "";
}

export function takeTraining(training) {
  const finished = state.training?.state === "running" && training?.state !== "running";
  state.training = training;
  update();
  if (finished) tell("trained");
}

export function startTraining() {
  find("train-start").addEventListener("click", start);
  find("train-stop").addEventListener("click", () => void ask("/api/training/stop"));
  find("train-resume").addEventListener("click", resume);
  find("pipeline").addEventListener("change", notePipeline);
  on("project", updatePipelines);
  on("entry", note);
}
