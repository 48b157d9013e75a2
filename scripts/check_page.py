# SPDX-License-Identifier: Apache-2.0
"""Measures how long a page takes to open, and checks its accessibility with axe-core.

    python scripts/check_page.py OUT/report.html [lineage.html …] [--dark] [--width 390] [--times 5]
    npm install axe-core
    python scripts/check_page.py OUT/report.html --axe node_modules/axe-core/axe.min.js

Requires Chromium. Prints in one line of JSON for each page its bytes, the milliseconds until its text can be read and
its controls used (`readable_ms`) and until the plots in the window are drawn (`complete_ms`), each the median of
several times, and the elements that make the page wider than the window; with --axe also the number of faults by
impact, and before it each fault with the elements it concerns.

Exit status: 0 no serious or critical fault; 1 some; 2 Chromium or a file is missing.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from statistics import median
from typing import Any, ClassVar

# Runs when the page and its plots are complete, and sends the result. axe-core is loaded after the times are taken.
PROBE = """
<script>
window.addEventListener("load", async () => {
  const [entry] = performance.getEntriesByType("navigation");
  const root = document.documentElement;
  if (document.getElementById("packed-plotly"))
    while (!root.dataset.ready) await new Promise((done) => setTimeout(done, 5));
  const complete = performance.now();
  const wide = root.scrollWidth <= root.clientWidth ? [] : [...document.body.querySelectorAll("*")]
    .filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1)
    .filter((e) => { for (let p = e.parentElement; p; p = p.parentElement)
        if (getComputedStyle(p).overflowX !== "visible" && p !== document.body) return false;
      return true; })
    .map((e) => `${e.tagName} ${e.className?.baseVal ?? e.className}: ${Math.round(e.getBoundingClientRect().right)}`);
  const script = Object.assign(document.createElement("script"), { src: "/axe.js" });
  await new Promise((done) => { script.onload = script.onerror = done; document.head.append(script); });
  const found = window.axe ? await axe.run(document, { resultTypes: ["violations"] }) : { violations: [] };
  await fetch("/result", { method: "POST", body: JSON.stringify({
    readable: entry.domContentLoadedEventEnd, complete, wide,
    faults: found.violations.map((fault) => ({
      id: fault.id, impact: fault.impact, help: fault.help,
      nodes: fault.nodes.map((node) => node.target.join(" ") + ": " + (node.any[0]?.message ?? "")),
    })),
  }) });
});
</script>
"""


class _Page(BaseHTTPRequestHandler):
    """Serves one page and axe-core, and receives the result."""

    content: ClassVar[dict[str, tuple[str, bytes]]] = {}
    result: ClassVar[Queue[dict[str, Any]]] = Queue()

    def do_GET(self) -> None:
        kind, content = self.content.get(self.path, ("text/plain", b""))
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.result.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def check_page(chromium: str, page: Path, axe: bytes, dark: bool, width: int) -> dict[str, Any]:
    """Opens a page in a new Chromium, then runs axe-core in it.

    Args:
        chromium: Path of the browser.
        page: The page.
        axe: Source of axe-core; if it is empty, no faults are searched for.
        dark: Whether the dark colour scheme is preferred.
        width: Width of the window.

    Returns:
        The faults, the elements that make the page wider than the window, and the times `readable` and `complete` in
        milliseconds.
    """
    text = page.read_text(encoding="utf-8").replace("</body>", "") + PROBE
    _Page.content = {"/": ("text/html", text.encode()), "/axe.js": ("text/javascript", axe)}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--no-first-run", f"--window-size={width},1500", f"--user-data-dir={folder}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--remote-debugging-port=0",
            f"http://127.0.0.1:{server.server_port}/",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return _Page.result.get(timeout=120)
        except Empty as error:
            raise RuntimeError(f"{page} must open in Chromium within two minutes; it did not.") from error
        finally:
            process.terminate()
            process.wait()
            server.shutdown()


def main() -> int:
    """Checks the pages; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--axe", type=Path, help="axe.min.js of the npm package axe-core")
    parser.add_argument("--dark", action="store_true", help="prefer the dark colour scheme")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument(
        "--times", type=int, default=1, help="how often each page is opened, each time in a new browser"
    )
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    missing = [path for path in (*options.pages, options.axe) if path is not None and not path.is_file()]
    if chromium is None or missing:
        print(f"Chromium and every file must be there; missing: {missing or 'Chromium'}.", file=sys.stderr)
        return 2
    axe = options.axe.read_bytes() if options.axe else b""
    serious = 0
    for page in options.pages:
        opened = [check_page(chromium, page, b"", options.dark, options.width) for _ in range(options.times - 1)]
        found = check_page(chromium, page, axe, options.dark, options.width)
        opened.append(found)
        impacts: dict[str, int] = {}
        for fault in found["faults"]:
            impacts[fault["impact"]] = impacts.get(fault["impact"], 0) + 1
            print(f"{page.name}: {fault['impact']}: {fault['id']}: {fault['help']}")
            for node in fault["nodes"][:8]:
                print(f"    {node}")
        serious += impacts.get("serious", 0) + impacts.get("critical", 0)
        wide = found["wide"][:5]
        times = {f"{name}_ms": round(median(one[name] for one in opened)) for name in ("readable", "complete")}
        faults = {"faults": impacts} if axe else {}
        print(json.dumps({"page": page.name, "bytes": page.stat().st_size, **times, "wide": wide, **faults}))
    return 1 if serious else 0


if __name__ == "__main__":
    sys.exit(main())
