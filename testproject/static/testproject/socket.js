// What the pages share: one socket to this server, which comes back by itself, and the log.

const STATES = { connecting: "connecting…", open: "connected" };

// After these, another try would end alike: it is done, a rule was broken, or nobody is let in. All
// from 3000 on are of that kind, but for 4503.
const FINAL = new Set([1000, 1002, 1003, 1007, 1008, 1009, 1010]);
const isFinal = (code) => FINAL.has(code) || (code >= 3000 && code !== 4503);

const LONGEST = 30; // seconds between two attempts
const STABLE = 10_000; // milliseconds after which a connection counts as one that worked

/**
 * Connects to a path of this server: now, when the connection is lost, and on "Connect again".
 *
 * @param {string} path - the path, with its query.
 * @param {{opened?: function, received: function, closed?: function}} on - opened() at each start;
 *   received(data) for each message: a string, or an ArrayBuffer; closed(event) at each end.
 * @returns {function(string): boolean} sends a text; false where the socket is not open.
 */
export function connect(path, on) {
  const again = document.getElementById("again");
  let socket;
  let attempts = 0;
  let waiting;

  function start() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    let since = Infinity;
    clearTimeout(waiting);
    again.hidden = true;
    showState("connecting");
    socket = new WebSocket(`${scheme}://${location.host}${path}`);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      since = Date.now();
      showState("open");
      on.opened?.();
    });
    socket.addEventListener("message", (event) => on.received(event.data));
    socket.addEventListener("close", (event) => {
      again.hidden = false;
      if (isFinal(event.code)) {
        showState("closed", describeClose(event));
      } else {
        if (Date.now() - since > STABLE) attempts = 0;
        // By chance, so that not all come back at once to a server that has just started.
        const seconds = Math.random() * Math.min(LONGEST, 2 ** attempts++);
        showState("connecting", `no connection (${event.code}), next try in ${seconds.toFixed(1)} s`);
        waiting = setTimeout(start, seconds * 1000);
      }
      on.closed?.(event);
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
  // Who has scrolled up to read stays there.
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 50;
  log.append(line);
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

/** Removes all lines. */
export function clearLog() {
  document.getElementById("log").replaceChildren();
}

function element(name, text) {
  const created = document.createElement(name);
  created.textContent = text;
  return created;
}

/** Shows a state: the text, and its colour. */
export function showState(state, text = STATES[state]) {
  const output = document.getElementById("state");
  output.dataset.state = state;
  output.textContent = text;
  const submit = document.querySelector("#form button");
  if (submit) submit.disabled = state !== "open";
}

function describeClose({ code, reason }) {
  return `closed with code ${code}, ${reason ? `reason: ${reason}` : "no reason"}`;
}
