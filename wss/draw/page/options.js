/* The panels "Mask" and "Image": how masks and the picture look. */
import { find, make, show, sentence } from "./dom.js";
import { state, on, tell, remember } from "./store.js";
import { askedPart, coveredPart, isLarge, propagate, propagated } from "./propagation.js";
import { predicted } from "./prediction.js";
import { truth } from "./truth.js";
import { sideIsShown } from "./stage.js";
import { keepTruth, putInSplit } from "./accept.js";
import { say } from "./say.js";

export function setOption(name, value) {
  state.options[name] = value;
  remember();
  tell("options");
}

const radio = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

export function chooseSource(source) {
  setOption("source", source);
  const words = { propagation: "The propagated mask is shown", prediction: "The prediction is shown", truth: "The truth is shown", off: "No mask is shown" };
  say(words[source]);
}

export function toggle(name) {
  setOption(name, !state.options[name]);
  const words = { patterns: "Patterns", unsure: "Uncertainty", beside: "Side by side", ink: "Drawing" };
  say(`${words[name]} ${state.options[name] ? "on" : "off"}`);
}

export function changeOpacity(step) {
  setOption("opacity", Math.min(1, Math.max(0, Math.round((state.options.opacity + step) * 100) / 100)));
  say(`Opacity ${Math.round(state.options.opacity * 100)} percent`);
}

function updateOptions() {
  const { options } = state;
  for (const name of ["source", "style"]) document.querySelector(`input[name="${name}"][value="${options[name]}"]`).checked = true;
  for (const name of ["patterns", "unsure", "beside", "ink"]) find(name).checked = options[name];
  document.body.dataset.patterns = String(options.patterns);
  find("opacity").value = String(Math.round(options.opacity * 100));
  find("opacity-value").textContent = `${Math.round(options.opacity * 100)} %`;
  for (const name of ["brightness", "contrast"]) {
    find(name).value = String(options[name]);
    find(`${name}-value`).textContent = `${options[name]} %`;
  }
  updateMask();
}

/** The name of a training, which is its time, as people write it. */
function trainingTime(name) {
  const found = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)/.exec(name ?? "");
  return found ? `${found[1]}-${found[2]}-${found[3]} ${found[4]}:${found[5]}` : name;
}

function note() {
  const { source } = state.options;
  if (source === "prediction" || sideIsShown()) {
    if (predicted.mask) return `Prediction of the training of ${trainingTime(predicted.of)}.`;
    return "No prediction of this image yet: train a network below.";
  }
  if (propagated.why) return sentence(propagated.why);
  if (coveredPart()) return "The image is large: the mask covers the marked part around what you see.";
  if (propagated.mask && propagated.mask.width < propagated.area.width) {
    const remedy = askedPart() ? "Draw two classes near what you see" : "Zoom in";
    return `The mask is of a copy of ${propagated.mask.width} x ${propagated.mask.height} pixels. ${remedy} for the full resolution.`;
  }
  return "";
}

function updateMask() {
  const text = state.image ? note() : "";
  find("mask-note").textContent = text;
  show(find("mask-note"), Boolean(text));
  find("mask-time").textContent = propagated.ms === null ? "" : `${Math.round(propagated.ms)} ms`;
  const pane = find("pane");
  pane.dataset.mask = propagated.label;
  pane.dataset.busy = String(propagated.busy);
  show(find("thinking"), propagated.busy && state.options.source === "propagation");
  find("thinking-text").textContent = propagated.kind === "coarse" ? "Refining the mask" : "Computing the mask";
  const { source } = state.options;
  const ready = source === "prediction" ? predicted.mask : source === "propagation" ? propagated.mask : source === "truth" ? truth.mask : state.annotation?.objects.length;
  const large = source === "propagation" && isLarge(state.image);
  find("keep-truth").disabled = !ready || large;
  find("keep-truth").title = large
    ? "Masks of parts and of reduced copies are no truth: cut large images with `wss data tile`"
    : "Keep the mask that is shown, with your drawing over it, as dense truth";
}

function updateTruth(why) {
  const { image } = state;
  find("keep-truth").textContent = image?.has_truth ? "Replace the truth" : "Keep as truth";
  find("split").value = image?.split === "val" ? "val" : "train";
  find("split").disabled = !image?.has_truth || state.project.splits_fixed;
  find("split").title = state.project?.splits_fixed ? "The data set has lists of its splits (train.txt, val.txt)" : "Split of this image";
  show(find("keep-truth"), !image?.own_truth);
  show(find("source-truth"), Boolean(image?.has_truth));
  if (!image?.has_truth && state.options.source === "truth") setOption("source", "propagation");
  const line = find("truth-note");
  line.replaceChildren();
  if (!image?.has_truth) {
    line.textContent = "Correct the mask, then keep it as truth: the network is scored on it.";
    return;
  }
  if (image.own_truth) {
    line.textContent = `The data set has a mask of this image. ${image.split === "val" ? "It is scored." : "It is not scored: the image is not in val."}`;
    return;
  }
  line.append(why ? `${sentence(why)} ` : (image.split === "val" ? "Truth is kept; this image is scored. " : "Truth is kept; put the image into val to be scored. "));
  line.append(make("button", { type: "button", class: "link", text: "Remove", onclick: () => void keepTruth("none") }));
}

function updateMethods() {
  const select = find("method");
  const { methods } = state.project;
  select.replaceChildren(
    ...methods.map(({ name, title, ready, why_not: why }) =>
      make("option", { value: name, text: ready ? (title ?? name) : `${title ?? name} (${why ?? "not ready"})`, disabled: !ready }),
    ),
  );
  const known = methods.find((entry) => entry.name === state.options.method && entry.ready);
  const chosen = known ?? methods.find((entry) => entry.default && entry.ready) ?? methods.find((entry) => entry.ready) ?? null;
  state.options.method = chosen?.name ?? null;
  select.value = chosen?.name ?? "";
}

let timer = null;
function setWindow() {
  const lo = Number(find("window-lo").value);
  const hi = Math.max(lo + 1, Number(find("window-hi").value));
  find("window-lo-value").textContent = String(lo);
  find("window-hi-value").textContent = String(hi);
  clearTimeout(timer);
  timer = setTimeout(() => {
    state.window = { lo, hi };
    tell("tiles");
  }, 120);
}

function updateWindow() {
  const deep = state.image?.bits === 16;
  show(find("window-fields"), deep);
  show(find("filter-fields"), !deep);
  if (!deep) return;
  const [lo, hi] = state.image.range ?? [0, 65535];
  for (const [name, value] of [
    ["window-lo", state.window?.lo ?? lo],
    ["window-hi", state.window?.hi ?? hi],
  ]) {
    find(name).min = String(lo);
    find(name).max = String(hi);
    find(name).value = String(value);
    find(`${name}-value`).textContent = state.window ? String(value) : "auto";
  }
}

export function resetImage() {
  state.window = null;
  setOption("brightness", 100);
  setOption("contrast", 100);
  updateWindow();
  tell("tiles");
  say("Brightness and contrast reset");
}

export function startOptions() {
  find("mask-source").addEventListener("change", () => chooseSource(radio("source")));
  find("mask-style").addEventListener("change", () => setOption("style", radio("style")));
  for (const name of ["patterns", "unsure", "beside", "ink"]) find(name).addEventListener("change", () => toggle(name));
  find("opacity").addEventListener("input", () => setOption("opacity", Number(find("opacity").value) / 100));
  for (const name of ["brightness", "contrast"]) {
    find(name).addEventListener("input", () => setOption(name, Number(find(name).value)));
  }
  for (const name of ["window-lo", "window-hi"]) find(name).addEventListener("input", setWindow);
  find("reset-image").addEventListener("click", resetImage);
  find("method").addEventListener("change", () => {
    setOption("method", find("method").value);
    void propagate({ again: true });
  });
  find("keep-truth").addEventListener("click", () => void keepTruth(state.options.source === "off" ? "annotation" : state.options.source));
  find("split").addEventListener("change", () => void putInSplit(find("split").value));
  on("options", updateOptions);
  on("mask masking image", updateMask);
  on("image", () => {
    updateWindow();
    updateTruth(null);
  });
  on("truth", updateTruth);
  on("entry", (entry) => {
    if (entry !== state.image) return;
    updateTruth(null);
    updateWindow();
  });
  on("project", updateMethods);
  updateOptions();
}
