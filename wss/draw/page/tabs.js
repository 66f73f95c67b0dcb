/* On narrow screens the panels are sheets that buttons at the bottom open and close; one at a time. */
import { find } from "./dom.js";
import { on } from "./store.js";

const buttons = () => [...document.querySelectorAll(".tabs [data-panel]")];

export function openPanel(name) {
  const open = name && document.body.dataset.panel !== name ? name : "";
  if (open) document.body.dataset.panel = open;
  else delete document.body.dataset.panel;
  for (const button of buttons()) button.setAttribute("aria-expanded", String(button.dataset.panel === open));
  if (open) find(`panel-${open}`).scrollIntoView({ block: "start" });
}

const narrow = () => window.matchMedia("(max-width: 700px)").matches;

export function startTabs() {
  for (const button of buttons()) button.addEventListener("click", () => openPanel(button.dataset.panel));
  find("class-chip").addEventListener("click", () => {
    if (narrow()) openPanel("classes");
    else document.querySelector('.class-row[aria-pressed="true"], .class-row')?.focus();
  });
  const overTheImage = () => document.body.dataset.panel === "images";
  find("panes").addEventListener("pointerdown", () => overTheImage() && openPanel(""), { capture: true });
  on("image", () => narrow() && overTheImage() && openPanel(""));
}
