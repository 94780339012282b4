import { addLine, clearLog, connect, onSubmit } from "./socket.js";

const { room, user } = document.getElementById("log").dataset;
const typing = document.getElementById("typing");
const members = new Set();
const known = new Set(); // ids of what is shown
let early = []; // what is said before the history is here
let quiet;
let isTold = false;

const send = connect(`/ws/rooms/${room}`, {
  opened: () => {
    early = [];
  },
  received: (data) => {
    const message = JSON.parse(data);
    if (message.history) start(message);
    else if (message.joined) showMembers(members.add(message.joined));
    else if (message.left) showMembers(members.delete(message.left));
    else if (message.typing) showTyping(message.typing);
    else if (message.notice) addLine("event", "staff", message.notice);
    else if (early) early.push(message);
    else show(message);
  },
  closed: () => showMembers(members.clear()),
});

onSubmit((text) => {
  const isSent = send(JSON.stringify({ say: text }));
  if (isSent) addLine("said own", user, text); // here, since it doesn't come back to this tab
  return isSent;
});

document.getElementById("message").addEventListener("input", () => {
  if (isTold) return;
  isTold = send(JSON.stringify({ typing: true }));
  setTimeout(() => (isTold = false), 2000);
});

function start({ history, members: names }) {
  known.clear();
  clearLog();
  for (const message of [...history, ...early]) show(message);
  early = null;
  for (const name of names) members.add(name); // those who joined meanwhile are in it
  showMembers();
}

function show({ id, sender, text }) {
  if (known.has(id)) return;
  known.add(id);
  addLine(sender === user ? "said own" : "said", sender, text);
  typing.textContent = "";
}

function showMembers() {
  document.getElementById("members").textContent = [...members].sort().join(", ");
}

function showTyping(name) {
  if (name === user) return; // in another tab
  typing.textContent = `${name} is typing…`;
  clearTimeout(quiet);
  quiet = setTimeout(() => (typing.textContent = ""), 3000);
}
