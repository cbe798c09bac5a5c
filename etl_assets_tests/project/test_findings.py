"""What a person reads about a wrong `etl_assets.yaml`: every finding at once, with line, place, expected and found."""

import pytest

from etl_assets_tests.project.conftest import CONTRACT, Finding

_NAME = "expected small letters, digits and underscores, a letter first, at most 63 in all"
_TYPES = "expected 'text', 'int', 'float', 'decimal', 'bool', 'date' or 'timestamp'"
_BOUNDS = "min and max need a column of type int, float or decimal, found type text"


def _column(spec: str) -> str:
    return CONTRACT.replace("{pii: true}", spec)


@pytest.mark.parametrize(
    ("contract", "findings"),
    [
        ("", ["line 1: expected words with values, such as name: and sources:"]),
        ("- a\n- b\n", ["line 1: expected words with values, such as name: and sources:"]),
        ("name: p\n", ["line 1: 'sources' is missing"]),
        (CONTRACT.replace("name: p\n", ""), ["line 1: 'name' is missing"]),
        ("name: p\nsources: {}\n", ["line 2: sources: expected at least one entry"]),
        ("name: p\nsources: 5\n", ["line 2: sources: expected names, each with what is declared of it, found 5"]),
        ("name: p\nsources:\n  crm:\n", ["line 3: sources.crm: 'columns' is missing"]),
        ("name: p\nsources: [crm]\n", ["line 2: sources.0: 'columns' is missing"]),
        (
            "name: p\nsources:\n  crm: {columns: }\n",
            ["line 3: sources.crm.columns: expected names, each with what is declared of it, found nothing"],
        ),
        ("name: p\nsources:\n  crm: {columns: []}\n", ["line 3: sources.crm.columns: expected at least one entry"]),
        (
            "name: p\nsources:\n  - columns: [a]\n",
            ["line 3: sources.0: 'name' is missing"],
        ),
    ],
)
def test_what_is_missing_is_named_with_its_place(findings_in: Finding, contract: str, findings: list[str]) -> None:
    assert findings_in(contract) == findings


@pytest.mark.parametrize(
    ("contract", "finding"),
    [
        (_column("{typ: int}"), "line 5: sources.crm.columns.email.typ: unknown word; did you mean 'type'?"),
        (_column("{pi: true}"), "line 5: sources.crm.columns.email.pi: unknown word; did you mean 'pii'?"),
        (CONTRACT + "    titel: CRM\n", "line 6: sources.crm.titel: unknown word; did you mean 'title'?"),
        (CONTRACT + "entiti: x\n", "line 6: entiti: unknown word; did you mean 'entity'?"),
        (CONTRACT + "key: {nam: x}\n", "line 6: key.nam: unknown word; did you mean 'name'?"),
        (
            CONTRACT + "profile:\n  score: {require: true}\n",
            "line 7: profile.score.require: unknown word; did you mean 'required'?",
        ),
        (
            CONTRACT + "profile:\n  - {name: x, vals: 1}\n",
            "line 7: profile.0.vals: unknown word; did you mean 'values'?",
        ),
        # Nothing is near it: all that is known at that place, and no word of another place.
        (
            CONTRACT + "42: x\n",
            "line 6: 42: unknown word; known are name, entity, key, sources, profile, checks, settings",
        ),
        (CONTRACT + "    ky: id\n", "line 6: sources.crm.ky: unknown word; did you mean 'key'?"),
        (
            _column("{zzz: [a]}"),
            "line 5: sources.crm.columns.email.zzz: unknown word; known are type, precision, scale, min, max, values, "
            "required, unique, relationships, pii, meaning, from, pattern, nulls, on_invalid",
        ),
    ],
)
def test_an_unknown_word_is_answered_with_the_nearest_one_of_its_place(
    findings_in: Finding, contract: str, finding: str
) -> None:
    """Fails: a misspelt word is ignored, and a range that someone declared is never checked."""
    assert findings_in(contract) == [finding]


@pytest.mark.parametrize(
    ("contract", "finding"),
    [
        (_column("{pii: maybe}"), "line 5: sources.crm.columns.email.pii: expected true or false, found 'maybe'"),
        (
            _column("{type: integer}"),
            f"line 5: sources.crm.columns.email.type: {_TYPES}, found 'integer'",
        ),
        (_column("{meaning: 5}"), "line 5: sources.crm.columns.email.meaning: expected text, found 5"),
        (_column("text"), "line 5: sources.crm.columns.email: expected words with values, found 'text'"),
        (_column("[1]"), "line 5: sources.crm.columns.email: expected words with values, found [1]"),
        (CONTRACT + "key: id\n", "line 6: key: expected words with values, found 'id'"),
        (CONTRACT + "key: {max_chars: many}\n", "line 6: key.max_chars: expected a whole number, found 'many'"),
        (CONTRACT + "key: {max_chars: 0}\n", "line 6: key.max_chars: expected at least 1, found 0"),
        (CONTRACT + "key: {max_chars: 5000}\n", "line 6: key.max_chars: expected at most 4096, found 5000"),
        (
            CONTRACT + "profile:\n  level: {values: LOW}\n",
            "line 7: profile.level.values: expected a list, found 'LOW'",
        ),
        (
            CONTRACT + "profile:\n  level: {type: int, values: [LOW]}\n",
            "line 7: profile.level: values need a column of type text, found type int",
        ),
    ],
)
def test_a_value_of_another_kind_says_what_is_expected_and_what_was_found(
    findings_in: Finding, contract: str, finding: str
) -> None:
    assert findings_in(contract) == [finding]


@pytest.mark.parametrize(
    ("contract", "finding"),
    [
        (CONTRACT.replace("name: p", "name: 7"), "line 1: name: expected text, found 7"),
        (CONTRACT.replace("name: p", "name: My Project"), f"line 1: name: {_NAME}, found 'My Project'"),
        (CONTRACT.replace("crm", "CRM"), f"line 3: sources.CRM: {_NAME}, found 'CRM'"),
        (CONTRACT.replace("email", "E-Mail"), f"line 5: sources.crm.columns.E-Mail: {_NAME}, found 'E-Mail'"),
        (CONTRACT.replace("email", "_own"), f"line 5: sources.crm.columns._own: {_NAME}, found '_own'"),
        (CONTRACT.replace("email", "x" * 64), f"line 5: sources.crm.columns.{'x' * 64}: {_NAME}, found '{'x' * 64}'"),
        (CONTRACT.replace("email", "2024"), "line 5: sources.crm.columns.2024: expected text, found 2024"),
        (CONTRACT + "key: {name: Account ID}\n", f"line 6: key.name: {_NAME}, found 'Account ID'"),
        (CONTRACT + "entity: Kunden\n", f"line 6: entity: {_NAME}, found 'Kunden'"),
        (
            _column("{name: mail}"),
            "line 5: sources.crm.columns.email.name: the word before the colon is the name; leave this one out",
        ),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_at_its_line(findings_in: Finding, contract: str, finding: str) -> None:
    """Fails: a name becomes an SQL identifier, a file name or an asset key that cannot be one."""
    assert findings_in(contract) == [finding]


@pytest.mark.parametrize(
    ("contract", "place", "found"),
    [
        (CONTRACT.replace("email", "on"), "line 5: sources.crm.columns.on", True),
        (CONTRACT + "profile:\n  level: {values: [no]}\n", "line 7: profile.level.values.0", False),
    ],
)
def test_a_word_that_yaml_takes_for_a_truth_value_is_to_be_quoted(
    findings_in: Finding, contract: str, place: str, found: bool
) -> None:
    assert findings_in(contract) == [
        f"{place}: expected text, found {found}; YAML reads on, off, yes and no as true or false: put such a word in "
        "quotes"
    ]


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        ("{min: 1}", f"email: {_BOUNDS}"),
        ("{type: date, max: 1}", "email: min and max need a column of type int, float or decimal, found type date"),
        ("{type: int, min: 5, max: 1}", "email: min 5 is greater than max 1"),
        ("{type: int, min: five}", "email.min: expected a finite number, found 'five'"),
        ("{type: int, min: '5'}", "email.min: expected a finite number, found '5'"),
        ("{type: int, max: true}", "email.max: expected a finite number, found True"),
        ("{type: float, max: .inf}", "email.max: expected a finite number, found inf"),
        ("{type: float, min: .nan}", "email.min: expected a finite number, found nan"),
    ],
)
@pytest.mark.parametrize("where", ["source", "profile"])
def test_a_bound_that_cannot_be_checked_is_refused(findings_in: Finding, where: str, spec: str, finding: str) -> None:
    """Fails: a range that no value can keep, or that is no SQL, stops a run after minutes."""
    if where == "source":
        assert findings_in(_column(spec)) == [f"line 5: sources.crm.columns.{finding}"]
    else:
        assert findings_in(f"{CONTRACT}profile:\n  email: {spec}\n") == [f"line 7: profile.{finding}"]


@pytest.mark.parametrize(
    ("contract", "findings"),
    [
        (CONTRACT + "name: q\n", ["line 6: 'name' is written twice"]),
        (CONTRACT + "      email: {}\n", ["line 6: 'email' is written twice"]),
        (CONTRACT + "  crm:\n    columns: [a]\n", ["line 6: 'crm' is written twice"]),
        (_column("{type: int, type: float}"), ["line 5: 'type' is written twice"]),
        (CONTRACT + "profile: [a, b, a]\n", ["line 6: profile.2: a is declared more than once"]),
        (
            "name: p\nsources:\n  - name: crm\n    columns:\n      - a\n      - b\n      - a\n",
            ["line 7: sources.0.columns.2: a is declared more than once"],
        ),
        (
            "name: p\nsources:\n  - name: crm\n    columns: [a]\n  - name: crm\n    columns: [b]\n",
            ["line 5: sources.1: crm is declared more than once"],
        ),
    ],
)
def test_what_is_declared_twice_is_refused(findings_in: Finding, contract: str, findings: list[str]) -> None:
    """Fails: YAML keeps the last of two, and half of what someone declared is gone without a word."""
    assert findings_in(contract) == findings


def test_braces_in_a_value_are_text(findings_in: Finding) -> None:
    """Fails: loading the project ends in a KeyError."""
    (finding,) = findings_in(CONTRACT + '    csv: {dates: ["{x}"]}\n')
    assert finding.startswith("line 6: sources.crm.csv.dates: expected a form such as")
    assert "'{x}'" in finding


def test_an_empty_pattern_of_files_is_refused(findings_in: Finding) -> None:
    assert findings_in(CONTRACT + '    files: ""\n') == ["line 6: sources.crm.files: expected text, found ''"]


def test_names_that_the_engine_needs_are_refused_at_their_lines(findings_in: Finding) -> None:
    """Fails: a relation of the project's SQL is hidden by another one of the same name."""
    contract = (
        "name: p\nentity: people\nkey: {name: person}\nsources:\n  base: {columns: [a]}\n  people: {columns: [a]}\n"
        "  crm:\n    columns:\n      a:\n      person:\n"
    )
    assert findings_in(contract) == [
        "line 5: sources.base: a source may not have this name: the joined relation uses it",
        "line 6: sources.people: a source may not have this name: the joined relation uses it",
        "line 10: sources.crm.columns.person: this is the key, which every source has; leave it out",
    ]


def test_all_findings_are_given_at_once_in_the_order_of_the_lines(findings_in: Finding) -> None:
    """Fails: a person corrects one line after another, and runs the command each time."""
    contract = (
        "nome: p\nsources:\n  crm:\n    colums: {a: }\n    titel: 5\n  Billing:\n    columns:\n"
        "      a: {type: money}\n      b: {type: int, min: 2, max: 1}\n      b:\nkeys: {}\nkey: {max_chars: many}\n"
        "entity: [x]\nprofile:\n  score: {min: 1}\n"
    )
    assert findings_in(contract) == [
        "line 1: 'name' is missing",
        "line 1: nome: unknown word; did you mean 'name'?",
        "line 3: sources.crm: 'columns' is missing",
        "line 4: sources.crm.colums: unknown word; did you mean 'columns'?",
        "line 5: sources.crm.titel: unknown word; did you mean 'title'?",
        f"line 6: sources.Billing: {_NAME}, found 'Billing'",
        f"line 8: sources.Billing.columns.a.type: {_TYPES}, found 'money'",
        "line 10: 'b' is written twice",
        "line 11: keys: unknown word; did you mean 'key'?",
        "line 12: key.max_chars: expected a whole number, found 'many'",
        "line 13: entity: expected text, found ['x']",
        f"line 15: profile.score: {_BOUNDS}",
    ]


@pytest.mark.parametrize(
    ("contract", "line", "words"),
    [
        (_column("{pii: true"), 6, "did not find expected ',' or '}'"),
        (_column("{meaning: No: colon}"), 5, "did not find expected ',' or '}'"),
        (CONTRACT + "\tx: 1\n", 6, "found character that cannot start any token"),
        (CONTRACT + "---\nname: q\n", 6, "expected a single document in the stream: but found another document"),
        (CONTRACT + "x: *gone\n", 6, "found undefined alias"),
        (CONTRACT + "? {a: b}\n: c\n", 6, "found unhashable key"),
        ("!!python/object/apply:os.system ['true']\n", 1, "could not determine a constructor"),
    ],
)
def test_text_that_is_not_yaml_is_refused_at_its_line(
    findings_in: Finding, contract: str, line: int, words: str
) -> None:
    """Fails: a forgotten bracket ends in a traceback, or a contract can start programs."""
    (finding,) = findings_in(contract)
    assert finding.startswith(f"line {line}: ")
    assert words in finding
