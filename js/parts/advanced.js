// Advanced inputs fold in the classic renderer too; Nodes 2.0 folds them itself and must see them all.
import { app } from "../../../scripts/app.js";
import { redraw } from "./dom.js";
import { t } from "./words.js";

const isAdvanced = (node, widget) => {
  const inputs = node.constructor?.nodeData?.input ?? {};
  const spec = inputs.required?.[widget.name] ?? inputs.optional?.[widget.name];
  return !!(spec?.[1]?.advanced ?? widget.options?.advanced);
};

// Older front ends leave the room of a hidden widget free, unless it asks for none (they add 4 px to each).
function hide(widget, isHidden) {
  widget.hidden = isHidden;
  if (isHidden) widget.computeSize = () => [0, -4];
  else delete widget.computeSize;
}

export function foldAdvanced(node) {
  const folded = (node.widgets ?? []).filter((widget) => isAdvanced(node, widget));
  if (!folded.length) return;
  const sync = () => {
    const isVue = !!globalThis.LiteGraph?.vueNodesMode;
    for (const widget of folded) hide(widget, !isVue && !node.showAdvanced);
    redraw(node);
  };
  const label = () => (node.showAdvanced ? `▾ ${t("fewer inputs")}` : `▸ ${t("more inputs (%1)", folded.length)}`);
  const button = node.addWidget(
    "button",
    "ico_dci_more",
    null,
    () => {
      node.showAdvanced = !node.showAdvanced;
      sync();
      button.label = label();
      const before = node.size[1];
      const least = node.computeSize();
      node.setSize([node.size[0], node.showAdvanced ? Math.max(before, least[1]) : least[1]]);
    },
    { serialize: false, canvasOnly: true },
  );
  button.serialize = false;
  button.label = label();
  // Off where the user always wants to see everything.
  if (app.ui?.settings?.getSettingValue?.("Comfy.Node.AlwaysShowAdvancedWidgets")) node.showAdvanced = true;
  sync();
  app.ui?.settings?.addEventListener?.("Comfy.VueNodes.Enabled.change", () => setTimeout(sync, 100));
}
