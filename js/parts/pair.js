// Both prompts with the found words marked, and a button that puts the trigger into the prompt.
import { el, onChange, upstream, widgetOf, write } from "./dom.js";
import { concepts } from "./picker.js";
import { t } from "./words.js";

const NAMED = /\{concept:[^{}]*\}/; // a concept by its place among several, {concept:a} or {concept:1}
const TITLES = { concept: () => t("concept"), auxiliary: () => t("auxiliary") }; // as the server says

export function addPair(node, panel) {
  const box = el("div");
  const put = el("div", { className: "row" });
  panel.inner.append(put, box);

  async function refresh() {
    const phrase = await phraseFor(node);
    const prompt = String(widgetOf(node, "prompt")?.value ?? "");
    const isIn = !phrase || NAMED.test(prompt) || prompt.toLowerCase().includes(phrase.toLowerCase());
    put.replaceChildren(
      ...(isIn
        ? []
        : [
            el("button", {
              textContent: `+ ${phrase}`,
              title: t("Put the concept's trigger and noun into the prompt"),
              onclick: () => write(node, "prompt", `${prompt.trimEnd()}${prompt.trim() ? " " : ""}${phrase}`),
            }),
            el("span", { className: "quiet" }, t("is not in the prompt")),
          ]),
    );
    put.style.display = isIn ? "none" : "";
    panel.fit();
  }
  onChange(node, "prompt", refresh);
  const connected = node.onConnectionsChange;
  node.onConnectionsChange = function () {
    connected?.apply(this, arguments);
    setTimeout(refresh, 50);
  };
  setTimeout(refresh, 50);
  return {
    configured: refresh,
    said(facts) {
      box.replaceChildren(
        ...(facts.prompts ?? []).map(({ title, text, marks }) =>
          el("div", { title: facts.found ?? "" }, el("span", { className: "quiet" }, `${TITLES[title]?.() ?? title}: `), ...marked(text, marks)),
        ),
      );
      refresh();
    },
  };
}

function marked(text, marks) {
  const parts = [];
  let at = 0;
  for (const [start, end] of marks) {
    parts.push(text.slice(at, start), el("mark", {}, text.slice(start, end)));
    at = end;
  }
  return [...parts, text.slice(at)].filter(Boolean);
}

/** Trigger and noun of the concept that is connected, as far as the graph tells before anything has run. */
async function phraseFor(node) {
  const source = upstream(node, "concept");
  if (source?.comfyClass === "ICOLoadConcept") {
    const name = widgetOf(source, "concept_name")?.value;
    const found = (await concepts()).find((concept) => concept.name === name);
    return found ? `${found.trigger} ${found.noun}` : "";
  }
  if (source?.comfyClass !== "ICOTrainConcept") return "";
  const trigger = widgetOf(source, "trigger")?.value;
  const world = upstream(source, "noun");
  const noun = world
    ? String(world.widgets?.find((widget) => widget.name === "example")?.value ?? "").split("-").at(-1)
    : widgetOf(source, "noun")?.value;
  return trigger && noun ? `${trigger} ${noun}` : "";
}
