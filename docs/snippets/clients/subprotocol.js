const scheme = location.protocol === "https:" ? "wss:" : "ws:";

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return response.json();
}

async function openInbox(username, password) {
  const { access } = await post("/token/", { username, password });
  return new WebSocket(`${scheme}//${location.host}/ws/inbox`, ["bearer", access]);
}
