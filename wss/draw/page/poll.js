/* Once a second: what the server computes, how the training goes, and whether another tab changed something. */
import { Away, Forgotten, call } from "./api.js";
import { state, on, tell } from "./store.js";
import { hurry, newestOf, refresh, unsent, unsentOf } from "./outbox.js";
import { acting } from "./accept.js";
import { propagate } from "./propagation.js";
import { loadPrediction } from "./prediction.js";
import { toggle } from "./options.js";
import { takeTraining } from "./training.js";
import { loadProject } from "./project.js";
import { say, saySaved, unwarn, warn } from "./say.js";

const EVERY_MS = 1000;
const HIDDEN_MS = 4000;

let away = false;
let predictions; // name of the newest ones, undefined until known
let computing = "";

function gone(error) {
  if (error instanceof Forgotten) {
    const text = "The server was started again with a new address. Open the address that it printed, in this tab; what is unsent is kept.";
    warn(text, { key: "away", seconds: 0 });
  } else if (!away) warn("The server does not answer. You can go on drawing; the page tries again by itself.", { key: "away", seconds: 0 });
  if (!unsent()) saySaved("silent");
  away = true;
}

async function back() {
  away = false;
  unwarn("away");
  say("The server answers again");
  if (!unsent()) saySaved("saved");
  hurry();
  tell("back");
  if (!state.image) return;
  if (!unsent()) await refresh(state.image.id);
  void propagate();
}

async function others(revisions) {
  const { image } = state;
  if (!image || acting() || unsentOf(image.id).length) return;
  const theirs = revisions?.[image.id];
  const ours = newestOf(image.id)?.revision;
  if (theirs === undefined || ours === undefined || theirs <= ours) return;
  await refresh(image.id);
  if (!acting() && newestOf(image.id).revision > ours && !unsentOf(image.id).length) say("Another tab changed this image; its drawing is shown");
}

function tellOfPredictions() {
  say("New predictions are there");
  const { options } = state;
  if (options.beside || options.source === "prediction") return;
  const actions = [{ title: "Side by side", act: () => toggle("beside") }];
  warn("The network has predicted all images.", { key: "predicted", seconds: 30, actions });
}

async function look() {
  const status = await call("GET", "/api/status", undefined, AbortSignal.timeout(8000));
  if (away) await back();
  takeTraining(status.training);
  const { computing: jobs } = status;
  const mine = (jobs ?? []).find((job) => job.image === state.image?.id);
  const text = mine ? mine.what : "";
  if (text !== computing && text) say(`Computing ${text} of this image`);
  computing = text;
  if (status.classes_revision !== state.project.classes_revision) await loadProject();
  if (predictions !== undefined && status.predictions !== predictions) {
    await loadProject();
    await loadPrediction();
    if (status.predictions) tellOfPredictions();
  }
  predictions = status.predictions ?? null;
  await others(status.revisions);
}

async function turn() {
  try {
    await look();
  } catch (error) {
    if (error instanceof Away) gone(error);
    else console.error(error);
  }
  setTimeout(() => void turn(), document.hidden ? HIDDEN_MS : EVERY_MS);
}

export function startPolling() {
  on("away", (error) => {
    if (!away) gone(error);
  });
  void turn();
}
