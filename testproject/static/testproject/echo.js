import { addLine, connect, onSubmit } from "./socket.js";

const send = connect("/ws", { received: (data) => addLine("received", "received", data) });

onSubmit((text) => {
  const isSent = send(text);
  if (isSent) addLine("sent", "sent", text);
  return isSent;
});
