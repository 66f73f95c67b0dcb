/* Where the pointer or the crosshair is, and which class the mask has there. */
import { find } from "./dom.js";
import { state, className } from "./store.js";
import { maskAt, NOTHING } from "./masks.js";
import { shownMask } from "./stage.js";

export function describe(x, y) {
  const shown = shownMask();
  const value = shown ? maskAt(shown.mask, shown.area, x, y) : NOTHING;
  const at = `${Math.floor(x)}, ${Math.floor(y)}`;
  return value === NOTHING ? at : `${at}: ${className(value)}`;
}

export function showPlace(x, y) {
  const { image } = state;
  const inside = x !== null && image?.width && x >= 0 && y >= 0 && x < image.width && y < image.height;
  find("place").textContent = inside ? describe(x, y) : "";
}
