//! What nobody should send, and numbers to choose among it.

use serde_json::{Value, json};

/// Numbers that look random and are the same each time.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// Values of wrong types, sizes and shapes.
pub fn oddities() -> Vec<Value> {
    let mut deep = json!(1);
    for _ in 0..60 {
        deep = json!([deep]);
    }
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e300),
        json!(""),
        json!(" "),
        json!("x".repeat(300)),
        json!("x".repeat(70_000)),
        json!("\u{0}"),
        json!("\u{1F980}'\"\\;--%_"),
        json!("00000000-0000-4000-8000-000000000000"),
        json!("../../etc/passwd"),
        json!([]),
        json!([1, "a", null]),
        json!({}),
        json!({ "": "" }),
        json!({ "a": { "b": [] } }),
        deep,
    ]
}
