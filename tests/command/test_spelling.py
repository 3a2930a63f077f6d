"""What is misspelt is named, with what may be meant, whatever else is missing."""

import pytest

import hyperforget_jax as hf
from hyperforget_jax.command import main

FORGET = "--variables", "x", "--model", "a:b", "--data", "digits", "--out", "o"


@pytest.mark.parametrize(
    "given, message",
    [
        (
            ("forget", "--clases", "3", *FORGET),
            "hyperforget forget: there is no option --clases; did you mean --classes?",
        ),
        (
            ("forget", "--clases=3", "--oot", "o"),
            "hyperforget forget: there is no option --clases; did you mean --classes?; "
            "there is no option --oot; did you mean --out?",
        ),
        (
            ("audit", "--jsn"),
            "hyperforget audit: there is no option --jsn; did you mean --json?",
        ),
        (
            ("audit", "--foldr"),  # --folder is no option: its place says what it is.
            "hyperforget audit: there is no option --foldr: hyperforget audit --help "
            "lists them.",
        ),
        (
            ("quickstart", "--methods", "pgu"),
            "hyperforget quickstart: there is no option --methods: hyperforget "
            "quickstart --help lists them.",
        ),
        (
            ("fogret", "--clases", "3"),
            "hyperforget: there is no subcommand fogret; did you mean forget?",
        ),
        (
            ("magic",),
            "hyperforget: there is no subcommand magic: there are quickstart, forget, "
            "audit, report, app, doctor.",
        ),
    ],
)
def test_the_misspelt_word_is_named_in_one_line(capsys, given, message):
    assert main(given) == 2
    assert capsys.readouterr().err == message + "\n"


@pytest.mark.parametrize(
    "given", [("forget", "--clases", "--help"), ("-h",), ("doctor", "--tyro-x")]
)
def test_help_and_the_parsers_own_options_are_left_to_it(capsys, given):
    with pytest.raises(SystemExit):
        main(given)
    assert "there is no" not in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hyperforget {hf.__version__}\n"
