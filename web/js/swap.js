// A node of another type in the place of one, under the same id: its wires, widgets, looks and group are kept.
import { firstHeight } from "./folding.js";
import { ends, groupsOf, join, makeRoom } from "./wires.js";

const LOOKS = ["color", "bgcolor", "boxcolor", "shape", "mode", "order"];

/** Every node that stands for this subgraph, with the values that its widgets have there: they go with the wire inside. */
function promoted(graph) {
  const graphs = [graph.rootGraph, ...graph.rootGraph.subgraphs.values()];
  const hosts = graphs.flatMap((each) => each.nodes.filter((node) => node.subgraph === graph));
  return hosts.map((host) => [host, host.widgets.map(({ name, value }) => [name, value])]);
}

function setWidgets(node, values) {
  for (const [name, value] of values) {
    const widget = node.widgets?.find((each) => each.name === name);
    if (widget) widget.value = value;
  }
}

/** All wires of a node, unplugged; reroutes stay. Inputs are told by name. */
function unplug(node) {
  const { graph } = node;
  const wires = { into: [], from: [] };
  node.inputs.forEach(({ name, link }, slot) => {
    if (link == null) return;
    wires.into.push([name, ends(graph, link)]);
    node.disconnectInput(slot, true);
  });
  node.outputs.forEach(({ links }, slot) => {
    for (const link of [...(links ?? [])]) {
      const wire = ends(graph, link);
      wires.from.push(wire);
      const target = graph.getNodeById(wire.target_id);
      if (target) node.disconnectOutput(slot, target);
    }
  });
  return wires;
}

/** Put a node of `type` in the place of `old`. outputs: the new output for each old one. */
export function swap(old, type, outputs) {
  const { graph, id } = old;
  const node = LiteGraph.createNode(type);
  const [hosts, grow, wires] = [promoted(graph), groupsOf(old), unplug(old)];
  if (old.title !== old.constructor.title) node.title = old.title;
  for (const look of LOOKS) if (old[look] !== undefined) node[look] = old[look];
  node.flags = { ...old.flags };
  node.pos = [...old.pos];
  graph.remove(old);
  node.id = id;
  graph.add(node);
  setWidgets(node, old.widgets.map(({ name, value }) => [name, value]));
  for (const [name, wire] of wires.into) {
    const slot = node.findInputSlot(name);
    if (slot >= 0) join(graph, { ...wire, target_slot: slot });
  }
  for (const wire of wires.from) join(graph, { ...wire, origin_slot: outputs[wire.origin_slot] });
  for (const [host, values] of hosts) setWidgets(host, values);
  node.setSize([Math.max(old.size[0], node.size[0]), firstHeight(node)]);
  makeRoom(node);
  grow();
  return node;
}
