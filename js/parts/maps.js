// Where the concept and where the auxiliary branch made the picture: maps over it, a slider over the steps, a legend.
import { api } from "../../../scripts/api.js";
import { canvasOf, el } from "./dom.js";
import { t } from "./words.js";

const HEIGHT = 220;
const LOW = [86, 182, 194]; // auxiliary
const HIGH = [224, 163, 62]; // concept

export function addMaps(node, panel) {
  const state = { maps: null, sheet: null, picture: null };
  const { canvas, paint } = canvasOf(HEIGHT, (pen, width, height) => draw(pen, width, height, state, controls));
  const range = (title, max, value) => el("input", { type: "range", min: 0, max, value, step: 1, title });
  const step = range(t("step of the run"), 0, 0);
  const mix = range(t("how much of the maps covers the picture"), 100, 60);
  const layer = el("select", { title: t("which layer's map") });
  const which = el("select", { title: t("which picture of the batch") });
  const controls = { step, mix, layer };
  const told = el("span");
  const legend = el("div", { className: "row" }, el("span", {}, t("auxiliary 0")), ramp(), el("span", {}, t("1 concept")));
  const box = el(
    "div",
    { className: "ico-dci-inner" },
    canvas,
    el("div", { className: "row" }, el("span", {}, t("step")), step, told),
    el("div", { className: "row" }, layer, which, el("span", {}, t("maps")), mix),
    legend,
  );
  box.style.display = "none";
  panel.inner.append(box);

  const show = () => {
    const sigma = state.maps.sigmas[step.value];
    told.textContent = t("%1 of %2, noise %3", Number(step.value) + 1, state.maps.sigmas.length, sigma.toPrecision(3));
    paint();
  };
  const load = async () => {
    const at = Number(which.value) || 0;
    [state.sheet, state.picture] = await Promise.all([fetchPicture(state.maps.sheets[at]), fetchPicture(state.maps.pictures[at])]);
    show();
  };
  for (const control of [step, mix, layer]) control.addEventListener("input", () => state.maps && show());
  which.addEventListener("input", load);

  return {
    said(facts) {
      if (!facts.maps) return;
      state.maps = facts.maps;
      const { rows, sigmas, sheets } = facts.maps;
      box.style.display = rows.length ? "" : "none";
      if (rows.length) {
        const [kept, row] = [Math.min(step.value, sigmas.length - 1), layer.value];
        step.max = sigmas.length - 1;
        step.value = kept;
        layer.replaceChildren(...rows.map((name, i) => el("option", { value: i }, i ? name : t("all layers"))));
        if (row && row < rows.length) layer.value = row;
        which.replaceChildren(...sheets.map((_, i) => el("option", { value: i }, t("picture %1", i + 1))));
        which.style.display = sheets.length > 1 ? "" : "none";
        load();
      }
      panel.fit();
    },
  };
}

function fetchPicture(file) {
  return new Promise((done) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => done(null);
    image.src = api.apiURL(`/view?${new URLSearchParams(file)}`);
  });
}

function ramp() {
  const bar = el("span");
  bar.style.cssText = `flex:1;height:8px;border-radius:4px;background:linear-gradient(90deg,${mixed(0)},${mixed(0.5)},${mixed(1)})`;
  return bar;
}

const mixed = (share) => `rgb(${LOW.map((low, i) => Math.round(low + share * (HIGH[i] - low))).join()})`;

function draw(pen, width, height, state, { step, mix, layer }) {
  pen.fillStyle = "#0006";
  pen.fillRect(0, 0, width, height);
  if (!state.sheet) return void pen.fillText(t("the maps are gone: run again"), 8, 16);
  const [w, h] = state.maps.cell;
  const shape = state.picture ? [state.picture.width, state.picture.height] : [w, h];
  const scale = Math.min(width / shape[0], height / shape[1]);
  const place = [(width - shape[0] * scale) / 2, (height - shape[1] * scale) / 2, shape[0] * scale, shape[1] * scale];
  if (state.picture) pen.drawImage(state.picture, ...place);
  const cut = document.createElement("canvas");
  [cut.width, cut.height] = [w, h];
  const brush = cut.getContext("2d", { willReadFrequently: true });
  brush.drawImage(state.sheet, step.value * w, layer.value * h, w, h, 0, 0, w, h);
  const dots = brush.getImageData(0, 0, w, h);
  for (let i = 0; i < dots.data.length; i += 4) {
    const share = dots.data[i] / 255;
    for (let c = 0; c < 3; c++) dots.data[i + c] = LOW[c] + share * (HIGH[c] - LOW[c]);
    dots.data[i + 3] = 255;
  }
  brush.putImageData(dots, 0, 0);
  pen.globalAlpha = state.picture ? mix.value / 100 : 1;
  pen.imageSmoothingEnabled = false;
  pen.drawImage(cut, ...place);
  pen.globalAlpha = 1;
}
