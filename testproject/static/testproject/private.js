import { addLine, connect, showState } from "./socket.js";

// Refused, or closed since the login has ended.
const NOT_LET_IN = [1008, 4401];

connect("/ws/private", {
  received: (data) => addLine("received", "received", data),
  closed: ({ code, reason }) => {
    if (!NOT_LET_IN.includes(code)) return;
    addLine("event", String(code), reason);
    showState("idle", "not logged in");
    document.getElementById("again").hidden = true;
    document.getElementById("visitor").hidden = false;
    document.getElementById("member").hidden = true;
  },
});
