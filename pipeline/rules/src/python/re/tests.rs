use super::*;
use crate::steps::STEPS;

fn matches(pattern: &str, text: &str) -> bool {
    Pattern::compile(pattern).expect(pattern).matches(text, &Steps::new()).expect("within the bound")
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
    assert_eq!(pattern.matches(&text, &Steps::new()), Err(STEPS));
    let pattern = Pattern::compile("(?:){4000000000}+").expect("compiles");
    assert_eq!(pattern.matches(&text, &Steps::new()), Err(STEPS));
}

/// What a match takes from a judgement's steps.
fn spent(pattern: &str, text: &str) -> u32 {
    let steps = Steps::new();
    let _ = Pattern::compile(pattern).expect(pattern).matches(text, &steps);
    crate::steps::JUDGEMENT_STEPS_MAX - steps.left()
}

#[test]
fn what_takes_long_is_paid_for() {
    let (a, e) = ("a".repeat(2_000), "é".repeat(2_000));
    assert!(spent("(?<!.{1900}b)(?:)", &a) < 10, "there is nothing behind the start");
    assert!(spent("a{1900}(?<!.{1900}b)", &a) > 450, "a walk back");
    assert!(spent(".*", &a) < 200 && spent("[ab]*", &a) > 450 && spent(r"\w*", &e) > 4_000, "a look-up");
    assert!(spent(r"(a{1000})\1", &a) < 200 && spent(r"(?i)(a{1000})\1", &a) > 240, "a folded comparison");
    let atomic = |depth: usize| format!("{}(?:()){{1000}}{}", "(?>".repeat(depth), ")".repeat(depth));
    assert!(spent(&atomic(41), "") > spent(&atomic(1), "") + 40 * 180, "what each atomic group keeps");
    assert!(spent(&"()".repeat(16_000), "") > 32_000 + 1_000, "room for the groups");
}

#[test]
fn the_stack_is_bounded() {
    for pattern in ["(?:){4000000000}", "(?:()()){300000}", "(?>(?:()){300000})"] {
        let pattern = Pattern::compile(pattern).expect(pattern);
        let exceeded = pattern.matches("", &Steps::new()).expect_err("needs too many places");
        assert!(exceeded.0.contains("places to go back to"), "{exceeded:?}");
    }
    assert!(matches("(?:(a)|b)*$", &"ab".repeat(20_000)));
}

#[test]
fn a_pattern_is_bounded() {
    let wide = |sets: usize| "(?i:[\u{1}-\u{ffff}])".repeat(sets);
    assert!(Pattern::compile(&wide(150)).is_ok());
    assert_eq!(Pattern::compile(&wide(600)).err(), Some(TOO_LARGE));
    assert!(Pattern::compile(&"é".repeat(SIZE_MAX)).is_ok());
    assert_eq!(Pattern::compile(&"a".repeat(SIZE_MAX + 1)).err(), Some(TOO_LARGE));
}

/// Each of these once took the square of its length, or of its depth: minutes.
#[test]
fn long_patterns_compile() {
    let letters: String = (0x1_0000..0x4_0000_u32).filter_map(char::from_u32).collect();
    assert!(matches(&format!("[{letters}]"), "\u{3ffff}"));
    let start = "a".repeat(150_000);
    assert!(matches(&format!("{start}b|{start}c"), &format!("{start}c")));
    assert!(matches(&format!("{}{start}{}", "(".repeat(440), ")".repeat(440)), &start));
    assert!(translate(&r"(?=\d)".repeat(10_000)).is_ok());
    let ranges: String =
        (0x100..0x2_100_u32).filter_map(char::from_u32).map(|c| format!("{c}-\u{ffff}")).collect();
    assert!(matches(&format!("(?i)[{ranges}]"), "\u{212a}"));
}

proptest::proptest! {
    #[test]
    fn no_pattern_panics(pattern in r"[ab1(){}\[\]|*+?.^$\\:=!<>P,\-idwxé]{0,20}", text in "[ab1é\n]{0,12}") {
        if let Ok(pattern) = Pattern::compile(&pattern) {
            let _ = pattern.matches(&text, &Steps::new());
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
