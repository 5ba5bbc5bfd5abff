// The page's side of ICO + DCI: panels under the widgets of our nodes. Everything works without it; it only shows
// what the nodes say (`ui`, events) and writes into widgets that a user could fill by hand.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { foldAdvanced } from "./parts/advanced.js";
import { completeTriggers } from "./parts/complete.js";
import { addStyle, ask, isOurs, nodesOf } from "./parts/dom.js";
import { addLayerStrip } from "./parts/layers.js";
import { addMark, isFromFile, nodeMeant } from "./parts/marks.js";
import { addPanel } from "./parts/panel.js";
import { addPicker } from "./parts/picker.js";
import { addMaps } from "./parts/maps.js";
import { addPair } from "./parts/pair.js";
import { addSaid } from "./parts/said.js";
import { addTraining } from "./parts/training.js";
import { openAsLaidOut } from "./parts/views.js";
import { loadWords } from "./parts/words.js";

const SOCKETS = {
  ICO_CONCEPT: "#e0a33e",
  DCI_PLAN: "#56b6c2",
  DBIM_LAYERS: "#98c379",
  DBIM_RECORD: "#c678dd",
  DYNAIP_ADAPTER: "#e06c75",
  DYNAIP_RECORD: "#d19ad8",
};
const MIN_WIDTH = 240;
const PARTS = {
  ICOTrainConcept: addTraining,
  ICOLoadConcept: addPicker,
  DBIMLayerMask: addLayerStrip,
  DBIMPreview: addMaps,
  DCIPromptPair: addPair,
};

// Colours of our sockets and links, where the user's palette has none; the page loads palettes at any time.
function paintSockets() {
  const tables = [app.canvas?.default_connection_color_byType, app.canvas?.constructor?.link_type_colors];
  for (const [type, colour] of Object.entries(SOCKETS)) {
    for (const table of tables) if (table && !table[type]) table[type] = colour;
    const style = document.documentElement.style;
    if (!style.getPropertyValue(`--color-datatype-${type}`)) style.setProperty(`--color-datatype-${type}`, colour);
  }
}

function hear(node, output) {
  for (const facts of output?.ico_dci ?? []) for (const part of node?.icoDci?.parts ?? []) part.said?.(facts);
}

function follow(facts) {
  for (const part of nodeMeant(facts)?.icoDci?.parts ?? []) part.training?.(facts);
}

// What nodes said last, and trainings, as the server knows them; one that it does not know ended with the server that
// ran it.
async function catchUp() {
  const ours = nodesOf(app.rootGraph ?? app.graph).filter(isOurs);
  if (!ours.length) return;
  const [said, known] = await Promise.all([ask("said"), ask("trainings")]);
  for (const facts of said ?? []) hear(nodeMeant(facts), facts.output);
  for (const facts of known ?? []) follow(facts);
  const followed = new Set(known?.map(nodeMeant));
  for (const node of known ? ours : [])
    if (!followed.has(node)) for (const part of node.icoDci?.parts ?? []) part.lost?.();
}

app.registerExtension({
  name: "ico-dci",

  async setup() {
    addStyle();
    await loadWords(); // before the first node is made
    completeTriggers();
    paintSockets();
    api.addEventListener("ico_dci.said", ({ detail }) => hear(nodeMeant(detail), detail.output));
    api.addEventListener("ico_dci.training", ({ detail }) => follow(detail));
    api.addEventListener("reconnected", catchUp);
  },

  nodeCreated(node) {
    if (!isOurs(node)) return;
    addMark(node);
    paintSockets();
    foldAdvanced(node);
    const panel = addPanel(node);
    node.icoDci = { panel, parts: [] };
    const made = PARTS[node.comfyClass]?.(node, panel);
    if (made) node.icoDci.parts.push(made);
    node.icoDci.parts.push(addSaid(node, panel));
    node.setSize?.([Math.max(node.size[0], MIN_WIDTH), node.computeSize()[1]]); // a saved size comes later, and wins
    const before = node.onExecuted;
    node.onExecuted = function (output) {
      before?.apply(this, arguments);
      hear(this, output);
    };
  },

  // A page that is opened while, or after, a training ran shows it again.
  async afterConfigureGraph() {
    const nodes = nodesOf(app.graph).filter(isOurs);
    for (const node of nodes) for (const part of node.icoDci?.parts ?? []) part.configured?.();
    if (nodes.some(isFromFile)) openAsLaidOut(app.graph);
    await catchUp();
  },
});
