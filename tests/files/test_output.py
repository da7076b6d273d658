"""Printing ends no experiment: whatever the output's encoding is, and where it cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import experiments
from jaxnn.files import steady_output

SCRIPT = """
import dataclasses, sys
from pathlib import Path
from jaxnn.cli import run

@dataclasses.dataclass
class Options:
    lines: int = 5
    \"\"\"Lines.\"\"\"

def main(options):
    for number in range(options.lines):
        print("21 °C ± 3 ✓ \\udcff", number, flush=number % 2 == 0)
    print("half a line", end="")
    print("é", file=sys.stderr)
    Path("done").touch()

if __name__ == "__main__":
    run(main, Options, "°C")
"""
full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
GONE = "standard output cannot be written (No space left on device); the experiment continues without it"


def start(*typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"):
    Path("script.py").write_text(SCRIPT, encoding="utf-8")
    path = os.pathsep.join([str(Path(experiments.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [sys.executable, "script.py", *typed], stdout=stdout, stderr=stderr, env=environment, check=False, timeout=300
    )


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("ascii", rb"21 \xb0C \xb1 3 \u2713 \udcff 0"),
        ("cp1252", b"21 \xb0C \xb1 3 \\u2713 \\udcff 0"),
        ("utf-8", "21 °C ± 3 ✓ \\udcff 0".encode()),
    ],
)
def test_what_an_encoding_cannot_show_is_escaped(encoding, line):
    done = start(encoding=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == line
    assert done.stdout.endswith(b"half a line")
    assert Path("done").exists()


@full
def test_a_full_disk_costs_what_is_printed_alone():
    with open("/dev/full", "wb") as disk:
        done = start("--lines", "3000", stdout=disk)
        assert done.returncode == 0
        assert done.stderr.decode().splitlines() == [GONE, "é"]
        Path("done").unlink()
        assert start("--lines", "3000", stdout=disk, stderr=disk).returncode == 0
    assert Path("done").exists()


def test_a_reader_that_went_away_stops_nothing():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = start(stdout=pipe)
    assert done.returncode == 0
    assert b"(Broken pipe); the experiment continues without it" in done.stderr
    assert Path("done").exists()


def test_streams_of_others_are_left_alone(capsys):
    before = sys.stdout, sys.stderr
    steady_output()
    assert (sys.stdout, sys.stderr) == before
