"""A headless Chromium for tests of pages, one per session."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

AXE = ROOT / ".venv/browser/node_modules/axe-core/axe.min.js"
LOAD_S = 60
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run --hide-scrollbars"
).split()


def missing() -> str:
    """What is not installed and how to install it; empty if pages can be tested."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    lacking += [] if AXE.exists() else ["axe-core"]
    return (
        f"{', '.join(lacking)} not found: install Debian's chromium and chromium-driver, then `make browser`"
        if lacking
        else ""
    )


class Browser:
    """A browser that shows a page in a window of a given size."""

    def __init__(self, scratch: str):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, f"--user-data-dir={scratch}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def open(self, page: Path, width: int = 1280, scheme: str = "light", scripts: bool = True) -> None:
        self.cdp("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.media(scheme)
        self.driver.get_log("browser")
        address = page.resolve().as_uri()
        self.driver.get(address)
        # on a busy machine `get` has returned before the page was read to its end
        for _ in range(LOAD_S * 10 if scripts else 0):
            if self.run("return document.readyState") == "complete" and self.driver.current_url == address:
                break
            time.sleep(0.1)

    def media(self, scheme: str, kind: str = "") -> None:
        self.cdp("Emulation.setEmulatedMedia", media=kind, features=[{"name": "prefers-color-scheme", "value": scheme}])

    def cdp(self, command: str, **how: Any) -> dict:
        return self.driver.execute_cdp_cmd(command, how)

    def run(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def log(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def faults(self) -> list[str]:
        """Serious and critical violations that axe-core finds, each with its first element."""
        self.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
        self.driver.execute_script(AXE.read_text())
        violations = self.driver.execute_async_script("axe.run().then(arguments[0])")["violations"]
        serious = [fault for fault in violations if fault["impact"] in ("serious", "critical")]
        return [
            f"{fault['id']}: {fault['nodes'][0]['html'][:120]} {fault['nodes'][0]['failureSummary']}"
            for fault in serious
        ]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-", ignore_cleanup_errors=True) as scratch:
        instance = Browser(scratch)
        yield instance
        instance.driver.quit()
