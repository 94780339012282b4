import { addLine, connect, onSubmit } from "./socket.js";

const { room } = document.getElementById("log").dataset;
const send = connect(`/ws/rooms/${room}${location.search}`, {
  received: (data) => {
    const { sender, text } = JSON.parse(data);
    addLine(sender ? "said" : "event", sender, text);
  },
});

onSubmit(send);
