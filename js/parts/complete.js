// Triggers complete while typing in any prompt of the graph: Tab or Enter takes one, Escape puts the list away.
import { el } from "./dom.js";
import { concepts, phraseOf } from "./picker.js";

const LEAST = 2; // letters
const MOST = 6; // shown

export function completeTriggers() {
  let list = null;
  let at = 0;
  let area = null;

  const close = () => {
    list?.remove();
    list = null;
  };
  const take = (phrase) => {
    const [start, end] = wordAt(area);
    const rest = area.value.slice(end);
    area.value = area.value.slice(0, start) + phrase + rest;
    area.selectionStart = area.selectionEnd = start + phrase.length;
    close();
    area.dispatchEvent(new Event("input", { bubbles: true })); // both renderers listen to it
    area.focus();
  };
  const mark = () => [...list.children].forEach((row, i) => row.classList.toggle("on", i === at));

  document.addEventListener("input", async (event) => {
    if (!event.isTrusted || event.target?.tagName !== "TEXTAREA") return;
    area = event.target;
    const [start, end] = wordAt(area);
    const typed = area.value.slice(start, end).toLowerCase();
    close();
    if (typed.length < LEAST) return;
    const phrases = new Set((await concepts()).filter((c) => c.trigger.toLowerCase().startsWith(typed)).map(phraseOf));
    const found = [...phrases].filter((phrase) => phrase.toLowerCase() !== typed).slice(0, MOST);
    if (!found.length || document.activeElement !== area) return;
    at = 0;
    list = el(
      "div",
      { className: "ico-dci-hints" },
      ...found.map((phrase) => el("div", { textContent: phrase, onpointerdown: (e) => (e.preventDefault(), take(phrase)) })),
    );
    const box = area.getBoundingClientRect();
    Object.assign(list.style, { left: `${box.left + 8}px`, top: `${Math.min(box.bottom + 2, innerHeight - 150)}px` });
    document.body.append(list);
    mark();
  });

  document.addEventListener(
    "keydown",
    (event) => {
      if (!list || event.target !== area) return;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        at = (at + (event.key === "ArrowDown" ? 1 : list.children.length - 1)) % list.children.length;
        mark();
      } else if (event.key === "Tab" || event.key === "Enter") take(list.children[at].textContent);
      else if (event.key === "Escape") close();
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
    true,
  );
  document.addEventListener("focusout", () => setTimeout(() => document.activeElement !== area && close(), 150));
}

/** [start, end] of the word that the cursor stands behind. */
function wordAt(area) {
  const end = area.selectionStart;
  const before = area.value.slice(0, end).match(/[^\s,()[\]{}<>:]*$/)[0];
  return [end - before.length, end];
}
