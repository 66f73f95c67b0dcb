/* The dialog "Export". */
import { Away, Refused, download } from "./api.js";
import { find, make } from "./dom.js";
import { say } from "./say.js";

const FORMATS = [
  { name: "png", title: "PNG", about: "a class index per pixel", what: ["masks", "scribbles"] },
  { name: "scribblesup", title: "ScribbleSup XML", about: "strokes with class names", what: ["scribbles"] },
  { name: "cvat", title: "CVAT", about: "strokes, CVAT for images 1.1", what: ["scribbles"] },
  { name: "labelme", title: "Labelme", about: "strokes, a JSON file per image", what: ["scribbles"] },
  { name: "coco", title: "COCO", about: "run lengths in one JSON file", what: ["masks"] },
  { name: "nifti", title: "NIfTI", about: "volumes", what: ["masks", "scribbles"] },
  { name: "network", title: "Network", about: "the trained network, ready to use elsewhere", what: [] },
  { name: "report", title: "Report", about: "scores and pictures as one page", what: [] },
];

function update() {
  const chosen = document.querySelector('input[name="format"]:checked').value;
  const { what } = FORMATS.find((entry) => entry.name === chosen);
  for (const input of document.querySelectorAll('input[name="what"]')) {
    input.disabled = !what.includes(input.value);
    if (what.length && input.checked && input.disabled) {
      document.querySelector(`input[name="what"][value="${what[0]}"]`).checked = true;
    }
  }
  find("export-what").disabled = what.length === 0;
}

function save({ blob, name }) {
  const address = URL.createObjectURL(blob);
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

async function start(event) {
  event.preventDefault();
  const format = document.querySelector('input[name="format"]:checked').value;
  const what = document.querySelector('input[name="what"]:checked')?.value ?? "masks";
  const button = find("export-start");
  button.disabled = true;
  button.textContent = "Preparing";
  find("export-error").textContent = "";
  try {
    const file = await download("/api/export", { format, what });
    save(file);
    find("dialog-export").close();
    say(`${file.name} downloaded`);
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Away)) throw error;
    find("export-error").textContent = error.message;
  } finally {
    button.disabled = false;
    button.textContent = "Download";
  }
}

export function openExport() {
  find("export-error").textContent = "";
  find("dialog-export").showModal();
}

export function startExport() {
  FORMATS.forEach(({ name, title, about }, at) => {
    const input = make("input", { type: "radio", name: "format", value: name, checked: at === 0 });
    const text = make("span", {}, make("strong", { text: title }), make("small", { text: about }));
    find("export-formats").append(make("label", { class: "choice" }, input, text));
  });
  find("export-formats").addEventListener("change", update);
  find("export-form").addEventListener("submit", (event) => void start(event));
  find("open-export").addEventListener("click", openExport);
  update();
}
