"""A stand-in for a provider, for the README's walk-through: OpenAI's chat protocol on 127.0.0.1:8000.

A key that ends in "busy" gets 429 with Retry-After: 5; every other key gets the same short answer.
"""

import http.server
import json

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers.get("authorization", "").endswith("busy"):
            self.answer(429, "application/json", '{"error": {"message": "slow down"}}', {"retry-after": "5"})
        elif body.get("stream"):
            deltas = [{"content": "Hel"}, {"content": "lo!"}, {}]
            chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
            chunks[-1]["choices"][0]["finish_reason"] = "stop"
            events = [*map(json.dumps, [*chunks, {"choices": [], "usage": USAGE}]), "[DONE]"]
            self.answer(200, "text/event-stream", "".join(f"data: {event}\n\n" for event in events))
        else:
            message = {"role": "assistant", "content": "Hello!"}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            answer = {"model": body["model"], "choices": [choice], "usage": USAGE}
            self.answer(200, "application/json", json.dumps(answer))

    def do_GET(self):
        self.answer(200, "application/json", '{"data": []}')

    def answer(self, status, kind, text, headers=None):
        data = text.encode()
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Upstream).serve_forever()
