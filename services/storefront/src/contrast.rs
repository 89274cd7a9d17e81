//! The colours of the style sheet can be told apart, in both schemes. WCAG 2 (AA) wants 4.5:1 for text, and 3:1 for whatever
//! else has to be seen.

use std::collections::BTreeMap;

type Colours = BTreeMap<&'static str, [f64; 3]>;

const SHEET: &str = include_str!("../assets/style.css");

/// What text is written in, and what it stands on.
const TEXTS: [(&str, &[&str]); 11] = [
    ("ink", &["paper", "card", "line"]),
    ("soft", &["paper", "card", "wait-back"]),
    ("accent", &["paper", "card"]),
    ("paper", &["accent"]),
    ("orders", &["paper", "card"]),
    ("products", &["paper", "card"]),
    ("delivery", &["paper", "card"]),
    ("orchestrator", &["paper", "card"]),
    ("good", &["good-back"]),
    ("bad", &["bad-back", "card"]),
    ("wait", &["wait-back", "paper"]),
];

/// The ring of the focus, the edge of a field, and the bars of a hop.
const SHAPES: [(&str, &[&str]); 5] = [
    ("accent", &["paper", "card"]),
    ("edge", &["card"]),
    ("waited", &["paper"]),
    ("transit", &["paper"]),
    ("handled", &["paper"]),
];

/// As each scheme has them.
fn schemes() -> [(&'static str, Colours); 2] {
    let (light, rest) = SHEET.split_once("@media (prefers-color-scheme: dark)").unwrap();
    let (dark, _) = rest.split_once("\n}").unwrap();
    [("light", colours(light)), ("dark", colours(dark))]
}

fn colours(text: &'static str) -> Colours {
    let set = text.split("--").filter_map(|it| it.split_once(": #"));
    set.map(|(name, rest)| (name, rgb(rest.split(';').next().unwrap()))).collect()
}

/// Of `fff` or `fbfaf8`.
fn rgb(digits: &str) -> [f64; 3] {
    let width = digits.len() / 3;
    [0, 1, 2].map(|at| {
        let part = &digits[at * width..(at + 1) * width];
        f64::from(u8::from_str_radix(&part.repeat(2 / width), 16).unwrap()) / 255.0
    })
}

/// The relative luminance of sRGB.
fn luminance(colour: [f64; 3]) -> f64 {
    let [red, green, blue] =
        colour.map(|it| if it <= 0.040_45 { it / 12.92 } else { ((it + 0.055) / 1.055).powf(2.4) });
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn text_can_be_read_and_shapes_are_seen_in_both_schemes() {
    let mut faint = Vec::new();
    for (scheme, colours) in schemes() {
        for (wanted, pairs) in [(4.5, TEXTS.as_slice()), (3.0, SHAPES.as_slice())] {
            for (front, grounds) in pairs {
                for ground in *grounds {
                    let found = contrast(colours[front], colours[ground]);
                    if found < wanted {
                        faint.push(format!("{scheme}: {front} on {ground} {found:.2}"));
                    }
                }
            }
        }
    }
    assert!(faint.is_empty(), "{faint:#?}");
}

#[test]
fn the_contrast_is_that_of_the_standard() {
    let of = |one, other| format!("{:.2}", contrast(rgb(one), rgb(other)));
    assert_eq!(of("000", "fff"), "21.00");
    assert_eq!(of("777777", "ffffff"), "4.48");
}

#[test]
fn no_colour_is_left_out() {
    let [(_, light), (_, dark)] = schemes();
    assert!(light.keys().eq(dark.keys()), "{:?}, but {:?}", light.keys(), dark.keys());
    let used = SHEET.split(" color: var(--").skip(1).filter_map(|it| it.split(')').next());
    for name in used {
        assert!(TEXTS.iter().any(|(text, _)| *text == name), "{name} is not looked at");
    }
    assert!(!SHEET.contains("opacity"), "what is seen through is fainter than its colour");
}
