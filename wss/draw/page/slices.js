/* Volumes: their slices are images of their own, which a strip below the image and Shift with the wheel go through. */
import { find, show } from "./dom.js";
import { state, on } from "./store.js";
import { openImage } from "./images.js";

export const slicesOf = (image) =>
  image?.volume
    ? state.project.images.filter((entry) => entry.volume?.id === image.volume.id).sort((one, other) => one.volume.slice - other.volume.slice)
    : [];

export function stepSlice(step) {
  const slices = slicesOf(state.image);
  if (slices.length < 2) return;
  const at = slices.indexOf(state.image) + step;
  if (at >= 0 && at < slices.length) void openImage(slices[at].id);
}

function update() {
  const slices = slicesOf(state.image);
  show(find("slices"), slices.length > 1);
  if (slices.length < 2) return;
  const at = slices.indexOf(state.image);
  find("slice").max = String(slices.length - 1);
  find("slice").value = String(at);
  find("slice-value").textContent = `${at + 1} / ${slices.length}`;
  find("slice").setAttribute("aria-valuetext", `Slice ${at + 1} of ${slices.length}`);
}

export function startSlices() {
  find("slice").addEventListener("input", () => {
    const entry = slicesOf(state.image)[Number(find("slice").value)];
    if (entry) void openImage(entry.id);
  });
  find("slices").addEventListener("wheel", (event) => {
    event.preventDefault();
    if (Math.abs(event.deltaY) > 1) stepSlice(Math.sign(event.deltaY));
  });
  on("image project", update);
}
