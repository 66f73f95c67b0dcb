/* Colours and patterns of classes. */

export const PATTERNS = ["Solid", "Rising lines", "Falling lines", "Level lines", "Upright lines", "Dots"];

/** Proposals for new classes: told apart also by most people with a colour vision deficiency. */
const PROPOSED = [
  "#e69f00",
  "#0f8fd6",
  "#12a378",
  "#d6409f",
  "#f4d03f",
  "#d55e00",
  "#7c5cd6",
  "#56c5e8",
  "#8a5a2b",
  "#9fca3c",
];

export function proposeColour(classes) {
  const taken = new Set(classes.map((entry) => entry.color.toLowerCase()));
  return PROPOSED.find((colour) => !taken.has(colour)) ?? PROPOSED[classes.length % PROPOSED.length];
}

export const proposePattern = (classes) => classes.length % PATTERNS.length;

export function channels(colour) {
  const value = Number.parseInt(/^#[0-9a-f]{6}$/i.test(colour) ? colour.slice(1) : "888888", 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** Whether a pattern has its full colour at a pixel; elsewhere it is fainter. `period` is its size in pixels. */
export function patternAt(pattern, x, y, period) {
  const half = period >> 1;
  if (pattern === 1) return (x + y) % period < half;
  if (pattern === 2) return (x - y + 1048576 * period) % period < half;
  if (pattern === 3) return y % period < half;
  if (pattern === 4) return x % period < half;
  if (pattern === 5) return x % period < half && y % period < half;
  return true;
}

/** A colour that can be read on top of another one. */
export function contrasting(colour) {
  const [red, green, blue] = channels(colour);
  return red * 0.299 + green * 0.587 + blue * 0.114 > 140 ? "#000000" : "#ffffff";
}
