/* The prediction of the trained network for the image that is shown. */
import { Away, Refused, call, imagePath } from "./api.js";
import { decodeMask } from "./masks.js";
import { state, on, tell } from "./store.js";
import { warn } from "./say.js";

export const predicted = { mask: null, area: null, label: "", of: null };

function change(fields) {
  Object.assign(predicted, fields);
  tell("mask");
}

export async function loadPrediction() {
  const { image } = state;
  if (!image?.has_prediction) {
    change({ mask: null, label: "", of: null });
    return;
  }
  try {
    const answer = await call("GET", imagePath(image.id, "prediction"));
    const mask = await decodeMask(answer.mask, answer.uncertainty, false);
    if (state.image?.id !== image.id) return;
    const area = { x: 0, y: 0, width: image.width, height: image.height };
    change({ mask, area, label: "prediction", of: answer.of });
  } catch (error) {
    if (error instanceof Refused && error.status === 404) change({ mask: null, label: "", of: null });
    else if (!(error instanceof Away)) warn(`The prediction could not be shown: ${error.message}`, { key: "prediction" });
  }
}

on("image", () => change({ mask: null, label: "", of: null }));
