"""The first example of the README, against an installed wheel: run it in an empty directory."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import schedfactory

checkout = Path(__file__).resolve().parent.parent
assert checkout not in Path(schedfactory.__file__).resolve().parents, f"{schedfactory.__file__} is not the wheel's"

example = re.search(r"```python\n(# app\.py\n.*?)```", (checkout / "README.md").read_text(), re.DOTALL)
assert example, "the README's first example is gone"
Path("app.py").write_text(example[1])
done = subprocess.run([sys.executable, "app.py"], check=True, stdout=subprocess.PIPE, text=True, timeout=120)
assert done.stdout.endswith("\n5\n"), done.stdout

rows = sqlite3.connect("jobs.db").execute("SELECT task, status, result FROM schedfactory_history").fetchall()
assert rows == [("app:add", "succeeded", "5")], rows
