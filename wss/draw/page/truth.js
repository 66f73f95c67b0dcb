/* The dense truth of the image that is shown. */
import { imagePath } from "./api.js";
import { decodePng } from "./png.js";
import { state, on, tell } from "./store.js";

export const truth = { mask: null, area: null, label: "" };

function change(fields) {
  Object.assign(truth, fields);
  tell("mask");
}

/** Load the truth, if it is to be shown. */
export async function loadTruth() {
  const { image } = state;
  if (!image?.has_truth || state.options.source !== "truth") {
    change({ mask: null, label: "" });
    return;
  }
  const answer = await fetch(imagePath(image.id, "truth")).catch(() => null);
  const mask = answer?.ok ? await decodePng(new Uint8Array(await answer.arrayBuffer())).catch(() => null) : null;
  if (state.image?.id !== image.id) return;
  const area = { x: 0, y: 0, width: image.width, height: image.height };
  change(mask ? { mask: { ...mask, unsure: null }, area, label: "truth" } : { mask: null, label: "" });
}

let wanted = "";
on("options image entry", () => {
  const now = `${state.image?.id} ${state.image?.has_truth} ${state.options.source === "truth"}`;
  if (now === wanted) return;
  wanted = now;
  void loadTruth();
});
