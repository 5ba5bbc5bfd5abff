// What a node did, in lines; warnings stand out.
import { el } from "./dom.js";

export function addSaid(node, panel) {
  const box = el("div", { className: "said" });
  panel.inner.append(box);
  return {
    said(facts) {
      box.replaceChildren(
        ...(facts.warnings ?? []).map((text) => el("div", { className: "warn" }, `⚠ ${text}`)),
        ...(facts.lines ?? []).map((text) => el("div", {}, text)),
        ...(facts.table ? [el("pre", {}, facts.table)] : []),
      );
      panel.fit();
    },
  };
}
