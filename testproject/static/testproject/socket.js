// What the pages share: one socket to this server, its state, and the log.

const STATES = { connecting: "connecting…", open: "connected" };

/**
 * Connects to a path of this server, now and whenever "Connect again" is pressed.
 *
 * @param {string} path - the path, with its query.
 * @param {{opened?: function, received: function}} on - opened() at each start; received(data)
 *   for each message: a string, or an ArrayBuffer.
 * @returns {function(string): boolean} sends a text; false where the socket is not open.
 */
export function connect(path, on) {
  const again = document.getElementById("again");
  let socket;

  function start() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    let wasOpen = false;
    again.hidden = true;
    showState("connecting");
    socket = new WebSocket(`${scheme}://${location.host}${path}`);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      wasOpen = true;
      showState("open");
      on.opened?.();
    });
    socket.addEventListener("message", (event) => on.received(event.data));
    socket.addEventListener("close", (event) => {
      showState("closed", wasOpen ? describeClose(event) : "refused, or there is no server");
      again.hidden = false;
    });
  }

  again.addEventListener("click", start);
  start();
  return (text) => {
    if (socket.readyState !== WebSocket.OPEN) return false;
    socket.send(text);
    return true;
  };
}

/** Calls send(text) with what is written in the form, and empties it where send() took it. */
export function onSubmit(send) {
  const input = document.getElementById("message");
  document.getElementById("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value && send(input.value)) input.value = "";
    input.focus();
  });
}

/** Appends a line to the log, as text: what a client sends is never HTML. */
export function addLine(kind, label, text) {
  const log = document.getElementById("log");
  const line = document.createElement("li");
  line.className = kind;
  line.append(element("b", label), element("span", text));
  log.append(line);
  line.scrollIntoView({ block: "nearest" });
}

function element(name, text) {
  const created = document.createElement(name);
  created.textContent = text;
  return created;
}

function showState(state, text = STATES[state]) {
  const output = document.getElementById("state");
  output.dataset.state = state;
  output.textContent = text;
  const submit = document.querySelector("#form button");
  if (submit) submit.disabled = state !== "open";
}

function describeClose({ code, reason }) {
  return `closed with code ${code}, ${reason ? `reason: ${reason}` : "no reason"}`;
}
