"""What each guest prints, whatever it runs on: `tests/data/guests/NAME.txt`."""

from pathlib import Path

DATA = Path(__file__).parents[2] / "data" / "guests"
LINES = {path.stem: path.read_text() for path in sorted(DATA.glob("*.txt"))}
