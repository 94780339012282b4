import { addLine, connect } from "./socket.js";

let isFirst = true;

connect("/ws/connection", {
  opened: () => {
    isFirst = true;
  },
  closed: () => showId(""),
  received: (data) => {
    if (isFirst) {
      isFirst = false;
      showId(JSON.parse(data).connection_id);
    } else if (typeof data === "string") {
      addLine("received", isJson(data) ? "json" : "text", data);
    } else {
      addLine("received", "binary", `${data.byteLength} bytes`);
    }
  },
});

// An id is of use only while its connection is open.
function showId(id) {
  document.getElementById("reach").hidden = !id;
  document.getElementById("connection-id").textContent = id;
  for (const place of document.querySelectorAll("[data-id]")) place.textContent = id;
}

// On the wire JSON is a text like any other; only what can be nothing else is called so.
function isJson(text) {
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}
