// Concepts to choose from: picture, trigger, noun, steps, size, date, and a search; and the trigger to copy.
import { api } from "../../../scripts/api.js";
import { ask, el, onChange, widgetOf, write } from "./dom.js";
import { t } from "./words.js";

let known = null; // the last list; the prompt's completion reads it too
let asked = null;

/** Every concept the server has, newest first; asked for at most once in `fresh` seconds. */
export async function concepts(fresh = 30) {
  if (!asked || Date.now() - asked > fresh * 1000) {
    asked = Date.now();
    known = (await ask("concepts")) ?? known;
  }
  return known ?? [];
}

export const pictureOf = (concept) => api.apiURL(`/ico_dci/thumbnail?name=${encodeURIComponent(concept.name)}&t=${concept.time}`);
export const phraseOf = (concept) => `${concept.trigger} ${concept.noun}`;
const date = (concept) => new Date(concept.time * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
const size = (concept) => `${(concept.bytes / 1e6).toFixed(1)} MB`;

export function addPicker(node, panel) {
  const facts = el("div", { className: "row" });
  const choose = el("button", {
    textContent: t("choose…"),
    title: t("All concepts with pictures and facts"),
    onclick: () => openPicker(widgetOf(node, "concept_name")?.value, (name) => write(node, "concept_name", name)),
  });
  const copy = el("button", { textContent: t("copy trigger"), title: t("What to write in prompts") });
  panel.inner.append(facts, el("div", { className: "row" }, choose, copy));

  async function refresh() {
    const name = widgetOf(node, "concept_name")?.value;
    const concept = (await concepts()).find((each) => each.name === name);
    copy.disabled = !concept;
    facts.replaceChildren(
      ...(concept
        ? [
            concept.picture ? el("img", { className: "small", src: pictureOf(concept), alt: "" }) : null,
            el("div", {}, el("b", {}, phraseOf(concept)), el("div", { className: "quiet" }, line(concept))),
          ].filter(Boolean)
        : [el("span", { className: "quiet" }, name ? t("not a concept of this pack, or not found") : t("no concept chosen"))]),
    );
    copy.onclick = async () => {
      copy.textContent = (await toClipboard(phraseOf(concept))) ? t("copied") : phraseOf(concept);
      setTimeout(() => (copy.textContent = t("copy trigger")), 1500);
    };
    panel.fit();
  }
  onChange(node, "concept_name", refresh);
  setTimeout(refresh, 50);
  return { configured: refresh, said: refresh };
}

const line = (concept) => [concept.family, concept.steps && t("%1 steps", concept.steps), size(concept), date(concept)].filter(Boolean).join(" · ");

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages that are not served over https have no clipboard: select and copy as browsers did before.
    const area = el("textarea", { value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

async function openPicker(current, take) {
  const search = el("input", { placeholder: t("search trigger, noun, name, family"), type: "search" });
  const cards = el("div", { className: "cards" });
  const count = el("span", { className: "quiet" });
  const close = () => {
    box.remove();
    document.removeEventListener("keydown", onKey, true);
  };
  const shut = el("button", { textContent: t("close"), onclick: close });
  search.style.flex = "1";
  const head = el("div", {}, search, count, shut);
  head.style.cssText = "display:flex;gap:8px;align-items:center";
  const box = el("div", { className: "ico-dci-box" }, el("div", { className: "sheet" }, head, cards));
  box.addEventListener("pointerdown", (event) => event.target === box && close());
  const onKey = (event) => {
    if (event.key === "Escape") close();
    event.stopPropagation(); // the canvas has shortcuts on plain letters
  };
  document.addEventListener("keydown", onKey, true);
  document.body.append(box);
  search.focus();
  const all = await concepts(0);

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = all.filter((concept) => {
      const text = `${concept.name} ${phraseOf(concept)} ${concept.family}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    count.textContent = t("%1 of %2", found.length, all.length);
    cards.replaceChildren(
      ...found.map((concept) => {
        const card = el(
          "button",
          { className: `card ${concept.name === current ? "on" : ""}`, onclick: () => (take(concept.name), close()) },
          concept.picture
            ? el("img", { src: pictureOf(concept), alt: "", loading: "lazy" })
            : el("span", { className: "none quiet" }, t("no picture")),
          el(
            "div",
            {},
            el("b", {}, phraseOf(concept)),
            el("div", {}, concept.name.replace(/\.safetensors$/, "")),
            el("div", { className: "quiet" }, line(concept)),
          ),
        );
        return card;
      }),
    );
    if (!all.length) cards.append(el("div", { className: "quiet" }, t("No concept in models/ico_concepts yet: train one.")));
  };
  search.addEventListener("input", show);
  show();
}
