"""Shell commands: quoting, spacing and bundled options do not count; what the shell would expand does."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cpu import at_most
from tests.problems import EXTRA

pytest.importorskip("tree_sitter_bash", reason=EXTRA)

from symbol_llm.families.bash import canonical, mutants, program_of, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.problems import problem as make

LIMITS = Limits(timeout_s=10)


def problem(program: str | None, **environment: Any) -> Problem:
    return make("bash", program=program, environment=environment)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("echo 'a b'", r"echo  a\ b   # said"),
        ('echo "a"b', "echo 'ab'"),
        (r"find . \( -name x \) -exec rm '{}' \;", "find . '(' -name x ')' -exec rm {} ';'"),
        ("ls -l -a", "ls -al"),
        ("ls 1> x 2>&1", "ls >x 2>&1"),
        ("echo x 1>&2 1>> y", "echo x >&2 >>y"),
        ("ls -a -l -a x", "ls -la x"),
        ("find . | xargs -r -0 grep -n -i x", "find . | xargs -0r grep -in x"),
        ("find . -exec grep -i -n x {} +", "find . -exec grep -ni x {} +"),
        ("echo `ls -l -a`", "echo $(ls -al)"),
        ('echo "$(date +"%Y")"', "echo \"`date '+%Y'`\""),
        ("echo $X ${Y}", "echo ${X} $Y"),
        ("ls>out 2>&1", "ls > out 2>&1"),
        ("for i in *; do echo $i; done", "for i in *\ndo\n  echo $i\ndone"),
        ("if [ -f x ]; then a; else b; fi", "if [ -f x ]\nthen\na\nelse b\nfi;"),
        ("while read -r l; do echo $l; done < f", "while read -r l\ndo echo $l\ndone <f"),
        ("a\nb", "a; b;"),
        ("(cd x; ls)", "( cd x ; ls; )"),
        ("x='1' a | b", "x=1 a|b"),
        (r'echo "a\$b"', "echo 'a$b'"),
        ("cat <<< 'x'", "cat <<<x"),
        ("find . -exec ls '{}''x' +", "find . -exec ls {}x +"),
        ('echo "$X  $Y"', 'echo "$X"\'  \'"$Y"'),
    ],
)
def test_what_the_shell_reads_alike_is_the_same(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("echo *", "echo '*'"),
        ("echo $X", "echo '$X'"),
        ("echo $X", 'echo "$X"'),
        ("echo ~", r"echo \~"),
        ("echo {a,b}", "echo '{a,b}'"),
        ("echo $(ls)", 'echo "$(ls)"'),
        ("grep -e -i -n x", "grep -e -n -i x"),
        ("head -n -a", "head -a -n"),
        ("ls -- -a -l", "ls -- -l -a"),
        ("git -l -a", "git -al"),
        ("a && b", "a || b"),
        ("a; b", "a & b"),
        ("a 2>&1 >b", "a >b 2>&1"),
        ("a > b", "a >> b"),
        ("'if' x", "iff x"),
        ("(a)", "{ a; }"),
        ("echo 'a  b'", "echo 'a b'"),
        ("a $((1+2))", "a $((1+3))"),
    ],
)
def test_what_the_shell_tells_apart_stays_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("echo 'a", "line 1, column 6: unexpected"),
        ("ls | (", "line 1, column 6: unexpected"),
        ("cd x\nsort <name>", "line 2, column 11: unexpected '>'"),
        ("for i in a; do b", "line 1, column"),
        ("%%%", "line 1, column 1: expected a command, got '%%%'"),
        ("ls | ...", "line 1, column 6: expected a command, got '...'"),
        ("# only a comment", "expected a command"),
        ("echo a' { '{}'", "line 1, column"),
        ("''", "expected a command, got ''"),
        ("(" * 5000, "unexpected"),
    ],
)
def test_what_is_no_command_is_refused_with_its_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


def test_commands_nested_too_deep_are_a_limit() -> None:
    with pytest.raises(LimitExceeded, match="400 levels"):
        canonical("a && " * 1000 + "a")


@pytest.mark.parametrize(
    "program",
    ["cat <<E\n  a $X\nE", "case $1 in a|b) ls;; esac", "for ((i=0; i<3; i++)); do ls; done", "f() { ls  -l; }"],
)
def test_what_is_compared_as_written_keeps_its_text(program: str) -> None:
    assert canonical(f" {program}\n") == program


def test_any_gold_will_do() -> None:
    several = problem("ls", gold=["ls -l -a", "find ."])
    assert [score(p, several, LIMITS).score for p in ("ls -al", "find  .", "ls")] == [1.0, 1.0, 0.0]


def test_gold_that_is_missing_or_broken_is_our_fault() -> None:
    with pytest.raises(InvalidInput, match="no gold command"):
        score("ls", problem(None), LIMITS)
    with pytest.raises(InvalidInput, match="gold fails: line 1, column 11"):
        score("ls", problem("sort <name>"), LIMITS)


def test_nothing_is_run(tmp_path: Any) -> None:
    assert run(f"touch {tmp_path}/x", problem(None), LIMITS).value == f"touch {tmp_path}/x"
    assert list(tmp_path.iterdir()) == []


WORDS = st.sampled_from(
    [
        "x",
        "'a b'",
        '"$X y"',
        "$X",
        "*.c",
        "-l",
        "-a",
        "`ls`",
        "$(a | b)",
        "{}",
        r"\;",
        "'it'\\''s'",
        "a=b",
        "~/x",
        "[a-z]",
    ]
)
COMMANDS = st.recursive(
    st.tuples(st.sampled_from(["ls", "grep", "xargs grep", "x=1 cat"]), st.lists(WORDS, max_size=4)).map(
        lambda p: " ".join([p[0], *p[1]])
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" | ", " && ", " ; ", "\n", " & "]), inner).map("".join),
        inner.map(lambda c: f"( {c} )"),
        inner.map(lambda c: f"if {c}; then {c}\nfi"),
        inner.map(lambda c: f"{{ {c}; }} > out"),
        inner.map(lambda c: f'echo "$( {c})"'),
    ),
    max_leaves=4,
)


@pytest.mark.parametrize("blank", ["\f", "\v", "\r", " \\ ", " \\\t", "\\\f"])
def test_a_blank_of_the_grammar_that_parts_no_words_is_refused(blank: str) -> None:
    with pytest.raises(Unparsable, match="line 2"):
        canonical(f"ls\ncat{blank}list")


@pytest.mark.parametrize(
    "program", ["ls # a \\ b", "cat a\\ b", "cat ' \\ '", 'cat "\f"', "ls\\\n -l", "ls -l \\\n  a\r\n"]
)
def test_such_a_sign_in_a_word_a_text_or_a_comment_is_fine(program: str) -> None:
    assert canonical(program)


def test_a_form_that_would_not_be_read_again_gives_way_to_the_text() -> None:
    program = "find src  -name \ufffdo\\ do \ufffd\x00 src  -namall"
    assert canonical(canonical(program)) == canonical(program)


@given(COMMANDS, st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_the_form_is_its_own_and_no_mutant_has_it(program: str, seed: int) -> None:
    form = canonical(program)
    assert canonical(form) == form
    for mutant in list(mutants(program, random.Random(seed)))[:1]:
        assert score(mutant, problem(program), LIMITS).score == 0.0


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        ("ls -l\n\nThis lists the files.", "ls -l"),
        ("ls -l |\n\n  wc -l\n\nIt counts.", "ls -l |\n\n  wc -l"),
        ("for f in *.c; do\n  cat $f\n\n  wc $f\ndone\n\nThat's it.", "for f in *.c; do\n  cat $f\n\n  wc $f\ndone"),
        ("if true; then ls\n\nfi && pwd\n\nOK", "if true; then ls\n\nfi && pwd"),
        ("echo 'a\n\nb' \"c\n\nd\"\n\nIt doesn't matter.", "echo 'a\n\nb' \"c\n\nd\""),
        ("cat <<EOF > x\na\n\nb\nEOF\n\nDone", "cat <<EOF > x\na\n\nb\nEOF"),
        ("(cd x\n\n  ls)\n\nDone", "(cd x\n\n  ls)"),
        ("find . -exec ls {} +\n\nHere {} is the name (of a file.", "find . -exec ls {} +"),
        ("ls # don't (\n\nIt lists", "ls # don't ("),
        ("echo if done\n\nIt echoes", "echo if done"),
        ("echo 'open\n\nIt is open", "echo 'open"),
        ("case $x in a) ls;;\n\nesac\n\nDone", "case $x in a) ls;;\n\nesac"),
        ("$ ls -l\n\nThis lists the files.", "ls -l"),
        ("```bash\n$ cd x\n$ ls -l\n```", "cd x\nls -l"),
        ("$x -l", "$x -l"),
        ("echo \\( ${x} $((1 + 2))\n\nDone", "echo \\( ${x} $((1 + 2))"),
    ],
)
def test_a_command_without_a_fence_ends_at_a_blank_line_where_nothing_is_open(reply: str, program: str) -> None:
    assert program_of(reply) == program


@pytest.mark.parametrize(
    "text",
    ["<<a\n", "'", '"\\', "(", "a\n\n(", "if ", "$ ", "${", "\\", "#\n\n'", "<<'a\n\n", "a b\n", "'' "],
    ids=repr,
)
def test_the_end_of_a_command_is_found_soon(text: str) -> None:
    with at_most(1):
        program_of("\n\n".join([text * (16000 // len(text))] * 2))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("rm -rf x", "rm -fr x"),
        ("rm -rf x", "rm -r -f x"),
        ("rm --recursive --force x", "rm -rf x"),
        ("head -n5 x", "head -n 5 x"),
        ("head -5 x", "head -n 5 x"),
        ("head --lines=5 x", "head -n 5 x"),
        ("head --lines 5 x", "head -n 5 x"),
        ("cut -d: -f1 x", "cut -d ':' -f 1 x"),
        ("cut -f1 -d' ' x", "cut -d ' ' -f1 x"),
        ("cut --delimiter=, --fields=2", "cut -d, -f2"),
        ('cut -d"$X" -f1', 'cut -d "$X" -f1'),
        ("grep --ignore-case a x", "grep -i a x"),
        ("grep -ri --include='*.c' a .", "grep -i -r --include='*.c' a ."),
        ("grep -m1 -i a x", "grep -im 1 a x"),
        ("grep -A3 a", "grep --after-context=3 a"),
        ("sort --reverse -n", "sort -nr"),
        ("sort -k 1 -n", "sort -n -k 1"),
        ("sort -t, -k2", "sort -k 2 -t ','"),
        ("ls --all -l", "ls -la"),
        ("ls x | xargs -I{} grep --ignore-case a {}", "ls x | xargs -I {} grep -i a {}"),
        ("xargs -n1 -0 rm -rf", "xargs -0 -n 1 rm -fr"),
        ("find . -type f -name x", "find . -name x -type f"),
        ("find . -name '*.c' -a -mtime -3 -print", "find . -mtime -3 -name '*.c' -print"),
        ("find . ! -name x -type f -exec grep -i -l a {} +", "find . -type f ! -name x -exec grep -il a {} +"),
        ("find . -maxdepth 1 -type d", "find . -type d -maxdepth 1"),
        ("find . -name a -type f -o -name b -type d", "find . -type f -name a -o -type d -name b"),
        ('[[ $x =~ "abc" ]]', "[[ $x =~ abc ]]"),
        ("cp -R a b", "cp -r a b"),
        ("rm -Rf x", "rm -rf x"),
        ("tar -xzf a.tgz", "tar -x -z -f a.tgz"),
        ("tar --extract --file=a.tar -C d", "tar -C d -xf a.tar"),
        ("tar czf a.tgz b", "tar -c -z -f a.tgz b"),
        ("tar xvfC a.tar /d", "tar -xv -f a.tar -C /d"),
        ("tar cf - b | cat", "tar -cf - b | cat"),
        ("ls | xargs tar rf a.tar", "ls | xargs tar -rf a.tar"),
        ("find . -exec tar rvf a.tar {} +", "find . -exec tar -rvf a.tar {} +"),
    ],
)
def test_options_have_one_form(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)
    assert canonical(canonical(one)) == canonical(one)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ('[[ $x =~ "a.*" ]]', "[[ $x =~ a.* ]]"),
        ("[[ $x =~ '^a' ]]", "[[ $x =~ ^a ]]"),
        ("rm -fi x", "rm -if x"),
        ("rm -rf x", "rm -r x"),
        ("head -n5 -c3 x", "head -c3 -n5 x"),
        ("sort -k1 -k2", "sort -k2 -k1"),
        ("sort -o x -n", "sort -o -n x"),
        ("cut -d: -f1", "cut -d: -f2"),
        ("grep -m 1 a", "grep -m a 1"),
        ("grep -e -i a", "grep -i -e a"),
        ("grep -- -i a", "grep -i -- a"),
        ("grep --ignore-case=x a", "grep -i a"),
        ("ls -a x -l", "ls -l x -a"),
        ("tail -f -5 x", "tail -f -6 x"),
        ("find . -name x -print -type f", "find . -type f -print -name x"),
        ("find . -name a -o -name b", "find . -name b -o -name a"),
        ("find . -name x ! -type f", "find . ! -name x -type f"),
        ("find . -type f -delete -name x", "find . -type f -name x -delete"),
        ("find . -name -type f", "find . -type f -name"),
        ("xargs grep -i a", "xargs -i grep a"),
        ("grep -R a .", "grep -r a ."),
        ("tar -xf a.tar", "tar -cf a.tar"),
        ("tar -xf a.tar", "tar -xzf a.tar"),
        ("tar -xf a.tar -C d", "tar -xf d -C a.tar"),
        ("tar czf a.tgz b", "tar xzf a.tgz b"),
        ("tar czf a.tgz b", "tar -czf b a.tgz"),
        ("tar xfC a.tar d", "tar xCf a.tar d"),
        ("tar xfC a.tar d", "tar -xfC a.tar d"),
        ("tar -xf a.tar b", "tar -f a.tar xb"),
        ("tar t f a.tar", "tar -tf a.tar"),
        ("ps aux", "ps -aux"),
        ("grep c f", "grep -c f"),
    ],
)
def test_options_that_mean_something_else_stay_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)


def test_a_long_command_is_a_limit() -> None:
    with pytest.raises(LimitExceeded, match="8192"):
        canonical("ls " + "a" * 8192)


def test_a_mutant_takes_the_quotes_off_a_pattern() -> None:
    gold = "[[ $x =~ '^a.*' ]] && ls"
    assert "[[ $x =~ ^a.* ]] && ls" in set(mutants(gold, random.Random(0)))
