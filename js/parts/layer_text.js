// Shares of layers as the shortest plain layer text: `in4-5:0.5 mid out3:0.25`.

const SHORT = { input: "in", middle: "mid", output: "out" };
for (const stage of ["double", "single", "joint", "context", "layer", "block"]) SHORT[stage] = stage;

/** family: a row of /ico_dci/families; shares: one for each of its layers. Layers with share 0 are left out. */
export function layerText(family, shares) {
  const same = new Set(shares.map(round));
  if (same.size === 1) return same.has(1) ? "all" : `all:${round(shares[0])}`;
  const items = [];
  for (const stage of Object.keys(SHORT)) {
    const blocks = new Map();
    family.layers.forEach((layer, i) => {
      if (layer.stage !== stage) return;
      const block = layer.name.split(".")[0];
      blocks.set(block, [...(blocks.get(block) ?? []), [layer.name, round(shares[i])]]);
    });
    items.push(...stageItems(SHORT[stage], [...blocks]));
  }
  return items.join(" ") || "all:0";
}

const round = (share) => Math.round(share * 100) / 100;
const number = (block) => Number(block.replace(/\D/g, ""));

function stageItems(stage, blocks) {
  const items = [];
  let run = null; // blocks that follow each other with one share
  const flush = () => {
    if (run?.share) items.push(item(run.first === run.last ? run.first : `${run.first}-${number(run.last)}`, run.share));
    run = null;
  };
  for (const [block, layers] of blocks) {
    const share = layers[0][1];
    if (layers.some(([, other]) => other !== share)) {
      flush();
      for (const [name, own] of layers) if (own) items.push(item(name, own));
    } else if (run && run.share === share && stage !== "mid") run.last = block;
    else {
      flush();
      run = { first: block, last: block, share };
    }
  }
  flush();
  return items;
}

const item = (name, share) => (share === 1 ? name : `${name}:${share}`);
