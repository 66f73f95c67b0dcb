/* Small helpers that make and find elements. No markup is ever parsed from strings, so names cannot become code. */

export const find = (id) => document.getElementById(id);

/** Make an element. Keys that start with "on" are listeners, `text` is its text, `style` an object of CSS properties. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") element.textContent = value;
    else if (key === "style") setStyle(element, value);
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set CSS properties through the CSSOM, which the content security policy allows. */
export function setStyle(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
}

const SVG = "http://www.w3.org/2000/svg";

export function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** An icon of the sprite in index.html. */
export function icon(name) {
  return makeSvg("svg", { "aria-hidden": "true" }, makeSvg("use", { href: `#i-${name}` }));
}

export function show(element, visible) {
  element.hidden = !visible;
}

/** True while a text field, a list of choices or a dialog takes the keys. */
export function takesText(target) {
  if (!(target instanceof Element)) return false;
  if (target.closest("dialog")) return true;
  if (target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement) return true;
  return target instanceof HTMLInputElement && !["checkbox", "radio", "button", "range"].includes(target.type);
}

/** A number of seconds as people say it. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}

/** Text of the server as a sentence of its own. */
export function sentence(text) {
  const trimmed = String(text ?? "").trim();
  if (!trimmed) return "";
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}

export function counted(number, word, plural = `${word}s`) {
  return `${number} ${number === 1 ? word : plural}`;
}
