/* The list of images at the left: thumbnails, search, and what is known of each. */
import { find, make, counted, show, setStyle } from "./dom.js";
import { state, on } from "./store.js";
import { entrance, hideReason, openImage, stepImage, openProposed, stops, stopOf, thumbnail } from "./images.js";
import { slicesOf } from "./slices.js";

const CHUNK = 200; // rows are added while one scrolls

let rows = new Map(); // id -> element
let matching = [];
let limit = CHUNK;

/** What is known of a picture, or of all slices of a volume together. */
function summary(entry) {
  const all = entry.volume ? slicesOf(entry) : [entry];
  const annotated = all.filter((one) => one.objects > 0 || one.has_base).length;
  return {
    annotated,
    slices: all.length,
    predicted: all.some((one) => one.has_prediction),
    truth: all.some((one) => one.has_truth),
    objects: all.reduce((sum, one) => sum + one.objects, 0),
  };
}

function passes(entry) {
  const words = find("image-search").value.trim().toLowerCase();
  const name = (entry.volume?.name ?? entry.name).toLowerCase();
  if (words && !words.split(/\s+/).every((word) => name.includes(word))) return false;
  const { annotated, predicted, truth } = summary(entry);
  const filter = find("image-filter").value;
  if (filter === "todo") return annotated === 0 && !truth;
  if (filter === "annotated") return annotated > 0;
  if (filter === "predicted") return predicted;
  return filter === "truth" ? truth : true;
}

function badges(entry) {
  const { annotated, slices, predicted, truth, objects } = summary(entry);
  if (!entry.volume && entry.error) return [make("span", { class: "badge badge-bad", text: "cannot be read", title: entry.error })];
  const list = [];
  if (annotated) {
    const text = slices > 1 ? `${annotated} of ${slices}` : objects ? counted(objects, "object") : "scribbles";
    list.push(make("span", { class: "badge badge-drawn", text }));
  } else if (slices > 1) list.push(make("span", { class: "badge badge-none", text: counted(slices, "slice") }));
  if (predicted) list.push(make("span", { class: "badge badge-predicted", text: "predicted" }));
  if (truth) list.push(make("span", { class: "badge badge-truth", text: entry.split === "val" ? "truth, val" : "truth" }));
  if (!list.length) list.push(make("span", { class: "badge badge-none", text: "to do" }));
  return list;
}

function fill(row, entry) {
  row.querySelector(".image-badges").replaceChildren(...badges(entry));
  const current = stopOf(state.image) === entry;
  const button = row.firstElementChild;
  if (current) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
}

function rowOf(entry) {
  const shape = entry.width && entry.height ? `${entry.width} / ${entry.height}` : "4 / 3";
  const picture = make("img", { src: thumbnail(entrance(entry).id), alt: "", loading: "lazy", decoding: "async" });
  setStyle(picture, { "aspect-ratio": shape });
  const text = make(
    "span",
    { class: "image-text" },
    make("span", { class: "image-title", text: entry.volume?.name ?? entry.name }),
    make("span", { class: "image-badges" }),
  );
  const button = make("button", { type: "button", class: "image-row", title: entry.name, onclick: () => void openImage(entrance(entry).id) });
  button.append(make("span", { class: "image-thumb" }, picture), text);
  const row = make("li", {}, button);
  fill(row, entry);
  return row;
}

function build() {
  if (!state.project) return;
  matching = stops().filter(passes);
  rows = new Map();
  for (const entry of matching.slice(0, limit)) rows.set(entry.id, rowOf(entry));
  find("image-list").replaceChildren(...rows.values());
  if (!matching.length) {
    const text = state.project.images.length ? "No image matches." : "There are no images in this folder.";
    find("image-list").append(make("li", { class: "note", text }));
  }
  const all = stops();
  const done = all.filter((entry) => summary(entry).annotated > 0).length;
  find("image-count").textContent = `${done} of ${all.length} annotated`;
}

function more() {
  const list = find("image-list");
  if (list.scrollTop + list.clientHeight < list.scrollHeight - 400 || rows.size >= matching.length) return;
  const next = matching.slice(rows.size, rows.size + CHUNK);
  limit = rows.size + CHUNK;
  for (const entry of next) {
    rows.set(entry.id, rowOf(entry));
    list.append(rows.get(entry.id));
  }
}

function updateEntry(entry) {
  const stop = stopOf(entry);
  const row = rows.get(stop.id);
  if (row) fill(row, stop);
  const all = stops();
  find("image-count").textContent = `${all.filter((one) => summary(one).annotated > 0).length} of ${all.length} annotated`;
}

function updateCurrent() {
  const stop = stopOf(state.image);
  for (const [id, row] of rows) {
    if (id === stop?.id) {
      row.firstElementChild.setAttribute("aria-current", "true");
      row.scrollIntoView({ block: "nearest" });
    } else row.firstElementChild.removeAttribute("aria-current");
  }
  find("image-name").textContent = state.image ? (state.image.volume?.name ?? state.image.name) : "No image";
  const all = stops();
  find("image-place").textContent = state.image ? `${all.indexOf(stop) + 1} / ${all.length}` : "";
  find("stage").setAttribute("aria-label", state.image ? `Image ${state.image.name}` : "Image");
}

export function startImageList() {
  find("image-search").addEventListener("input", build);
  find("image-filter").addEventListener("change", build);
  find("image-list").addEventListener("scroll", more, { passive: true });
  find("previous").addEventListener("click", () => stepImage(-1));
  find("following").addEventListener("click", () => stepImage(1));
  find("propose").addEventListener("click", () => void openProposed());
  find("reason-close").addEventListener("click", () => {
    hideReason();
    find("stage").focus();
  });
  on("project", () => {
    build();
    updateCurrent();
    show(find("panel-images"), true);
  });
  on("entry", updateEntry);
  on("image", updateCurrent);
}
