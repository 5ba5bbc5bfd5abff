// Which node a message of the server is for. A graph's id and a node's number do not tell: they change when a workflow is
// loaded, saved under another name or folded into a subgraph, and every open workflow counts its nodes from 1. So each
// node of ours bears a mark among its properties, which goes wherever the workflow goes, the server included.
import { app } from "../../../scripts/app.js";
import { isOurs, nodesOf } from "./dom.js";

const unmarked = new WeakSet(); // nodes of files that no page with marks has saved
const MARK = "ico_dci_mark"; // events.py reads it

/** Marks a new node; one that is loaded keeps the mark it was saved with. */
export function addMark(node) {
  node.properties[MARK] = Array.from(crypto.getRandomValues(new Uint32Array(2)), (part) => part.toString(36)).join("");
  const before = node.onConfigure;
  node.onConfigure = function (saved) {
    before?.apply(this, arguments);
    // Workflows of older versions have none: the same file gets the same one whenever it is loaded.
    if (saved?.properties?.[MARK]) return;
    this.properties[MARK] = `${this.graph?.id}:${this.id}`;
    unmarked.add(this);
  };
}

/** Whether a node comes from a file and has not been on a page before. */
export const isFromFile = (node) => unmarked.has(node);

/** The node of ours that a message names by its mark, or by its number where the prompt came from no page. */
export function nodeMeant({ node: id, mark }) {
  const named = findNode(id);
  if (!mark) return isOurs(named) ? named : null;
  const marked = nodesOf(app.rootGraph ?? app.graph).filter((node) => node.properties?.[MARK] === mark);
  return marked.includes(named) ? named : (marked[0] ?? null); // a copied node has its origin's mark
}

/** The node of an id as the server names it: `12`, or `4:12` inside the subgraph of node 4. */
function findNode(id) {
  let graph = app.rootGraph ?? app.graph;
  const steps = String(id ?? "").split(":");
  for (const step of steps.slice(0, -1)) graph = graph?.getNodeById(asId(step))?.subgraph;
  return graph?.getNodeById(asId(steps.at(-1))) ?? null;
}

const asId = (text) => (/^\d+$/.test(text) ? Number(text) : text);
