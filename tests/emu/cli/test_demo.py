import re

from emu.cli.demo import TOUR


def test_the_tour_runs_every_command_that_it_prints(nestling):
    answer = nestling("demo")
    printed = re.findall(r"^\$ nestling (\S+)", answer.out, re.MULTILINE)

    assert 0 == answer.code
    assert [part.command.split()[0] for part in TOUR] == printed
    assert "" == answer.err or "compiling" in answer.err


def test_the_tour_says_what_its_commands_show(nestling):
    """The words of the tour are claims: here is each verdict that they speak of."""
    out = nestling("demo").out
    verdicts = re.findall(r"^Linux (\S+) -> Linux (\S+), .*: (\w+)$", out, re.MULTILINE)

    assert [
        ("5.4", "6.12", "accepted"),
        ("6.12", "5.4", "refused"),
        ("6.12", "5.7", "lost"),
        ("6.12", "5.10", "lost"),
        ("6.12", "5.10", "lost"),
    ] == verdicts
    assert "5.7 to 7.3   accepted" in out
    assert "bit for bit as recorded: 4 steps" in out
    assert "version         30 / 0 / 0  0 / 0 / 30" in out
    assert "flags (iii)     30 / 0 / 0  16 / 0 / 14" in out
    assert max(map(len, out.splitlines())) < 140
