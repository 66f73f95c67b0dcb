/* Pictures that belong to an image beside its drawing: the data set's own scribbles. */
import { imagePath } from "./api.js";
import { decodePng } from "./png.js";
import { paintMask } from "./masks.js";
import { state, on, tell } from "./store.js";

/** Scribbles of the data set, which lie below the drawing. */
export const base = { picture: null, values: null };

function repaint() {
  base.picture = base.values ? paintMask(base.values, state.project.classes, { style: "fill", patterns: false }) : null;
  tell("base");
}

/** Load the scribbles of an image; those of an image that is no longer shown are dropped. */
export async function loadBase(image) {
  base.picture = base.values = null;
  tell("base");
  if (!image.has_base) return;
  const answer = await fetch(imagePath(image.id, "base")).catch(() => null);
  if (!answer?.ok) return;
  const values = await decodePng(new Uint8Array(await answer.arrayBuffer())).catch(() => null);
  if (!values || state.image?.id !== image.id) return;
  base.values = { ...values, unsure: null };
  repaint();
}

on("project", () => {
  if (base.values) repaint();
});
