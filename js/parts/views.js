// A workflow that comes from a file opens as large as it was laid out. The host fits what comes from its template browser
// into the page whatever view it was saved with, and in the classic renderer nodes that small are blank boxes.
import { app } from "../../../scripts/app.js";

const FRAMES = 30; // in which the host may still fit, by its version before or after a graph is configured

/** The view that the graph was saved with, where the host takes a smaller one within the next frames. */
export function openAsLaidOut(graph) {
  const { scale, offset } = graph.extra?.ds ?? {};
  const mayMove = app.ui?.settings?.getSettingValue?.("Comfy.EnableWorkflowViewRestore") !== false;
  if (!mayMove || !(scale > 0) || offset?.length !== 2) return;
  const look = (frames) => {
    const view = app.canvas.ds;
    if (app.canvas.graph !== graph) return; // another workflow, or a subgraph, was opened meanwhile
    if (view.scale < scale) {
      view.scale = scale;
      [view.offset[0], view.offset[1]] = offset;
      app.canvas.setDirty(true, true);
    }
    if (frames) requestAnimationFrame(() => look(frames - 1));
  };
  look(FRAMES);
}
