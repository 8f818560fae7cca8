//! Reads the error bodies of Cinder, Keystone and whatever stands in front of them.
//!
//! Cinder writes `{"badRequest": {"code": 400, "message": "…"}}` with a key per status, Keystone and its middleware
//! `{"error": {"code": 401, "message": "…"}}`, proxies whatever they like.

use serde_json::Value;

/// Longest piece of a service's own message that is passed on, in characters. Cinder's longest are about 400.
pub(super) const MESSAGE_CHARS: usize = 1000;
/// Longest piece of a body that is not JSON: enough to tell a proxy's error page from a wrong port.
const EXCERPT_CHARS: usize = 200;

/// What an error body says, safe to print on one line.
pub(super) fn message(body: &[u8]) -> String {
    if body.iter().all(u8::is_ascii_whitespace) {
        return "no explanation given".to_owned();
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => match own_message(&value) {
            Some(text) => printable(text, MESSAGE_CHARS),
            None => "the service explained itself in an unknown form".to_owned(),
        },
        Err(_) => {
            format!("answered something that is not JSON: {:?}", printable(&String::from_utf8_lossy(body), EXCERPT_CHARS))
        }
    }
}

fn own_message(value: &Value) -> Option<&str> {
    let fields = value.as_object()?;
    let inner = fields.values().find_map(|fault| fault.get("message").and_then(Value::as_str));
    inner.or_else(|| fields.get("message").and_then(Value::as_str)).filter(|text| !text.trim().is_empty())
}

/// One line of printable text of at most `limit` characters. Control characters could forge log lines or drive a terminal.
pub(super) fn printable(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.chars().count() > limit {
        line = line.chars().take(limit).collect();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_own_words_are_found_in_every_form() {
        for (body, want) in [
            (r#"{"badRequest":{"code":400,"message":"Invalid volume: in use"}}"#, "Invalid volume: in use"),
            (r#"{"itemNotFound":{"code":404,"message":"gone"}}"#, "gone"),
            (r#"{"overLimit":{"code":413,"message":"VolumeLimitExceeded","retryAfter":"0"}}"#, "VolumeLimitExceeded"),
            (r#"{"error":{"code":401,"message":"needs a token","title":"Unauthorized"}}"#, "needs a token"),
            (r#"{"message":"plain"}"#, "plain"),
            ("", "no explanation given"),
            ("[]", "the service explained itself in an unknown form"),
        ] {
            assert_eq!(message(body.as_bytes()), want);
        }
    }

    #[test]
    fn what_is_not_json_is_shown_short_and_on_one_line() {
        let page = format!("<html>\r\n\x1b[31m502 {}</html>", "x".repeat(10_000));
        let text = message(page.as_bytes());
        assert!(text.starts_with("answered something that is not JSON: \"<html> [31m502 xxx"), "{text}");
        assert!(text.chars().count() < 300 && !text.contains('\x1b') && !text.contains('\n'), "{text}");
    }
}
