// The page's words in the language that ComfyUI is set to; English where a language, or a text, is missing.
// The translations are `icoDci` in locales/<language>/main.json, which the host serves; a test holds them to the calls.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

let words = {};

/** Reads the translations; before that, and without them, everything is English. */
export async function loadWords() {
  const language = app.ui?.settings?.getSettingValue?.("Comfy.Locale");
  const answer = await api.fetchApi("/i18n").catch(() => null);
  words = (answer?.ok ? await answer.json() : {})[language]?.icoDci ?? {};
}

/** A text in the user's language, with values in the places %1, %2, … */
export function t(text, ...values) {
  return (words[text] ?? text).replace(/%(\d)/g, (_, place) => String(values[place - 1]));
}
