const ws = new WebSocket(`ws://${location.host}/ws/echo`);
ws.onmessage = (event) => console.log("message:", event.data);
ws.onclose = (event) => console.log("closed:", event.code, event.reason);
ws.onopen = () => ws.send("hello");
