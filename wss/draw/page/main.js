/* Starts the page: every module wires its own part, then the project is loaded. */
import { Away, Refused } from "./api.js";
import { find } from "./dom.js";
import { state, on, recall } from "./store.js";
import { fit, view, zoomBy, zoomTo } from "./view.js";
import { startStage, visibleBox } from "./stage.js";
import { startPointer } from "./pointer.js";
import { startTools } from "./tools.js";
import { startKeys } from "./keys.js";
import { startSlices } from "./slices.js";
import { startImageList } from "./imagelist.js";
import { startClasses } from "./classes.js";
import { startClassDialog } from "./classdialog.js";
import { startOptions } from "./options.js";
import { startTraining, takeTraining } from "./training.js";
import { startExport } from "./exporting.js";
import { startEmpty } from "./empty.js";
import { startTabs } from "./tabs.js";
import { startPolling } from "./poll.js";
import { loadProject } from "./project.js";
import { openFirst } from "./images.js";
import { canRedo, canUndo, redo, undo } from "./annotation.js";
import { propagate } from "./propagation.js";
import { recallUnsent, unsent } from "./outbox.js";
import { saySaved, warn } from "./say.js";

const SETTLED_MS = 350;

function startZoom() {
  find("zoom-in").addEventListener("click", () => zoomBy(1.25));
  find("zoom-out").addEventListener("click", () => zoomBy(0.8));
  find("zoom-one").addEventListener("click", () => zoomTo(1 / (window.devicePixelRatio || 1)));
  find("zoom-fit").addEventListener("click", fit);
  on("view image", () => {
    const percent = view.zoom * (window.devicePixelRatio || 1) * 100;
    find("zoom-one").textContent = `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
  });
}

function startHistory() {
  find("undo").addEventListener("click", undo);
  find("redo").addEventListener("click", redo);
  on("annotation", () => {
    find("undo").disabled = !canUndo();
    find("redo").disabled = !canRedo();
    find("pane").dataset.revision = String(state.annotation?.revision ?? "");
  });
}

function startMasks() {
  const ask = () => void propagate({ box: visibleBox() });
  on("annotation", ask);
  let timer = null;
  on("view", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, SETTLED_MS);
  });
}

async function load() {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      await loadProject();
      break;
    } catch (error) {
      if (!(error instanceof Away || error instanceof Refused)) throw error;
      warn(`The project could not be loaded: ${error.message} The page tries again.`, { key: "load", seconds: 0 });
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
  document.querySelectorAll('[data-key="load"]').forEach((entry) => entry.remove());
  takeTraining(state.project.training);
  recallUnsent();
  if (!unsent()) saySaved("saved");
  await openFirst();
  startPolling();
  document.body.dataset.ready = "true";
}

startTools(recall());
for (const start of [startMasks, startStage, startPointer, startZoom, startHistory, startSlices, startImageList, startClasses]) start();
for (const start of [startClassDialog, startOptions, startTraining, startExport, startEmpty, startTabs, startKeys]) start();
void load();
