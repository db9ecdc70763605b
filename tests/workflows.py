"""The workflows of .github/workflows, and a stand-in for the runner that executes their steps."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml
from paths import ROOT

FOLDER = ROOT / ".github" / "workflows"
FILES = {path.name: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}
SPEED = FILES["speed.yml"]
MARK = "<!-- alexnet-bench speed -->"


def steps(job):
    return {step["name"]: step for step in SPEED["jobs"][job]["steps"] if "name" in step}


def expression(variable):
    """The expression of a variable of the workflow, or of its step Measure."""
    return " ".join((SPEED["env"] | steps("measure")["Measure"]["env"])[variable].split())


def default(variable):
    """The default at the end of the expression of a variable."""
    return re.search(r"\|\| '([^']*)'", expression(variable))[1]


class Runner:
    """The workspace of the steps: base/ and head/, an alexnet-bench in base/.venv, a temporary folder."""

    def __init__(self, folder: Path):
        self.folder, self.out, self.verdict = folder, folder / "temp" / "speed", folder / "temp" / "verdict"
        self.summary, self.outputs = folder / "summary.md", folder / "outputs"
        self.out.mkdir(parents=True)
        for side in ("base", "head"):
            (folder / side).mkdir()
            self.git(side, "init", "-q")
            self.git(side, "commit", "-q", "--allow-empty", "-m", side)
        self.tool("base/.venv/bin/alexnet-bench", f'PYTHONPATH={ROOT} exec {sys.executable} -m bench "$@"')

    def tool(self, path: str, script: str) -> None:
        program = self.folder / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(0o755)

    def __call__(self, name: str, job: str = "measure", **env: str) -> subprocess.CompletedProcess:
        """Run the shell script of a step as a runner does."""
        defaults = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "HARNESS": "base",
            "RUNNER_TEMP": str(self.folder / "temp"),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_OUTPUT": str(self.outputs),
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_REPOSITORY": "me/mine",
            "GITHUB_RUN_ID": "7",
        }
        script = self.folder / "step.sh"
        script.write_text(steps(job)[name]["run"])
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        return subprocess.run(command, cwd=self.folder, env=defaults | env, capture_output=True, text=True)

    def git(self, side: str, *words: str) -> str:
        git = ("git", "-C", str(self.folder / side), "-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run([*git, *words], check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, side: str) -> str:
        return self.git(side, "rev-parse", "--short", "HEAD")
