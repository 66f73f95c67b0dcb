/* Regions of masks that become labels, and masks that are kept as truth. */
import { Away, Refused, call, imagePath } from "./api.js";
import { confirm, unsent, refresh } from "./outbox.js";
import { askedPart } from "./propagation.js";
import { loadTruth } from "./truth.js";
import { state, tell, className } from "./store.js";
import { say, warn, saySaved } from "./say.js";

let running = 0;

/** Whether a request of this tab may have changed the revision already. */
export const acting = () => running > 0;

async function carryOut(request) {
  if (unsent()) {
    warn("Wait until your last stroke is saved, then try again.", { key: "accept" });
    return null;
  }
  running++;
  try {
    return await request();
  } catch (error) {
    if (error instanceof Refused && error.status === 409 && error.body.annotation) {
      confirm(state.image.id, error.body.annotation);
      warn("Another tab changed this image. Its newest drawing is shown; try again.", { key: "conflict" });
    } else if (error instanceof Refused || error instanceof Away) {
      warn(error.message, { key: "accept" });
    } else throw error;
    return null;
  } finally {
    running--;
  }
}

/** Make the region of one class around a place a label. `source` is "propagation" or "prediction". */
export async function acceptRegion(source, x, y) {
  const image = state.image.id;
  const region = askedPart();
  const body = { base: state.annotation.revision, source, x, y, method: state.options.method, ...(region && { region }) };
  saySaved("saving");
  const answer = await carryOut(async () => {
    const accepted = await call("POST", imagePath(image, "accept"), body);
    if (accepted.annotation) confirm(image, accepted.annotation);
    else await refresh(image);
    return accepted;
  });
  saySaved(unsent() ? "saving" : "saved");
  if (!answer) return;
  const accepted = newestRegion();
  say(accepted ? `Region of ${className(accepted.class)} accepted` : "Region accepted");
}

const newestRegion = () => state.annotation?.objects.findLast((object) => object.kind === "region") ?? null;

/** Keep a mask as dense truth, or remove it with the source "none". */
export async function keepTruth(source) {
  const { image } = state;
  const region = askedPart();
  const body = { base: state.annotation.revision, source, method: state.options.method, ...(region && { region }) };
  const answer = await carryOut(async () => {
    const kept = await call("POST", imagePath(image.id, "truth"), body);
    await refresh(image.id);
    return kept;
  });
  if (!answer) return;
  image.has_truth = answer.truth;
  image.split = answer.split ?? image.split;
  tell("entry", image);
  tell("truth", answer.why ?? null);
  if (answer.truth && state.options.source === "truth") void loadTruth();
  say(answer.truth ? "The mask is kept as truth" : "The truth was removed");
}

export async function putInSplit(split) {
  const { image } = state;
  const answer = await carryOut(() => call("POST", imagePath(image.id, "split"), { split }));
  if (answer) {
    image.split = answer.split;
    say(`The image is in ${answer.split} now`);
  }
  tell("entry", image);
  tell("truth", null);
}
