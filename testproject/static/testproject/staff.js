import { addLine, connect } from "./socket.js";

const body = document.querySelector("#connections tbody");
const count = document.getElementById("count");
const text = document.getElementById("message");
const rows = new Map(); // by id: a row that stays can be clicked at any moment

const send = connect("/ws/staff", {
  received: (data) => {
    const { connections, missing, is_away, notice } = JSON.parse(data);
    if (notice) addLine("event", "answer", notice);
    if (is_away) count.textContent = "no answer from the channel layer; these are the last known";
    if (connections) showAll(connections, missing);
  },
  closed: () => {
    showAll([], []);
    count.textContent = "";
  },
});

function showAll(connections, missing) {
  if (connections.length) document.getElementById("inside").hidden = false; // who is let in
  const ids = new Set(connections.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (ids.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  for (const connection of connections) showRow(connection);
  const silent = missing.length ? `, and no answer from ${missing.join(", ")}` : "";
  count.textContent = `${connections.length} open${silent}`;
}

function showRow({ id, user_name, path, connected_at, messages_received, messages_sent, process }) {
  if (!rows.has(id)) rows.set(id, addRow(id));
  const cells = [
    user_name ?? "nobody",
    path,
    new Date(connected_at).toLocaleTimeString(),
    `${messages_received} in, ${messages_sent} out`,
    String(process),
  ];
  for (const [number, value] of cells.entries()) {
    const cell = rows.get(id).cells[number];
    if (cell.textContent !== value) cell.textContent = value;
  }
}

function addRow(id) {
  const row = document.getElementById("row").content.firstElementChild.cloneNode(true);
  row.title = id;
  for (const button of row.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      send(JSON.stringify({ do: button.name, id, text: text.value }));
    });
  }
  body.append(row);
  return row;
}
