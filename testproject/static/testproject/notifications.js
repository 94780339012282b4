import { addLine, connect } from "./socket.js";

const known = new Set(); // what comes again when the connection is a new one

connect("/ws/notifications", {
  received: (data) => {
    const { notifications = [], notice } = JSON.parse(data);
    if (notice) addLine("event", "staff", notice);
    for (const { id, text } of notifications) {
      if (!known.has(id)) addLine("said", "new", text);
      known.add(id);
    }
  },
});
