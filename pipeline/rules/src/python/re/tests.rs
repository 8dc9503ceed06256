use super::*;

fn matches(pattern: &str, text: &str) -> bool {
    Pattern::compile(pattern).expect(pattern).matches(text).expect("within the bound")
}

#[test]
fn match_is_anchored_at_the_start_only() {
    assert!(matches("a", "ab") && !matches("b", "ab"));
    assert!(matches("a$", "a\n") && !matches("a$", "a\n\n") && !matches(r"a\Z", "a\n"));
    assert!(matches("(?m)a$", "a\nb") && !matches("a$", "a\nb"));
    assert!(!matches(".", "\n") && matches("(?s).", "\n"));
}

#[test]
fn classes_are_unicode_unless_ascii() {
    assert!(matches(r"\d", "٣") && !matches(r"(?a)\d", "٣"));
    assert!(matches(r"\w+$", "aé字_1²") && !matches(r"\w", "\u{301}"));
    assert!(matches(r"\s", "\u{1c}") && matches(r"\s", "\u{a0}") && !matches(r"(?a)\s", "\u{1c}"));
    assert!(matches(r"[^\W\d]", "é") && !matches(r"[^\W\d]", "1"));
}

#[test]
fn case_folds_as_in_python() {
    for (pattern, text) in
        [("k", "\u{212a}"), ("ſ", "S"), ("i", "İ"), ("[a-z]", "K"), ("ς", "Σ"), ("µ", "μ"), ("É", "é")]
    {
        assert!(matches(&format!("(?i){pattern}"), text), "{pattern} {text}");
    }
    assert!(!matches("(?i)ß", "ss") && !matches("(?ai)k", "\u{212a}"));
    assert!(matches(r"(?i)(a)\1", "aA") && !matches(r"(?i:(a))\1", "aA"));
}

#[test]
fn groups_and_lookarounds() {
    assert!(matches(r"(?=.*\d)(?!.*x)\w+$", "abc1") && !matches(r"(?=.*\d)(?!.*x)\w+$", "abx1"));
    assert!(matches(r"ab(?<=ab)c(?<!x)$", "abc"));
    assert!(
        matches(r"(a)?(?(1)b|c)$", "ab")
            && matches(r"(a)?(?(1)b|c)$", "c")
            && !matches(r"(a)?(?(1)b|c)$", "ac")
    );
    assert!(matches("(?P<q>['\"]).*(?P=q)$", "'x'") && !matches("(?P<q>['\"]).*(?P=q)$", "'x\""));
    assert!(!matches("(?>a+)a", "aaa") && !matches("a++a", "aaa") && !matches("(?:ab)*+ab", "abab"));
    assert!(matches("(?:a|b(c))*d", "abcad"));
}

#[test]
fn empty_rounds_end_a_loop() {
    for pattern in ["(?:a*)*$", "(?:a?)*?$", "(?:)*a$", "(a*)+$", "(?:a|b*)*$", "(?:){3}a"] {
        assert!(matches(pattern, "a"), "{pattern}");
    }
}

#[test]
fn what_python_refuses_is_refused() {
    for pattern in [
        "[",
        "(",
        ")",
        "a)",
        "*",
        "a**",
        "a{2,1}",
        r"\",
        r"\q",
        r"[\q]",
        "[b-a]",
        r"[\d-z]",
        "(?P<1>a)",
        "(?P<a>x)(?P<a>y)",
        r"\1",
        r"(\1)",
        "(?P=x)",
        "(?<=a+)b",
        "(?<=(a)|bc)d",
        "a(?i)",
        "(?i",
        "(?L)a",
        "(?au)a",
        "(?a)(?u)a",
        "(?-a:b)",
        "(?q)",
        "(?P>a)",
        "(?<a>b)",
        "(?(1)a)",
        "(?(0)a)",
        "(a)(?(1)b|c|d)",
        r"\400",
        r"\8",
        r"\x1",
        r"\U00110000",
        "^*",
        r"\b+",
        "a{4294967295}",
        "(?#",
        "(?i-i:a)",
        "(?",
        "a|*",
        "(?<=(a))\\1(?<=\\1(b)\\2)",
        "(?t)a*",
        "a++*",
        "a+++",
    ] {
        assert!(Pattern::compile(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn what_python_accepts_is_accepted() {
    for pattern in [
        "",
        "|",
        "()",
        "a{",
        "a{,",
        "a{}",
        "{",
        "a{1",
        "x{,2}",
        "]",
        "}",
        "[]]",
        "[^]]",
        "[a-]",
        "[-a]",
        r"[\b]",
        r"\0",
        r"\07",
        r"\377",
        "(?:a*)*",
        "(?i)(?m)a",
        "(?x) a # b",
        "(?i-s:a)",
        "(?-i:a)",
        "(?#c)*".trim_end_matches('*'),
        "a(?#c)*",
        r"(a)\1",
        r"\ud800",
        "(?P<é>a)",
        "(?(1)a)(b)",
        "$$",
        "^^",
        "(?<=)a",
        "(?<=ab|cd)e",
        "a??",
        "a{2}?",
        "a{2}+",
        "(?u)a",
        "\\\n",
        "[[a]",
        "[a&&b]",
    ] {
        assert!(Pattern::compile(pattern).is_ok(), "{pattern}: {:?}", Pattern::compile(pattern).err());
    }
}

#[test]
fn deep_groups_need_no_deep_stack() {
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(matches(&nested(400), "a"));
    assert!(Pattern::compile(&nested(2_000)).is_err());
}

#[test]
fn catastrophes_are_bounded() {
    let text = format!("{}!", "a".repeat(40));
    let pattern = Pattern::compile(r"(a+)+\1$").expect("compiles");
    assert_eq!(pattern.matches(&text), Err(Exceeded { steps_max: MATCH_STEPS_MAX }));
    let pattern = Pattern::compile("(?:){4000000000}+").expect("compiles");
    assert_eq!(pattern.matches(&text), Err(Exceeded { steps_max: MATCH_STEPS_MAX }));
}

proptest::proptest! {
    #[test]
    fn no_pattern_panics(pattern in r"[ab1(){}\[\]|*+?.^$\\:=!<>P,\-idwxé]{0,20}", text in "[ab1é\n]{0,12}") {
        if let Ok(pattern) = Pattern::compile(&pattern) {
            let _ = pattern.matches(&text);
        }
    }

    #[test]
    fn escaped_text_matches_itself(text in ".{0,20}") {
let mut pattern = String::new();
        for c in text.chars() {
            if c.is_ascii() && !c.is_ascii_alphanumeric() {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.push_str(r"\Z");
        proptest::prop_assert!(matches(&pattern, &text));
    }
}
