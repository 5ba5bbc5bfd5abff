// The model's layers as bars, coarse to fine, a bar's height its share; click and drag write the text widget.
import { ask, canvasOf, el, nodesOf, onChange, upstream, widgetOf, write } from "./dom.js";
import { layerText } from "./layer_text.js";
import { t } from "./words.js";

const HEIGHT = 92;
const FOOT = 14;
const TOP = 4;
const STEP = 0.05;
const CHOSEN = "ico_dci_family"; // property of the node: the strip that the user chose by hand
const NAMES = [
  [/anima(?!g)/i, "anima"],
  [/klein/i, "flux2_klein_4b"],
  [/flux|chroma/i, "flux"],
  [/z[-_ ]?image/i, "z_image"],
  [/qwen/i, "qwen_image"],
  [/krea/i, "krea2"], // FLUX.1 Krea is met above
  [/sd[-_ ]?3.*large/i, "sd35_large"],
  [/sd[-_ ]?3/i, "sd35_medium"],
  [/xl|pony|illustrious/i, "sdxl"],
]; // in the names of model files, the first that fits; what fits none is taken for SD
let families = null; // a promise: the rows are asked for once

export function addLayerStrip(node, panel) {
  const state = { family: null, shares: [], order: [], over: -1, error: "" };
  const about = t("Which model's layers are shown; the text fits any model that has the layers it names.");
  const models = el("select", { title: about });
  const caption = el("div", { className: "quiet" }, "…");
  const { canvas, paint } = canvasOf(HEIGHT, (pen, width, height) => draw(pen, width, height, state));
  panel.inner.append(el("div", { className: "ico-dci-inner" }, models, canvas, caption));
  canvas.style.cursor = "ns-resize";

  const say = () => {
    const layer = state.family?.layers[state.order[state.over]];
    const on = state.shares.filter((share) => share > 0).length;
    caption.className = state.error ? "warn" : "quiet";
    caption.textContent =
      state.error ||
      (layer
        ? t("%1: share %2 (%3 in SD)", layer.name, state.shares[state.order[state.over]].toFixed(2), side(layer))
        : t("%1 of %2 on; coarse left, fine right. Drag: a layer; click a size: its group", on, state.shares.length));
  };

  async function refresh() {
    families ??= ask("families");
    const rows = await families;
    if (!rows) return void (caption.textContent = t("the server does not answer"));
    const wanted = node.properties?.[CHOSEN] ?? guess(node) ?? state.family?.name ?? rows[0].name;
    const family = rows.find((row) => row.name === wanted) ?? rows[0];
    const preset = widgetOf(node, "preset")?.value;
    const text = preset === "custom" ? (widgetOf(node, "text")?.value ?? "") : preset;
    const read = await ask(`layers?family=${family.name}&text=${encodeURIComponent(text ?? "all")}`);
    state.family = family;
    state.order = family.layers.map((_, i) => i).sort((a, b) => family.layers[a].tokens - family.layers[b].tokens || a - b);
    state.error = read?.error ?? "";
    state.shares = read?.shares ?? family.layers.map(() => 0);
    const option = ({ name, title }) => el("option", { value: name }, name === "tiny" ? t("tiny world") : title);
    models.replaceChildren(...rows.map(option));
    models.value = family.name;
    say();
    paint();
    panel.fit();
  }

  models.addEventListener("input", () => {
    node.properties ??= {};
    node.properties[CHOSEN] = models.value;
    refresh();
  });

  const commit = () => {
    write(node, "preset", "custom");
    write(node, "text", layerText(state.family, state.shares));
  };
  // Where a pointer is, in the canvas's own px: the graph may be zoomed.
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = box.width / canvas.clientWidth || 1;
    return [(event.clientX - box.left) / scale, (event.clientY - box.top) / scale];
  };
  const barAt = (x) => Math.max(0, Math.min(state.order.length - 1, Math.floor((x / canvas.clientWidth) * state.order.length)));
  const set = (event) => {
    const [x, y] = place(event);
    const raw = 1 - (y - TOP) / (canvas.clientHeight - FOOT - TOP);
    state.over = barAt(x);
    state.error = "";
    state.shares[state.order[state.over]] = Math.round(Math.max(0, Math.min(1, raw)) / STEP) * STEP;
    say();
    paint();
  };
  let drags = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (!state.family || event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    const [x, y] = place(event);
    if (y > canvas.clientHeight - FOOT) {
      const tokens = state.family.layers[state.order[barAt(x)]].tokens;
      const group = state.order.filter((i) => state.family.layers[i].tokens === tokens);
      const value = group.every((i) => state.shares[i] === 1) ? 0 : 1;
      for (const i of group) state.shares[i] = value;
      commit();
      paint();
      return say();
    }
    drags = true;
    canvas.setPointerCapture(event.pointerId);
    set(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!state.family) return;
    if (drags) return set(event);
    state.over = barAt(place(event)[0]);
    say();
    paint();
  });
  canvas.addEventListener("pointerup", () => {
    if (drags) commit();
    drags = false;
  });
  canvas.addEventListener("pointerleave", () => {
    state.over = -1;
    say();
    paint();
  });
  onChange(node, "preset", refresh);
  onChange(node, "text", refresh);
  const connected = node.onConnectionsChange;
  node.onConnectionsChange = function () {
    connected?.apply(this, arguments);
    setTimeout(refresh, 50);
  };
  setTimeout(refresh, 50);
  return { configured: refresh };
}

const side = (layer) => `${Math.sqrt(layer.tokens)} × ${Math.sqrt(layer.tokens)}`;

/** The family of the model that these layers are for, as far as the graph tells. */
function guess(node) {
  const users = nodesOf(node.graph).filter((other) => upstream(other, "layers") === node);
  for (const user of users) {
    let at = upstream(user, "model");
    for (let i = 0; at && i < 20; i++) {
      if (at.comfyClass === "DCILoadTinyWorld") return "tiny";
      const file = at.widgets?.find((widget) => /ckpt|unet|model/.test(widget.name) && typeof widget.value === "string")?.value;
      if (file && /\.(safetensors|ckpt|gguf|sft)$/.test(file)) return NAMES.find(([part]) => part.test(file))?.[1] ?? "sd15";
      at = upstream(at, "model") ?? upstream(at, "base_model");
    }
  }
  return null;
}

function draw(pen, width, height, state) {
  pen.fillStyle = "#0003";
  pen.fillRect(0, 0, width, height - FOOT);
  if (!state.family) return;
  const bar = width / state.order.length;
  const full = height - FOOT - TOP;
  pen.font = "9px sans-serif";
  pen.textAlign = "center";
  let start = 0;
  state.order.forEach((index, i) => {
    const layer = state.family.layers[index];
    const gap = Math.min(2, bar / 4);
    const tall = state.shares[index] * full;
    pen.fillStyle = i === state.over ? "#fff3" : "#fff1";
    pen.fillRect(i * bar + gap / 2, TOP, bar - gap, full);
    pen.fillStyle = layer.is_coarse ? "#e0a33e" : "#56b6c2";
    pen.fillRect(i * bar + gap / 2, TOP + full - tall, bar - gap, tall);
    const next = state.family.layers[state.order[i + 1]];
    if (!next || next.tokens !== layer.tokens) {
      pen.fillStyle = "#aaa";
      const size = side(layer).replaceAll(" ", "");
      const half = pen.measureText(size).width / 2; // beside the edge a group may be narrower than its size's name
      pen.fillText(size, Math.min(Math.max(((start + i + 1) / 2) * bar, half), width - half), height - 3);
      if (next) pen.fillRect((i + 1) * bar - 0.5, 0, 1, height);
      start = i + 1;
    }
  });
}
