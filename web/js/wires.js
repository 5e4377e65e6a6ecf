// What the menu entries of the pack share: wires taken from one node to another, in subgraphs too, and room on the canvas.
import { app } from "../../../scripts/app.js";

const GAP = 20;

/** Nodes 2.0 measures a new node later, and draws it taller. */
const growth = (node) => (LiteGraph.vueNodesMode ? 40 + node.size[1] / 5 : 0);

/** The node that the server knows by this id, "57:3" for node 3 in the subgraph that node 57 stands for. */
export function nodeOf(id) {
  const path = String(id).split(":");
  const last = path.pop();
  return path.reduce((graph, each) => graph?.getNodeById(each)?.subgraph, app.graph)?.getNodeById(last);
}

/** One step for undo, whatever `change` does to the graph. */
export function once(graph, change) {
  graph.beforeChange();
  try {
    change();
  } finally {
    graph.afterChange();
  }
  app.extensionManager.workflow.activeWorkflow?.changeTracker?.captureCanvasState?.();
}

/** Both ends of the wire with this id, and the last reroute on it, as they are when the wire itself is gone. */
export function ends(graph, id) {
  const { origin_id, origin_slot, target_id, target_slot, parentId } = graph.getLink(id);
  return { origin_id, origin_slot, target_id, target_slot, parentId };
}

/** Wire two ends; one that is no node is the border of the subgraph. */
export function join(graph, { origin_id, origin_slot, target_id, target_slot, parentId }) {
  const [origin, target] = [graph.getNodeById(origin_id), graph.getNodeById(target_id)];
  const reroute = graph.reroutes.has(parentId) ? parentId : undefined;
  if (!origin) graph.inputs[origin_slot].connect(target.inputs[target_slot], target, reroute);
  else if (!target) graph.outputs[target_slot].connect(origin.outputs[origin_slot], origin, reroute);
  else origin.connect(origin_slot, target, target_slot, reroute);
}

/** Where a node lies, with its title: left, top, right, bottom. */
function box(node) {
  const [[x, y], [width, height]] = [node.pos, node.size];
  return [x, y - LiteGraph.NODE_TITLE_HEIGHT, x + width, y + height];
}

/** Whether what a new node takes up lies on another. */
function touch(node, other) {
  const [[left, top, right, bottom], [l, t, r, b]] = [box(node), box(other)];
  return node !== other && left < r && l < right && top < b && t < bottom + growth(node);
}

/** Left of a node, and higher where something stands there already. */
export function placeBefore(node, beside) {
  node.pos = [beside.pos[0] - node.size[0] - 2 * GAP, beside.pos[1]];
  while (beside.graph.nodes.some((other) => touch(node, other))) node.pos = [node.pos[0], node.pos[1] - GAP];
}

/** Move what a node has grown over down, and in turn what that comes to lie on. */
export function makeRoom(node) {
  for (const other of node.graph.nodes)
    if (other.pos[1] > node.pos[1] && !other.flags.pinned && touch(node, other)) {
      other.pos = [other.pos[0], box(node)[3] + growth(node) + LiteGraph.NODE_TITLE_HEIGHT + GAP];
      makeRoom(other);
    }
}

/** The groups that a node is in, with all in them; call the answer to make each reach below its nodes again. */
export function groupsOf({ id, graph }) {
  const inside = (group, [left, top, right, bottom]) => {
    const [x, y] = [(left + right) / 2 - group.pos[0], (top + bottom) / 2 - group.pos[1]];
    return x >= 0 && y >= 0 && x <= group.size[0] && y <= group.size[1];
  };
  const ids = (group) => graph.nodes.filter((node) => inside(group, box(node))).map((node) => node.id);
  const groups = graph.groups.map((group) => [group, ids(group)]).filter(([, members]) => members.includes(id));
  return () => {
    for (const [group, members] of groups) {
      const nodes = members.map((member) => graph.getNodeById(member));
      const bottom = Math.max(...nodes.map((node) => box(node)[3] + growth(node) + GAP - group.pos[1]));
      if (bottom > group.size[1]) group.size = [group.size[0], bottom];
    }
  };
}
