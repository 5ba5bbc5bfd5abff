// Training as it goes: step, time left, loss curve with axes, the last previews in a row, the last round of samples.
import { canvasOf, duration, el, widgetOf } from "./dom.js";
import { t } from "./words.js";

const LEFT = 38;
const BOTTOM = 14;
const MEAN_OF = 25;
const MOST_POINTS = 400;
const TEXTS = ["prompt", "sample_prompts"]; // that few fill in: they leave the node's room to the panel
const TEXT_HEIGHT = 54;
const STATES = { running: () => t("running"), done: () => t("done"), stopped: () => t("stopped") }; // as the server says

export function addTraining(node, panel) {
  const state = { step: 0, steps: 0, left: null, state: "", points: [], previews: [], samples: null, title: "" };
  const head = el("div", { className: "row" });
  const row = el("div", { className: "row" });
  const samples = el("div", { className: "row" });
  const { canvas, paint } = canvasOf(110, (pen, width, height) => drawLoss(pen, width, height, state));
  const box = el("div", { className: "ico-dci-inner" }, head, canvas, row, samples);
  box.style.display = "none";
  panel.inner.append(box);
  for (const name of TEXTS) {
    const widget = widgetOf(node, name);
    if (widget?.options) Object.assign(widget.options, { getMinHeight: () => TEXT_HEIGHT, getMaxHeight: () => TEXT_HEIGHT });
  }

  const show = () => {
    const isDone = state.state === "done";
    const left = state.state === "running" && state.left !== null ? t("%1 left", duration(state.left)) : STATES[state.state]?.();
    head.replaceChildren(
      el("b", {}, state.title),
      el("span", {}, state.steps ? t("step %1 of %2", state.step, state.steps) : ""),
      el("span", { className: isDone ? "quiet" : "" }, left ?? ""),
    );
    row.replaceChildren(
      ...state.previews.map(({ step, picture }) =>
        el("img", { className: "small", src: picture, title: t("step %1", step), alt: t("preview at step %1", step) }),
      ),
    );
    row.style.display = state.previews.length ? "" : "none";
    const drawn = state.samples?.pictures ?? [];
    samples.replaceChildren(
      el("span", { className: "quiet" }, drawn.length ? t("samples of step %1", state.samples.step) : ""),
      ...drawn.map(({ prompt, picture }) => el("img", { className: "small", src: picture, title: prompt, alt: prompt })),
    );
    samples.style.display = drawn.length ? "" : "none";
    box.style.display = "";
    canvas.style.display = state.points.length || state.state === "running" ? "block" : "none"; // refused at once: no curve
    paint();
    panel.fit();
  };

  return {
    training(facts) {
      if (facts.points) Object.assign(state, facts);
      else {
        const points = [...state.points, ...(facts.new ?? [])];
        Object.assign(state, facts, { points: points.length > MOST_POINTS ? halved(points) : points });
      }
      show();
    },
    lost() {
      if (state.state !== "running") return;
      Object.assign(state, { state: "stopped", left: null });
      show();
    },
    said(facts) {
      if (!facts.points?.length) return;
      Object.assign(state, { points: facts.points, step: facts.steps, steps: facts.steps, state: "done", left: 0 });
      state.title ||= facts.trigger;
      show();
    },
  };
}

const halved = (points) => points.filter((_, i) => i >= points.length / 2 || i % 2 === 0);

function drawLoss(pen, width, height, state) {
  const points = state.points.filter(([, loss]) => isFinite(loss));
  pen.fillStyle = "#0003";
  pen.fillRect(0, 0, width, height);
  pen.font = "9px sans-serif";
  pen.fillStyle = "#999";
  if (!points.length) {
    pen.fillText(t("loss comes here"), LEFT, height / 2);
    return;
  }
  const top = quantile(points.map(([, loss]) => loss), 0.99) || 1;
  const last = Math.max(state.steps, points.at(-1)[0]);
  const x = (step) => LEFT + (step / last) * (width - LEFT - 6);
  const y = (loss) => height - BOTTOM - (Math.min(loss, top) / top) * (height - BOTTOM - 8);
  pen.strokeStyle = "#777";
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(LEFT, 4);
  pen.lineTo(LEFT, height - BOTTOM);
  pen.lineTo(width - 6, height - BOTTOM);
  pen.stroke();
  pen.textAlign = "right";
  for (const share of [0, 0.5, 1]) {
    pen.fillText((top * share).toPrecision(2), LEFT - 4, y(top * share) + 3);
    pen.fillStyle = "#999";
    pen.fillRect(LEFT - 2, y(top * share), 4, 1);
  }
  pen.textAlign = "center";
  for (const share of [0, 0.5, 1]) {
    const step = Math.round(last * share);
    pen.fillText(String(step), Math.min(x(step), width - 14), height - 3);
  }
  pen.fillText(t("step"), x(last * 0.25), height - 3);
  pen.textAlign = "left";
  pen.fillText(t("loss"), LEFT + 4, 11);
  line(pen, points, x, y, "#8888", 1);
  line(pen, points.map(([step], i) => [step, mean(points.slice(Math.max(0, i - MEAN_OF + 1), i + 1))]), x, y, "#e0a33e", 2);
}

function line(pen, points, x, y, colour, width) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.beginPath();
  points.forEach(([step, loss], i) => (i ? pen.lineTo(x(step), y(loss)) : pen.moveTo(x(step), y(loss))));
  pen.stroke();
}

const mean = (points) => points.reduce((sum, [, loss]) => sum + loss, 0) / points.length;

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
