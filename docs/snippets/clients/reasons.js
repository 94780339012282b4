function explain(ws, show) {
  ws.addEventListener("close", ({ code, reason }) => {
    if (code === 4401) show(`Please log in again: ${reason}`);
    else if (code === 4403) show(`You can't open this: ${reason}`);
  });
}
