/* The project: classes, images, methods and pipelines. */
import { call } from "./api.js";
import { find } from "./dom.js";
import { state, tell } from "./store.js";
import { takeClasses } from "./classes.js";

/** Load the project, and keep the image that is shown. */
export async function loadProject() {
  const project = await call("GET", "/api/project");
  const shown = state.image?.id;
  state.project = project;
  if (shown) {
    const entry = project.images.find((one) => one.id === shown);
    if (entry) {
      state.image = Object.assign(entry, { width: entry.width ?? state.image.width, height: entry.height ?? state.image.height });
    }
  }
  find("folder").textContent = project.root_name ?? project.name ?? "";
  find("folder").title = project.root_name ?? "";
  document.title = `${project.root_name ?? project.name} – wss draw`;
  takeClasses(project);
  tell("loaded");
}
