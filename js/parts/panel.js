// One DOM widget per node that holds our parts; both renderers show DOM widgets. It asks for as much height as it needs.
import { el, redraw } from "./dom.js";

const MARGIN = 4;
const LEAST = 18;

export function addPanel(node) {
  const inner = el("div", { className: "ico-dci-inner" });
  const outer = el("div", { className: "ico-dci" }, inner);
  let height = LEAST;
  const widget = node.addDOMWidget("ico_dci", "ico_dci", outer, {
    serialize: false,
    hideOnZoom: false,
    margin: MARGIN,
    getValue: () => "",
    setValue: () => {},
    getMinHeight: () => height + 2 * MARGIN,
    getMaxHeight: () => height + 2 * MARGIN,
  });
  widget.serialize = false;
  // Vue nodes lay the element out by its own height, the classic canvas by the numbers above.
  const fit = () => {
    const wanted = Math.max(LEAST, inner.offsetHeight);
    if (!inner.offsetHeight || Math.abs(wanted - height) < 2) return;
    height = wanted;
    outer.style.minHeight = `${height}px`;
    // In Nodes 2.0 the page itself makes room, and this number would count inputs that are folded there.
    const least = globalThis.LiteGraph?.vueNodesMode ? null : node.computeSize?.();
    if (least && node.size[1] < least[1]) node.setSize([node.size[0], least[1]]);
    redraw(node);
  };
  outer.style.minHeight = `${height}px`;
  const watcher = new ResizeObserver(fit);
  watcher.observe(inner);
  const removed = node.onRemoved;
  node.onRemoved = function () {
    watcher.disconnect();
    removed?.apply(this, arguments);
  };
  // The wheel scrolls and zooms the canvas, not the panel, unless the panel has more to show.
  outer.addEventListener("wheel", (event) => {
    if (outer.scrollHeight > outer.clientHeight + 1) event.stopPropagation();
  });
  return { inner, outer, widget, fit };
}
