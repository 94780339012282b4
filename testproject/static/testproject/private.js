import { addLine, connect } from "./socket.js";

connect("/ws/private", { received: (data) => addLine("received", "received", data) });
