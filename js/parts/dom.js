// Elements, the graph's nodes, and small words that every panel needs.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { t } from "./words.js";

const PREFIXES = ["ICO", "DCI", "DBIM", "DynaIP"];
const STYLE = `
.ico-dci { box-sizing: border-box; width: 100%; height: 100%; overflow: auto; color: var(--input-text, #ddd);
  font: 11px/1.35 Inter, Arial, sans-serif; text-align: left; }
.ico-dci * { box-sizing: border-box; }
.ico-dci-inner { display: flex; flex-direction: column; gap: 4px; padding: 2px; }
.ico-dci canvas { display: block; width: 100%; border-radius: 4px; touch-action: none; }
.ico-dci .row { display: flex; align-items: center; gap: 6px; flex-wrap: wrap; }
.ico-dci .quiet { color: var(--descrip-text, #999); }
.ico-dci .warn { color: #f5c065; }
.ico-dci mark { background: #e0a33e55; color: inherit; border-radius: 3px; padding: 0 1px; }
.ico-dci pre { margin: 0; font: 10px/1.3 monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.ico-dci button, .ico-dci select, .ico-dci-box input, .ico-dci-box button { font: inherit; color: inherit;
  background: var(--comfy-input-bg, #222); border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px;
  padding: 1px 7px; cursor: pointer; }
.ico-dci button.on { background: #e0a33e; color: #111; }
.ico-dci input[type=range] { flex: 1; min-width: 60px; margin: 0; accent-color: #e0a33e; }
.ico-dci img.small { width: 44px; height: 44px; object-fit: cover; border-radius: 4px; background: #0004; }
.ico-dci-box { position: fixed; inset: 0; z-index: 10000; background: #000a; display: flex; align-items: center;
  justify-content: center; font: 13px/1.4 Inter, Arial, sans-serif; color: var(--input-text, #ddd); }
.ico-dci-box .sheet { width: min(860px, 92vw); height: min(620px, 86vh); display: flex; flex-direction: column; gap: 10px;
  background: var(--comfy-menu-bg, #353535); border: 1px solid var(--border-color, #4e4e4e); border-radius: 8px;
  padding: 14px; }
.ico-dci-box .cards { overflow: auto; display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr));
  gap: 8px; align-content: start; flex: 1; }
.ico-dci-box .card { display: flex; gap: 8px; padding: 8px; border: 1px solid var(--border-color, #4e4e4e);
  border-radius: 6px; cursor: pointer; background: var(--comfy-input-bg, #222); text-align: left; min-width: 0; }
.ico-dci-box .card:hover, .ico-dci-box .card:focus, .ico-dci-box .card.on { border-color: #e0a33e; outline: none; }
.ico-dci-box .card img, .ico-dci-box .card .none { width: 72px; height: 72px; object-fit: cover; border-radius: 4px;
  flex: none; background: #0004; display: flex; align-items: center; justify-content: center; }
.ico-dci-box .card div { min-width: 0; overflow-wrap: anywhere; }
.ico-dci-box .quiet { color: var(--descrip-text, #999); font-size: 11px; }
.ico-dci-hints { position: fixed; z-index: 10001; background: var(--comfy-menu-bg, #353535);
  border: 1px solid #e0a33e; border-radius: 4px; font: 12px/1.5 Inter, Arial, sans-serif; color: var(--input-text, #ddd);
  box-shadow: 0 4px 12px #0008; }
.ico-dci-hints div { padding: 2px 10px; cursor: pointer; }
.ico-dci-hints div.on { background: #e0a33e; color: #111; }
`;

export function addStyle() {
  if (!document.getElementById("ico-dci-style"))
    document.head.append(el("style", { id: "ico-dci-style", textContent: STYLE }));
}

/** An element with properties and children; text stays text, never markup. */
export function el(tag, props = {}, ...children) {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

export const isOurs = (node) =>
  !!node?.comfyClass && PREFIXES.some((prefix) => node.comfyClass.startsWith(prefix)) &&
  String(node.constructor?.nodeData?.category ?? "").startsWith("ICO + DCI");

/** Every node of a graph and of the subgraphs in it. */
export function nodesOf(graph, found = []) {
  for (const node of graph?.nodes ?? graph?._nodes ?? []) {
    found.push(node);
    if (node.subgraph) nodesOf(node.subgraph, found);
  }
  return found;
}

export const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);

/** Sets a widget as if the user had typed it. */
export function write(node, name, value) {
  const widget = widgetOf(node, name);
  if (!widget || widget.value === value) return;
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
  redraw(node);
}

/** Calls `then` after every change of a widget. */
export function onChange(node, name, then) {
  const widget = widgetOf(node, name);
  if (!widget) return;
  const before = widget.callback;
  widget.callback = function () {
    const result = before?.apply(this, arguments);
    then();
    return result;
  };
}

export function redraw(node) {
  node.graph?.setDirtyCanvas?.(true, true);
}

/** The node at the other end of an input. */
export function upstream(node, name) {
  const slot = node.inputs?.findIndex((input) => input.name === name) ?? -1;
  return slot < 0 ? null : (node.getInputNode?.(slot) ?? null);
}

/** JSON of a route of ours, or null. */
export async function ask(path) {
  try {
    const answer = await api.fetchApi(`/ico_dci/${path}`);
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/** `1 min 20 s` */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return "";
  const whole = Math.round(seconds);
  if (whole < 60) return t("%1 s", whole);
  if (whole < 3600) return t("%1 min %2 s", Math.floor(whole / 60), whole % 60);
  return t("%1 h %2 min", Math.floor(whole / 3600), Math.floor((whole % 3600) / 60));
}

/** A canvas that is drawn anew at its own size, in CSS px, whenever that changes. */
export function canvasOf(height, draw) {
  const canvas = el("canvas");
  canvas.style.height = `${height}px`;
  const paint = () => {
    const width = canvas.clientWidth;
    const tall = canvas.clientHeight;
    if (!width || !tall) return;
    const dots = 2;
    canvas.width = width * dots;
    canvas.height = tall * dots;
    const pen = canvas.getContext("2d");
    pen.scale(dots, dots);
    draw(pen, width, tall);
  };
  new ResizeObserver(paint).observe(canvas);
  return { canvas, paint };
}
