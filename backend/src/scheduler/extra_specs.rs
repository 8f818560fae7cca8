//! The language in which volume types ask pools for something, as the field has it: a value to be equal to, or an operator and
//! its operands.
//!
//! | spec | means |
//! | --- | --- |
//! | `a` | the capability is `a` |
//! | `<is> true` | it is true, or false |
//! | `<in> a`, `<all-in> a b` | it contains `a`; all of them |
//! | `<or> a <or> b` | it is one of them |
//! | `= 5`, `>= 5` | it is a number of at least 5 |
//! | `== 5`, `!= 5`, `<= 5` | it is equal, not equal, at most |
//! | `s== a`, `s!= a`, `s< a`, `s<= a`, `s> a`, `s>= a` | the same for text |

use serde_json::Value;

/// Whether a capability is what a spec asks for.
pub(super) fn matches(capability: &Value, spec: &str) -> bool {
    let text = text_of(capability);
    let mut words = spec.split_whitespace();
    let Some(operator) = words.next() else { return text.is_empty() };
    let rest = spec.trim_start().strip_prefix(operator).unwrap_or_default().trim();
    match operator {
        "<is>" => truth(rest).is_some_and(|wanted| truth(&text) == Some(wanted)),
        "<in>" => contains(capability, rest),
        "<all-in>" => words.all(|word| contains(capability, word)),
        "<or>" => rest.split("<or>").any(|choice| choice.trim() == text),
        "=" | ">=" => number(&text, rest).is_some_and(|(has, wanted)| has >= wanted),
        "<=" => number(&text, rest).is_some_and(|(has, wanted)| has <= wanted),
        "==" => number(&text, rest).is_some_and(|(has, wanted)| has == wanted),
        "!=" => number(&text, rest).is_some_and(|(has, wanted)| has != wanted),
        "s==" => text == rest,
        "s!=" => text != rest,
        "s<" => text.as_str() < rest,
        "s<=" => text.as_str() <= rest,
        "s>" => text.as_str() > rest,
        "s>=" => text.as_str() >= rest,
        _ => text == spec,
    }
}

fn contains(capability: &Value, wanted: &str) -> bool {
    match capability {
        Value::Array(list) => list.iter().any(|one| text_of(one) == wanted),
        other => text_of(other).contains(wanted),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "y" | "on" => Some(true),
        "false" | "f" | "0" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

fn number(has: &str, wanted: &str) -> Option<(f64, f64)> {
    Some((has.parse().ok()?, wanted.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_operator_does_what_the_field_says() {
        for (capability, spec, expected) in [
            (json!("ssd"), "ssd", true),
            (json!("ssd"), "hdd", false),
            (json!(true), "<is> True", true),
            (json!(false), "<is> True", false),
            (json!("yes"), "<is> true", true),
            (json!("maybe"), "<is> true", false),
            (json!("raid10-ssd"), "<in> ssd", true),
            (json!(["a", "b"]), "<in> b", true),
            (json!(["a", "b"]), "<in> c", false),
            (json!(["a", "b"]), "<all-in> a b", true),
            (json!(["a", "b"]), "<all-in> a c", false),
            (json!("b"), "<or> a <or> b", true),
            (json!("c"), "<or> a <or> b", false),
            (json!(5), "= 4", true),
            (json!(5), ">= 6", false),
            (json!(5), "<= 5", true),
            (json!("5.0"), "== 5", true),
            (json!(5), "!= 5", false),
            (json!("x"), ">= 1", false),
            (json!("b"), "s> a", true),
            (json!("b"), "s<= a", false),
            (json!("a"), "s== a", true),
            (json!("a"), "s!= a", false),
        ] {
            assert_eq!(matches(&capability, spec), expected, "{capability} {spec}");
        }
    }
}
